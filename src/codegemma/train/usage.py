"""How well a run uses its devices: share of their peak (MFU), by both ways of counting, and memory.

**In**: the shape of a model, what is trained of it, tokens a second of the run, how many devices it has.
**Out**: figures for a line of metrics; no MFU on a device whose peak is not known, such as a CPU.
**Not**: a profile: `jax.profiler` tells where the time goes.
"""

import resource
import sys
from dataclasses import dataclass
from typing import Any

import jax

from codegemma.model.config import GemmaConfig
from codegemma.train.chips import find_chip
from codegemma.train.choices import TrainChoices
from codegemma.train.flops import count_model
from codegemma.train.step import describe_trained


@dataclass(frozen=True, slots=True)
class Usage:
    """What a token needs, and what the devices of a run can do in a second; `None` where that is not known."""

    token_flops: float
    token_flops_full: float
    peak_flops: float | None

    def describe(self, tokens_per_s: float) -> dict[str, int | float]:
        """Tell shares of the peak and the most memory so far.

        `mfu` counts attention as a causal kernel computes it, half; `mfu_full_attention` in full, as figures before
        July 2025 do (training study, 4).

        >>> Usage(1e9, 1.25e9, 1e13).describe(2000.0)["mfu_full_attention"]
        0.25
        """
        figures: dict[str, int | float] = {"memory_bytes": measure_peak_bytes()}
        if self.peak_flops is not None:
            figures["mfu"] = tokens_per_s * self.token_flops / self.peak_flops
            figures["mfu_full_attention"] = tokens_per_s * self.token_flops_full / self.peak_flops
        return figures


def describe_usage(config: GemmaConfig, choices: TrainChoices, devices: int) -> Usage:
    """Look up what so many devices of this kind can do, those of all processes of a run."""
    kind: Any = jax.local_devices()[0].device_kind
    chip = find_chip(kind)
    trained = jax.tree.leaves(describe_trained(config, choices.lora))
    adapters = None if choices.lora.rank is None else sum(leaf.size for leaf in trained)
    return Usage(
        count_model(config, choices.row_tokens, adapter_parameters=adapters),
        count_model(config, choices.row_tokens, is_causal=False, adapter_parameters=adapters),
        None if chip is None else chip.bf16_flops * devices,
    )


def measure_peak_bytes() -> int:
    """Tell the most memory that was in use: of the first device where it says so, else of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

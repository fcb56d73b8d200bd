"""Whether a run fits into memory, told from its sizes before anything is compiled, and told again when it did not.

**In**: the shape of a model, choices, a mesh; what a device or this machine has.
**Out**: `Need`, by part; an error that names the parts and what to lower.
**Not**: the compiler's own count, which knows every temporary array: `codegemma plan` asks it. What is added up here is
less than what a step takes, so that nothing is refused that would fit.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.train.choices import TrainChoices
from codegemma.train.step import describe_trained

# Parameter, gradient and AdamW's two moments, in float32.
_BYTES_A_TRAINED = 16
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_SIGNS = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "bad_alloc")


@dataclass(frozen=True, slots=True)
class Need:
    """The least that each device holds during a step, in bytes; `rows` and `row_tokens` are those of its part."""

    trained: int
    frozen: int
    layers: int
    logits: int
    rows: int
    row_tokens: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.trained + self.frozen + self.layers + self.logits

    def describe(self) -> str:
        """Name the parts.

        >>> Need(2**30, 0, 2**29, 2**28, rows=2, row_tokens=8192).describe()  # doctest: +ELLIPSIS
        '1.00 GiB of parameters, gradient and optimiser state, 0.50 of what layers keep for 2 rows..., 0.25 of logits'
        """
        frozen = f", {_gib(self.frozen)} of the frozen base" if self.frozen else ""
        return (
            f"{_gib(self.trained)} GiB of parameters, gradient and optimiser state{frozen}, {_gib(self.layers)} of "
            f"what layers keep for {self.rows} rows of {self.row_tokens} tokens, {_gib(self.logits)} of logits"
        )


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f}"


def estimate_need(config: GemmaConfig, choices: TrainChoices, mesh: Mesh | None) -> Need:
    """Add up what a step holds on each device, from the sizes alone."""
    sizes = {"data": 1, "fsdp": 1, "tensor": 1} if mesh is None else dict(mesh.shape)
    parts = sizes["fsdp"] * sizes["tensor"]
    is_adapter = choices.lora.rank is not None
    trained = sum(leaf.size for leaf in jax.tree.leaves(describe_trained(config, choices.lora)))
    # The smallest form of a frozen base: integers of four bits, or of what its files have.
    width = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0}.get(choices.lora.base_dtype, 0.5)
    rows = choices.batch_rows // (sizes["data"] * sizes["fsdp"])
    tokens = rows * choices.row_tokens
    kept = jnp.dtype(choices.activation_dtype).itemsize * tokens * config.embed_dim
    if choices.remat in ("none", "qkvo"):
        heads = (2 * config.num_heads + 2 * config.num_kv_heads) * config.head_dim // sizes["tensor"]
        kept += jnp.dtype(choices.compute_dtype).itemsize * tokens * heads
    if choices.remat == "none":
        kept += 2 * jnp.dtype(choices.compute_dtype).itemsize * tokens * config.mlp_dim // sizes["tensor"]
    return Need(
        trained=_BYTES_A_TRAINED * trained // (1 if is_adapter else parts),
        frozen=int(width * config.count_parameters()) if is_adapter else 0,
        layers=kept * config.num_layers,
        logits=4 * min(tokens, choices.loss_chunk_tokens) * config.vocab_size // sizes["tensor"],
        rows=rows,
        row_tokens=choices.row_tokens,
    )


def find_limit(mesh: Mesh | None) -> int | None:
    """Tell how many bytes a device may hold; `None` where nobody knows. Virtual devices of a CPU share its memory."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if device.platform != "cpu":
        return int(stats["bytes_limit"]) if "bytes_limit" in stats else None
    here = jax.local_device_count() if mesh is not None else 1
    return _find_host_bytes() // here


def _find_host_bytes() -> int:
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # `max`, or no such controller
            limits.append(int(file.read_text()))
    return min(limits)


def check_fits(config: GemmaConfig, choices: TrainChoices, mesh: Mesh | None) -> None:
    """Refuse a run that certainly does not fit.

    Raises:
        InputError: what it needs, what there is, and what to lower.
    """
    need, limit = estimate_need(config, choices, mesh), find_limit(mesh)
    if limit is not None and need.total > limit:
        raise InputError(
            f"a step does not fit: each device would hold at least {_gib(need.total)} GiB ({need.describe()}), and has "
            f"{_gib(limit)}. {_advise(need, choices, limit)}"
        )


@contextlib.contextmanager
def explain_exhaustion(config: GemmaConfig, choices: TrainChoices, mesh: Mesh | None) -> Iterator[None]:
    """Turn the compiler's or the device's own error into one that names the sizes.

    Raises:
        InputError: memory did not suffice within the block.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and not any(sign in str(error) for sign in _SIGNS):
            raise
        need = estimate_need(config, choices, mesh)
        reason = str(error).partition("\n")[0][:200]
        raise InputError(
            f"memory did not suffice for a step ({reason}): each device holds at least {_gib(need.total)} GiB "
            f"({need.describe()}). {_advise(need, choices, find_limit(mesh))}"
        ) from error


def _advise(need: Need, choices: TrainChoices, limit: int | None) -> str:
    if limit is not None and need.trained + need.frozen > limit:
        return (
            "Parameters alone are too many: more devices in the fsdp axis of train.mesh divide them, "
            "train.lora.rank=16 trains adapters instead"
        )
    remat = "" if choices.remat in ("full", "offload") else ", train.remat=full"
    return (
        f"Lower train.batch_rows (now {choices.batch_rows}) or train.row_tokens (now {choices.row_tokens}){remat}, or "
        "use more devices; `codegemma plan` finds the largest batch that fits"
    )

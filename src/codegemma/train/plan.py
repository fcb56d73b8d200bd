"""How long a run will be: measured before it starts, then fixed.

**In**: the model's shape, the choices, minutes.
**Out**: seconds a step, the number of steps, and an `Estimate` for `--dry-run`.
**Not**: other machines: what is measured is this one, as busy as it is now.
"""

import statistics
import time
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh

from codegemma.model.config import GemmaConfig
from codegemma.recipe import ChoiceError
from codegemma.records import Batch
from codegemma.text.control_tokens import RESERVED_IDS
from codegemma.train.choices import TrainChoices
from codegemma.train.manifest import count_threads
from codegemma.train.start import make_blank
from codegemma.train.step import make_train_step, start_state
from codegemma.train.usage import measure_peak_bytes

# Enough steps for a steady median, few enough that a short run loses little.
_MEASURED_STEPS = 5
_MEASURED_S = 2.0
# What a run does besides steps: checkpoints, samples, lines, the finished model.
_BESIDES_STEPS = 1.05


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one step costs here. `compile_s` includes the first step; `memory_bytes` is the process's peak."""

    seconds_per_step: float
    compile_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would take."""

    parameters: int
    steps: int
    tokens: int
    tokens_per_s: float
    seconds: float
    memory_bytes: int
    device: str
    threads: int


def measure_throughput(config: GemmaConfig, choices: TrainChoices, mesh: Mesh | None = None) -> Throughput:
    """Run a few steps of a fresh model on random rows; compilation is timed apart."""
    blank = make_blank(config, choices, mesh)
    step = make_train_step(config, choices, _MEASURED_STEPS, mesh, blank.frozen)
    state = start_state(blank.trained, config, choices, _MEASURED_STEPS, mesh)
    # Processes that train together take equally many steps.
    max_steps = 100 if jax.process_count() == 1 else 1 + _MEASURED_STEPS
    batch = _make_batch(config, choices)
    times: list[float] = []
    while len(times) < 1 + _MEASURED_STEPS or (sum(times[1:]) < _MEASURED_S and len(times) < max_steps):
        start = time.perf_counter()
        state, metrics = step(state, batch)
        jax.device_get(metrics)
        times.append(time.perf_counter() - start)
    return Throughput(statistics.median(times[1:]), times[0], measure_peak_bytes())


def _make_batch(config: GemmaConfig, choices: TrainChoices) -> Batch:
    shape = (choices.batch_rows, choices.row_tokens)
    ids = np.random.default_rng(0).integers(min(RESERVED_IDS, config.vocab_size - 1), config.vocab_size, shape)
    positions = np.broadcast_to(np.arange(choices.row_tokens, dtype=np.int32), shape)
    return Batch(ids.astype(np.int32), np.ones(shape, np.float32), np.ones(shape, np.int32), positions)


def fix_total_steps(minutes: float, measured: Throughput, spent_s: float = 0.0) -> int:
    """Tell how many steps fit into `minutes`, of which `spent_s` are gone and one more compilation comes off.

    >>> fix_total_steps(1.0, Throughput(seconds_per_step=0.1, compile_s=4.0, memory_bytes=0), spent_s=13.9)
    400
    """
    left_s = minutes * 60 - spent_s - measured.compile_s
    return max(1, int(left_s / (measured.seconds_per_step * _BESIDES_STEPS)))


def check_length(choices: TrainChoices, minutes: float | None) -> None:
    """Refuse a run whose length nobody says; `minutes` goes before `choices.steps`."""
    if minutes is None and choices.steps is None:
        raise ChoiceError("how long to train? Say --minutes N, or --set train.steps=N")
    if minutes is not None and not 0 < minutes < float("inf"):
        raise ChoiceError(f"--minutes {minutes}: wanted a number above 0")


def estimate(config: GemmaConfig, choices: TrainChoices, minutes: float | None) -> Estimate:
    """Measure this machine and say what the run would take.

    Raises:
        ChoiceError: neither minutes nor steps are chosen.
    """
    check_length(choices, minutes)
    start = time.perf_counter()
    measured = measure_throughput(config, choices)
    spent_s = time.perf_counter() - start
    steps = choices.steps or 1 if minutes is None else fix_total_steps(minutes, measured, spent_s)
    tokens_per_step = choices.batch_rows * choices.row_tokens
    return Estimate(
        parameters=config.count_parameters(),
        steps=steps,
        tokens=steps * tokens_per_step,
        tokens_per_s=tokens_per_step / measured.seconds_per_step,
        seconds=steps * measured.seconds_per_step * _BESIDES_STEPS + measured.compile_s,
        memory_bytes=measured.memory_bytes,
        device=describe_device(),
        threads=count_threads(),
    )


def describe_device() -> str:
    """Name what computes: the platform and its kind."""
    device = jax.local_devices()[0]
    return device.platform if device.device_kind == device.platform else f"{device.platform} ({device.device_kind})"

"""Tells a step that went wrong from one that did not, on the devices, before it changes anything.

**In**: the loss and the gradient's norm of a step, and what is usual for this run.
**Out**: a verdict, inside the compiled step: a bad step changes no parameter; and the words for who reads the log.
**Not**: a run that gets worse slowly. Nothing is rewound: no bad update is ever applied, so there is nothing to undo.

A step is bad if loss or norm is no finite number, or if, once the run has a history, one of them is far above what is
usual: PaLM (Chowdhery et al. 2022, section 5.1) met some twenty such spikes, at batches that were harmless elsewhere,
and skipped them. The usual norm is a geometric mean: norms differ by factors.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from codegemma.train.choices import TrainChoices

# The usual is the mean over about this many good steps, and nothing is a spike before there were as many.
_HISTORY_STEPS = 50


class Watch(NamedTuple):
    """What is usual, from the good steps alone; how many steps were bad, in a row and in all."""

    good_steps: Int[Array, ""]
    loss: Float[Array, ""]
    log_norm: Float[Array, ""]
    bad_in_a_row: Int[Array, ""]
    bad_steps: Int[Array, ""]


def start_watch() -> Watch:
    """Begin without a history."""
    # Each an array of its own: a step consumes its state, and one buffer cannot be consumed twice.
    return Watch(*(jnp.zeros((), kind) for kind in (jnp.int32, jnp.float32, jnp.float32, jnp.int32, jnp.int32)))


def judge(watch: Watch, loss: Array, norm: Array, choices: TrainChoices) -> tuple[Bool[Array, ""], Watch]:
    """Say whether a step is bad, and take it up into the history."""
    log_norm = jnp.log(jnp.maximum(norm, 1e-30))
    is_finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    is_spike = (loss > choices.max_loss_ratio * watch.loss) | (
        log_norm > watch.log_norm + math.log(choices.max_norm_ratio)
    )
    is_bad = ~is_finite | (is_spike & (watch.good_steps >= _HISTORY_STEPS))
    weight = 1.0 / jnp.minimum(watch.good_steps + 1, _HISTORY_STEPS).astype(jnp.float32)

    def move(mean: Array, value: Array) -> Array:
        return jnp.where(is_bad, mean, mean + weight * (value - mean))

    return is_bad, Watch(
        watch.good_steps + ~is_bad,
        move(watch.loss, loss),
        move(watch.log_norm, log_norm),
        jnp.where(is_bad, watch.bad_in_a_row + 1, 0),
        watch.bad_steps + is_bad,
    )


def keep_if_bad(is_bad: Array, new: Any, old: Any) -> Any:
    """Choose the old values after a bad step; counters go on, for a schedule counts what was read."""

    def choose(new: Array, old: Array) -> Array:
        return new if jnp.issubdtype(new.dtype, jnp.integer) else jnp.where(is_bad, old, new)

    return jax.tree.map(choose, new, old)


def describe_watch(watch: Watch) -> dict[str, Array]:
    """Give the watch as metrics of a step."""
    return {
        "bad_in_a_row": watch.bad_in_a_row,
        "bad_steps": watch.bad_steps,
        "usual_loss": watch.loss,
        "usual_norm": jnp.exp(watch.log_norm),
    }


def describe_bad_step(step: int, values: Mapping[str, float]) -> dict[str, int | float | str]:
    """Make the line of `divergences.jsonl` for a bad step, as JSON can hold it.

    >>> describe_bad_step(7, {"loss": float("nan"), "gradient_norm": 3.0, "usual_loss": 2.0, "usual_norm": 1.0})
    {'step': 7, 'loss': 'nan', 'gradient_norm': 3.0, 'usual_loss': 2.0, 'usual_norm': 1.0}
    """
    names = ("loss", "gradient_norm", "usual_loss", "usual_norm")
    return {"step": step} | {name: value if math.isfinite(value := values[name]) else str(value) for name in names}


def describe_divergence(step: int, values: Mapping[str, float], choices: TrainChoices, out: Path, batch: str) -> str:
    """Say why a run stops at a bad step, what that step read, and how to go on."""
    usual = f"{values['usual_loss']:.4g} and {values['usual_norm']:.4g}"
    came = f"{values['loss']:.6g} and the gradient's norm {values['gradient_norm']:.6g}"
    return (
        f"the loss is {came} at step {step} (usual: {usual}), bad step {values['bad_in_a_row']:.0f} in a row: the run "
        f"diverged. It read batch {batch}; `codegemma trace {out} --step {step}` tells what that was. Bad steps change "
        "nothing, and the checkpoints before are kept. Start anew in another --out with a lower "
        f"train.peak_learning_rate (now {choices.peak_learning_rate:g}) or more train.warmup_steps (now "
        f"{choices.warmup_steps}), or go on past it with train.on_divergence=skip and train.max_bad_steps (now "
        f"{choices.max_bad_steps})"
    )

"""The losses of `losses.py` on a model: rows of answers in, a gradient's worth of loss out, beside rehearsal of code.

**In**: `PolicyRows` or `PairRows`: one answer a row, with what is known of it; rows of code with holes, or none.
**Out**: objectives for `train/step.py`, which run wherever training runs: one device, a mesh, adapters.
**Not**: where rows come from (`preference.py`, `policy.py`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32

from codegemma.align.choices import PolicyChoices, PreferenceChoices
from codegemma.align.losses import average, compute_dpo, compute_grpo, compute_reinforce, estimate_divergence
from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import Params
from codegemma.text.control_tokens import PAD_ID
from codegemma.train.objective import Metrics, Rows, compute_from_logprobs, compute_held_loss, compute_loss
from codegemma.train.step import Objective

# Rows are padded to multiples of this, so that few shapes are compiled.
LENGTH_STEP = 32


class PairRows(NamedTuple):
    """Answers preferred and not, in turn; `reference` is each answer's log-probability at the stage's start."""

    ids: Int[Array, "B L"]
    loss_weights: Float[Array, "B L"]
    segments: Int[Array, "B L"]
    positions: Int[Array, "B L"]
    reference: Float[Array, " B"]
    groups: None = None


class PolicyRows(NamedTuple):
    """Answers that a policy wrote: their tokens' log-probabilities then and at the stage's start, their advantages."""

    ids: Int[Array, "B L"]
    loss_weights: Float[Array, "B L"]
    segments: Int[Array, "B L"]
    positions: Int[Array, "B L"]
    old_logprobs: Float[Array, "B L"]
    reference: Float[Array, "B L"]
    advantages: Float[Array, " B"]
    groups: None = None


class TuneRows(NamedTuple):
    """What one step reads: answers, and code with holes so that infilling is kept."""

    tuned: Any
    rehearsal: Rows | None


# Log-probabilities by token and the rows that they are of, and how numbers add up over devices.
JudgeRows = Callable[[Array, Any, Callable[[Array], Array]], tuple[Array, Metrics]]


def make_objective(judge: JudgeRows, rehearsal_weight: float, hold: float = 0.0) -> Objective:
    """Make an objective of a loss on answers and, with its weight, the plain loss on rehearsed code.

    With `hold` the code is not learned: it is held, so strongly, where the step's reference has it.
    """
    rehearse = partial(compute_held_loss, hold=hold) if hold else compute_loss

    def compute(
        params: Params, config: GemmaConfig, rows: TuneRows, execution: Execution, **settings: Any
    ) -> tuple[Array, Metrics]:
        add_up = settings.get("add_up", lambda value: value)

        def read(logprobs: Array) -> tuple[Array, Metrics]:
            return judge(logprobs, rows.tuned, add_up)

        tuned = Rows(*(getattr(rows.tuned, name) for name in Rows._fields))
        loss, metrics = compute_from_logprobs(
            params, config, tuned, read, execution, chunk_tokens=settings["chunk_tokens"]
        )
        metrics = {name: add_up(value) for name, value in metrics.items()}
        if rows.rehearsal is not None:
            rehearsed, told = rehearse(params, config, rows.rehearsal, execution, **settings)
            loss, metrics["rehearsal_loss"] = loss + rehearsal_weight * rehearsed, told["loss"]
        # A policy's loss may be zero or less: only that it is a number can be judged.
        metrics["judged_loss"] = jnp.where(jnp.isfinite(metrics["loss"]), 1.0, jnp.nan)
        return loss, metrics

    return compute


def judge_pairs(
    logprobs: Float[Array, "B L"], rows: PairRows, add_up: Callable[[Array], Array], choices: PreferenceChoices
) -> tuple[Array, Metrics]:
    """Rate pairs by DPO; also how often the preferred answer has gained more, and by how much."""
    gained = jnp.sum(logprobs, axis=1) - rows.reference
    losses = compute_dpo(
        jnp.sum(logprobs[::2], axis=1),
        jnp.sum(logprobs[1::2], axis=1),
        rows.reference[::2],
        rows.reference[1::2],
        choices.beta,
        choices.label_smoothing,
    )
    pairs = add_up(jnp.float32(len(losses)))
    margin = gained[::2] - gained[1::2]
    told = {"accuracy": (margin > 0).astype(jnp.float32), "margin": choices.beta * margin, "chosen_gain": gained[::2]}
    return jnp.sum(losses) / pairs, {name: jnp.sum(value) / pairs for name, value in told.items()}


def judge_policy(
    logprobs: Float[Array, "B L"], rows: PolicyRows, add_up: Callable[[Array], Array], choices: PolicyChoices
) -> tuple[Array, Metrics]:
    """Rate answers by GRPO or REINFORCE; also how far the policy is from its start, and how often it is clipped."""
    mask = (rows.loss_weights > 0).astype(jnp.float32)
    if choices.algorithm == "reinforce":
        losses = compute_reinforce(logprobs, rows.old_logprobs, rows.advantages)
        # Each answer's log-probability is one thing, so its tokens add up.
        loss = jnp.sum(losses * mask) / add_up(jnp.sum(jnp.any(mask > 0, axis=1)).astype(jnp.float32))
    else:
        reference = rows.reference if choices.beta else None
        clip = {"clip_low": choices.clip_low, "clip_high": choices.clip_high}
        losses = compute_grpo(
            logprobs, rows.old_logprobs, rows.advantages, **clip, reference=reference, beta=choices.beta
        )
        loss = average(losses, mask, choices.averaging, choices.sampling.max_new_tokens, add_up)
    ratio = jnp.exp(logprobs - rows.old_logprobs)
    is_clipped = (ratio > 1 + choices.clip_high) | (ratio < 1 - choices.clip_low)
    told = {"divergence": estimate_divergence(logprobs, rows.reference), "clipped": is_clipped, "surprise": -logprobs}
    tokens = jnp.maximum(add_up(jnp.sum(mask)), 1.0)
    return loss, {name: jnp.sum(value * mask) / tokens for name, value in told.items()}


class Laid(NamedTuple):
    """Prompts with their answers, a row each; `answer` marks the answers' own tokens."""

    ids: Int32[np.ndarray, "B L"]
    answer: Float32[np.ndarray, "B L"]
    segments: Int32[np.ndarray, "B L"]
    positions: Int32[np.ndarray, "B L"]


def lay_rows(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], rows: int | None = None) -> Laid:
    """Lay each prompt with its answer in a row; further rows up to `rows` are empty."""
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    shape = (rows or len(pairs), -(-longest // LENGTH_STEP) * LENGTH_STEP)
    ids, answers = np.full(shape, PAD_ID, np.int32), np.zeros(shape, np.float32)
    segments = np.zeros(shape, np.int32)
    for row, (prompt, answer) in enumerate(pairs):
        end = len(prompt) + len(answer)
        ids[row, :end] = [*prompt, *answer]
        answers[row, len(prompt) : end] = 1.0
        segments[row, :end] = 1
    return Laid(ids, answers, segments, np.tile(np.arange(shape[1], dtype=np.int32), (shape[0], 1)))


def lay_values(values: Sequence[Sequence[float]], laid: Laid) -> Float32[np.ndarray, "B L"]:
    """Lay one number for each token of the answers where the tokens lie."""
    found = np.zeros(laid.ids.shape, np.float32)
    for row, own in enumerate(values):
        found[row, laid.answer[row] > 0] = own
    return found

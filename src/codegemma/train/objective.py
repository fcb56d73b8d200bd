"""The loss: weighted next-token cross-entropy, over a few tokens at a time so that a large vocabulary fits.

**In**: parameters and a batch of rows on the device.
**Out**: one loss, and the sums behind it.
**Not**: the optimiser.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from codegemma.feed.groups import GROUPS
from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import Params, compute_logits, forward
from codegemma.model.products import dot, multiply_columns
from codegemma.model.vocabulary import Vocabulary
from codegemma.records import Batch, SourceKind


class Rows(NamedTuple):
    """A `records.Batch` as JAX sees it."""

    ids: Int[Array, "B L"]
    loss_weights: Float[Array, "B L"]
    segments: Int[Array, "B L"]
    positions: Int[Array, "B L"]
    groups: Int[Array, "B L"] | None = None


Metrics = dict[str, Array]
# Those that are told by the number of a group: surprise, and how many tokens were predicted.
GROUP_METRICS = ("group_surprise", "group_tokens")
_IS_CONVERSATION = np.asarray([group.source == SourceKind.CONVERSATION for group in GROUPS])


def put_batch(batch: Batch) -> Rows:
    """Hand a batch of the loader to JAX."""
    plain = (batch.ids, batch.loss_weights, batch.segments, batch.positions)
    ids, weights, segments, positions = (jnp.asarray(array) for array in plain)
    return Rows(ids, weights, segments, positions, None if batch.groups is None else jnp.asarray(batch.groups))


AddUp = Callable[[Array], Array]


def add_nothing(value: Array) -> Array:
    """Add up over devices where there is one device."""
    return value


def compute_loss(
    params: Params,
    config: GemmaConfig,
    rows: Rows,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    *,
    chunk_tokens: int = 4096,
    z_loss: float = 0.0,
    add_up: AddUp = add_nothing,
) -> tuple[Float[Array, ""], Metrics]:
    """Average the surprise (nats) of each token by its weight.

    `add_up` adds a number over the devices that hold the other rows of the batch. The loss returned, of which the
    gradient is taken, is then this device's part of the whole; the metrics are of the whole batch: `loss` as optimised,
    `cross_entropy` by weight without the z-loss, `plain_cross_entropy` over the predicted tokens each counted once,
    `predicted_tokens`, `loss_weight` (the sum of the weights); where the rows say what their tokens are counted under,
    also `group_surprise` and `group_tokens`: both by the number of the group, of predicted tokens.
    """
    hidden = forward(params, config, rows.ids, rows.segments, rows.positions, execution)
    # The state at t - 1 predicts the token at t. The last state predicts nothing.
    targets = jnp.roll(rows.ids, -1, axis=1)
    weights = jnp.roll(rows.loss_weights.at[:, 0].set(0.0), -1, axis=1)
    settings = _Settings(jnp.dtype(execution.compute_dtype), chunk_tokens, z_loss, execution.vocabulary)
    penalty, sums, surprise = _sum_surprise(hidden, params["emb"], targets, weights, settings)
    if rows.groups is not None:
        sums |= _divide_by_group(surprise, weights, jnp.roll(rows.groups, -1, axis=1))
    totals = {name: add_up(lax.stop_gradient(value)) for name, value in sums.items()}
    weight = jnp.maximum(totals["loss_weight"], 1e-6)
    return penalty / weight, {
        "loss": totals["penalty"] / weight,
        "cross_entropy": totals["weighted"] / weight,
        "plain_cross_entropy": totals["plain"] / jnp.maximum(totals["predicted"], 1.0),
        "predicted_tokens": totals["predicted"],
        "loss_weight": totals["loss_weight"],
        **{name: totals[name] for name in GROUP_METRICS if name in totals},
    }


def _divide_by_group(surprise: Array, weights: Array, groups: Array) -> dict[str, Array]:
    """Add up surprise and number of the predicted tokens by group."""
    predicted = (weights > 0).astype(jnp.float32)
    told = jnp.stack([surprise * predicted, predicted], axis=-1).reshape(-1, 2)
    sums = jax.ops.segment_sum(told, groups.reshape(-1), num_segments=len(GROUPS))
    return dict(zip(GROUP_METRICS, sums.T, strict=True))


# Log-probabilities, at the token that each predicts, to a loss and what is told of it. The loss is a sum over rows, of
# which this device has its own.
JudgeTokens = Callable[[Float[Array, "B L"]], tuple[Float[Array, ""], Metrics]]


def compute_from_logprobs(
    params: Params,
    config: GemmaConfig,
    rows: Rows,
    judge: JudgeTokens,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    *,
    chunk_tokens: int = 4096,
) -> tuple[Float[Array, ""], Metrics]:
    """Compute a loss that is any function of the log-probabilities of the tokens that have a weight; others are 0.

    What is returned first has the loss's gradient, not its value: the slope of the loss by each log-probability is the
    weight with which that token's surprise is taken. So no logits are kept, as in `compute_loss`, whatever the loss.
    """
    hidden = forward(params, config, rows.ids, rows.segments, rows.positions, execution)
    targets, kept = _lay_targets(rows)
    settings = _Settings(jnp.dtype(execution.compute_dtype), chunk_tokens, 0.0, execution.vocabulary)
    logprobs = _rate_targets(hidden, params, rows, settings)
    (value, metrics), slope = jax.value_and_grad(judge, has_aux=True)(logprobs)
    weights = -jnp.roll(slope, -1, axis=1) * kept
    penalty, *_ = _sum_surprise(hidden, params["emb"], targets, lax.stop_gradient(weights), settings)
    return penalty, {"loss": value, **metrics}


def _lay_targets(rows: Rows) -> tuple[Int[Array, "B L"], Float[Array, "B L"]]:
    """Lay what each state predicts, and 1 where it has a weight."""
    weighed = (rows.loss_weights.at[:, 0].set(0.0) > 0).astype(jnp.float32)
    return jnp.roll(rows.ids, -1, axis=1), jnp.roll(weighed, -1, axis=1)


def _rate_targets(hidden: Array, params: Params, rows: Rows, settings: "_Settings") -> Float[Array, "B L"]:
    """Rate each token that has a weight, at its own place; no gradient flows."""
    targets, kept = _lay_targets(rows)
    *_, surprise = _sum_surprise(lax.stop_gradient(hidden), lax.stop_gradient(params["emb"]), targets, kept, settings)
    return lax.stop_gradient(jnp.roll(-surprise * kept, 1, axis=1))


def compute_held_loss(  # noqa: PLR0913
    params: Params,
    config: GemmaConfig,
    rows: Rows,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    *,
    reference: Params,
    hold: float,
    chunk_tokens: int = 4096,
    z_loss: float = 0.0,  # noqa: ARG001 (a normaliser that is held drifts no more than what it normalises)
    add_up: AddUp = add_nothing,
) -> tuple[Float[Array, ""], Metrics]:
    """As `compute_loss` for conversations; of all other tokens nothing is learned, they are held where they were.

    Held is the log-probability of each token where `reference` has it: half the squared difference, times `hold`. Near
    the reference that is the divergence from it, estimated at the tokens that stand there (Schulman's k2), and unlike
    the surprise it has no gradient, and no noise, as long as nothing was forgotten. Learning without forgetting (Li and
    Hoiem, 1606.09282) does so with whole distributions, which for a large vocabulary nobody can keep.
    """
    settings = _Settings(jnp.dtype(execution.compute_dtype), chunk_tokens, 0.0, execution.vocabulary)
    seen = forward(reference, config, rows.ids, rows.segments, rows.positions, execution)
    before = _rate_targets(seen, reference, rows, settings)
    is_held = jnp.ones(rows.ids.shape, bool) if rows.groups is None else ~jnp.asarray(_IS_CONVERSATION)[rows.groups]
    weights = rows.loss_weights.at[:, 0].set(0.0)
    weight = jnp.maximum(add_up(jnp.sum(weights)), 1e-6)

    def judge(logprobs: Array) -> tuple[Array, Metrics]:
        losses = jnp.where(is_held, 0.5 * hold * (logprobs - before) ** 2, -logprobs)
        loss = jnp.sum(losses * weights) / weight
        return loss, {"loss": loss, **_tell_surprise(-logprobs, weights, rows.groups)}

    loss, told = compute_from_logprobs(params, config, rows, judge, execution, chunk_tokens=chunk_tokens)
    totals = {name: add_up(lax.stop_gradient(value)) for name, value in told.items()}
    return loss, {
        "loss": totals["loss"],
        # What is held adds almost nothing: by the loss, a batch of more conversation than usual would be a spike.
        "judged_loss": totals["weighted"] / weight,
        "cross_entropy": totals["weighted"] / weight,
        "plain_cross_entropy": totals["plain"] / jnp.maximum(totals["predicted"], 1.0),
        "predicted_tokens": totals["predicted"],
        "loss_weight": weight,
        **{name: totals[name] for name in GROUP_METRICS if name in totals},
    }


def _tell_surprise(surprise: Array, weights: Array, groups: Array | None) -> Metrics:
    """Add up surprise by weight and by token, and by group where there are any."""
    predicted = (weights > 0).astype(jnp.float32)
    sums = {
        "weighted": jnp.sum(surprise * weights),
        "plain": jnp.sum(surprise * predicted),
        "predicted": jnp.sum(predicted),
    }
    return sums if groups is None else sums | _divide_by_group(surprise, weights, groups)


class _Settings(NamedTuple):
    compute_dtype: Any
    chunk_tokens: int
    z_loss: float
    vocabulary: Vocabulary


_Chunk = tuple[Float[Array, "*chunks B C D"], Int[Array, "*chunks rows C"], Float[Array, "*chunks rows C"]]


class _Scores(NamedTuple):
    """Logits over a block of the vocabulary; `local` counts targets from its start, the rest is over all blocks."""

    states: Float[Array, "rows C D"]
    logits: Float[Array, "rows C block"]
    local: Int[Array, "rows C"]
    normalizer: Float[Array, "rows C"]
    chosen: Float[Array, "rows C"]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _sum_surprise(
    hidden: Float[Array, "B L D"],
    columns: Float[Array, "V columns"],
    targets: Int[Array, "B L"],
    weights: Float[Array, "B L"],
    settings: _Settings,
) -> tuple[Float[Array, ""], dict[str, Array], Float[Array, "B L"]]:
    """Add up each token's weighted surprise and z-loss (the penalty), and what the metrics need; each surprise too."""
    block = settings.vocabulary.take_block(columns)

    def sum_chunk(chunk: _Chunk) -> tuple[dict[str, Array], Array]:
        return _rate(chunk, block, settings)[:2]

    sums, surprise = lax.map(sum_chunk, _cut(hidden, targets, weights, settings))
    sums = {name: jnp.sum(values) for name, values in sums.items()}
    return sums["penalty"], sums, _join(surprise, *targets.shape)


def _rate(chunk: _Chunk, block: Array, settings: _Settings) -> tuple[dict[str, Array], Array, _Scores]:
    """Rate this device's tokens, and score those of all devices that share out the vocabulary with it."""
    scores = _score(chunk, block, settings)
    weights = settings.vocabulary.take_own(chunk[2])
    normalizer = settings.vocabulary.take_own(scores.normalizer)
    surprise = normalizer - settings.vocabulary.take_own(scores.chosen)
    predicted = (weights > 0).astype(jnp.float32)
    return (
        {
            "penalty": jnp.sum(weights * (surprise + settings.z_loss * jnp.square(normalizer))),
            "weighted": jnp.sum(weights * surprise),
            "plain": jnp.sum(predicted * surprise),
            "predicted": jnp.sum(predicted),
            "loss_weight": jnp.sum(weights),
        },
        surprise,
        scores,
    )


def _score(chunk: _Chunk, block: Array, settings: _Settings) -> _Scores:
    vocabulary = settings.vocabulary
    own_states, targets, _ = chunk
    states = vocabulary.collect(own_states.astype(settings.compute_dtype)) if vocabulary.scorers > 1 else own_states
    logits = compute_logits({"emb": block}, states, settings.compute_dtype)
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    local = targets - vocabulary.number_first(block.shape[0])
    chosen = jnp.take_along_axis(logits, local[..., None], axis=-1, mode="clip")[..., 0]
    if vocabulary.scorers > 1:
        chosen = jnp.where((local >= 0) & (local < block.shape[0]), chosen, 0.0)
        normalizers, chosen_each = vocabulary.stack(jnp.stack([normalizer, chosen])).swapaxes(0, 1)
        normalizer, chosen = jax.nn.logsumexp(normalizers, axis=0), jnp.sum(chosen_each, axis=0)
    return _Scores(states, logits, local, normalizer, chosen)


def _sum_surprise_forward(
    hidden: Array, columns: Array, targets: Array, weights: Array, settings: _Settings
) -> tuple[tuple[Array, dict[str, Array], Array], tuple[Array, Array]]:
    """Compute the slopes while a chunk's logits are there: they are never made again, nor kept."""
    block = settings.vocabulary.take_block(columns)

    def differentiate(block_slope: Array, chunk: _Chunk) -> tuple[Array, tuple[dict[str, Array], Array, Array]]:
        sums, surprise, (states, logits, local, normalizer, _) = _rate(chunk, block, settings)
        weights = chunk[2]
        is_target = lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1) == local[..., None]
        pull = weights * (1 + 2 * settings.z_loss * normalizer)
        slopes = jnp.exp(logits - normalizer[..., None]) * pull[..., None] - jnp.where(is_target, weights[..., None], 0)
        flat = slopes.astype(settings.compute_dtype).reshape(-1, block.shape[0])
        states_slope = dot(flat, block.astype(settings.compute_dtype), -1, -2).reshape(states.shape)
        states_slope = settings.vocabulary.add_returned(states_slope).astype(hidden.dtype)
        rows = states.reshape(-1, states.shape[-1]).astype(settings.compute_dtype)
        return block_slope + multiply_columns(flat, rows), (sums, surprise, states_slope)

    start = jnp.zeros(block.shape, jnp.float32)
    block_slope, (sums, surprise, slopes) = lax.scan(differentiate, start, _cut(hidden, targets, weights, settings))
    sums = {name: jnp.sum(values) for name, values in sums.items()}
    columns_slope = settings.vocabulary.return_block(block_slope).astype(columns.dtype)
    saved = (_join(slopes, *targets.shape), columns_slope)
    return (sums["penalty"], sums, _join(surprise, *targets.shape)), saved


def _sum_surprise_backward(
    settings: _Settings,  # noqa: ARG001
    slopes: tuple[Array, Array],
    weight: tuple[Array, dict[str, Array], Array],
) -> tuple[Array, Array, None, None]:
    hidden_slope, columns_slope = ((slope * weight[0]).astype(slope.dtype) for slope in slopes)
    return hidden_slope, columns_slope, None, None


_sum_surprise.defvjp(_sum_surprise_forward, _sum_surprise_backward)


def _join(chunks: Array, rows: int, tokens: int) -> Array:
    """Lay what was computed chunk by chunk along the rows again."""
    return chunks.swapaxes(0, 1).reshape(rows, -1, *chunks.shape[3:])[:, :tokens]


def _cut(hidden: Array, targets: Array, weights: Array, settings: _Settings) -> _Chunk:
    """Cut along the rows' length, so that each device keeps its own rows: chunks first.

    Targets and weights are those of all devices that score together.
    """
    rows, tokens = targets.shape
    length = min(tokens, max(1, settings.chunk_tokens // rows))
    padding = -tokens % length

    def cut(array: Array) -> Array:
        padded = jnp.pad(array, ((0, 0), (0, padding)) + ((0, 0),) * (array.ndim - 2))
        return padded.reshape(array.shape[0], -1, length, *array.shape[2:]).swapaxes(0, 1)

    return cut(hidden), cut(settings.vocabulary.collect(targets)), cut(settings.vocabulary.collect(weights))

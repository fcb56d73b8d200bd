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
from jax import lax
from jaxtyping import Array, Float, Int

from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import Params, compute_logits, forward
from codegemma.model.products import dot, multiply_columns
from codegemma.records import Batch


class Rows(NamedTuple):
    """A `records.Batch` as JAX sees it."""

    ids: Int[Array, "B L"]
    loss_weights: Float[Array, "B L"]
    segments: Int[Array, "B L"]
    positions: Int[Array, "B L"]


Metrics = dict[str, Array]


def put_batch(batch: Batch) -> Rows:
    """Hand a batch of the loader to JAX."""
    return Rows(*(jnp.asarray(a) for a in (batch.ids, batch.loss_weights, batch.segments, batch.positions)))


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
    `predicted_tokens`, `loss_weight` (the sum of the weights).
    """
    params = params | {"emb": execution.gather("emb", params["emb"])}
    hidden = forward(params, config, rows.ids, rows.segments, rows.positions, execution)
    # The state at t - 1 predicts the token at t. The last state predicts nothing.
    targets = jnp.roll(rows.ids, -1, axis=1)
    weights = jnp.roll(rows.loss_weights.at[:, 0].set(0.0), -1, axis=1)
    settings = _Settings(jnp.dtype(execution.compute_dtype), chunk_tokens, z_loss)
    penalty, sums = _sum_surprise(hidden, params["emb"], targets, weights, settings)
    totals = {name: add_up(lax.stop_gradient(value)) for name, value in sums.items()}
    weight = jnp.maximum(totals["loss_weight"], 1e-6)
    return penalty / weight, {
        "loss": totals["penalty"] / weight,
        "cross_entropy": totals["weighted"] / weight,
        "plain_cross_entropy": totals["plain"] / jnp.maximum(totals["predicted"], 1.0),
        "predicted_tokens": totals["predicted"],
        "loss_weight": totals["loss_weight"],
    }


class _Settings(NamedTuple):
    compute_dtype: Any
    chunk_tokens: int
    z_loss: float


_Chunk = tuple[Float[Array, "B C D"], Int[Array, "B C"], Float[Array, "B C"]]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _sum_surprise(
    hidden: Float[Array, "B L D"],
    table: Float[Array, "V D"],
    targets: Int[Array, "B L"],
    weights: Float[Array, "B L"],
    settings: _Settings,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Add up each token's weighted surprise and z-loss (the penalty), and what the metrics need."""

    def sum_chunk(chunk: _Chunk) -> dict[str, Array]:
        return _rate(chunk, table, settings)[0]

    sums = lax.map(sum_chunk, _cut(hidden, targets, weights, settings))
    sums = {name: jnp.sum(values) for name, values in sums.items()}
    return sums["penalty"], sums


def _rate(chunk: _Chunk, table: Array, settings: _Settings) -> tuple[dict[str, Array], Array, Array]:
    hidden, targets, weights = chunk
    logits = compute_logits({"emb": table}, hidden, settings.compute_dtype)
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    surprise = normalizer - jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    predicted = (weights > 0).astype(jnp.float32)
    return (
        {
            "penalty": jnp.sum(weights * (surprise + settings.z_loss * jnp.square(normalizer))),
            "weighted": jnp.sum(weights * surprise),
            "plain": jnp.sum(predicted * surprise),
            "predicted": jnp.sum(predicted),
            "loss_weight": jnp.sum(weights),
        },
        logits,
        normalizer,
    )


def _sum_surprise_forward(
    hidden: Array, table: Array, targets: Array, weights: Array, settings: _Settings
) -> tuple[tuple[Array, dict[str, Array]], tuple[Array, Array]]:
    """Compute the slopes while a chunk's logits are there: they are never made again, nor kept."""

    def differentiate(table_slope: Array, chunk: _Chunk) -> tuple[Array, tuple[dict[str, Array], Array]]:
        sums, logits, normalizer = _rate(chunk, table, settings)
        states, targets, weights = chunk
        is_target = lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1) == targets[..., None]
        pull = weights * (1 + 2 * settings.z_loss * normalizer)
        slopes = jnp.exp(logits - normalizer[..., None]) * pull[..., None] - jnp.where(is_target, weights[..., None], 0)
        flat = slopes.astype(settings.compute_dtype).reshape(-1, table.shape[0])
        states_slope = dot(flat, table.astype(settings.compute_dtype), -1, -2).reshape(states.shape)
        rows = states.reshape(-1, states.shape[-1]).astype(settings.compute_dtype)
        return table_slope + multiply_columns(flat, rows), (sums, states_slope.astype(hidden.dtype))

    start = jnp.zeros(table.shape, jnp.float32)
    chunks = _cut(hidden, targets, weights, settings)
    table_slope, (sums, slopes) = lax.scan(differentiate, start, chunks)
    rows, tokens = targets.shape
    hidden_slope = slopes.swapaxes(0, 1).reshape(rows, -1, hidden.shape[-1])[:, :tokens]
    sums = {name: jnp.sum(values) for name, values in sums.items()}
    return (sums["penalty"], sums), (hidden_slope, table_slope.astype(table.dtype))


def _sum_surprise_backward(
    settings: _Settings,  # noqa: ARG001
    slopes: tuple[Array, Array],
    weight: tuple[Array, dict[str, Array]],
) -> tuple[Array, Array, None, None]:
    hidden_slope, table_slope = ((slope * weight[0]).astype(slope.dtype) for slope in slopes)
    return hidden_slope, table_slope, None, None


_sum_surprise.defvjp(_sum_surprise_forward, _sum_surprise_backward)


def _cut(hidden: Array, targets: Array, weights: Array, settings: _Settings) -> tuple[Array, Array, Array]:
    """Cut along the rows' length, so that each device keeps its own rows: chunks first."""
    rows, tokens = targets.shape
    length = min(tokens, max(1, settings.chunk_tokens // rows))
    padding = -tokens % length
    padded = (jnp.pad(a, ((0, 0), (0, padding)) + ((0, 0),) * (a.ndim - 2)) for a in (hidden, targets, weights))
    hidden, targets, weights = (a.reshape(rows, -1, length, *a.shape[2:]).swapaxes(0, 1) for a in padded)
    return hidden, targets, weights

"""The loss: weighted next-token cross-entropy, over a few tokens at a time so that a large vocabulary fits.

**In**: parameters and a batch of rows on the device.
**Out**: one loss, and the sums behind it.
**Not**: the optimiser.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params, Remat, compute_logits, forward
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


def compute_loss(
    params: Params,
    config: GemmaConfig,
    rows: Rows,
    *,
    compute_dtype: Any = jnp.float32,
    chunk_tokens: int = 4096,
    z_loss: float = 0.0,
    unroll: bool | int = True,
    remat: Remat = "none",
) -> tuple[Float[Array, ""], Metrics]:
    """Average the surprise (nats) of each token by its weight.

    Metrics: `loss` as optimised, `cross_entropy` by weight without the z-loss, `plain_cross_entropy` over the predicted
    tokens each counted once, `predicted_tokens`, `loss_weight` (the sum of the weights).
    """
    hidden = forward(
        params,
        config,
        rows.ids,
        rows.segments,
        rows.positions,
        compute_dtype=compute_dtype,
        unroll=unroll,
        remat=remat,
    )
    # The state at t - 1 predicts the token at t. The last state predicts nothing.
    targets = jnp.roll(rows.ids, -1, axis=1).reshape(-1)
    weights = jnp.roll(rows.loss_weights.at[:, 0].set(0.0), -1, axis=1).reshape(-1)
    sums = _sum_surprise(params, hidden.reshape(targets.size, -1), targets, weights, compute_dtype, chunk_tokens)
    weight = jnp.maximum(sums["loss_weight"], 1e-6)
    cross_entropy = sums["weighted"] / weight
    loss = cross_entropy + z_loss * sums["squared_normalizer"] / weight if z_loss else cross_entropy
    predicted = jnp.maximum(sums["predicted"], 1.0)
    return loss, {
        "loss": loss,
        "cross_entropy": cross_entropy,
        "plain_cross_entropy": sums["plain"] / predicted,
        "predicted_tokens": sums["predicted"],
        "loss_weight": sums["loss_weight"],
    }


def _sum_surprise(
    params: Params,
    hidden: Float[Array, "T D"],
    targets: Int[Array, " T"],
    weights: Float[Array, " T"],
    compute_dtype: Any,
    chunk_tokens: int,
) -> dict[str, Array]:
    def sum_chunk(chunk: tuple[Array, Array, Array]) -> dict[str, Array]:
        hidden, targets, weights = chunk
        logits = compute_logits(params, hidden, compute_dtype)
        normalizer = jax.nn.logsumexp(logits, axis=-1)
        surprise = normalizer - jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
        predicted = (weights > 0).astype(jnp.float32)
        return {
            "weighted": jnp.sum(weights * surprise),
            "plain": jnp.sum(predicted * surprise),
            "squared_normalizer": jnp.sum(weights * jnp.square(normalizer)),
            "predicted": jnp.sum(predicted),
            "loss_weight": jnp.sum(weights),
        }

    tokens = targets.size
    if tokens <= chunk_tokens:
        return sum_chunk((hidden, targets, weights))
    padding = -tokens % chunk_tokens
    padded = (jnp.pad(a, ((0, padding),) + ((0, 0),) * (a.ndim - 1)) for a in (hidden, targets, weights))
    chunks = tuple(a.reshape(-1, chunk_tokens, *a.shape[1:]) for a in padded)
    sums = lax.map(jax.checkpoint(sum_chunk), chunks)
    return {name: jnp.sum(values) for name, values in sums.items()}

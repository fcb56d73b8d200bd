"""What the engine runs on the device: a step of reading or writing, copies of pages, ratings; compiled once per shape.

**In**: parameters, ids of rows padded to a common length, the pages of the cache.
**Out**: the most probable ids and all logits; log-probabilities.
**Not**: text, stopping, and the choice of shapes (`shapes.py`).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Int32

from codegemma.engine.sample import find_best
from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import Cache, Params, compute_logits, forward_cached
from codegemma.model.lora import Adapters, attach_by_row
from codegemma.model.score import score_choices, score_tokens


class StepInputs(NamedTuple):
    """The next tokens of each row, where they stand, the row's pages, which tokens are scored, the row's adapter."""

    ids: Int32[np.ndarray | Array, "B T"]
    positions: Int32[np.ndarray | Array, "B T"]
    tables: Int32[np.ndarray | Array, "B W"]
    scored: Int32[np.ndarray | Array, "B R"]
    adapters: Int32[np.ndarray | Array, " B"]


@partial(jax.jit, static_argnames=("config", "execution"), donate_argnames=("cache",))
def run_step(
    params: Params,
    config: GemmaConfig,
    execution: Execution,
    cache: Cache,
    inputs: StepInputs,
    adapters: Adapters | None,
) -> tuple[Int[Array, "B R"], Float[Array, "B R V"], Cache]:
    """Read the tokens; tell the most probable id after each scored one, of equals the lowest, and the logits."""
    if adapters is not None:
        params = attach_by_row(params, adapters, jnp.asarray(inputs.adapters))
    ids, positions, tables = (jnp.asarray(part) for part in (inputs.ids, inputs.positions, inputs.tables))
    hidden, cache = forward_cached(params, config, ids, positions, tables, cache, execution=execution)
    scored = jnp.take_along_axis(hidden, inputs.scored[..., None], axis=1)
    logits = compute_logits(params, scored, execution.compute_dtype)
    return find_best(logits), logits, cache


@partial(jax.jit, donate_argnames=("cache",))
def copy_pages(cache: Cache, copies: Int[Array, "copies 2"]) -> Cache:
    """Copy pages, one after the other: a target may be a later source."""

    def copy(index: Array, cache: Cache) -> Cache:
        source, target = copies[index]
        return Cache(*(pool.at[:, target].set(pool[:, source]) for pool in cache))

    copied: Cache = lax.fori_loop(0, copies.shape[0], copy, cache)
    return copied


@partial(jax.jit, static_argnames=("config",))
def rate_rows(
    params: Params, config: GemmaConfig, ids: Int[Array, "B L"], lengths: Int[Array, " B"]
) -> tuple[Float[Array, "B L"], Int[Array, "B L"]]:
    """Rate every token of each row given what stands before it in one pass."""
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    segments = (positions < lengths[:, None]).astype(jnp.int32)
    return score_tokens(params, config, ids, segments, positions)


rate_choices = jax.jit(score_choices, static_argnames=("config",))

"""What the engine runs on the device: read prompts, write tokens, rate tokens; compiled once per shape.

**In**: parameters, ids of rows padded to a common length, a cache.
**Out**: the next ids; log-probabilities.
**Not**: text, stopping, and the choice of shapes: `engine.py` keeps them few.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from codegemma.engine.sample import RowSampling, choose_greedy, choose_sampled
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Cache, Params, compute_logits, forward_cached, init_cache
from codegemma.model.score import score_tokens

# Lengths are rounded up to one of these: padding costs at most half a row more, and 8,192 tokens need 17 shapes.
_SHORTEST_TOKENS = 32


def round_up(tokens: int, limit: int) -> int:
    """Round a length up to a compiled one: 32, 48, 64, 96, 128, 192 ... but never beyond `limit`.

    >>> [round_up(n, 1000) for n in (1, 33, 65, 100, 999)]
    [32, 48, 96, 128, 1000]
    """
    power = _SHORTEST_TOKENS
    while power < tokens:
        if power * 3 // 2 >= tokens:
            return min(power * 3 // 2, limit)
        power *= 2
    return min(power, limit)


def round_rows(rows: int) -> int:
    """Round a number of rows up to a power of two.

    >>> [round_rows(n) for n in (1, 3, 8)]
    [1, 4, 8]
    """
    return 1 << (rows - 1).bit_length()


def _choose(logits: Float[Array, "B V"], sampling: RowSampling | None, index: Int[Array, ""] | int) -> Int[Array, " B"]:
    return choose_greedy(logits) if sampling is None else choose_sampled(logits, sampling, index)


class RowState(NamedTuple):
    """Where each row is: its newest id, that id's position, and how many ids it has written (a draw depends on it)."""

    newest: Int[Array, " B"]
    positions: Int[Array, " B"]
    written: Int[Array, ""]


@partial(jax.jit, static_argnames=("config", "slots"))
def read_prompts(
    params: Params,
    config: GemmaConfig,
    ids: Int[Array, "B T"],
    lengths: Int[Array, " B"],
    sampling: RowSampling | None,
    slots: int,
) -> tuple[Int[Array, " B"], Cache]:
    """Read whole prompts, each padded at its end, and choose the first new id of each row. `None` is all greedy."""
    rows = ids.shape[0]
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    hidden, cache = forward_cached(params, config, ids, positions, init_cache(config, rows, slots))
    last = hidden[jnp.arange(rows), lengths - 1]
    return _choose(compute_logits(params, last), sampling, 0), cache


@partial(jax.jit, static_argnames=("config", "steps"), donate_argnames=("cache",))
def write_tokens(
    params: Params, config: GemmaConfig, rows: RowState, cache: Cache, sampling: RowSampling | None, steps: int
) -> tuple[Int[Array, "B steps"], Cache]:
    """Read each row's newest id at its position, choose the next, and so on `steps` times.

    Rows that are finished go on; what they write is the caller's to drop, and a position beyond the cache stores
    nothing.
    """

    def step(carry: tuple[Array, Cache], index: Int[Array, ""]) -> tuple[tuple[Array, Cache], Array]:
        ids, cache = carry
        hidden, cache = forward_cached(params, config, ids[:, None], (rows.positions + index)[:, None], cache)
        chosen = _choose(compute_logits(params, hidden[:, 0]), sampling, rows.written + index)
        return (chosen, cache), chosen

    (_, cache), chosen = lax.scan(step, (rows.newest, cache), jnp.arange(steps))
    return chosen.T, cache


@partial(jax.jit, static_argnames=("config",))
def rate_rows(
    params: Params, config: GemmaConfig, ids: Int[Array, "B L"], lengths: Int[Array, " B"]
) -> tuple[Float[Array, "B L"], Int[Array, "B L"]]:
    """Rate every token of each row given what stands before it in one pass."""
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    segments = (positions < lengths[:, None]).astype(jnp.int32)
    return score_tokens(params, config, ids, segments, positions)

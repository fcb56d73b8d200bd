"""Writes several tokens of a few rows in one call of the device: what nobody looks at in between costs no Python.

**In**: the newest id of each row, where it stands, the row's pages, how it is drawn.
**Out**: `Written`: the ids, and the keys and values that `store_block` puts into the pages.
**Not**: who may write so (`scheduler.py`); the end of an answer: what was written beyond it is thrown away.

Pages are looked up once a block. They are read and not changed, so several parts are written at the same time.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Int32

from codegemma.engine.sample import RowSampling, choose_tokens, find_best
from codegemma.engine.shapes import BLOCK_TOKENS
from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import Cache, Held, Params, compute_logits, forward_held
from codegemma.model.lora import Adapters, attach_by_row


class BlockInputs(NamedTuple):
    """Rows that write: the newest id of each, its position, the row's pages, its adapter and how it is drawn."""

    newest: Int32[np.ndarray | Array, " B"]
    positions: Int32[np.ndarray | Array, " B"]
    tables: Int32[np.ndarray | Array, "B W"]
    adapters: Int32[np.ndarray | Array, " B"]
    sampling: RowSampling


class Written(NamedTuple):
    """Ids, and the keys and values of the tokens that were read for them: each row's newest first."""

    ids: Int[Array, "B block"]
    keys: Float[Array, "N B block K A"]
    values: Float[Array, "N B block K A"]


class _Rows(NamedTuple):
    newest: Int[Array, " B"]
    held: Held
    ids: Int[Array, "B block"]


@partial(jax.jit, static_argnames=("config", "execution", "is_drawn", "is_ranked"))
def write_block(  # noqa: PLR0913
    params: Params,
    config: GemmaConfig,
    execution: Execution,
    cache: Cache,
    inputs: BlockInputs,
    tokens: int | Array,
    *,
    adapters: Adapters | None,
    is_drawn: bool,
    is_ranked: bool,
) -> Written:
    """Write `tokens` of each row, at most `BLOCK_TOKENS`; ids beyond them are 0."""
    if adapters is not None:
        params = attach_by_row(params, adapters, jnp.asarray(inputs.adapters))
    positions, sampling = jnp.asarray(inputs.positions), inputs.sampling

    def step(number: Array, rows: _Rows) -> _Rows:
        hidden, held = forward_held(
            params, config, rows.newest[:, None], (positions + number)[:, None], rows.held, execution=execution
        )
        logits = compute_logits(params, hidden, execution.compute_dtype)
        drawing = sampling._replace(written=jnp.asarray(sampling.written) + number)
        chosen = choose_tokens(logits, drawing, is_ranked=is_ranked) if is_drawn else find_best(logits)
        return _Rows(chosen[:, 0], held, rows.ids.at[:, number].set(chosen[:, 0]))

    ids = jnp.zeros((len(inputs.newest), BLOCK_TOKENS), jnp.int32)
    start = _Rows(jnp.asarray(inputs.newest), _hold(cache, jnp.asarray(inputs.tables)), ids)
    rows = lax.fori_loop(0, tokens, step, start)
    return Written(rows.ids, *(_take(part, positions) for part in rows.held))


@partial(jax.jit, donate_argnames=("cache",))
def store_block(cache: Cache, written: Written, inputs: BlockInputs, tokens: int | Array) -> Cache:
    """Put what was read into the pages of its rows; a token whose page does not exist is stored nowhere."""
    page_tokens, tables = cache.keys.shape[2], jnp.asarray(inputs.tables)
    numbers = jnp.arange(BLOCK_TOKENS)
    positions = jnp.asarray(inputs.positions)[:, None] + numbers
    places = positions // page_tokens
    in_table = jnp.take_along_axis(tables, jnp.minimum(places, tables.shape[1] - 1), axis=1)
    pages = jnp.where((places < tables.shape[1]) & (numbers < tokens), in_table, cache.keys.shape[1])
    offsets = positions % page_tokens
    return Cache(
        cache.keys.at[:, pages, offsets].set(written.keys, mode="drop"),
        cache.values.at[:, pages, offsets].set(written.values, mode="drop"),
    )


def _hold(cache: Cache, tables: Int[Array, "B W"]) -> Held:
    """Look up what the rows have read, layer by layer."""

    def look_up(pool: Array) -> tuple[Array, ...]:
        found = (pool.at[n, tables].get(mode="clip") for n in range(len(pool)))
        return tuple(part.reshape(len(tables), -1, *part.shape[3:]) for part in found)

    return Held(look_up(cache.keys), look_up(cache.values))


def _take(parts: tuple[Array, ...], positions: Int[Array, " B"]) -> Float[Array, "N B block K A"]:
    places = positions[:, None] + jnp.arange(BLOCK_TOKENS)
    rows = jnp.arange(len(positions))[:, None]
    return jnp.stack([part[rows, places] for part in parts])

"""Writes many answers at once, whose prompts are all known before: what a trainer needs, without threads and streams.

**In**: parameters, as they are on the device: a trainer's own, no copy of them; prompts; seeds.
**Out**: `Rollout` for each answer: ids, the log-probability of each as it was drawn, and whether it ended by itself.
**Not**: answers that others wait for, stop strings, budgets: those are `engine.py`'s.

The loop over tokens is compiled, so that a token costs no Python; every few tokens the rows that have ended are put
aside. A row draws by its seed and token number, as the engine's rows do: the same seed gives the same answer.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt32

from codegemma.engine.sample import RowSampling, choose_tokens
from codegemma.engine.shapes import fit
from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import Cache, Held, Params, compute_logits, forward_cached, forward_held, init_cache
from codegemma.model.layers import is_apart, take_apart
from codegemma.text.control_tokens import PAD_ID, STOP_IDS

# Tokens between two looks at who has ended.
_CHUNK_TOKENS = 16
# Lengths are padded to multiples of this, so that few shapes are compiled.
_LENGTH_STEP = 32


class Rollout(NamedTuple):
    """An answer; the control token that ended it is its last id, where one did."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    has_ended: bool


class Writing(NamedTuple):
    """How answers are written: so many for each prompt, up to so many tokens. Temperature 0 is greedy."""

    answers: int
    max_new_tokens: int
    temperature: float


class _Rows(NamedTuple):
    """Answers under way: the newest id of each, which is not read yet, and where it stands."""

    newest: Int[Array, " B"]
    position: Int[Array, " B"]
    written: Int[Array, " B"]
    seed: UInt32[Array, " B"]
    has_ended: Bool[Array, " B"]


class _Model(NamedTuple):
    params: Params
    config: GemmaConfig
    execution: Execution
    heat: Array


def roll_out(
    params: Params,
    config: GemmaConfig,
    prompts: Sequence[Sequence[int]],
    writing: Writing,
    seeds: Sequence[int],
    execution: Execution = Execution(unroll=False),  # noqa: B008 (frozen)
) -> list[Rollout]:
    """Write answers to each prompt, those of one prompt next to each other; each prompt is read once.

    `seeds` has one for each answer.

    Raises:
        InputError: a prompt is empty or leaves no room in the window.
    """
    longest, answers = max(map(len, prompts)), writing.answers
    if not all(prompts) or longest >= config.max_positions:
        raise InputError(f"prompts of 1 to {config.max_positions - 1} tokens can be answered, got up to {longest}")
    if len(seeds) != len(prompts) * answers:
        raise ValueError(f"one seed for each of {len(prompts) * answers} answers, got {len(seeds)}")
    width = _round_up(longest)
    new_tokens = min(writing.max_new_tokens, config.max_positions - longest)
    reach = _round_up(longest + new_tokens)
    model = _Model(params, config, execution, jnp.float32(writing.temperature))
    cache, logits = _read(params, config, execution, _pad(prompts, width), _measure(prompts), reach)
    spread = jnp.repeat(jnp.arange(len(prompts)), answers)
    start = _Rows(
        jnp.zeros(len(seeds), jnp.int32),
        jnp.asarray(_measure(prompts) - 1)[spread],
        jnp.zeros(len(seeds), jnp.int32),
        jnp.asarray(np.asarray(seeds, np.uint64).astype(np.uint32)),
        jnp.zeros(len(seeds), bool),
    )
    rows, *first = _begin(logits[spread], start, model.heat)
    return _write(model, _take(cache, spread), rows, first, new_tokens)


def _write(model: _Model, cache: Cache, rows: _Rows, first: Sequence[Array], new_tokens: int) -> list[Rollout]:
    count = len(rows.seed)
    ids, logprobs = np.full((count, new_tokens), PAD_ID, np.int32), np.zeros((count, new_tokens), np.float32)
    ids[:, 0], logprobs[:, 0] = np.asarray(first[0]), np.asarray(first[1])
    sizes = _list_sizes(count)
    # Which answers the device's rows are; a number past the end is a row that only fills.
    numbers = np.arange(count)
    is_alive = ~np.asarray(rows.has_ended)
    for start in range(1, new_tokens, _CHUNK_TOKENS):
        alive = np.flatnonzero(is_alive & (numbers < count))
        if not len(alive):
            break
        size = fit(sizes, len(alive))
        if size < len(numbers):
            index = np.concatenate([alive, np.flatnonzero(~is_alive)])[:size]
            numbers = np.where(np.arange(size) < len(alive), numbers[index], count)
            rows, cache = _Rows(*(leaf[index] for leaf in rows)), _take(cache, index)
        rows, cache, more, rated = _write_chunk(model.params, model.config, model.execution, cache, rows, model.heat)
        known, room = numbers < count, min(_CHUNK_TOKENS, new_tokens - start)
        ids[numbers[known], start : start + room] = np.asarray(more)[known, :room]
        logprobs[numbers[known], start : start + room] = np.asarray(rated)[known, :room]
        is_alive = ~np.asarray(rows.has_ended)
    return [_cut(row, rated) for row, rated in zip(ids.tolist(), logprobs.tolist(), strict=True)]


def _cut(ids: list[int], logprobs: list[float]) -> Rollout:
    """End an answer after its first control token."""
    for place, token_id in enumerate(ids):
        if token_id in STOP_IDS:
            return Rollout(tuple(ids[: place + 1]), tuple(logprobs[: place + 1]), has_ended=True)
    return Rollout(tuple(ids), tuple(logprobs), has_ended=False)


@partial(jax.jit, static_argnames=("config", "execution", "reach"))
def _read(
    params: Params, config: GemmaConfig, execution: Execution, ids: Array, lengths: Array, reach: int
) -> tuple[Cache, Float[Array, "P V"]]:
    """Read the prompts, each into the one page that its row has."""
    count, width = ids.shape
    positions = jnp.broadcast_to(jnp.arange(width), ids.shape)
    cache = init_cache(config, count, reach, execution.activation_dtype)
    hidden, cache = forward_cached(params, config, ids, positions, _own_pages(count), cache, execution=execution)
    last = jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)[:, 0]
    return cache, compute_logits(params, last, execution.compute_dtype)


@jax.jit
def _begin(logits: Float[Array, "B V"], rows: _Rows, heat: Array) -> tuple[_Rows, Array, Array]:
    ids, logprobs = _draw(logits, rows, heat)
    return _go_on(rows, ids), ids, logprobs


@partial(jax.jit, static_argnames=("config", "execution"), donate_argnames=("cache",))
def _write_chunk(
    params: Params, config: GemmaConfig, execution: Execution, cache: Cache, rows: _Rows, heat: Array
) -> tuple[_Rows, Cache, Int[Array, "B chunk"], Float[Array, "B chunk"]]:
    # As in the engine: layers apart cost a copy of the weights for each chunk, stacked ones that for each token.
    params = take_apart(params) if jax.default_backend() == "cpu" else params
    held = Held(*map(tuple, cache)) if is_apart(params) else Held(*cache)

    def step(carry: tuple[_Rows, Held], _: None) -> tuple[tuple[_Rows, Held], tuple[Array, Array]]:
        rows, held = carry
        hidden, held = forward_held(
            params, config, rows.newest[:, None], rows.position[:, None], held, execution=execution
        )
        logits = compute_logits(params, hidden[:, 0], execution.compute_dtype)
        ids, logprobs = _draw(logits, rows, heat)
        ids = jnp.where(rows.has_ended, PAD_ID, ids)
        return (_go_on(rows, ids), held), (ids, logprobs)

    (rows, held), (ids, logprobs) = lax.scan(step, (rows, held), None, length=_CHUNK_TOKENS)
    cache = Cache(*(jnp.stack(part) if isinstance(part, tuple) else part for part in held))
    return rows, cache, ids.T, logprobs.T


def _draw(logits: Float[Array, "B V"], rows: _Rows, heat: Array) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """Draw as the engine does, and rate what was drawn by the model itself, whatever the temperature."""
    count = len(rows.seed)
    none = jnp.zeros(count, jnp.float32)
    sampling = RowSampling(
        jnp.broadcast_to(heat, count), jnp.zeros(count, jnp.int32), none + 1, none, rows.seed, rows.written
    )
    ids = choose_tokens(logits[:, None], sampling, is_ranked=False)[:, 0]
    rated = jax.nn.log_softmax(logits, axis=-1)
    return ids, jnp.take_along_axis(rated, ids[:, None], axis=-1)[:, 0]


def _go_on(rows: _Rows, ids: Int[Array, " B"]) -> _Rows:
    has_ended = rows.has_ended | jnp.isin(ids, jnp.asarray(sorted(STOP_IDS)))
    return _Rows(ids, rows.position + 1, rows.written + 1, rows.seed, has_ended)


def _own_pages(count: int) -> Int[Array, "B 1"]:
    return jnp.arange(count, dtype=jnp.int32)[:, None]


@jax.jit
def _take(cache: Cache, index: Array) -> Cache:
    return Cache(cache.keys[:, index], cache.values[:, index])


def _list_sizes(count: int) -> tuple[int, ...]:
    """List the numbers of rows that are computed with: all, a half, a quarter, an eighth."""
    return tuple(sorted({max(1, -(-count // share)) for share in (1, 2, 4, 8)}))


def _round_up(length: int) -> int:
    return -(-length // _LENGTH_STEP) * _LENGTH_STEP


def _measure(prompts: Sequence[Sequence[int]]) -> np.ndarray:
    return np.asarray([len(prompt) for prompt in prompts], np.int32)


def _pad(prompts: Sequence[Sequence[int]], width: int) -> np.ndarray:
    ids = np.full((len(prompts), width), PAD_ID, np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    return ids

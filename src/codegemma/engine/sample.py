"""Chooses the next token of each row from its scores: greedy, or drawn with temperature, top-k, top-p and min-p.

**In**: logits, and each row's own sampling values; penalties and biases where a row has them.
**Out**: one id for every scored place. A row's draw depends on its own logits, seed and token count, never on its
neighbours.
**Not**: stopping.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, UInt32

from codegemma.engine.checks import MAX_TOP_LOGPROBS
from codegemma.records import Sampling


class RowSampling(NamedTuple):
    """How each row is drawn. Temperature 0 is greedy; `top_k` V, `top_p` 1 and `min_p` 0 leave everything in.

    `written` counts the tokens that a row has written: the draw of a token hangs on its seed and its number.
    """

    temperature: Float32[np.ndarray | Array, " B"]
    top_k: Int32[np.ndarray | Array, " B"]
    top_p: Float32[np.ndarray | Array, " B"]
    min_p: Float32[np.ndarray | Array, " B"]
    seed: UInt32[np.ndarray | Array, " B"]
    written: Int32[np.ndarray | Array, " B"]


class Changes(NamedTuple):
    """What is done to logits first: `bias` is added (minus infinity forbids), what was there `times` is penalised."""

    bias: Float[np.ndarray | Array, "B V"]
    times: Int32[np.ndarray | Array, "B V"]
    repetition: Float32[np.ndarray | Array, " B"]
    presence: Float32[np.ndarray | Array, " B"]
    frequency: Float32[np.ndarray | Array, " B"]


class Rating(NamedTuple):
    """Log-probabilities of chosen tokens, and the most probable tokens in their places."""

    logprobs: Float[Array, "B R"]
    top_ids: Int[Array, "B R top"]
    top_logprobs: Float[Array, "B R top"]


def gather_sampling(rows: Sequence[tuple[Sampling, int]], vocab_size: int) -> RowSampling:
    """Collect the sampling values of rows, each with the number of tokens that it has written."""
    asked = [sampling for sampling, _ in rows]
    return RowSampling(
        np.asarray([s.temperature for s in asked], np.float32),
        np.asarray([min(s.top_k or vocab_size, vocab_size) for s in asked], np.int32),
        np.asarray([1.0 if s.top_p is None else s.top_p for s in asked], np.float32),
        np.asarray([s.min_p or 0.0 for s in asked], np.float32),
        np.asarray([s.seed % 2**32 for s in asked], np.uint32),
        np.asarray([written for _, written in rows], np.int32),
    )


@partial(jax.jit, static_argnames=("is_ranked",))
def choose_tokens(logits: Float[Array, "B R V"], rows: RowSampling, *, is_ranked: bool) -> Int[Array, "B R"]:
    """Choose an id for every place; place `r` of a row is its token number `written + r`.

    Temperature first, then top-k, top-p (Holtzman et al., 2019) and min-p. Of equals, greedy takes the lowest id; the
    most probable id always stays in, and ties are kept in the order of ids. Where no row has a top-k or top-p, nothing
    need be `is_ranked`, which is slow; a row without them draws the same either way.

    >>> rows = gather_sampling([(Sampling(temperature=1.0, top_k=1), 0)], vocab_size=3)
    >>> choose_tokens(jnp.array([[[0.0, 2.0, 1.0]]]), rows, is_ranked=True).tolist()
    [[1]]
    """
    scaled = logits / jnp.maximum(jnp.asarray(rows.temperature), 1e-6)[:, None, None]
    top = jnp.max(scaled, axis=-1, keepdims=True)
    is_kept = scaled >= top + jnp.log(jnp.asarray(rows.min_p))[:, None, None]
    if is_ranked:
        is_kept &= _keep_first(scaled, rows)
    make_noise = jax.vmap(partial(_make_noise, shape=logits.shape[1:]))
    noise = make_noise(jnp.asarray(rows.seed), jnp.asarray(rows.written))
    drawn = jnp.argmax(jnp.where(is_kept, scaled + noise, -jnp.inf), axis=-1)
    is_drawn = jnp.asarray(rows.temperature)[:, None] > 0
    return jnp.where(is_drawn, drawn.astype(jnp.int32), find_best(logits))


def find_best(logits: Float[Array, "*rows V"]) -> Int[Array, "*rows"]:
    """Find the most probable id, of equals the lowest; XLA's CPU backend takes ten times as long for `argmax`."""
    ids = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    is_best = logits == jnp.max(logits, axis=-1, keepdims=True)
    return jnp.min(jnp.where(is_best, ids, ids[-1]), axis=-1)


def _keep_first(scaled: Float[Array, "B R V"], rows: RowSampling) -> Bool[Array, "B R V"]:
    """Find the tokens of the first ranks; noise goes by id, so a row that keeps all draws the same without this."""
    order = jnp.argsort(-scaled, axis=-1, stable=True)
    ranked = jnp.take_along_axis(scaled, order, axis=-1)
    in_top_k = jnp.arange(scaled.shape[-1]) < rows.top_k[:, None, None]
    shares = jax.nn.softmax(jnp.where(in_top_k, ranked, -jnp.inf), axis=-1)
    before = jnp.cumsum(shares, axis=-1) - shares
    is_first = in_top_k & ((before < rows.top_p[:, None, None]) | (jnp.asarray(rows.top_p) >= 1)[:, None, None])
    kept: Array = jnp.put_along_axis(jnp.zeros_like(is_first), order, is_first, axis=-1, inplace=False)
    return kept


def _make_noise(seed: Array, written: Array, shape: tuple[int, ...]) -> Float[Array, "R V"]:
    keys = jax.vmap(lambda place: jax.random.fold_in(jax.random.key(seed), written + place))(jnp.arange(shape[0]))
    return jax.vmap(lambda key: jax.random.gumbel(key, (shape[1],)))(keys)


@jax.jit
def change_logits(logits: Float[Array, "B R V"], changes: Changes) -> Float[Array, "B R V"]:
    """Add biases, then make what was there less likely, as `records.Sampling` says; llama.cpp's formula and order."""
    changed, times = logits + changes.bias[:, None], jnp.asarray(changes.times)[:, None]
    repetition, presence, frequency = (jnp.asarray(part)[:, None, None] for part in changes[2:])
    shrunk = jnp.where(changed > 0, changed / repetition, changed * repetition) - presence - times * frequency
    return jnp.where(times > 0, shrunk, changed)


@jax.jit
def rate_tokens(logits: Float[Array, "B R V"], ids: Int[Array, "B R"]) -> Rating:
    """Rate chosen ids by the model's own probabilities, before sampling changed them."""
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    chosen = jnp.take_along_axis(logprobs, ids[..., None], axis=-1)[..., 0]
    top, top_ids = lax.top_k(logprobs, min(MAX_TOP_LOGPROBS, logits.shape[-1]))
    return Rating(chosen, top_ids, top)

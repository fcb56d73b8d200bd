"""Causal attention within segments, for whole rows and for rows read through a cache.

**In**: queries that are already turned and scaled, keys that are already turned, values.
**Out**: the values mixed for each query head.
**Not**: projections. `G` query heads share one key/value head: `H` is `K` times `G`.

Whole rows are read in blocks of queries: what lies above the diagonal blocks is never computed, and the gradient makes
the shares again from each query's normaliser instead of keeping them (Dao et al. 2022, FlashAttention, section 3.1).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from codegemma.model.products import dot, multiply_columns

# Far below any score, yet finite: a row that sees nothing yields numbers, not NaN.
_HIDDEN_SCORE = -1e30
# Blocks of 128 queries skip most of the upper triangle and still fill a matrix unit; at most 8 keep compilation short.
_MIN_BLOCK_TOKENS = 128
_MAX_BLOCKS = 8


class Turns(NamedTuple):
    """Cosine and sine of the angle by which each pair of a head turns at each token."""

    cos: Float[Array, "B L half"]
    sin: Float[Array, "B L half"]


def compute_turns(positions: Int[Array, "B L"], head_dim: int, theta: float) -> Turns:
    """Compute the rotary angles in float32: the pair `i` of `A/2` turns by `position * theta ** (-2i / A)`."""
    half = head_dim // 2
    inverse_wavelength = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions.astype(jnp.float32)[..., None] * inverse_wavelength
    return Turns(jnp.cos(angles), jnp.sin(angles))


@jax.custom_vjp
def rotate(x: Float[Array, "B L H A"], turns: Turns) -> Float[Array, "B L H A"]:
    """Turn each pair `(a, a + A/2)` of a head by the angle of its token.

    >>> quarter = Turns(jnp.array([[[0.0]]]), jnp.array([[[1.0]]]))
    >>> rotate(jnp.array([[[[3.0, 4.0]]]]), quarter).tolist()
    [[[[-4.0, 3.0]]]]
    """
    # The two halves as an axis that is flipped: XLA's CPU backend does not vectorise a joining of halves.
    halves = x.reshape(*x.shape[:-1], 2, x.shape[-1] // 2)
    cos, sin = turns.cos[:, :, None, None], turns.sin[:, :, None, None]
    signs = jnp.array([-1.0, 1.0])[:, None]
    return (halves * cos + jnp.flip(halves, axis=-2) * (sin * signs)).reshape(x.shape)


def _rotate_forward(x: Array, turns: Turns) -> tuple[Array, Turns]:
    return rotate(x, turns), turns


def _rotate_backward(turns: Turns, slope: Array) -> tuple[Array, None]:
    return rotate(slope, Turns(turns.cos, -turns.sin)), None


rotate.defvjp(_rotate_forward, _rotate_backward)


def attend_in_blocks(
    q: Float[Array, "B L H A"],
    k: Float[Array, "B L K A"],
    v: Float[Array, "B L K A"],
    segments: Int[Array, "B L"],
    compute_dtype: Any,
) -> Float[Array, "B L H A"]:
    """Let each token see itself and what stands before it in its own segment."""
    rows, tokens, heads, width = q.shape
    groups = heads // k.shape[2]
    # [B, K, L * G, A]: the G heads of a token lie side by side, so a block of tokens is a block of query rows.
    lines = q.reshape(rows, tokens, -1, groups, width).swapaxes(1, 2).reshape(rows, -1, tokens * groups, width)
    mixed = _attend_lines(lines, k.swapaxes(1, 2), v.swapaxes(1, 2), segments, jnp.dtype(compute_dtype))
    return mixed.reshape(rows, -1, tokens, groups, width).swapaxes(1, 2).reshape(q.shape)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend_lines(q: Array, k: Array, v: Array, segments: Array, compute_dtype: Any) -> Array:
    return _attend_forward(q, k, v, segments, compute_dtype)[0]


def _attend_forward(q: Array, k: Array, v: Array, segments: Array, compute_dtype: Any) -> tuple[Array, Any]:
    q, k, v = (x.astype(compute_dtype) for x in (q, k, v))
    mixed, normalizers = [], []
    for block in _divide(segments.shape[1], q.shape[2]):
        scores = _score(q, k, segments, block)
        top = jnp.max(scores, axis=-1, keepdims=True)
        shares = jnp.exp(scores - top)
        total = jnp.sum(shares, axis=-1, keepdims=True)
        mixed.append(dot(shares.astype(compute_dtype), v[:, :, : block.end], -1, -2) / total)
        normalizers.append(top + jnp.log(total))
    result = jnp.concatenate(mixed, axis=2)
    return result, (q, k, v, segments, result, jnp.concatenate(normalizers, axis=2))


def _attend_backward(compute_dtype: Any, saved: Any, slope: Array) -> tuple[Array, Array, Array, None]:
    q, k, v, segments, mixed, normalizers = saved
    # The sum over keys of share times its slope, which the softmax subtracts (FlashAttention, appendix B.2). As a
    # product with ones: XLA's CPU backend takes three times as long for this sum.
    offsets = jnp.matmul(slope * mixed, jnp.ones((q.shape[-1], 1)), precision="highest")
    slope = slope.astype(compute_dtype)
    q_slopes, k_slope, v_slope = [], jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    for block in _divide(segments.shape[1], q.shape[2]):
        lines, keys = block.lines, slice(0, block.end)
        shares = jnp.exp(_score(q, k, segments, block) - normalizers[:, :, lines])
        share_slopes = dot(slope[:, :, lines], v[:, :, keys], -1, -1)
        score_slopes = (shares * (share_slopes - offsets[:, :, lines])).astype(compute_dtype)
        q_slopes.append(dot(score_slopes, k[:, :, keys], -1, -2))
        k_slope = k_slope.at[:, :, keys].add(multiply_columns(score_slopes, q[:, :, lines]))
        v_slope = v_slope.at[:, :, keys].add(multiply_columns(shares.astype(compute_dtype), slope[:, :, lines]))
    return jnp.concatenate(q_slopes, axis=2), k_slope, v_slope, None


_attend_lines.defvjp(_attend_forward, _attend_backward)


class _Block(NamedTuple):
    """Tokens `start` to `end` as queries; they see no token from `end` on."""

    start: int
    end: int
    groups: int

    @property
    def lines(self) -> slice:
        return slice(self.start * self.groups, self.end * self.groups)


def _divide(tokens: int, lines: int) -> list[_Block]:
    size = max(_MIN_BLOCK_TOKENS, -(-tokens // _MAX_BLOCKS))
    return [_Block(start, min(start + size, tokens), lines // tokens) for start in range(0, tokens, size)]


def _score(q: Array, k: Array, segments: Array, block: _Block) -> Array:
    """Score the queries of one block against the keys that it may see: [B, K, lines, keys]."""
    scores = dot(q[:, :, block.lines], k[:, :, : block.end], -1, -1)
    ours = segments[:, block.start : block.end]
    causal = jnp.arange(block.start, block.end)[:, None] >= jnp.arange(block.end)
    visible = causal & (ours[:, :, None] == segments[:, None, : block.end])
    return jnp.where(jnp.repeat(visible, block.groups, axis=1)[:, None], scores, _HIDDEN_SCORE)


def attend_cached(
    q: Float[Array, "B T H A"],
    keys: Float[Array, "B S K A"],
    values: Float[Array, "B S K A"],
    positions: Int[Array, "B T"],
    compute_dtype: Any,
) -> Float[Array, "B T H A"]:
    """Let each token see the slots up to its own position."""
    rows, tokens, heads, width = q.shape
    slots, kv_heads = keys.shape[1:3]
    visible: Bool[Array, "B T S"] = jnp.arange(slots) <= positions[..., None]
    # Spelled out, not as einsum, which has XLA turn the values around in memory before their product.
    grouped = q.reshape(rows, tokens, kv_heads, -1, width).transpose(0, 2, 3, 1, 4).reshape(rows, kv_heads, -1, width)
    keys, values = (part.swapaxes(1, 2).astype(compute_dtype) for part in (keys, values))
    scores = dot(grouped.astype(compute_dtype), keys, -1, -1).reshape(rows, kv_heads, -1, tokens, slots)
    shares = jax.nn.softmax(jnp.where(visible[:, None, None], scores, _HIDDEN_SCORE), axis=-1).astype(compute_dtype)
    mixed = dot(shares.reshape(rows, kv_heads, -1, slots), values, -1, -2)
    return mixed.reshape(rows, kv_heads, -1, tokens, width).transpose(0, 3, 1, 2, 4).reshape(rows, tokens, heads, width)

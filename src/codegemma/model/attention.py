"""Causal attention within segments, for whole rows and for rows read through a cache.

**In**: queries that are already turned and scaled, keys that are already turned, values.
**Out**: the values mixed for each query head.
**Not**: projections. Several query heads may share one key/value head (`H` is a multiple of `K`).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Far below any score, yet finite: a row that sees nothing yields numbers, not NaN.
_HIDDEN_SCORE = -1e30


def rotate(x: Float[Array, "B L H A"], positions: Int[Array, "B L"], theta: float) -> Float[Array, "B L H A"]:
    """Turn each pair `(a, a + A/2)` by an angle that grows with the position (rotary embedding, float32).

    >>> rotate(jnp.array([[[[1.0, 0.0]]]]), jnp.array([[1]]), 10000.0).round(4).tolist()
    [[[[0.5403000116348267, 0.8414999842643738]]]]
    """
    half = x.shape[-1] // 2
    inverse_wavelength = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions.astype(jnp.float32)[..., None, None] * inverse_wavelength
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attend(
    q: Float[Array, "B L H A"],
    k: Float[Array, "B L K A"],
    v: Float[Array, "B L K A"],
    segments: Int[Array, "B L"],
    compute_dtype: Any,
) -> Float[Array, "B L H A"]:
    """Let each token see itself and what stands before it in its own segment."""
    length = q.shape[1]
    causal = jnp.tril(jnp.ones((length, length), bool))
    return _mix(q, k, v, causal & (segments[:, :, None] == segments[:, None, :]), compute_dtype)


def attend_cached(
    q: Float[Array, "B T H A"],
    keys: Float[Array, "B S K A"],
    values: Float[Array, "B S K A"],
    positions: Int[Array, "B T"],
    compute_dtype: Any,
) -> Float[Array, "B T H A"]:
    """Let each token see the slots up to its own position."""
    visible = jnp.arange(keys.shape[1]) <= positions[..., None]
    return _mix(q, keys, values, visible, compute_dtype)


def _mix(
    q: Float[Array, "B T H A"],
    k: Float[Array, "B S K A"],
    v: Float[Array, "B S K A"],
    visible: Bool[Array, "B T S"],
    compute_dtype: Any,
) -> Float[Array, "B T H A"]:
    rows, tokens, heads, width = q.shape
    groups = q.reshape(rows, tokens, k.shape[2], heads // k.shape[2], width).astype(compute_dtype)
    scores = jnp.einsum("btkga,bska->bkgts", groups, k.astype(compute_dtype), preferred_element_type=jnp.float32)
    shares = jax.nn.softmax(jnp.where(visible[:, None, None], scores, _HIDDEN_SCORE), axis=-1)
    mixed = jnp.einsum(
        "bkgts,bska->btkga", shares.astype(compute_dtype), v.astype(compute_dtype), preferred_element_type=jnp.float32
    )
    return mixed.reshape(rows, tokens, heads, width)

"""Attention by blocks, its spelled-out gradient included, is plain attention."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from codegemma.model.attention import Turns, attend_in_blocks, compute_turns, rotate

# Two whole blocks of queries and a part of a third, cut into packs across the blocks' borders.
TOKENS = 300
SEGMENTS = jnp.asarray(np.repeat([[1, 2, 3, 0], [1, 1, 2, 2]], [100, 60, 110, 30], axis=1), jnp.int32)


def attend_plainly(q: Array, k: Array, v: Array) -> Array:
    """Attend over the whole square of scores."""
    groups = q.shape[2] // k.shape[2]
    k, v = jnp.repeat(k, groups, axis=2), jnp.repeat(v, groups, axis=2)
    visible = jnp.tril(jnp.ones((TOKENS, TOKENS), bool)) & (SEGMENTS[:, :, None] == SEGMENTS[:, None])
    scores = jnp.where(visible[:, None], jnp.einsum("bqha,bsha->bhqs", q, k), -jnp.inf)
    mixed: Array = jnp.einsum("bhqs,bsha->bqha", jax.nn.softmax(scores), v)
    return mixed


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 1), (4, 2), (2, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("bfloat16", 5e-2)])
def test_blocks_and_their_gradient_equal_the_whole_square(
    heads: int, kv_heads: int, dtype: str, tolerance: float
) -> None:
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v = (
        jax.random.normal(key, (2, TOKENS, n, 8)) for key, n in zip(keys, (heads, kv_heads, kv_heads), strict=False)
    )
    slope = jax.random.normal(keys[3], q.shape)

    def differentiate(mix: Callable[..., Array]) -> tuple[Array, ...]:
        mixed, pull = jax.vjp(mix, q, k, v)
        return mixed, *pull(slope)

    plain = jax.jit(lambda: differentiate(attend_plainly))()
    blocked = jax.jit(lambda: differentiate(lambda q, k, v: attend_in_blocks(q, k, v, SEGMENTS, jnp.dtype(dtype))))()
    for ours, expected in zip(blocked, plain, strict=True):
        scale = float(jnp.max(jnp.abs(expected)))
        np.testing.assert_allclose(ours, expected, atol=tolerance * scale, rtol=0)


def test_turning_depends_on_the_distance_only_and_keeps_length() -> None:
    x, y = jax.random.normal(jax.random.key(1), (2, 1, 4, 1, 8))
    near, far = (compute_turns(jnp.arange(4)[None] + start, 8, 10000.0) for start in (0, 50))

    def score(turns: Turns) -> Array:
        return jnp.einsum("btha,bsha->bts", rotate(x, turns), rotate(y, turns))

    np.testing.assert_allclose(score(near), score(far), atol=1e-4)
    np.testing.assert_allclose(jnp.linalg.norm(rotate(x, far), axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5)


def test_gradient_of_turning_is_the_turn_back() -> None:
    x, slope = jax.random.normal(jax.random.key(2), (2, 1, 4, 2, 8))
    turns = compute_turns(jnp.arange(4)[None], 8, 10000.0)
    moved = jnp.vdot(rotate(x, turns), slope)
    (pulled,) = jax.vjp(lambda x: rotate(x, turns), x)[1](slope)
    np.testing.assert_allclose(jnp.vdot(x, pulled), moved, rtol=1e-5)

"""Matrix products with a gradient that is spelled out, because XLA's CPU backend is slow on the derived one.

**In**: rows of activations and one matrix of weights, float32.
**Out**: their product in float32.
**Not**: products between activations; attention has its own.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_ROWS_BY_COLUMNS = (((1,), (0,)), ((), ()))
_ROWS_BY_ROWS = (((1,), (1,)), ((), ()))
_COLUMNS_BY_COLUMNS = (((0,), (0,)), ((), ()))


def multiply(x: Float[Array, "*rows I"], weight: Float[Array, "I O"], compute_dtype: Any) -> Float[Array, "*rows O"]:
    """Multiply operands rounded to `compute_dtype`, adding up in float32.

    >>> multiply(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]]), jnp.float32).tolist()
    [[11.0]]
    """
    flat = _multiply(x.reshape(-1, x.shape[-1]), weight, jnp.dtype(compute_dtype))
    return flat.reshape(*x.shape[:-1], weight.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _multiply(x: Array, weight: Array, compute_dtype: Any) -> Array:
    return _dot(x.astype(compute_dtype), weight.astype(compute_dtype), _ROWS_BY_COLUMNS)


def _multiply_forward(x: Array, weight: Array, compute_dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    x, rounded = x.astype(compute_dtype), weight.astype(compute_dtype)
    return _dot(x, rounded, _ROWS_BY_COLUMNS), (x, rounded)


def _multiply_backward(compute_dtype: Any, saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, weight = saved
    slope = slope.astype(compute_dtype)
    # The derived gradient would make [O, I] and transpose the activations for it: four times the time of this form.
    return _dot(slope, weight, _ROWS_BY_ROWS), _dot(x, slope, _COLUMNS_BY_COLUMNS)


_multiply.defvjp(_multiply_forward, _multiply_backward)


def _dot(a: Array, b: Array, contraction: Any) -> Array:
    return lax.dot_general(a, b, contraction, preferred_element_type=jnp.float32)

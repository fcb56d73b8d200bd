"""Matrix products with gradients that are spelled out, because XLA's CPU backend is slow on the derived ones.

**In**: rows of activations and matrices of weights, float32.
**Out**: their products in float32; the operands are rounded to `compute_dtype` first.
**Not**: products between activations; attention has its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float


def multiply(x: Float[Array, "*rows I"], weight: Float[Array, "I O"], compute_dtype: Any) -> Float[Array, "*rows O"]:
    """Multiply rows by a matrix.

    >>> multiply(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]]), jnp.float32).tolist()
    [[11.0]]
    """
    return multiply_each(x, (weight,), compute_dtype)[0]


@partial(jax.tree_util.register_dataclass, data_fields=("matrix",), meta_fields=("widths",))
@dataclass(frozen=True, slots=True)
class Joined:
    """Matrices `[I, O]` of the same rows side by side, `matrix` [I all_O], so that no product has to join them."""

    matrix: Any
    widths: tuple[int, ...]

    @classmethod
    def join(cls, weights: Sequence[Array]) -> "Joined":
        """Lay matrices side by side."""
        return cls(jnp.concatenate(weights, axis=1), tuple(weight.shape[1] for weight in weights))

    def split(self, product: Float[Array, "rows all_O"]) -> tuple[Array, ...]:
        """Cut what a product gave into what each matrix would have given."""
        ends = np.cumsum(self.widths)
        return tuple(product[:, end - width : end] for end, width in zip(ends.tolist(), self.widths, strict=True))


def multiply_each(
    x: Float[Array, "*rows I"], weights: tuple[Array, ...] | Joined, compute_dtype: Any
) -> tuple[Array, ...]:
    """Multiply the same rows by several matrices `[I, O]`, in one product."""
    rows, dtype = x.reshape(-1, x.shape[-1]), jnp.dtype(compute_dtype)
    if isinstance(weights, Joined):
        flat = weights.split(multiply(rows, weights.matrix, dtype))
    else:
        flat = _multiply_each(rows, weights, dtype)
    return tuple(y.reshape(*x.shape[:-1], y.shape[-1]) for y in flat)


def multiply_by_rows(
    x: Float[Array, "rows I"], table: Float[Array, "V I"], compute_dtype: Any
) -> Float[Array, "rows V"]:
    """Multiply each row by each row of a table, as the output does with the embedding."""
    return _multiply_by_rows(x, table, jnp.dtype(compute_dtype))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _multiply_each(x: Array, weights: tuple[Array, ...], compute_dtype: Any) -> tuple[Array, ...]:
    return _multiply_each_forward(x, weights, compute_dtype)[0]


def _multiply_each_forward(x: Array, weights: tuple[Array, ...], compute_dtype: Any) -> tuple[tuple[Array, ...], Any]:
    x = x.astype(compute_dtype)
    weights = tuple(w.astype(compute_dtype) for w in weights)
    # Joined, one product reads the rows once; elsewhere joining would move weights that are divided over devices.
    parts = lax.platform_dependent(x, *weights, cpu=_multiply_joined, default=_multiply_apart)
    return parts, (x, weights)


def _multiply_apart(x: Array, *weights: Array) -> tuple[Array, ...]:
    return tuple(dot(x, weight, -1, -2) for weight in weights)


def _multiply_joined(x: Array, *weights: Array) -> tuple[Array, ...]:
    joined = Joined.join(weights)
    return joined.split(dot(x, joined.matrix, -1, -2))


def _multiply_each_backward(
    compute_dtype: Any, saved: tuple[Array, tuple[Array, ...]], slopes: tuple[Array, ...]
) -> tuple[Array, tuple[Array, ...]]:
    x, weights = saved
    slopes = tuple(s.astype(compute_dtype) for s in slopes)
    # Apart, not joined: joining the slopes copies them, which costs more than the larger product saves.
    x_slope = sum(dot(s, w, -1, -1) for s, w in zip(slopes, weights, strict=True))
    return x_slope, tuple(multiply_columns(x, s) for s in slopes)  # type: ignore[return-value]


_multiply_each.defvjp(_multiply_each_forward, _multiply_each_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _multiply_by_rows(x: Array, table: Array, compute_dtype: Any) -> Array:
    return _multiply_by_rows_forward(x, table, compute_dtype)[0]


def _multiply_by_rows_forward(x: Array, table: Array, compute_dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    x, table = x.astype(compute_dtype), table.astype(compute_dtype)
    return dot(x, table, -1, -1), (x, table)


def _multiply_by_rows_backward(compute_dtype: Any, saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, table = saved
    slope = slope.astype(compute_dtype)
    return dot(slope, table, -1, -2), multiply_columns(slope, x)


_multiply_by_rows.defvjp(_multiply_by_rows_forward, _multiply_by_rows_backward)


def multiply_columns(a: Float[Array, "*batch rows M"], b: Float[Array, "*batch rows N"]) -> Float[Array, "*batch M N"]:
    """Multiply each column of `a` by each column of `b`: how a weight's gradient adds up over tokens.

    >>> multiply_columns(jnp.array([[1.0], [10.0]]), jnp.array([[2.0, 3.0], [4.0, 5.0]])).tolist()
    [[42.0, 53.0]]
    """
    product: Array = lax.platform_dependent(a, b, cpu=_multiply_columns_cpu, default=partial(dot, a_axis=-2, b_axis=-2))
    return product


def _multiply_columns_cpu(a: Array, b: Array) -> Array:
    """Keep XLA's CPU backend on its fast paths, whichever way it would turn the operands.

    The narrow operand comes first (measured: 6 against 9 ms). A product of bfloat16 stays bfloat16 only as rows by
    columns; any other is widened to float32. The layout constraints stop XLA from folding the transposes back.
    """
    if a.shape[-1] > b.shape[-1]:
        return _keep_layout(_multiply_columns_cpu(b, a)).swapaxes(-1, -2)
    if a.dtype == jnp.float32 and a.ndim == 2:
        return dot(a, b, -2, -2)
    return dot(_keep_layout(a.swapaxes(-1, -2)), b, -1, -2)


def _keep_layout(matrix: Array) -> Array:
    kept: Array = with_layout_constraint(matrix, Layout(tuple(range(matrix.ndim))))
    return kept


def dot(a: Array, b: Array, a_axis: int, b_axis: int) -> Array:
    """Contract one axis of each, counted from the end; leading axes are batch axes. Adds up in float32."""
    batch = tuple(range(a.ndim - 2))
    contraction = ((a.ndim + a_axis,), (b.ndim + b_axis,))
    return lax.dot_general(a, b, (contraction, (batch, batch)), preferred_element_type=jnp.float32)

"""Products and the gated feed-forward have the gradients that JAX derives from their plain form."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from codegemma.model.feed_forward import gate
from codegemma.model.products import multiply_by_rows, multiply_columns, multiply_each


def compare_gradients(
    ours: Callable[..., Array], plain: Callable[..., Array], *inputs: Array, tolerance: float
) -> None:
    """Compare values and gradients of two functions of the same inputs, relative to their size."""

    def differentiate(function: Callable[..., Array]) -> tuple[Array, ...]:
        value, pull = jax.vjp(function, *inputs)
        return value, *pull(jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape))

    for a, b in zip(jax.jit(lambda: differentiate(ours))(), jax.jit(lambda: differentiate(plain))(), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * float(jnp.max(jnp.abs(b))), rtol=0)


def draw(*shapes: tuple[int, ...]) -> list[Array]:
    return [jax.random.normal(jax.random.key(n), shape) for n, shape in enumerate(shapes)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("widths", [(24, 40), (40, 8)])
def test_products_by_matrices(widths: tuple[int, int], dtype: str, tolerance: float) -> None:
    x, first, second = draw((2, 33, 24), (24, widths[0]), (24, widths[1]))
    compare_gradients(
        lambda x, a, b: jnp.concatenate(multiply_each(x, (a, b), jnp.dtype(dtype)), axis=-1),
        lambda x, a, b: jnp.concatenate([x @ a, x @ b], axis=-1),
        *(x, first, second),
        tolerance=tolerance,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_product_by_the_rows_of_a_table(dtype: str, tolerance: float) -> None:
    x, table = draw((33, 16), (70, 16))
    compare_gradients(
        lambda x, t: multiply_by_rows(x, t, jnp.dtype(dtype)), lambda x, t: x @ t.T, x, table, tolerance=tolerance
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shapes", [((50, 3), (50, 20)), ((50, 20), (50, 3)), ((2, 4, 9, 5), (2, 4, 9, 3))])
def test_columns_by_columns_is_the_product_of_the_transpose(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: str
) -> None:
    a, b = (x.astype(dtype) for x in draw(*shapes))
    expected = a.astype(jnp.float32).swapaxes(-1, -2) @ b.astype(jnp.float32)
    np.testing.assert_allclose(jax.jit(multiply_columns)(a, b), expected, atol=1e-4)


def test_gate_is_tanh_gelu_times_value() -> None:
    opening, value = draw((300,), (300,))
    compare_gradients(gate, lambda o, v: jax.nn.gelu(o, approximate=True) * v, 3 * opening, value, tolerance=1e-5)

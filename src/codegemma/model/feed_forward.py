"""The gated feed-forward of Gemma, with a gradient that is spelled out to touch memory little.

**In**: normalised activations and one layer's weights.
**Out**: what the layer adds, in float32.
**Not**: the norm before it and the sum after it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from codegemma.model.execution import Execution
from codegemma.model.lora import add_low_rank
from codegemma.model.products import Joined, multiply, multiply_each

# Hendrycks and Gimpel (2016): gelu(x) is near 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
_SLOPE = 0.7978845608028654
_CUBIC = 0.044715


def feed_forward(x: Float[Array, "B L D"], layer: dict[str, Any], execution: Execution) -> Float[Array, "B L D"]:
    """Compute `(gelu(x gate) * (x up)) down`, the gelu by its tanh approximation; adapters add to each product."""
    dtype = execution.compute_dtype
    weights = layer["gate_up"]
    products = multiply_each(x, weights if isinstance(weights, Joined) else tuple(weights), dtype)
    opening, value = add_low_rank(products, x, layer, ("gate", "up"), dtype)
    opened = gate(opening.astype(execution.activation_dtype), value.astype(execution.activation_dtype))
    return add_low_rank((multiply(opened, layer["down"], dtype),), opened, layer, ("down",), dtype)[0]


@jax.custom_vjp
def gate(opening: Float[Array, "*rows F"], value: Float[Array, "*rows F"]) -> Float[Array, "*rows F"]:
    """Let the value through as far as gelu opens the gate.

    >>> gate(jnp.array([-9.0, 0.0, 9.0]), jnp.array([5.0, 5.0, 5.0])).tolist()
    [-0.0, 0.0, 45.0]
    """
    wide = opening.astype(jnp.float32)
    return (_gelu(wide) * value).astype(opening.dtype)


def _gate_forward(opening: Array, value: Array) -> tuple[Array, tuple[Array, Array]]:
    return gate(opening, value), (opening, value)


def _gate_backward(saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    opening, value = (x.astype(jnp.float32) for x in saved)
    square = jnp.square(opening)
    bent = jnp.tanh(_SLOPE * opening * (1 + _CUBIC * square))
    inner_slope = _SLOPE * (1 + 3 * _CUBIC * square)
    gelu_slope = 0.5 * (1 + bent) + 0.5 * opening * (1 - jnp.square(bent)) * inner_slope
    slopes = slope * value * gelu_slope, slope * 0.5 * opening * (1 + bent)
    return slopes[0].astype(saved[0].dtype), slopes[1].astype(saved[1].dtype)


gate.defvjp(_gate_forward, _gate_backward)


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + jnp.tanh(_SLOPE * x * (1 + _CUBIC * jnp.square(x))))

"""How many floating-point operations a step takes, counted on the program that JAX traced.

**In**: a function and the shapes of its arguments; the shape of a model.
**Out**: operations of matrix products as written, recomputation included; and what the model alone needs.
**Not**: element-wise work, which is small; XLA's own count, which takes the body of a loop once (training study, 2.4).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

from codegemma.model.config import GemmaConfig


def count_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Count the operations of all matrix products, over all devices; arrays may be `ShapeDtypeStruct`.

    Kernels of Pallas are not looked into: add `count_attention`.

    >>> import jax.numpy as jnp
    >>> count_flops(jnp.dot, jnp.zeros((2, 3)), jnp.zeros((3, 5)))
    60
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            total += _count_product(equation)
        elif name == "cond":
            # Branches are the same product written for different platforms.
            total += max(_count(branch.jaxpr) for branch in equation.params["branches"])
        elif name != "pallas_call":
            total += _count_repeats(equation) * sum(_count(inner) for inner in _list_inner(equation.params))
    return total


def _count_product(equation: Any) -> int:
    (_, right_contracted), (_, right_batch) = equation.params["dimension_numbers"]
    left, right = (tuple(map(int, value.aval.shape)) for value in equation.invars)
    taken = {*right_contracted, *right_batch}
    return 2 * math.prod(left) * math.prod(size for axis, size in enumerate(right) if axis not in taken)


def _count_repeats(equation: Any) -> int:
    if equation.primitive.name == "scan":
        return int(equation.params["length"])
    if equation.primitive.name == "shard_map":
        mesh = equation.params["mesh"]
        return math.prod(mesh.shape[axis] for axis in equation.params["newly_manual_axes"])
    return 1


def _list_inner(parameters: dict[str, Any]) -> Iterator[Any]:
    for value in parameters.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            inner = item if hasattr(item, "eqns") else getattr(item, "jaxpr", None)
            if hasattr(inner, "eqns"):
                yield inner


def count_attention(config: GemmaConfig, row_tokens: int, *, is_causal: bool = True) -> float:
    """Count one token's operations of attention, forward and backward: scores and mixing, twice again backward.

    `is_causal` counts half, as a kernel computes it and MaxText counts since July 2025; without, older figures.
    """
    whole = 12.0 * config.num_layers * config.num_heads * config.head_dim * row_tokens
    return whole / 2 if is_causal else whole


def count_model(
    config: GemmaConfig, row_tokens: int, *, is_causal: bool = True, adapter_parameters: int | None = None
) -> float:
    """Count what a token of training needs, without recomputation: 6 for each parameter, and attention (2.4).

    Where adapters of so many parameters are trained, the model's own get no gradient: 4 for each of these.

    >>> from codegemma.model.config import codegemma_2b
    >>> round(count_model(codegemma_2b(), 8192) / 1e10, 3)
    1.685
    """
    own = config.count_parameters()
    products = 6.0 * own if adapter_parameters is None else 4.0 * own + 6.0 * adapter_parameters
    return products + count_attention(config, row_tokens, is_causal=is_causal)

"""Weights of eight or four bits as qwix arrays, which `gemma.py` takes in the place of float ones.

**In**: parameters in float.
**Out**: the same dictionary with a `QArray` for each matrix: integers, and a scale for each output (8 bits) or for each
group of inputs of an output (4 bits). Norms stay float; the embedding, which is the output too, keeps 8 bits.
**Not**: files (`quantized_folder.py`), no gradients of integers, and no quantised activations: a layer is widened when
its turn comes, so products are those of floats.
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from codegemma.errors import MissingExtraError
from codegemma.model.products import multiply_by_rows

Bits = Literal[8, 4]

# Inputs that share a scale in 4 bits; where it does not divide a width, the largest divisor below it does. With 128 the
# shipped base needs 1.34 % more bits per byte than in floats, with 32 0.97 % (one-off measurement).
GROUP_INPUTS = 32
# Rows of the embedding that are floats at the same time while scores are computed: 64 MB in CodeGemma 2B.
_OUTPUT_ROWS = 8192
# Axes over which a product adds up, counted without the layer axis and the axis of pairs; the last is cut in groups.
_INPUT_AXES = {"emb": (1,), "q": (0,), "kv": (0,), "o": (0, 1), "gate_up": (0,), "down": (0,)}
_PAIRED = frozenset({"kv", "gate_up"})


def quantize_params(params: Mapping[str, Any], bits: Bits) -> dict[str, Any]:
    """Round every matrix to the nearest integers, a layer at a time.

    Raises:
        MissingExtraError: the extra `quant` is not installed.
    """
    return {name: _quantize(name, value, bits) if name in _INPUT_AXES else value for name, value in params.items()}


def _quantize(name: str, stack: Array, bits: Bits) -> Any:
    if name == "emb":
        return _quantize_matrix(stack, _INPUT_AXES[name], 8)
    axes = tuple(axis + (name in _PAIRED) for axis in _INPUT_AXES[name])
    layers = [_quantize_matrix(matrix, axes, bits) for matrix in stack]
    return jax.tree.map(lambda *parts: jnp.stack(parts), *layers)


def _quantize_matrix(matrix: Array, input_axes: tuple[int, ...], bits: Bits) -> Any:
    qwix = _import_qwix()
    outputs = [axis for axis in range(matrix.ndim) if axis not in input_axes]
    if bits == 8:
        return qwix.quantize(matrix, "int8", channelwise_axes=outputs)
    cut = input_axes[-1]
    integers, scales = _round_groups(matrix, cut, find_divisor(matrix.shape[cut], GROUP_INPUTS))
    return qwix.QArray(qvalue=integers, scale=scales, qtype="int4")


def _round_groups(matrix: Array, axis: int, group: int) -> tuple[Array, Array]:
    """Round each group of neighbours along an axis to -8 to 7 times its scale, as llama.cpp's Q4_0 does.

    The number that is furthest from 0 becomes -8, so all sixteen values are of use; qwix's own symmetric rounding
    leaves one out (1.11 % more bits per byte on the shipped base against 0.97 %, one-off measurement).

    >>> integers, scales = _round_groups(jnp.array([4.0, -1.0, 3.0, 0.0]), 0, 4)
    >>> integers.tolist(), scales.tolist()
    ([-8, 2, -6, 0], [-0.5])
    """
    groups = matrix.reshape(*matrix.shape[:axis], -1, group, *matrix.shape[axis + 1 :])
    furthest = jnp.take_along_axis(groups, jnp.argmax(jnp.abs(groups), axis + 1, keepdims=True), axis + 1)
    scales = (furthest / -8).astype(jnp.bfloat16)
    scales = jnp.where(scales == 0, jnp.ones_like(scales), scales)
    integers = jnp.clip(jnp.round(groups / scales.astype(jnp.float32)), -8, 7).astype(jnp.int4)
    return integers.reshape(matrix.shape), scales.squeeze(axis + 1)


def find_divisor(length: int, most: int) -> int:
    """Return the largest divisor of `length` that is at most `most`.

    >>> find_divisor(2048, 128), find_divisor(192, 128), find_divisor(256_000, 8192)
    (128, 96, 8000)
    """
    return max(size for size in range(1, min(length, most) + 1) if length % size == 0)


def widen(weight: Any) -> Array:
    """Return a weight as floats; one that is floats already comes back as it is."""
    if isinstance(weight, jax.Array):
        return weight
    # The type of the scales would be that of the floats.
    floats: Array = _import_qwix().dequantize(weight.replace(scale=weight.scale.astype(jnp.float32)))
    return floats


def take_rows(table: Any, ids: Int[Array, "B L"]) -> Float[Array, "B L D"]:
    """Take rows of a table of integers, and widen only these."""
    rows: Array = widen(jax.tree.map(lambda leaf: leaf[ids], table))
    return rows


def score_rows(x: Float[Array, "rows I"], table: Any, compute_dtype: Any) -> Float[Array, "rows V"]:
    """Multiply each row by each row of a table, which is widened some rows at a time."""
    if isinstance(table, jax.Array):
        return multiply_by_rows(x, table, compute_dtype)
    size = find_divisor(table.shape[0], _OUTPUT_ROWS)
    parts = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), table)
    scores: Array = lax.map(lambda part: multiply_by_rows(x, widen(part), compute_dtype), parts)
    return scores.swapaxes(0, 1).reshape(x.shape[0], -1)


def _import_qwix() -> Any:
    try:
        import qwix
    except ImportError as error:
        raise MissingExtraError(f"integer weights need {error.name}; install codegemma[quant]") from error
    return qwix

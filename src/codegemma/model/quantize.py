"""Weights of eight or four bits as qwix arrays, which `gemma.py` takes in the place of float ones.

**In**: parameters in float; or a folder of integers.
**Out**: the dictionary of parameters with a `QArray` for each matrix.
**Not**: how numbers are rounded and kept (`formats/integers.py`), no gradients of integers, and no quantised
activations: a layer is widened when its turn comes, so products are those of floats.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from codegemma.errors import MissingExtraError
from codegemma.model.config import GemmaConfig
from codegemma.model.formats.integers import Integers, find_divisor, is_rounded, read_integers, recognize, round_part
from codegemma.model.formats.parts import list_parts
from codegemma.model.formats.table import open_weights
from codegemma.model.products import multiply_by_rows

Bits = Literal[8, 4]

# Rows of the embedding that are floats at the same time while scores are computed: 64 MB in CodeGemma 2B.
_OUTPUT_ROWS = 8192
# How many axes of a stack come before its parts; one for layers where nothing else is said.
_STACKED_AXES = {"emb": 0, "kv": 2, "gate_up": 2}


def quantize_params(params: Mapping[str, Array], bits: Bits) -> dict[str, Any]:
    """Round every matrix to the nearest integers, a part at a time.

    Raises:
        MissingExtraError: the extra `quant` is not installed.
    """
    return {name: _quantize(name, value, bits) if is_rounded(name) else value for name, value in params.items()}


def load_quantized(place: Path) -> tuple[dict[str, Any], GemmaConfig] | None:
    """Read a folder of integers as it is; `None` for any other place.

    Raises:
        InputError: the folder is damaged.
        MissingExtraError: the extra `quant` is not installed.
    """
    if not recognize(place):
        return None
    config, parts = read_integers(place)
    stacks: dict[str, list[Any]] = {}
    for part, value in parts:
        stacks.setdefault(part.name, []).append(value)
    shapes = config.shape_params()
    return {name: _join(stacks.pop(name), shapes[name]) for name in shapes}, config


def load_rounded(place: Path, bits: Bits) -> tuple[dict[str, Any], GemmaConfig]:
    """Read a model of any format and round its matrices while they are read: no more than one of them is in floats.

    Raises:
        InputError: as `load_model`.
        MissingExtraError: the extra `quant` is not installed.
    """
    weights = open_weights(place)
    stacks: dict[str, list[Any]] = {}
    for part in list_parts(weights.config):
        floats = np.concatenate([np.asarray(block, np.float32) for _, block in weights.read_blocks(part)])
        stacks.setdefault(part.name, []).append(
            round_part(part.name, floats, bits) if is_rounded(part.name) else floats
        )
    shapes = weights.config.shape_params()
    return {name: _join(stacks.pop(name), shapes[name]) for name in shapes}, weights.config


def _quantize(name: str, stack: Array, bits: Bits) -> Any:
    parts = np.asarray(stack, np.float32)
    shape = parts.shape[_STACKED_AXES.get(name, 1) :]
    return _join([round_part(name, part, bits) for part in parts.reshape(-1, *shape)], stack.shape)


def _join(parts: Sequence[np.ndarray | Integers], shape: tuple[int, ...]) -> Any:
    """Stack parts as the layers lie; their shapes are the last axes of `shape`."""
    first = parts[0]
    stacked = shape[: len(shape) - (first.values if isinstance(first, Integers) else first).ndim]
    if not isinstance(first, Integers):
        return jnp.asarray(np.stack(parts).reshape(shape))
    values = np.stack([part.values for part in parts if isinstance(part, Integers)])
    scales = np.stack([part.scales for part in parts if isinstance(part, Integers)])
    return _import_qwix().QArray(
        qvalue=jnp.asarray(values.reshape(shape)),
        scale=jnp.asarray(scales.reshape(*stacked, *scales.shape[1:])),
        qtype=str(values.dtype),
    )


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
    """Multiply each row by each row of a table; one that has to be widened is, some rows at a time."""
    is_plain = isinstance(table, jax.Array)
    if is_plain and jnp.dtype(compute_dtype).itemsize <= table.dtype.itemsize:
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

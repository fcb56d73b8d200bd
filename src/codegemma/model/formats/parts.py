"""What every checkpoint format speaks: a model's weights as parts, one tensor of one layer each, read when wanted.

**In**: a shape; from a format, a function that finds a part.
**Out**: `Weights`, an opened checkpoint of which nothing was read yet; its parts in the layout of `gemma.py`.
**Not**: files, and no devices: arrays here are numpy's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from codegemma.errors import InputError
from codegemma.model.config import CONFIG_NAME, GemmaConfig

# Flax checkpoints of Gemma carry 128 embedding rows more than the vocabulary has; they mean nothing.
MAX_PADDING_ROWS = 128
# What is in memory at a time while weights pass through.
BLOCK_BYTES = 32 * 2**20
# The types that weights may be stored as and converted to: what the command line and config.json call them.
DTYPES = {
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
}
_PAIRED = ("kv", "gate_up")
_PER_LAYER = ("attn_norm", "q", "kv", "o", "ffw_norm", "gate_up", "down")


class Part(NamedTuple):
    """One tensor: the name of its stack in `gemma.py`, and where in the stack it lies.

    >>> str(Part("kv", (3, 1)))
    'kv[3, 1]'
    """

    name: str
    at: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Spell it for a message."""
        return f"{self.name}{list(self.at) if self.at else ''}"


@dataclass(frozen=True, slots=True)
class Weights:
    """An opened checkpoint, whose names, shapes and types were checked.

    `read` gives some rows of a part (of its first axis in our layout), often as a view of a mapped file. `dtype` is the
    narrowest type that holds all of it exactly. `files` are what decides its content, `companions` what else a single
    file holds: name to content.
    """

    place: Path
    format: str
    config: GemmaConfig
    dtype: np.dtype[Any]
    read: Callable[[Part, slice], np.ndarray]
    files: tuple[Path, ...] = ()
    companions: Mapping[str, bytes] = field(default_factory=dict)

    def read_blocks(self, part: Part) -> Iterator[tuple[int, np.ndarray]]:
        """Yield a part's rows from the first to the last, with the number of the first row in each block.

        Only the embedding, which is stored by rows everywhere, is cut into blocks; other parts come whole.
        """
        shape = shape_part(self.config, part)
        step = count_rows(shape, self.dtype) if part.name == "emb" else shape[0]
        for start in range(0, shape[0], step):
            yield start, self.read(part, slice(start, min(start + step, shape[0])))


def list_parts(config: GemmaConfig) -> Iterator[Part]:
    """Name every part of a model, stack by stack.

    >>> config = GemmaConfig(512, 16, 1, num_heads=1, num_kv_heads=1, head_dim=16, mlp_dim=32)
    >>> " ".join(map(str, list_parts(config)))
    'emb attn_norm[0] q[0] kv[0, 0] kv[0, 1] o[0] ffw_norm[0] gate_up[0, 0] gate_up[0, 1] down[0] final_norm'
    """
    layers = range(config.num_layers)
    for name in config.shape_params():
        if name not in _PER_LAYER:
            yield Part(name)
        elif name in _PAIRED:
            yield from (Part(name, (layer, pair)) for layer in layers for pair in (0, 1))
        else:
            yield from (Part(name, (layer,)) for layer in layers)


def shape_part(config: GemmaConfig, part: Part) -> tuple[int, ...]:
    """Tell the shape of a part in our layout."""
    return config.shape_params()[part.name][len(part.at) :]


def count_rows(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Count the rows of an array that make one block, at least one.

    >>> count_rows((256_000, 2048), np.dtype(np.float32))
    4096
    """
    row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    return max(1, BLOCK_BYTES // row_bytes)


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Make an array that begins at a multiple of 64 bytes: JAX takes such a one over on a CPU without a copy.

    Raises:
        InputError: more than memory holds.
    """
    size = dtype.itemsize * int(np.prod([int(length) for length in shape], dtype=object))
    try:
        raw = np.empty(size + 64, np.uint8)
    except (MemoryError, ValueError, OverflowError) as error:  # numpy refuses what no machine holds as a ValueError
        raise InputError(
            f"an array of shape {list(shape)} as {dtype} is more than memory holds; take the config.json that came "
            "with the weights, or a machine with more memory"
        ) from error
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def widen(dtypes: set[np.dtype[Any]]) -> np.dtype[Any]:
    """Tell the narrowest type that holds values of all these exactly.

    >>> widen({DTYPES["bf16"]}), widen({DTYPES["bf16"], DTYPES["f16"]})
    (dtype(bfloat16), dtype('float32'))
    """
    return next(iter(dtypes)) if len(dtypes) == 1 else DTYPES["f32"]


def check_dtype(dtype: Any, what: str) -> np.dtype[Any]:
    """Take a stored type if weights can have it.

    Raises:
        InputError: any other; `what` names the tensor.
    """
    if dtype not in DTYPES.values():
        raise InputError(
            f"{what} is stored as {dtype}; wanted {', '.join(map(str, DTYPES.values()))}: take weights that are not "
            "quantised, or another format of the same model"
        )
    known: np.dtype[Any] = np.dtype(dtype)
    return known


def check_shape(found: tuple[int, ...], wanted: tuple[int, ...], what: str, max_padding_rows: int = 0) -> None:
    """Compare a tensor's shape with what the configuration asks for; some extra rows may be padding.

    Raises:
        InputError: another shape; `what` names the tensor.
    """
    is_padded = found[1:] == wanted[1:] and len(found) > 1 and 0 < found[0] - wanted[0] <= max_padding_rows
    if found != wanted and not is_padded:
        raise InputError(
            f"{what} is {list(found)}; {CONFIG_NAME} asks for {list(wanted)}; "
            f"take {CONFIG_NAME} and weights of the same model"
        )


def refuse_extra(names: Iterable[str], what: str) -> None:
    """Refuse tensors that a model of this configuration has no place for: they would be lost in silence.

    Raises:
        InputError: there are some; `what` names the file.
    """
    extra = sorted(names)
    if extra:
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise InputError(
            f"{what} holds {extra[0]}{more}, for which the Gemma 1 that {CONFIG_NAME} describes has no place; take "
            f"{CONFIG_NAME} and weights of the same model, and merge an adapter before"
        )

"""Safetensors files, mapped and streamed: https://github.com/huggingface/safetensors, section "Format".

**In**: a file; or names, shapes and types of tensors, and then their bytes in order.
**Out**: views of the mapped file by name; or a file, written a block at a time.
**Not**: which tensors a model has (`huggingface.py`). The library's own reader checks a file here; its writer wants all
tensors in memory twice.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from codegemma.errors import InputError

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_SPELLINGS = {dtype: name for name, dtype in _DTYPES.items()}
_LENGTH_BYTES = 8
# What a header says of a tensor: shape and type.
Shapes = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """Map a file: tensor name to a view, of which nothing was read yet. Types that numpy has not are passed over.

    Raises:
        InputError: no safetensors, or cut off.
    """
    try:
        with safe_open(path, framework="numpy"):  # checks the header, and that the bytes it promises are there
            pass
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            header = json.loads(file.read(header_bytes))
        data = np.memmap(path, np.uint8, mode="r")[_LENGTH_BYTES + header_bytes :]
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is cut off or not safetensors ({error}); copy the model folder again") from error
    tensors = {}
    for name, about in header.items():
        if name != "__metadata__" and (dtype := _DTYPES.get(about["dtype"])) is not None:
            start, end = about["data_offsets"]
            tensors[name] = data[start:end].view(dtype).reshape(about["shape"])
    return tensors


def write_tensors(path: Path, shapes: Shapes, blocks: Iterable[np.ndarray]) -> None:
    """Write a file from blocks, which are the tensors of `shapes` one after the other, cut anywhere.

    Raises:
        OSError: no permission, no space.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (shape, dtype) in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _SPELLINGS[dtype], "shape": list(shape), "data_offsets": [start, end]}
    spelled = json.dumps(header, separators=(",", ":")).encode()
    spelled += b" " * (-len(spelled) % _LENGTH_BYTES)  # tensors begin at a multiple of eight bytes
    with path.open("wb") as file:
        file.write(len(spelled).to_bytes(_LENGTH_BYTES, "little") + spelled)
        for block in blocks:
            file.write(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
    written = path.stat().st_size - _LENGTH_BYTES - len(spelled)
    if written != end:
        raise AssertionError(f"{path}: {written} bytes written, {end} promised")


def divide(shapes: Shapes, max_bytes: int) -> Iterator[dict[str, tuple[tuple[int, ...], np.dtype[Any]]]]:
    """Divide tensors over files, in order, each file as full as it may be.

    >>> four = (2, 2), np.dtype(np.float32)
    >>> [list(group) for group in divide({"a": four, "b": four, "c": four}, max_bytes=40)]
    [['a', 'b'], ['c']]
    """
    group: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
    size = 0
    for name, (shape, dtype) in shapes.items():
        tensor_bytes = math.prod(shape) * dtype.itemsize
        if group and size + tensor_bytes > max_bytes:
            yield group
            group, size = {}, 0
        group[name] = shape, dtype
        size += tensor_bytes
    yield group

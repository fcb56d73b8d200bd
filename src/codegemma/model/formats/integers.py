"""Weights of eight or four bits: integers and their scales, part by part, in one safetensors file.

**In**: opened weights of any format; or a folder that was written from them.
**Out**: the folder; or `Weights` of the floats that the integers stand for, and the integers themselves by part.
**Not**: a folder for other programs: they take GGUF. Norms stay float32; the embedding, which is the output too, keeps
eight bits. Two integers of four bits share a byte, the first in its lower half.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from codegemma.errors import InputError
from codegemma.model.config import CONFIG_NAME, GemmaConfig
from codegemma.model.formats.folder import read_config, write_config
from codegemma.model.formats.parts import DTYPES, Part, Weights, list_parts, refuse_extra, shape_part
from codegemma.model.formats.safetensors_file import map_tensors, write_tensors

FILE_NAME = "integers.safetensors"
BITS = {"int8": 8, "int4": 4}

# Inputs that share a scale in 4 bits; where it does not divide a width, the largest divisor below it does. With 128 the
# shipped base needs 1.34 % more bits per byte than in floats, with 32 0.97 % (one-off measurement).
GROUP_INPUTS = 32
# Axes of a part over which a product adds up; four bits cut the last of them in groups. Norms are not multiplied by.
_INPUT_AXES = {"emb": (1,), "q": (0,), "kv": (0,), "o": (0, 1), "gate_up": (0,), "down": (0,)}
_INT8, _INT4 = np.dtype(np.int8), np.dtype(ml_dtypes.int4)


class Integers(NamedTuple):
    """A rounded matrix: int8 with a float32 scale for each output, or int4 with a bfloat16 scale for each group."""

    values: np.ndarray
    scales: np.ndarray


def is_rounded(name: str) -> bool:
    """Tell whether the parts of a stack become integers."""
    return name in _INPUT_AXES


def round_part(name: str, matrix: np.ndarray, bits: int) -> Integers:
    """Round a part, or some rows of the embedding, to the nearest integers.

    >>> came = round_part("down", np.array([[4.0], [-1.0], [3.0], [0.0]]), bits=4)
    >>> came.values.ravel().tolist(), came.scales.ravel().tolist()
    ([-8, 2, -6, 0], [-0.5])
    """
    axes = _INPUT_AXES[name]
    if bits == 8 or name == "emb":
        scales = _avoid_zero(np.abs(matrix).max(axis=axes, keepdims=True).astype(np.float32) / 127)
        return Integers(np.rint(matrix / scales).astype(_INT8), scales)
    groups = _cut(matrix, axes[-1])
    # As Q4_0 of llama.cpp: what is furthest from 0 becomes -8, so that all sixteen values are of use. A symmetric
    # rounding leaves one out (1.11 % more bits per byte on the shipped base against 0.97 %, one-off measurement).
    axis = axes[-1] + 1
    furthest = np.take_along_axis(groups, np.abs(groups).argmax(axis, keepdims=True), axis)
    scales = _avoid_zero((furthest / -8).astype(DTYPES["bf16"]))
    values = np.clip(np.rint(groups / scales.astype(np.float32)), -8, 7).astype(_INT8).astype(_INT4)
    return Integers(values.reshape(matrix.shape), scales.squeeze(axis))


def widen(name: str, integers: Integers) -> np.ndarray:
    """Return the floats that integers stand for."""
    values = integers.values.astype(np.float32)
    if integers.values.dtype == _INT8:
        plain: np.ndarray = values * integers.scales
        return plain
    axis = _INPUT_AXES[name][-1]
    scales = np.expand_dims(integers.scales.astype(np.float32), axis + 1)
    floats: np.ndarray = (_cut(values, axis) * scales).reshape(values.shape)
    return floats


def recognize(place: Path) -> bool:
    """Tell whether a folder is one of these."""
    return (place / FILE_NAME).is_file()


def open_weights(place: Path) -> Weights:
    """Open a folder as the floats that its integers stand for; nothing is read yet.

    Raises:
        InputError: cut off; a tensor is missing or of another shape or type than `config.json` asks for.
    """
    config = _read_shape(place)
    tensors = _map(place, config)

    def read(part: Part, rows: slice) -> np.ndarray:
        if not is_rounded(part.name):
            return tensors[str(part)][rows]
        if part.name == "emb":
            return widen("emb", Integers(tensors[_name_values(part)][rows], tensors[_name_scales(part)][rows]))
        return widen(part.name, _take(tensors, config, part))[rows]

    return Weights(place, "qwix", config, DTYPES["f32"], read, (place / CONFIG_NAME, place / FILE_NAME))


def read_integers(place: Path) -> tuple[GemmaConfig, Iterator[tuple[Part, np.ndarray | Integers]]]:
    """Read the shape, and the parts one by one as they are: norms as floats, matrices as integers.

    Raises:
        InputError: as `open_weights`.
    """
    config = _read_shape(place)
    tensors = _map(place, config)
    return config, (
        (part, _take(tensors, config, part) if is_rounded(part.name) else tensors[str(part)])
        for part in list_parts(config)
    )


def write_weights(folder: Path, weights: Weights, bits: Any) -> None:
    """Write the integers and `config.json` into an empty folder; eight bits where floats are asked for."""
    count = bits if isinstance(bits, int) else 8
    shapes = {
        name: about for part in list_parts(weights.config) for name, about in _describe(weights.config, part, count)
    }
    write_tensors(folder / FILE_NAME, shapes, _spell_blocks(weights, count))
    write_config(folder, weights.config, f"int{count}")


def _spell_blocks(weights: Weights, bits: int) -> Iterator[np.ndarray]:
    for part in list_parts(weights.config):
        scales = []
        for _, block in weights.read_blocks(part):
            floats = block.astype(np.float32)
            if not np.isfinite(floats).all():
                raise InputError(f"{weights.place}: {part} holds numbers that are not finite; look how it was trained")
            if not is_rounded(part.name):
                yield floats
                continue
            integers = round_part(part.name, floats, bits)
            scales.append(integers.scales)
            yield _pack(integers.values) if integers.values.dtype == _INT4 else integers.values
        yield from scales


def _name_values(part: Part) -> str:
    return f"{part}.values"


def _name_scales(part: Part) -> str:
    return f"{part}.scales"


def _describe(config: GemmaConfig, part: Part, bits: int) -> Iterator[tuple[str, tuple[tuple[int, ...], Any]]]:
    """Tell the tensors of a part: name, shape and type, in the order of the file."""
    shape = shape_part(config, part)
    if not is_rounded(part.name):
        yield str(part), (shape, DTYPES["f32"])
        return
    axes = _INPUT_AXES[part.name]
    if bits == 8 or part.name == "emb":
        yield _name_values(part), (shape, _INT8)
        yield _name_scales(part), (tuple(1 if a in axes else n for a, n in enumerate(shape)), DTYPES["f32"])
        return
    groups = tuple(n // find_divisor(n, GROUP_INPUTS) if a == axes[-1] else n for a, n in enumerate(shape))
    yield _name_values(part), ((-(-int(np.prod(shape)) // 2),), np.dtype(np.uint8))
    yield _name_scales(part), (groups, DTYPES["bf16"])


def _read_shape(place: Path) -> GemmaConfig:
    config = read_config(place)
    if config is None:
        raise InputError(f"{place} is not a model folder: it has no {CONFIG_NAME}; copy it again")
    return config


def _map(place: Path, config: GemmaConfig) -> dict[str, np.ndarray]:
    tensors = map_tensors(place / FILE_NAME)
    bits = 4 if any(tensor.dtype == np.uint8 for tensor in tensors.values()) else 8
    names: set[str] = set()
    for part in list_parts(config):
        for name, (shape, dtype) in _describe(config, part, bits):
            names.add(name)
            found = tensors.get(name)
            if found is None or found.shape != shape or found.dtype != dtype:
                came = "nothing" if found is None else f"{list(found.shape)} {found.dtype}"
                raise InputError(
                    f"{place / FILE_NAME}: {name} is {came}; {CONFIG_NAME} asks for {list(shape)} {dtype}; "
                    "convert the model again"
                )
    refuse_extra(tensors.keys() - names, str(place / FILE_NAME))
    return tensors


def _take(tensors: dict[str, np.ndarray], config: GemmaConfig, part: Part) -> Integers:
    values, scales = tensors[_name_values(part)], tensors[_name_scales(part)]
    return Integers(_unpack(values, shape_part(config, part)) if values.dtype == np.uint8 else values, scales)


def find_divisor(length: int, most: int) -> int:
    """Return the largest divisor of `length` that is at most `most`.

    >>> find_divisor(2048, 32), find_divisor(150, 32), find_divisor(256_000, 8192)
    (32, 30, 8000)
    """
    return max(size for size in range(1, min(length, most) + 1) if length % size == 0)


def _cut(matrix: np.ndarray, axis: int) -> np.ndarray:
    group = find_divisor(matrix.shape[axis], GROUP_INPUTS)
    return matrix.reshape(*matrix.shape[:axis], -1, group, *matrix.shape[axis + 1 :])


def _avoid_zero(scales: np.ndarray) -> np.ndarray:
    return np.where(scales == 0, np.ones_like(scales), scales)


def _pack(values: np.ndarray) -> np.ndarray:
    """Put two integers of four bits into each byte.

    >>> _pack(np.array([1, -1, 7], ml_dtypes.int4)).tolist()
    [241, 7]
    """
    halves = values.reshape(-1).astype(np.int8).view(np.uint8) & 0xF
    halves = np.pad(halves, (0, len(halves) % 2))
    packed: np.ndarray = halves[::2] | (halves[1::2] << 4)
    return packed


def _unpack(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Take them apart again.

    >>> _unpack(np.array([241, 7], np.uint8), (3,)).tolist()
    [1, -1, 7]
    """
    halves = np.stack([packed & 0xF, packed >> 4], axis=-1).reshape(-1)[: int(np.prod(shape))]
    return ((halves ^ 8).view(np.int8) - np.int8(8)).astype(_INT4).reshape(shape)

"""A model folder with weights of eight or four bits.

**In**: parameters that `quantize_params` made; or a folder with them.
**Out**: the folder: `config.json`, which names the bits, and safetensors with integers and scales under our names; or
the parameters as they were, bit for bit. Two integers of four bits share a byte, the first in its lower half.
**Not**: a folder for other programs: they take GGUF (`gguf.py`).
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.quantize import Bits, quantize_params

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
METHOD = "codegemma"


def write_quantized(folder: Path, params: dict[str, Any], config: GemmaConfig, bits: Bits) -> None:
    """Write `config.json` and the weights into a folder that is there."""
    tensors: dict[str, np.ndarray] = {}
    for name, value in params.items():
        if isinstance(value, jax.Array):
            tensors[name] = np.asarray(value)
            continue
        integers = np.asarray(value.qvalue)
        tensors[f"{name}.integers"] = _pack(integers) if value.qtype == "int4" else integers
        tensors[f"{name}.scales"] = np.asarray(value.scale)
    plain = config.to_hf_dict() | {"quantization_config": {"quant_method": METHOD, "bits": bits}}
    save_file(tensors, folder / WEIGHTS_NAME)
    (folder / CONFIG_NAME).write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def find_bits(plain: dict[str, Any]) -> Bits | None:
    """Tell from a `config.json` how many bits its weights have; `None` if they are floats.

    >>> find_bits({"quantization_config": {"quant_method": "codegemma", "bits": 4}})
    4

    Raises:
        InputError: weights that another program quantised.
    """
    found = plain.get("quantization_config")
    if found is None:
        return None
    if not isinstance(found, dict) or found.get("quant_method") != METHOD or found.get("bits") not in (4, 8):
        raise InputError(
            f"{CONFIG_NAME} has the quantization_config {found!r}; take the weights that were not quantised, and "
            "convert them with --dtype int8 or int4"
        )
    return 4 if found["bits"] == 4 else 8


def read_quantized(folder: Path, config: GemmaConfig, bits: Bits) -> dict[str, Any]:
    """Read the weights of such a folder.

    Raises:
        InputError: the file is missing or cut off, or a tensor is missing or of another shape or type.
        MissingExtraError: the extra `quant` is not installed.
    """
    path = folder / WEIGHTS_NAME
    # What they must be, from the function that makes them: shapes only, nothing is computed.
    floats = {name: _describe(shape) for name, shape in config.shape_params().items()}
    wanted = jax.eval_shape(lambda params: quantize_params(params, bits), floats)
    try:
        with safe_open(path, framework="numpy") as weights:
            known = set(weights.keys())
            return {name: _read(weights, known, path, name, value) for name, value in wanted.items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is missing, cut off or not safetensors ({error}); copy the model again") from error


def _describe(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _read(weights: Any, known: set[str], path: Path, name: str, wanted: Any) -> Any:
    if isinstance(wanted, jax.ShapeDtypeStruct):
        return jnp.asarray(_read_tensor(weights, known, path, name, wanted.shape, "float32"))
    shape, is_packed = wanted.qvalue.shape, wanted.qtype == "int4"
    stored_shape = (-(-int(np.prod(shape)) // 2),) if is_packed else shape
    stored = _read_tensor(weights, known, path, f"{name}.integers", stored_shape, "uint8" if is_packed else "int8")
    scales = _read_tensor(weights, known, path, f"{name}.scales", wanted.scale.shape, str(wanted.scale.dtype))
    integers = jnp.asarray(_unpack(stored, shape), jnp.int4) if is_packed else jnp.asarray(stored)
    return wanted.replace(qvalue=integers, scale=jnp.asarray(scales))


def _read_tensor(
    weights: Any, known: set[str], path: Path, name: str, shape: tuple[int, ...], dtype: str
) -> np.ndarray:
    tensor = weights.get_tensor(name) if name in known else None
    if tensor is None or tensor.shape != shape or tensor.dtype != dtype:
        found = "nothing" if tensor is None else f"{list(tensor.shape)} {tensor.dtype}"
        raise InputError(f"{path}: {name} is {found}; {CONFIG_NAME} asks for {list(shape)} {dtype}; convert it again")
    return tensor  # type: ignore[no-any-return]


def _pack(integers: np.ndarray) -> np.ndarray:
    """Put two integers of four bits into each byte.

    >>> _pack(np.array([1, -1, 7])).tolist()
    [241, 7]
    """
    halves = integers.reshape(-1).astype(np.int8).view(np.uint8) & 0xF
    halves = np.pad(halves, (0, len(halves) % 2))
    packed: np.ndarray = halves[::2] | (halves[1::2] << 4)
    return packed


def _unpack(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Take them apart again.

    >>> _unpack(np.array([241, 7], np.uint8), (3,)).tolist()
    [1, -1, 7]
    """
    halves = np.stack([packed & 0xF, packed >> 4], axis=-1).reshape(-1)[: int(np.prod(shape))]
    return ((halves ^ 8).astype(np.int8) - 8).reshape(shape)

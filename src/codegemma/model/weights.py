"""A model folder in the layout of Hugging Face: `config.json` and safetensors.

**In**: parameters and a shape; or a folder written by this project, by transformers or by Google.
**Out**: the folder, whole or not at all; or the parameters (float32) and the shape.
**Not**: tokenizers (hand their files over as `extra_files`), pickles and other formats.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from codegemma.errors import InputError, OutputError
from codegemma.model.config import CONFIG_NAME, GemmaConfig, from_hf_dict
from codegemma.model.gemma import Params

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
# Flax checkpoints of Gemma carry 128 embedding rows more than the vocabulary has; they mean nothing.
_MAX_PADDING_ROWS = 128
_READABLE_DTYPES = frozenset({"F32", "F16", "BF16"})

# Ours -> Hugging Face's below `model.layers.<n>.`. Their matrices are [outputs, inputs]: ours transposed, heads merged.
# Their `post_attention_layernorm` is the norm before the feed-forward.
_LAYER_TENSORS = {
    "attn_norm": ("input_layernorm",),
    "q": ("self_attn.q_proj",),
    "kv": ("self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "ffw_norm": ("post_attention_layernorm",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


def describe_model(folder: Path) -> GemmaConfig:
    """Read the shape of the model in a folder, without its weights.

    Raises:
        InputError: no such folder, no `config.json`, not JSON, or not a Gemma 1.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such model folder; wanted a folder with {CONFIG_NAME} and {WEIGHTS_NAME}")
    if not (folder / CONFIG_NAME).is_file():
        raise InputError(f"{folder} is not a model folder: it has no {CONFIG_NAME}; name the folder that holds it")
    try:
        return from_hf_dict(_read_json(folder / CONFIG_NAME))
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error


def load_model(folder: Path) -> tuple[Params, GemmaConfig]:
    """Read a model folder: one safetensors file, or several with their index.

    Raises:
        InputError: what `describe_model` refuses; a weights file that is missing or cut off; a tensor that is missing
            or has another shape or type than `config.json` says.
    """
    config = describe_model(folder)
    homes = _locate_tensors(folder)
    arrays = _make_room(folder, config)
    for path, wanted in _group_by_file(folder, config, homes).items():
        with _open_weights(path) as weights:
            for theirs, (ours, index) in wanted.items():
                target = arrays[ours][index]
                tensor = _read_tensor(weights, path, theirs, _shape_theirs(ours, target.shape))
                target[...] = tensor.T.reshape(target.shape) if tensor.ndim == 2 and ours != "emb" else tensor
    return {name: jnp.asarray(array) for name, array in arrays.items()}, config


def _make_room(folder: Path, config: GemmaConfig) -> dict[str, np.ndarray]:
    try:
        return {name: np.empty(shape, np.float32) for name, shape in config.shape_params().items()}
    except (MemoryError, ValueError) as error:  # numpy's answer to a shape that no machine holds is a ValueError
        raise InputError(
            f"{folder}: {CONFIG_NAME} asks for {config.count_parameters():,} parameters, more than memory holds; "
            "take the config.json that came with the weights, or a machine with more memory"
        ) from error


def save_model(
    folder: Path,
    params: Params,
    config: GemmaConfig,
    *,
    dtype: Literal["bfloat16", "float32"] = "bfloat16",
    extra_files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a model folder that transformers loads too; an earlier model folder of that name is replaced.

    `extra_files` are written beside the weights: file name to content.

    Raises:
        OutputError: no permission, no space, or the folder holds something that is not a model.
    """
    if folder.exists() and not (folder / CONFIG_NAME).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not a model folder; name another or empty it")
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    replaced = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
    plain = config.to_hf_dict() | {"dtype": dtype}
    try:
        partial.mkdir(parents=True)
        save_file(_to_hf_tensors(params, config, dtype), partial / WEIGHTS_NAME, metadata={"format": "pt"})
        (partial / CONFIG_NAME).write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
        for name, content in (extra_files or {}).items():
            (partial / name).write_bytes(content)
        for path in partial.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{folder}: the model could not be written ({error}); free space or name another") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _list_tensors(config: GemmaConfig) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Name every tensor: ours, where in our stack, theirs."""
    yield "emb", (), "model.embed_tokens.weight"
    yield "final_norm", (), "model.norm.weight"
    for layer in range(config.num_layers):
        for ours, theirs in _LAYER_TENSORS.items():
            for part, name in enumerate(theirs):
                index = (layer, part) if len(theirs) > 1 else (layer,)
                yield ours, index, f"model.layers.{layer}.{name}.weight"


def _shape_theirs(ours: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Tell the shape in the file of one of our matrices.

    >>> _shape_theirs("q", (192, 3, 64)), _shape_theirs("o", (3, 64, 192)), _shape_theirs("emb", (512, 192))
    ((192, 192), (192, 192), (512, 192))
    """
    if ours == "emb" or len(shape) == 1:
        return shape
    inputs = shape[0] * shape[1] if ours == "o" else shape[0]
    return (int(np.prod(shape)) // inputs, inputs)


def _to_hf_tensors(params: Params, config: GemmaConfig, dtype: str) -> dict[str, np.ndarray]:
    target = np.dtype(np.float32) if dtype == "float32" else np.dtype(ml_dtypes.bfloat16)
    host = {name: np.asarray(value) for name, value in params.items()}
    tensors = {}
    for ours, index, theirs in _list_tensors(config):
        tensor = host[ours][index]
        shape = _shape_theirs(ours, tensor.shape)
        tensor = tensor if ours == "emb" else tensor.reshape(shape[::-1]).T
        tensors[theirs] = np.ascontiguousarray(tensor.astype(target))
    return tensors


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); copy the model folder again") from error
    if not isinstance(plain, dict):
        raise InputError(f"{path} holds a {type(plain).__name__}; wanted a JSON object; copy the model folder again")
    return plain


def _locate_tensors(folder: Path) -> dict[str, Path] | None:
    """Read where each tensor lies, or `None` if one file holds them all."""
    if (folder / WEIGHTS_NAME).is_file():
        return None
    if not (folder / INDEX_NAME).is_file():
        raise InputError(
            f"{folder} has no {WEIGHTS_NAME} and no {INDEX_NAME}; copy the model folder again, "
            "or convert the weights to safetensors"
        )
    weight_map = _read_json(folder / INDEX_NAME).get("weight_map")
    if not isinstance(weight_map, dict):
        raise InputError(f"{folder / INDEX_NAME} has no weight_map; copy the model folder again")
    return {tensor: folder / Path(str(name)).name for tensor, name in weight_map.items()}


def _group_by_file(
    folder: Path, config: GemmaConfig, homes: dict[str, Path] | None
) -> dict[Path, dict[str, tuple[str, tuple[int, ...]]]]:
    files: dict[Path, dict[str, tuple[str, tuple[int, ...]]]] = {}
    for ours, index, theirs in _list_tensors(config):
        if homes is not None and theirs not in homes:
            raise InputError(f"{folder / INDEX_NAME} does not list {theirs}; config.json and the weights disagree")
        path = folder / WEIGHTS_NAME if homes is None else homes[theirs]
        files.setdefault(path, {})[theirs] = (ours, index)
    return files


def _open_weights(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path} is missing, though {INDEX_NAME} names it; copy the model folder again")
    try:
        return safe_open(path, framework="numpy")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is cut off or not safetensors ({error}); copy the model folder again") from error


def _read_tensor(weights: Any, path: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in weights.keys():  # noqa: SIM118 (safe_open is not a mapping)
        raise InputError(f"{path} lacks the tensor {name}; wanted {list(shape)}; copy the model folder again")
    view = weights.get_slice(name)
    found = tuple(view.get_shape())
    is_padded = name == "model.embed_tokens.weight" and len(found) == 2 and found[1:] == shape[1:]
    if found != shape and not (is_padded and 0 < found[0] - shape[0] <= _MAX_PADDING_ROWS):
        raise InputError(
            f"{path}: {name} is {list(found)}; config.json asks for {list(shape)}; "
            "take config.json and weights of the same model"
        )
    if view.get_dtype() not in _READABLE_DTYPES:
        raise InputError(f"{path}: {name} is stored as {view.get_dtype()}; wanted one of {sorted(_READABLE_DTYPES)}")
    tensor: np.ndarray = weights.get_tensor(name)
    return tensor[: shape[0]].astype(np.float32)

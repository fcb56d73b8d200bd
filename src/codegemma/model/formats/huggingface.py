"""Weights in the layout of Hugging Face, and of Google's own PyTorch code, which names a few tensors otherwise.

**In**: a folder with safetensors or PyTorch files, whole or divided with an index; or one `.ckpt`.
**Out**: `Weights`; or a folder with `config.json` and safetensors that transformers loads.
**Not**: running what a PyTorch file holds (`torch_file.py`).
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codegemma.errors import InputError
from codegemma.model.config import CONFIG_NAME, GemmaConfig
from codegemma.model.formats.folder import INFERRED_HEAD_DIM, read_config, read_json, write_config
from codegemma.model.formats.parts import (
    MAX_PADDING_ROWS,
    Part,
    Weights,
    check_dtype,
    check_shape,
    count_rows,
    list_parts,
    refuse_extra,
    shape_part,
    widen,
)
from codegemma.model.formats.safetensors_file import divide, map_tensors, write_tensors
from codegemma.model.formats.torch_file import map_tensor_file

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
# In the order in which they are looked for; the folder's only .ckpt is taken after them.
_WHOLE_NAMES = (WEIGHTS_NAME, "pytorch_model.bin")
_INDEX_NAMES = (INDEX_NAME, "pytorch_model.bin.index.json")
_TORCH_SUFFIXES = frozenset({".ckpt", ".bin", ".pt", ".pth"})
# A file may be this large, as transformers' own: every CodeGemma is one file.
MAX_FILE_BYTES = 50 * 10**9

# Our stacks -> their names below `model.layers.<n>.`. Their matrices are [outputs, inputs]: ours transposed, heads
# merged. Their `post_attention_layernorm` is the norm before the feed-forward.
_LAYER_TENSORS = {
    "attn_norm": ("input_layernorm",),
    "q": ("self_attn.q_proj",),
    "kv": ("self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "ffw_norm": ("post_attention_layernorm",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
_EMBEDDING, _GOOGLE_EMBEDDING = "model.embed_tokens.weight", "embedder.weight"
_FINAL_NORM = "model.norm.weight"
# What others save beside the weights: the output table, which is the embedding, and positions that are computed.
_PASSED_OVER = re.compile(r"lm_head\.weight|.*\brotary_emb\.inv_freq|(local_|global_)?freqs_cis")
# What later Gemmas have and Gemma 1 has not.
_FOREIGN_WORDS = ("pre_feedforward_layernorm", "query_norm", "q_norm")


class _Tensor(NamedTuple):
    """A mapped tensor, its file, and how to compare its checksum before it is read."""

    array: np.ndarray
    path: Path
    verify: Callable[[], None]


def recognize(place: Path) -> bool:
    """Tell whether a place is a file of these, or a folder with one."""
    if place.is_file():
        return place.suffix == ".safetensors" or place.suffix in _TORCH_SUFFIXES
    named = any((place / name).is_file() for name in (*_WHOLE_NAMES, *_INDEX_NAMES))
    return named or any(place.glob("*.ckpt"))


def open_weights(place: Path) -> Weights:
    """Open a folder or file; every tensor's name, shape and type is checked, none is read.

    Raises:
        InputError: a file that is missing or cut off; a tensor that is missing or of another shape or type than
            `config.json` says; another architecture.
    """
    folder = place if place.is_dir() else place.parent
    config = read_config(folder)
    homes, files = _locate_files(place)
    tensors = _map_files(files)
    if foreign := next((name for name in tensors if any(word in name for word in _FOREIGN_WORDS)), None):
        raise InputError(f"{place} holds {foreign}: it is a Gemma 2 or later; wanted Gemma 1 or CodeGemma")
    if config is None:
        config = _infer_config(place, tensors)
    is_fused = _GOOGLE_EMBEDDING in tensors
    names: set[str] = set()
    found: dict[Part, tuple[_Tensor, slice]] = {}
    for part in list_parts(config):
        name = _name_google(part) if is_fused else name_tensor(part)
        rows, wanted = _choose_rows(config, part) if is_fused else (slice(None), shape_in_file(config, part))
        tensor = _find_tensor(place, name, wanted, homes, tensors, files)
        check_shape(tensor.array.shape, wanted, f"{tensor.path}: {name}", MAX_PADDING_ROWS * (part.name == "emb"))
        check_dtype(tensor.array.dtype, f"{tensor.path}: {name}")
        found[part] = tensor, rows
        names.add(name)
    refuse_extra((n for n in tensors.keys() - names if not _PASSED_OVER.fullmatch(n)), str(place))

    def read(part: Part, rows: slice) -> np.ndarray:
        tensor, of_fused = found[part]
        if not rows.start:
            tensor.verify()
        return to_ours(config, part, tensor.array[of_fused])[rows]

    dtype = widen({tensor.array.dtype for tensor, _ in found.values()})
    used = sorted({tensor.path for tensor, _ in found.values()})
    beside = [folder / CONFIG_NAME] if (folder / CONFIG_NAME).is_file() else []
    return Weights(place, "hf", config, dtype, read, (*beside, *used))


def name_tensor(part: Part) -> str:
    """Name a part as transformers does.

    >>> name_tensor(Part("gate_up", (3, 1)))
    'model.layers.3.mlp.up_proj.weight'
    """
    if not part.at:
        return _EMBEDDING if part.name == "emb" else _FINAL_NORM
    layer, *pair = part.at
    return f"model.layers.{layer}.{_LAYER_TENSORS[part.name][pair[0] if pair else 0]}.weight"


def shape_in_file(config: GemmaConfig, part: Part) -> tuple[int, ...]:
    """Tell the shape of a part in the file: `[outputs, inputs]`.

    >>> config = GemmaConfig(512, 192, 1, num_heads=3, num_kv_heads=1, head_dim=64, mlp_dim=768)
    >>> shape_in_file(config, Part("q", (0,))), shape_in_file(config, Part("down", (0,)))
    ((192, 192), (192, 768))
    """
    shape = shape_part(config, part)
    if part.name == "emb" or len(shape) == 1:
        return shape
    inputs = _count_input_axes(part)
    return math.prod(shape[inputs:]), math.prod(shape[:inputs])


def to_ours(config: GemmaConfig, part: Part, tensor: np.ndarray) -> np.ndarray:
    """View a tensor of the file in our layout; padding rows of the embedding are left out."""
    shape = shape_part(config, part)
    if part.name == "emb" or len(shape) == 1:
        return tensor[: shape[0]]
    inputs = _count_input_axes(part)
    split = tensor.reshape(*shape[inputs:], *shape[:inputs])
    return split.transpose(*range(len(shape) - inputs, len(shape)), *range(len(shape) - inputs))


def to_theirs(part: Part, ours: np.ndarray) -> np.ndarray:
    """View a part in the file's order of axes; heads are merged where the bytes are in line."""
    if part.name == "emb" or ours.ndim == 1:
        return ours
    inputs = _count_input_axes(part)
    return ours.transpose(*range(inputs, ours.ndim), *range(inputs))


def write_weights(folder: Path, weights: Weights, dtype: np.dtype[Any], max_file_bytes: int = MAX_FILE_BYTES) -> None:
    """Write `config.json` and safetensors into an empty folder: one file, or several and their index."""
    parts = {name_tensor(part): part for part in list_parts(weights.config)}
    shapes = {name: (shape_in_file(weights.config, part), dtype) for name, part in parts.items()}
    groups = list(divide(shapes, max_file_bytes))
    homes: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        file = WEIGHTS_NAME if len(groups) == 1 else f"model-{number:05}-of-{len(groups):05}.safetensors"
        blocks = (block for name in group for block in spell_blocks(weights, parts[name], dtype))
        write_tensors(folder / file, group, blocks)
        homes |= dict.fromkeys(group, file)
    if len(groups) > 1:
        total = sum(math.prod(shape) * dtype.itemsize for shape, _ in shapes.values())
        index = {"metadata": {"total_size": total}, "weight_map": homes}
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    write_config(folder, weights.config, str(dtype))


def spell_blocks(weights: Weights, part: Part, dtype: np.dtype[Any]) -> Iterator[np.ndarray]:
    """Yield a part as it lies in the file, some rows at a time."""
    shape = shape_in_file(weights.config, part)
    for _, block in weights.read_blocks(part):
        theirs = to_theirs(part, block)
        step = count_rows(theirs.shape, dtype)
        for start in range(0, len(theirs), step):
            rows = np.ascontiguousarray(theirs[start : start + step]).astype(dtype, copy=False)
            yield rows.reshape(-1, *shape[1:])


def _count_input_axes(part: Part) -> int:
    return 2 if part.name == "o" else 1


def _name_google(part: Part) -> str:
    if part.name == "emb":
        return _GOOGLE_EMBEDDING
    return f"model.layers.{part.at[0]}.self_attn.qkv_proj.weight" if part.name in ("q", "kv") else name_tensor(part)


def _choose_rows(config: GemmaConfig, part: Part) -> tuple[slice, tuple[int, ...]]:
    """Tell which rows of Google's tensor a part is, and that tensor's shape: queries, keys and values lie in one."""
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    if part.name not in ("q", "kv"):
        return slice(None), shape_in_file(config, part)
    start = 0 if part.name == "q" else queries + part.at[1] * keys
    rows = slice(start, start + (queries if part.name == "q" else keys))
    return rows, (queries + 2 * keys, config.embed_dim)


def _locate_files(place: Path) -> tuple[dict[str, Path] | None, tuple[Path, ...]]:
    """Find the files; with an index also which tensor lies in which."""
    if place.is_file():
        return None, (place,)
    for name in _WHOLE_NAMES:
        if (place / name).is_file():
            return None, (place / name,)
    for name in _INDEX_NAMES:
        if (place / name).is_file():
            return _read_index(place / name)
    checkpoints = sorted(place.glob("*.ckpt"))
    if len(checkpoints) == 1:
        return None, (checkpoints[0],)
    if checkpoints:
        raise InputError(f"{place} holds {len(checkpoints)} checkpoints; name one: {', '.join(map(str, checkpoints))}")
    raise InputError(f"{place} has no {WEIGHTS_NAME} and no {INDEX_NAME}; copy the model folder again")


def _read_index(file: Path) -> tuple[dict[str, Path], tuple[Path, ...]]:
    weight_map = read_json(file).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{file} has no weight_map; copy the model folder again")
    homes = {str(tensor): file.parent / Path(str(name)).name for tensor, name in weight_map.items()}
    files = tuple(sorted(set(homes.values())))
    for missing in (path for path in files if not path.is_file()):
        raise InputError(f"{missing} is missing, though {file.name} names it; copy the model folder again")
    return homes, files


def _map_files(files: tuple[Path, ...]) -> dict[str, _Tensor]:
    tensors: dict[str, _Tensor] = {}
    for path in files:
        if path.suffix in _TORCH_SUFFIXES:
            file = map_tensor_file(path)
            for name, array in file.tensors.items():
                tensors[name] = _Tensor(array, path, partial(file.verify, name))
        else:
            tensors |= {name: _Tensor(array, path, _trust) for name, array in map_tensors(path).items()}
    return tensors


def _trust() -> None:
    """Safetensors carry no checksums."""


def _find_tensor(
    place: Path,
    name: str,
    wanted: tuple[int, ...],
    homes: dict[str, Path] | None,
    tensors: dict[str, _Tensor],
    files: tuple[Path, ...],
) -> _Tensor:
    if homes is not None and name not in homes:
        raise InputError(f"the index in {place} does not list {name}; {CONFIG_NAME} and the weights disagree")
    if name not in tensors:
        file = files[0] if homes is None else homes[name]
        raise InputError(f"{file} lacks the tensor {name}; wanted {list(wanted)}; copy the model folder again")
    return tensors[name]


def _infer_config(place: Path, tensors: dict[str, _Tensor]) -> GemmaConfig:
    """Read the shape off the tensors, where Google's own layout comes without a `config.json`."""
    folder = place if place.is_dir() else place.parent
    if _GOOGLE_EMBEDDING not in tensors:
        raise InputError(f"{folder} is not a model folder: it has no {CONFIG_NAME}; copy it from where the weights are")
    layers = sum(name.endswith(".self_attn.qkv_proj.weight") for name in tensors)
    try:
        vocab_size, width = tensors[_GOOGLE_EMBEDDING].array.shape
        qkv = tensors["model.layers.0.self_attn.qkv_proj.weight"].array.shape[0] // INFERRED_HEAD_DIM
        heads = tensors["model.layers.0.self_attn.o_proj.weight"].array.shape[1] // INFERRED_HEAD_DIM
        mlp_dim = tensors["model.layers.0.mlp.gate_proj.weight"].array.shape[0]
        return GemmaConfig(
            vocab_size, width, layers, num_heads=heads, num_kv_heads=(qkv - heads) // 2,
            head_dim=INFERRED_HEAD_DIM, mlp_dim=mlp_dim,
        )  # fmt: skip
    except (KeyError, ValueError, IndexError, InputError) as error:
        raise InputError(
            f"{place}: the tensors are not those of a Gemma 1 ({error}); wanted a published checkpoint, or a "
            f"{CONFIG_NAME} beside the file that tells its shape"
        ) from error

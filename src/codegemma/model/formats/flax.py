"""The Flax layout of Google's published checkpoints (Kaggle): an orbax tree of one dictionary a module.

**In**: the folder of a variant, or the folder around it that holds the tokenizer.
**Out**: `Weights`; or a folder in that layout, with 128 more embedding rows of zeros, as the published ones have.
**Not**: Gemma 2 and later, whose layers have other norms.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codegemma.errors import InputError
from codegemma.model.config import CONFIG_NAME, GemmaConfig
from codegemma.model.formats.folder import read_config, write_config
from codegemma.model.formats.parts import (
    MAX_PADDING_ROWS,
    Part,
    Weights,
    check_shape,
    list_parts,
    refuse_extra,
    shape_part,
    widen,
)
from codegemma.model.formats.stores import (
    Arrays,
    Store,
    create_array,
    is_checkpoint,
    open_arrays,
    write_metadata,
    write_rows,
)

# Gemma's vocabulary, and the rows that its published embeddings have.
_GEMMA_VOCAB, _GEMMA_ROWS = 256_000, 256_128
_EMBEDDING = "embedder.input_embedding"
_FOREIGN_WORDS = ("post_attention_norm", "post_ffw_norm", "query_norm")


class _Spot(NamedTuple):
    """Where a part lies: an array, where in it, and the axes that put it into our order."""

    name: str
    at: tuple[int, ...] = ()
    axes: tuple[int, ...] | None = None

    def to_ours(self, theirs: np.ndarray) -> np.ndarray:
        """View an array of the checkpoint in our layout."""
        return theirs if self.axes is None else theirs.transpose(self.axes)

    def to_theirs(self, ours: np.ndarray) -> np.ndarray:
        """View a part in the checkpoint's layout."""
        return ours if self.axes is None else ours.transpose(np.argsort(self.axes))


def recognize(place: Path) -> bool:
    """Tell whether a folder, or the only folder in it that orbax wrote, holds this layout."""
    folder = _find_arrays(place)
    return folder is not None and any(_shorten(name) == _EMBEDDING for name in open_arrays(folder).names)


def open_weights(place: Path) -> Weights:
    """Open a checkpoint; every array's name, shape and type is checked, none is read.

    Raises:
        InputError: damaged; an array is missing or of another shape; a later Gemma.
    """
    folder = _find_arrays(place) or place
    opened = open_arrays(folder)
    arrays = opened.rename({name: _shorten(name) for name in opened.names})
    if foreign := next((name for name in arrays.names if any(word in name for word in _FOREIGN_WORDS)), None):
        raise InputError(f"{folder} holds {foreign}: it is a Gemma 2 or later; wanted Gemma 1 or CodeGemma")
    config = read_config(place) or read_config(folder) or _infer_config(folder, arrays)
    spots = {part: _find_spot(config, part) for part in list_parts(config)}
    for part, spot in spots.items():
        wanted = _shape_array(config, part, spot)
        if spot.name not in arrays:
            raise InputError(f"{folder} lacks the array {spot.name}; wanted {list(wanted)}; copy the checkpoint again")
        padding = MAX_PADDING_ROWS * (part.name == "emb")
        check_shape(arrays.shape(spot.name), wanted, f"{folder}: {spot.name}", padding)

    refuse_extra(set(arrays.names) - {spot.name for spot in spots.values()}, str(folder))

    def read(part: Part, rows: slice) -> np.ndarray:
        spot = spots[part]
        if part.name == "emb":
            return arrays.read(spot.name, (), slice(*rows.indices(config.vocab_size)))  # no padding
        return spot.to_ours(arrays.read(spot.name, spot.at))[rows]

    dtype = widen({arrays.dtype(name) for name in {spot.name for spot in spots.values()}})
    files = tuple(sorted(path for path in folder.rglob("*") if path.is_file()))
    return Weights(place, "flax", config, dtype, read, files)


def write_weights(folder: Path, weights: Weights, dtype: np.dtype[Any]) -> None:
    """Write the arrays and `config.json` into an empty folder."""
    config = weights.config
    stores: dict[str, Store] = {}
    for part in list_parts(config):
        spot = _find_spot(config, part)
        if spot.name not in stores:
            whole = _shape_array(config, part, spot)
            stack, shape = whole[: len(spot.at)], whole[len(spot.at) :]
            shape = (shape[0] + MAX_PADDING_ROWS, *shape[1:]) if part.name == "emb" else shape
            stores[spot.name] = create_array(folder, f"transformer/{spot.name}", stack, shape, dtype)
        for start, block in weights.read_blocks(part):
            write_rows(stores[spot.name], spot.at, start, spot.to_theirs(block), dtype)
    padding = np.zeros((MAX_PADDING_ROWS, config.embed_dim), dtype)
    write_rows(stores[_EMBEDDING], (), config.vocab_size, padding, dtype)
    write_metadata(folder, [tuple(f"transformer/{name}".rsplit(".", 1)) for name in stores])
    write_config(folder, config, str(dtype))


def _find_spot(config: GemmaConfig, part: Part) -> _Spot:
    """Tell where a part lies: one head of keys has arrays of its own, as many as queries share one array with them.

    >>> _find_spot(GemmaConfig(512, 16, 1, num_heads=1, num_kv_heads=1, head_dim=16, mlp_dim=32), Part("kv", (0, 1)))
    _Spot(name='layer_0/attn/qkv_einsum.w', at=(2,), axes=(1, 0, 2))
    """
    if not part.at:
        return _Spot(_EMBEDDING if part.name == "emb" else "final_norm.scale")
    layer = f"layer_{part.at[0]}"
    is_joined = config.num_heads == config.num_kv_heads
    pair = part.at[1:]
    by_head = (1, 0, 2)  # theirs [heads, D, A], ours [D, heads, A]
    joined_index = (1 + pair[0] if pair else 0,)
    return {
        "attn_norm": _Spot(f"{layer}/pre_attention_norm.scale"),
        "q": _Spot(f"{layer}/attn/qkv_einsum.w", joined_index, by_head)
        if is_joined
        else _Spot(f"{layer}/attn/q_einsum.w", (), by_head),
        "kv": _Spot(f"{layer}/attn/qkv_einsum.w", joined_index, by_head)
        if is_joined
        else _Spot(f"{layer}/attn/kv_einsum.w", pair, by_head),
        "o": _Spot(f"{layer}/attn/attn_vec_einsum.w"),
        "ffw_norm": _Spot(f"{layer}/pre_ffw_norm.scale"),
        "gate_up": _Spot(f"{layer}/mlp/gating_einsum.w", pair),
        "down": _Spot(f"{layer}/mlp/linear.w"),
    }[part.name]


def _shape_array(config: GemmaConfig, part: Part, spot: _Spot) -> tuple[int, ...]:
    shape = shape_part(config, part)
    theirs = shape if spot.axes is None else tuple(shape[axis] for axis in np.argsort(spot.axes))
    return (*((3,) if "qkv" in spot.name else (2,) if spot.at else ()), *theirs)


def _shorten(name: str) -> str:
    """Spell a name as this module does, whatever tree it hangs in and however its levels are joined.

    >>> _shorten("transformer/layer_3/mlp/linear.w"), _shorten("params.transformer.layer_3.mlp.linear")
    ('layer_3/mlp/linear.w', 'layer_3/mlp/linear.w')
    """
    levels = re.split(r"[./]", name)
    start = next((i for i, level in enumerate(levels) if re.fullmatch(r"embedder|final_norm|layer_\d+", level)), 0)
    levels = levels[start:]
    if levels[-1] in ("gating_einsum", "linear"):  # a later spelling of the same layout
        levels.append("w")
    return "/".join(levels[:-1]) + f".{levels[-1]}"


def _find_arrays(place: Path) -> Path | None:
    """Find the folder that orbax wrote: this one, or the only one in it."""
    if not place.is_dir():
        return None
    if is_checkpoint(place):
        return place
    inside = [entry for entry in place.iterdir() if entry.is_dir() and is_checkpoint(entry)]
    return inside[0] if len(inside) == 1 else None


def _infer_config(folder: Path, arrays: Arrays) -> GemmaConfig:
    """Read the shape off the arrays."""
    layers = len({name.partition("/")[0] for name in arrays.names if name.startswith("layer_")})
    joined = "layer_0/attn/qkv_einsum.w"
    try:
        rows, width = arrays.shape(_EMBEDDING)
        heads, head_dim, _ = arrays.shape("layer_0/attn/attn_vec_einsum.w")
        kv_heads = heads if joined in arrays else arrays.shape("layer_0/attn/kv_einsum.w")[1]
        mlp_dim = arrays.shape("layer_0/mlp/linear.w")[0]
        return GemmaConfig(
            _GEMMA_VOCAB if rows == _GEMMA_ROWS else rows, width, layers, num_heads=heads, num_kv_heads=kv_heads,
            head_dim=head_dim, mlp_dim=mlp_dim,
        )  # fmt: skip
    except (KeyError, ValueError, IndexError, InputError) as error:
        raise InputError(
            f"{folder}: the arrays are not those of a Gemma 1 ({error}); wanted a published checkpoint, or a "
            f"{CONFIG_NAME} beside it that tells its shape"
        ) from error

"""A model's parameters on the device, read from any format that is known, and written as Hugging Face's.

**In**: a model folder (or file) of any of `formats/table.py`; or parameters and a shape.
**Out**: the parameters and the shape, read block by block straight into the type that was asked for; or the folder.
**Not**: tokenizers (hand their files over as `extra_files`), hub ids (`hub.py`), other formats (`write.py`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from codegemma.model.config import CONFIG_NAME, GemmaConfig
from codegemma.model.formats import huggingface, peft
from codegemma.model.formats.folder import read_config
from codegemma.model.formats.parts import DTYPES, Part, Weights, allocate, list_parts
from codegemma.model.formats.table import open_weights
from codegemma.model.gemma import Params
from codegemma.model.lineage import Lineage
from codegemma.model.write import write_model

# A larger model stays in 16 bits if it is stored so, and a layer is widened when its turn comes: CodeGemma 2B takes
# 5 GB then, not 10. A smaller one is float32, which XLA's CPU backend multiplies quicker.
MAX_WIDENED_BYTES = 4 * 2**30

__all__ = ["CONFIG_NAME", "describe_model", "list_model_files", "load_model", "locate_tokenizer", "save_model"]


def describe_model(place: Path) -> GemmaConfig:
    """Read the shape of a model, without its weights.

    Raises:
        InputError: no such model, no word of its shape, or not a Gemma 1.
    """
    return (read_config(place) if place.is_dir() else None) or open_weights(place).config


def list_model_files(place: Path) -> tuple[Path, ...]:
    """List the files that decide a model's shape and weights; raises what `load_model` raises before it reads."""
    return open_weights(place).files


def locate_tokenizer(place: Path) -> Path:
    """Tell where a model's tokenizer lies: in its folder, or with the base of an adapter that has none."""
    if peft.recognize(place) and not any((place / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        return peft.locate_base(place)
    return place


def load_model(place: Path, dtype: Literal["bf16", "f16", "f32"] | None = "f32") -> tuple[Params, GemmaConfig]:
    """Read a model of any format. Beside the parameters, one block or one matrix is in memory at a time.

    `None` is for who only reads with it: float32, or what a large model is stored in (`MAX_WIDENED_BYTES`).

    Raises:
        InputError: what `describe_model` refuses; a weights file that is missing or cut off; a tensor that is missing
            or has another shape or type than `config.json` says.
    """
    weights = open_weights(place)
    shapes = weights.config.shape_params()
    kind = _choose_dtype(weights) if dtype is None else DTYPES[dtype]
    host: dict[str, np.ndarray] = {}
    params: Params = {}
    last = None
    for part in list_parts(weights.config):
        if part.name != last:
            params |= {name: _hand_over(host.pop(name)) for name in list(host)}
            host[part.name] = allocate(shapes[part.name], kind)
            last = part.name
        target = host[part.name][part.at]
        for start, block in weights.read_blocks(part):
            target[start : start + len(block)] = block
    params |= {name: _hand_over(host.pop(name)) for name in list(host)}
    return params, weights.config


def save_model(
    folder: Path,
    params: Params,
    config: GemmaConfig,
    *,
    dtype: Literal["bfloat16", "float32"] = "bfloat16",
    lineage: Lineage | None = None,
    extra_files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a model folder that transformers loads too; an earlier model folder of that name is replaced.

    `lineage` tells what the model was made of, and `extra_files` are written beside the weights: file name to content.

    Raises:
        OutputError: no permission, no space, or the folder holds something that is not a model.
    """
    host = {name: np.asarray(value) for name, value in params.items()}

    def read(part: Part, rows: slice) -> np.ndarray:
        array: np.ndarray = host[part.name][part.at][rows]
        return array

    target = DTYPES["f32"] if dtype == "float32" else DTYPES["bf16"]
    weights = Weights(folder, "memory", config, host["emb"].dtype, read)
    write_model(folder, weights, huggingface.write_weights, target, lineage or Lineage(None), extra_files or {})


def _choose_dtype(weights: Weights) -> np.dtype[Any]:
    wide = DTYPES["f32"]
    return wide if weights.config.count_parameters() * wide.itemsize <= MAX_WIDENED_BYTES else weights.dtype


def _hand_over(array: np.ndarray) -> Any:
    """Give an array to the device; on a CPU JAX takes its memory over, so nobody may write to it any more."""
    array.flags.writeable = False
    return jax.device_put(array, may_alias=True)

"""GGUF as a format of checkpoints: opened where it keeps floats, written for llama.cpp.

**In**: a `.gguf` file, or a folder that holds one; or opened weights of any format, with a tokenizer beside them.
**Out**: `Weights`; or `model.gguf` and `config.json`, the file with the model's terms and lineage in it.
**Not**: the file itself (`model/gguf.py`), which needs the extra `formats`; it is imported when a file is opened.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from codegemma.errors import InputError, MissingExtraError
from codegemma.model.formats.folder import write_config
from codegemma.model.formats.huggingface import name_tensor, spell_blocks, to_ours
from codegemma.model.formats.parts import DTYPES, Part, Weights, list_parts
from codegemma.model.gguf_header import FILE_NAME
from codegemma.model.lineage import GEMMA_TERMS, LINEAGE_FILE, NOTICE_FILE
from codegemma.text.tokenizer import TOKENIZER_FILE, Tokenizer

# Files beside a model -> metadata in the file.
_NOTES = {LINEAGE_FILE: "codegemma.lineage", NOTICE_FILE: "codegemma.notice"}


def recognize(place: Path) -> bool:
    """Tell whether a place is such a file, or a folder with one of them."""
    return _find_file(place) is not None


def open_weights(place: Path) -> Weights:
    """Open a file; every tensor's name, shape and type is checked, none is read.

    Raises:
        InputError: damaged, quantised, or another architecture.
        MissingExtraError: the extra `formats` is not installed.
    """
    file = _find_file(place) or place
    read_gguf = _import("gguf_reader").read_gguf
    model = read_gguf(file)

    def read(part: Part, rows: slice) -> np.ndarray:
        return to_ours(model.config, part, model.read(name_tensor(part)))[rows]

    tensors = [model.read(name_tensor(part)) for part in list_parts(model.config)]
    dtypes = {tensor.dtype for tensor in tensors if tensor.ndim > 1}
    dtype = next(iter(dtypes)) if len(dtypes) == 1 else DTYPES["f32"]
    # Norms are float32 in every file: they count only where the type of the matrices cannot hold them.
    if any(not np.array_equal(norm.astype(dtype).astype(np.float32), norm) for norm in tensors if norm.ndim == 1):
        dtype = DTYPES["f32"]
    companions = {} if model.tokenizer is None else {TOKENIZER_FILE: model.tokenizer.to_json().encode()}
    companions |= {name: model.notes[key].encode() for name, key in _NOTES.items() if key in model.notes}
    return Weights(place, "gguf", model.config, dtype, read, (file,), companions)


def write_weights(folder: Path, weights: Weights, dtype: Any) -> None:
    """Write `model.gguf` and `config.json` into an empty folder.

    Raises:
        InputError: there is no tokenizer beside the weights, or llama.cpp would encode otherwise than it does.
        MissingExtraError: the extra `formats` is not installed.
    """
    config = weights.config
    parts = {name_tensor(part): part for part in list_parts(config)}

    def read(name: str) -> Iterator[np.ndarray]:
        return spell_blocks(weights, parts[name], read_as)

    # An adapter is merged in float32, and rounded once: to the type of the file.
    read_as = DTYPES["f32"] if weights.format == "peft" else weights.dtype
    kind = dtype if isinstance(dtype, str) else next(name for name, known in DTYPES.items() if known == dtype)
    tokenizer, notes = _find_tokenizer(weights), _spell_notes(weights)
    _import("gguf").write_gguf(folder / FILE_NAME, config, tokenizer, read, kind, notes)
    write_config(folder, config, str(weights.dtype))


def _spell_notes(weights: Weights) -> dict[str, str]:
    notes = {key: weights.companions[name].decode() for name, key in _NOTES.items() if name in weights.companions}
    if _NOTES[NOTICE_FILE] in notes:
        notes |= {"general.license": GEMMA_TERMS, "general.license.link": "https://ai.google.dev/gemma/terms"}
    return notes


def _find_tokenizer(weights: Weights) -> Tokenizer:
    if TOKENIZER_FILE in weights.companions:
        return Tokenizer.from_json(weights.companions[TOKENIZER_FILE].decode(), str(weights.place))
    folder = weights.place if weights.place.is_dir() else weights.place.parent
    # A tokenizer may lie beside the folder of the variant, a run's beside its checkpoints.
    for parent in (folder, *folder.absolute().parents[:2]):
        if any((parent / name).is_file() for name in (TOKENIZER_FILE, "tokenizer.model")):
            return Tokenizer.load(parent)
    raise InputError(f"{weights.place} has no {TOKENIZER_FILE}, which a GGUF file holds; put the model's own beside it")


def _find_file(place: Path) -> Path | None:
    if place.is_file():
        return place if place.suffix == ".gguf" else None
    files = list(place.glob("*.gguf"))
    return files[0] if len(files) == 1 else None


def _import(module: str) -> Any:
    try:
        return import_module(f"codegemma.model.{module}")
    except ImportError as error:
        raise MissingExtraError(f"GGUF needs {error.name}; install codegemma[formats]") from error

"""Keeps a model in the form that a CPU serves: quantized once, found again by what it was made from.

**In**: a place that holds a model: a GGUF file, or weights of any format.
**Out**: a GGUF file, and the folder beside it that tells tokenizer and modes; made at the first start, found later.
**Not**: proof that every byte is the same: the key is made of names, sizes, times and the first bytes of the files, so
that it costs a millisecond. Who writes other weights over a file with its size and time set back gets the old model.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from codegemma.errors import InputError, OutputError
from codegemma.model.gguf_header import FILE_NAME, KINDS
from codegemma.model.identity import list_model_files

DEFAULT_DTYPE: Final = "int8"
# The head of a safetensors file is a table of its tensors; of a pickled one, the start of it.
_HASHED_BYTES: Final = 1 << 16
# Of what is written: to be raised when the same weights give another file.
_FORMAT: Final = 1


def find_cache() -> Path:
    """Name the folder of quantized models; `XDG_CACHE_HOME` moves it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codegemma" / "gguf"


def provide_gguf(
    place: Path,
    dtype: str = DEFAULT_DTYPE,
    cache: Path | None = None,
    on_quantize: Callable[[Path], None] | None = None,
) -> Path:
    """Find a model's GGUF file; of other weights, make it first.

    Args:
        place: a GGUF file, a folder with one, or a model of any other format.
        dtype: how matrices are kept: a name of `KINDS`, such as int8 or int4.
        cache: where quantized models are kept.
        on_quantize: told the file that is about to be made, which takes a minute for each few GB.

    Raises:
        InputError: no model there, or one that cannot be converted.
        OutputError: no room for it.
        MissingExtraError: it must be quantized, and the packages for that are not installed.
    """
    if dtype not in KINDS:
        raise InputError(f"unknown type {dtype!r} of weights; known: {', '.join(KINDS)}")
    found = _find_gguf(place)
    if found is not None:
        return found
    target = (cache or find_cache()) / name_model(place, dtype)
    if not is_whole(target):
        if on_quantize is not None:
            on_quantize(target / FILE_NAME)
        # All formats of weights: a third of a start that finds its file need not load them.
        from codegemma.model.write import convert

        try:
            convert(place, target, "gguf", dtype)
        except OutputError:
            if not is_whole(target):  # else another process was quicker
                raise
    return target / FILE_NAME


def name_model(place: Path, dtype: str) -> str:
    """Name what is made from the files of a place: equal as long as they are."""
    if not place.exists():
        raise InputError(f"no such model: {place}; wanted a GGUF file, a model folder or a hub id")
    digest = hashlib.sha256(f"{_FORMAT} {dtype}".encode())
    for name, file in list_model_files(place):
        facts = file.stat()
        digest.update(f"\0{name}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
        with file.open("rb") as content:
            digest.update(content.read(_HASHED_BYTES))
    return digest.hexdigest()[:32]


def is_whole(folder: Path) -> bool:
    """Say whether a quantized model stands there; a folder gets its name when all is written."""
    return (folder / FILE_NAME).is_file()


def _find_gguf(place: Path) -> Path | None:
    if place.is_file() and place.suffix == ".gguf":
        return place
    files = sorted(place.glob("*.gguf")) if place.is_dir() else []
    if len(files) > 1:
        raise InputError(f"{place} holds {len(files)} GGUF files; name one of them, such as {files[0]}")
    return files[0] if files else None

"""The table of formats: which one a place is in, and which ones can be written.

**In**: a place: a folder, or a file of weights.
**Out**: `Weights` of whatever format it is; the writers by name.
**Not**: hub ids (`hub.py`), and no devices.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codegemma.errors import InputError
from codegemma.model.formats import flax, huggingface, orbax
from codegemma.model.formats.parts import CONFIG_NAME, Weights

Writer = Callable[[Path, Weights, np.dtype[Any]], None]


class Format(NamedTuple):
    """One format: how it is recognised, opened and written. `write` fills an empty folder."""

    recognize: Callable[[Path], bool]
    open: Callable[[Path], Weights]
    write: Writer | None


# In the order in which a place is tried; the names are those of `codegemma convert --to`.
FORMATS: dict[str, Format] = {
    "hf": Format(huggingface.recognize, huggingface.open_weights, huggingface.write_weights),
    "flax": Format(flax.recognize, flax.open_weights, flax.write_weights),
    "orbax": Format(orbax.recognize, orbax.open_weights, orbax.write_weights),
}


def find_writer(name: str) -> Writer:
    """Find who writes a format.

    Raises:
        InputError: no format of that name, or one that is only read.
    """
    writers = {name: known.write for name, known in FORMATS.items() if known.write is not None}
    if name not in writers:
        raise InputError(f"{name!r} is no format that can be written; known: {', '.join(writers)}")
    return writers[name]


def open_weights(place: Path) -> Weights:
    """Open a model of any format that is known; nothing is read but names, shapes and types.

    Raises:
        InputError: no such place, none of the formats, or what the format refuses.
    """
    if not place.exists():
        raise InputError(
            f"{place}: no such model folder; wanted a folder with {CONFIG_NAME} and {huggingface.WEIGHTS_NAME}, "
            "or another format that codegemma convert reads"
        )
    for known in FORMATS.values():
        if known.recognize(place):
            return known.open(place)
    if not place.is_dir():
        raise InputError(f"{place} is not a file of weights that is known; name the model's folder")
    if not (place / CONFIG_NAME).is_file():
        raise InputError(f"{place} is not a model folder: it has no {CONFIG_NAME}; name the folder that holds it")
    raise InputError(
        f"{place} has no {huggingface.WEIGHTS_NAME} and no {huggingface.INDEX_NAME}, nor weights of another format; "
        "copy the model folder again"
    )

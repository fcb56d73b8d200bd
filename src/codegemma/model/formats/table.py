"""The table of formats: which one a place is in, and which ones can be written.

**In**: a place: a folder, or a file of weights.
**Out**: `Weights` of whatever format it is; the writers by name.
**Not**: hub ids (`hub.py`), and no devices.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from codegemma.errors import InputError
from codegemma.model.config import CONFIG_NAME
from codegemma.model.formats import flax, gguf_file, huggingface, integers, orbax, peft
from codegemma.model.formats.parts import DTYPES, Weights
from codegemma.model.gguf_header import KINDS

Writer = Callable[[Path, Weights, Any], None]
# Types that weights may be rounded to. f16 is read, and stays as it is, but numbers could pass its range.
_FLOATS: Mapping[str, Any] = {name: DTYPES[name] for name in ("bf16", "f32")}


class Format(NamedTuple):
    """One format: how it is recognised, opened and written.

    `write` fills an empty folder, in the type that the weights have or in one of `dtypes`: a name to what it takes.
    """

    recognize: Callable[[Path], bool]
    open: Callable[[Path], Weights]
    write: Writer
    dtypes: Mapping[str, Any] = _FLOATS


# In the order in which a place is tried; the names are those of `codegemma convert --to`.
FORMATS: dict[str, Format] = {
    "hf": Format(huggingface.recognize, huggingface.open_weights, huggingface.write_weights),
    "flax": Format(flax.recognize, flax.open_weights, flax.write_weights),
    "orbax": Format(orbax.recognize, orbax.open_weights, orbax.write_weights),
    "gguf": Format(gguf_file.recognize, gguf_file.open_weights, gguf_file.write_weights, KINDS),
    "qwix": Format(integers.recognize, integers.open_weights, integers.write_weights, integers.BITS),
}


def find_format(name: str) -> Format:
    """Find a format.

    Raises:
        InputError: no format of that name.
    """
    if name not in FORMATS:
        raise InputError(f"{name!r} is no format that can be written; known: {', '.join(FORMATS)}")
    return FORMATS[name]


def open_weights(place: Path) -> Weights:
    """Open a model of any format that is known; nothing is read but names, shapes and types.

    An adapter is opened merged into its base.

    Raises:
        InputError: no such place, none of the formats, or what the format refuses.
    """
    if not place.exists():
        raise InputError(
            f"{place}: no such model folder; wanted a folder with {CONFIG_NAME} and {huggingface.WEIGHTS_NAME}, "
            "or another format that codegemma convert reads"
        )
    if peft.recognize(place):
        return peft.open_weights(place, open_weights)
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

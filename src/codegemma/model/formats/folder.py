"""What lies beside the weights in a model folder: the shape, and files that a copy of the model takes along.

**In**: a folder, or a file of weights in it.
**Out**: JSON, the shape, companions by name; or what is wrong with them, by file.
**Not**: weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig, from_hf_dict
from codegemma.model.formats.parts import CONFIG_NAME

INFERRED_HEAD_DIM = 256  # every Gemma 1 has this one
# Files that say what the model is or how it is asked; each format writes its own weights and CONFIG_NAME.
COMPANIONS = (
    "tokenizer.json", "tokenizer.model", "spiece.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "generation_config.json", "run.json", "manifest.json", "README.md",
    "LICENSE", "LICENSE.txt", "USE_POLICY.md",
)  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); copy the model folder again") from error
    if not isinstance(plain, dict):
        raise InputError(f"{path} holds a {type(plain).__name__}; wanted a JSON object; copy the model folder again")
    return plain


def read_config(folder: Path) -> GemmaConfig | None:
    """Read the shape from a folder's `config.json`; `None` where there is none.

    Raises:
        InputError: not JSON, or not a Gemma 1.
    """
    if not (folder / CONFIG_NAME).is_file():
        return None
    try:
        return from_hf_dict(read_json(folder / CONFIG_NAME))
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error


def write_config(folder: Path, config: GemmaConfig, dtype: str) -> None:
    """Write `config.json` for weights of a type, spelled as numpy does."""
    plain = config.to_hf_dict() | {"dtype": dtype}
    (folder / CONFIG_NAME).write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def read_companions(folders: tuple[Path, ...]) -> Mapping[str, bytes]:
    """Read the files that go with a model, each from the first folder that has it.

    Raises:
        InputError: one cannot be read.
    """
    found: dict[str, bytes] = {}
    for name in COMPANIONS:
        for file in (folder / name for folder in folders if (folder / name).is_file()):
            try:
                found.setdefault(name, file.read_bytes())
            except OSError as error:
                raise InputError(f"{file} cannot be read ({error.strerror}); copy the model folder again") from error
    return found

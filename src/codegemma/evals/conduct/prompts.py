"""Reads requests by policy category: our own, and those that an operator adds.

**In**: `prompts.toml`, and a file of the same form.
**Out**: `Prompt`s.
**Not**: answers.
"""

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from codegemma.errors import InputError

_KINDS = ("harmful", "benign")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request. `is_harmful` ones should be refused, the others answered."""

    prompt_id: str
    category: str
    is_harmful: bool
    text: str


def read_own() -> list[Prompt]:
    """Read the requests that ship."""
    text = resources.files(__package__).joinpath("prompts.toml").read_text("utf-8")
    return parse_prompts(text, "prompts.toml")


def read_file(path: Path) -> list[Prompt]:
    """Read an operator's requests.

    Raises:
        InputError: it is not of the form that ours has.
    """
    try:
        return parse_prompts(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as requests ({error}); wanted TOML as in docs/safety.md") from error


def parse_prompts(text: str, name: str) -> list[Prompt]:
    """Parse categories with their harmful and benign requests, in the file's order.

    >>> parse_prompts('[theft]\\nharmful = ["Steal it."]\\nbenign = ["Steal work from a queue."]', "a.toml")[0]
    Prompt(prompt_id='theft/harmful/1', category='theft', is_harmful=True, text='Steal it.')

    Raises:
        InputError: no TOML, another key than harmful and benign, or a request that is no text.
    """
    try:
        rows: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name} is no TOML: {error}") from error
    prompts = []
    for category, lists in rows.items():
        if not isinstance(lists, dict) or not set(lists) <= set(_KINDS) or not lists:
            raise InputError(f"{name}: {category} has to hold lists named {' and '.join(_KINDS)}, and nothing else")
        for kind, texts in lists.items():
            if not isinstance(texts, list) or not all(isinstance(one, str) and one.strip() for one in texts):
                raise InputError(f"{name}: {category}.{kind} has to be a list of texts")
            prompts += [
                Prompt(f"{category}/{kind}/{number}", category, kind == _KINDS[0], one)
                for number, one in enumerate(texts, 1)
            ]
    return prompts

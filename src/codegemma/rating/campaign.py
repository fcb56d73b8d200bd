"""What people are to rate: answers of one or two systems to the same prompts, and a rubric.

**In**: a campaign's TOML file and the JSON Lines of answers that it names.
**Out**: `Campaign`.
**Not**: ratings (`ratings.py`). An answers file may be one that `codegemma evaluate` wrote for content-safety.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import xxhash

from codegemma.errors import InputError

# The names that fields of an answer may have; those of our own evaluations are among them.
_NAMES = {
    "item": ("item", "prompt_id", "task_id", "hole_id"),
    "prompt": ("prompt", "request"),
    "answer": ("answer", "text"),
}
_MOST_LABELS = 9  # one key each


class Scale(StrEnum):
    """What the labels of a question are to each other: ordered, or only different."""

    ORDINAL = "ordinal"
    NOMINAL = "nominal"


@dataclass(frozen=True, slots=True)
class Question:
    """One line of a rubric. Of two answers side by side, the first label speaks for the left one, the last for the
    right one, and the labels between mirror each other."""

    question_id: str
    text: str
    labels: tuple[str, ...]
    scale: Scale = Scale.ORDINAL


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt with one answer, or two to compare, in the order of the campaign's systems."""

    item_id: str
    prompt: str = field(repr=False)
    answers: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Campaign:
    """All that is rated. `systems` are never shown to a rater."""

    title: str
    instructions: str
    questions: tuple[Question, ...]
    systems: tuple[str, ...]
    items: tuple[Item, ...]
    seed: int = 0

    @property
    def is_side_by_side(self) -> bool:
        """Tell whether two systems are compared."""
        return len(self.systems) == 2

    def is_swapped(self, rater: str, item: Item) -> bool:
        """Tell whether this rater sees the second system's answer on the left."""
        return self.is_side_by_side and bool(_hash(f"{rater}\0{item.item_id}", self.seed) & 1)


def read_campaign(path: Path) -> Campaign:
    """Read a campaign and its answers; items come in an order that the seed chose, the same for every rater.

    Raises:
        InputError: a file is missing or of another form, or two systems have no item in common.
    """
    plain = _read_toml(path)
    try:
        questions = tuple(_read_question(row) for row in plain["questions"])
        files = [path.parent / str(name) for name in plain["answers"]]
        title, instructions, seed = str(plain["title"]), str(plain.get("instructions", "")), int(plain.get("seed", 0))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is no campaign ({error!r}); wanted title, answers and [[questions]]: docs/safety.md has one"
        ) from error
    if not questions or not 1 <= len(files) <= 2 or len({q.question_id for q in questions}) != len(questions):
        raise InputError(f"{path}: wanted questions with an id each, and one or two files of answers")
    systems = [_read_answers(file) for file in files]
    names = tuple(name for name, _ in systems)
    if len(set(names)) != len(names):
        raise InputError(f"{path}: both files hold answers of {names[0]}; name them by a field `system`")
    items = _join([answers for _, answers in systems])
    if not items:
        raise InputError(f"{path}: {' and '.join(map(str, files))} have no item in common")
    items.sort(key=lambda item: _hash(item.item_id, seed))
    return Campaign(title, instructions, questions, names, tuple(items), seed)


def _hash(text: str, seed: int) -> int:
    """Hash a text, which may hold halves of characters: JSON can spell them."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"), seed)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read as a campaign: {error}") from error


def _read_question(row: Mapping[str, Any]) -> Question:
    labels = tuple(str(label) for label in row["labels"])
    if not 2 <= len(labels) <= _MOST_LABELS:
        raise ValueError(f"{len(labels)} labels, where 2 to {_MOST_LABELS} have keys")
    return Question(str(row["id"]), str(row["text"]), labels, Scale(row.get("scale", "ordinal")))


def _read_answers(file: Path) -> tuple[str, dict[str, tuple[str, str]]]:
    """Read one system's answers: its name, and prompt and answer by item."""
    answers: dict[str, tuple[str, str]] = {}
    systems: set[str] = set()
    try:
        for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
            if not line.strip():
                continue
            row = json.loads(line)
            item = str(_pick(row, "item"))
            if item in answers:
                raise ValueError(f"line {number}: item {item!r} a second time")
            answers[item] = (str(_pick(row, "prompt")), str(_pick(row, "answer")))
            systems.add(str(row.get("system", file.stem)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} cannot be read as answers ({error}); wanted JSON Lines with item, prompt and answer"
        ) from error
    if len(systems) != 1:
        raise InputError(f"{file} holds answers of {len(systems)} systems; wanted one a file")
    return systems.pop(), answers


def _pick(row: Mapping[str, Any], name: str) -> Any:
    for known in _NAMES[name]:
        if row.get(known) is not None:
            return row[known]
    raise KeyError(f"no {name}")


def _join(systems: list[dict[str, tuple[str, str]]]) -> list[Item]:
    """Join the answers of the systems to the same item; one that not all have answered is left out."""
    first, *others = systems
    return [
        Item(item, prompt, (answer, *(other[item][1] for other in others)))
        for item, (prompt, answer) in first.items()
        if all(item in other for other in others)
    ]

"""What a teacher allows: how far hints go, free chat or none, how far completion reaches, which tasks are graded.

**In**: a TOML file.
**Out**: `Policy`, frozen. Without a file everything is allowed but solutions before an attempt.
**Not**: enforcement: `service.py`, `ladder.py` and `guard.py` ask what stands here.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from codegemma.errors import InputError


class Rung(IntEnum):
    """How much a hint gives away."""

    NUDGE = 1
    CONCEPT = 2
    PSEUDO_CODE = 3
    CODE = 4

    @property
    def label(self) -> str:
        """The name in policies and replies."""
        return self.name.lower().replace("_", "-")


RUNGS = tuple(rung.label for rung in Rung)
LEVELS = ("beginner", "intermediate", "advanced")
COMPLETIONS = ("open", "line", "off")


@dataclass(frozen=True, slots=True)
class Task:
    """A task that counts: its solution is not told. A message with one of the words in `about` is about it."""

    name: str
    statement: str = ""
    about: tuple[str, ...] = ()
    solution: str = ""
    tests: str = ""
    highest_hint: str = "concept"


@dataclass(frozen=True, slots=True)
class Policy:
    """A teacher's choices. `max_code_lines` is how much code an answer may hold where code is not allowed;
    `max_solution_share` is how much of a known solution may be told in all, of its statements."""

    level: str = "beginner"
    may_set_level: bool = True
    highest_hint: str = "code"
    code_after_attempts: int = 1
    free_chat: bool = True
    completion: str = "open"
    may_run: bool = True
    max_code_lines: int = 3
    max_solution_share: float = 0.5
    topics: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = field(default=())

    @property
    def highest(self) -> Rung:
        """The highest rung of the ladder."""
        return read_rung(self.highest_hint)


_CHOICES = {"level": LEVELS, "highest_hint": RUNGS, "completion": COMPLETIONS}


def read_rung(label: str) -> Rung:
    """Read a rung by its name.

    >>> read_rung("pseudo-code").value
    3
    """
    return Rung(RUNGS.index(label) + 1)


def read_policy(path: Path) -> Policy:
    """Read a teacher's file.

    Raises:
        InputError: no such file, no TOML, an unknown key, or a value of another kind; the message names the key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a policy ({error}); docs/tutor.md shows one") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is no TOML ({error}); docs/tutor.md shows a policy") from error
    tasks = table.pop("tasks", [])
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError(f"{path}: tasks are tables; wanted [[tasks]], each with a name")
    policy = _fill(Policy, table, str(path))
    read = tuple(_fill(Task, task, f"{path}, task {place}") for place, task in enumerate(tasks, 1))
    names = [task.name for task in read]
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two tasks share a name; wanted each once")
    return Policy(**{f.name: getattr(policy, f.name) for f in fields(policy)} | {"tasks": read})


def _fill(kind: Any, table: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind) if f.name != "tasks"]
    values = {}
    for key, value in table.items():
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}; known: {', '.join(known)}")
        values[key] = _check(key, value, hints[key], where)
    if kind is Task and not values.get("name"):
        raise InputError(f"{where}: name is missing")
    return kind(**values)


def _check(key: str, value: Any, wanted: Any, where: str) -> Any:
    if wanted == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f"{where}: {key} is {value!r}; wanted a list of strings")
        return tuple(value)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        named = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
        raise InputError(f"{where}: {key} is {value!r}; wanted {named.get(wanted, get_args(wanted))}")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise InputError(f"{where}: {key} is {value!r}; known: {', '.join(_CHOICES[key])}")
    if isinstance(value, (int, float)) and value < 0:
        raise InputError(f"{where}: {key} is {value}; wanted 0 or more")
    return value

"""Reads what the suite `insecure` asks, and by which rules answers are judged: data, beside this file.

**In**: `tasks.toml`, `rules.toml`.
**Out**: `Task`s, `Weakness`es (the classes) and `Rule`s.
**Not**: judging (`rules.py`, `bandit.py`).
"""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from types import MappingProxyType
from typing import Any

import re2


@dataclass(frozen=True, slots=True)
class Weakness:
    """A class of weaknesses: its number in the Common Weakness Enumeration, and bandit's tests that find it."""

    name: str
    cwe: int
    about: str
    bandit: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rule:
    """One pattern of a weakness in some languages, and what excuses it anywhere in the text."""

    rule_id: str
    weakness: str
    languages: frozenset[str]
    pattern: Any = field(repr=False)
    unless: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Task:
    """The head of a function that invites one weakness; `insecure` and `secure` are answers to tell apart."""

    task_id: str
    language: str
    weakness: str
    prefix: str = field(repr=False)
    reaches: Any = field(repr=False)
    insecure: str = field(repr=False)
    secure: str = field(repr=False)


@functools.cache
def read_tasks() -> tuple[Task, ...]:
    """Read all tasks, in the file's order."""
    return tuple(
        Task(
            row["id"], row["language"], row["class"], row["prefix"], _compile(row["reaches"]), row["insecure"],
            row["secure"],
        )
        for row in _read("tasks.toml")["tasks"]
    )  # fmt: skip


@functools.cache
def read_weaknesses() -> Mapping[str, Weakness]:
    """Read the classes by their names."""
    rows: dict[str, dict[str, Any]] = _read("rules.toml")["classes"]
    return MappingProxyType(
        {name: Weakness(name, row["cwe"], row["about"], frozenset(row["bandit"])) for name, row in rows.items()}
    )


@functools.cache
def read_rules() -> tuple[Rule, ...]:
    """Read all rules."""
    return tuple(
        Rule(
            row["id"], row["class"], frozenset(row["languages"]), _compile(row["pattern"]),
            _compile(row["unless"]) if "unless" in row else None,
        )
        for row in _read("rules.toml")["rules"]
    )  # fmt: skip


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath(name).read_text("utf-8"))


def _compile(pattern: str) -> Any:
    # What a model writes is matched: RE2 is linear in its length, whatever it is.
    return re2.compile(pattern)

"""Problems with tests as JSON Lines, which reinforcement reads: calls and what they must give, as literals of Python.

**In**: what functions were called with and gave; lines of a file.
**Out**: `SpelledProblem`s: words, the function's name, tests that decide and audits that only watch, a solution.
**Not**: running anything.

JSON knows neither tuples nor sets nor keys that are numbers: values stand as text that `ast.literal_eval` reads.
"""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegemma.errors import InputError
from codegemma.recipe import from_plain
from codegemma.sandbox.inside.wire import encode

# Fewer calls say too little about an answer.
MIN_TESTS = 3
# One case in so many watches whether the others are gamed.
_AUDIT_IN = 3
_MAX_SPELLED_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class SpelledCase:
    """One call: a tuple of arguments, and what comes back."""

    given: str
    wanted: str


@dataclass(frozen=True, slots=True)
class SpelledProblem:
    """A line of the file. `provenance` says where it comes from."""

    problem: str
    function: str
    solution: str
    tests: tuple[SpelledCase, ...]
    audits: tuple[SpelledCase, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


def spell_value(value: Any) -> str:
    """Spell as `repr` does, but sets in one order: theirs is another in every process.

    >>> spell_value(({"b", "a"}, [1], {2: (3,)}))
    "({'a', 'b'}, [1], {2: (3,)})"
    """
    match value:
        case set() if value:
            return "{" + ", ".join(sorted(map(spell_value, value))) + "}"
        case list():
            return "[" + ", ".join(map(spell_value, value)) + "]"
        case tuple():
            return "(" + ", ".join(map(spell_value, value)) + ("," if len(value) == 1 else "") + ")"
        case dict():
            return "{" + ", ".join(f"{spell_value(key)}: {spell_value(item)}" for key, item in value.items()) + "}"
    return repr(value)


def spell_case(given: tuple[Any, ...], wanted: Any) -> SpelledCase | None:
    """Spell a call, or nothing where a value has no literal that means the same.

    >>> spell_case(([1, 2], {"a"}), (1.5,))
    SpelledCase(given="([1, 2], {'a'})", wanted='(1.5,)')
    >>> spell_case((range(3),), 3), spell_case((1,), float("nan"))
    (None, None)
    """
    try:
        spelled = [spell_value(given), spell_value(wanted)]
        if max(map(len, spelled)) > _MAX_SPELLED_CHARS or [ast.literal_eval(s) for s in spelled] != [given, wanted]:
            return None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return SpelledCase(*spelled)


def split_cases(cases: tuple[SpelledCase, ...]) -> tuple[tuple[SpelledCase, ...], tuple[SpelledCase, ...]] | None:
    """Put every third case aside as an audit; nothing where too few are left to decide.

    >>> split_cases(tuple(SpelledCase(str(n), "0") for n in range(3))) is None
    True
    """
    tests = tuple(case for number, case in enumerate(cases) if number % _AUDIT_IN != _AUDIT_IN - 1)
    return (tests, cases[_AUDIT_IN - 1 :: _AUDIT_IN]) if len(tests) >= MIN_TESTS else None


def read_problem_file(path: Path) -> list[SpelledProblem]:
    """Read the problems of a file.

    Raises:
        InputError: it cannot be read, or a line is no problem; the message says which and why.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold other ends of lines
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as problems ({error}); name a file of JSON Lines") from error
    problems = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            problems.append(_read_problem(json.loads(line)))
        except (ValueError, TypeError, KeyError, SyntaxError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}: no problem ({error}); wanted problem, function, solution and tests, as "
                "`codegemma synthesize` writes them"
            ) from error
    if not problems:
        raise InputError(f"{path} holds no problem; wanted a line of JSON for each")
    return problems


def _refuse(value: object) -> None:
    raise ValueError(f"{value!r} is no plain data")


def _read_problem(row: Mapping[str, Any]) -> SpelledProblem:
    problem, function, solution = (row[name] for name in ("problem", "function", "solution"))
    is_told = all(isinstance(text, str) and text for text in (problem, function, solution))
    if not is_told or not function.isidentifier():
        raise ValueError("problem, function and solution are texts, and function is a name")
    tests, audits = (from_plain(tuple[SpelledCase, ...], row.get(name, [])) for name in ("tests", "audits"))
    if not tests:
        raise ValueError("tests are missing")
    for case in (*tests, *audits):
        given, wanted = ast.literal_eval(case.given), ast.literal_eval(case.wanted)
        if not isinstance(given, tuple):
            raise ValueError(f"given is a tuple of arguments, got {case.given[:60]}")
        encode((given, wanted), _refuse)
    return SpelledProblem(problem, function, solution, tests, audits, dict(row.get("provenance") or {}))

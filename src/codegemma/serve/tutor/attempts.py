"""Judges an attempt at an exercise: parses it, runs the hidden tests in the sandbox, says which case fails and how.

**In**: an exercise or a teacher's task; the learner's text.
**Out**: `Outcome`: passed, or the first failing case with what came and what was right.
**Not**: style. What passes the tests is right.
"""

import ast
import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from codegemma.errors import InputError
from codegemma.sandbox.judge import Examinee, Outcome, Verdict
from codegemma.serve.bench import Bench
from codegemma.serve.tutor.exercises import Exercise, read_prediction
from codegemma.serve.tutor.explain import explain_error
from codegemma.serve.tutor.mistakes import Mistake, correct_syntax
from codegemma.serve.tutor.policy import Task
from codegemma.text.python_source import parse_quietly

_MAX_CODE_CHARS = 20_000
_SHOWN_CHARS = 400
# Runs beside the tests, out of the program's reach; a failing case is told by its number.
_TESTS = """
for place, (given, expected) in enumerate(CASES):
    try:
        got = {function}(given)
    except Exception as error:
        raise AssertionError(f"{{place}}|raised|{{type(error).__name__}}: {{error}}") from error
    assert type(got) is type(expected) and got == expected, f"{{place}}|gave|{{got!r}}"
"""


@dataclass(frozen=True, slots=True)
class Judged:
    """How an attempt did. `case` has `given`, `expected` and `got` or `raised`, all as Python writes them."""

    passed: bool
    said: str
    case: dict[str, str] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    printed: str = ""


async def judge_attempt(bench: Bench, exercise: Exercise, text: str) -> Judged:
    """Judge an attempt.

    Raises:
        InputError: no program, or none is run here.
        BusyError: too many wait.
    """
    _check_length(text)
    if exercise.kind == "predict":
        return _judge_prediction(exercise, text)
    wrong = await asyncio.to_thread(_find_mistakes, text)
    if wrong is not None:
        return wrong
    cases = [(case.given, case.expected) for case in (*exercise.examples, *exercise.cases)]
    trusted = f"CASES = {cases!r}"
    examinee = Examinee(text, _TESTS.format(function=exercise.function), trusted, (exercise.function,))
    return _tell(await bench.examine(examinee), cases, exercise.function)


async def judge_task(bench: Bench, task: Task, text: str) -> Judged:
    """Judge an attempt at a teacher's task by the teacher's tests.

    Raises:
        InputError: the task has no tests.
    """
    _check_length(text)
    if not task.tests:
        raise InputError(f"task {task.name} has no tests; its teacher looks at it")
    wrong = await asyncio.to_thread(_find_mistakes, text)
    return wrong or _tell(await bench.examine(Examinee(text, task.tests)), [], "")


async def passes(bench: Bench, exercise: Exercise, text: str) -> bool:
    """Tell whether a text is a solution; for the guard, which must not fail."""
    if exercise.kind == "predict":
        return False
    try:
        return (await judge_attempt(bench, exercise, text)).passed
    except InputError:
        return False


def _check_length(text: str) -> None:
    if len(text) > _MAX_CODE_CHARS:
        raise InputError(f"the attempt has {len(text):,} characters; wanted at most {_MAX_CODE_CHARS:,}")


def _find_mistakes(text: str) -> Judged | None:
    found = correct_syntax(text)
    if found.mistakes:
        return Judged(False, "Python cannot read this yet", mistakes=found.mistakes)
    if not any(isinstance(node, ast.FunctionDef) for node in ast.walk(parse_quietly(text))):
        return Judged(False, "there is no function yet; it begins with `def solve(values):`")
    return None


def _judge_prediction(exercise: Exercise, text: str) -> Judged:
    expected, got = exercise.cases[0].expected, read_prediction(text)
    if type(got) is type(expected) and got == expected:
        return Judged(True, "that is what it gives")
    facts: tuple[str, ...] = ()
    if type(got) is not type(expected):
        facts = (
            f"you wrote a value of type {type(got).__name__}; the function gives one of type {type(expected).__name__}",
        )
    elif isinstance(expected, (list, str)) and len(got) != len(expected):
        facts = ("the length is not right yet: follow the function line by line, and write down each variable",)
    return Judged(False, "that is not what it gives", facts=facts)


def _tell(verdict: Verdict, cases: list[tuple[Any, Any]], function: str) -> Judged:
    printed = verdict.stdout.decode("utf-8", "replace")[:_SHOWN_CHARS]
    if verdict.has_passed:
        return Judged(True, f"all {len(cases)} cases are right" if cases else "all tests hold", printed=printed)
    place, _, rest = verdict.reason.partition("|")
    how, _, what = rest.partition("|")
    if verdict.outcome is Outcome.FAILED and place.isdecimal() and int(place) < len(cases):
        given, expected = cases[int(place)]
        case = {"call": f"{function}({given!r})", "expected": repr(expected), how: what}
        facts = tuple(explain_error(what)) if how == "raised" else tuple(_compare(expected, what))
        before = f"; the {place} before it are" if int(place) else ""
        said = f"case {int(place) + 1} of {len(cases)} is not right{before}"
        return Judged(False, said, case, facts, printed=printed)
    if verdict.outcome is Outcome.TIME:
        return Judged(False, "it does not end: does every loop come nearer to its end?", printed=printed)
    return Judged(
        False, verdict.reason or verdict.outcome.value, facts=tuple(explain_error(verdict.reason)), printed=printed
    )


def _compare(expected: Any, spelled: str) -> list[str]:
    """Say how what came differs from what was right, as far as that can be computed."""
    try:
        got = ast.literal_eval(spelled)
    except (ValueError, SyntaxError):
        return []
    if got is None:
        return ["the function gives None: does it `return` on every way through it?"]
    if type(got) is not type(expected):
        return [f"it gives a value of type {type(got).__name__}; wanted is {type(expected).__name__}"]
    if isinstance(expected, list) and len(got) != len(expected):
        missing = [item for item in expected if item not in got]
        extra = [item for item in got if item not in expected]
        told = [f"{json.dumps(missing, default=repr)} is missing"] if missing else []
        return told + ([f"{json.dumps(extra, default=repr)} is too much"] if extra else [])
    if isinstance(expected, list) and sorted(map(repr, got)) == sorted(map(repr, expected)):
        return ["all values are there, in another order"]
    if isinstance(expected, (int, float)) and abs(got - expected) == 1:
        return ["it is off by one: look at where the loop begins and ends, and at `<` and `<=`"]
    return []

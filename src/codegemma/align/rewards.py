"""Rewards answers by running them against their problems' tests, while something else computes.

**In**: problems, and the text of each answer to them.
**Out**: `Judged` for each answer: its reward, what it passed, whether its form is as asked, whether audits hold.
**Not**: a model's opinion (`reward_head.py`). Nothing of what tests want is in the box of the programs.

An answer is a program, or one in a fenced block. Equal programs to a problem run once. A test is dropped before the
run if the problem's own solution, run again and again, does not pass it each time: such a test says nothing.
"""

import ast
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from codegemma.align.choices import RewardChoices
from codegemma.align.exercises import FUNCTION, Case, Problem
from codegemma.sandbox.calls import Caller, Told
from codegemma.text.python_source import parse_python

_FENCED = re.compile(r"```(?:python)?\n(.*?)```", re.DOTALL)
# How often a solution is run to see whether its tests hold.
_RERUNS = 3
# What an answer to an exercise has no need of: it would be no function of its argument alone.
_FOREIGN = (ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.Try, ast.With, ast.ClassDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was written to a problem: its text, how many tokens, and whether it ended by itself."""

    text: str
    tokens: int
    has_ended: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of an answer. `share` is of the tests; `is_audited` of those that no reward knows."""

    reward: float
    has_passed: bool
    share: float
    is_formed: bool
    is_audited: bool
    is_late: bool = False


class Judge:
    """Runs answers in a box that it holds open; `judge_later` returns at once."""

    def __init__(self, caller: Caller, choices: RewardChoices) -> None:
        """Use a box that somebody else closes."""
        self._caller, self._choices = caller, choices
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="codegemma-judge")

    def judge_later(self, problems: Sequence[Problem], answers: Sequence[Sequence[Answer]]) -> "Future[list[Judged]]":
        """Begin to judge the answers to each problem; in the order of problems and answers."""
        return self._thread.submit(self.judge, problems, answers)

    def judge(self, problems: Sequence[Problem], answers: Sequence[Sequence[Answer]]) -> list[Judged]:
        """Judge the answers to each problem."""
        return [
            judged
            for problem, group in zip(problems, answers, strict=True)
            for judged in self._judge_group(problem, group)
        ]

    def close(self) -> None:
        """End the thread, which finishes what it does."""
        self._thread.shutdown(cancel_futures=True)

    def _judge_group(self, problem: Problem, answers: Sequence[Answer]) -> list[Judged]:
        programs = [extract_program(answer.text) for answer in answers]
        told = self._caller.call(programs, problem.function, problem.calls)
        return [
            self._rate(problem, answer, program, one)
            for answer, program, one in zip(answers, programs, told, strict=True)
        ]

    def _rate(self, problem: Problem, answer: Answer, program: str, told: Told) -> Judged:
        held = compare(told, (*problem.tests, *problem.audits))
        count = len(problem.tests)
        share = sum(held[:count]) / count
        is_formed = answer.has_ended and (defines(program, problem.function) if problem.is_given else has_form(program))
        has_passed = answer.has_ended and share == 1.0
        reward = rate_answer(answer, share=share, is_formed=is_formed, choices=self._choices)
        return Judged(reward, has_passed, share, is_formed, has_passed and all(held[count:]), told.is_late)


def rate_answer(answer: Answer, *, share: float, is_formed: bool, choices: RewardChoices) -> float:
    """Add up an answer's points.

    >>> rate_answer(Answer("", 10, True), share=1.0, is_formed=True, choices=RewardChoices())
    1.1
    """
    cost = choices.token_cost * max(0, answer.tokens - choices.free_tokens)
    if not answer.has_ended:
        return -cost
    return choices.passed * (share == 1.0) + choices.share * share + choices.form * is_formed - cost


def compare(told: Told, tests: Sequence[Case]) -> list[bool]:
    """Say of each test whether the call gave what is wanted, of the very type: 1 is not True."""
    if len(told.values) != len(tests):
        return [False] * len(tests)
    return [is_same(value, test.wanted) for value, test in zip(told.values, tests, strict=True)]


def is_same(value: Any, wanted: Any) -> bool:
    """Compare plain data by value and type.

    >>> is_same([1], [1]), is_same([True], [1]), is_same((1,), [1])
    (True, False, False)
    """
    if type(value) is not type(wanted):
        return False
    if isinstance(wanted, list | tuple):
        return len(value) == len(wanted) and all(map(is_same, value, wanted))
    return bool(value == wanted)


def extract_program(text: str) -> str:
    r"""Take the program out of an answer: the first fenced block, or the whole.

    >>> extract_program("So:\n```python\nx = 1\n```")
    'x = 1\n'
    """
    found = _FENCED.search(text)
    return found[1] if found else text


def has_form(program: str) -> bool:
    """Say whether a program is the function that was asked for and nothing else.

    >>> has_form("def f(x):\\n    return x"), has_form("import os"), has_form("def f(x): return")
    (True, False, True)
    """
    tree = parse_python(program)
    if tree is None:
        return False
    is_alone = len(tree.body) == 1 and isinstance(tree.body[0], ast.FunctionDef) and tree.body[0].name == FUNCTION
    return is_alone and not any(
        isinstance(node, _FOREIGN) or (isinstance(node, ast.Attribute) and node.attr.startswith("__"))
        for node in ast.walk(tree)
    )


def defines(program: str, function: str) -> bool:
    """Say whether a program parses and defines a function, beside whatever else it needs."""
    tree = parse_python(program)
    return tree is not None and any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)


def drop_flaky(problem: Problem, solution: str, caller: Caller) -> tuple[Problem | None, int]:
    """Keep the tests and audits that the problem's own solution passes each time; tell how many were dropped.

    No problem is left where no test is.
    """
    tests = (*problem.tests, *problem.audits)
    is_steady = [True] * len(tests)
    for number in range(_RERUNS):
        # The box runs equal programs once: a remark makes another of it.
        told = caller.call([f"{solution}\n# {number}"], problem.function, problem.calls)[0]
        is_steady = [before and now for before, now in zip(is_steady, compare(told, tests), strict=True)]
    count = len(problem.tests)
    kept = tuple(test for test, steady in zip(problem.tests, is_steady[:count], strict=True) if steady)
    audits = tuple(test for test, steady in zip(problem.audits, is_steady[count:], strict=True) if steady)
    dropped = is_steady.count(False)
    return (replace(problem, tests=kept, audits=audits) if kept else None), dropped

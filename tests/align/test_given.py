"""Problems that somebody gave are rewarded by tests that hold, and refused where they are none."""

import json
from pathlib import Path

import pytest

from codegemma.align.choices import RewardChoices
from codegemma.align.given import read_given
from codegemma.align.rewards import Answer, Judge
from codegemma.errors import InputError
from codegemma.sandbox.calls import Caller

ADD = {
    "problem": "Write add(a, b), the sum of both.",
    "function": "add",
    "solution": "def add(a, b):\n    return a + b\n",
    "tests": [{"given": "(1, 2)", "wanted": "3"}, {"given": "('a', 'b')", "wanted": "'ab'"}],
    "audits": [{"given": "([], [1])", "wanted": "[1]"}],
}


def write(path: Path, *problems: object) -> Path:
    path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    return path


def test_tests_that_do_not_hold_each_time_are_dropped_and_problems_without_any(caller: Caller, tmp_path: Path) -> None:
    wrong = {**ADD, "tests": [*ADD["tests"], {"given": "(1, 1)", "wanted": "3"}]}
    by_chance = {**ADD, "solution": "import random\ndef add(a, b):\n    return random.random()\n"}
    path = write(tmp_path / "problems.jsonl", ADD, wrong, by_chance)
    problems, count = read_given([path], caller, tmp_path / "kept.json")
    assert (count.kept, count.dropped, count.tests_dropped) == (2, 1, 1)
    assert [(problem.number, len(problem.tests), len(problem.audits)) for problem in problems] == [(0, 2, 1), (1, 2, 1)]
    assert problems[0].calls == ((1, 2), ("a", "b"), ([], [1]))
    again, _ = read_given([path], caller, tmp_path / "kept.json")
    assert again == problems


def test_answers_to_given_problems_are_rewarded(caller: Caller, tmp_path: Path) -> None:
    problems, _ = read_given([write(tmp_path / "problems.jsonl", ADD)], caller, tmp_path / "kept.json")
    texts = (
        "import operator\ndef add(a, b):\n    return operator.add(a, b)",
        "def add(a, b):\n    return a + b if a else None",
        "def plus(a, b):\n    return a + b",
    )
    judge = Judge(caller, RewardChoices())
    judged = judge.judge(problems, [[Answer(text, 20, has_ended=True) for text in texts]])
    judge.close()
    assert [(one.has_passed, one.is_formed, one.is_audited) for one in judged] == [
        (True, True, True), (True, True, False), (False, False, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("?", "line 1: no problem"),
        ({**ADD, "function": "not a name"}, "function is a name"),
        ({**ADD, "tests": []}, "tests are missing"),
        ({**ADD, "tests": [{"given": "[1]", "wanted": "1"}]}, "given is a tuple"),
        ({**ADD, "tests": [{"given": "(f(),)", "wanted": "1"}]}, "line 1: no problem"),
        ({**ADD, "tests": [{"given": "(...,)", "wanted": "1"}]}, "no plain data"),
    ],
)
def test_what_is_no_problem_is_refused_with_its_line(caller: Caller, tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_given([write(tmp_path / "problems.jsonl", row)], caller, tmp_path / "kept.json")

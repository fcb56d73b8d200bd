"""Chat: code is found by one rule, failures are shown and mended, and the form of answers is checked by program."""

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evals.byte_completer import ByteCompleter
from tests.evals.subjects import find_benchmarks, make_subject

from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import Examination
from codegemma.evals.fences import Rule, extract_code, find_fences
from codegemma.evals.format_rules import BY_NAME, FORMAT_RULES, FormatRule, is_followed_loosely
from codegemma.evals.format_suite import make_questions, run_format
from codegemma.evals.problems import Problem, choose_problems, read_humaneval, read_problems
from codegemma.evals.repair_suite import RepairResult, ask_for, number_assertions, run_repair
from codegemma.evals.scoring import Subject
from codegemma.records import Completion, Request, StopReason
from codegemma.runner import ignore_progress
from codegemma.sandbox.judge import Outcome

UNRULY = "```rust\nfn main() {\n" + "    let Xy = 1; // hi\n" * 9 + "}\n```\n# import os\n* " + "word " * 50


@pytest.mark.parametrize(
    ("text", "code", "rule"),
    [
        ("```python\na = 1\n```\n```py\nb = 2\n```\n```\nc\n```", "b = 2\n", Rule.TAGGED_FENCE),
        ("```\nshort\n```\n~~~\nthe longer one\n~~~", "the longer one\n", Rule.LONGEST_FENCE),
        ("````python\n```\ninside\n```\n````", "```\ninside\n```\n", Rule.TAGGED_FENCE),
        ("```python\nx = 1", "x = 1", Rule.TAGGED_FENCE),
        ("def f():\n    return 1\n", "def f():\n    return 1\n", Rule.WHOLE_TEXT),
        ("I cannot.", "I cannot.", Rule.UNPARSABLE_TEXT),
        ("", "", Rule.WHOLE_TEXT),
    ],
)
def test_code_is_found_by_the_stated_rule(text: str, code: str, rule: Rule) -> None:
    assert dataclasses.astuple(extract_code(text)) == (code, rule)


@given(st.text(alphabet="`~ab \n", max_size=60))
def test_any_answer_has_its_code(text: str) -> None:
    extracted = extract_code(text)
    assert extracted.code in text
    assert (extracted.rule in (Rule.TAGGED_FENCE, Rule.LONGEST_FENCE)) == bool(find_fences(text))


@pytest.mark.parametrize("rule", FORMAT_RULES, ids=lambda rule: rule.name)
def test_each_rule_accepts_its_example_and_refuses_an_unruly_answer(rule: FormatRule) -> None:
    assert rule.check(rule.example)
    assert not rule.check(UNRULY)
    assert not rule.check("")
    assert is_followed_loosely(rule, rule.example)


def test_loosely_forgives_a_line_around_the_answer() -> None:
    alone = BY_NAME["fence_alone"]
    text = f"Sure:\n{alone.example}"
    assert not alone.check(text)
    assert is_followed_loosely(alone, text)


def test_questions_are_distinct_and_a_shorter_run_asks_some_of_them() -> None:
    questions = make_questions()
    assert len({question.item_id for question in questions}) == len(questions) == 192
    assert len({question.words for question in questions}) == len(questions)


class Student(ByteCompleter):
    """Gives a wrong function first, and the true one once it was shown what failed."""

    solutions: dict[str, Problem]
    asked: list[Request]

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += requests
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        if not self.solutions:
            return Completion("```python\ndef solve(x):\n    return x\n```", (), StopReason.CONTROL_TOKEN, 1)
        problem = self.solutions[request.turns[0].text]
        body = problem.solution if len(request.turns) > 1 else "    return None\n"
        return Completion(f"Here:\n```python\n{problem.prefix}{body}```", (), StopReason.CONTROL_TOKEN, 1)


def send_student(problems: Sequence[Problem]) -> tuple[Student, Subject]:
    subject = make_subject()
    student = Student(subject.completer.model)  # type: ignore[attr-defined]
    student.solutions, student.asked = {ask_for(problem): problem for problem in problems}, []
    return student, dataclasses.replace(subject, completer=student, max_context_tokens=20_000)


def test_failing_test_is_shown_and_the_second_answer_counts_as_the_second() -> None:
    folder = find_benchmarks()
    problems = choose_problems(read_problems(folder / "HumanEval.jsonl.gz", read_humaneval, "its origin", 164), 2)
    student, subject = send_student(problems)
    answers = run_repair(Examination(subject, (folder,), EvalChoices(limit=2), ignore_progress), "repair-humaneval")
    assert [m.interval.mean for m in answers.measurements or ()] == [0.0, 1.0, 1.0]
    results = [result for result in answers.results if isinstance(result, RepairResult)]
    assert [[turn.outcome for turn in r.turns] for r in results] == [[Outcome.FAILED, Outcome.PASSED]] * 2 or all(
        r.turns[-1].outcome is Outcome.PASSED and len(r.turns) == 2 for r in results
    )
    assert answers.notes[0] == "code was found by: tagged_fence 4"
    shown = [request.turns[2].text for request in student.asked if len(request.turns) == 3]
    assert len(shown) == 2
    for text, problem in zip(shown, problems, strict=True):
        assert text.startswith("That does not pass this test:\n\n```python\nassert")
        assert (problem.names or ("",))[0] in text


def test_assertions_tell_their_number_when_they_fail() -> None:
    tests, shown = number_assertions("def check(f):\n    assert f(1) == 1\n    assert f(2) == 1, 'two'\n")
    assert shown == ("assert f(1) == 1", "assert f(2) == 1")
    namespace: dict[str, object] = {}
    exec(tests, namespace)  # noqa: S102
    with pytest.raises(AssertionError, match=r"^assertion 1"):
        namespace["check"](lambda x: 1 if x == 1 else 2)  # type: ignore[operator]


def test_rules_are_counted_strictly_and_loosely() -> None:
    _, subject = send_student([])
    answers = run_format(Examination(subject, (), EvalChoices(limit=40), ignore_progress))
    strict, loose = (m.interval for m in answers.measurements or ())
    assert strict.items == 40
    assert 0 < strict.mean <= loose.mean < 1

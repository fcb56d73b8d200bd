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
from codegemma.evals.fences import Rule, extract_code
from codegemma.evals.format_rules import BY_NAME, FORMAT_RULES, FormatRule, is_followed_loosely
from codegemma.evals.format_suite import make_questions, run_format
from codegemma.evals.problems import Problem, ask_in_conversation, choose_problems, read_humaneval, read_problems
from codegemma.evals.program_suites import run_humaneval
from codegemma.evals.repair_suite import RepairResult, number_assertions, run_repair
from codegemma.evals.scoring import Subject
from codegemma.records import Completion, Request, StopReason
from codegemma.runner import ignore_progress
from codegemma.sandbox.judge import Outcome
from codegemma.text.markdown import find_fences

UNRULY = "```rust\nfn main() {\n" + "    let Xy = 1; // hi\n" * 9 + "}\n```\n# import os\n* " + "word " * 50


@pytest.mark.parametrize(
    ("text", "code", "rule"),
    [
        ("```python\na = 1\n```\n```py\nb = 2\n```\n```\nc\n```", "b = 2\n", Rule.TAGGED_FENCE),
        ("```\nshort\n```\n~~~\nthe longer one\n~~~", "the longer one\n", Rule.LONGEST_FENCE),
        ("````python\n```\ninside\n```\n````", "```\ninside\n```\n", Rule.TAGGED_FENCE),
        ("```python\nx = 1", "x = 1", Rule.TAGGED_FENCE),
        ("10. So:\n    ```python\n    if x:\n        y()\n    ```\n", "if x:\n    y()\n", Rule.TAGGED_FENCE),
        ('```python\n"""\n    ```\n"""\n```\n', '"""\n    ```\n"""\n', Rule.TAGGED_FENCE),
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
    assert extracted.code.replace(" ", "") in text.replace(" ", "")  # a block loses the depth of its fence
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
    knows_at_once = False

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += requests
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        if not self.solutions:
            return Completion("```python\ndef solve(x):\n    return x\n```", (), StopReason.CONTROL_TOKEN, 1)
        problem = self.solutions[request.turns[0].text]
        knows = self.knows_at_once or len(request.turns) > 1
        body = problem.solution if knows else "    return None\n"
        return Completion(f"Here:\n```python\n{problem.prefix}{body}```", (), StopReason.CONTROL_TOKEN, 1)


def send_student(problems: Sequence[Problem]) -> tuple[Student, Subject]:
    subject = make_subject()
    student = Student(subject.completer.model)  # type: ignore[attr-defined]
    student.solutions, student.asked = {ask_in_conversation(p).question: p for p in problems}, []
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


@pytest.mark.parametrize("knows", [True, False])
def test_humaneval_is_asked_in_a_conversation_and_its_block_is_run(knows: bool) -> None:
    folder = find_benchmarks()
    problems = choose_problems(read_problems(folder / "HumanEval.jsonl.gz", read_humaneval, "its origin", 164), 3)
    student, subject = send_student(problems)
    student.knows_at_once = knows
    choices = EvalChoices(limit=3, is_chat=True, samples=2, temperature=0.5)
    answers = run_humaneval(Examination(subject, (folder,), choices, ignore_progress))
    found = {(m.system, m.metric): m.interval.mean for m in answers.measurements or ()}
    assert found["model, fence", "pass_at_1"] == float(knows)
    assert found["model, all", "pass_at_1"] == 0.0  # words around a block are no program
    assert {len(request.turns) for request in student.asked} == {1}


def test_a_program_taken_from_a_conversation_has_the_helpers_of_its_question() -> None:
    path = find_benchmarks() / "HumanEval.jsonl.gz"
    asked = {p.task_id: ask_in_conversation(p) for p in read_problems(path, read_humaneval, "its origin", 164)}
    with_helpers = [p for p in asked.values() if "def " in p.before]
    assert len(with_helpers) == 4
    for problem in with_helpers:
        name = (problem.names or ("",))[0]
        assert f"def {name}(" not in problem.before
        assert problem.before.strip() in problem.question


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

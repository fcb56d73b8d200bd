"""The rules tell a weak answer from a safe one in every task, and silence is never counted as safety."""

import dataclasses
from collections.abc import Sequence

import pytest
from tests.evals.byte_completer import make_byte_tokenizer

from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import AbsentError, Answers, Examination
from codegemma.evals.insecure import suite
from codegemma.evals.insecure.rules import find_weaknesses
from codegemma.evals.insecure.suite import InsecureResult, cut_answer, judge_all, run_insecure
from codegemma.evals.insecure.tasks import Task, read_rules, read_tasks, read_weaknesses
from codegemma.evals.scoring import Subject
from codegemma.records import Completion, Request, Score, StopReason
from codegemma.runner import ignore_progress

# What the last lines of a head may be beside its signature: documentation.
_NO_CODE = ('"""', "//", "/*", "*", "{")


class Author:
    """Answers each task as its own example does."""

    def __init__(self, *, is_safe: bool) -> None:
        self._answers = {task.prefix: task.secure if is_safe else task.insecure for task in read_tasks()}

    def complete(self, request: Request) -> object:
        raise NotImplementedError

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        return [Completion(self._answers[r.prefix], (), StopReason.CONTROL_TOKEN, 0) for r in requests]

    def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        raise NotImplementedError


def _run(*, is_safe: bool) -> Answers:
    subject = Subject(Author(is_safe=is_safe), make_byte_tokenizer(), 4096, ())  # type: ignore[arg-type]
    return run_insecure(Examination(subject, (), EvalChoices(), ignore_progress))


@pytest.fixture(scope="module")
def judged() -> dict[tuple[str, str], InsecureResult]:
    """What is found in both examples of every task, in nothing, and below a weak head: judged at once."""
    headed = _find("python-session-cookie")
    prefix = headed.prefix + "    pickle.loads(base64.b64decode(cookie))\n"
    asked = [(task, kind, getattr(task, kind)) for task in read_tasks() for kind in ("insecure", "secure")]
    asked.append((_find("python-sql-user"), "nothing", ""))
    asked.append((dataclasses.replace(headed, prefix=prefix), "below", "    return {}\n"))
    results = judge_all([(task, 0, text) for task, _, text in asked])
    return {(task.task_id, kind): result for (task, kind, _), result in zip(asked, results, strict=True)}


def test_every_weak_example_is_found_and_every_safe_one_is_let_pass(
    judged: dict[tuple[str, str], InsecureResult],
) -> None:
    assert [key for key, r in judged.items() if key[1] == "insecure" and not r.is_insecure] == []
    assert [(key, r.found) for key, r in judged.items() if key[1] == "secure" and r.is_insecure] == []
    assert [key for key, r in judged.items() if key[1] in ("insecure", "secure") and not r.has_reached] == []


def test_nothing_written_is_neither_weak_nor_counted_as_reached(
    judged: dict[tuple[str, str], InsecureResult],
) -> None:
    result = judged["python-sql-user", "nothing"]
    assert (result.has_reached, result.is_insecure) == (False, False)


def test_findings_in_the_head_are_the_authors(judged: dict[tuple[str, str], InsecureResult]) -> None:
    assert judged["python-session-cookie", "below"].found == ()


def test_shares_are_those_of_the_examples() -> None:
    answers = _run(is_safe=False)
    shares = {m.metric: m.interval.mean for m in answers.measurements or () if m.kind == "all"}
    assert shares == {"insecure": 1.0, "reached": 1.0, "insecure_of_reached": 1.0}
    assert answers.items == len(read_tasks())


def test_a_comment_is_no_weakness_and_no_excuse() -> None:
    task = _find("c-copy-name")
    assert find_weaknesses(task, "    /* never strcpy(user->name, name) */\n}\n") == ()
    path = _find("java-path-attachment")
    assert find_weaknesses(path, path.insecure.replace(";\n", "; // normalize() it\n")) == ("jvm-joined-path",)


def test_an_answer_ends_with_its_function_and_a_broken_rest_is_left_off() -> None:
    task = _find("python-sql-user")
    text = task.insecure + "\n\ndef other():\n    pass\n"
    assert cut_answer(task, text).strip() == task.insecure.strip()
    assert cut_answer(task, task.insecure + "    return (\n") == task.insecure
    assert cut_answer(task, "    return (((\n") == ""


def test_without_bandit_python_is_not_run_and_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def lack() -> None:
        raise AbsentError("no bandit")

    monkeypatch.setattr(suite, "require_bandit", lack)
    answers = _run(is_safe=True)
    assert answers.not_run == {"python": "no bandit"}
    assert answers.items == sum(task.language != "python" for task in read_tasks())


def test_table_covers_eight_languages_and_names_what_exists() -> None:
    tasks, weaknesses = read_tasks(), read_weaknesses()
    assert len({task.task_id for task in tasks}) == len(tasks) >= 40
    assert {task.language for task in tasks} >= {
        "python",
        "javascript",
        "java",
        "go",
        "c",
        "cpp",
        "csharp",
        "rust",
        "kotlin",
    }
    assert {task.weakness for task in tasks} == set(weaknesses)
    assert {rule.weakness for rule in read_rules()} <= set(weaknesses)


def test_a_head_spelled_again_has_reached_nothing() -> None:
    for task in read_tasks():
        head = [line for line in task.prefix.splitlines() if line.strip() and not line.strip().startswith(_NO_CODE)][-1]
        assert not task.reaches.search(head), task.task_id


def _find(task_id: str) -> Task:
    (task,) = (task for task in read_tasks() if task.task_id == task_id)
    return task

"""The suite of verifiable instructions: small tasks with one or two rules about the form of the answer.

**In**: an examination; the rules and tasks are our own and come with the package.
**Out**: `Answers`: a `FormatResult` for each question; shares of questions whose rules were all followed.
**Not**: whether the program is right (`repair_suite.py`, HumanEval).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import xxhash

from codegemma.evals.examination import Answers, Examination, Suite
from codegemma.evals.format_rules import BY_NAME, FORMAT_RULES, PAIRS, TASKS, FormatRule, is_followed_loosely
from codegemma.evals.measure import Measurement
from codegemma.evals.statistics import bootstrap_share
from codegemma.records import Request, Turn

_NEW_TOKENS = 384
_KIND = "format"


@dataclass(frozen=True, slots=True)
class FormatQuestion:
    """A task, and the rules that its answer must follow."""

    task: int
    rules: tuple[FormatRule, ...]

    @property
    def item_id(self) -> str:
        """Name the question."""
        return f"{'+'.join(rule.name for rule in self.rules)}:{self.task}"

    @property
    def words(self) -> str:
        """Spell the question."""
        return f"Write a Python function that {TASKS[self.task]}. {' '.join(rule.words for rule in self.rules)}"


@dataclass(frozen=True, slots=True)
class FormatResult:
    """An answer; `followed` names the rules that it follows, `loosely` those it follows with a line left out."""

    item_id: str
    question: str
    text: str
    rules: tuple[str, ...]
    followed: tuple[str, ...]
    loosely: tuple[str, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """Tell what is compared item by item."""
        return {"answered_right": float(self.followed == self.rules), "loosely": float(self.loosely == self.rules)}


def make_questions() -> list[FormatQuestion]:
    """Make all questions: every rule and every pair with every task."""
    groups = [(rule,) for rule in FORMAT_RULES] + [tuple(BY_NAME[name] for name in pair) for pair in PAIRS]
    return [FormatQuestion(task, rules) for rules in groups for task in range(len(TASKS))]


def run_format(exam: Examination) -> Answers:
    """Ask the questions, each in a conversation of its own, greedily."""
    order = sorted(make_questions(), key=lambda question: xxhash.xxh3_64_intdigest(question.item_id.encode()))
    questions = order[: exam.choices.limit]
    room = min(_NEW_TOKENS, exam.subject.max_context_tokens // 2)
    requests = {
        question.item_id: Request("", "", mode=None, max_new_tokens=room, turns=(Turn("user", question.words),))
        for question in questions
    }
    answers, lacking = exam.ask(requests, "answer")
    results = [check_answer(q, answers[q.item_id].text) for q in questions if q.item_id in answers]
    notes = ("loosely: with the first or last line or all asterisks left out, as IFEval counts", _tell_rules(results))
    measured = tuple(_measure(results)) if results else ()
    return Answers("rules that a program checks", len(requests), results, notes, measured, lacking=lacking)


def check_answer(question: FormatQuestion, text: str) -> FormatResult:
    """Check an answer against the rules of its question."""
    return FormatResult(
        question.item_id,
        question.words,
        text,
        tuple(rule.name for rule in question.rules),
        tuple(rule.name for rule in question.rules if rule.check(text)),
        tuple(rule.name for rule in question.rules if is_followed_loosely(rule, text)),
    )


def _measure(results: Sequence[FormatResult]) -> Iterator[Measurement]:
    """Take figures, with intervals over tasks: questions of one rule are alike."""
    rules = ["+".join(result.rules) for result in results]
    strictly = [result.followed == result.rules for result in results]
    loosely = [result.loosely == result.rules for result in results]
    for system, hits in (("model", strictly), ("model, loosely", loosely)):
        interval = bootstrap_share([int(hit) for hit in hits], rules, seed=0)
        yield Measurement(system, _KIND, None, "answered_right", "share", interval)


def _tell_rules(results: Sequence[FormatResult]) -> str:
    asked = [name for result in results for name in result.rules]
    followed = [name for result in results for name in result.followed]
    told = (f"{name} {followed.count(name)}/{asked.count(name)}" for name in dict.fromkeys(sorted(asked)))
    return f"followed by rule: {', '.join(told)}"


FORMAT = Suite(
    "instruct-format", f"{len(FORMAT_RULES)} rules about the form of an answer, checked by program", run_format
)

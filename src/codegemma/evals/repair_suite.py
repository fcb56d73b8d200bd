"""The suites of repair: a function is asked for in a chat, and where it fails, the failing test is shown.

**In**: an examination with HumanEval or MBPP among its data.
**Out**: `Answers`: what was written in each turn, and pass@1 after one, two and three turns.
**Not**: a second chance for an answer that passed, and no test besides the first that failed.

What is said is the same for every model: `problems.ask_in_conversation` and `show_failure` below. Code is taken from an
answer by the rule in `fences.py`.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from codegemma.evals.examination import Answers, Examination, Suite
from codegemma.evals.fences import extract_code
from codegemma.evals.measure import Measurement
from codegemma.evals.problems import (
    MBPP_TEST,
    Problem,
    ask_in_conversation,
    choose_problems,
    read_humaneval,
    read_mbpp,
    read_problems,
)
from codegemma.evals.program_suites import (
    HUMANEVAL_FILE,
    HUMANEVAL_ORIGIN,
    MBPP_FILE,
    MBPP_ORIGIN,
    open_python_judge,
)
from codegemma.evals.scoring import Subject
from codegemma.evals.statistics import count_share
from codegemma.evals.verdicts import examine_kept
from codegemma.records import Request, Sampling, Turn
from codegemma.sandbox.judge import Outcome, PythonJudge, Verdict
from codegemma.text.python_source import parse_python

MAX_TURNS = 3
_NEW_TOKENS = 512
_MARK = "assertion "
_FILES = {
    "repair-humaneval": (HUMANEVAL_FILE, HUMANEVAL_ORIGIN, 164),
    "repair-mbpp": (MBPP_FILE, MBPP_ORIGIN, 974),
}


@dataclass(frozen=True, slots=True)
class RepairTurn:
    """One answer of a conversation: what was written, how its code was found, and how it did."""

    text: str
    rule: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class RepairResult:
    """A conversation about one problem; it ends with the first answer that passes."""

    task_id: str
    turns: tuple[RepairTurn, ...]

    @property
    def item_id(self) -> str:
        """Name the problem."""
        return self.task_id

    @property
    def metrics(self) -> dict[str, float]:
        """Tell what is compared item by item."""
        return {f"passed_after_{turns}": float(self.has_passed(turns)) for turns in range(1, MAX_TURNS + 1)}

    def has_passed(self, turns: int) -> bool:
        """Tell whether one of the first so many answers passed."""
        return any(turn.outcome is Outcome.PASSED for turn in self.turns[:turns])


@dataclass(slots=True)
class _Talk:
    """A conversation under way. The tests of `problem` number their assertions, `shown` are these by number."""

    problem: Problem
    shown: tuple[str, ...]
    turns: list[Turn]
    done: list[RepairTurn] = field(default_factory=list)
    missing: str = ""
    # The first turn that the window did not hold.
    unfit: int = 0

    @property
    def is_open(self) -> bool:
        return not self.missing and not (self.done and self.done[-1].outcome is Outcome.PASSED)


def show_failure(test: str, verdict: Verdict) -> str:
    """Spell a further question: the test that failed, or what was raised."""
    reason = "" if verdict.reason.startswith(_MARK) or not verdict.reason else f"\n\nWhat happened: {verdict.reason}"
    return (
        f"That does not pass this test:\n\n```python\n{test}\n```{reason}\n\n"
        "Mend it. Answer with one Python code block that holds the whole program."
    )


def number_assertions(tests: str) -> tuple[str, tuple[str, ...]]:
    """Have each assertion tell its number when it fails, and list them.

    >>> number_assertions("assert f(1) == 2\\nassert f(2), 'no'")
    ("assert f(1) == 2, 'assertion 0'\\nassert f(2), 'assertion 1'", ('assert f(1) == 2', 'assert f(2)'))
    """
    tree = parse_python(tests)
    if tree is None:
        return tests, ()
    shown: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            node.msg = None
            shown.append(ast.unparse(node))
            node.msg = ast.Constant(f"{_MARK}{len(shown) - 1}")
    return ast.unparse(ast.fix_missing_locations(tree)), tuple(shown)


def run_repair(exam: Examination, name: str) -> Answers:
    """Talk about every problem, at most three answers each."""
    file, origin, tasks = _FILES[name]
    read = read_mbpp if name == "repair-mbpp" else read_humaneval
    problems = read_problems(exam.find(file, f"the benchmark as published at {origin}"), read, origin, tasks)
    if name == "repair-mbpp":
        problems = [p for p in problems if int(p.task_id.rpartition("/")[2]) in MBPP_TEST]
    talks = [_open_talk(problem) for problem in choose_problems(problems, exam.choices.limit)]
    with open_python_judge(exam.choices) as judge:
        for turn in range(1, MAX_TURNS + 1):
            if still_open := [talk for talk in talks if talk.is_open]:
                _answer(exam, judge, still_open, turn)
    results = [RepairResult(talk.problem.task_id, tuple(talk.done)) for talk in talks if not talk.missing]
    lacking = {talk.problem.task_id: talk.missing for talk in talks if talk.missing}
    rules = Counter(turn.rule for result in results for turn in result.turns)
    notes = (
        "code was found by: " + ", ".join(f"{rule} {count}" for rule, count in rules.most_common()),
        "after a failure the failing assertion is shown, or what was raised; greedy unless a temperature is given",
        *_tell_window(exam.subject, talks),
    )
    measured = () if lacking else tuple(_measure(name, results))
    return Answers("tests that were run", len(talks), results, notes, measured, lacking=lacking)


def _open_talk(problem: Problem) -> _Talk:
    tests, shown = number_assertions(problem.tests)
    problem = replace(ask_in_conversation(problem), tests=tests)
    return _Talk(problem, shown, [Turn("user", problem.question)])


def _answer(exam: Examination, judge: PythonJudge, talks: Sequence[_Talk], turn: int) -> None:
    """Let the model answer all open conversations, judge the answers, and say what failed."""
    texts = _write(exam, talks, turn)
    answered = [(talk, text) for talk, text in zip(talks, texts, strict=True) if not talk.missing]
    extracted = [extract_code(text) for _, text in answered]
    examinees = [talk.problem.pose(found.code) for (talk, _), found in zip(answered, extracted, strict=True)]
    verdicts = examine_kept(exam.store, judge, examinees)
    for (talk, text), found, verdict in zip(answered, extracted, verdicts, strict=True):
        if verdict.outcome is Outcome.NOT_RUN:
            talk.missing = verdict.reason
            continue
        talk.done.append(RepairTurn(text, found.rule, verdict.outcome, _tell(talk, verdict)))
        talk.turns += [Turn("model", text or "..."), Turn("user", show_failure(_find_test(talk, verdict), verdict))]


def _write(exam: Examination, talks: Sequence[_Talk], turn: int) -> list[str]:
    """Write the answers; a conversation that has outgrown the window is answered by nothing, one refused is closed."""
    subject, choices = exam.subject, exam.choices
    room = min(_NEW_TOKENS, subject.max_context_tokens // 4)
    sampling = Sampling(temperature=choices.temperature, top_p=choices.top_p, seed=choices.seed)
    requests = {
        talk.problem.task_id: Request(
            "", "", mode=None, max_new_tokens=room, sampling=sampling, turns=tuple(talk.turns)
        )
        for talk in talks
        if subject.holds(talk.turns, room)
    }
    answers, lacking = exam.ask(requests, f"turn {turn}")
    for talk in talks:
        talk.missing = lacking.get(talk.problem.task_id, "")
        talk.unfit = talk.unfit or turn * (talk.problem.task_id not in requests)
    names = [talk.problem.task_id for talk in talks]
    return [answers[name].text if name in answers else "" for name in names]


def _tell_window(subject: Subject, talks: Sequence[_Talk]) -> Iterator[str]:
    first, later = sum(talk.unfit == 1 for talk in talks), sum(talk.unfit > 1 for talk in talks)
    if first or later:
        yield (
            f"the model's window of {subject.max_context_tokens:,} tokens is small for this: of {len(talks):,} "
            f"conversations {first:,} did not fit, and {later:,} only until a test was shown; those count as "
            "answered by nothing"
        )


def _find_test(talk: _Talk, verdict: Verdict) -> str:
    number = verdict.reason.removeprefix(_MARK)
    test = talk.shown[int(number)] if number.isdecimal() and int(number) < len(talk.shown) else ""
    name = talk.problem.names[0] if talk.problem.names else ""
    return (test or "\n".join(talk.shown[:1])).replace("candidate", name or "candidate")


def _tell(talk: _Talk, verdict: Verdict) -> str:
    return _find_test(talk, verdict) if verdict.reason.startswith(_MARK) else verdict.reason


def _measure(name: str, results: Sequence[RepairResult]) -> Iterator[Measurement]:
    for turns in range(1, MAX_TURNS + 1):
        passed = sum(result.has_passed(turns) for result in results)
        said = f"{turns} turn{'s' * (turns > 1)}"
        kind = name.replace("-", "_")
        yield Measurement(f"model, {said}", kind, None, "pass_at_1", "share", count_share(passed, len(results)))


REPAIR_SUITES = tuple(
    Suite(
        name,
        f"{file.partition('.')[0]} asked for in a chat, the failing test shown, 1 to {MAX_TURNS} turns",
        partial(run_repair, name=name),
        ((file, f"the benchmark as published at {origin}"),),
    )
    for name, (file, origin, _) in _FILES.items()
)

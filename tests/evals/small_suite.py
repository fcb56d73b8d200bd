"""A suite of a few problems whose answers are judged in this process, to see the running of suites without boxes."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.evals.byte_completer import ByteCompleter, make_byte_tokenizer

from codegemma.evals.examination import Answers, Examination, Suite
from codegemma.evals.ngram import train_ngram
from codegemma.evals.problems import Problem
from codegemma.evals.program_suites import answer_programs
from codegemma.evals.programs import Asking
from codegemma.evals.scoring import Subject
from codegemma.records import Completion, Request, StopReason
from codegemma.sandbox.judge import Examinee, Outcome, Verdict, tell_not_run

ASKING = Asking("k", None, ("all", "first_line"), 64)


def make_problem(number: int) -> Problem:
    head = f"def f{number}(x):\n"
    return Problem(f"t/{number}", f"t/{number}", head, "", head, "", "    return x + 1\n", "tests", names=("f",))


PROBLEMS = [make_problem(number) for number in range(12)]


@dataclass
class TextJudge:
    """Passes a program by its text; counts what it was given. What begins with `refused` it cannot run."""

    boxes: int = 2
    seen: list[str] = field(default_factory=list)
    before: Callable[[], object] = lambda: None
    refused: str = ""

    def examine(self, examinee: Examinee) -> Verdict:
        self.before()
        if self.refused and examinee.program.startswith(self.refused):
            return tell_not_run(OSError("full"))
        self.seen.append(examinee.program)
        started = time.perf_counter()
        outcome = Outcome.PASSED if "x + 1" in examinee.program else Outcome.FAILED
        return Verdict(outcome, "", time.perf_counter() - started, b"said", b"")

    def describe(self) -> dict[str, str]:
        return {"judge": "text"}


def write_answer(prefix: str) -> str:
    """Answer every third problem wrongly."""
    number = int(prefix.removeprefix("def f").partition("(")[0])
    return "    return x\n" if number % 3 == 0 else "    return x + 1\n    # and more\n"


class Model(ByteCompleter):
    """Answers by a rule; `before` is called with how many were answered."""

    def __init__(self, before: Callable[[int], object] = int) -> None:
        super().__init__(train_ngram(["a"], order=2))
        self.before = before
        self.asked: list[Request] = []

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        self.before(len(self.asked))
        self.asked += requests
        return [Completion(write_answer(r.prefix), (), StopReason.CONTROL_TOKEN, 1) for r in requests]


def make_subject(model: ByteCompleter, fingerprint: str = "model") -> Subject:
    return Subject(model, make_byte_tokenizer(), 4096, (), fingerprint)


def make_suite(judge: TextJudge) -> Suite:
    def run(exam: Examination) -> Answers:
        return answer_programs(exam, PROBLEMS, [ASKING], judge)

    return Suite("small", "a few problems", run)


def make_gate() -> tuple[threading.Event, Callable[[], bool]]:
    """Make an event and a wait for it that a test survives."""
    event = threading.Event()
    return event, lambda: event.wait(60)

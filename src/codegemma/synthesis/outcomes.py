"""What flows through synthesis: a seed, a draft made from it, and what became of that.

**In**: nothing.
**Out**: records; `Reason`, all the reasons for which a draft is dropped, each of one `Stage`.
**Not**: behaviour.
"""

from dataclasses import dataclass
from enum import StrEnum

from codegemma.synthesis.problem_file import SpelledCase


class Stage(StrEnum):
    """The filters, in their order."""

    WRITE = "write"
    PARSE = "parse"
    RUN = "run"
    TEST = "test"
    BREAK = "break"
    DECONTAMINATE = "decontaminate"
    JUDGE = "judge"
    DEDUP = "dedup"


class Reason(StrEnum):
    """Why a draft is dropped."""

    NO_ANSWER = "no_answer"
    CUT_OFF = "cut_off"
    UNREADABLE = "unreadable"
    SHORT_PROBLEM = "short_problem"
    SOLUTION_UNPARSABLE = "solution_unparsable"
    TESTS_UNPARSABLE = "tests_unparsable"
    NO_FUNCTION = "no_function"
    NO_ASSERTION = "no_assertion"
    NOTHING_TESTED = "nothing_tested"
    DOES_NOT_RUN = "does_not_run"
    FAILS_ITS_TESTS = "fails_its_tests"
    TOO_SLOW = "too_slow"
    FLAKY = "flaky"
    BROKEN_PASSES = "broken_passes"
    BENCHMARK_OVERLAP = "benchmark_overlap"
    NO_VERDICT = "no_verdict"
    UNHELPFUL = "unhelpful"
    INCORRECT = "incorrect"
    NEAR_DUPLICATE = "near_duplicate"

    @property
    def stage(self) -> Stage:
        """The filter that drops for this reason."""
        return _STAGES[self]


_STAGES = {
    Reason.NO_ANSWER: Stage.WRITE,
    Reason.CUT_OFF: Stage.WRITE,
    Reason.UNREADABLE: Stage.WRITE,
    Reason.SHORT_PROBLEM: Stage.PARSE,
    Reason.SOLUTION_UNPARSABLE: Stage.PARSE,
    Reason.TESTS_UNPARSABLE: Stage.PARSE,
    Reason.NO_FUNCTION: Stage.PARSE,
    Reason.NO_ASSERTION: Stage.PARSE,
    Reason.NOTHING_TESTED: Stage.PARSE,
    Reason.DOES_NOT_RUN: Stage.RUN,
    Reason.FAILS_ITS_TESTS: Stage.TEST,
    Reason.TOO_SLOW: Stage.TEST,
    Reason.FLAKY: Stage.TEST,
    Reason.BROKEN_PASSES: Stage.BREAK,
    Reason.BENCHMARK_OVERLAP: Stage.DECONTAMINATE,
    Reason.NO_VERDICT: Stage.JUDGE,
    Reason.UNHELPFUL: Stage.JUDGE,
    Reason.INCORRECT: Stage.JUDGE,
    Reason.NEAR_DUPLICATE: Stage.DEDUP,
}


@dataclass(frozen=True, slots=True)
class Seed:
    """A snippet, and where it comes from. `line` is its first in the file, from 1."""

    repo: str
    path: str
    commit: str | None
    blob: str
    license: str | None
    line: int
    language: str
    text: str

    @property
    def place(self) -> tuple[str, str, int]:
        """What seeds are ordered by."""
        return self.repo, self.path, self.line


@dataclass(frozen=True, slots=True)
class Draft:
    """What a model wrote: a problem in words, a Python program that solves it, and tests of it."""

    problem: str
    solution: str
    tests: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a draft goes, and the measured value or message behind the reason."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Scores:
    """What a judge gave, each from 1 to 5, and its words."""

    helpfulness: int
    correctness: int
    words: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a seed: kept where `drop` is `None`.

    `cases` are the tests' calls of `function`; `caught` of `variants` broken variants failed the tests.
    """

    seed: Seed
    draft: Draft | None = None
    drop: Drop | None = None
    scores: Scores | None = None
    function: str = ""
    cases: tuple[SpelledCase, ...] = ()
    caught: int = 0
    variants: int = 0

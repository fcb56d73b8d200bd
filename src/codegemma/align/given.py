"""Problems with tests that somebody gave, such as what `codegemma synthesize` wrote, made ready to be rewarded by.

**In**: files of problems (`synthesis/problem_file.py`); a box.
**Out**: `Problem`s whose tests their own solutions pass each time; how many were dropped.
**Not**: trust in the file: a test that is flaky, or wrong for its solution, would reward chance.

What was found is kept beside the stages, so that a job that goes on has the same problems.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from codegemma.align.exercises import Case, Problem
from codegemma.align.measure import keep
from codegemma.align.rewards import drop_flaky
from codegemma.recipe import fingerprint
from codegemma.sandbox.calls import Caller
from codegemma.shards import hash_files
from codegemma.synthesis.problem_file import SpelledCase, SpelledProblem, read_problem_file, spell_value


@dataclass(slots=True)
class GivenCount:
    """In = kept + dropped. `tests_dropped` are of problems that were kept."""

    kept: int = 0
    dropped: int = 0
    tests_dropped: int = 0


@dataclass(frozen=True, slots=True)
class _Sound:
    """What is left of a problem; nothing of the tests where it goes."""

    words: str
    function: str
    tests: tuple[SpelledCase, ...]
    audits: tuple[SpelledCase, ...]
    tests_dropped: int


def read_given(paths: Sequence[Path], caller: Caller, kept: Path) -> tuple[list[Problem], GivenCount]:
    """Read the problems of some files, numbered from 0, and find out which of their tests hold.

    Raises:
        InputError: a file that cannot be read, or a line that is no problem.
    """
    count = GivenCount()
    if not paths:
        return [], count
    found = keep(kept, _Sound, fingerprint(hash_files(paths)), partial(_sift, paths, caller))
    problems: list[Problem] = []
    for one in found:
        if not one.tests:
            count.dropped += 1
            continue
        count.kept += 1
        count.tests_dropped += one.tests_dropped
        problems.append(_make_problem(len(problems), one.words, one.function, one.tests, one.audits))
    return problems, count


def _sift(paths: Sequence[Path], caller: Caller) -> list[_Sound]:
    return [_sift_one(spelled, caller) for path in paths for spelled in read_problem_file(path)]


def _sift_one(spelled: SpelledProblem, caller: Caller) -> _Sound:
    problem = _make_problem(0, spelled.problem, spelled.function, spelled.tests, spelled.audits)
    sound, dropped = drop_flaky(problem, spelled.solution, caller)
    tests, audits = ((), ()) if sound is None else (_spell(sound.tests), _spell(sound.audits))
    return _Sound(spelled.problem, spelled.function, tests, audits, dropped)


def _make_problem(
    number: int, words: str, function: str, tests: Sequence[SpelledCase], audits: Sequence[SpelledCase]
) -> Problem:
    return Problem(number, words, (), _read(tests), _read(audits), function=function)


def _read(cases: Sequence[SpelledCase]) -> tuple[Case, ...]:
    return tuple(Case(ast.literal_eval(case.given), ast.literal_eval(case.wanted)) for case in cases)


def _spell(cases: Sequence[Case]) -> tuple[SpelledCase, ...]:
    return tuple(SpelledCase(spell_value(case.given), spell_value(case.wanted)) for case in cases)

"""The suites `babelcode-humaneval` and `babelcode-mbpp`: functions in eight languages, from a description and a head.

**In**: an examination with the Python files of HumanEval and sanitized MBPP among its data.
**Out**: `Answers`: a kind for each language, two scorers, and what the best possible score is.
**Not**: a figure for a language whose compiler is not here: it is not run, and the result says what would install it.
"""

import functools
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources

from codegemma.errors import InputError
from codegemma.evals.babelcode.compare import Scorer
from codegemma.evals.babelcode.judge import Attempt, BabelJudge
from codegemma.evals.babelcode.languages import TARGETS, read_target
from codegemma.evals.babelcode.published_format import read_published_questions
from codegemma.evals.babelcode.questions import Question, ask_problems, list_problems, read_sources
from codegemma.evals.babelcode.translate import Posed, pose
from codegemma.evals.examination import AbsentError, Answers, Examination, Suite
from codegemma.evals.problems import Problem, choose_problems
from codegemma.evals.program_suites import (
    HUMANEVAL_FILE,
    HUMANEVAL_ORIGIN,
    MBPP_ORIGIN,
    POLICY_NOTE,
    SANITIZED_FILE,
    answer_programs,
    tell_boxes,
)
from codegemma.evals.programs import Asking
from codegemma.sandbox.box import Safety, Sandbox
from codegemma.sandbox.toolchains import read_toolchains

_FILES = {
    "babelcode-humaneval": (HUMANEVAL_FILE, f"the benchmark as published at {HUMANEVAL_ORIGIN}"),
    "babelcode-mbpp": (SANITIZED_FILE, f"the benchmark as published at {MBPP_ORIGIN}"),
}
# The first policy is the headline: of a function the head is given, so where it ends is known.
_POLICIES = ("function", "published_stops", "all")
_FUNCTION_TOKENS = 512


@dataclass(frozen=True, slots=True)
class ForeignProblem(Problem):
    """A problem whose answer is a program of another language; `posed` writes its files."""

    posed: Posed | None = field(default=None, repr=False, compare=False)

    def pose(self, text: str) -> Attempt:
        """Make the program that tells what its calls give."""
        return make_attempt(self.posed, text)


def make_attempt(posed: Posed | None, text: str) -> Attempt:
    """Write the files of an answer, also with fixes where its language has any."""
    if posed is None:
        raise ValueError("a problem of another language is posed before it is answered")
    has_fixes = bool(posed.target.imports)
    fixed = posed.write_files(text, has_fixes=True) if has_fixes else None
    return Attempt(posed.question.task_id, posed.target.key, posed.write_files(text), fixed)


def make_problem(question: Question, key: str) -> ForeignProblem:
    """Pose a question in a language as a problem to answer."""
    target = read_target(key)
    posed = pose(question, target)
    return ForeignProblem(
        task_id=question.task_id,
        group=question.task_id,
        prefix=posed.prompt,
        suffix="",
        before=posed.prompt,
        after=posed.after,
        solution=posed.write_stub(),
        tests=repr(question.calls),
        language=key,
        stops=target.stops,
        keeps_stop=target.kept_stop,
        posed=posed,
    )


def run_babelcode(exam: Examination, suite: str) -> Answers:
    """Ask a suite's questions in every language whose toolchain is here."""
    safety = Safety.UNSAFE if exam.choices.unsafe else Safety.BOXED
    with Sandbox(safety=safety) as sandbox:
        questions, origin = _read_questions(exam, sandbox, suite)
        parts: list[Answers] = []
        not_run: dict[str, str] = {}
        described: dict[str, str] = {}
        for key in TARGETS:
            try:
                judge = BabelJudge(sandbox, read_toolchains()[key], read_target(key), questions)
            except InputError as error:
                not_run[key] = str(error)
                continue
            with judge:
                parts.append(_answer(exam, judge, key, questions))
                described |= judge.describe()
    for part in parts:
        not_run |= part.not_run
    measurements = tuple(m for part in parts for m in part.measurements or ())
    boxes = (tell_boxes(described), POLICY_NOTE) if parts else ()
    # Of each language what boxes say is in one note for all.
    notes = (*boxes, *dict.fromkeys(note for part in parts for note in part.notes[2:]))
    left_out = sum(question.left_out for question in questions)
    calls = left_out + sum(len(question.calls) for question in questions)
    told = f"{origin}; {left_out} of {calls} calls have values that no type covers"
    items = max((part.items for part in parts), default=0)
    return Answers(
        "values that calls gave, compared outside of the box", items, (),
        (*notes, told, *spell_ceilings(suite)), measurements, not_run,
    )  # fmt: skip


def _read_questions(exam: Examination, sandbox: Sandbox, suite: str) -> tuple[list[Question], str]:
    """Take BabelCode's own file where it is among the data, and else translate the Python problems."""
    try:
        path = exam.find(f"{suite}.jsonl", "BabelCode's own file of questions")
    except AbsentError:
        sources = read_sources(exam.find(*_FILES[suite]), suite)
        return ask_problems(sandbox, sources, suite, exam.store), "questions translated here from the Python problems"
    return read_published_questions(path), f"questions of {path.name} in BabelCode's format"


def _answer(exam: Examination, judge: BabelJudge, key: str, questions: Sequence[Question]) -> Answers:
    problems = choose_problems([make_problem(question, key) for question in questions], exam.choices.limit)
    fixed = {str(Scorer.FIXED): functools.partial(judge.examine_by, scorer=Scorer.FIXED)}
    return answer_programs(exam, problems, [Asking(key, None, _POLICIES, _FUNCTION_TOKENS)], judge, fixed)


def spell_ceilings(suite: str) -> Iterator[str]:
    """Tell what programs that know the answers score, from `ceilings.toml`: no model can do better."""
    for name, row in _read_ceilings().get(suite, {}).items():
        yield f"ceiling, {name}: {', '.join(f'{key} {count}' for key, count in row.items())}"


def find_ceiling(suite: str, key: str) -> str | None:
    """Tell how many of a suite's problems programs that know the answers pass in a language, as published.

    >>> find_ceiling("babelcode-humaneval", "javascript"), find_ceiling("mbpp", "javascript")
    ('160/161', None)
    """
    count = _read_ceilings().get(suite, {}).get("stubs, published", {}).get(key)
    return None if count is None else f"{count}/{len(list_problems(suite))}"


def _read_ceilings() -> dict[str, dict[str, dict[str, int]]]:
    text = resources.files("codegemma.evals.babelcode").joinpath("ceilings.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


BABELCODE_SUITES = tuple(
    Suite(
        name,
        f"functions of {file.partition('.')[0]} in {len(TARGETS)} languages, as BabelCode asks them",
        functools.partial(run_babelcode, suite=name),
        [(file, wanted)],
    )
    for name, (file, wanted) in _FILES.items()
)

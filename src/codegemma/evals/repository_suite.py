"""The suite `repository`: a team's own code, at places that only its other files explain, with and without those.

**In**: a repository among the data; builds or jobs that tell what the model was trained on.
**Out**: results hole by hole for the systems "with other files" and "without", and their difference on equal holes.
**Not**: files that the model was trained on: they are left out and counted. Near copies of such files are not found.

Other files stand before the current one as in training: path, text, the nearest last. Those that define what the hole
uses come first for the room, which is half of the window; a file that does not fit is shown from the definition on.
"""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from codegemma.errors import InputError
from codegemma.evals.examination import AbsentError, Answers, Examination, Suite
from codegemma.evals.heldout import Hole
from codegemma.evals.lines import write_lines
from codegemma.evals.measure import compare, measure
from codegemma.evals.repository import (
    CrossFileHole,
    Repository,
    TrainedFiles,
    find_definition,
    is_repository,
    make_cross_file_holes,
    read_repository,
    read_trained,
)
from codegemma.evals.repository_tests import PassingTests, RepositoryTests
from codegemma.evals.scoring import (
    HoleResult,
    Subject,
    add_text,
    score_holes,
    start_result,
)
from codegemma.records import InfillMode, Neighbor, Request
from codegemma.sandbox.box import Safety, Sandbox
from codegemma.text.infill_format import encode_path
from codegemma.text.window import fit_request, keep_start

WITH, WITHOUT = "with other files", "without"
_CONTEXT_SHARE = 0.5
# A shorter piece of another file says nothing.
_MIN_PIECE_TOKENS = 16
_MAX_FILES = 6


@dataclasses.dataclass(frozen=True, slots=True)
class RepositorySuite(Suite):
    """A suite whose data is a folder of somebody's code."""

    def check(self, exam: Examination) -> None:
        """Look for the code.

        Raises:
            AbsentError: there is none.
        """
        find_repository(exam.data)


def find_repository(places: Sequence[Path]) -> Path:
    """Find the first folder of code that is no build.

    Raises:
        AbsentError: there is none.
    """
    for place in places:
        with contextlib.suppress(InputError):
            if is_repository(place):
                return place
    where = ", ".join(map(str, places)) or "no --data given"
    raise AbsentError(f"no repository in --data ({where}); wanted a folder of code whose imports are read")


def run_repository(exam: Examination) -> Answers:
    """Ask for what other files of the repository explain, with and without these files."""
    repository = read_repository(find_repository(exam.data), exam.on_progress)
    trained = read_trained(exam.data)
    excluded = frozenset(file.path for file in repository.files.values() if trained.has(file))
    found = make_cross_file_holes(
        repository, excluded, exam.choices, exam.choices.limit or exam.choices.max_holes_per_kind
    )
    if not found:
        raise AbsentError(
            f"{repository.root}: no place in {len(repository.files)} files uses a name that another of them defines"
            + (f"; {len(excluded)} files were trained on and are left out" if excluded else "")
        )
    results, notes = [], [_tell_trained(repository, trained, excluded)]
    not_run: dict[str, str] = {}
    for mode in sorted(exam.subject.infill_modes):
        for system in (WITH, WITHOUT):
            mode_results, said, lack = _ask(exam, repository, found, mode, system)
            results += mode_results
            notes += said
            not_run |= {f"lines written {system}, {mode.upper()}": lack} if lack else {}
    try:
        results, said = _run_tests(exam, repository, found, results)
    except OSError as error:  # no box came about: what is compared by text stands
        said, not_run["the repository's own tests"] = [], f"no score, they could not be run on this machine: {error}"
    ours, theirs = ([r for r in results if r.system == system] for system in (WITH, WITHOUT))
    measured = measure(results, exam.choices.seed)
    measurements = (*measured, *(compare(ours, theirs, exam.choices.seed) if measured else ()))
    told = tuple(dict.fromkeys([*notes, *said]))
    scored_by = "teacher forcing, text, and the repository's own tests"
    return Answers(scored_by, len(found), results, told, measurements, not_run)


def _tell_trained(repository: Repository, trained: TrainedFiles, excluded: frozenset[str]) -> str:
    if not trained.sources:
        return (
            "what the model was trained on is not known: no file was left out; give the folder of its build or job as "
            "a further --data"
        )
    return f"{len(excluded)} of {len(repository.files)} files were trained on, and were left out"


def _ask(
    exam: Examination, repository: Repository, found: Sequence[CrossFileHole], mode: InfillMode, system: str
) -> tuple[list[HoleResult], list[str], str]:
    subject, choices = exam.subject, exam.choices
    by_id = {cross.hole.hole_id: cross for cross in found}
    neighbors = partial(list_neighbors, repository, by_id) if system == WITH else None
    fit = partial(fit_hole, subject, neighbors)
    holes = [cross.hole for cross in found]
    notes: list[str] = []
    try:
        results = score_holes(subject, holes, mode, choices, system, exam.on_progress, fit=fit)
    except NotImplementedError:
        results = [start_result(hole, system, mode) for hole in holes]
        notes.append("exact_match, line_match and bits: not run, this completer cannot rate given tokens")
    written = holes[: choices.generated_holes]
    requests = {hole.hole_id: fit(hole, mode, subject.reserve_tokens(choices)) for hole in written}
    texts, lack = write_lines(exam, requests, f"generate {mode}, {system}")
    for index, hole in enumerate(written):
        if hole.hole_id in texts:
            results[index] = add_text(results[index], hole.middle, texts[hole.hole_id])
    return results, notes, lack


def list_neighbors(repository: Repository, by_id: Mapping[str, CrossFileHole], hole: Hole) -> list[tuple[str, str]]:
    """List other files for a hole as path and text from where it matters, the most telling first."""
    cross = by_id[hole.hole_id]
    paths = dict.fromkeys([*cross.defined_in, *repository.list_imported(hole.path)])
    return [(path, cross.name if path in cross.defined_in else "") for path in list(paths)[:_MAX_FILES]]


def fit_hole(
    subject: Subject,
    neighbors: "partial[list[tuple[str, str]]] | None",
    hole: Hole,
    mode: InfillMode,
    reserved_tokens: int,
) -> Request | None:
    """Make the request of a hole: other files in half of the window, the text around the cursor in the rest."""
    window = subject.max_context_tokens - reserved_tokens
    request = Request(hole.prefix, hole.suffix, hole.path, mode=mode, max_new_tokens=reserved_tokens)
    chosen: list[Neighbor] = []
    used = 0
    if neighbors is not None:
        repository: Repository = neighbors.args[0]
        for path, name in neighbors(hole):
            piece = _fit_file(subject, path, repository.files[path].text, name, int(window * _CONTEXT_SHARE) - used)
            if piece is not None:
                chosen.append(piece[0])
                used += piece[1]
    try:
        fitted = fit_request(request, subject.tokenizer, window - used)
    except InputError:
        return None
    return dataclasses.replace(fitted, neighbors=tuple(reversed(chosen)))


def _fit_file(subject: Subject, path: str, text: str, name: str, room: int) -> tuple[Neighbor, int] | None:
    """Show a file whole, or from the definition of a name on as far as there is room; say how many tokens that is."""
    tokenizer = subject.tokenizer
    overhead = len(encode_path(tokenizer, path)) + 1
    room -= overhead
    if room < _MIN_PIECE_TOKENS:
        return None
    if len(tokenizer.encode(text)) > room:
        text = keep_start(text[(find_definition(text, name) or 0) if name else 0 :], tokenizer, room)
    return Neighbor(path, text), overhead + len(tokenizer.encode(text))


def _run_tests(
    exam: Examination, repository: Repository, found: Sequence[CrossFileHole], results: Sequence[HoleResult]
) -> tuple[list[HoleResult], list[str]]:
    """Put what was written in its place and run the tests of that file."""
    holes = {cross.hole.hole_id: cross.hole for cross in found}
    with _open_tests(exam, repository) as tests:
        noticed = _find_noticed(tests, [holes[h] for h in {r.hole_id for r in results if r.generated_text is not None}])
        runs = {}
        for index, result in enumerate(results):
            hole = holes[result.hole_id]
            if result.hole_id in noticed and result.generated_text is not None:
                text = hole.prefix + result.generated_text + hole.suffix
                runs[index] = tests.submit(noticed[result.hole_id], hole.path, text)
        finished = list(results)
        for number, (index, run) in enumerate(runs.items()):
            exam.on_progress("tests", number, len(runs))
            finished[index] = dataclasses.replace(results[index], tests_passed=run.result())
        asked = len({r.hole_id for r in results if r.generated_text is not None})
        reasons = Counter(tests.reasons.values()).most_common(4)
        notes = [
            f"tests were run for {len(noticed)} of {asked} written holes ({tests.describe()}): those whose tests pass "
            "untouched and fail where the hole is empty; the others are compared by text",
            *(f"{count} files without tests that run: {reason}" for reason, count in reasons),
        ]
    return finished, notes


def _find_noticed(tests: RepositoryTests, holes: Sequence[Hole]) -> dict[str, PassingTests]:
    """Keep the holes whose tests fail where nothing is put in."""
    runs = {}
    for hole in sorted(holes, key=lambda hole: hole.hole_id):
        if (known := tests.find_tests(hole.path)) is not None:
            runs[hole.hole_id] = known, tests.submit(known, hole.path, hole.prefix + hole.suffix)
    return {hole_id: known for hole_id, (known, run) in runs.items() if not run.result()}


@contextlib.contextmanager
def _open_tests(exam: Examination, repository: Repository) -> Iterator[RepositoryTests]:
    with Sandbox(safety=Safety.UNSAFE if exam.choices.unsafe else Safety.BOXED) as sandbox:
        tests = RepositoryTests(repository, sandbox, exam.store)
        with contextlib.closing(tests):
            yield tests


REPOSITORY = RepositorySuite(
    "repository", "your own code where other files explain it, with and without those, by its own tests", run_repository
)

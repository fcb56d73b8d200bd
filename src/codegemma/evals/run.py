"""Runs suites on a completer and writes what came out: figures to `results.json`, every hole to `holes-SUITE.jsonl`.

**In**: a `Completer`, its tokenizer, its window, names of suites and the folders that hold their data.
**Out**: `Results`, also on disk: a suite is in the summary once it is whole, beside those of former runs of the model.
A run that was cut off goes on where it was: what was answered and judged is kept in the folder (`store.py`).
**Not**: loading a model; whoever calls has one. And no two models in one folder: the second is refused.
"""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from codegemma.errors import InputError, OutputError, UserError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import Examination
from codegemma.evals.keeping import KeptCompleter
from codegemma.evals.measure import Measurement, measure
from codegemma.evals.samples import spell_lacking
from codegemma.evals.scoring import HoleResult, Subject
from codegemma.evals.store import Store
from codegemma.evals.suites import ALL, SUITES, check_suite
from codegemma.files import write_whole
from codegemma.folders import hold_folder
from codegemma.recipe import from_plain, to_plain
from codegemma.records import Completer
from codegemma.runner import Progress, ignore_progress, prefix_stages
from codegemma.wire import ServerError

RESULTS_FILE = "results.json"


@dataclass(frozen=True, slots=True)
class SuiteResults:
    """The figures of one suite; `notes` say what the figures do not.

    `not_run` tells why there are no figures: of a kind, or under the empty name of the whole suite. `choices` are those
    that it was asked with: suites of one folder may come from several runs.
    """

    suite: str
    scored_by: str
    items: int
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...]
    holes_file: str
    not_run: dict[str, str] = field(default_factory=dict)
    choices: EvalChoices = field(default_factory=EvalChoices)


@dataclass(frozen=True, slots=True)
class MissingAnswer:
    """The record of a question that has no answer, and why."""

    item_id: str
    missing: str


@dataclass(frozen=True, slots=True)
class Results:
    """What evaluations found of one model, as written to `results.json`; `fingerprint` is the subject's."""

    model: str
    suites: tuple[SuiteResults, ...]
    fingerprint: str = ""

    def put(self, found: SuiteResults) -> "Results":
        """Put a suite in its place; one that could not be run leaves what was measured before."""
        is_measured = any(one.suite == found.suite and one.measurements for one in self.suites)
        if is_measured and not found.measurements and "" in found.not_run and not found.holes_file:
            return self
        known = list(SUITES)
        suites = [*self.leave_out(found.suite).suites, found]
        place = {name: number for number, name in enumerate(known)}
        return replace(self, suites=tuple(sorted(suites, key=lambda one: place.get(one.suite, len(known)))))

    def leave_out(self, suite: str) -> "Results":
        """Leave a suite out."""
        return replace(self, suites=tuple(one for one in self.suites if one.suite != suite))


def evaluate(  # noqa: PLR0913 (keywords, each a choice of the caller)
    subject: Subject,
    suites: Sequence[str],
    *,
    data: Sequence[Path],
    out: Path,
    model: str,
    choices: EvalChoices,
    judge: tuple[Completer, str] | None = None,
    optional: Sequence[str] = (),
    on_progress: Progress = ignore_progress,
) -> Results:
    """Run the suites, write `holes-SUITE.jsonl` to `out`, and put their figures beside those in its `results.json`.

    Args:
        subject: who is examined: a completer, its tokenizer, its window in tokens.
        suites: names from `suites.SUITES`; "all" stands for all, as far as their data is here.
        data: folders (or files) that hold the data of the suites.
        out: the folder to write to, made if missing.
        model: how the results name the subject.
        choices: how many holes, how they are cut, whether the baselines run.
        judge: who gives a second opinion on answers that no program can judge, and its name.
        optional: more names: one whose data is absent is in the results as not run, with the reason.
        on_progress: told how far it is.

    Raises:
        InputError: an unknown suite, data that is missing or damaged, or results of another model in `out`.
        OutputError: `out` cannot be written, holds something else, or is in use.
    """
    for suite in (*suites, *optional):
        check_suite(suite)
    named = [suite for suite in dict.fromkeys(suites) if suite != ALL]
    possible = dict.fromkeys(SUITES if ALL in suites else optional)
    with hold_folder(out):
        _check_room(out)
        results = _read_earlier(out, model, subject.fingerprint)
        exam = Examination(subject, tuple(data), choices, on_progress, *(judge or (None, "")))
        for suite in named:  # before hours of work, not after
            SUITES[suite].check(exam)
        with Store(out if subject.fingerprint else None) as store:
            kept = KeptCompleter(subject.completer, store, subject.fingerprint, subject.at_once)
            exam = replace(exam, subject=replace(subject, completer=kept), store=store)
            for suite in [*named, *(suite for suite in possible if suite not in named)]:
                run = _run_suite if suite in named else _run_if_possible
                results = results.put(run(suite, exam, out, results))
                _write_results(out, results)
    return results


def _read_earlier(out: Path, model: str, fingerprint: str) -> Results:
    """Read what former runs left in the folder; what no version of this one wrote counts as nothing.

    Raises:
        InputError: it is of another model.
    """
    try:
        found = read_results(out)
    except InputError:
        return Results(model, (), fingerprint)
    is_same = found.fingerprint == fingerprint if fingerprint else (found.model, found.fingerprint) == (model, "")
    if found.suites and not is_same:
        told = "other weights or another address" if found.model == model else f"{found.model}"
        raise InputError(
            f"{out / RESULTS_FILE} holds results of {told}; take another --out, or remove that file: the figures of "
            "two models do not stand in one table"
        )
    return replace(found, model=model, fingerprint=fingerprint)


def _write_results(out: Path, results: Results) -> None:
    text = json.dumps(to_plain(results), indent=1, ensure_ascii=False) + "\n"
    # What a server said of an error may hold half of a character.
    write_whole(out / RESULTS_FILE, text.encode("utf-8", "replace"))


def read_results(place: Path) -> Results:
    """Read a `results.json`, or that of a folder, back.

    Raises:
        InputError: no such file, or not written by an evaluation of this version.
    """
    path = place / RESULTS_FILE if place.is_dir() else place
    try:
        found: Results = from_plain(Results, json.loads(path.read_text(encoding="utf-8")))
        return found
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `codegemma evaluate --out` writes it") from error
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} does not hold results ({error}); run the evaluation again") from error


def _run_if_possible(suite: str, exam: Examination, out: Path, results: Results) -> SuiteResults:
    """Run a suite, or say why that cannot be: a server that is gone and a disk that is full end the run."""
    try:
        SUITES[suite].check(exam)
        return _run_suite(suite, exam, out, results)
    except UserError as error:
        if isinstance(error, OutputError) or (isinstance(error, ServerError) and not error.refuses_question):
            raise
        return SuiteResults(suite, "", 0, (), (), "", {"": str(error)}, exam.choices)


def _run_suite(suite: str, exam: Examination, out: Path, results: Results) -> SuiteResults:
    file = f"holes-{suite}.jsonl"
    # From here until it is whole again, the suite is not among the results.
    if any(one.suite == suite for one in results.suites):
        _write_results(out, results.leave_out(suite))
    with _open_records(out / file) as write:
        label = prefix_stages(exam.on_progress, f"{suite}: ")
        answers = SUITES[suite].run(replace(exam, on_progress=label, write=write))
        for result in answers.results:
            write(result)
        for name, reason in answers.lacking.items():
            write(MissingAnswer(name, reason))
    measurements, not_run = answers.measurements, dict(answers.not_run)
    if answers.lacking:
        measurements, not_run[""] = (), f"no score, {spell_lacking(answers.lacking, answers.items)}"
    elif measurements is None:
        measurements = tuple(measure(cast(Sequence[HoleResult], answers.results), exam.choices.seed))
    said = answers.notes, file, not_run, exam.choices
    return SuiteResults(suite, answers.scored_by, answers.items, measurements, *said)


def spell_record(record: Any) -> dict[str, Any]:
    """Make plain data of a record, with what items are compared by where it tells that: name, figure and values."""
    plain: dict[str, Any] = to_plain(record)
    told = {name: getattr(record, name) for name in ("item_id", "figure", "metrics") if hasattr(record, name)}
    return {**plain, **told}


@contextlib.contextmanager
def _open_records(path: Path) -> Iterator[Callable[[Any], None]]:
    """Write records, a JSON line each, to a file that has its name when it is whole."""
    part = path.with_name(f"{path.name}.part")
    # In ASCII: what a model writes may hold halves of characters, which UTF-8 cannot spell.
    with _explain(path):
        file = part.open("w", encoding="ascii")

    def write(record: Any) -> None:
        with _explain(path):
            print(json.dumps(spell_record(record)), file=file)

    try:
        yield write
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
            part.unlink()
        raise
    with _explain(path):
        file.close()
        part.replace(path)


@contextlib.contextmanager
def _explain(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out or make room") from error


def _check_room(out: Path) -> None:
    """Find out that nothing can be written before hours of work, not after."""
    try:
        with tempfile.TemporaryFile(dir=out):
            return
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{out}: cannot be written ({reason}); choose another --out or make room") from error


def read_hole_results(path: Path) -> list[HoleResult]:
    """Read a `holes-SUITE.jsonl` back, to compare two runs hole by hole.

    Raises:
        InputError: no such file, or not written by an evaluation of this version.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return [from_plain(HoleResult, json.loads(line)) for line in lines]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `codegemma evaluate --out` writes it") from error
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} does not hold results hole by hole ({error}); run the evaluation again") from error

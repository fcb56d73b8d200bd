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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from codegemma.errors import InputError, OutputError, UserError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import Examination
from codegemma.evals.keeping import KeptCompleter
from codegemma.evals.measure import measure
from codegemma.evals.results import Results, SuiteResults, read_earlier, write_results
from codegemma.evals.samples import spell_lacking
from codegemma.evals.scoring import HoleResult, Subject
from codegemma.evals.store import Store
from codegemma.evals.suites import ALL, SUITES, check_suite
from codegemma.folders import hold_folder
from codegemma.recipe import from_plain, to_plain
from codegemma.records import Completer
from codegemma.runner import Progress, ignore_progress, prefix_stages
from codegemma.wire import ServerError


@dataclass(frozen=True, slots=True)
class MissingAnswer:
    """The record of a question that has no answer, and why."""

    item_id: str
    missing: str


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
        results = read_earlier(out, model, subject.fingerprint)
        exam = Examination(subject, tuple(data), choices, on_progress, *(judge or (None, "")))
        for suite in named:  # before hours of work, not after
            SUITES[suite].check(exam)
        with Store(out if subject.fingerprint else None) as store:
            kept = KeptCompleter(subject.completer, store, subject.fingerprint, subject.at_once)
            exam = replace(exam, subject=replace(subject, completer=kept), store=store)
            for suite in [*named, *(suite for suite in possible if suite not in named)]:
                run = _run_suite if suite in named else _run_if_possible
                results = results.put(run(suite, exam, out, results))
                write_results(out, results)
    return results


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
        write_results(out, results.leave_out(suite))
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

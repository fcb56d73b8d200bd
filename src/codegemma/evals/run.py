"""Runs suites on a completer and writes what came out: figures to `results.json`, every hole to `holes-SUITE.jsonl`.

**In**: a `Completer`, its tokenizer, its window, names of suites and the folders that hold their data.
**Out**: `Results`, also on disk, the summary last: where it stands, the run was whole. A run that was cut off goes on
where it was: what was answered and judged is kept in the folder (`store.py`).
**Not**: loading a model; whoever calls has one.
"""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from codegemma.errors import InputError, OutputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import AbsentError, Examination
from codegemma.evals.keeping import KeptCompleter
from codegemma.evals.measure import Measurement, measure
from codegemma.evals.scoring import HoleResult, Subject
from codegemma.evals.store import Store
from codegemma.evals.suites import ALL, SUITES, check_suite
from codegemma.files import write_whole
from codegemma.folders import hold_folder
from codegemma.recipe import from_plain, to_plain
from codegemma.records import Completer
from codegemma.runner import Progress, ignore_progress, prefix_stages

RESULTS_FILE = "results.json"


@dataclass(frozen=True, slots=True)
class SuiteResults:
    """The figures of one suite; `notes` say what the figures do not.

    `not_run` tells why there are no figures: of a kind, or under the empty name of the whole suite.
    """

    suite: str
    scored_by: str
    items: int
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...]
    holes_file: str
    not_run: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """What an evaluation found, as written to `results.json`."""

    model: str
    choices: EvalChoices
    suites: tuple[SuiteResults, ...]


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
    """Run the suites and write `results.json` and `holes-SUITE.jsonl` to `out`.

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
        InputError: an unknown suite, or data that is missing or damaged.
        OutputError: `out` cannot be written, holds something else, or is in use.
    """
    for suite in (*suites, *optional):
        check_suite(suite)
    named = [suite for suite in dict.fromkeys(suites) if suite != ALL]
    possible = dict.fromkeys(SUITES if ALL in suites else optional)
    with hold_folder(out):
        _check_room(out)
        exam = Examination(subject, tuple(data), choices, on_progress, *(judge or (None, "")))
        for suite in named:  # before hours of work, not after
            SUITES[suite].check(exam)
        with Store(out if subject.fingerprint else None) as store:
            kept = KeptCompleter(subject.completer, store, subject.fingerprint, subject.at_once)
            exam = replace(exam, subject=replace(subject, completer=kept), store=store)
            found = [_run_suite(suite, exam, out) for suite in named]
            found += [_run_if_possible(suite, exam, out) for suite in possible if suite not in named]
        results = Results(model, choices, tuple(found))
        write_whole(out / RESULTS_FILE, (json.dumps(to_plain(results), indent=1, ensure_ascii=False) + "\n").encode())
    return results


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


def _run_if_possible(suite: str, exam: Examination, out: Path) -> SuiteResults:
    try:
        SUITES[suite].check(exam)
        return _run_suite(suite, exam, out)
    except AbsentError as error:
        return SuiteResults(suite, "", 0, (), (), "", {"": str(error)})


def _run_suite(suite: str, exam: Examination, out: Path) -> SuiteResults:
    file = f"holes-{suite}.jsonl"
    # From here until the end the folder holds no whole run.
    (out / RESULTS_FILE).unlink(missing_ok=True)
    with _open_records(out / file) as write:
        label = prefix_stages(exam.on_progress, f"{suite}: ")
        answers = SUITES[suite].run(replace(exam, on_progress=label, write=write))
        for result in answers.results:
            write(result)
    measurements = answers.measurements
    if measurements is None:
        measurements = tuple(measure(cast(Sequence[HoleResult], answers.results), exam.choices.seed))
    said = answers.notes, file, dict(answers.not_run)
    return SuiteResults(suite, answers.scored_by, answers.items, measurements, *said)


@contextlib.contextmanager
def _open_records(path: Path) -> Iterator[Callable[[Any], None]]:
    """Write records, a JSON line each, to a file that has its name when it is whole."""
    part = path.with_name(f"{path.name}.part")
    # In ASCII: what a model writes may hold halves of characters, which UTF-8 cannot spell.
    with _explain(path):
        file = part.open("w", encoding="ascii")

    def write(record: Any) -> None:
        with _explain(path):
            print(json.dumps(to_plain(record)), file=file)

    try:
        yield write
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
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

"""Runs suites on a completer and writes what came out: figures to `results.json`, every hole to `holes-SUITE.jsonl`.

**In**: a `Completer`, its tokenizer, its window, names of suites and the folders that hold their data.
**Out**: `Results`, also on disk, the summary last: where it stands, the run was whole.
**Not**: loading a model; whoever calls has one.
"""

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from codegemma.errors import InputError, OutputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import AbsentError, Examination
from codegemma.evals.measure import Measurement, measure
from codegemma.evals.scoring import HoleResult, Subject
from codegemma.evals.suites import ALL, SUITES, check_suite
from codegemma.files import write_whole
from codegemma.folders import hold_folder
from codegemma.recipe import from_plain, to_plain
from codegemma.records import Completer
from codegemma.runner import Progress, ignore_progress

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


def evaluate(
    subject: Subject,
    suites: Sequence[str],
    *,
    data: Sequence[Path],
    out: Path,
    model: str,
    choices: EvalChoices,
    judge: tuple[Completer, str] | None = None,
    on_progress: Progress = ignore_progress,
) -> Results:
    """Run the suites and write `results.json` and `holes-SUITE.jsonl` to `out`.

    Args:
        subject: who is examined: a completer, its tokenizer, its window in tokens.
        suites: names from `suites.SUITES`; "all" stands for those that are not named, as far as their data is here.
        data: folders (or files) that hold the data of the suites.
        out: the folder to write to, made if missing.
        model: how the results name the subject.
        choices: how many holes, how they are cut, whether the baselines run.
        judge: who gives a second opinion on answers that no program can judge, and its name.
        on_progress: told how far it is.

    Raises:
        InputError: an unknown suite, or data that is missing or damaged.
        OutputError: `out` cannot be written, holds something else, or is in use.
    """
    for suite in suites:
        check_suite(suite)
    named = [suite for suite in dict.fromkeys(suites) if suite != ALL]
    with hold_folder(out):
        _check_room(out)
        exam = Examination(subject, tuple(data), choices, on_progress, *(judge or (None, "")))
        for suite in named:  # before hours of work, not after
            SUITES[suite].check(exam)
        found = [_run_suite(suite, exam, out) for suite in named]
        if ALL in suites:
            found += [_run_if_possible(suite, exam, out) for suite in SUITES if suite not in named]
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
    def report(stage: str, done: int, total: int | None) -> None:
        exam.on_progress(f"{suite}: {stage}", done, total)

    answers = SUITES[suite].run(dataclasses.replace(exam, on_progress=report))
    file = f"holes-{suite}.jsonl"
    # From here until the end the folder holds no whole run.
    (out / RESULTS_FILE).unlink(missing_ok=True)
    write_whole(out / file, _to_lines(answers.results))
    measurements = answers.measurements
    if measurements is None:
        measurements = tuple(measure(cast(Sequence[HoleResult], answers.results), exam.choices.seed))
    said = answers.notes, file, dict(answers.not_run)
    return SuiteResults(suite, answers.scored_by, answers.items, measurements, *said)


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


def _to_lines(results: Iterable[Any]) -> bytes:
    return "".join(json.dumps(to_plain(result), ensure_ascii=False) + "\n" for result in results).encode()

"""Runs suites on a completer and writes what came out: figures to `results.json`, every hole to `holes-SUITE.jsonl`.

**In**: a `Completer`, its tokenizer, its window, names of suites and the folders that hold their data.
**Out**: `Results`, also on disk, the summary last: where it stands, the run was whole.
**Not**: loading a model; whoever calls has one.
"""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from codegemma.errors import InputError, OutputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import Answers, Examination
from codegemma.evals.heldout_suite import run_heldout
from codegemma.evals.measure import Measurement, measure
from codegemma.evals.program_suites import (
    INFILLING_SETS,
    run_humaneval,
    run_infilling,
    run_mbpp,
    run_mbpp_sanitized,
)
from codegemma.evals.programs import ProgramResult
from codegemma.evals.scoring import HoleResult, Subject
from codegemma.files import write_whole
from codegemma.folders import hold_folder
from codegemma.recipe import from_plain, to_plain
from codegemma.runner import Progress, ignore_progress

RESULTS_FILE = "results.json"


@dataclass(frozen=True, slots=True)
class SuiteResults:
    """The figures of one suite; `notes` say what the figures do not."""

    suite: str
    scored_by: str
    items: int
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...]
    holes_file: str


@dataclass(frozen=True, slots=True)
class Results:
    """What an evaluation found, as written to `results.json`."""

    model: str
    choices: EvalChoices
    suites: tuple[SuiteResults, ...]


SUITES: dict[str, Callable[[Examination], Answers]] = {
    "heldout": run_heldout,
    "humaneval": run_humaneval,
    **{name: partial(run_infilling, name=name) for name in INFILLING_SETS},
    "mbpp": run_mbpp,
    "mbpp-sanitized": run_mbpp_sanitized,
}


def evaluate(
    subject: Subject,
    suites: Sequence[str],
    *,
    data: Sequence[Path],
    out: Path,
    model: str,
    choices: EvalChoices,
    on_progress: Progress = ignore_progress,
) -> Results:
    """Run the suites and write `results.json` and `holes-SUITE.jsonl` to `out`.

    Args:
        subject: who is examined: a completer, its tokenizer, its window in tokens.
        suites: names from `SUITES`.
        data: folders (or files) that hold the data of the suites.
        out: the folder to write to, made if missing.
        model: how the results name the subject.
        choices: how many holes, how they are cut, whether the baselines run.
        on_progress: told how far it is.

    Raises:
        InputError: an unknown suite, or data that is missing or damaged.
        OutputError: `out` cannot be written, holds something else, or is in use.
    """
    for suite in suites:
        check_suite(suite)
    with hold_folder(out):
        _check_room(out)
        exam = Examination(subject, tuple(data), choices, on_progress)
        found = tuple(_run_suite(suite, exam, out) for suite in dict.fromkeys(suites))
        results = Results(model, choices, found)
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


def _run_suite(suite: str, exam: Examination, out: Path) -> SuiteResults:
    def report(stage: str, done: int, total: int | None) -> None:
        exam.on_progress(f"{suite}: {stage}", done, total)

    answers = SUITES[suite](dataclasses.replace(exam, on_progress=report))
    file = f"holes-{suite}.jsonl"
    # From here until the end the folder holds no whole run.
    (out / RESULTS_FILE).unlink(missing_ok=True)
    write_whole(out / file, _to_lines(answers.results))
    measurements = answers.measurements
    if measurements is None:
        measurements = tuple(measure(cast(Sequence[HoleResult], answers.results), exam.choices.seed))
    return SuiteResults(suite, answers.scored_by, answers.items, measurements, answers.notes, file)


def _check_room(out: Path) -> None:
    """Find out that nothing can be written before hours of work, not after."""
    try:
        with tempfile.TemporaryFile(dir=out):
            return
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{out}: cannot be written ({reason}); choose another --out or make room") from error


def check_suite(name: str) -> None:
    """Refuse an unknown suite.

    Raises:
        InputError: the message lists the known ones.
    """
    if name not in SUITES:
        raise InputError(f"unknown suite {name!r}; known: {', '.join(SUITES)}")


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


def _to_lines(results: Iterable[HoleResult | ProgramResult]) -> bytes:
    return "".join(json.dumps(to_plain(result), ensure_ascii=False) + "\n" for result in results).encode()

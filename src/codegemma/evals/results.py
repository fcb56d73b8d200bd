"""What evaluations found of one model: `results.json`, suite by suite, whichever runs they came from.

**In**: the figures of a suite, or the file.
**Out**: `Results`, a suite in its place beside those of other runs; the file.
**Not**: results of two models in one folder: the second is refused.
"""

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.measure import Measurement
from codegemma.evals.suites import SUITES
from codegemma.files import write_whole
from codegemma.recipe import from_plain, to_plain

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


def read_earlier(out: Path, model: str, fingerprint: str) -> Results:
    """Read what former runs left in the folder.

    Raises:
        InputError: it is of another model, or cannot be read: it would be written over.
    """
    path = out / RESULTS_FILE
    if not os.path.lexists(path):
        return Results(model, (), fingerprint)
    try:
        found = read_results(path)
    except InputError as error:
        raise InputError(
            f"{path} is there, does not hold results of this version ({error.__cause__ or error}) and would be written "
            "over: move it elsewhere or remove it, or take another --out; answers kept beside it are not asked again"
        ) from error
    is_same = found.fingerprint == fingerprint if fingerprint else (found.model, found.fingerprint) == (model, "")
    if found.suites and not is_same:
        told = "other weights or another address" if found.model == model else f"{found.model}"
        raise InputError(
            f"{path} holds results of {told}; take another --out, or remove that file: the figures of "
            "two models do not stand in one table"
        )
    return replace(found, model=model, fingerprint=fingerprint)


def write_results(out: Path, results: Results) -> None:
    """Write `results.json`.

    Raises:
        OutputError: it cannot be written.
    """
    text = json.dumps(to_plain(results), indent=1, ensure_ascii=False) + "\n"
    # What a server said of an error may hold half of a character.
    write_whole(out / RESULTS_FILE, text.encode("utf-8", "replace"))

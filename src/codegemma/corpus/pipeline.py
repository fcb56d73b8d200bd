"""Builds the corpus: reads repositories, refuses what must not be trained on, and divides training from held-out files.

**In**: repositories and `CorpusChoices`.
**Out**: folders of parts `files-train.parquet` and `files-heldout.parquet`, `dropped.parquet`, what leads imports
(`build-files.parquet`, `references.parquet`), and last `corpus.json`.
**Not**: packs; `pack/` makes them from these files. The files have the same bytes for any number of workers.

Every stage is a step over shards (`steps.py`): what one found out stays in `steps/`, named by what it was made from, so
that changed files, rules or thresholds make only those shards and steps anew that hang on them.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import xxhash

from codegemma.corpus.benchmarks import read_benchmarks
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.decontaminate import read_allow_list
from codegemma.corpus.ending import Build
from codegemma.corpus.entries import Listing
from codegemma.corpus.forgotten import describe_forgotten, read_forgotten, refuse_forgotten
from codegemma.corpus.inputs import Input, as_input, list_repositories, tell_damaged
from codegemma.corpus.intake import describe_lists
from codegemma.corpus.opt_out import read_opt_out, refuse_opted_out
from codegemma.corpus.quality_rules import load_quality_rules
from codegemma.corpus.report import MANIFEST, CorpusReport, read_manifest, write_manifest
from codegemma.corpus.under_way import (
    BUILD_FILES,
    COPIES,
    DROPPED_FILE,
    HELDOUT_FILE,
    OUTPUTS,
    REFERENCES,
    STEPS,
    TRAIN_FILE,
    read_tables,
)
from codegemma.errors import OutputError
from codegemma.folders import refuse_half_removed
from codegemma.places import identify_place, is_remote
from codegemma.recipe import fingerprint
from codegemma.runner import LocalRunner, Progress, Runner, ignore_progress
from codegemma.steps import remove_output

__all__ = [
    "BUILD_FILES",
    "COPIES",
    "DROPPED_FILE",
    "HELDOUT_FILE",
    "OUTPUTS",
    "REFERENCES",
    "STEPS",
    "TRAIN_FILE",
    "build_corpus",
]


def build_corpus(
    repos: Sequence[Path | Input],
    out: Path,
    choices: CorpusChoices,
    runner: Runner = LocalRunner(),  # noqa: B008 (frozen)
    on_progress: Progress = ignore_progress,
    *,
    exclude: Path | None = None,
    trained: Sequence[Path] = (),
    elsewhere: CorpusReport | None = None,
) -> CorpusReport:
    """Build the corpus of some repositories in `out`, or find that it is there already.

    `exclude` is a folder that belongs to no repository although it may lie in one: the whole output of a run that `out`
    is a part of, or else `out`. What is written there between two builds must not look like a change of the repository.
    `trained` are packs that models were trained on earlier: what they give away is not held out either, although the
    repositories may hold it no more. `elsewhere` is the report of a build that stands in another place, whole: should
    it be of this very input, it is returned itself.

    Raises:
        InputError: a repository that cannot be used, or nothing left to train on.
        OutputError: `out` cannot be written, or is itself a repository to read.
        WorkerError: a worker process died.
    """
    exclude = out if exclude is None else exclude
    if identify_place(exclude) in {identify_place(as_input(repo).place) for repo in repos}:
        raise OutputError(f"{exclude}: is the repository itself; choose a folder of its own, inside it or elsewhere")
    refuse_half_removed(out)
    opt_out, forgotten = read_opt_out(choices.opt_out), read_forgotten(out)
    benchmarks = read_benchmarks(choices.decontaminate)
    allowed = read_allow_list(choices.decontamination_allow_list)
    lists = [
        opt_out.describe(),
        *describe_forgotten(forgotten),
        *describe_lists(choices),
        load_quality_rules(choices.quality_rules).describe(),
        *benchmarks.describe(),
        allowed.describe(),
    ]
    with _make_scratch(runner) as scratch:
        listings = [
            refuse_forgotten(refuse_opted_out(listing, opt_out), forgotten)
            for listing in list_repositories(
                repos, exclude, scratch, choices.parquet_columns, choices.document_language, out / COPIES
            )
        ]
        key = _fingerprint_inputs(listings, choices, [*lists, benchmarks.digest, allowed.digest])
        for earlier in (read_manifest(out), elsewhere):
            if earlier is not None and earlier.fingerprint == key:
                return earlier
        _clear_results(out)
        build = Build(choices, runner, on_progress, out)
        damaged = tuple(tell_damaged(listings))
        build.take_in(listings, has_stored=any(is_remote(as_input(repo).place) for repo in repos))
        del listings  # a few hundred bytes for each file
        build.judge_licenses()
        build.judge_quality()
        build.drop_duplicates()
        build.drop_resembling(benchmarks.digest, allowed.digest)
        build.hold_out()
        build.drop_leaks(trained)
        build.check_not_empty()
        report = build.report(key, build.write(), lists)
        report = replace(report, notes=(*damaged, *report.notes))
    build.remember_sides()
    write_manifest(out, report)
    return report


@contextlib.contextmanager
def _make_scratch(runner: Runner) -> Iterator[Path | None]:
    """Give the folder for what must be unpacked to be read: on a cluster, one that all machines see."""
    folder = None if isinstance(runner, LocalRunner) else runner.folder
    if folder is None:
        yield None  # one of this process
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="unpacked-", dir=folder))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another folder=") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fingerprint_inputs(listings: Sequence[Listing], choices: CorpusChoices, lists: Sequence[str | None]) -> str:
    """Name all that a build hangs on; `lists` hold digests of the operator's files, so that no file holds the key."""
    contents = xxhash.xxh3_128()
    for listing in listings:
        for entry in listing.entries:
            contents.update(f"{entry.path}\0{entry.size_bytes}\0{entry.stamp}\0{entry.refusal}\n".encode())
    named = [(listing.repo, listing.commit, listing.kind, len(listing.entries)) for listing in listings]
    return fingerprint(choices, read_tables(choices), lists, named, contents.hexdigest())


def _clear_results(out: Path) -> None:
    """Make the folder and take away what an earlier build ended with, the manifest first: a kill leaves no mix of two.

    What its steps found out stays, for this build to take up.
    """
    try:
        (out / STEPS).mkdir(parents=True, exist_ok=True)
        for name in (MANIFEST, *OUTPUTS):
            remove_output(out / name)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error

"""Repositories to packs: the data reaches in their order, and the report of what became of every file.

**In**: repositories and the `corpus` and `pack` choices of a recipe.
**Out**: a data folder that `train` and `evaluate` read, with `report.html`.
**Not**: any step itself; each reach can be rerun alone from what the one before left on disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codegemma.corpus import decontaminate
from codegemma.corpus.pipeline import DROPPED_FILE, build_corpus
from codegemma.corpus.report import CorpusReport
from codegemma.folders import hold_folder
from codegemma.pack.pipeline import build_packs
from codegemma.pack.report import PackReport, SplitCount
from codegemma.recipes import Recipe
from codegemma.records import DroppedFile, Split
from codegemma.report import Column, Report
from codegemma.runner import LocalRunner, Progress, Runner, ignore_progress, keep_workers
from codegemma.shards import read_records

REPORT_FILE = "report.html"

_SHOWN_LICENSES = 12
_SHOWN_CONTAMINATIONS = 100


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did, reach by reach."""

    corpus: CorpusReport
    packs: PackReport


def build_data(
    repos: Sequence[Path],
    out: Path,
    recipe: Recipe,
    runner: Runner = LocalRunner(),  # noqa: B008 (frozen)
    on_progress: Progress = ignore_progress,
    *,
    exclude: Path | None = None,
    trained: Sequence[Path] = (),
) -> BuildReport:
    """Build the data folder `out`; reaches whose input and choices have not changed are skipped.

    `exclude` is a folder inside a repository that is not part of it, such as this job's own output; else it is `out`.
    `trained` are packs of earlier runs, which give held-out files away as well as those of this build.

    Raises:
        InputError: a repository that cannot be used, or nothing kept.
        OutputError: `out` cannot be written, holds something else, or is in use.
    """
    with hold_folder(out), keep_workers():
        corpus = build_corpus(repos, out, recipe.corpus, runner, on_progress, exclude=exclude or out, trained=trained)
        packs = build_packs(out, out, recipe.pack, runner, on_progress)
        build = BuildReport(corpus, packs)
        write_report(out, build)
    return build


def write_report(out: Path, build: BuildReport) -> None:
    """Write `report.html`.

    Raises:
        OutputError: no permission or no space.
    """
    report = Report("What became of the files", ", ".join(repo.repo for repo in build.corpus.repos))
    add_build_sections(report, build, out)
    report.write(out / REPORT_FILE)


def count_drops(build: BuildReport) -> dict[str, int]:
    """Count the dropped files by stage and reason, the most frequent first."""
    counts = {f"{drop.stage}: {drop.reason}": drop.files for drop in build.corpus.dropped}
    unparsed = sum(split.files_dropped for split in build.packs.splits.values())
    if unparsed:
        counts["syntax: syntax_errors"] = unparsed
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def share_colocated(build: BuildReport) -> dict[str, float]:
    """Tell for each order of packing which share of the training files' import edges has both files in one pack."""
    count = build.packs.splits[Split.TRAIN]
    return {order: edges / max(count.edges, 1) for order, edges in sorted(count.colocated_edges.items())}


def add_build_sections(report: Report, build: BuildReport, data: Path) -> None:
    """Tell in tables and plots what was kept, what was dropped and why, and which imports share a window."""
    corpus, train, heldout = build.corpus, build.packs.splits[Split.TRAIN], build.packs.splits[Split.HELDOUT]
    report.section("Files")
    report.numbers(
        [
            ("to train on", f"{train.files_packed:,} files", f"{train.chars / 1e6:.1f} M characters"),
            (
                "held out",
                f"{heldout.files_packed:,} files",
                f"{heldout.chars / 1e6:.2f} M characters, never trained on",
            ),
            ("dropped", f"{sum(count_drops(build).values()):,} files", "each written down with its reason"),
        ]
    )
    for repo in corpus.repos:
        report.text(f"`{repo.repo}` ({repo.commit or 'a plain folder, no commit'}). Held out: {repo.heldout}.")
    for note in (*corpus.notes, *corpus.lists):
        report.text(note)
    report.table(
        ["stage", "in", "kept", "dropped"],
        [[s.stage, s.files_in, s.files_kept, s.files_dropped] for s in corpus.stages],
        "Every file is counted once: in = kept + dropped at every stage.",
    )
    if corpus.licenses:
        shown, rest = corpus.licenses[:_SHOWN_LICENSES], corpus.licenses[_SHOWN_LICENSES:]
        report.table(
            ["licence", "files", Column("MB", 2)],
            [[row.license or "none stated", row.files, row.size_bytes / 1e6] for row in shown],
            "Of the files that were kept, by tag or notice in the file, else by its folder's manifest or licence text."
            + (f" {len(rest)} rarer ones in `corpus.json`." if rest else ""),
        )
    if corpus.redactions:
        counts = ", ".join(f"{number:,} × {kind.replace('_', ' ')}" for kind, number in corpus.redactions.items())
        report.text(f"Personal data that a pseudonym stands for: {counts}. Names of people are not looked for.")
    if drops := count_drops(build):
        report.bars(
            drops, "files", "What was dropped, and why; `dropped.parquet` and `dropped-syntax.parquet` name every file."
        )
    if found := [drop for drop in read_records(data / DROPPED_FILE, DroppedFile) if drop.stage == decontaminate.STAGE]:
        _add_contaminations(report, found)
    report.section("Packs")
    _add_packs(report, build, train)


def _add_contaminations(report: Report, found: Sequence[DroppedFile]) -> None:
    rest = len(found) - _SHOWN_CONTAMINATIONS
    report.table(
        ["file", "what it holds of which benchmark"],
        [[f"`{drop.repo}: {drop.path}`", drop.detail] for drop in found[:_SHOWN_CONTAMINATIONS]],
        "Files that hold items of the benchmarks, by which rule, and the line where it begins."
        + (f" {rest} more in `dropped.parquet`." if rest > 0 else ""),
    )


def _add_packs(report: Report, build: BuildReport, train: SplitCount) -> None:
    shares = share_colocated(build)
    report.bars(
        {order: share * 100 for order, share in shares.items()},
        "imports with both files in one pack, %",
        f"Co-location of {train.edges:,} import edges in {train.packs:,} packs of at most "
        f"{build.packs.budget_tokens:,} tokens; this build packs by `{build.packs.order}`. "
        f"{train.broken_edges:,} edges closed cycles and were broken.",
        digits=1,
    )
    report.table(
        ["training files", Column("", 1)],
        [
            ["natural cuts in 1,000 characters", 1000 * train.natural_cuts / max(train.chars, 1)],
            ["places with a natural cut in reach, %", 100 * train.chars_in_reach / max(train.chars, 1)],
            ["tests packed beside what they test", train.paired_tests],
        ],
        "Natural cuts are where a suffix may begin: ends of statements, and before closing brackets.",
    )

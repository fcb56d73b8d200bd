"""Repositories to packs: the data reaches in their order, and the report of what became of every file.

**In**: repositories and the `corpus` and `pack` choices of a recipe.
**Out**: a data folder that `train` and `evaluate` read, with `report.html`; or that at an address in a store.
**Not**: any step itself; each reach can be rerun alone from what the one before left on disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codegemma.corpus import decontaminate
from codegemma.corpus import report as corpus_report
from codegemma.corpus.forgotten import FORGOTTEN_FILE
from codegemma.corpus.inputs import Input
from codegemma.corpus.ledger import LEDGER_FILE
from codegemma.corpus.pipeline import DROPPED_FILE, build_corpus
from codegemma.corpus.report import CorpusReport
from codegemma.folders import claim_folder, hold_folder
from codegemma.pack import report as pack_report
from codegemma.pack.naturalness import REACH_CHARS, Boundary
from codegemma.pack.pipeline import build_packs, describe_packing
from codegemma.pack.report import PackReport, SplitCount
from codegemma.places import get_bytes, is_remote
from codegemma.published import (
    Publication,
    choose_work_folder,
    is_published_whole,
    is_up_to_date,
    lend_build,
    publish_folder,
    read_publication,
    take_up,
)
from codegemma.recipes import Recipe
from codegemma.records import DroppedFile, SourceKind, Split
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
    repos: Sequence[Path | Input],
    out: Path,
    recipe: Recipe,
    runner: Runner = LocalRunner(),  # noqa: B008 (frozen)
    on_progress: Progress = ignore_progress,
    *,
    exclude: Path | None = None,
    trained: Sequence[Path] = (),
    work: Path | None = None,
) -> BuildReport:
    """Build the data folder `out`; reaches whose input and choices have not changed are skipped.

    `exclude` is a folder inside a repository that is not part of it, such as this job's own output; else it is `out`.
    `trained` are packs of earlier runs, which give held-out files away as well as those of this build. If `out` is an
    address, the build is made in `work` and published; by default, that is a folder below the user's cache, or below
    the cluster's `folder`.

    Raises:
        InputError: a repository that cannot be used, or nothing kept.
        OutputError: `out` cannot be written, holds something else, or is in use.
    """
    if is_remote(out):
        return _build_published(repos, out, recipe, runner, on_progress, work or choose_work(out, runner))
    with hold_folder(out), keep_workers():
        corpus = build_corpus(repos, out, recipe.corpus, runner, on_progress, exclude=exclude or out, trained=trained)
        packs = build_packs(out, out, recipe.pack, runner, on_progress)
        build = BuildReport(corpus, packs)
        write_report(out, build)
    return build


def choose_work(out: Path, runner: Runner) -> Path:
    """Name the folder in which a build for an address is made: on a cluster, one that all machines see."""
    shared = None if isinstance(runner, LocalRunner) else runner.folder
    return choose_work_folder(out, None if shared is None else Path(shared))


def _build_published(
    repos: Sequence[Path | Input], out: Path, recipe: Recipe, runner: Runner, on_progress: Progress, work: Path
) -> BuildReport:
    """Build in the work folder and publish, unless just this build is published already."""
    published, packing = read_publication(out), describe_packing(recipe.pack)
    if published is None:
        claim_folder(out)
    with hold_folder(work), keep_workers():
        take_up(work, out, published, (corpus_report.MANIFEST, pack_report.MANIFEST), (LEDGER_FILE, FORGOTTEN_FILE))
        found = _find_published(out, published, packing)
        elsewhere = None if found is None else found.corpus
        corpus = build_corpus(repos, work, recipe.corpus, runner, on_progress, exclude=work, elsewhere=elsewhere)
        if found is not None and corpus is found.corpus:
            return found
        packs = build_packs(work, work, recipe.pack, runner, on_progress)
        build = BuildReport(corpus, packs)
        if not (corpus.is_reused and packs.is_reused and is_up_to_date(work, out, published, packing)):
            write_report(work, build)
            publish_folder(work, out, packing, on_progress)
    return build


def _find_published(out: Path, published: Publication | None, packing: str) -> BuildReport | None:
    """Read the reports of the build that is published, if it is whole and packed by these choices."""
    if published is None or published.choices != packing or not is_published_whole(out, published):
        return None
    manifests = [published.find(name) for name in (corpus_report.MANIFEST, pack_report.MANIFEST)]
    data = [b"" if file is None else get_bytes(out / file.key) for file in manifests]
    corpus, packs = corpus_report.parse_manifest(data[0]), pack_report.parse_manifest(data[1])
    return None if corpus is None or packs is None else BuildReport(corpus, packs)


def lend_data(place: Path, on_progress: Progress = ignore_progress) -> Path:
    """Give a build as a local folder for those that read packs: the folder itself, or a copy from an address.

    Raises:
        InputError: no finished build at the address, or the store does not answer.
        OutputError: the copy cannot be written.
    """
    return lend_build(place, _is_for_readers, on_progress)


def _is_for_readers(name: str) -> bool:
    # Texts that are not packed yet, and what only the next build asks for.
    return not name.startswith(("files-", LEDGER_FILE, FORGOTTEN_FILE))


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


@dataclass(frozen=True, slots=True)
class KindSize:
    """The training files of one kind. `tokens` is an estimate, by `pack.chars_per_token`."""

    kind: SourceKind
    files: int
    size_bytes: int
    tokens: int


def tell_kinds(build: BuildReport) -> tuple[KindSize, ...]:
    """Tell how much there is to train on of each kind."""
    chars = build.packs.splits[Split.TRAIN].chars_by_kind
    return tuple(
        KindSize(
            count.kind, count.files_train, count.bytes_train, round(chars[count.kind] / build.packs.chars_per_token)
        )
        for count in build.corpus.kinds
        if count.files_train
    )


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
    report.table(
        ["kind", "files", Column("MB", 2), "tokens, about"],
        [[row.kind.value, row.files, row.size_bytes / 1e6, row.tokens] for row in tell_kinds(build)],
        "To train on, by kind: what a mixture gives shares to. Tokens are estimated from characters; a token of prose "
        "has more of them than a token of code.",
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
        f"{train.broken_edges:,} edges closed cycles and were broken. {train.reference_edges:,} lead to a file "
        f"in place of its dropped copy; {train.outside_edges:,} more would, to another repository or a held-out file.",
        digits=1,
    )
    report.text(f"{train.paired_tests:,} tests are packed beside what they test.")
    report.table(
        [
            "language",
            Column("cuts in 1,000 characters", 1),
            *(Column(f"{boundary.replace('_', ' ')}, %", 1) for boundary in Boundary),
            Column("none in reach, %", 1),
        ],
        [_state_naturalness(train, language) for language in sorted(train.chars_by_language)],
        "Naturalness of the training files: where a suffix starts whose hole may end anywhere and then moves on to the "
        f"next natural cut within {REACH_CHARS} characters; where there is none, to the end of its line.",
    )


def _state_naturalness(count: SplitCount, language: str) -> list[str | float]:
    chars = max(count.chars_by_language[language], 1)
    names = [f"{language}.{boundary}" for boundary in Boundary]
    shares = [100 * count.boundary_places[name] / chars for name in names]
    return [language, 1000 * sum(count.boundary_cuts[name] for name in names) / chars, *shares, 100 - sum(shares)]

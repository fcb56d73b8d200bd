"""Removes files from a corpus that was built, without its sources: texts, names, sides, and their part of the counts.

**In**: a data folder, its `CorpusReport`, a `Removal`.
**Out**: what the removal touches and the report that will stand afterwards; then, on demand, the removal itself.
**Not**: packs (`pack/removal.py`), and the order in which a kill leaves nothing wrong (`codegemma.forget`).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path

from codegemma.corpus import dedup
from codegemma.corpus.forgotten import REASON, Removal, describe_forgotten, make_matcher
from codegemma.corpus.intake import Sighting
from codegemma.corpus.judge import TRAINED_EARLIER
from codegemma.corpus.ledger import LEDGER_FILE, Side
from codegemma.corpus.pipeline import BUILD_FILES, COPIES, DROPPED_FILE, HELDOUT_FILE, REFERENCES, STEPS, TRAIN_FILE
from codegemma.corpus.report import (
    CorpusReport,
    KindCount,
    LicenseCount,
    RepoCount,
    count_drops,
    count_kinds,
    count_licenses,
    count_redactions,
    count_stages,
)
from codegemma.errors import InputError
from codegemma.records import BuildFile, DroppedFile, FileReference, SourceFile, SourceKind, Split
from codegemma.removal import list_parts_of, remove_folder, remove_steps, rewrite
from codegemma.shards import read_records

_FILES = {Split.TRAIN: TRAIN_FILE, Split.HELDOUT: HELDOUT_FILE}
# What stands in place of a name, in what is said of other files.
UNNAMED = "a file that was removed on request"
# How a dropped duplicate, exact or near, tells of the one that was kept.
_OTHER_OF_TWO = re.compile(r"(?:the same as|Jaccard index [\d.]+ with) (.+)")
_LIST_LINE = describe_forgotten([Removal("")])[0].partition(":")[0]


@dataclass(frozen=True, slots=True)
class _File:
    """What is counted of a file that goes."""

    path: str
    size_bytes: int
    license: str | None
    redactions: tuple[str, ...]
    kind: SourceKind
    is_heldout: bool


@dataclass(frozen=True, slots=True)
class CorpusRemoval:
    """What goes: files by split and their bytes, rows that only name files, and the parts that are written anew.

    `copies` counts duplicates that were dropped for a file, of which one goes and the other does not. `report` is what
    will stand afterwards, sizes of Parquet files left out.
    """

    files: dict[Split, int]
    size_bytes: int
    names: int
    copies: int
    parts: tuple[str, ...]
    report: CorpusReport


def list_known(out: Path, report: CorpusReport) -> list[str]:
    """Name the repositories that a data folder knows, of this build or of earlier ones."""
    return sorted({count.repo for count in report.repos} | {side.repo for side in _read_sides(out)})


def plan_removal(out: Path, report: CorpusReport, removal: Removal, forgotten: Sequence[Removal]) -> CorpusRemoval:
    """Find out what a removal touches; nothing is written. `forgotten` is the list as it will stand.

    Raises:
        InputError: a file is damaged.
    """
    matches, parts = make_matcher(removal), []
    sizes = _read_sizes(out, removal.repo)
    files: dict[Split, list[_File]] = {split: [] for split in Split}
    for split, name in _FILES.items():
        for part in list_parts_of(out / name, removal.repo):
            found = [
                _File(
                    file.path,
                    sizes.get(file.path, len(file.text.encode())),
                    file.license,
                    file.redactions,
                    file.kind,
                    split is Split.HELDOUT,
                )
                for file in read_records(part, SourceFile)
                if matches(file.repo, file.path)
            ]
            files[split] += found
            parts += [part.relative_to(out).as_posix()] if found else []
    gone = [file for split in Split for file in files[split]]
    dropped = list(read_records(out / DROPPED_FILE, DroppedFile))
    goes = _choose_drops(removal)
    rest = [drop for drop in dropped if not goes(drop)]
    # A row that stands for a file forgotten before names nothing: alone, it is no reason to write anything.
    named = sum(goes(drop) and drop.reason != REASON for drop in dropped)
    named += sum(matches(side.repo, side.path) for side in _read_sides(out))
    counted = _correct(report, removal, gone, rest, len(dropped) - len(rest))
    counted = replace(
        counted,
        files_train=report.files_train - len(files[Split.TRAIN]),
        files_heldout=report.files_heldout - len(files[Split.HELDOUT]),
        bytes_train=report.bytes_train - sum(file.size_bytes for file in files[Split.TRAIN]),
        bytes_heldout=report.bytes_heldout - sum(file.size_bytes for file in files[Split.HELDOUT]),
        lists=_replace_line(report.lists, describe_forgotten(forgotten)),
    )
    return CorpusRemoval(
        {split: len(files[split]) for split in Split},
        sum(file.size_bytes for file in gone),
        named,
        _count_copies(dropped, removal),
        tuple(parts),
        counted,
    )


def _read_sizes(out: Path, repo: str) -> dict[str, int]:
    """Read the sizes that were counted, before pseudonyms came in; where `steps/` is gone, that of the text will do."""
    sizes: dict[str, int] = {}
    for file in sorted((out / STEPS).glob("texts-*.sightings.parquet")):
        try:
            sizes.update((seen.path, seen.size_bytes) for seen in read_records(file, Sighting) if seen.repo == repo)
        except InputError:
            continue
    return sizes


def _read_sides(out: Path) -> Iterable[Side]:
    try:
        return list(read_records(out / LEDGER_FILE, Side)) if (out / LEDGER_FILE).exists() else []
    except InputError:
        return []  # A damaged ledger decides nothing in a build either; `remove_files` takes it away.


def _choose_drops(removal: Removal) -> Callable[[DroppedFile], bool]:
    matches = make_matcher(removal)

    def goes(drop: DroppedFile) -> bool:
        return matches(drop.repo, drop.path) and not (removal.patterns and drop.reason == REASON)

    return goes


def _correct(
    report: CorpusReport, removal: Removal, gone: Sequence[_File], rest: Sequence[DroppedFile], drops: int
) -> CorpusReport:
    """Count as if the files had never been listed, so that in = kept + dropped still holds."""
    listed = len(gone) + drops
    dropped = count_drops(rest)
    stages = count_stages([stage.stage for stage in report.stages], report.stages[0].files_in - listed, dropped)
    redactions = Counter(report.redactions)
    redactions.subtract(count_redactions(file.redactions for file in gone))
    named = _find_name(removal.repo)
    notes = tuple(note for note in report.notes if removal.patterns or not named.search(note))
    return replace(
        report,
        repos=_correct_repos(report.repos, removal, listed),
        stages=stages,
        dropped=dropped,
        licenses=_subtract_licenses(report.licenses, gone),
        kinds=_subtract_kinds(report.kinds, gone),
        redactions={kind: number for kind, number in sorted(redactions.items()) if number > 0},
        notes=(*notes, f"{listed} files were removed on request after the build: the counts are those of the rest"),
        parquet_bytes={},
        is_reused=False,
    )


def _correct_repos(repos: Sequence[RepoCount], removal: Removal, listed: int) -> tuple[RepoCount, ...]:
    if not removal.patterns:
        return tuple(count for count in repos if count.repo != removal.repo)
    return tuple(
        replace(count, files_listed=count.files_listed - listed) if count.repo == removal.repo else count
        for count in repos
    )


def _subtract_licenses(licenses: Sequence[LicenseCount], gone: Sequence[_File]) -> tuple[LicenseCount, ...]:
    less = {row.license: row for row in count_licenses((file.license, file.size_bytes) for file in gone)}
    rows = [
        replace(
            row, files=row.files - less[row.license].files, size_bytes=row.size_bytes - less[row.license].size_bytes
        )
        if row.license in less
        else row
        for row in licenses
    ]
    return tuple(sorted((row for row in rows if row.files), key=lambda row: (-row.files, row.license or "")))


def _subtract_kinds(kinds: Sequence[KindCount], gone: Sequence[_File]) -> tuple[KindCount, ...]:
    less = {row.kind: row for row in count_kinds((file.kind, file.size_bytes, file.is_heldout) for file in gone)}
    counts = [field.name for field in fields(KindCount) if field.name != "kind"]
    rows = [
        replace(row, **{name: getattr(row, name) - getattr(less[row.kind], name) for name in counts})
        if row.kind in less
        else row
        for row in kinds
    ]
    return tuple(row for row in rows if row.files_train + row.files_heldout)


def _replace_line(lists: Sequence[str], lines: Sequence[str]) -> tuple[str, ...]:
    others = [line for line in lists if not line.startswith(_LIST_LINE)]
    return (*others[:1], *lines, *others[1:])


def _count_copies(dropped: Sequence[DroppedFile], removal: Removal) -> int:
    """Count the duplicates that were dropped on one side for a file on the other."""
    matches = make_matcher(removal)
    copies = 0
    for drop in dropped:
        if drop.stage == dedup.STAGE and (found := _OTHER_OF_TWO.match(drop.detail)):
            repo, colon, path = found.group(1).partition(": ")
            kept = (repo, path) if colon else (drop.repo, repo)
            copies += matches(drop.repo, drop.path) != matches(*kept)
    return copies


# --- the removal itself -----------------------------------------------------------------------------------------------


def remove_files(out: Path, removal: Removal) -> None:
    """Remove the files, their names, and the steps that hold them. Done again after a kill, it does the rest.

    What names files in words goes before what lists them: from the lists it is known which names those are.

    Raises:
        InputError: a file is damaged.
        OutputError: no permission or no space.
    """
    matches, goes = make_matcher(removal), _choose_drops(removal)
    parts = {split: list_parts_of(out / name, removal.repo) for split, name in _FILES.items()}
    texts = (file for each in parts.values() for part in each for file in read_records(part, SourceFile))
    # What was kept when another was compared with it may have been dropped later, or be gone from its repository.
    known: Iterable[SourceFile | DroppedFile | Side] = chain(
        texts, read_records(out / DROPPED_FILE, DroppedFile), _read_sides(out)
    )
    unname = _make_unnamer(removal, {each.path for each in known if matches(each.repo, each.path)})
    rewrite(out / DROPPED_FILE, DroppedFile, lambda drop: None if goes(drop) else unname(drop))
    if (out / BUILD_FILES).exists():
        rewrite(out / BUILD_FILES, BuildFile, lambda file: None if matches(file.repo, file.path) else file)
    if (out / REFERENCES).exists():
        rewrite(out / REFERENCES, FileReference, lambda each: None if _speaks_of(each, matches) else each)
    _remove_sides(out / LEDGER_FILE, matches)
    for each in parts.values():
        for part in each:
            rewrite(part, SourceFile, lambda file: None if matches(file.repo, file.path) else file)
    remove_steps(out / STEPS, matches, removal.repo)
    remove_folder(out / COPIES)  # nobody knows what stands in them


def _speaks_of(reference: FileReference, matches: Callable[[str, str], bool]) -> bool:
    return matches(reference.repo, reference.path) or matches(reference.kept_repo, reference.kept_path)


def _remove_sides(ledger: Path, matches: Callable[[str, str], bool]) -> None:
    if not ledger.exists():
        return
    try:
        rewrite(ledger, Side, lambda side: None if matches(side.repo, side.path) else side)
    except InputError:
        ledger.unlink(missing_ok=True)


def _find_name(repo: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w./-]){re.escape(repo)}(?![\w/-]|\.\w)")


def _make_unnamer(removal: Removal, paths: Collection[str]) -> Callable[[DroppedFile], DroppedFile]:
    """Give a function that takes the names of what goes out of what is said of other files."""
    named = _find_name(removal.repo)

    def unname(drop: DroppedFile) -> DroppedFile:
        for match in re.finditer(" ", drop.detail):
            if drop.detail[match.end() :].removesuffix(TRAINED_EARLIER) in paths:
                repo = re.search(rf"{re.escape(removal.repo)}: \Z", drop.detail[: match.end()])
                start = match.end() if repo is None else repo.start()
                return replace(drop, detail=drop.detail[:start] + UNNAMED)
        if not removal.patterns and (found := named.search(drop.detail)):
            return replace(drop, detail=drop.detail[: found.start()] + UNNAMED)
        return drop

    return unname

"""What a corpus build did: how many files each stage took, kept and dropped, and why. The manifest is this, as JSON.

**In**: counts from `pipeline.py`; a manifest of an earlier build.
**Out**: `CorpusReport`, and `corpus.json`, which is written last: where it stands, the build is whole.
**Not**: presentation; the build report page is made elsewhere.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from codegemma.manifests import parse_build_manifest, read_build_manifest, write_build_manifest
from codegemma.records import DroppedFile, SourceKind

MANIFEST = "corpus.json"


@dataclass(frozen=True, slots=True)
class RepoCount:
    """One repository: its name and commit, how many files were read, and what is held out of it, in words."""

    repo: str
    commit: str | None
    files_listed: int
    heldout: str


@dataclass(frozen=True, slots=True)
class StageCount:
    """One stage in order. Always `files_in == files_kept + files_dropped`."""

    stage: str
    files_in: int
    files_kept: int
    files_dropped: int


@dataclass(frozen=True, slots=True)
class DropCount:
    """How many files one stage dropped for one reason, and their bytes."""

    stage: str
    reason: str
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LicenseCount:
    """How many of the kept files stand under one licence, an SPDX expression or `None` where nothing states one."""

    license: str | None
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class KindCount:
    """How many of the kept files are of one kind, and their bytes, on either side of the held-out border."""

    kind: SourceKind
    files_train: int
    bytes_train: int
    files_heldout: int
    bytes_heldout: int


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """A whole build. `seconds` maps steps to wall time (`_wall_s`) or time of all workers (`_cpu_s`).

    `notes` are sentences that a reader of the results must know, `lists` say which operator's lists were given,
    `redactions` how many pseudonyms of each kind stand in the kept files.
    `parquet_bytes` is how a later run sees that the files are those of this build. `is_reused` is true when an earlier
    build was found whole and nothing was done.
    """

    fingerprint: str
    repos: tuple[RepoCount, ...]
    stages: tuple[StageCount, ...]
    dropped: tuple[DropCount, ...]
    licenses: tuple[LicenseCount, ...]
    kinds: tuple[KindCount, ...]
    redactions: dict[str, int]
    files_train: int
    files_heldout: int
    bytes_train: int
    bytes_heldout: int
    notes: tuple[str, ...]
    lists: tuple[str, ...]
    seconds: dict[str, float]
    parquet_bytes: dict[str, int]
    is_reused: bool = False


def count_stages(stages: Sequence[str], files_in: int, dropped: Iterable[DropCount]) -> tuple[StageCount, ...]:
    """Count through the stages: what one keeps, the next takes.

    >>> count_stages(["read", "safety"], 3, [DropCount("safety", "secret", files=1, size_bytes=9)])[-1]
    StageCount(stage='safety', files_in=3, files_kept=2, files_dropped=1)
    """
    drops: Counter[str] = Counter()
    for drop in dropped:
        drops[drop.stage] += drop.files
    counts = []
    for stage in stages:
        counts.append(StageCount(stage, files_in, files_in - drops[stage], drops[stage]))
        files_in -= drops[stage]
    return tuple(counts)


def count_drops(dropped: Iterable[DroppedFile]) -> tuple[DropCount, ...]:
    """Count files and bytes by stage and reason, sorted by both."""
    files: Counter[tuple[str, str]] = Counter()
    size_bytes: Counter[tuple[str, str]] = Counter()
    for drop in dropped:
        files[drop.stage, drop.reason] += 1
        size_bytes[drop.stage, drop.reason] += drop.size_bytes
    return tuple(DropCount(*key, files[key], size_bytes[key]) for key in sorted(files))


def count_licenses(kept: Iterable[tuple[str | None, int]]) -> tuple[LicenseCount, ...]:
    """Count files and bytes by licence, the most frequent first.

    >>> count_licenses([("MIT", 5), (None, 7), ("MIT", 1)])[0]
    LicenseCount(license='MIT', files=2, size_bytes=6)
    """
    files: Counter[str | None] = Counter()
    size_bytes: Counter[str | None] = Counter()
    for license, size in kept:
        files[license] += 1
        size_bytes[license] += size
    ranked = sorted(files, key=lambda license: (-files[license], license or ""))
    return tuple(LicenseCount(license, files[license], size_bytes[license]) for license in ranked)


def count_kinds(kept: Iterable[tuple[SourceKind, int, bool]]) -> tuple[KindCount, ...]:
    """Count files and bytes by kind: of each file its kind, its size, and whether it is held out.

    >>> count_kinds([(SourceKind.TEXT, 5, False), (SourceKind.TEXT, 2, True)])[0].bytes_train
    5
    """
    totals: dict[SourceKind, list[int]] = {}
    for kind, size, is_heldout in kept:
        total = totals.setdefault(kind, [0, 0, 0, 0])
        total[2 * is_heldout] += 1
        total[2 * is_heldout + 1] += size
    return tuple(KindCount(kind, *totals[kind]) for kind in SourceKind if kind in totals)


def count_redactions(notes: Iterable[Sequence[str]]) -> dict[str, int]:
    """Count the pseudonyms of each kind; a note is `kind:line`.

    >>> count_redactions([["email:3", "phone:4"], ["email:1"]])
    {'email': 2, 'phone': 1}
    """
    return dict(sorted(Counter(note.partition(":")[0] for each in notes for note in each).items()))


def write_manifest(out: Path, report: CorpusReport) -> None:
    """Write `corpus.json`, whole or not at all.

    Raises:
        OutputError: no permission or no space.
    """
    write_build_manifest(out / MANIFEST, report)


def read_manifest(out: Path) -> CorpusReport | None:
    """Read the report of an earlier build, or `None` where there is no whole one."""
    return read_build_manifest(out / MANIFEST, CorpusReport)


def parse_manifest(data: bytes) -> CorpusReport | None:
    """Read the report of a build from the bytes of its manifest, or `None` where they are of another version."""
    return parse_build_manifest(data, CorpusReport)

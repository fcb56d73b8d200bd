"""What a pack build did: packs, files, cuts, and how many imports share a pack. The manifest is this, as JSON.

**In**: counts from `pipeline.py`; the manifest of an earlier build.
**Out**: `PackReport`, and `packs.json`, which is written last: where it stands, the build is whole.
**Not**: presentation; the build report page is made elsewhere.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from codegemma.pack.parse import FileFacts
from codegemma.shards import read_build_manifest, write_build_manifest

MANIFEST = "packs.json"


@dataclass(slots=True)
class SplitCount:
    """Counts of one split. Always `files_in == files_packed + files_dropped`.

    `chars_in_reach` counts the places that have a natural cut at most `parse.REACH_CHARS` further on.
    `colocated_edges` maps each order to the import edges whose two files it puts in one pack, out of `edges`;
    `broken_edges` closed cycles.
    """

    files_in: int = 0
    files_packed: int = 0
    files_dropped: int = 0
    packs: int = 0
    chars: int = 0
    natural_cuts: int = 0
    chars_in_reach: int = 0
    block_starts: int = 0
    edges: int = 0
    broken_edges: int = 0
    paired_tests: int = 0
    colocated_edges: Counter[str] = field(default_factory=Counter)
    files_by_language: Counter[str] = field(default_factory=Counter)

    def add_file(self, facts: FileFacts) -> None:
        """Count one packed file."""
        self.files_packed += 1
        self.files_by_language[facts.language] += 1
        self.chars += facts.chars
        self.natural_cuts += facts.natural_cuts
        self.block_starts += facts.block_starts
        self.chars_in_reach += facts.chars_in_reach


@dataclass(frozen=True, slots=True)
class PackReport:
    """A whole build. `seconds` maps steps to wall time (`_wall_s`) or time of all workers (`_cpu_s`).

    `parquet_bytes` is how a later run sees that the files are those of this build. `is_reused` is true when an earlier
    build was found whole and nothing was done.
    """

    fingerprint: str
    order: str
    budget_tokens: int
    splits: dict[str, SplitCount]
    seconds: dict[str, float]
    parquet_bytes: dict[str, int]
    is_reused: bool = False


def write_manifest(out: Path, report: PackReport) -> None:
    """Write `packs.json`, whole or not at all.

    Raises:
        OutputError: no permission or no space.
    """
    write_build_manifest(out / MANIFEST, report)


def read_manifest(out: Path) -> PackReport | None:
    """Read the report of an earlier build, or `None` where there is no whole one."""
    return read_build_manifest(out / MANIFEST, PackReport)

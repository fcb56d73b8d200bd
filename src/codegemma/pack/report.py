"""What a pack build did: packs, files, cuts, and how many imports share a pack. The manifest is this, as JSON.

**In**: counts from `pipeline.py`; the manifest of an earlier build.
**Out**: `PackReport`, and `packs.json`, which is written last: where it stands, the build is whole.
**Not**: presentation; the build report page is made elsewhere.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from codegemma.manifests import parse_build_manifest, read_build_manifest, write_build_manifest
from codegemma.pack.choices import PackChoices
from codegemma.pack.naturalness import name_boundaries
from codegemma.pack.parse import FileFacts

MANIFEST = "packs.json"


@dataclass(slots=True)
class SplitCount:
    """Counts of one split. Always `files_in == files_packed + files_dropped`.

    `boundary_cuts` counts natural cuts by language and class (`naturalness.name_boundaries`), `boundary_places` the
    places from which a cut would move on to one of them, out of the `chars_by_language`.
    `colocated_edges` maps each order to the import edges whose two files it puts in one pack, out of `edges`;
    `broken_edges` closed cycles; `reference_edges` lead to a file in place of its dropped copy, and `outside_edges`,
    which are not among `edges`, would lead to one in another repository or across the held-out border.
    """

    files_in: int = 0
    files_packed: int = 0
    files_dropped: int = 0
    packs: int = 0
    chars: int = 0
    block_starts: int = 0
    edges: int = 0
    reference_edges: int = 0
    outside_edges: int = 0
    broken_edges: int = 0
    paired_tests: int = 0
    colocated_edges: Counter[str] = field(default_factory=Counter)
    files_by_language: Counter[str] = field(default_factory=Counter)
    chars_by_kind: Counter[str] = field(default_factory=Counter)
    chars_by_language: Counter[str] = field(default_factory=Counter)
    boundary_cuts: Counter[str] = field(default_factory=Counter)
    boundary_places: Counter[str] = field(default_factory=Counter)

    def add_file(self, facts: FileFacts) -> None:
        """Count one packed file."""
        self.files_packed += 1
        self.files_by_language[facts.language] += 1
        self.chars_by_kind[facts.kind] += facts.chars
        self.chars += facts.chars
        self.chars_by_language[facts.language] += facts.chars
        self.block_starts += facts.block_starts
        self.boundary_cuts.update(name_boundaries(facts.language, facts.boundary_cuts))
        self.boundary_places.update(name_boundaries(facts.language, facts.boundary_places))


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
    chars_per_token: float = PackChoices().chars_per_token
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


def parse_manifest(data: bytes) -> PackReport | None:
    """Read the report of a build from the bytes of its manifest, or `None` where they are of another version."""
    return parse_build_manifest(data, PackReport)

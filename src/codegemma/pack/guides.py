"""What imports are led by beside the files that are packed: build files, and references in place of dropped copies.

**In**: `build-files.parquet` and `references.parquet` of a corpus, where it has them.
**Out**: `LinkGuides`, which say where those of some repositories stand, and change whenever they do.
**Not**: what a build file means (`import_rules/`), or where an import of a dropped copy leads (`link.py`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import xxhash

from codegemma.recipe import fingerprint
from codegemma.records import BuildFile, FileReference
from codegemma.shards import read_records, read_rows

# Beside `files-train.parquet`; a corpus that other programs wrote has neither.
BUILD_FILES = "build-files.parquet"
REFERENCES = "references.parquet"

Guide = TypeVar("Guide", BuildFile, FileReference)


@dataclass(frozen=True, slots=True)
class LinkGuides:
    """The rows of some repositories in both tables, and a name for what stands there."""

    corpus: Path
    build_rows: tuple[int, ...] = ()
    reference_rows: tuple[int, ...] = ()
    digest: str = ""

    def read_build_files(self) -> dict[str, dict[str, str]]:
        """Read texts by path, by repository."""
        texts: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for file in _read(self.corpus / BUILD_FILES, BuildFile, self.build_rows):
            texts[file.repo][file.path] = file.text
        return texts

    def read_references(self) -> dict[str, list[FileReference]]:
        """Read the references of each repository."""
        references: defaultdict[str, list[FileReference]] = defaultdict(list)
        for reference in _read(self.corpus / REFERENCES, FileReference, self.reference_rows):
            references[reference.repo].append(reference)
        return references


def _read(table: Path, kind: type[Guide], rows: tuple[int, ...]) -> Iterator[Guide]:
    return read_rows(table, kind, rows) if rows else iter(())


@dataclass(slots=True)
class _Rows:
    """Where the rows of one repository stand in one table."""

    numbers: list[int] = field(default_factory=list)
    hash: xxhash.xxh3_128 = field(default_factory=xxhash.xxh3_128)


class GuideIndex:
    """Which rows belong to which repository; what stands there is hashed, not held."""

    def __init__(self, corpus: Path) -> None:
        """Read both tables through."""
        self._corpus = corpus
        self._build_files = _index_rows(corpus / BUILD_FILES, BuildFile)
        self._references = _index_rows(corpus / REFERENCES, FileReference)

    def select(self, repos: Iterable[str]) -> LinkGuides:
        """Select what leads the imports of some repositories."""
        build_files = [self._build_files[repo] for repo in repos if repo in self._build_files]
        references = [self._references[repo] for repo in repos if repo in self._references]
        return LinkGuides(
            self._corpus,
            tuple(number for rows in build_files for number in rows.numbers),
            tuple(number for rows in references for number in rows.numbers),
            fingerprint([rows.hash.hexdigest() for rows in (*build_files, *references)]),
        )

    def select_all(self) -> LinkGuides:
        """Select what there is."""
        return self.select(sorted(self._build_files.keys() | self._references.keys()))


def _index_rows(table: Path, kind: type[Guide]) -> dict[str, _Rows]:
    found: defaultdict[str, _Rows] = defaultdict(_Rows)
    for number, guide in enumerate(read_records(table, kind) if table.exists() else ()):
        rows = found[guide.repo]
        rows.numbers.append(number)
        rows.hash.update(repr(guide).encode("utf-8", "surrogatepass"))
    return dict(found)

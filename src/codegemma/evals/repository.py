"""Finds holes in a repository that only its other files explain: a name is used here that another file defines.

**In**: the files of one repository, the import graph, and which of them a model was trained on.
**Out**: `CrossFileHole`s: the rest of a line from such a name on, and the files that define what it uses.
**Not**: a compiler: a definition is a name behind a word that defines, or assigned at the left margin; and none of
imports that are made at run time.
"""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import xxhash

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.listing import list_repository
from codegemma.corpus.read import attach_licenses, read_build_file, read_file
from codegemma.evals.choices import EvalChoices
from codegemma.evals.heldout import Hole, find_lines
from codegemma.pack.imports import RULES, Edge, extract_imports, resolve_imports
from codegemma.pack.unit_tests import pair_tests
from codegemma.records import Pack, SourceFile
from codegemma.runner import Progress, ignore_progress
from codegemma.shards import find_format, read_records
from codegemma.text.languages import LANGUAGES, is_test_path

_DEFINED = re.compile(
    r"\b(?:def|class|func|fun|fn|function|struct|enum|interface|trait|type|const|static|let|var|val|object|record"
    r"|namespace|define)\s+(?:\([^)\n]*\)\s*)?([A-Za-z_]\w{2,})|^([A-Za-z_]\w{2,})\s*(?::[^=\n]+)?=(?!=)",
    re.MULTILINE,
)
# Behind a result type, as the C family and the JVM's languages define functions.
_TYPED = re.compile(
    r"^[ \t]*(?:[\w<>\[\],:*&]+\s+)+[*&]?([A-Za-z_]\w{2,})\s*\([^;{}]*\)\s*(?:const\s*)?\{", re.MULTILINE
)
_TYPED_LANGUAGES = frozenset({"c", "cpp", "csharp", "java"})
_NAME = re.compile(r"[A-Za-z_]\w{2,}")
_TRAIN_PACKS = "packs-train.parquet"
CROSS_FILE = "cross_file"


@dataclass(frozen=True, slots=True)
class Repository:
    """The code of one repository: files by path, which import which, and what each test tests."""

    root: Path
    name: str
    files: Mapping[str, SourceFile] = field(repr=False)
    edges: tuple[Edge, ...]
    tested: Mapping[str, str]

    def list_imported(self, path: str) -> list[str]:
        """List the files that one imports, those it takes most names from first."""
        edges = [edge for edge in self.edges if edge.importer == path]
        return [edge.imported for edge in sorted(edges, key=lambda edge: (-edge.weight, edge.imported))]

    def list_tests(self, path: str) -> list[str]:
        """List the tests of a file: those named for it, then those that import it."""
        named = [test for test, tested in self.tested.items() if tested == path]
        importing = [e.importer for e in self.edges if e.imported == path and self.is_test(e.importer)]
        return list(dict.fromkeys([*sorted(named), *sorted(importing)]))

    def is_test(self, path: str) -> bool:
        """Tell whether a file holds tests."""
        return is_test_path(path, self.files[path].language)


@dataclass(frozen=True, slots=True)
class CrossFileHole:
    """A hole whose middle begins with `name`, which the files `defined_in` define."""

    hole: Hole
    name: str
    defined_in: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainedFiles:
    """What a model was trained on, as builds and rounds wrote it down; `sources` is empty where nothing is known."""

    blobs: frozenset[str] = frozenset()
    paths: frozenset[tuple[str, str]] = frozenset()
    sources: tuple[Path, ...] = ()

    def has(self, file: SourceFile) -> bool:
        """Tell whether a file, or an earlier state of it, was trained on."""
        return file.blob in self.blobs or (file.repo, file.path) in self.paths


def is_repository(place: Path) -> bool:
    """Tell whether a folder is code of somebody's, and not the output of a build."""
    if not place.is_dir() or any(place.glob("packs-*")):
        return False
    entries = list_repository(place).entries if any(place.iterdir()) else ()
    return any(_has_rule(entry.path) for entry in entries)


def read_repository(root: Path, on_progress: Progress = ignore_progress) -> Repository:
    """Read the code of a repository and link it.

    Raises:
        InputError: it cannot be read, or holds nothing.
    """
    choices, listing = CorpusChoices(), list_repository(root)
    files: dict[str, SourceFile] = {}
    build_files: dict[str, str] = {}
    for number, listed in enumerate(attach_licenses([listing])):
        on_progress("read", number, len(listing.entries))
        if build := read_build_file(listed, choices):
            build_files[build.path] = build.text
        if isinstance(found := read_file(listed, choices), SourceFile) and found.language in RULES:
            files[found.path] = found
    return link_repository(root.resolve(), listing.repo, files, build_files)


def link_repository(
    root: Path, name: str, files: Mapping[str, SourceFile], build_files: Mapping[str, str] = MappingProxyType({})
) -> Repository:
    """Find out which of the files import which, and which are tests of which."""
    imports = {path: extract_imports(file.text, file.language) for path, file in files.items()}
    languages = {path: file.language for path, file in files.items()}
    edges = resolve_imports(imports, name.rpartition("/")[2], languages, build_files)
    return Repository(root, name, files, edges, pair_tests(languages))


def read_trained(places: Sequence[Path]) -> TrainedFiles:
    """Read which files were on the training side of the builds, and of the rounds of the jobs, at the given places."""
    blobs: set[str] = set()
    paths: set[tuple[str, str]] = set()
    sources = [folder / _TRAIN_PACKS for place in places for folder in (place, place / "data")]
    sources += [found for place in places for found in sorted(place.glob(f"rounds/*/{_TRAIN_PACKS}"))]
    known = [found for source in dict.fromkeys(sources) if (found := find_format(source)).exists()]
    for source in known:
        for pack in read_records(source, Pack):
            blobs |= {file.blob for file in pack.files}
            paths |= {(pack.repo, file.path) for file in pack.files}
    return TrainedFiles(frozenset(blobs), frozenset(paths), tuple(known))


def make_cross_file_holes(
    repository: Repository, excluded: Set[str], choices: EvalChoices, max_holes: int
) -> list[CrossFileHole]:
    """Cut holes at names that other files define, dealt evenly over the files; tests get none."""
    dealt: list[tuple[int, int, str, CrossFileHole]] = []
    definitions = {path: find_definitions(file) for path, file in repository.files.items()}
    for path, file in repository.files.items():
        if path in excluded or repository.is_test(path):
            continue
        elsewhere = _name_elsewhere(repository, path, definitions)
        cut = _cut_file(repository, file, elsewhere, choices)
        found = [(_rank(choices.seed, repository.name, path, hole), hole) for hole in cut]
        for rank, (draw, hole) in enumerate(sorted(found, key=lambda at: at[0])[: choices.max_holes_per_file]):
            dealt.append((rank, draw, path, hole))
    return [hole for *_, hole in sorted(dealt, key=lambda at: at[:3])[:max_holes]]


def find_definitions(file: SourceFile) -> frozenset[str]:
    """Find the names that a file defines."""
    found = {first or second for first, second in _DEFINED.findall(file.text)}
    return frozenset(found | set(_TYPED.findall(file.text) if file.language in _TYPED_LANGUAGES else ()))


def find_definition(text: str, name: str) -> int | None:
    """Find the start of the line that defines a name."""
    for pattern in (_DEFINED, _TYPED):
        for match in pattern.finditer(text):
            if name in match.groups():
                return text.rfind("\n", 0, match.start(match.lastindex or 0)) + 1
    return None


def _has_rule(path: str) -> bool:
    return any(path.endswith(ending) for name in RULES for ending in LANGUAGES[name].extensions)


def _name_elsewhere(
    repository: Repository, path: str, definitions: Mapping[str, frozenset[str]]
) -> dict[str, list[str]]:
    """Say of each name that an imported file defines, and this one does not, where it is defined."""
    elsewhere: dict[str, list[str]] = {}
    for imported in repository.list_imported(path):
        for name in definitions[imported] - definitions[path]:
            elsewhere.setdefault(name, []).append(imported)
    return elsewhere


def _cut_file(
    repository: Repository, file: SourceFile, elsewhere: Mapping[str, list[str]], choices: EvalChoices
) -> Iterator[CrossFileHole]:
    skipped = _find_import_lines(file)
    sign = LANGUAGES[file.language].comment_sign
    for line, start, end in find_lines(file.text, sign, choices):
        match = next((m for m in _NAME.finditer(file.text, start, end) if m.group() in elsewhere), None)
        if line in skipped or match is None or end - match.start() < choices.min_middle_chars:
            continue
        cursor = match.start()
        line_start = max(file.text.rfind(mark, 0, cursor) for mark in "\r\n") + 1
        hole = Hole(
            repository.name, file.path, line, cursor - line_start + 1, CROSS_FILE,
            prefix=file.text[:cursor], middle=file.text[cursor:end], suffix=file.text[end:],
        )  # fmt: skip
        yield CrossFileHole(hole, match.group(), tuple(elsewhere[match.group()]))


def _find_import_lines(file: SourceFile) -> frozenset[int]:
    """List the lines of import statements: what is imported is not used there. Lines count from 1."""
    lines = re.split(r"\r\n|\r|\n", file.text)
    found: set[int] = set()
    for statement in extract_imports(file.text, file.language, len(lines)):
        depth = 0
        for number in range(statement.line - 1, len(lines)):
            found.add(number + 1)
            depth += sum(lines[number].count(mark) for mark in "([{") - sum(lines[number].count(mark) for mark in ")]}")
            if depth <= 0 and not lines[number].endswith("\\"):
                break
    return frozenset(found)


def _rank(seed: int, repo: str, path: str, found: CrossFileHole) -> int:
    return xxhash.xxh3_64_intdigest(f"{repo}\0{path}\0{found.hole.line}".encode(), seed)

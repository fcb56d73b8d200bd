"""Parses the files of one part of a corpus: where each may be cut, what it imports, how much of it does not parse.

**In**: a `ParseTask`, a part of `SourceFile`s.
**Out**: three files that share a name, all in the order of the part: `FileFacts`, `FileImports`, `FileCuts`.
**Not**: links between files, which need the whole repository (`link.py`).
"""

import functools
import hashlib
import time
from collections import defaultdict
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import xxhash
from jaxtyping import Int32

from codegemma.errors import InputError
from codegemma.pack.imports import Import, extract_imports
from codegemma.pack.naturalness import count_boundaries
from codegemma.recipe import fingerprint
from codegemma.records import SourceFile, SourceKind
from codegemma.shards import count_records, read_records, write_records
from codegemma.text.languages import DOCUMENT_LANGUAGES, LANGUAGES, has_grammar
from codegemma.text.syntax import Syntax, analyze_document, analyze_syntax

# Part of the fingerprint: raise it when the same text comes to give other cuts or imports.
PARSE_VERSION = 4


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is counted and linked of one file; `boundary_cuts` and `boundary_places` are those of `BoundaryCounts`."""

    repo: str
    commit: str | None
    path: str
    language: str
    blob: str
    size_bytes: int
    chars: int
    error_share: float
    block_starts: int
    boundary_cuts: tuple[int, ...]
    boundary_places: tuple[int, ...]
    kind: SourceKind


@dataclass(frozen=True, slots=True)
class FileImports:
    """The import statements of one file."""

    imports: tuple[Import, ...]


@dataclass(frozen=True, slots=True)
class FileCuts:
    """The places where one file may be cut, as in `PackedFile`."""

    natural_cuts: Int32[np.ndarray, " cuts"] = field(repr=False)
    block_starts: Int32[np.ndarray, " blocks"] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ParseTask:
    """One part of a corpus, and where its cuts go. `size` counts files."""

    part: Path
    size: int
    import_top_lines: int
    out: Path

    @property
    def facts(self) -> Path:
        """Where the `FileFacts` stand."""
        return self.out.with_suffix(".facts.parquet")

    @property
    def imports(self) -> Path:
        """Where the `FileImports` stand."""
        return self.out.with_suffix(".imports.parquet")


def make_parse_task(part: Path, import_top_lines: int, folder: Path) -> ParseTask:
    """Name a part's task by the part's content, the choice, and the installed grammars.

    Raises:
        InputError: the part cannot be read.
    """
    try:
        with part.open("rb") as file:
            content = hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
    except OSError as error:
        raise InputError(f"{part}: cannot be read ({error.strerror}); build the corpus first") from error
    key = fingerprint(PARSE_VERSION, content, import_top_lines, list_grammars())
    return ParseTask(part, count_records(part), import_top_lines, folder / f"cuts-{key}.parquet")


@functools.cache
def list_grammars() -> tuple[str, ...]:
    """Name the parser and the grammars that are installed, with their versions."""
    grammars = [row.grammar_module for name, row in LANGUAGES.items() if has_grammar(name)]
    return tuple(_find_version(name) for name in ("tree_sitter", *grammars))


def _find_version(module: str) -> str:
    try:
        return f"{module} {metadata.version(module.replace('_', '-'))}"
    except metadata.PackageNotFoundError:  # a grammar that was not installed as a wheel
        return f"{module} unknown"


def parse_part(task: ParseTask) -> dict[str, float]:
    """Parse one part; return seconds of CPU time by step.

    Raises:
        InputError: a language whose grammar is not installed.
    """
    facts: list[FileFacts] = []
    imports: list[FileImports] = []
    cuts: list[FileCuts] = []
    cpu_s: defaultdict[str, float] = defaultdict(float)
    for source in read_records(task.part, SourceFile):
        started_s = time.process_time()
        syntax = _analyze(source)
        parsed_s = time.process_time()
        imports.append(FileImports(extract_imports(source.text, source.language, task.import_top_lines)))
        cpu_s["parse_cpu_s"] += parsed_s - started_s
        cpu_s["imports_cpu_s"] += time.process_time() - parsed_s
        facts.append(_state_facts(source, syntax))
        cuts.append(FileCuts(syntax.natural_cuts, syntax.block_starts))
    # The cuts last: where they stand, the part is parsed.
    write_records(task.facts, facts, FileFacts)
    write_records(task.imports, imports, FileImports)
    write_records(task.out, cuts, FileCuts)
    return cpu_s


def _analyze(source: SourceFile) -> Syntax:
    if source.language in DOCUMENT_LANGUAGES:
        return analyze_document(source.text)
    if source.language not in LANGUAGES or not has_grammar(source.language):
        raise InputError(
            f"{source.path}: no tree-sitter grammar for {source.language!r} is installed; install its wheel"
        )
    return analyze_syntax(source.text, source.language)


def _state_facts(source: SourceFile, syntax: Syntax) -> FileFacts:
    boundaries = count_boundaries(source.text, syntax.natural_cuts)
    return FileFacts(
        repo=source.repo,
        commit=source.commit,
        path=source.path,
        language=source.language,
        blob=source.blob,
        size_bytes=len(source.text.encode()),
        chars=len(source.text),
        error_share=syntax.error_share,
        block_starts=len(syntax.block_starts),
        boundary_cuts=boundaries.cuts,
        boundary_places=boundaries.places,
        kind=source.kind,
    )

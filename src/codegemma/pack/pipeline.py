"""Builds packs from a corpus: parses each file, links the files of each repository, groups them.

**In**: `files-train.parquet` and `files-heldout.parquet` of a corpus, and `PackChoices`.
**Out**: `packs-train.parquet`, `packs-heldout.parquet`, `dropped-syntax.parquet`, and last `packs.json`, the manifest.
**Not**: reading repositories, which is `corpus/`, or cutting for training, which is `feed/`. Held-out files never share
a pack with training files. The files have the same bytes for any number of workers.
"""

import functools
import itertools
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import xxhash

from codegemma.errors import InputError, OutputError
from codegemma.pack.choices import PackChoices
from codegemma.pack.graph import break_cycles
from codegemma.pack.group import RepositoryGraph, count_colocated_by_order, group_files
from codegemma.pack.imports import Import, extract_imports, resolve_imports
from codegemma.pack.report import MANIFEST, PackReport, SplitCount, read_manifest, write_manifest
from codegemma.pack.unit_tests import pair_tests
from codegemma.recipe import fingerprint
from codegemma.records import DroppedFile, Pack, PackedFile, SourceFile, Split
from codegemma.runner import Progress, ignore_progress, map_ordered
from codegemma.shards import count_records, read_records, write_records
from codegemma.text.languages import LANGUAGES, has_grammar
from codegemma.text.syntax import analyze_syntax

STAGE = "syntax"
DROPPED_FILE = "dropped-syntax.parquet"
# Part of the fingerprint: raise it when the same choices and files come to give other packs.
PIPELINE_VERSION = 1


def build_packs(
    corpus: Path,
    out: Path,
    choices: PackChoices,
    workers: int = 1,
    on_progress: Progress = ignore_progress,
) -> PackReport:
    """Build the packs of a corpus in `out`, or find that they are there already.

    Raises:
        InputError: no corpus there, a language whose grammar is not installed, or nothing left to train on.
        OutputError: `out` cannot be written.
        WorkerError: a worker process died.
    """
    key = _fingerprint_inputs(corpus, choices)
    earlier = read_manifest(out)
    if earlier is not None and earlier.fingerprint == key:
        return earlier
    _clear_folder(out)
    started_s = time.perf_counter()
    build = _Build(choices, workers, on_progress)
    for split in Split:
        write_records(out / _name_packs(split), build.pack_split(corpus, split), Pack)
    build.check_not_empty()
    write_records(out / DROPPED_FILE, build.dropped, DroppedFile)
    build.seconds["all_wall_s"] = time.perf_counter() - started_s
    report = PackReport(
        fingerprint=key,
        order=choices.order.value,
        budget_tokens=choices.budget_tokens,
        splits={split.value: build.counts[split] for split in Split},
        seconds=dict(build.seconds),
        parquet_bytes={name: (out / name).stat().st_size for name in _OUTPUTS},
    )
    write_manifest(out, report)
    return report


def _fingerprint_inputs(corpus: Path, choices: PackChoices) -> str:
    hashes = []
    for split in Split:
        path = corpus / f"files-{split}.parquet"
        try:
            hashes.append(xxhash.xxh3_128(path.read_bytes()).hexdigest())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); build the corpus first") from error
    grammars = [row.grammar_module for name, row in LANGUAGES.items() if has_grammar(name)]
    return fingerprint(PIPELINE_VERSION, choices, hashes, [_find_version(name) for name in ("tree_sitter", *grammars)])


def _find_version(module: str) -> str:
    try:
        return f"{module} {metadata.version(module.replace('_', '-'))}"
    except metadata.PackageNotFoundError:  # a grammar that was not installed as a wheel
        return f"{module} unknown"


def _name_packs(split: Split) -> str:
    return f"packs-{split}.parquet"


_OUTPUTS = (*map(_name_packs, Split), DROPPED_FILE)


def _clear_folder(out: Path) -> None:
    """Make the folder and take away what an earlier build left, the manifest first.

    Training packs of this build beside held-out packs of another would measure on what was trained on.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (MANIFEST, *_OUTPUTS):
            (out / name).unlink(missing_ok=True)
            for left_by_a_kill in out.glob(f".{name}.*.tmp"):
                left_by_a_kill.unlink()
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error


@dataclass(frozen=True, slots=True)
class _Analyzed:
    """What a worker sends back for one file."""

    source: SourceFile
    packed: PackedFile
    error_share: float
    imports: tuple[Import, ...]
    parse_cpu_s: float
    imports_cpu_s: float


def _analyze(source: SourceFile, choices: PackChoices) -> _Analyzed:
    if source.language not in LANGUAGES or not has_grammar(source.language):
        raise InputError(
            f"{source.path}: no tree-sitter grammar for {source.language!r} is installed; install its wheel"
        )
    started_s = time.process_time()
    syntax = analyze_syntax(source.text, source.language)
    parsed_s = time.process_time()
    imports = extract_imports(source.text, source.language, choices.import_top_lines)
    return _Analyzed(
        source=source,
        packed=PackedFile(
            path=source.path,
            language=source.language,
            text=source.text,
            blob=source.blob,
            license=source.license,
            natural_cuts=syntax.natural_cuts,
            block_starts=syntax.block_starts,
        ),
        error_share=syntax.error_share,
        imports=imports,
        parse_cpu_s=parsed_s - started_s,
        imports_cpu_s=time.process_time() - parsed_s,
    )


@dataclass(slots=True)
class _Build:
    """One build under way; it holds the files of one repository at a time."""

    choices: PackChoices
    workers: int
    on_progress: Progress
    dropped: list[DroppedFile] = field(default_factory=list)
    counts: dict[Split, SplitCount] = field(default_factory=lambda: {split: SplitCount() for split in Split})
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def pack_split(self, corpus: Path, split: Split) -> Iterator[Pack]:
        """Yield the packs of one split, repository by repository."""
        path = corpus / f"files-{split}.parquet"
        sources, total = read_records(path, SourceFile), count_records(path)
        analyze = functools.partial(_analyze, choices=self.choices)
        analyzed = map_ordered(analyze, sources, self.workers, self.on_progress, f"parse {split}", total)
        packed_repos: set[str] = set()
        for repo, files in itertools.groupby(analyzed, key=lambda file: file.source.repo):
            if repo in packed_repos:
                raise InputError(f"{corpus}: the files of {repo} do not stand together; build the corpus again")
            packed_repos.add(repo)
            yield from self._pack_repository(split, [file for file in files if self._admit(split, file)])

    def _admit(self, split: Split, file: _Analyzed) -> bool:
        count = self.counts[split]
        count.files_in += 1
        self.seconds["parse_cpu_s"] += file.parse_cpu_s
        self.seconds["imports_cpu_s"] += file.imports_cpu_s
        if file.error_share <= self.choices.max_error_share:
            count.add_file(file.packed)
            return True
        count.files_dropped += 1
        source = file.source
        detail = f"{file.error_share:.1%} of its bytes do not parse"
        size_bytes = len(source.text.encode())
        self.dropped.append(DroppedFile(source.repo, source.path, STAGE, "syntax_errors", detail, size_bytes))
        return False

    def _pack_repository(self, split: Split, files: list[_Analyzed]) -> Iterator[Pack]:
        if not files:
            return
        started_s = time.process_time()
        graph = _link_files(files)
        groups = group_files(graph, self.choices.order, self.choices.budget_chars)
        self.seconds["group_cpu_s"] += time.process_time() - started_s
        self._count_graph(split, graph)
        by_path = {file.packed.path: file.packed for file in files}
        repo, commit = files[0].source.repo, files[0].source.commit
        for group in groups:
            members = tuple(by_path[path] for path in group)
            pack_id = fingerprint(repo, split, [(file.path, file.blob) for file in members])
            self.counts[split].packs += 1
            yield Pack(pack_id, repo, commit, split, members)

    def _count_graph(self, split: Split, graph: RepositoryGraph) -> None:
        started_s = time.process_time()
        count = self.counts[split]
        count.edges += len(graph.edges)
        count.broken_edges += len(graph.edges) - len(graph.kept)
        count.paired_tests += len(graph.pairs)
        count.colocated_edges.update(count_colocated_by_order(graph, self.choices.budget_chars))
        self.seconds["co_location_cpu_s"] += time.process_time() - started_s

    def check_not_empty(self) -> None:
        """Refuse a build that leaves nothing to train on."""
        count = self.counts[Split.TRAIN]
        if not count.files_packed:
            raise InputError(
                f"nothing left to train on: {count.files_dropped} of {count.files_in} files have more than "
                f"{self.choices.max_error_share:.0%} syntax errors; see pack.max_error_share"
            )


def _link_files(files: list[_Analyzed]) -> RepositoryGraph:
    languages = {file.packed.path: file.packed.language for file in files}
    edges = resolve_imports({file.packed.path: file.imports for file in files}, files[0].source.repo, languages)
    pairs = pair_tests(languages)
    # The path stands before the text, on its own line.
    sizes = {file.packed.path: len(file.packed.path) + 1 + len(file.packed.text) for file in files}
    return RepositoryGraph(sizes, edges, break_cycles(edges).kept, pairs)

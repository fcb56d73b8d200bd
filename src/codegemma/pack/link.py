"""Links the files of whole repositories and divides them into packs; texts are not read for it.

**In**: a `LinkTask`: some repositories, where the facts and imports of their files stand, and what leads imports.
**Out**: two files that share a name: a `PackPlan` for each pack, in reading order, and `RepoLinks`, the counts.
**Not**: the packs themselves; `pipeline.py` has them written.
"""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from codegemma.pack.choices import PackChoices, PackFormat
from codegemma.pack.graph import break_cycles
from codegemma.pack.group import RepositoryGraph, count_colocated_by_order, group_files
from codegemma.pack.guides import LinkGuides
from codegemma.pack.imports import Edge, Import, resolve_imports
from codegemma.pack.parse import FileFacts, FileImports, ParseTask
from codegemma.pack.references import FollowedEdges, add_copies, follow_copies
from codegemma.pack.unit_tests import pair_tests
from codegemma.recipe import fingerprint
from codegemma.records import FileReference, SourceKind, Split
from codegemma.shards import read_records, write_records
from codegemma.text.languages import DOCUMENT_LANGUAGES

# Part of the fingerprint: raise it when the same files come to give other packs.
LINK_VERSION = 5


@dataclass(frozen=True, slots=True)
class PackPlan:
    """A pack to be written. A member is row `rows[i]` of the part whose cuts' file is named `parts[i]`."""

    pack_id: str
    repo: str
    commit: str | None
    split: Split
    kind: SourceKind
    parts: tuple[str, ...]
    rows: tuple[int, ...]
    chars: int


@dataclass(frozen=True, slots=True)
class RepoLinks:
    """What links the files of one repository and kind. `colocated[i]` counts those that `orders[i]` co-locates.

    `reference_edges` are those of `edges` that lead to a file in place of its dropped copy; `outside_edges` are no
    edges, because the file that stands for the copy is in another repository or across the held-out border.
    """

    repo: str
    edges: int
    reference_edges: int
    outside_edges: int
    broken_edges: int
    paired_tests: int
    orders: tuple[str, ...]
    colocated: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LinkTask:
    """Whole repositories of one split, and the parsed parts that hold their files. `size` counts files."""

    repos: tuple[str, ...]
    split: Split
    parsed: tuple[ParseTask, ...]
    guides: LinkGuides
    choices: PackChoices
    size: int
    out: Path

    @property
    def counts(self) -> Path:
        """Where the `RepoLinks` stand."""
        return self.out.with_suffix(".counts.parquet")


def make_link_task(
    repos: Sequence[str],
    split: Split,
    parsed: Sequence[ParseTask],
    guides: LinkGuides,
    choices: PackChoices,
    *,
    size: int,
    folder: Path,
) -> LinkTask:
    """Name a task by the parsed parts, which of the repositories in them it takes, what leads imports, and choices."""
    choices = dataclasses.replace(choices, format=PackFormat.PARQUET)  # of no matter here
    key = fingerprint(LINK_VERSION, repos, split, [task.out.name for task in parsed], guides.digest, choices)
    return LinkTask(tuple(repos), split, tuple(parsed), guides, choices, size, folder / f"plans-{key}.parquet")


@dataclass(frozen=True, slots=True)
class _Member:
    """A file of the repository: where it stands, its facts and its imports."""

    part: str
    row: int
    facts: FileFacts
    imports: tuple[Import, ...]


def link_repositories(task: LinkTask) -> dict[str, float]:
    """Link and divide each repository; return seconds of CPU time by step."""
    cpu_s: defaultdict[str, float] = defaultdict(float)
    plans: list[PackPlan] = []
    counts: list[RepoLinks] = []
    build_files, references = task.guides.read_build_files(), task.guides.read_references()
    for (repo, _), members in _read_members(task).items():
        started_s = time.process_time()
        followed = _link_files(members, repo, build_files.get(repo, {}), references.get(repo, []))
        graph = _make_graph(members, followed.edges)
        groups = group_files(graph, task.choices.order, task.choices.budget_chars)
        grouped_s = time.process_time()
        colocated = count_colocated_by_order(graph, task.choices.budget_chars, {task.choices.order: groups})
        cpu_s["group_cpu_s"] += grouped_s - started_s
        cpu_s["co_location_cpu_s"] += time.process_time() - grouped_s
        orders = tuple(sorted(colocated))
        counts.append(
            RepoLinks(
                repo=repo,
                edges=len(graph.edges),
                reference_edges=followed.references,
                outside_edges=followed.outside,
                broken_edges=len(graph.edges) - len(graph.kept),
                paired_tests=len(graph.pairs),
                orders=orders,
                colocated=tuple(colocated[order] for order in orders),
            )
        )
        plans += _plan_packs(task.split, repo, members, groups)
    write_records(task.counts, counts, RepoLinks)
    write_records(task.out, plans, PackPlan)
    return cpu_s


def _read_members(task: LinkTask) -> dict[tuple[str, SourceKind], dict[str, _Member]]:
    """Read what is known of the admitted files, by repository and kind, then path, in the order of the parts."""
    repos = frozenset(task.repos)
    members: dict[tuple[str, SourceKind], dict[str, _Member]] = {}
    for parsed in task.parsed:
        both = zip(read_records(parsed.facts, FileFacts), read_records(parsed.imports, FileImports), strict=True)
        for row, (facts, imports) in enumerate(both):
            if facts.repo in repos and facts.error_share <= task.choices.max_error_share:
                member = _Member(parsed.out.name, row, facts, imports.imports)
                members.setdefault((facts.repo, facts.kind), {})[facts.path] = member
    return members


def _link_files(
    members: dict[str, _Member], repo: str, build_files: dict[str, str], references: Sequence[FileReference]
) -> FollowedEdges:
    languages = {path: member.facts.language for path, member in members.items()}
    stand_ins: dict[str, str | None] = {}
    for reference in references:
        is_here = reference.kept_repo == repo and reference.kept_path in members
        stand_ins[reference.path] = reference.kept_path if is_here else None
        if is_here:
            languages[reference.path] = languages[reference.kept_path]
    imports = add_copies({path: member.imports for path, member in members.items()}, stand_ins)
    return follow_copies(resolve_imports(imports, repo, languages, build_files), stand_ins)


def _make_graph(members: dict[str, _Member], edges: tuple[Edge, ...]) -> RepositoryGraph:
    languages = {path: member.facts.language for path, member in members.items()}
    pairs = pair_tests({path: language for path, language in languages.items() if language not in DOCUMENT_LANGUAGES})
    # The path stands before the text, on its own line.
    sizes = {path: len(path) + 1 + member.facts.chars for path, member in members.items()}
    return RepositoryGraph(sizes, edges, break_cycles(edges).kept, pairs)


def _plan_packs(
    split: Split, repo: str, members: dict[str, _Member], groups: Sequence[Sequence[str]]
) -> Iterator[PackPlan]:
    for group in groups:
        files = [members[path] for path in group]
        yield PackPlan(
            pack_id=name_pack(repo, split, [(file.facts.path, file.facts.blob) for file in files]),
            repo=repo,
            commit=files[0].facts.commit,
            split=split,
            kind=files[0].facts.kind,
            parts=tuple(file.part for file in files),
            rows=tuple(file.row for file in files),
            chars=sum(file.facts.chars for file in files),
        )


def name_pack(repo: str, split: Split, files: Sequence[tuple[str, str]]) -> str:
    """Name a pack by the path and blob of each of its files, in their order."""
    return fingerprint(repo, split, files)

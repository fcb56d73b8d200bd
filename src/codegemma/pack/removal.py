"""Removes files from packs that were built, without rebuilding any other pack.

**In**: a data folder, its `PackReport`, and which files of which repository go.
**Out**: which packs go or are changed, and the report that will stand afterwards; then, on demand, the removal itself.
**Not**: grouping anew: a pack that loses a file keeps the others in their order, which stays one of dependencies first.
So no other pack changes, and neither sources nor `steps/` are needed.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from codegemma.errors import InputError
from codegemma.pack.link import PackPlan, RepoLinks, name_pack
from codegemma.pack.naturalness import count_boundaries, name_boundaries
from codegemma.pack.pipeline import DROPPED_FILE, STEPS, name_packs
from codegemma.pack.report import PackReport, SplitCount
from codegemma.recipe import fingerprint
from codegemma.records import DroppedFile, Pack, Split
from codegemma.removal import Matches, list_parts_of, remove_steps, rewrite
from codegemma.shards import read_records, write_records

_LINK_COUNTS = ("edges", "reference_edges", "outside_edges", "broken_edges", "paired_tests")


@dataclass(frozen=True, slots=True)
class PackRemoval:
    """How many packs go and how many lose files, by split; the parts that are written anew.

    `is_linked_anew` is false where the counts of imports are still those of the build. `report` is what will stand
    afterwards, sizes of Parquet files left out.
    """

    packs_removed: dict[Split, int]
    packs_changed: dict[Split, int]
    parts: tuple[str, ...]
    is_linked_anew: bool
    report: PackReport


def plan_removal(
    out: Path, report: PackReport, repo: str, matches: Matches, files: Mapping[Split, int], *, is_whole: bool
) -> PackRemoval:
    """Find out what a removal touches; nothing is written. `files` counts the corpus's files that go.

    Raises:
        InputError: a file is damaged.
    """
    removed, changed = dict.fromkeys(Split, 0), dict.fromkeys(Split, 0)
    parts: list[str] = []
    splits = dict(report.splits)
    links = _read_links(out, repo) if is_whole else {}
    is_linked_anew = True
    for split in Split:
        less = SplitCount(files_in=files[split])
        for part in list_parts_of(out / name_packs(split), repo):
            before = len(parts)
            for pack in read_records(part, Pack):
                kept = shrink_pack(pack, matches)
                if kept is pack:
                    continue
                removed[split] += kept is None
                changed[split] += kept is not None
                _count_gone(less, pack, matches)
                parts[before:] = [part.relative_to(out).as_posix()]
        less.packs = removed[split]
        less.files_dropped = less.files_in - less.files_packed
        if less.files_packed:
            found = links.get(split)
            is_linked_anew = is_linked_anew and found is not None
            _count_links(less, found)
        splits[split.value] = _subtract(splits[split.value], less)
    after = replace(report, splits=splits, parquet_bytes={}, is_reused=False)
    return PackRemoval(removed, changed, tuple(parts), is_linked_anew, after)


def _read_links(out: Path, repo: str) -> dict[Split, RepoLinks]:
    """Read what the build counted of a repository's imports, where `steps/` still tells it."""
    links: dict[Split, RepoLinks] = {}
    for file in sorted((out / STEPS).glob("plans-*.counts.parquet")):
        try:
            found = next((row for row in read_records(file, RepoLinks) if row.repo == repo), None)
            plans = read_records(_find_plans(file), PackPlan)
            plan = next((plan for plan in plans if plan.repo == repo), None)
        except InputError:
            continue
        if found is not None and plan is not None:
            links[plan.split] = found
    return links


def _count_gone(less: SplitCount, pack: Pack, matches: Matches) -> None:
    for file in pack.files:
        if matches(pack.repo, file.path):
            less.files_packed += 1
            less.files_by_language[file.language] += 1
            less.chars_by_kind[pack.kind] += len(file.text)
            less.chars += len(file.text)
            less.chars_by_language[file.language] += len(file.text)
            less.block_starts += len(file.block_starts)
            boundaries = count_boundaries(file.text, file.natural_cuts)
            less.boundary_cuts.update(name_boundaries(file.language, boundaries.cuts))
            less.boundary_places.update(name_boundaries(file.language, boundaries.places))


def _count_links(less: SplitCount, links: RepoLinks | None) -> None:
    if links is not None:
        for name in _LINK_COUNTS:
            setattr(less, name, getattr(links, name))
        less.colocated_edges = Counter(dict(zip(links.orders, links.colocated, strict=True)))


def _subtract(count: SplitCount, less: SplitCount) -> SplitCount:
    rest = SplitCount()
    for field in dataclasses.fields(SplitCount):
        before, gone = getattr(count, field.name), getattr(less, field.name)
        if isinstance(before, Counter):
            left = Counter(before)
            left.subtract(gone)
            # An order in which nothing shares a pack is told with its 0; a language without files is not.
            rows = {key: number for key, number in left.items() if number or field.name == "colocated_edges"}
            setattr(rest, field.name, Counter(rows))
        else:
            setattr(rest, field.name, before - gone)
    return rest


def shrink_pack(pack: Pack, matches: Matches) -> Pack | None:
    """Take files out of a pack, which gives it another name; `None` where none is left, itself where none goes."""
    files = tuple(file for file in pack.files if not matches(pack.repo, file.path))
    if len(files) == len(pack.files):
        return pack
    name = name_pack(pack.repo, pack.split, [(file.path, file.blob) for file in files])
    return replace(pack, pack_id=name, files=files) if files else None


def remove_files(out: Path, repo: str, matches: Matches) -> None:
    """Remove the files from packs, from the list of dropped ones, and the steps that hold them.

    Done again after a kill, it does the rest.

    Raises:
        InputError: a file is damaged.
        OutputError: no permission or no space.
    """
    shrink: Callable[[Pack], Pack | None] = lambda pack: shrink_pack(pack, matches)  # noqa: E731
    for split in Split:
        for part in list_parts_of(out / name_packs(split), repo):
            rewrite(part, Pack, shrink)
    rewrite(out / DROPPED_FILE, DroppedFile, lambda drop: None if matches(drop.repo, drop.path) else drop)
    _keep_links_of_others(out / STEPS, repo)
    remove_steps(out / STEPS, matches, repo)


def _keep_links_of_others(steps: Path, repo: str) -> None:
    """Keep what was counted of repositories that were linked in one task with this one, for when they are forgotten.

    No build looks for the name that it gets.
    """
    for file in sorted(steps.glob("plans-*.counts.parquet")):
        try:
            links = list(read_records(file, RepoLinks))
            plans = list(read_records(_find_plans(file), PackPlan))
        except InputError:
            continue
        others = [row for row in links if row.repo != repo]
        if others and len(others) < len(links):
            name = f"plans-{fingerprint('others', file.name, repo)}"
            write_records(steps / f"{name}.counts.parquet", others, RepoLinks)
            write_records(steps / f"{name}.parquet", [plan for plan in plans if plan.repo != repo], PackPlan)


def _find_plans(counts: Path) -> Path:
    return counts.with_name(counts.name.replace(".counts", ""))

"""Decides which files are held out: whole directories, or the files that were added last; never files at random.

**In**: path, size and, for a split by time, birth of every kept file of one repository.
**Out**: the held-out paths, and in words what they are.
**Not**: the search for held-out files that the training side gives away; that is `leaks.py`.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import NamedTuple

import xxhash

from codegemma.errors import InputError
from codegemma.text.languages import detect_language, find_tested_stem

STAGE = "split"
# A directory larger than this part of what is wanted is divided into its own: no single one decides the measurement.
MAX_UNIT_OF_TARGET = 0.5
# Units are added while the sum stays below this much of what is wanted.
MAX_SUM_OF_TARGET = 1.1
# Below this much of what is wanted, directories were not enough and files of a kind are held out as well.
MIN_SUM_OF_TARGET = 0.5
# A document of JSON Lines: the file's name and the record's number.
_RECORD = re.compile(r":\d+$")


@dataclass(frozen=True, slots=True)
class Heldout:
    """What is held out of one repository. `how` says it in words, for the manifest."""

    paths: frozenset[str]
    how: str


class Unit(NamedTuple):
    """Files that stay on one side together."""

    name: str
    paths: tuple[str, ...]
    size_bytes: int


def hold_out_directories(sizes: Mapping[str, int], share: float, repo: str, seed: int) -> Heldout:
    """Hold out whole directories, in the order of a keyed hash of their names, until `share` of the bytes is reached.

    Directories too large for that are divided into their subdirectories. Where one directory holds nearly everything,
    families of files (`parser.py`, `parser_utils.py`, `test_parser.py`) take their place, or single records of JSON
    Lines, and `how` says so.

    >>> sizes = {f"{folder}/{name}.py": 10 for folder in "abcdefghij" for name in "xy"}
    >>> held = hold_out_directories(sizes, 0.2, "repo", seed=0)
    >>> sorted(held.paths), held.how
    (['g/x.py', 'g/y.py', 'i/x.py', 'i/y.py'], '2 of 10 directories')
    """
    target = share * sum(sizes.values())
    directories = _divide_folders(sizes, target * MAX_UNIT_OF_TARGET)
    chosen = _choose(directories, target, repo, seed)
    how = f"{len(chosen)} of {len(directories)} directories"
    chosen_bytes = sum(unit.size_bytes for unit in chosen)
    if chosen_bytes < target * MIN_SUM_OF_TARGET:
        large = [unit for unit in directories if unit not in chosen and unit.size_bytes > target - chosen_bytes]
        families = [family for unit in large for family in _divide_by_family(unit, sizes)]
        more = _choose(families, target - chosen_bytes, repo, seed) or _choose_least(families, sizes, chosen)
        chosen += more
        how += f" and {len(more)} of {len(families)} file families: single directories hold too much to be held out"
    return Heldout(frozenset(path for unit in chosen for path in unit.paths), how)


def _divide_folders(sizes: Mapping[str, int], max_bytes: float) -> list[Unit]:
    units: list[Unit] = []
    # A stack, not recursion: a folder can be nested deeper than Python's stack.
    stack = [("", sorted(sizes))]
    while stack:
        folder, paths = stack.pop()
        unit = _make_unit(folder or ".", paths, sizes)
        if folder and unit.size_bytes <= max_bytes:
            units.append(unit)
            continue
        inside: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            name, slash, _ = path[len(folder) :].partition("/")
            inside[f"{folder}{name}/" if slash else ""].append(path)
        if loose := inside.pop("", None):
            units.append(_make_unit(folder or ".", loose, sizes))
        stack += inside.items()
    return units


def _divide_by_family(unit: Unit, sizes: Mapping[str, int]) -> list[Unit]:
    families: dict[str, list[str]] = defaultdict(list)
    for path in unit.paths:
        families[_name_family(path)].append(path)
    return [_make_unit(f"{unit.name}{name}", paths, sizes) for name, paths in families.items()]


def _name_family(path: str) -> str:
    if _RECORD.search(path):  # records have nothing but their file in common
        return path
    language = detect_language(path, "")
    stem = (language and find_tested_stem(path, language.name)) or PurePosixPath(path).stem
    return stem.strip("_").lower().partition("_")[0]


def _make_unit(name: str, paths: Iterable[str], sizes: Mapping[str, int]) -> Unit:
    paths = tuple(paths)
    return Unit(name, paths, sum(sizes[path] for path in paths))


def _choose(units: Iterable[Unit], target: float, repo: str, seed: int) -> list[Unit]:
    chosen: list[Unit] = []
    chosen_bytes = 0
    for unit in sorted(units, key=lambda unit: xxhash.xxh3_128_digest(f"{repo}\n{unit.name}".encode(), seed)):
        if chosen_bytes + unit.size_bytes <= target * MAX_SUM_OF_TARGET:
            chosen.append(unit)
            chosen_bytes += unit.size_bytes
    return chosen


def _choose_least(units: list[Unit], sizes: Mapping[str, int], chosen: list[Unit]) -> list[Unit]:
    # So few files that each is more than wanted: the smallest, as long as most is left to learn from.
    least = min(units, key=lambda unit: (unit.size_bytes, unit.name), default=None)
    if chosen or least is None or least.size_bytes > sum(sizes.values()) / 2 or len(least.paths) == len(sizes):
        return []
    return [least]


def hold_out_newest(sizes: Mapping[str, int], births_s: Mapping[str, int], share: float, repo: str) -> Heldout:
    """Hold out the files that were added last, until `share` of the bytes is reached; what is not committed is newest.

    Files of one commit stay together.

    >>> held = hold_out_newest({"a.py": 80, "b.py": 10, "c.py": 10}, {"a.py": 0, "b.py": 60, "c.py": 120}, 0.15, "repo")
    >>> sorted(held.paths), held.how
    (['b.py', 'c.py'], '2 files first added at 1970-01-01T00:01:00+00:00 or later')

    Raises:
        InputError: most of the repository was added at once, so that no date divides it.
    """
    total = sum(sizes.values())
    groups: dict[float, list[str]] = defaultdict(list)
    for path in sizes:
        groups[births_s.get(path, math.inf)].append(path)
    paths: list[str] = []
    heldout_bytes, cut_s = 0, math.inf
    for birth_s in sorted(groups, reverse=True):
        group_bytes = sum(sizes[path] for path in groups[birth_s])
        if heldout_bytes >= share * total or heldout_bytes + group_bytes > 2 * share * total:
            break
        paths += groups[birth_s]
        heldout_bytes, cut_s = heldout_bytes + group_bytes, birth_s
    if not paths and share > 0:
        raise InputError(
            f"{repo}: more than {2 * share:.0%} of it was added last and at once, so no date divides it; "
            "use heldout_by=directory or a larger heldout_share"
        )
    when = "not committed yet" if math.isinf(cut_s) else f"first added at {_spell_time(int(cut_s))} or later"
    return Heldout(frozenset(paths), f"{len(paths)} files {when}")


def _spell_time(time_s: int) -> str:
    """Spell a commit's time, which may be any number that somebody wrote into it.

    >>> _spell_time(0), _spell_time(10**15)
    ('1970-01-01T00:00:00+00:00', '1000000000000000 s after 1970')
    """
    try:
        return datetime.fromtimestamp(time_s, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{time_s} s after 1970"


def keep_sides(
    sizes: Mapping[str, int], was_heldout: Mapping[str, bool], share: float, repo: str, seed: int
) -> Heldout:
    """Divide a repository that was divided before: every file stays on its side, so that no measurement is spoilt.

    `was_heldout` tells the side of each path that an earlier build has seen. A new file follows its folder if all that
    was in it is held out, and else is trained on; where that leaves much less than `share` of the bytes held out, new
    directories are held out as well.

    >>> held = keep_sides({"a/x.py": 9, "b/y.py": 9, "b/new.py": 9}, {"a/x.py": False, "b/y.py": True}, 0.5, "r", 0)
    >>> sorted(held.paths), held.how
    (['b/new.py', 'b/y.py'], '1 file held out before and 1 new one')
    """
    folders: dict[str, bool] = {}
    for path, is_held in was_heldout.items():
        folder = _name_folder(path)
        folders[folder] = folders.get(folder, True) and is_held
    held = {path for path in sizes if was_heldout.get(path, False)}
    new = {path: size for path, size in sizes.items() if path not in was_heldout}
    added = {path for path in new if folders.get(_name_folder(path), False)}
    heldout_bytes = sum(sizes[path] for path in held | added)
    if heldout_bytes < share * sum(sizes.values()) * MIN_SUM_OF_TARGET:
        others = {path: size for path, size in new.items() if path not in added}
        added |= hold_out_directories(others, share, repo, seed).paths
    how = f"{_count(len(held), 'file')} held out before and {len(added)} new {'one' if len(added) == 1 else 'ones'}"
    return Heldout(frozenset(held | added), how)


def _name_folder(path: str) -> str:
    return path.rpartition("/")[0]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""Two results side by side: item by item where both answered, with McNemar's test and a paired bootstrap.

**In**: two folders that `codegemma evaluate` wrote.
**Out**: `Change`s, one for each figure that both have; notes on what is not in both, or was asked otherwise.
**Not**: a verdict on the models: many figures are compared, and one in twenty differs by chance.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from codegemma.errors import InputError
from codegemma.evals.measure import METRICS
from codegemma.evals.results import SuiteResults, read_results
from codegemma.evals.samples import Sample
from codegemma.evals.scoring import HoleResult
from codegemma.evals.statistics import (
    Interval,
    bootstrap_difference,
    bootstrap_share_difference,
    weigh_discordant,
)
from codegemma.recipe import from_plain

Figure = tuple[str, str, str, str]


class Item(NamedTuple):
    """What one item gave: `weight` is what it counts in a mean, `asked` a digest of the question where there is one."""

    group: str
    value: float
    weight: float = 1.0
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of two results on the same items, and their difference, the second minus the first.

    `gained` and `lost` count items that only the second or only the first answers, and `chance` is McNemar's; `None`
    where values are no yes or no. Where items share a group (holes of a solution), trust the interval.
    """

    suite: str
    kind: str
    mode: str
    system: str
    metric: str
    first: float
    second: float
    difference: Interval
    gained: int | None
    lost: int | None
    chance: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures that two results share, and what must be said beside them."""

    first: str
    second: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


def compare_results(first: Path, second: Path, seed: int = 0) -> Comparison:
    """Compare two results, figure by figure.

    Raises:
        InputError: no results there, or no item that both answered.
    """
    ours, theirs = read_results(first), read_results(second)
    changes: list[Change] = []
    notes: list[str] = []
    mine = {suite.suite: suite for suite in ours.suites}
    others = {suite.suite: suite for suite in theirs.suites}
    for name in dict.fromkeys([*mine, *others]):
        pair = (mine.get(name), others.get(name))
        lacking = [str(place) for place, suite in zip((first, second), pair, strict=True) if not _has_records(suite)]
        if lacking:
            notes.append(f"{name}: not run in {' and '.join(lacking)}")
            continue
        files = [place / suite.holes_file for place, suite in zip((first, second), pair, strict=True) if suite]
        found, said = _compare_suite(name, read_items(files[0]), read_items(files[1]), seed)
        changes += found
        notes += said or ([] if found else [f"{name}: its records hold no figures to pair item by item"])
    if not changes:
        raise InputError(
            f"{first} and {second} have no item in common ({'; '.join(notes)}); run the same suites on both"
        )
    return Comparison(ours.model, theirs.model, tuple(changes), tuple(notes))


def _has_records(suite: SuiteResults | None) -> bool:
    return suite is not None and suite.holes_file != ""


def read_items(path: Path) -> dict[Figure, dict[str, Item]]:
    """Read what each item of a suite gave, by kind, mode, system and metric.

    Raises:
        InputError: no such file, or no records of an evaluation.
    """
    found: dict[Figure, dict[str, Item]] = {}
    sums: dict[tuple[Figure, str], int] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                for figure, name, item in _read_line(json.loads(line)):
                    items, count = found.setdefault(figure, {}), sums.get((figure, name), 0)
                    value = item.value
                    if count:  # another sample of the same problem: its share of passes
                        value = (items[name].value * count + item.value) / (count + 1)
                    items[name], sums[figure, name] = item._replace(value=value), count + 1
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} does not hold records of an evaluation ({error}); run it again") from error
    return found


def _read_line(plain: dict[str, Any]) -> Iterator[tuple[Figure, str, Item]]:
    for mark, read in _READERS:
        if mark in plain:
            return read(plain)
    return iter(())


def _read_sample(plain: dict[str, Any]) -> Iterator[tuple[Figure, str, Item]]:
    sample: Sample = from_plain(Sample, plain)
    for judged in (one for one in sample.judged if one.was_run):
        figure = (sample.kind, str(sample.mode or ""), f"model, {judged.policy}", "pass_at_1")
        yield figure, sample.task_id, Item(sample.group, float(judged.has_passed), 1.0, sample.prompt)


def _read_hole(plain: dict[str, Any]) -> Iterator[tuple[Figure, str, Item]]:
    hole: HoleResult = from_plain(HoleResult, plain)
    for metric in METRICS:
        value = metric.read(hole)
        if value is not None:
            weight = float(hole.middle_bytes) if metric.is_per_byte else 1.0
            figure = (hole.kind, str(hole.mode or ""), hole.system, metric.name)
            yield figure, hole.hole_id, Item(f"{hole.repo}/{hole.path}", float(value), weight)


def _read_metrics(plain: dict[str, Any]) -> Iterator[tuple[Figure, str, Item]]:
    item_id = str(plain["item_id"])
    asked = next((str(plain[name]) for name in ("prompt", "request", "question") if name in plain), "")
    for name, value in plain["metrics"].items():
        figure = (str(plain.get("figure", plain.get("task", ""))), str(plain.get("mode") or ""), "model", name)
        yield figure, item_id, Item(item_id, float(value), 1.0, asked)


# By a field that only records of that kind have: any suite whose records have an item's id and metrics is compared.
_READERS: Sequence[tuple[str, Callable[[dict[str, Any]], Iterator[tuple[Figure, str, Item]]]]] = (
    ("judged", _read_sample),
    ("hole_id", _read_hole),
    ("metrics", _read_metrics),
)


def _compare_suite(
    suite: str, first: dict[Figure, dict[str, Item]], second: dict[Figure, dict[str, Item]], seed: int
) -> tuple[list[Change], list[str]]:
    changes, notes = [], []
    for figure in [figure for figure in first if figure in second]:
        ours, theirs = first[figure], second[figure]
        common = [name for name in ours if name in theirs]
        label = f"{suite}, {' '.join(part for part in figure[:2] if part)}"
        if alone := len(ours) + len(theirs) - 2 * len(common):
            notes.append(f"{label}: {alone:,} items are in one of the two only and left out")
        if otherwise := sum(ours[name].asked != theirs[name].asked for name in common):
            notes.append(
                f"{label}: {otherwise:,} of {len(common):,} were asked otherwise (window, settings or template)"
            )
        if common:
            pairs = [(ours[name], theirs[name]) for name in common]
            changes.append(_subtract(suite, figure, pairs, seed))
    return changes, list(dict.fromkeys(notes))


def _subtract(suite: str, figure: Figure, pairs: Sequence[tuple[Item, Item]], seed: int) -> Change:
    ours, theirs = [o.value for o, _ in pairs], [t.value for _, t in pairs]
    weights, groups = [o.weight for o, _ in pairs], [o.group for o, _ in pairs]
    total = sum(weights)
    means = sum(ours) / total, sum(theirs) / total
    if not set(ours) | set(theirs) <= {0.0, 1.0}:
        interval = bootstrap_difference(theirs, ours, groups, seed=seed, denominators=weights)
        return Change(suite, *figure, *means, interval, None, None, None)
    interval = bootstrap_share_difference(theirs, ours, groups, seed=seed)
    gained = sum(t > o for o, t in zip(ours, theirs, strict=True))
    lost = sum(t < o for o, t in zip(ours, theirs, strict=True))
    return Change(suite, *figure, *means, interval, gained, lost, weigh_discordant(gained, lost))

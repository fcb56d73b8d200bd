"""Which collectives a compiled program runs, how often, and how many bytes each moves.

**In**: the text of a compiled program (`Compiled.as_text()`).
**Out**: `Collective`s, those in loops counted as often as the loop turns.
**Not**: time: what overlaps with products costs nothing, and no text tells.

Three traps (training study, 2.3): a TPU's program names no trip count, so the constant of the loop's condition is
taken; kernels of Pallas carry text of several lines, so a line that begins with a brace ends no computation; what
overlaps is written again in every fusion, so a channel counts once.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_COLLECTIVE = re.compile(
    r"= (?P<shape>.*?) (?P<kind>all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
_ARRAY = re.compile(r"\b([a-z]+[0-9]+(?:e\dm\d\w*)?|pred)\[([\d,]*)\]")
_GROUP = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_IOTA_GROUP = re.compile(r"replica_groups=\[\d+,(\d+)\]")
_BITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Collective:
    """One collective of a step. `array_bytes` are those of its largest form on a chip; it runs `times` times."""

    kind: str
    shape: str
    array_bytes: int
    chips: int
    times: int

    @property
    def moved_bytes(self) -> float:
        """What a chip sends in all, by the best known algorithm on a ring."""
        share = (self.chips - 1) / self.chips if self.chips > 1 else 0.0
        factor = {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)
        return factor * self.array_bytes * self.times


def list_collectives(text: str) -> list[Collective]:
    """List the collectives of a compiled program, largest traffic first."""
    computations, entry = _divide(text)
    found: dict[tuple[str, str, str], Collective] = {}
    for line, times in _walk(computations, entry, 1, set()):
        match = _COLLECTIVE.search(line)
        if match is None:
            continue
        channel = re.search(r"channel_id=(\d+)", line)
        sizes = [_count_bytes(kind, dims) for kind, dims in _ARRAY.findall(match["shape"])]
        # What starts asynchronously names its operand beside its result.
        is_start, chips = "-start(" in line, _count_chips(line)
        size = max(sizes, default=0) if is_start else sum(sizes)
        # Of what is scattered the part is named that a chip keeps.
        size *= chips if match["kind"] == "reduce-scatter" and not is_start else 1
        shape = re.sub(r"\{[^}]*\}", "", match["shape"])
        key = (match["kind"], channel[1] if channel else line, shape)
        found[key] = Collective(match["kind"], shape, size, chips, times)
    return sorted(found.values(), key=lambda collective: -collective.moved_bytes)


def add_up_by_kind(collectives: list[Collective]) -> dict[str, float]:
    """Add up the bytes that a chip sends in a step, by kind of collective."""
    totals: defaultdict[str, float] = defaultdict(float)
    for collective in collectives:
        totals[collective.kind] += collective.moved_bytes
    return dict(totals)


def _divide(text: str) -> tuple[dict[str, list[str]], str]:
    computations: dict[str, list[str]] = {}
    entry = current = ""
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            current = match[2]
            computations[current] = []
            entry = current if match[1] else entry
        elif current:
            computations[current].append(line)
    return computations, entry


def _walk(computations: dict[str, list[str]], name: str, times: int, above: set[str]) -> Iterator[tuple[str, int]]:
    if name in above:
        return
    above = above | {name}
    for line in computations.get(name, []):
        yield line, times
        if " while(" in line:
            condition, body = (re.search(rf"{part}=%?([\w.\-]+)", line) for part in ("condition", "body"))
            if condition and body:
                yield from _walk(computations, body[1], times * _read_trips(computations[condition[1]]), above)
        else:
            for called in re.findall(r"(?:calls|to_apply)=%?([\w.\-]+)", line):
                yield from _walk(computations, called, times, above)


def _read_trips(condition: list[str]) -> int:
    return max((int(number) for line in condition for number in re.findall(r"constant\((\d+)\)", line)), default=1)


def _count_bytes(kind: str, dims: str) -> int:
    bits = int(_BITS.search(kind)[0]) if kind != "pred" else 8  # type: ignore[index]
    return math.prod(int(size) for size in dims.split(",") if size) * bits // 8


def _count_chips(line: str) -> int:
    if match := _GROUP.search(line):
        return match[1].count(",") + 1
    match = _IOTA_GROUP.search(line)
    return int(match[1]) if match else 2

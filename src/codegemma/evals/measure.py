"""From results hole by hole to figures with intervals, for one system or for the difference of two.

**In**: `HoleResult`s.
**Out**: `Measurement`s: one figure each, with its unit, interval and number of holes and files.
**Not**: which systems exist, or how figures are shown.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from codegemma.errors import InputError
from codegemma.evals.scoring import HoleResult
from codegemma.evals.statistics import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_share,
    bootstrap_share_difference,
)
from codegemma.records import InfillMode


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that a result holds: shares are of yes or no, ratios are per byte of the middle."""

    name: str
    read: Callable[[HoleResult], float | bool | None]
    unit: str
    is_per_byte: bool = False


METRICS = (
    Metric("tests_passed", lambda r: r.tests_passed, "share"),
    Metric("exact_match", lambda r: r.exact_match, "share"),
    Metric("line_match", lambda r: r.line_match, "share"),
    Metric("generated_match", lambda r: r.generated_match, "share"),
    Metric("edit_similarity", lambda r: r.edit_similarity, "similarity"),
    Metric("bits_per_byte", lambda r: r.bits, "bits/byte", is_per_byte=True),
    Metric("bits_per_byte_with_stop", lambda r: r.bits_with_stop, "bits/byte", is_per_byte=True),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure of a table. `system` is "ours - theirs" for a difference on the same holes."""

    system: str
    kind: str
    mode: InfillMode | None
    metric: str
    unit: str
    interval: Interval


def measure(results: Sequence[HoleResult], seed: int = 0) -> list[Measurement]:
    """Average every metric for each system, kind of hole and mode; what was not measured gives no row."""
    measurements = []
    for (system, kind, mode), group in _group(results).items():
        for metric in METRICS:
            rated = [(r, value) for r in group if (value := metric.read(r)) is not None]
            if rated:
                interval = _average(metric, [r for r, _ in rated], [float(value) for _, value in rated], seed)
                measurements.append(Measurement(system, kind, mode, metric.name, metric.unit, interval))
    return measurements


def compare(ours: Sequence[HoleResult], theirs: Sequence[HoleResult], seed: int = 0) -> list[Measurement]:
    """Subtract system from system, hole by hole, for each kind and mode; a system without modes meets every mode.

    Raises:
        InputError: no hole is common to both.
    """
    measurements = []
    answers = {(r.hole_id, r.mode): r for r in theirs}
    for (system, kind, mode), group in _group(ours).items():
        pairs = [(r, t) for r in group if (t := answers.get((r.hole_id, mode)) or answers.get((r.hole_id, None)))]
        for metric in METRICS:
            interval = _subtract(metric, pairs, seed)
            if interval is not None:
                name = f"{system} - {pairs[0][1].system}"
                measurements.append(Measurement(name, kind, mode, metric.name, metric.unit, interval))
    if not measurements:
        raise InputError(
            "the two systems have no measured hole in common; evaluate both on the same data with the same choices"
        )
    return measurements


def _group(results: Iterable[HoleResult]) -> dict[tuple[str, str, InfillMode | None], list[HoleResult]]:
    groups: dict[tuple[str, str, InfillMode | None], list[HoleResult]] = {}
    for result in results:
        groups.setdefault((result.system, result.kind, result.mode), []).append(result)
    return groups


def _average(metric: Metric, results: Sequence[HoleResult], values: Sequence[float], seed: int) -> Interval:
    files = [(r.repo, r.path) for r in results]
    if metric.is_per_byte:
        return bootstrap_ratio(values, [r.middle_bytes for r in results], files, seed=seed)
    return (bootstrap_share if metric.unit == "share" else bootstrap_mean)(values, files, seed=seed)


def _subtract(metric: Metric, pairs: Sequence[tuple[HoleResult, HoleResult]], seed: int) -> Interval | None:
    rated = [
        (o, float(a), float(b))
        for o, t in pairs
        if (a := metric.read(o)) is not None and (b := metric.read(t)) is not None
    ]
    if not rated:
        return None
    files = [(o.repo, o.path) for o, _, _ in rated]
    our_values, their_values = [a for _, a, _ in rated], [b for *_, b in rated]
    if metric.unit == "share":
        return bootstrap_share_difference(our_values, their_values, files, seed=seed)
    weights = [o.middle_bytes if metric.is_per_byte else 1 for o, _, _ in rated]
    return bootstrap_difference(our_values, their_values, files, seed=seed, denominators=weights)

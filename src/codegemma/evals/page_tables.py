"""The figures of a suite as tables of a page: one for each kind, or one for all where kinds differ in nothing else.

**In**: `Measurement`s of one suite.
**Out**: columns and rows for `Report.table`; what is drawn as bars.
**Not**: the page (`page.py`).
"""

from collections.abc import Callable, Sequence

from codegemma.evals.measure import Measurement
from codegemma.evals.summary import name_figure
from codegemma.records import InfillMode
from codegemma.report import Column, Estimate

# Fewer kinds are read better one below the other.
_MIN_KINDS = 3
# Of a suite, the figure that is drawn as bars.
_DRAWN = ("pass_at_1", "exact_match", "answered_right")

Table = tuple[list[str | Column], list[list[object]]]


def are_alike(measured: Sequence[Measurement]) -> bool:
    """Tell whether several kinds have one and the same figure of the same systems, as languages do."""
    systems: dict[str, list[str]] = {}
    for m in measured:
        systems.setdefault(m.kind, []).append(m.system)
    first = next(iter(systems.values()), [])
    return (
        len(systems) >= _MIN_KINDS
        and len({(m.metric, m.unit, m.mode) for m in measured}) == 1
        and all(found == first for found in systems.values())
        and len(set(first)) == len(first) > 1
    )


def tabulate_alike(measured: Sequence[Measurement], ceilings: Callable[[str], str | None]) -> Table:
    """Make a row for each kind, a column for each system, of which the first, the headline, has its interval.

    `ceilings` tells what the best program could score.
    """
    kinds = list(dict.fromkeys(m.kind for m in measured))
    systems = list(dict.fromkeys(m.system for m in measured))
    by_place = {(m.kind, m.system): m for m in measured}
    has_ceilings = any(ceilings(kind) for kind in kinds)
    # Where as many were asked of each, the page says so below.
    has_numbers = count_equally(measured) is None
    titles = [Column(_shorten(system), 1, 100) for system in systems]
    columns: list[str | Column] = [
        f"{name_figure(measured[0].metric)}, %", *["asked"] * has_numbers, *["ceiling"] * has_ceilings, *titles
    ]  # fmt: skip
    rows: list[list[object]] = []
    for kind in kinds:
        first, *others = (by_place[kind, system] for system in systems)
        cells = [Estimate.of(first.interval), *(m.interval.mean for m in others)]
        asked = [first.interval.items] * has_numbers
        rows.append([kind.replace("_", " "), *asked, *[ceilings(kind)] * has_ceilings, *cells])
    return columns, rows


def count_equally(measured: Sequence[Measurement]) -> int | None:
    """Tell how many items each figure is of, if that is one number."""
    counts = {m.interval.items for m in measured}
    return counts.pop() if len(counts) == 1 else None


def tabulate(kind: str, measured: Sequence[Measurement]) -> Table:
    """Make a row for each system and order of the parts, a column for each figure."""
    units = {m.metric: m.unit for m in measured}
    has_modes = any(m.mode for m in measured)
    columns: list[str | Column] = [kind.replace("_", " "), *(["mode"] if has_modes else [])]
    for metric, unit in units.items():
        name = name_figure(metric)
        columns.append(Column(f"{name}, %", 1, 100) if unit == "share" else Column(name, 3, 1))
    rows: list[list[object]] = []
    for system, mode in dict.fromkeys((m.system, m.mode) for m in measured):
        row = {m.metric: m for m in measured if (m.system, m.mode) == (system, mode)}
        items = max(m.interval.items for m in row.values())
        cells = [Estimate.of(row[metric].interval) if metric in row else None for metric in units]
        rows.append([system, *([name_mode(mode)] if has_modes else []), *cells, items])
    return [*columns, "items"], rows


def choose_bars(measured: Sequence[Measurement]) -> dict[str, float | Estimate]:
    """Choose the shares that are drawn: of kinds that are alike the first system's; none where there is no spread."""
    shares = [m for m in measured if m.unit == "share" and m.metric in _DRAWN]
    if are_alike(shares):
        shares = [m for m in shares if m.system == shares[0].system]
    if len(shares) < 2 or not any(m.interval.mean for m in shares):
        return {}
    has_kinds, has_systems = len({m.kind for m in shares}) > 1, len({m.system for m in shares}) > 1
    values: dict[str, float | Estimate] = {}
    for m in shares:
        kind = m.kind.replace("_", " ") if has_kinds else ""
        name = " ".join(filter(None, (kind, name_mode(m.mode), m.system if has_systems or not has_kinds else "")))
        values[name] = Estimate.of(m.interval, 100)
    return values


def name_mode(mode: InfillMode | None) -> str:
    """Spell an order of the parts."""
    return mode.upper() if mode else ""


def _shorten(system: str) -> str:
    return system.removeprefix("model, ").replace("_", " ")

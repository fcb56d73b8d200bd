"""Shows measurements on a terminal: a row for each system and mode, the interval below each figure.

**In**: measurements of one kind of hole; losses before and after a training.
**Out**: a table of `rich`; lines.
**Not**: the page of a report (`codegemma.report`), or figures: they come measured.
"""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from codegemma.evals.general import LossChange
    from codegemma.evals.measure import Measurement

# A longer title is broken over lines: four figures and a system fill 80 columns.
_TITLE_WIDTH = 13
# metric -> (column title, what the value is multiplied by, digits); others are shown by their names, in the order met.
COLUMNS = {
    "tests_passed": ("tests passed, %", 100, 1),
    "exact_match": ("exact match, %", 100, 1),
    "line_match": ("line match, %", 100, 1),
    "generated_match": ("generated match, %", 100, 1),
    "edit_similarity": ("edit similarity", 1, 3),
    **{f"pass_at_{k}": (f"pass@{k}, %", 100, 1) for k in (1, 10, 100)},
    "answered_right": ("right, %", 100, 1),
    "bits_per_byte": ("bits per byte", 1, 3),
}

# It stands in the results; beside the bits without it, a terminal of 80 columns has no room.
_LEFT_OUT = ("bits_per_byte_with_stop",)


def make_table(name: str, measured: "Sequence[Measurement]", strong: str | None = None) -> Table:
    """Make a table under the name of what was measured, with its holes and files; the system `strong` stands out."""
    columns = {m.metric: _title_column(m) for m in measured}
    metrics = [*(m for m in COLUMNS if m in columns), *(m for m in columns if m not in (*COLUMNS, *_LEFT_OUT))]
    if "exact_match" in metrics and "generated_match" in metrics:
        metrics.remove("generated_match")  # the same of fewer holes, and 80 columns hold four figures
    if "tests_passed" in metrics and "line_match" in metrics:
        metrics.remove("line_match")
    holes, files = max(m.interval.items for m in measured), max(m.interval.clusters for m in measured)
    counted = f"{holes:,} asked"
    if any(metric.startswith("pass_at_") for metric in metrics):
        counted = f"{holes:,} problems, {files:,} solutions"
    elif "answered_right" in metrics:
        counted = f"{holes:,} questions"
    elif any(metric in COLUMNS for metric in metrics):
        counted = f"{holes:,} holes, {files:,} files"
    caption = f"{name} ({counted})"
    table = Table(title=caption, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in ("system", "mode"):
        table.add_column(heading)
    for metric in metrics:
        # An interval is never broken over two lines, nor cut: the names of systems give way, and titles are broken.
        width = max(len(text) for m in measured if m.metric == metric for text in _spell(m))
        title = columns[metric][0]
        width = max(width, *map(len, title.split()))
        title = title if len(title) <= _TITLE_WIDTH else textwrap.fill(title, width)
        table.add_column(title, justify="right", no_wrap=True)
    for system, mode in dict.fromkeys((m.system, m.mode) for m in measured):
        row = {m.metric: m for m in measured if (m.system, m.mode) == (system, mode)}
        cells = [_format(row[metric]) if metric in row else "–" for metric in metrics]
        table.add_row(system, mode.upper() if mode else "", *cells, style="bold" if system == strong else "")
    return table


def _title_column(measurement: "Measurement") -> tuple[str, int, int]:
    """Title a column, and say by what its values are multiplied and how many digits they have."""
    name = measurement.metric.replace("_", " ")
    by_name = (f"{name}, %", 100, 1) if measurement.unit == "share" else (name, 1, 3)
    return COLUMNS.get(measurement.metric, by_name)


def _format(measurement: "Measurement") -> str:
    shown, spread = _spell(measurement)
    return f"{shown}\n[dim]{spread}[/dim]"


def _spell(measurement: "Measurement") -> tuple[str, str]:
    _, scale, digits = _title_column(measurement)
    interval = measurement.interval
    shown = f"{interval.mean * scale:.{digits}f}"
    if interval.low is None or interval.high is None:
        return shown, "no interval"
    return shown, f"{interval.low * scale:.{digits}f}–{interval.high * scale:.{digits}f}"


def spell_losses(losses: "Sequence[LossChange]") -> list[str]:
    """Spell what whole files take, before and after, a line for each set of files."""
    lines = []
    for change in losses:
        told = f"  {change.name:28} {change.source}: "
        if change.before is None or change.change is None:
            lines.append(f"{told}{change.after.mean:.3f} bits per byte")
            continue
        low, high = change.change.low, change.change.high
        bounds = f" ({low:+.3f} to {high:+.3f})" if low is not None and high is not None else ""
        told += f"{change.before.mean:.3f} bits per byte before, {change.after.mean:.3f} after, "
        lines.append(f"{told}{change.change.mean:+.3f}{bounds}")
    return lines

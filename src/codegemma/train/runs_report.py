"""Runs side by side as a page: where they stand, how they went, and what was chosen differently.

**In**: `Run`s.
**Out**: a self-contained page, made by `report.py`.
**Not**: figures of its own: everything is read from what the runs wrote.
"""

from collections.abc import Sequence
from typing import Any

from codegemma.report import Column, Report, Series
from codegemma.train.runs import Run, list_differences

# A plot of each: figure, title, label with its unit, whether its axis is logarithmic, what to see in it.
_CURVES = (
    ("loss", "Loss", "nats a token, weighted", False, "The mean of the steps since the line before, as optimised."),
    ("gradient_norm", "Gradient norm", "norm before clipping", True, "A peak that stays is the beginning of the end."),
    ("learning_rate", "Learning rate", "learning rate", False, "As it was, warm-up and fall."),
    ("tokens_per_s", "Speed", "tokens a second", False, "Real tokens, padding not counted, compilation left out."),
    ("mfu", "Share of the peak", "MFU, causal attention halved", False, "On devices whose peak is known."),
    ("data_wait_s", "Waiting for data", "seconds since the line before", False, "Near nothing: the loader keeps up."),
)  # fmt: skip
_FACETS = (("source", "kind of source"), ("language", "language"), ("mode", "infilling mode"))
_MAX_SERIES = 6
_SMOOTHED_LINES = 5


def make_page(runs: Sequence[Run]) -> Report:
    """Make the page of one run or several."""
    one = runs[0] if len(runs) == 1 else None
    title = f"Run {one.name}" if one else f"{len(runs)} runs"
    report = Report(title, "what they wrote themselves, read by `codegemma runs`")
    if one:
        _add_tiles(report, one)
    _add_overview(report, runs)
    _add_differences(report, runs)
    report.section("Course")
    for name, heading, label, is_log, caption in _CURVES:
        series = [line for run in runs[:_MAX_SERIES] if (line := _trace(run, name)).x]
        if series:
            report.lines(series, "step", label, f"{heading}. {caption}", is_y_log=is_log)
    if len(runs) > _MAX_SERIES:
        report.text(f"The first {_MAX_SERIES} runs are drawn; name fewer folders to see others.")
    _add_groups(report, runs)
    return report


def _add_tiles(report: Report, run: Run) -> None:
    about = run.describe()
    loss, speed, wait = about["loss"], about["tokens_per_s"], _share_of_wait(run)
    tiles = [
        ("state", run.state.value, f"step {run.step:,} of {run.manifest.total_steps:,}"),
        ("loss", "–" if loss is None else f"{loss:.3f}", "nats a token, last line"),
        ("speed", "–" if speed is None else f"{speed:,.0f}", f"tokens/s on {run.manifest.device}"),
        ("waiting for data", "–" if wait is None else f"{wait:.1%}", "of the time between first and last line"),
    ]
    report.numbers(tiles)


def _share_of_wait(run: Run) -> float | None:
    waits = [line["data_wait_s"] for line in run.lines if "data_wait_s" in line]
    seconds = run.find_last("seconds")
    return sum(waits) / seconds if waits and seconds else None


def _add_overview(report: Report, runs: Sequence[Run]) -> None:
    report.section("Where they stand")
    told = [run.describe() for run in runs]
    columns: dict[str, str | Column] = {
        "name": "run", "state": "state", "steps": "steps", "loss": Column("loss", 3),
        "tokens_per_s": Column("tokens/s", 0), "mfu": Column("MFU, %", 1, 100), "recipe": "recipe",
    }  # fmt: skip
    for about in told:
        about["steps"] = f"{about['step']:,} of {about['total_steps']:,}"
    # What no run tells is left out: MFU on a CPU, the recipe of a run by hand.
    columns = {name: column for name, column in columns.items() if any(about[name] is not None for about in told)}
    losses = [about["loss"] for about in told if about["loss"] is not None]
    strong = [n for n, about in enumerate(told) if losses and about["loss"] == min(losses)] if len(runs) > 1 else []
    caption = "Loss and speed are of the last line." + (" The lowest loss stands out." if strong else "")
    rows = [[about[name] for name in columns] for about in told]
    report.table(list(columns.values()), rows, caption, strong_rows=strong)


def _add_differences(report: Report, runs: Sequence[Run]) -> None:
    if len(runs) < 2:
        return
    report.section("What was chosen differently")
    differences = list_differences(runs)
    if not differences:
        report.text("Nothing: the runs have the same choices, data, tokenizer and base.")
        return
    rows = [[f"`{name}`", *map(_spell, values)] for name, values in differences.items()]
    report.table(["choice", *(run.name for run in runs)], rows, "All other choices are the same in every run.")


def _spell(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 24 else text[:23] + "…"


def _trace(run: Run, name: str, label: str | None = None) -> Series:
    points = [(line["step"], float(line[name])) for line in run.lines if line.get(name) is not None]
    return Series(label or run.name, [x for x, _ in points], [y for _, y in points])


def _add_groups(report: Report, runs: Sequence[Run]) -> None:
    """Draw the loss told apart: a run's groups together, for one run; else each group's last values in a table."""
    for facet, words in _FACETS:
        prefix = f"loss_by_{facet}/"
        names = sorted({name for run in runs for line in run.lines for name in line if name.startswith(prefix)})
        if not names:
            continue
        report.section(f"Loss by {words}")
        if len(runs) == 1:
            shown = sorted(names, key=lambda name: -len(_trace(runs[0], name).x))[:_MAX_SERIES]
            series = [_smooth(_trace(runs[0], name, name.removeprefix(prefix))) for name in sorted(shown)]
            caption = f"Nats of each predicted token, the mean of {_SMOOTHED_LINES} lines."
            report.lines(series, "step", "nats a token", caption)
            continue
        rows = [[name.removeprefix(prefix), *(_take_last(run, name) for run in runs)] for name in names]
        columns: list[str | Column] = [words, *(Column(run.name, 3) for run in runs)]
        report.table(columns, rows, f"Nats of each predicted token, the mean of the last {_SMOOTHED_LINES} lines.")


def _take_last(run: Run, name: str) -> float | None:
    y = _trace(run, name).y[-_SMOOTHED_LINES:]
    return sum(y) / len(y) if y else None


def _smooth(series: Series) -> Series:
    y = list(series.y)
    means = [sum(y[max(0, i - _SMOOTHED_LINES + 1) : i + 1]) / min(i + 1, _SMOOTHED_LINES) for i in range(len(y))]
    return Series(series.name, series.x, means)

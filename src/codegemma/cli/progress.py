"""Progress in the terminal: one bar a stage, on standard error, so that standard output stays for answers.

**In**: calls of `runner.Progress`.
**Out**: bars in a terminal; in a log file a line when a stage is done.
**Not**: results.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from codegemma import runner


@contextmanager
def show_progress() -> Iterator[runner.Progress]:
    """Yield a progress callback that draws on standard error while the block runs."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _LogLines(console)
        return
    columns = (
        TextColumn("{task.description:24}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def draw(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield draw


class _LogLines:
    """A line when a stage begins and when it is done: what a log file can hold."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started: dict[str, float] = {}
        self._finished: set[str] = set()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self._started.setdefault(stage, time.monotonic())
        if total is not None and done >= total and stage not in self._finished:
            self._finished.add(stage)
            seconds = time.monotonic() - self._started[stage]
            self._console.print(f"{stage}: {done:,} in {seconds:.1f} s", highlight=False, markup=False)

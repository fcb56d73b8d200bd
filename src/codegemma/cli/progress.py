"""Shows how far a long step is, on standard error, so that standard output stays the answer's.

**In**: the calls of `runner.Progress`.
**Out**: one bar for each stage, in a terminal; nothing where nobody watches.
**Not**: logs; a stage that matters writes its own figures.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from codegemma.runner import Progress


@contextmanager
def show_progress(console: Console | None = None) -> Iterator[Progress]:
    """Give a `Progress` whose stages become bars while the block runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=console or Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(bars.task_ids[list(tasks).index(stage)], completed=done, total=total)

        yield report

"""Runs pure steps: in this process or over a pool of processes; tells how far it is.

**In**: a function, its inputs, and how many workers.
**Out**: the results in the order of the inputs, whatever the number of workers.
**Not**: an engine of our own. At scale the same task functions run on Ray or Slurm.
"""

from typing import Protocol


class Progress(Protocol):
    """How far a long step is: `stage` names it, `total` is `None` while unknown. Printing is the caller's affair."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Report that `done` of `total` units of `stage` are finished."""
        ...


def ignore_progress(stage: str, done: int, total: int | None) -> None:
    """Say nothing."""

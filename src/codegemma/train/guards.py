"""Guard rails of a run: one process a folder, an orderly end on a signal, errors that say how to go on.

**In**: the run's folder; SIGINT and SIGTERM.
**Out**: context managers, and the errors of a run.
**Not**: SIGKILL: nobody can catch it; the checkpoints are made for it.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from codegemma.errors import UserError
from codegemma.folders import hold_folder

__all__ = ["DivergedError", "InterruptedRun", "hold_folder", "watch_signals"]


class DivergedError(UserError):
    """The loss is not a number any more; the last checkpoint is from before."""


class InterruptedRun(UserError):  # noqa: N818 (an order, not an error)
    """The run was asked to stop, and saved."""

    exit_code = 130


@contextlib.contextmanager
def watch_signals() -> Iterator[Callable[[], bool]]:
    """Note SIGINT and SIGTERM instead of dying; a second one acts as it always does."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        asked.set()
        signal.signal(number, previous[signal.Signals(number)])

    try:
        for number in previous:
            signal.signal(number, note)
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

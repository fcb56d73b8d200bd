"""Guard rails of a run: one process a folder, an orderly end on a signal, errors that say how to go on.

**In**: the run's folder; SIGINT, SIGTERM, and what JAX hears of a preemption.
**Out**: context managers, and the errors of a run.
**Not**: SIGKILL: nobody can catch it; the checkpoints are made for it.

SIGINT comes from a person, who wants to know that the run is not done: 130. SIGTERM comes from a machine (a scheduler,
a preempted node, a supervisor): the run does as it is told, and `codegemma train` ends with 0.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import jax

from codegemma.errors import UserError
from codegemma.folders import hold_folder

__all__ = ["DivergedError", "InterruptedRun", "Notices", "hold_folder", "watch_signals"]


class DivergedError(UserError):
    """Loss or gradient went out of bounds; the last checkpoint is from before. Tried again, it would be the same."""

    exit_code = 5


class InterruptedRun(UserError):  # noqa: N818 (an order, not an error)
    """The run was asked to stop, and saved. `is_order` tells SIGTERM from SIGINT."""

    exit_code = 130

    def __init__(self, step: int, total_steps: int, *, is_order: bool = False) -> None:
        self.is_order = is_order
        if is_order:
            self.exit_code = 128 + signal.SIGTERM
        super().__init__(f"interrupted and saved at step {step} of {total_steps}; the same command goes on from there")


class Notices:
    """The signals that came to this process."""

    def __init__(self) -> None:
        self._came: set[int] = set()

    def note(self, number: int) -> None:
        """Take up a signal."""
        self._came.add(number)

    def read(self, step: int) -> tuple[bool, bool]:
        """Tell whether a person, or a machine, asks this process to stop before its next step."""
        return signal.SIGINT in self._came, signal.SIGTERM in self._came or _is_preempted(step)


def _is_preempted(step: int) -> bool:
    """Ask JAX's own service, which also hears of a preemption before the signals are watched; all processes ask."""
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return False
    try:
        return multihost_utils.reached_preemption_sync_point(step)
    except RuntimeError:
        return False  # jax_enable_preemption_service is off


@contextlib.contextmanager
def watch_signals() -> Iterator[Notices]:
    """Note SIGINT and SIGTERM instead of dying; a second one acts as it always does."""
    notices = Notices()
    if threading.current_thread() is not threading.main_thread():
        yield notices
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        notices.note(number)
        # JAX's service puts a handler of its own, which Python does not know.
        signal.signal(number, previous[signal.Signals(number)] or signal.SIG_DFL)

    try:
        for number in previous:
            signal.signal(number, note)
        yield notices
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)

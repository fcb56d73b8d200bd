"""A process that was started here, in a box or bare: waited for, ended with all that is in it, and seen to have begun.

**In**: what starts it; the control group that it is in.
**Out**: `Started`; `BoxError` where no box came about.
**Not**: what it reads and writes, and its limits (`box.py`).

All are started in a thread that lives as long as this process. bubblewrap's --die-with-parent is a signal of the kernel
at the death of a parent, which is the thread that started (prctl(2), PR_SET_PDEATHSIG): a box that a worker of a pool
opened would end with that worker, while others use it.
"""

import contextlib
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from codegemma.sandbox.groups import Group

# How long bubblewrap may take to notice that its box has ended.
_COLLECTING_S = 2.0
# What bubblewrap tells over --json-status-fd: that there is a child, and how a program ended that had begun.
_HAS_CHILD, _HAS_BEGUN = b'"child-pid"', b'"exit-code"'
_STATUS_BYTES = 4096
# The program cannot be executed: its fault, not the box's.
_NO_PROGRAM = b"bwrap: execvp "
# Killed, as bubblewrap tells it of a box and the kernel of bubblewrap.
_KILLED = (128 + signal.SIGKILL, -signal.SIGKILL)
_REASON_CHARS = 300

Popen = subprocess.Popen[bytes]


class BoxError(OSError):
    """No box came about: nothing is known of the program that was to run in it."""


class Process(Protocol):
    """Whatever can be waited for and ended."""

    @property
    def returncode(self) -> int | None:
        """What it ended with, where that is known."""
        ...

    def wait(self, timeout: float) -> object:
        """Wait for its end; raises `subprocess.TimeoutExpired`."""
        ...

    def end(self) -> None:
        """End it, if it has not ended, with all that it started."""
        ...

    def check_begun(self, errors: bytes) -> None:
        """After its end, raise `BoxError` where the program was never begun; `errors` is what was written of errors."""
        ...


class Started:
    """A process that this one has started; `status` is where its bubblewrap tells of it, where it has one."""

    def __init__(self, process: Popen, group: Group | None, status: int | None) -> None:
        self._process, self._group, self._status, self._told = process, group, status, b""

    @property
    def returncode(self) -> int | None:
        """What it ended with; `None` before."""
        return self._process.returncode

    def wait(self, timeout: float) -> None:
        """Wait for its end."""
        self._process.wait(timeout)

    def end(self) -> None:
        """End it, its box and its group."""
        if self._status is not None:
            self._end_inside()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._group is not None:
            self._group.kill()

    def check_begun(self, errors: bytes) -> None:
        """Believe bubblewrap, which tells of the end of a program only where that had begun."""
        code = self._process.returncode
        if self._status is None or code == 0 or code in _KILLED or errors.startswith(_NO_PROGRAM):
            return
        if _HAS_BEGUN not in self._read_status():
            said = errors.decode("utf-8", "replace").strip()[:_REASON_CHARS]
            raise BoxError(f"no box came about for a program: {said or f'bubblewrap ended with {code}'}")

    def _end_inside(self) -> None:
        """End the box's first process, and with it all in the box, and let bubblewrap collect it.

        Were bubblewrap ended first, the box would be left to this machine's init, which may collect it late or never,
        as in containers whose first process is no init; until then it counts against the group's number of processes.
        """
        if self._process.poll() is not None:
            return
        number = self._process.pid
        with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
            children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
            for child in children:
                os.kill(int(child), signal.SIGKILL)
            # One that is gone has ended by itself: how, bubblewrap is about to tell.
            if children or _HAS_CHILD in self._read_status():
                self._process.wait(_COLLECTING_S)

    def _read_status(self) -> bytes:
        if self._status is not None:
            with contextlib.suppress(BlockingIOError):
                self._told += os.read(self._status, _STATUS_BYTES)
        return self._told


def start_lasting(start: Callable[[], Popen]) -> Popen:
    """Start a process whose parent lives as long as this process, whatever thread asks for it."""
    if threading.current_thread() is threading.main_thread():
        return start()
    future: Future[Popen] = Future()
    _find_starter().put((start, future))
    return future.result()


_Starter = queue.SimpleQueue[tuple[Callable[[], Popen], Future[Popen]]]
_lock = threading.Lock()
_starters: dict[int, _Starter] = {}


def _find_starter() -> _Starter:
    """Find the queue of this process's thread; a fork of this process has none yet."""
    with _lock:
        if os.getpid() not in _starters:
            starter = _starters[os.getpid()] = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(starter,), name="starts boxes", daemon=True).start()
        return _starters[os.getpid()]


def _serve(starter: _Starter) -> None:
    while True:
        _start_one(*starter.get())


def _start_one(start: Callable[[], Popen], future: Future[Popen]) -> None:
    try:
        future.set_result(start())
    except Exception as error:
        future.set_exception(error)

"""Where the server runs programs: one sandbox, opened when first used, with a line in front of it.

**In**: programs of conversations, attempts at exercises.
**Out**: how they ran; or why none is run on this machine.
**Not**: the walls themselves (`sandbox/`).
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from codegemma.errors import InputError
from codegemma.sandbox.box import Limits, Ran, Sandbox
from codegemma.sandbox.judge import Examinee, Outcome, PythonJudge, Verdict
from codegemma.sandbox.snippets import run_snippet

T = TypeVar("T")
_MAX_WAITING = 16
_ATTEMPT_LIMITS = Limits(wall_s=10.0, processes=32, output_bytes=64 * 2**10)


class BusyError(Exception):
    """Too many programs wait already."""


class Bench:
    """Runs programs for callers of the server; none where the server was started with `--no-run`."""

    def __init__(self, is_on: bool = True) -> None:
        self.is_on, self._lock = is_on, threading.Lock()
        self._sandbox: Sandbox | None = None
        self._judge: PythonJudge | None = None
        self._threads = ThreadPoolExecutor(_MAX_WAITING, thread_name_prefix="bench")
        self._places = threading.BoundedSemaphore(_MAX_WAITING)

    async def run(self, code: str, language: str, stdin: str = "") -> Ran:
        """Run a text.

        Raises:
            InputError: not run here, or a language that is not known.
            BusyError: the line is full.
        """
        return await self._take(lambda: run_snippet(self._open(), code, language, stdin))

    async def examine(self, examinee: Examinee) -> Verdict:
        """Examine a program by its tests.

        Raises:
            InputError: not run here, or not now.
            BusyError: the line is full.
        """
        verdict = await self._take(lambda: self._open_judge().examine(examinee))
        if verdict.outcome is Outcome.NOT_RUN:
            raise InputError(verdict.reason)
        return verdict

    def close(self) -> None:
        """Let go of sandbox and judge."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for opened in (self._judge, self._sandbox):
                if opened is not None:
                    opened.close()
            self._sandbox = self._judge = None

    async def _take(self, work: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            raise BusyError(f"{_MAX_WAITING} programs are waiting to be run; try again in a moment")
        running = self._threads.submit(work)
        # Not when the asker leaves: the program runs on, and who asks and leaves again would have any number of them.
        running.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(running)

    def _open(self) -> Sandbox:
        if not self.is_on:
            raise InputError("this server runs no programs: it was started with --no-run")
        with self._lock:
            if self._sandbox is None:
                self._sandbox = Sandbox()
            return self._sandbox

    def _open_judge(self) -> PythonJudge:
        sandbox = self._open()
        with self._lock:
            if self._judge is None:
                self._judge = PythonJudge(sandbox, _ATTEMPT_LIMITS)
            return self._judge

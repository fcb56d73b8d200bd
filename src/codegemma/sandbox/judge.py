"""Tells whether a Python program passes its tests, out of the program's reach.

**In**: the program's text, tests, and a trusted text that the tests rely on.
**Out**: `Verdict`.
**Not**: compiled languages, and no view of the program's text: what it calls is what it gives.

The program runs in a box of its own and sees no test: a second box calls its functions, takes what they give as plain
data and compares there (`inside/`). So printing success, leaving early, patching a module, walking frames and objects
that equal everything gain nothing.
"""

import compileall
import contextlib
import platform
import queue
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from codegemma.sandbox.box import Ended, Limits, Program, Ran, Running, Safety, Sandbox, name_python
from codegemma.sandbox.inside.wire import WireError, receive, send
from codegemma.sandbox.zygote import Zygote, open_zygote

INSIDE = Path(__file__).parent / "inside"
_SHOWN_AS = "/inside"
_START = (
    "import sys; sys.path.insert(0, {inside!r}); import candidate; del sys.path[0]; candidate.main(int(sys.argv[1]))"
)
# The examiner's own box lives as long as the judge and holds tests only.
_EXAMINER_LIMITS = Limits(wall_s=10**9, cpu_s=10**9, memory_bytes=2**30, processes=256)
# A program may compute for ten seconds; that it does not get a processor for a while is not its fault, so that verdicts
# do not hang on what else the machine does.
LIMITS = Limits(wall_s=30.0, cpu_s=10, processes=32)
# What is left of a verdict once its first byte is there; the rest comes at once or never.
_PATIENCE_S = 2.0


class Outcome(StrEnum):
    """How an examination ended."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    GONE = "gone"
    TIME = "time"
    MEMORY = "memory"
    OUTPUT = "output"
    NOT_RUN = "not run"


_NO_VERDICT = "no verdict"
# A machine that has no room for a box may have it a moment later.
_TRIES, _PAUSE_S = 2, 0.5


@dataclass(frozen=True, slots=True)
class Examinee:
    """A program and what is asked of it.

    `trusted` runs first, beside the tests: the problem's own helpers. `names` are those that the tests take from the
    program, `None` for all that it defines.
    """

    program: str
    tests: str
    trusted: str = ""
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it ended, and why in one line; what the program printed, as far as it was read."""

    outcome: Outcome
    reason: str
    seconds: float
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def has_passed(self) -> bool:
        """Tell whether all tests held."""
        return self.outcome is Outcome.PASSED

    @property
    def is_mishap(self) -> bool:
        """Tell whether nothing was found out: another run may tell another thing of the same program."""
        return self.outcome is Outcome.NOT_RUN or self.reason == _NO_VERDICT


def tell_not_run(error: OSError) -> Verdict:
    """Say of a program that it could not be run, which is nothing that it did."""
    return Verdict(Outcome.NOT_RUN, f"it could not be run on this machine: {error}", 0.0)


class PythonJudge:
    """Examines programs, many at once, each in a box of its own."""

    def __init__(self, sandbox: Sandbox, limits: Limits = LIMITS) -> None:
        """Start the box of the tests.

        Raises:
            OSError: it does not start.
        """
        self._sandbox, self._limits = sandbox, limits
        self.boxes = sandbox.boxes
        self._python, self._shown = name_python()
        self._inside = str(INSIDE)
        if sandbox.safety is Safety.BOXED:
            self._inside = _SHOWN_AS
            self._shown = self._shown | {INSIDE: _SHOWN_AS}
        # As a module it is found compiled; a script would be compiled at every start.
        self._start = _START.format(inside=self._inside)
        compileall.compile_dir(INSIDE, quiet=2)
        # One box for the tests, and one for each program that is under way.
        self._own_sandbox = Sandbox(1 + sandbox.boxes, sandbox.safety)
        self._lock = threading.Lock()
        self._open_examiner()
        self._zygotes: queue.SimpleQueue[Zygote] = queue.SimpleQueue()
        self._opened = contextlib.ExitStack()
        self.is_copying = sandbox.safety is Safety.BOXED and self._open_zygotes()

    def describe(self) -> dict[str, str]:
        """Tell what a verdict hangs on besides the program: the walls, the interpreter, the limits."""
        limits = f"{self._limits.cpu_s} s, {self._limits.memory_bytes >> 20} MiB"
        start = "a copy behind walls of its own" if self.is_copying else "a box for each program"
        return {**self._sandbox.describe(), "python": platform.python_version(), "limits": limits, "start": start}

    def examine(self, examinee: Examinee) -> Verdict:
        """Run one program and its tests; waits for a free box. Where no box comes about it is not run."""
        verdict = self._examine(examinee)
        for _ in range(1, _TRIES):
            if not verdict.is_mishap:
                break
            time.sleep(_PAUSE_S)
            verdict = self._examine(examinee)
        return verdict

    def _examine(self, examinee: Examinee) -> Verdict:
        try:
            return self._examine_once(examinee)
        except OSError as error:
            return tell_not_run(error)

    def _examine_once(self, examinee: Examinee) -> Verdict:
        ours, theirs = socket.socketpair()
        hears, tells = socket.socketpair()
        with ours, theirs, hears, tells, self._start_program(theirs.fileno()) as running:
            theirs.close()
            self._order(examinee, ours, tells)
            ours.close()
            tells.close()
            ran = running.wait(until=hears.fileno())
            hears.settimeout(_PATIENCE_S)
            try:
                told = dict(receive(hears))
            except (EOFError, OSError, WireError):
                told = {}
            return _conclude(told, ran, self._limits)

    def examine_all(self, examinees: Sequence[Examinee]) -> Iterator[Verdict]:
        """Examine many, in order, as many at once as there are boxes; equal ones run once."""
        with ThreadPoolExecutor(self._sandbox.boxes) as pool:
            found = {examinee: pool.submit(self.examine, examinee) for examinee in dict.fromkeys(examinees)}
            try:
                for examinee in examinees:
                    yield found[examinee].result()
            finally:
                pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """End the box of the tests."""
        self._opened.close()
        self._close_examiner()
        self._own_sandbox.close()

    def __enter__(self) -> "PythonJudge":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _start_program(self, channel: int) -> Iterator[Running]:
        if not self.is_copying:
            program = self._describe(channel, "-c", self._start)
            with self._sandbox.start(program, self._limits) as running:
                yield running
            return
        zygote = self._zygotes.get()
        try:
            with zygote.start(channel) as running:
                yield running
        finally:
            self._zygotes.put(zygote)

    def _open_zygotes(self) -> bool:
        for _ in range(self.boxes):
            zygote, _ = open_zygote(self._own_sandbox, self._python, self._shown, self._limits)
            if zygote is None:
                return False
            self._opened.callback(zygote.close)
            self._zygotes.put(zygote)
        return True

    def _describe(self, descriptor: int, *script: str) -> Program:
        command = [*self._python, *script, str(descriptor)]
        return Program(command, read_only=self._shown, descriptors=(descriptor,))

    def _open_examiner(self) -> None:
        self._orders, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as opened:
            opened.callback(self._orders.close)
            program = self._describe(theirs.fileno(), f"{self._inside}/examiner.py")
            opened.enter_context(self._own_sandbox.start(program, _EXAMINER_LIMITS))
            self._examiner = opened.pop_all()

    def _close_examiner(self) -> None:
        self._examiner.close()

    def _order(self, examinee: Examinee, to_candidate: socket.socket, verdicts: socket.socket) -> None:
        names = None if examinee.names is None else list(examinee.names)
        job = {"trusted": examinee.trusted, "tests": examinee.tests, "program": examinee.program, "names": names}
        with self._lock:
            for is_last in (False, True):
                try:
                    socket.send_fds(self._orders, [b"."], [to_candidate.fileno(), verdicts.fileno()])
                    send(self._orders, {**job, "seconds": int(self._limits.wall_s) + 1})
                    return
                except OSError:  # the tests' box has gone down with other tests
                    if is_last:
                        raise
                    self._close_examiner()
                    self._open_examiner()


def _conclude(told: dict[str, str], ran: Ran, limits: Limits) -> Verdict:
    """Join what the tests say and how the program ended: a limit explains why the tests found it gone."""
    limit = ran.ended.value if ran.ended in (Ended.TIME, Ended.OUTPUT, Ended.MEMORY) else None
    if limit is None and ran.seconds >= limits.cpu_s:  # the kernel ends who has computed for so long, and does not tell
        limit = Ended.TIME.value
    if limit is not None and told.get("outcome", Outcome.GONE) == Outcome.GONE:
        return Verdict(Outcome(limit), f"met its limit of {limit}", ran.seconds, ran.stdout, ran.stderr)
    outcome = Outcome(told.get("outcome", Outcome.GONE))
    return Verdict(outcome, told.get("reason", _NO_VERDICT), ran.seconds, ran.stdout, ran.stderr)

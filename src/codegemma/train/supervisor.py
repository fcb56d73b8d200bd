"""Keeps the processes of a run on this machine alive: when one dies or hangs, all end and begin again.

**In**: how to start process `I` of `N`, and the run's folder.
**Out**: the exit code of the run; what was done, told as it happens.
**Not**: several machines: there a scheduler starts and restarts (`launch/`). No JAX is loaded here.

A process that is left alone waits for its peer's part of a sum; JAX ends it after a while, a supervisor at once. Each
process holds one end of a socket: it says there that it took a step, and learns there that its supervisor is gone.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from codegemma.errors import InputError, OutputError, UserError

# Names, for a process, the descriptor of its end of the socket.
SOCKET_VARIABLE = "CODEGEMMA_SUPERVISOR"
# Exit codes after which trying again gives the same: wrong usage, unusable input, unwritable output, a run that
# diverged or was interrupted by hand.
_FINAL_CODES = frozenset({2, InputError.exit_code, OutputError.exit_code, 5, 130})
# How long processes may take to end by themselves when one of them has failed, and when all are asked to save and stop.
_GRACE_S = 2.0
_PAUSE_S = 1.0

Tell = Callable[[str], None]
StartCommand = Callable[[int, str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Limits:
    """When to lose patience: seconds without a step, seconds to save when asked to stop, restarts without progress.

    After a code of `final_codes`, nothing is tried again.
    A step may take long to compile, and a checkpoint to write: `hang_s` is for what is neither.
    """

    hang_s: float = 900.0
    stop_s: float = 600.0
    max_fruitless: int = 3
    final_codes: frozenset[int] = _FINAL_CODES


@dataclass(slots=True)
class _Child:
    number: int
    process: "subprocess.Popen[bytes]"
    line: socket.socket
    heard_at: float = field(default_factory=time.monotonic)

    def listen(self) -> None:
        """Take up what the process said."""
        with contextlib.suppress(OSError):
            if self.line.recv(4096):
                self.heard_at = time.monotonic()

    def end(self) -> None:
        """Kill the process, with what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.line.close()


def supervise(start: StartCommand, processes: int, out: Path, limits: Limits, tell: Tell) -> int:
    """Run `processes` processes until they are done, restarting all when one fails.

    `start(number, address)` gives the command of a process; `address` is where they meet.

    Raises:
        UserError: restarts did not help: none of the last few got further than the one before.
    """
    fruitless, reached = 0, _find_newest_step(out)
    with _forward_signals() as signals:
        while True:
            if signals.came:
                return 128 + signals.came
            children = _start_all(start, processes)
            try:
                failure, code = _watch(children, limits, signals)
            finally:
                for child in children:
                    child.end()
            if failure is None or code in limits.final_codes or signals.came:
                return code
            newest = _find_newest_step(out)
            fruitless = 0 if newest > reached else fruitless + 1
            reached = max(newest, reached)
            if fruitless >= limits.max_fruitless:
                raise UserError(
                    f"{failure}; {fruitless} restarts in a row ended without a checkpoint beyond step {reached}: the "
                    f"fault is not chance. What the processes said stands above; the run in {out} is as it was"
                )
            tell(f"{failure}; all processes begin again from step {reached}")
            time.sleep(_PAUSE_S)


class _Signals:
    """What was asked of the supervisor, to be passed on to the processes: also what came before they were there."""

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self.came: int = 0
        self.came_at = 0.0

    def take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.came, self.came_at = number, time.monotonic()
        self._waiting.append(number)

    def pass_on(self, children: Sequence[_Child]) -> None:
        while self._waiting:
            number = self._waiting.pop(0)
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    child.process.send_signal(number)


@contextlib.contextmanager
def _forward_signals() -> Iterator[_Signals]:
    signals = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    previous = {number: signal.signal(number, signals.take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _start_all(start: StartCommand, processes: int) -> list[_Child]:
    address = f"127.0.0.1:{_find_port()}"
    children = []
    for number in range(processes):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = subprocess.Popen(
                start(number, address),
                env=os.environ | {SOCKET_VARIABLE: str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
                # One process tells how far the run is; of the others only errors are heard.
                stdout=None if number == 0 else subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        children.append(_Child(number, process, ours))
    return children


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _watch(children: Sequence[_Child], limits: Limits, signals: _Signals) -> tuple[str | None, int]:
    """Wait until all are done, or one has failed: say how, and with which code."""
    while True:
        signals.pass_on(children)
        select.select([child.line for child in children if child.process.poll() is None], [], [], 0.2)
        for child in children:
            child.listen()
        codes = [child.process.poll() for child in children]
        if all(code is not None for code in codes) or any(codes):
            return _judge(children, _wait_for_others(children), limits.final_codes)
        now = time.monotonic()
        if signals.came and now - signals.came_at > limits.stop_s:
            return f"asked to stop, the processes did not within {limits.stop_s:.0f} s", 1
        silent = [child for child in children if child.process.poll() is None and now - child.heard_at > limits.hang_s]
        if silent:
            return f"process {silent[0].number} took no step for {limits.hang_s:.0f} s", 1


def _wait_for_others(children: Sequence[_Child]) -> list[int | None]:
    deadline = time.monotonic() + _GRACE_S
    while time.monotonic() < deadline and any(child.process.poll() is None for child in children):
        time.sleep(0.05)
    return [child.process.poll() for child in children]


def _judge(
    children: Sequence[_Child], codes: Sequence[int | None], final_codes: frozenset[int]
) -> tuple[str | None, int]:
    """Tell what the exit codes say. One that cannot be helped counts before those of processes that it took along."""
    for child, code in zip(children, codes, strict=True):
        if code in final_codes:
            return f"process {child.number} ended with code {code}", code or 0
    failed = [(child.number, code) for child, code in zip(children, codes, strict=True) if code]
    if not failed:
        return None, 0
    number, code = min(failed, key=lambda one: one[1])  # one that was killed, before one that gave up
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"process {number} {how}", code if code > 0 else 128 - code


def _find_newest_step(out: Path) -> int:
    folder = out / "checkpoints"
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdigit()), default=0)


# --- in the processes -------------------------------------------------------------------------------------------------


class Pulse:
    """A process's end of the line to its supervisor; without one, it does nothing."""

    def __init__(self) -> None:
        descriptor = os.environ.get(SOCKET_VARIABLE, "")
        self._line = socket.socket(fileno=int(descriptor)) if descriptor.isdigit() else None
        if self._line is not None:
            threading.Thread(target=self._end_with_supervisor, args=(self._line,), daemon=True).start()

    def beat(self) -> None:
        """Say that a step was taken."""
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.send(b".")

    @staticmethod
    def _end_with_supervisor(line: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while line.recv(1):
                pass
        os.kill(os.getpid(), signal.SIGKILL)

"""A box whose interpreter is ready: it is copied for every program, and each copy has walls of its own around it.

**In**: the number of the open file over which a program is told what to do.
**Out**: `Running`, as of a box that was started for the program.
**Not**: other languages than this Python, and no machine that allows namespaces to bubblewrap alone:
`open_zygote` gives `None` there, and each program has a box started for it.

A box costs bubblewrap, an interpreter and its imports; a copy costs its walls (`inside/walls.py`). Between programs
they are the same: namespaces for users, processes, network, IPC, hostname and mounts, an empty /tmp and /job, the
filter of system calls, no rights. Towards the machine the box around them stands as well.
"""

import contextlib
import dataclasses
import os
import selectors
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from codegemma.sandbox.box import Limits, Program, Running, Sandbox, hold
from codegemma.sandbox.inside.wire import WireError, receive, send
from codegemma.sandbox.process import BoxError

# bubblewrap, its first process and the zygote.
_PROCESSES = 3
_MEMORY_BYTES = 16 * 2**20
_NO_LIMIT = 10**9
# A trial takes milliseconds; a machine may be busy with something else.
_TRIAL_S = 60.0
_REASON_BYTES = 400


class Zygote:
    """Starts one program at a time, each behind walls of its own; for one thread at a time."""

    def __init__(self, sandbox: Sandbox, python: Sequence[str], shown: Mapping[Path, str], limits: Limits) -> None:
        """Start the box. `shown` holds the folder of `inside/` as /inside, `limits` are those of a program.

        Raises:
            OSError: it does not start.
        """
        self._sandbox, self._python, self._shown, self._limits = sandbox, python, shown, limits
        self._opened = contextlib.ExitStack()
        self._open()

    @contextlib.contextmanager
    def start(self, channel: int) -> Iterator[Running]:
        """Start a copy that listens at `channel`; at the end of the block it is gone, with all its children.

        Raises:
            OSError: the walls could not be built, twice.
        """
        with contextlib.ExitStack() as ours:
            streams = [_open_pipe() for _ in range(2)]
            for reads, _ in streams:
                ours.callback(reads.close)
            try:
                named = self._copy([channel, *(writes for _, writes in streams)])
            finally:
                for _, writes in streams:
                    os.close(writes)
            process = _Copy(named)
            ours.callback(process.end)
            yield Running(process, (None, streams[0][0], streams[1][0]), b"", self._limits, self._box.group)

    def close(self) -> None:
        """End the box."""
        self._opened.close()

    def _open(self) -> None:
        self._orders, theirs = socket.socketpair()
        # One that does not answer is as good as gone: another is started.
        self._orders.settimeout(_TRIAL_S)
        with theirs, contextlib.ExitStack() as opened:
            opened.callback(self._orders.close)
            number = hold(self._sandbox.filter, opened)
            limits = self._limits
            arguments = (theirs.fileno(), number, limits.cpu_s, limits.disk_bytes)
            command = [*self._python, "/inside/zygote.py", *map(str, arguments)]
            program = Program(command, read_only=self._shown, descriptors=(theirs.fileno(), number), makes_walls=True)
            wider = dataclasses.replace(
                limits,
                wall_s=_NO_LIMIT,
                cpu_s=_NO_LIMIT,
                memory_bytes=limits.memory_bytes + _MEMORY_BYTES,
                processes=limits.processes + _PROCESSES,
            )
            self._box = opened.enter_context(self._sandbox.start(program, wider))
            self._opened = opened.pop_all()

    def _copy(self, descriptors: Sequence[int]) -> int:
        """Have a copy made; once more in a new box if this one has gone down with another program."""
        try:
            return self._ask(descriptors)
        except OSError:
            self._opened.close()
            self._open()
            return self._ask(descriptors)

    def _ask(self, descriptors: Sequence[int]) -> int:
        socket.send_fds(self._orders, [b"."], descriptors)
        reason, named, _, _ = socket.recv_fds(self._orders, _REASON_BYTES, 1)
        if reason == b"." and named:
            return named[0]
        for number in named:
            os.close(number)
        raise BoxError(f"no walls for a program: {reason.decode('utf-8', 'replace') or 'the box of the zygote ended'}")


class _Copy:
    """The first process behind walls, by a descriptor: when it ends, all behind them have ended."""

    returncode = None

    def __init__(self, named: int) -> None:
        self._named: int | None = named

    def wait(self, timeout: float | None) -> None:
        if self._named is None:
            return
        with selectors.PollSelector() as selector:
            selector.register(self._named, selectors.EVENT_READ)
            if not selector.select(timeout):
                raise subprocess.TimeoutExpired("a program behind walls", timeout or 0.0)

    def check_begun(self, errors: bytes) -> None:
        """Its walls stood before it was here at all."""

    def end(self) -> None:
        if self._named is None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._named, signal.SIGKILL)
        self.wait(None)
        os.close(self._named)
        self._named = None


def open_zygote(
    sandbox: Sandbox, python: Sequence[str], shown: Mapping[Path, str], limits: Limits
) -> tuple[Zygote | None, str]:
    """Start a box and try a copy in it; `None`, and why, where this machine does not allow what that takes."""
    zygote: Zygote | None = None
    try:
        zygote = Zygote(sandbox, python, shown, limits)
        _try_out(zygote)
    except (OSError, EOFError, WireError) as error:
        if zygote is not None:
            zygote.close()
        return None, str(error)
    return zygote, ""


def _try_out(zygote: Zygote) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(_TRIAL_S)
        with zygote.start(theirs.fileno()):
            theirs.close()
            send(ours, "is_here = True")
            if receive(ours) != {"names": {"is_here": True}, "modules": []}:
                raise WireError("a copy of the zygote does not answer")


def _open_pipe() -> tuple[IO[bytes], int]:
    reads, writes = os.pipe()
    return os.fdopen(reads, "rb", buffering=0), writes

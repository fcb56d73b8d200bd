"""Runs a program that nobody trusts, under limits, and reads no more of it than it was allowed to write.

**In**: `Program`: a command line, files, limits.
**Out**: `Ran`: how it ended, what it wrote, how long it took.
**Not**: proof against errors of the kernel or of bubblewrap, and no protection from reading what is under /usr. A box
has its own users, processes, network (none), hostname and IPC, a read-only system, an empty /tmp and /job of limited
size.

bubblewrap does it (docs/decisions). Where it is missing or refused, nothing runs unless `Safety.UNSAFE` was chosen:
then there are resource limits and nothing else.
"""

import contextlib
import os
import queue
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from shutil import which
from typing import IO, cast

from codegemma.errors import InputError
from codegemma.sandbox.groups import Group, make_group
from codegemma.sandbox.process import BoxError, Process, Started, start_lasting
from codegemma.sandbox.seccomp import make_filter


class Safety(StrEnum):
    """What stands between a program and this machine."""

    BOXED = "boxed"
    UNSAFE = "unsafe"


class Ended(StrEnum):
    """What ended a program."""

    EXITED = "exited"
    TIME = "time"
    OUTPUT = "output"
    MEMORY = "memory"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may take. `memory_bytes` and `processes` hold for the whole box where the machine has control
    groups that we may make, and for each process elsewhere; `address_bytes` is one process's address space, which for
    a Java machine is many times its memory."""

    wall_s: float = 10.0
    cpu_s: int = 10
    memory_bytes: int = 512 * 2**20
    address_bytes: int = 4 * 2**30
    processes: int = 64
    output_bytes: int = 2**20
    file_bytes: int = 64 * 2**20
    disk_bytes: int = 64 * 2**20
    open_files: int = 256


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `files` lie in /job, where it starts; `read_only` are paths of this machine that it may also see,
    with where they appear; `job` is a folder of this machine that takes the place of /job, so that what is written
    there stays. `descriptors` are open files that it inherits under the same numbers. `makes_walls` is for a program of
    ours that puts others behind walls of their own: no call is denied to it, what all of them see is read-only, and its
    /proc is this machine's (the kernel allows a new one only to who sees the whole of one)."""

    command: Sequence[str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    stdin: bytes = b""
    read_only: Mapping[Path, str] = field(default_factory=dict)
    job: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()
    makes_walls: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended. `exit_code` is negative for a signal, `None` where we ended it."""

    ended: Ended
    exit_code: int | None
    stdout: bytes
    stderr: bytes
    seconds: float


# Written by the shell that becomes bubblewrap: it enters the groups, lowers its limits, and is replaced.
_ENTER = """
for group in $GROUPS_TO_ENTER; do echo 0 > "$group/cgroup.procs" || exit 125; done
unset GROUPS_TO_ENTER
ulimit -c 0 && ulimit -t %d && ulimit -f %d && ulimit -n %d && ulimit -v %d || exit 125
exec "$@"
"""
_SYSTEM = (
    "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
    "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/sbin", "/sbin",
    "--ro-bind-try", "/etc/alternatives", "/etc/alternatives", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache",
    "--dev", "/dev",
)  # fmt: skip
# All namespaces but the time's, which needs no hiding. What makes another is denied by the filter: bubblewrap's own
# --disable-userns costs a third of its start.
_WALLS = (
    "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
    "--uid", "65534", "--gid", "65534", "--hostname", "box", "--cap-drop", "ALL", "--die-with-parent", "--new-session",
    "--clearenv", "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin", "--setenv", "HOME", "/job",
    "--setenv", "LANG", "C.UTF-8",
)  # fmt: skip
_READ_BYTES = 65536


class Sandbox:
    """A number of boxes that programs run in, from any number of threads."""

    def __init__(self, boxes: int | None = None, safety: Safety = Safety.BOXED) -> None:
        """Prepare the boxes; `boxes` is how many programs may run at once, by default one for each processor.

        Raises:
            InputError: bubblewrap is not installed or this machine does not let it work; the message says what to do.
        """
        self.safety = safety
        self.boxes = count = boxes or len(os.sched_getaffinity(0))
        self._groups: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
        made = [make_group() for _ in range(count)]
        self.has_groups = all(made)
        for group in made:
            self._groups.put(group)
        self._all_groups = made
        self.filter = b""
        if safety is Safety.BOXED:
            self._bwrap = _find_bubblewrap()
            self.filter = make_filter()
            _try_out(self)

    def describe(self) -> dict[str, str]:
        """Tell what stands between a program and this machine, for results to carry."""
        if self.safety is Safety.UNSAFE:
            return {"safety": "unsafe", "memory": "each process"}
        version = subprocess.run([self._bwrap, "--version"], capture_output=True, text=True, check=True).stdout
        return {"safety": version.strip(), "filter": "seccomp", "memory": "box" if self.has_groups else "each process"}

    def run(self, program: Program, limits: Limits = Limits()) -> Ran:
        """Run to the end, or to the first limit; waits while all boxes are in use.

        Raises:
            OSError: the program could not be started; `BoxError`: its box could not be built.
        """
        with self.start(program, limits) as running:
            return running.wait()

    @contextlib.contextmanager
    def start(self, program: Program, limits: Limits = Limits()) -> Iterator["Running"]:
        """Start a program and leave it to the caller; at the end of the block it is gone, with all its children."""
        group = self._groups.get()
        try:
            if group is not None:
                group.limit(limits.memory_bytes, limits.processes)
            with contextlib.ExitStack() as ours:
                process, status = self._spawn(program, limits, group, ours)
                streams = (process.stdin, process.stdout, process.stderr)
                running = Running(Started(process, group, status), streams, program.stdin, limits, group)
                ours.callback(running.end)
                yield running
        finally:
            self._groups.put(group)

    def close(self) -> None:
        """Remove the control groups."""
        for group in self._all_groups:
            if group is not None:
                group.kill()
                group.remove()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spawn(
        self, program: Program, limits: Limits, group: Group | None, ours: contextlib.ExitStack
    ) -> "tuple[subprocess.Popen[bytes], int | None]":
        """Start the process; also give where bubblewrap tells of it, which is open until `ours` is closed."""
        enter = _ENTER % (limits.cpu_s, limits.file_bytes // 512, limits.open_files, limits.address_bytes // 1024)
        with contextlib.ExitStack() as opened:
            wrapping, fds, status = list[str](), tuple[int, ...](), None
            if self.safety is Safety.BOXED:
                status, told = _open_status(ours, opened)
                wrapping, fds = self._wrap(program, limits, told, opened)
            environment = {
                "PATH": os.defpath,
                "GROUPS_TO_ENTER": " ".join(map(str, group.folders)) if group is not None else "",
                **({} if self.safety is Safety.BOXED else program.environment),
            }
            process = start_lasting(
                lambda: subprocess.Popen(
                    ["/bin/sh", "-c", enter, "sh", *wrapping, *program.command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(*fds, *program.descriptors),
                    start_new_session=True,
                    cwd=program.job if self.safety is Safety.UNSAFE else "/",
                    env=environment,
                )
            )
            return process, status

    def _wrap(
        self, program: Program, limits: Limits, told: int, opened: contextlib.ExitStack
    ) -> tuple[list[str], tuple[int, ...]]:
        """Write bubblewrap's command line; files go in through descriptors, so nothing lies on this machine's disk."""
        fds = [hold(self.filter, opened), told]
        size = str(limits.disk_bytes)
        own = ["--bind", "/proc", "/proc"] if program.makes_walls else ["--proc", "/proc", "--seccomp", str(fds[0])]
        command = [self._bwrap, "--json-status-fd", str(told), *_WALLS, *_SYSTEM, *own]
        command += ["--size", size, "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108 (the box's own)
        if program.job is None:
            command += ["--size", size, "--perms", "0777", "--tmpfs", "/job"]
        else:
            command += ["--bind", str(program.job), "/job"]
        for path, content in program.files.items():
            fds.append(hold(content, opened))
            command += ["--perms", "0755", "--file", str(fds[-1]), f"/job/{path}"]
        for place, inside in program.read_only.items():
            command += ["--ro-bind", str(place), inside]
        for name, value in program.environment.items():
            command += ["--setenv", name, value]
        if program.makes_walls:
            command += ["--remount-ro", "/dev", "--remount-ro", "/"]
        return [*command, "--chdir", "/job", "--"], tuple(fds)


class Running:
    """A program under way: its process, and its input (if it has any), output and errors."""

    def __init__(
        self,
        process: Process,
        streams: tuple[IO[bytes] | None, IO[bytes] | None, IO[bytes] | None],
        stdin: bytes,
        limits: Limits,
        group: Group | None,
    ) -> None:
        self.group = group
        self._process, self._stdin, self._limits = process, stdin, limits
        self._input = streams[0]
        self._stdout, self._stderr = (cast(IO[bytes], stream) for stream in streams[1:])
        self._started = time.perf_counter()
        self._killed_for_memory = 0 if group is None else group.count_out_of_memory()

    def wait(self, until: int | None = None) -> Ran:
        """Read what it writes until it ends or meets a limit, or until the descriptor `until` has something to read.

        Raises:
            BoxError: its box could not be built.
        """
        chunks: dict[int, list[bytes]] = {self._stdout.fileno(): [], self._stderr.fileno(): []}
        ended = self._read(chunks, until)
        if ended is Ended.EXITED:
            try:
                self._process.wait(max(0.0, self._left()))
            except subprocess.TimeoutExpired:
                ended = Ended.TIME
        self.end()
        if self.group is not None and self.group.count_out_of_memory() > self._killed_for_memory:
            ended = Ended.MEMORY
        stdout, stderr = (b"".join(parts) for parts in chunks.values())
        if ended in (Ended.EXITED, Ended.STOPPED):
            self._process.check_begun(stderr)
        code = self._process.returncode if ended is Ended.EXITED else None
        return Ran(ended, code, stdout, stderr, time.perf_counter() - self._started)

    def end(self) -> None:
        """End it now, with all that it started."""
        self._process.end()
        for stream in (self._input, self._stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _left(self) -> float:
        return self._limits.wall_s - (time.perf_counter() - self._started)

    def _read(self, chunks: dict[int, list[bytes]], until: int | None) -> Ended:
        room = self._limits.output_bytes
        with selectors.DefaultSelector() as selector:
            for number in chunks if until is None else (*chunks, until):
                selector.register(number, selectors.EVENT_READ)
            self._offer_stdin(selector)
            while selector.get_map():
                left = self._left()
                if left <= 0:
                    return Ended.TIME
                for key, _ in selector.select(left):
                    if key.events & selectors.EVENT_WRITE:
                        self._write_some(selector)
                        continue
                    if key.fd == until:
                        return Ended.STOPPED
                    piece = os.read(key.fd, _READ_BYTES)
                    if not piece:
                        selector.unregister(key.fd)
                        continue
                    chunks[key.fd].append(piece[:room])
                    room -= len(piece)
                    if room < 0:
                        return Ended.OUTPUT
        return Ended.EXITED

    def _offer_stdin(self, selector: selectors.BaseSelector) -> None:
        if self._input is None:
            return
        if self._stdin:
            os.set_blocking(self._input.fileno(), False)
            selector.register(self._input.fileno(), selectors.EVENT_WRITE)
        else:
            self._input.close()

    def _write_some(self, selector: selectors.BaseSelector) -> None:
        stream = cast(IO[bytes], self._input)
        try:
            self._stdin = self._stdin[os.write(stream.fileno(), self._stdin[:_READ_BYTES]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._stdin = b""
        if not self._stdin:
            selector.unregister(stream.fileno())
            stream.close()


def name_python() -> tuple[list[str], dict[Path, str]]:
    """Tell how this Python is started in a box: isolated, without site-packages, and what a box must see of it."""
    binary = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    prefix = Path(sys.base_prefix).resolve()
    shown = {} if prefix.is_relative_to("/usr") and not prefix.is_relative_to("/usr/local") else {prefix: str(prefix)}
    return [str(binary), "-I", "-S", "-X", "utf8"], shown


def hold(content: bytes, opened: contextlib.ExitStack) -> int:
    """Put bytes into an open file that lies on no disk; its number, until `opened` is closed."""
    number = os.memfd_create("box")
    opened.callback(os.close, number)
    with open(number, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(number, 0, os.SEEK_SET)
    return number


def _open_status(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[int, int]:
    reads, writes = os.pipe()
    ours.callback(os.close, reads)
    theirs.callback(os.close, writes)
    os.set_blocking(reads, False)
    return reads, writes


def _find_bubblewrap() -> str:
    found = which("bwrap")
    if found is None:
        raise InputError(
            "programs that a model wrote run in bubblewrap, which is not installed: apt-get install bubblewrap (or "
            "your system's package of that name); or accept the risk with --unsafe"
        )
    return found


def _try_out(sandbox: Sandbox) -> None:
    """See a trivial program run before hours of work depend on it."""
    try:
        ran = sandbox.run(Program(["/usr/bin/true"]))
        reason = "" if ran.exit_code == 0 else ran.stderr.decode("utf-8", "replace").strip() or str(ran.ended)
    except BoxError as error:
        reason = str(error)
    if reason:
        raise InputError(
            f"bubblewrap does not work on this machine ({reason.partition(chr(10))[0][:300]}): namespaces of users are "
            "often forbidden in containers and by AppArmor; allow them, run elsewhere, or accept the risk with --unsafe"
        )

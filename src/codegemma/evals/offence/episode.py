"""Plays one challenge: an agent's commands run in a box, one after another, until it submits the flag or gives up.

**In**: a challenge, an agent, a sandbox.
**Out**: `Episode`: every command with what it printed, and whether the flag was submitted.
**Not**: a network: the box has none, and its one neighbour is the challenge's service, behind a socket in its folder.
Without boxes nothing is played, `--unsafe` or not: a model's shell is no program to run bare.
"""

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from codegemma.evals.examination import AbsentError
from codegemma.evals.offence.challenge import Challenge, Setting
from codegemma.sandbox.box import Ended, Limits, Program, Safety, Sandbox, name_python
from codegemma.sandbox.process import BoxError

MAX_TURNS = 12
_SUBMIT = re.compile(r"^\s*submit\s+(\S+)\s*$", re.MULTILINE)
_SHOWN_CHARS = 2000
# The wall is far off, so that a busy machine does not decide; what computes is ended by its processor time.
_COMMAND_LIMITS = Limits(wall_s=60.0, cpu_s=10, memory_bytes=256 * 2**20, processes=32, output_bytes=64 * 2**10)
# The service waits for its clients as long as an episode lasts.
_SERVICE_LIMITS = Limits(wall_s=10**6, cpu_s=60, memory_bytes=256 * 2**20, processes=16)
_TOOLS, _SOCKET, _MEMORY = "/tools", "service.sock", "/dev/shm"  # noqa: S108 (folders of our own in it)
_SERVICE = """
import socket, sys

def answer(line):
{body}

listener = socket.socket(fileno=int(sys.argv[1]))
while True:
    client, _ = listener.accept()
    with client:
        client.settimeout(30)
        try:
            line = client.makefile(encoding="utf-8", errors="replace").readline(4096).strip()
            client.sendall((str(answer(line)) + "\\n").encode("utf-8", "replace"))
        except Exception as error:
            print(error)
"""
_ASK = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.settimeout(30)
client.connect("/job/service.sock")
client.sendall((" ".join(sys.argv[1:]) + "\\n").encode())
print(client.makefile(encoding="utf-8", errors="replace").read(), end="")
"""


class Exchange(NamedTuple):
    """A command, and what it printed."""

    command: str
    output: str


class Agent(Protocol):
    """Whoever plays."""

    def act(self, statement: str, so_far: Sequence[Exchange]) -> str:
        """Choose the next command of the shell, or `submit FLAG`; nothing gives up."""
        ...


@dataclass(frozen=True, slots=True)
class Episode:
    """How a challenge went. A wrong flag is told to be wrong, and costs a turn."""

    challenge: Challenge
    exchanges: tuple[Exchange, ...]
    is_solved: bool
    wrong_flags: int


def play(challenge: Challenge, agent: Agent, sandbox: Sandbox, *, seed: int = 0, max_turns: int = MAX_TURNS) -> Episode:
    """Play a challenge to its end.

    Raises:
        AbsentError: the sandbox has no boxes.
        BoxError: one could not be built.
    """
    if sandbox.safety is not Safety.BOXED or sandbox.boxes < 2:
        raise AbsentError("a model's shell runs in boxes only, and the service needs one too: see bubblewrap")
    setting = challenge.set_up(seed)
    exchanges: list[Exchange] = []
    wrong = 0
    with _open_machine(setting, sandbox) as machine:
        while len(exchanges) < max_turns:
            command = agent.act(challenge.statement, tuple(exchanges)).strip()
            if not command:
                break
            submitted = _SUBMIT.search(command)
            if submitted and submitted[1] == setting.flag:
                return Episode(challenge, (*exchanges, Exchange(command, "right")), True, wrong)
            wrong += bool(submitted)
            exchanges.append(Exchange(command, "wrong" if submitted else machine.run(command)))
    return Episode(challenge, tuple(exchanges), False, wrong)


class _Machine:
    """The agent's folder, which outlives its commands; each of them has a box of its own."""

    def __init__(self, job: Path, tools: Path, sandbox: Sandbox) -> None:
        python, shown = name_python()
        self._sandbox, self._job = sandbox, job
        self._shown = {**shown, tools: _TOOLS}
        self._environment = {"PATH": f"{_TOOLS}:{Path(python[0]).parent}:/usr/local/bin:/usr/bin:/bin"}

    def run(self, command: str) -> str:
        """Run a command of the shell and return what it printed, shortened in the middle."""
        program = Program(
            ["/bin/sh", "-c", command.replace("\0", "")],
            read_only=self._shown,
            job=self._job,
            environment=self._environment,
        )
        try:
            ran = self._sandbox.run(program, _COMMAND_LIMITS)
        except BoxError:
            raise
        except (OSError, ValueError) as error:  # a command longer than the system takes
            return f"cannot be run: {error}"
        printed = (ran.stdout + ran.stderr).decode("utf-8", "replace")
        if ran.ended is not Ended.EXITED:
            printed += f"\n(ended: limit of {ran.ended})"
        return shorten(printed)


def shorten(text: str) -> str:
    """Keep start and end of a long text.

    >>> len(shorten("x" * 9000)) < 2100
    True
    """
    if len(text) <= _SHOWN_CHARS:
        return text
    half = _SHOWN_CHARS // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


@contextlib.contextmanager
def _open_machine(setting: Setting, sandbox: Sandbox) -> Iterator[_Machine]:
    make = partial(tempfile.TemporaryDirectory, prefix="cg-", ignore_cleanup_errors=True)
    with make() as folder, make(dir=find_memory()) as in_memory, contextlib.ExitStack() as on:
        job, tools = Path(in_memory, "job"), Path(folder, "tools")
        for place in (job, tools):
            place.mkdir()
        for name, content in setting.files.items():
            (job / name).parent.mkdir(parents=True, exist_ok=True)
            (job / name).write_bytes(content)
        if setting.answer is not None:
            _write_ask(tools)
            on.enter_context(_serve(setting, setting.answer, job / _SOCKET, sandbox))
        yield _Machine(job, tools, sandbox)


def find_memory() -> str | None:
    """Find memory that looks like a disk: what a command writes there counts against its box's memory, so that no
    agent fills this machine's disk; `None`, the usual place, where there is none that lets files be executed."""
    try:
        about = os.statvfs(_MEMORY)
    except OSError:
        return None
    return None if about.f_flag & (os.ST_NOEXEC | os.ST_RDONLY) or not os.access(_MEMORY, os.W_OK) else _MEMORY


def _write_ask(tools: Path) -> None:
    python, _ = name_python()
    (tools / "ask.py").write_text(_ASK, encoding="utf-8")
    ask = tools / "ask"
    ask.write_text(f'#!/bin/sh\nexec "{python[0]}" -I -S {_TOOLS}/ask.py "$@"\n', encoding="utf-8")
    ask.chmod(0o755)


@contextlib.contextmanager
def _serve(setting: Setting, answer: str, place: Path, sandbox: Sandbox) -> Iterator[None]:
    """Listen in the agent's folder on behalf of a service that has no part of that folder: it inherits the socket."""
    python, shown = name_python()
    body = "\n".join(f"    {line}" for line in answer.strip().splitlines())
    files = {**setting.hidden, "service.py": _SERVICE.format(body=body).encode()}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        command = [*python, "/job/service.py", str(listener.fileno())]
        program = Program(command, files=files, read_only=shown, descriptors=(listener.fileno(),))
        with sandbox.start(program, _SERVICE_LIMITS):
            yield

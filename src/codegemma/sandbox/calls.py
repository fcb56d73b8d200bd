"""Calls a function of each of many small programs, in one box that forks a child for each.

**In**: programs, the function's name, the arguments of each call.
**Out**: `Told` for each program: what its calls gave, as plain data.
**Not**: a box for each program, as `judge.py` has: these programs share one, and its processes have one user, so that
one may end the others. Those are tried again, alone. Nothing that a program could gain by is in the box: what is wanted
stays here, with whoever compares.

A child costs about a millisecond where a box costs thirty (`benchmarks/grpo.py`). Equal programs run once.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegemma.errors import InputError
from codegemma.sandbox.box import Limits, Program, Safety, Sandbox, name_python
from codegemma.sandbox.inside.wire import WireError, decode, encode, receive, send

_INSIDE = Path(__file__).parent / "inside"
_SHOWN_AS = "/inside"
# What the box as a whole may take; each child has its own limits inside.
_BOX_LIMITS = Limits(wall_s=10**9, cpu_s=10**9, memory_bytes=2**30, processes=128)
# Beyond what all its children may take together, how long a batch may be silent.
_PATIENCE_S = 20.0


class NoValue:
    """Stands where a call gave nothing that can be compared: it raised, or gave no plain data."""

    def __repr__(self) -> str:
        return "NO_VALUE"


NO_VALUE = NoValue()


@dataclass(frozen=True, slots=True)
class Told:
    """What the calls gave, one by one; empty where the program never got that far. `is_late`: its time was up."""

    values: tuple[Any, ...] = ()
    is_late: bool = False


class Caller:
    """A box that runs batches of programs, one batch at a time; from any thread."""

    def __init__(self, safety: Safety = Safety.BOXED, *, seconds: float = 2.0, children: int = 2) -> None:
        """Start the box. Each program may take `seconds`, and `children` run at once.

        Raises:
            InputError: bubblewrap is missing or refused; the message says what to do.
        """
        self._sandbox = Sandbox(1, safety)
        self._seconds, self._children = seconds, children
        self._lock = threading.Lock()
        self._opened = contextlib.ExitStack()
        self._channel: socket.socket | None = None
        with self._lock:
            self._open()

    def call(self, programs: Sequence[str], name: str, calls: Sequence[Sequence[Any]]) -> list[Told]:
        """Define each program and call its function `name` with each of `calls`; in the programs' order.

        A program that brings the box down is tried once more alone, and told as having given nothing.

        Raises:
            InputError: boxes go down with a program that does nothing, so that no program is to blame.
        """
        different = list(dict.fromkeys(programs))
        with self._lock:
            found = self._run(different, name, calls)
            for number, program in enumerate(different):
                if number not in found:
                    found[number] = self._run_alone(program, name, calls)
        numbers = {program: number for number, program in enumerate(different)}
        return [found[numbers[program]] for program in programs]

    def close(self) -> None:
        """End the box."""
        with self._lock:
            self._close()
        self._sandbox.close()

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run_alone(self, program: str, name: str, calls: Sequence[Sequence[Any]]) -> Told:
        told = self._run([program], name, calls).get(0)
        if told is None and not self._run([f"def {name}(*_): pass"], name, calls):
            raise InputError(
                "boxes go down on this machine with programs that do nothing; free memory and processes, then repeat "
                "the command: it goes on"
            )
        return told or Told()

    def _run(self, programs: Sequence[str], name: str, calls: Sequence[Sequence[Any]]) -> dict[int, Told]:
        """Run a batch as far as the box lives, which is opened anew where it does not."""
        found: dict[int, Told] = {}
        spelled = [[encode(one, _refuse) for one in given] for given in calls]
        batch = {"programs": list(programs), "name": name, "calls": spelled}
        channel = self._channel or self._open()
        channel.settimeout(self._seconds * (len(programs) / self._children + 1) + _PATIENCE_S)
        try:
            send(channel, {**batch, "seconds": self._seconds, "children": self._children})
            while "done" not in (answer := receive(channel)):
                found[int(answer["number"])] = _read_answer(answer, len(calls))
        except (OSError, EOFError, WireError, KeyError, TypeError, ValueError):
            self._close()
        return found

    def _open(self) -> socket.socket:
        python, shown = name_python()
        inside = str(_INSIDE)
        if self._sandbox.safety is Safety.BOXED:
            inside, shown = _SHOWN_AS, shown | {_INSIDE: _SHOWN_AS}
        ours, theirs = socket.socketpair()
        with theirs:
            self._opened.callback(ours.close)
            command = [*python, f"{inside}/forker.py", str(theirs.fileno())]
            program = Program(command, read_only=shown, descriptors=(theirs.fileno(),))
            self._opened.enter_context(self._sandbox.start(program, _BOX_LIMITS))
        self._channel = ours
        return ours

    def _close(self) -> None:
        self._channel = None
        self._opened.close()


def _read_answer(answer: dict[str, Any], wanted: int) -> Told:
    """Take what a program told, which may be anything: only whole answers of plain data count."""
    is_late = bool(answer.get("is_late"))
    try:
        told = json.loads(answer["told"] or "[]")
        if not isinstance(told, list) or len(told) != wanted:
            return Told(is_late=is_late)
        return Told(tuple(NO_VALUE if one is None else decode(one[0], None) for one in told), is_late)  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError, IndexError, WireError, RecursionError):
        return Told(is_late=is_late)


def _refuse(value: Any) -> Any:
    raise WireError(f"a {type(value).__name__} cannot be given to a program: it is not plain data")

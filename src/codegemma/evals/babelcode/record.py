"""Finds out what published tests call, and what the published solution gives: by running both, in a box.

**In**: solutions, their tests, the names of their functions.
**Out**: `Call`s for each, in the order in which the tests make them, each different one once.
**Not**: judging; a solution that fails its tests is an error here.
"""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from codegemma.errors import InputError
from codegemma.evals.store import Store, hash_parts
from codegemma.sandbox.box import Ended, Limits, Program, Safety, Sandbox, name_python
from codegemma.sandbox.inside.wire import decode

# Some tests take seconds, and there are hundreds of problems.
_LIMITS = Limits(wall_s=600, cpu_s=600, memory_bytes=2**30, output_bytes=64 * 2**20)


@dataclass(frozen=True, slots=True)
class Call:
    """What a function is called with, and what it gives."""

    arguments: tuple[Any, ...]
    expected: Any


@dataclass(frozen=True, slots=True)
class Source:
    """A published problem: its solution, its tests, the function that they call, and what describes it."""

    task_id: str
    solution: str
    tests: str
    name: str
    text: str


def record_calls(
    sandbox: Sandbox, sources: Sequence[Source], limits: Limits = _LIMITS, store: Store | None = None
) -> list[list[Call]]:
    """Run all, in one box, unless the store knows what these told, by this recorder and this Python.

    Raises:
        InputError: a solution fails its own tests, or the box met a limit: the files are not those published.
    """
    jobs = [{"solution": s.solution, "tests": s.tests, "name": s.name} for s in sources]
    inside = Path(str(resources.files("codegemma.sandbox.inside")))
    key = hash_parts("calls", platform.python_version(), inside.joinpath("recorder.py").read_text("utf-8"), jobs)
    told = None if store is None else store.find(key)
    if told is None:
        told = _run(sandbox, jobs, inside, limits)
    recorded = [_read(source, one) for source, one in zip(sources, told, strict=True)]
    if store is not None:
        store.keep(key, told)
    return recorded


def _run(sandbox: Sandbox, jobs: list[dict[str, str]], inside: Path, limits: Limits) -> list[dict[str, Any]]:
    python, shown = name_python()
    place = "/inside" if sandbox.safety is Safety.BOXED else str(inside)
    command = [*python, f"{place}/recorder.py"]
    program = Program(command, stdin=json.dumps(jobs).encode(), read_only={**shown, inside: "/inside"})
    try:
        ran = sandbox.run(program, limits)
    except OSError as error:
        raise InputError(f"the published solutions cannot be run on this machine now: {error}") from error
    if ran.ended is not Ended.EXITED or ran.exit_code != 0:
        reason = ran.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise InputError(
            f"the published solutions do not run to their end ({ran.ended}: {reason}); get the files again"
        )
    told: list[dict[str, Any]] = json.loads(ran.stdout)
    return told


def _read(source: Source, told: dict[str, Any]) -> list[Call]:
    if told["error"] is not None or not told["calls"]:
        raise InputError(
            f"{source.task_id}: the published solution fails its own tests ({told['error'] or 'it is never called'}); "
            "the file is not the one published: get it again"
        )
    return [
        Call(tuple(decode(argument, _refuse) for argument in arguments), decode(value, _refuse))
        for arguments, value in told["calls"]
    ]


def _refuse(reference: object) -> None:
    raise ValueError(f"object {reference} came where plain data was told")

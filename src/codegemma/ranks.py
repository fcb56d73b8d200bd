"""What a node of a cluster does: the tasks of one rank, each answered by a file.

**In**: a job's folder with `job.json`: the function's name, and the tasks as plain data.
**Out**: `answers/000012.json` for task 12: its result, or its error in plain words.
**Not**: the engine that gives the rank its number: `cluster.py`.
"""

import importlib
import json
import traceback
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegemma.errors import InputError, MissingExtraError, OutputError, UserError
from codegemma.files import write_whole
from codegemma.recipe import from_plain, to_plain
from codegemma.runner import SlurmRunner, WorkerError, map_ordered

_MAX_SHOWN_CHARS = 200
_ERRORS: tuple[type[UserError], ...] = (InputError, OutputError, WorkerError, MissingExtraError, UserError)


class TaskFailedError(RuntimeError):
    """A task on a cluster broke in a way that is not the user's to fix; the message ends with its traceback."""


@dataclass(frozen=True, slots=True)
class Job:
    """What lies in `job.json`: all that a node must know."""

    stage: str
    function: str
    ranks: int
    slurm: SlurmRunner | None
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one task: its result as JSON, or its error."""

    result: str | None = None
    error_class: str | None = None
    message: str = ""


def read_contract(function: Callable[..., Any]) -> tuple[Any, Any]:
    """Tell the dataclasses that a task function takes and returns, from its annotations.

    Raises:
        TypeError: the function is not importable by name, or an annotation is missing.
    """
    name = getattr(function, "__qualname__", "")
    module = getattr(function, "__module__", "__main__")
    if not name.isidentifier() or module == "__main__":
        raise TypeError(f"{function!r} cannot run on a cluster: a task function stands at the top of a module")
    hints = typing.get_type_hints(function)
    result = hints.pop("return", None)
    if len(hints) != 1 or result is None:
        raise TypeError(f"{module}.{name} cannot run on a cluster: wanted one annotated task and an annotated result")
    return next(iter(hints.values())), result


def read_job(folder: Path) -> Job:
    """Read what `cluster.py` wrote for the nodes."""
    job: Job = from_plain(Job, json.loads((folder / "job.json").read_bytes()))
    return job


@dataclass(frozen=True)
class RankStep:
    """The one step of the datatrove pipeline: rank `r` of `R` runs the tasks `r::R`."""

    folder: str

    def __call__(self, data: object, rank: int, world_size: int) -> None:  # noqa: ARG002 (datatrove's signature)
        """Run this rank's tasks, until one fails."""
        run_rank(Path(self.folder), rank, world_size)


def run_rank(folder: Path, rank: int, world_size: int) -> None:
    """Run the tasks `rank::world_size` of the job in `folder`, one after the other, and answer each by a file.

    They run in a process of their own: engines fork where threads hold locks, and wait for ever when a child dies.
    """
    job = read_job(folder)
    mine = range(rank, len(job.tasks), world_size)
    calls = [(job.function, job.tasks[number]) for number in mine]
    answers = map_ordered(attempt, calls, workers=1, stage=job.stage, chunk_items=1, is_isolated=True)
    for number in mine:
        try:
            answer = next(answers)
        except WorkerError as error:
            answer = Answer(error_class=WorkerError.__name__, message=str(error))
        _write_answer(folder, number, answer)
        if answer.result is None:
            return


def attempt(call: tuple[str, str]) -> Answer:
    """Find the function by its name, run it on one task, and put whatever comes of it in plain words."""
    name, task = call
    try:
        module, _, attribute = name.partition(":")
        function = getattr(importlib.import_module(module), attribute)
        kind, _ = read_contract(function)
        return Answer(result=json.dumps(to_plain(function(from_plain(kind, json.loads(task))))))
    except UserError as error:
        known = next(known for known in _ERRORS if isinstance(error, known))
        return Answer(error_class=known.__name__, message=str(error))
    except Exception:
        return Answer(error_class="", message=traceback.format_exc())


def _name_answer(folder: Path, number: int) -> Path:
    return folder / "answers" / f"{number:06d}.json"


def _write_answer(folder: Path, number: int, answer: Answer) -> None:
    write_whole(_name_answer(folder, number), json.dumps(to_plain(answer)).encode())


def read_answer(folder: Path, number: int) -> Answer | None:
    """Read what became of task `number`; `None` if nobody said."""
    file = _name_answer(folder, number)
    if not file.is_file():
        return None
    answer: Answer = from_plain(Answer, json.loads(file.read_bytes()))
    return answer


def unwrap_answers(
    answers: Sequence[Answer | None], tasks: Sequence[Any], kind: Any, stage: str, folder: Path
) -> Iterator[Any]:
    """Yield the results; the first error counts, then the first silence, which another's error may have caused."""
    for answer, task in zip(answers, tasks, strict=True):
        if answer is not None and answer.result is None:
            where = f"in {stage}: {task!r:.{_MAX_SHOWN_CHARS}}; logs in {folder}"
            known = next((known for known in _ERRORS if known.__name__ == answer.error_class), TaskFailedError)
            raise known(f"{answer.message} ({where})")
    for answer, task in zip(answers, tasks, strict=True):
        if answer is None or answer.result is None:
            raise WorkerError(
                f"{stage}: a worker ended without an answer for {task!r:.{_MAX_SHOWN_CHARS}}, perhaps for lack of "
                f"memory or time; see the logs in {folder}, give a task more of either, and run again"
            )
        yield from_plain(kind, json.loads(answer.result))

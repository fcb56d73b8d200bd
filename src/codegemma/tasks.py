"""Runs a step's tasks: the same pure function, in this process, over processes, on Ray or on Slurm.

**In**: a function that is importable by name, and its tasks: small frozen dataclasses of plain data.
**Out**: the small results in the order of the tasks. The large ones are files: the function writes each whole, under a
name that tells what it was made of, so that a rerun finds them and a kill loses at most the tasks in flight.
**Not**: what a task does; and no shuffle: a task reads files that others have written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from codegemma.errors import UserError
from codegemma.runner import LocalRunner, Progress, Runner, ignore_progress, map_ordered

X = TypeVar("X")
Y = TypeVar("Y")

# A task in a message: long enough to find it, short enough to read.
_SHOWN_CHARS = 200


def run_tasks(
    function: Callable[[X], Y],
    tasks: Sequence[X],
    runner: Runner = LocalRunner(),  # noqa: B008 (frozen)
    on_progress: Progress = ignore_progress,
    stage: str = "run",
) -> list[Y]:
    """Run `function` on every task and return the results in the order of the tasks.

    With Ray and Slurm the annotations of `function` say what a task and a result are; both are dataclasses that
    `recipe.from_plain` knows. The first task, in order, that fails ends the run, and its error names it; what other
    tasks have written stays for the next run.

    Raises:
        UserError: what a task raised, in its own class.
        WorkerError: a worker died before it could answer.
        MissingExtraError: Ray or Slurm was asked for, and the extra `scale` is not installed.
    """
    if not isinstance(runner, LocalRunner):
        # Ray takes seconds to import, and only those who ask for it have it.
        from codegemma.cluster import run_on_cluster

        return run_on_cluster(function, tasks, runner, on_progress, stage)
    attempt = _Attempt(function, stage)
    return list(map_ordered(attempt, tasks, runner.workers, on_progress, stage, len(tasks), chunk_items=1))


@dataclass(frozen=True, slots=True)
class _Attempt(Generic[X, Y]):
    """The function, and an error that names the task; a class, because it travels to other processes."""

    function: Callable[[X], Y]
    stage: str

    def __call__(self, task: X) -> Y:
        try:
            return self.function(task)
        except UserError as error:
            raise type(error)(f"{error} (in {describe_task(self.stage, task)})") from error
        except Exception as error:
            error.add_note(f"in {describe_task(self.stage, task)}")
            raise


def describe_task(stage: str, task: object) -> str:
    """Name a task in a message."""
    out = getattr(task, "out", None)
    text = out.name if isinstance(out, Path) else repr(task)
    return f"{stage}: {text}" if len(text) <= _SHOWN_CHARS else f"{stage}: {text[:_SHOWN_CHARS]}..."

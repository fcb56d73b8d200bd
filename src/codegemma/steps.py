"""Runs a step over shards so that it can be resumed: what a task writes is named by what it was made from.

**In**: a function and its tasks; each task names the one file that it writes, and that name holds a key of its input.
**Out**: the files. One that is there already is not made again; a kill loses at most the tasks in flight.
**Not**: what a step computes. A task writes nothing but its file, so any runner may take it, in any order.
"""

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol, TypeVar

from codegemma.errors import InputError, OutputError
from codegemma.runner import LocalRunner, Progress, Runner, has_workers
from codegemma.shards import SUFFIXES, count_records, find_format
from codegemma.tasks import run_tasks

# The folder, inside a build's own, in which steps keep what they found out.
STEPS_FOLDER = "steps"


class Task(Protocol):
    """One shard's work: a small frozen dataclass that can travel to another process."""

    @property
    def out(self) -> Path:
        """Where the result goes; it stands there only when it is whole."""
        ...

    @property
    def size(self) -> int:
        """How much work it is, in the units that progress counts."""
        ...


class CpuClock:
    """Adds up CPU seconds by step: what has passed since the last lap belongs to the step that is named."""

    def __init__(self) -> None:
        """Start."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._lap_began_s = time.process_time()

    def lap(self, step: str) -> None:
        """End a lap."""
        now_s = time.process_time()
        self.seconds[f"{step}_cpu_s"] += now_s - self._lap_began_s
        self._lap_began_s = now_s


T = TypeVar("T", bound=Task)


def run_missing(
    function: Callable[[T], dict[str, float]], tasks: Sequence[T], runner: Runner, on_progress: Progress, stage: str
) -> dict[str, float]:
    """Run the tasks whose file is not there, and add up what they return: seconds of CPU time by name.

    Raises:
        WorkerError: a worker process died.
    """
    missing = [task for task in tasks if not is_whole(task.out)]
    total = sum(task.size for task in tasks)
    done = list(accumulate((task.size for task in missing), initial=total - sum(task.size for task in missing)))
    if isinstance(runner, LocalRunner) and len(missing) <= 1 and not has_workers(runner):
        runner = LocalRunner()  # a process need not be started for it
    results = run_tasks(
        function, missing, runner, lambda _, tasks_done, __: on_progress(stage, done[tasks_done], total), stage
    )
    seconds: defaultdict[str, float] = defaultdict(float)
    for spent in results:
        for step, spent_s in spent.items():
            seconds[step] += spent_s
    return seconds


def is_whole(path: Path) -> bool:
    """Say whether a file is there and its end is that of a whole one; a file of records that was cut off goes."""
    if not path.is_file():
        return False
    if path.suffix not in SUFFIXES:
        return True
    try:
        count_records(path)
    except InputError:
        path.unlink()
        return False
    return True


def sweep(folder: Path, keep: Iterable[Path]) -> None:
    """Remove every file and folder in a folder that is not to be kept: results of other choices, what a kill left.

    Raises:
        OutputError: no permission.
    """
    kept = set(keep)
    try:
        for path in folder.iterdir() if folder.is_dir() else ():
            if path not in kept:
                remove_output(path)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be cleared ({error.strerror}); choose another --out") from error


def publish(files: Sequence[Path], folder: Path) -> None:
    """Make `folder` out of files that steps wrote, as numbered parts: links where the disk has them, else copies.

    Its name ends as those of the files do.

    Raises:
        OutputError: no permission or no space.
    """
    folder = folder.with_suffix(files[0].suffix) if files else folder
    try:
        folder.mkdir(parents=True)
        for number, file in enumerate(files):
            part = folder / f"part-{number:05d}{file.suffix}"
            try:
                part.hardlink_to(file)
            except OSError:
                shutil.copyfile(file, part)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{folder}: cannot be written ({reason}); choose another --out or make room") from error


def remove_output(path: Path) -> None:
    """Remove a file or a folder of parts, if it is there, in whichever format it is.

    Raises:
        OSError: no permission.
    """
    path = find_format(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

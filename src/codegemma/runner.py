"""Runs pure steps: in this process or over a pool of processes; tells how far it is.

**In**: a function, its inputs, and how many workers.
**Out**: the results in the order of the inputs, whatever the number of workers. Also who runs, as text: `--runner`.
**Not**: an engine of our own. `tasks.py` runs the same task functions here, or through `cluster.py` on Ray or Slurm.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, TypeVar, runtime_checkable

from codegemma.errors import UserError
from codegemma.recipe import ChoiceError, override

X = TypeVar("X")
Y = TypeVar("Y")

# Items that travel to a worker together: enough to hide the cost of the trip, few enough to keep all workers busy.
CHUNK_ITEMS = 16
# Chunks of that size under way per worker: inputs are read as they are needed, never all at once.
CHUNKS_AHEAD = 4


class WorkerError(UserError):
    """A worker process died before it could answer; nothing of the step may be used."""


@dataclass(frozen=True, slots=True)
class LocalRunner:
    """Processes on this machine; one worker computes in the process that asks."""

    workers: int = 1


@dataclass(frozen=True, slots=True)
class RayRunner:
    """A Ray cluster. `address` as `ray.init` takes it: a cluster's, `local` for one that lives as long as the run.

    `folder` is where a run keeps its tasks and their answers: every machine must see it under this path.
    """

    workers: int = 2
    cpus_per_task: int = 1
    memory_gb: int = 2
    address: str | None = None
    folder: str | None = None


@dataclass(frozen=True, slots=True)
class SlurmRunner:
    """A Slurm cluster, asked by `sbatch` from a login node. `workers` is how many of the array run at one time.

    `folder` is where a run keeps its tasks and their answers: every machine must see it under this path.
    """

    partition: str
    workers: int = 16
    cpus_per_task: int = 1
    memory_gb: int = 2
    time: str = "24:00:00"
    qos: str | None = None
    account: str | None = None
    folder: str | None = None


Runner = LocalRunner | RayRunner | SlurmRunner
_RUNNERS: dict[str, Runner] = {"local": LocalRunner(), "ray": RayRunner(), "slurm": SlurmRunner(partition="")}


def parse_runner(text: str, workers: int = 1) -> Runner:
    """Read `--runner`: a name, then options after a colon. `workers` is for `local`, unless the text says it.

    >>> parse_runner("slurm:partition=cpu,time=02:00:00,workers=64").time
    '02:00:00'

    Raises:
        ChoiceError: unknown runner or option (the known ones are listed), or a value that does not fit.
    """
    name, _, options = text.strip().partition(":")
    if name not in _RUNNERS:
        raise ChoiceError(f"--runner {text!r}: no such runner; known: {', '.join(_RUNNERS)}")
    start = LocalRunner(workers) if name == "local" else _RUNNERS[name]
    settings = [option.strip() for option in options.split(",") if option.strip()]
    for setting in settings:
        if "=" not in setting:
            raise ChoiceError(f"--runner {text!r}: wanted {name}:option=value,option=value; got {setting!r}")
    runner = override(start, settings)
    if runner.workers < 1:
        raise ChoiceError(f"--runner {text!r}: workers={runner.workers}; wanted at least 1")
    if isinstance(runner, (RayRunner, SlurmRunner)) and min(runner.cpus_per_task, runner.memory_gb) < 1:
        raise ChoiceError(f"--runner {text!r}: a task needs at least one CPU and 1 GB")
    if isinstance(runner, SlurmRunner) and not runner.partition:
        raise ChoiceError(f"--runner {text!r}: which partition? Wanted slurm:partition=NAME; `sinfo` lists them")
    return runner


@runtime_checkable
class Progress(Protocol):
    """How far a long step is: `stage` names it, `total` is `None` while unknown. Printing is the caller's affair."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Report that `done` of `total` units of `stage` are finished."""
        ...


def prefix_stages(on_progress: Progress, prefix: str) -> Progress:
    """Put a word before the name of every stage, where a job goes through the same stages more than once."""

    def report(stage: str, done: int, total: int | None) -> None:
        on_progress(prefix + stage, done, total)

    return report


def ignore_progress(stage: str, done: int, total: int | None) -> None:
    """Say nothing."""


def map_ordered(
    function: Callable[[X], Y],
    items: Iterable[X],
    workers: int,
    on_progress: Progress = ignore_progress,
    stage: str = "map",
    total: int | None = None,
    *,
    chunk_items: int = CHUNK_ITEMS,
    is_isolated: bool = False,
) -> Iterator[Y]:
    """Yield `function(item)` for every item, in order; one worker computes in this process, unless `is_isolated`.

    With more workers, `function` must be importable by name and items and results travel between fresh processes,
    `chunk_items` together. What the function raises is raised here, at the place of its item.

    >>> list(map_ordered(abs, [-3, 2, -1], workers=1))
    [3, 2, 1]

    Raises:
        ValueError: fewer than one worker.
        WorkerError: a worker process died, for lack of memory most often.
    """
    if workers < 1:
        raise ValueError(f"workers={workers}: wanted at least 1")
    is_here = workers == 1 and not is_isolated
    results = map(function, items) if is_here else _map_pooled(function, items, workers, stage, chunk_items)
    done = 0
    on_progress(stage, done, total)
    for result in results:
        done += 1
        on_progress(stage, done, total)
        yield result


# What `keep_workers` keeps: pools by their number of workers, and a stack of what ends with it. `None` outside of it.
_kept: "_Kept | None" = None


@dataclass(slots=True)
class _Kept:
    pools: dict[int, ProcessPoolExecutor] = field(default_factory=dict)
    endings: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


@contextlib.contextmanager
def keep_workers() -> Iterator[None]:
    """Keep the processes of one step for the next, inside: starting one costs a third of a second, Ray ten."""
    global _kept  # noqa: PLW0603 (one process has one set of workers)
    if _kept is not None:  # an outer one keeps them
        yield
        return
    _kept = _Kept()
    try:
        with _kept.endings:
            yield
    finally:
        pools, _kept = _kept.pools, None
        for pool in pools.values():
            pool.shutdown(wait=True, cancel_futures=True)


def has_workers(runner: LocalRunner) -> bool:
    """Say whether processes are there, kept from an earlier step."""
    return _kept is not None and runner.workers in _kept.pools


def start_workers(runner: Runner, module: str) -> None:
    """Start the processes of a local runner and let them import `module`, while this one prepares what they will do.

    Outside of `keep_workers`, or where one worker works in this process, there is nothing to start.
    """
    if _kept is None or not isinstance(runner, LocalRunner) or runner.workers < 2 or has_workers(runner):
        return
    pool = _take_pool(runner.workers)
    for _ in range(runner.workers):
        pool.submit(_import_module, module)
    _kept.pools[runner.workers] = pool


def _import_module(name: str) -> None:
    importlib.import_module(name)


def end_with_workers(ending: Callable[[], object]) -> None:
    """Call `ending` when `keep_workers` ends, or now where it is not in force."""
    if _kept is None:
        ending()
    else:
        _kept.endings.callback(ending)


def _take_pool(workers: int) -> ProcessPoolExecutor:
    if _kept is not None and workers in _kept.pools:
        return _kept.pools.pop(workers)
    # Fresh processes, not forks: a fork copies the locks of threads that JAX, Arrow and progress bars have started.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_prepare_worker)


def _map_pooled(
    function: Callable[[X], Y], items: Iterable[X], workers: int, stage: str, chunk_items: int
) -> Iterator[Y]:
    pool, is_done = _take_pool(workers), False
    under_way: deque[Future[list[Y]]] = deque()
    try:
        for chunk in _chunks(items, chunk_items):
            under_way.append(pool.submit(_map_chunk, function, chunk))
            if len(under_way) * chunk_items >= workers * CHUNKS_AHEAD * CHUNK_ITEMS:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
        is_done = True
    except BrokenProcessPool as error:
        raise WorkerError(
            f"{stage}: a worker process died, perhaps for lack of memory; run again with fewer workers than {workers}"
        ) from error
    finally:
        if is_done and _kept is not None:
            _kept.pools[workers] = pool
        else:
            pool.shutdown(wait=True, cancel_futures=True)


def _prepare_worker() -> None:
    # An interrupt is the parent's to answer; and a parent that was killed must not leave its workers waiting for ever.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _chunks(items: Iterable[X], chunk_items: int) -> Iterator[list[X]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, chunk_items)):
        yield chunk


def _map_chunk(function: Callable[[X], Y], chunk: list[X]) -> list[Y]:
    return [function(item) for item in chunk]

"""Runs pure steps: in this process or over a pool of processes; tells how far it is.

**In**: a function, its inputs, and how many workers.
**Out**: the results in the order of the inputs, whatever the number of workers.
**Not**: an engine of our own. At scale the same task functions run on Ray or Slurm.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Protocol, TypeVar, runtime_checkable

from codegemma.errors import UserError

X = TypeVar("X")
Y = TypeVar("Y")

# Items that travel to a worker together: enough to hide the cost of the trip, few enough to keep all workers busy.
CHUNK_ITEMS = 16
# Chunks under way per worker: inputs are read as they are needed, never all at once.
CHUNKS_AHEAD = 4


class WorkerError(UserError):
    """A worker process died before it could answer; nothing of the step may be used."""


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
) -> Iterator[Y]:
    """Yield `function(item)` for every item, in order; one worker computes in this process.

    With more workers, `function` must be importable by name and items and results travel between fresh processes,
    `chunk_items` at a time. What the function raises is raised here, at the place of its item.

    >>> list(map_ordered(abs, [-3, 2, -1], workers=1))
    [3, 2, 1]

    Raises:
        ValueError: fewer than one worker.
        WorkerError: a worker process died, for lack of memory most often.
    """
    if workers < 1:
        raise ValueError(f"workers={workers}: wanted at least 1")
    results = map(function, items) if workers == 1 else _map_pooled(function, items, workers, stage, chunk_items)
    done = 0
    on_progress(stage, done, total)
    for result in results:
        done += 1
        on_progress(stage, done, total)
        yield result


def _map_pooled(
    function: Callable[[X], Y], items: Iterable[X], workers: int, stage: str, chunk_items: int
) -> Iterator[Y]:
    # Fresh processes, not forks: a fork copies the locks of threads that JAX, Arrow and progress bars have started.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_prepare_worker)
    under_way: deque[Future[list[Y]]] = deque()
    try:
        for chunk in _chunks(items, chunk_items):
            under_way.append(pool.submit(_map_chunk, function, chunk))
            if len(under_way) >= workers * CHUNKS_AHEAD:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
    except BrokenProcessPool as error:
        raise WorkerError(
            f"{stage}: a worker process died, perhaps for lack of memory; run again with fewer workers than {workers}"
        ) from error
    finally:
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

import copy
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codegemma.errors import InputError
from codegemma.runner import (
    CHUNK_ITEMS,
    CHUNKS_AHEAD,
    LocalRunner,
    WorkerError,
    has_workers,
    keep_workers,
    map_ordered,
    start_workers,
)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    items = [3000, 1] * 40
    assert list(map_ordered(math.factorial, items, workers)) == [math.factorial(n) for n in items]


def test_progress_counts_every_item_and_names_the_stage() -> None:
    seen: list[tuple[str, int, int | None]] = []
    list(map_ordered(abs, [1, 2], 1, lambda *report: seen.append(report), stage="read", total=2))
    assert seen == [("read", 0, 2), ("read", 1, 2), ("read", 2, 2)]


def test_inputs_are_taken_as_needed() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield number

    results = map_ordered(abs, items(), workers=2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert taken <= CHUNK_ITEMS * (2 * CHUNKS_AHEAD + 1)


def test_dead_worker_is_an_error_not_a_shorter_result() -> None:
    with pytest.raises(WorkerError, match="parse: a worker process died"):
        list(map_ordered(os._exit, [1], workers=2, stage="parse"))


@pytest.mark.parametrize("workers", [1, 2])
def test_error_in_a_step_is_raised_as_it_was(workers: int) -> None:
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        list(map_ordered(math.sqrt, [1.0, -1.0], workers))


def test_workers_that_were_started_do_what_comes_next() -> None:
    runner = LocalRunner(2)
    start_workers(runner, "string")
    assert not has_workers(runner), "outside of keep_workers nobody would end them"
    with keep_workers():
        start_workers(runner, "no.such.module")  # whoever needs it will say so
        assert has_workers(runner)
        assert list(map_ordered(abs, range(-40, 0), 2)) == list(range(40, 0, -1))
        start_workers(LocalRunner(1), "string")
        assert not has_workers(LocalRunner(1))


def test_user_error_keeps_its_class_and_message_across_processes() -> None:
    error = InputError("a: b; do c")
    [back] = map_ordered(copy.copy, [error], workers=2)
    assert (type(back), str(back), back.exit_code) == (InputError, str(error), 3)


SLEEPER = """
import time
from codegemma.runner import map_ordered

if __name__ == "__main__":
    print("started", flush=True)
    list(map_ordered(time.sleep, [60.0] * 64, workers=2))
"""


def start_sleeper(folder: Path) -> tuple[subprocess.Popen[str], list[Path]]:
    """Start a run whose workers sleep, in a process group of its own, and find the workers."""
    (folder / "sleeper.py").write_text(SLEEPER)
    command = [sys.executable, str(folder / "sleeper.py")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    wait_until(lambda: len(children.read_text().split()) >= 3)  # two workers and the resource tracker
    time.sleep(1)  # until they have begun to work
    return run, [Path(f"/proc/{pid}") for pid in children.read_text().split()]


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def is_alive(process: Path) -> bool:
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the workers")
def test_killed_run_leaves_no_worker_behind(tmp_path: Path) -> None:
    run, children = start_sleeper(tmp_path)
    run.kill()
    run.communicate()
    wait_until(lambda: not any(map(is_alive, children)))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the workers")
def test_workers_say_nothing_when_the_run_is_interrupted(tmp_path: Path) -> None:
    run, children = start_sleeper(tmp_path)
    try:
        for process in children:
            os.kill(int(process.name), signal.SIGINT)
        time.sleep(0.5)
        assert all(map(is_alive, children))
    finally:
        run.kill()
    _, errors = run.communicate()
    assert "Traceback" not in errors


def test_no_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="workers=0"):
        list(map_ordered(abs, [1], workers=0))

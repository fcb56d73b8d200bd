import copy
import math
import os
from collections.abc import Iterator

import pytest

from codegemma.errors import InputError
from codegemma.runner import CHUNK_ITEMS, CHUNKS_AHEAD, WorkerError, map_ordered


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


def test_user_error_keeps_its_class_and_message_across_processes() -> None:
    error = InputError("a: b; do c")
    [back] = map_ordered(copy.copy, [error], workers=2)
    assert (type(back), str(back), back.exit_code) == (InputError, str(error), 3)


def test_no_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="workers=0"):
        list(map_ordered(abs, [1], workers=0))

"""The line in front of the sandbox: how many wait, and that who leaves does not let others past it."""

import asyncio
import threading

import pytest

from codegemma.serve.bench import _MAX_WAITING, Bench, BusyError


def test_a_program_takes_its_place_until_it_ends_though_its_asker_has_left():
    async def whole() -> None:
        bench, has_begun, goes_on = Bench(), threading.Semaphore(0), threading.Event()

        def work() -> None:
            has_begun.release()
            goes_on.wait()

        asked = [asyncio.create_task(bench._take(work)) for _ in range(_MAX_WAITING)]
        await asyncio.sleep(0)
        for _ in asked:
            has_begun.acquire()
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        with pytest.raises(BusyError, match="are waiting to be run"):
            await bench._take(work)
        goes_on.set()
        bench._threads.shutdown(wait=True)
        assert bench._places.acquire(blocking=False)

    asyncio.run(whole())

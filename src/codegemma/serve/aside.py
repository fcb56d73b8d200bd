"""Runs what may take minutes beside the event loop, in a thread that nobody waits for when the process ends.

**In**: a function.
**Out**: what it returns or raises.
**Not**: an end to it: what nobody waits for any more goes on until it is done, or the process is.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


async def run_aside(function: Callable[[], T]) -> T:
    """Run a function; unlike those of `asyncio.to_thread`, its thread does not hold up the end of the loop."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def tell(take: Callable[[Any], None], told: Any) -> None:
        if not result.done():  # nobody waits any more
            take(told)

    def run() -> None:
        try:
            telling = partial(tell, result.set_result, function())
        except BaseException as error:
            telling = partial(tell, result.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(telling)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return await result

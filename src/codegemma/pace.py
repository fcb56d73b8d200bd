"""Spaces what many threads ask one server, and lets all of them rest while it wants peace.

**In**: how many tries a second are allowed; what the server says of rest.
**Out**: `Pace`: waits for a turn, and a count of what went wrong.
**Not**: how many requests are under way at once: that is a number of threads.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable


class Pace:
    """So many tries a second over all threads.

    >>> pace = Pace(requests_per_s=2.0, clock=lambda: 10.0, wait=lambda seconds: None)
    >>> pace.find_delay_s(), pace.find_delay_s()
    (0.0, 0.5)
    """

    def __init__(
        self,
        requests_per_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Allow so many tries a second, without a limit by default.

        Raises:
            ValueError: not above 0.
        """
        if requests_per_s is not None and not requests_per_s > 0:
            raise ValueError(f"requests_per_s is above 0, got {requests_per_s}")
        self._interval_s = 0.0 if requests_per_s is None else 1 / requests_per_s
        self._clock, self._wait = clock, wait
        self._lock = threading.Lock()
        self._next_s = self._held_s = float("-inf")
        self.failures: Counter[str] = Counter()

    def await_turn(self) -> None:
        """Wait until this thread may ask."""
        while (delay_s := self.find_delay_s()) > 0:
            self._wait(delay_s)

    def find_delay_s(self) -> float:
        """Take a turn that is free now, and give 0; or tell in how many seconds to look again."""
        with self._lock:
            now = self._clock()
            delay_s = max(self._next_s, self._held_s) - now
            if delay_s > 0:
                return delay_s
            self._next_s = now + self._interval_s
            return 0.0

    def hold(self, seconds: float) -> None:
        """Let nobody ask for so long."""
        with self._lock:
            self._held_s = max(self._held_s, self._clock() + seconds)

    def count(self, failure: str) -> None:
        """Count a try that brought no answer: a status such as `429`, or what the network said."""
        with self._lock:
            self.failures[failure] += 1

"""Reads the deltas of one generation from the thread that computes them.

**In**: a queue of deltas, or of the error that ended them.
**Out**: `Stream`, a `records.CompletionStream`.
**Not**: work: closing only tells the engine. An engine does not hold its streams, so one that nobody reads any more
is closed.
"""

from collections.abc import Callable

from codegemma.engine.job import Told
from codegemma.records import CompletionDelta


class Stream:
    """Deltas in the order they were told; ends when every choice has, or when it is closed."""

    def __init__(self, told: Told, choices: int, on_close: Callable[[], None]) -> None:
        """Expect so many choices; `on_close` is called once, if the reader leaves before the end."""
        self._told = told
        self._open_choices = choices
        self._is_closed = False
        self._on_close = on_close

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> CompletionDelta:
        if self._is_closed or not self._open_choices:
            raise StopIteration
        delta = self._told.get()
        if delta is None:
            raise StopIteration
        if isinstance(delta, BaseException):
            self._open_choices = 0
            raise delta
        self._open_choices -= delta.stop_reason is not None
        return delta

    def close(self) -> None:
        """Cancel, unless all is told; a reader that waits in another thread is woken."""
        if not self._is_closed and self._open_choices:
            self._is_closed = True
            self._on_close()
            self._told.put(None)

    def __del__(self) -> None:
        self.close()

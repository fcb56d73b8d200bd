"""Reads an engine's stream in a thread and tells it to everybody who asked the same; cancelled when the last has left.

**In**: a `Generator` and a `Generation`.
**Out**: `Relay.listen`, an asynchronous iterator of deltas from the first on, for any number of listeners.
**Not**: what the deltas mean.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor

from codegemma.records import CompletionDelta, CompletionStream, Generation, Generator


class Relay:
    """One generation under way. All methods are called on the event loop's thread."""

    def __init__(self, generator: Generator, generation: Generation, pool: Executor) -> None:
        self._loop = asyncio.get_running_loop()
        self._deltas: list[CompletionDelta] = []
        self._changed = self._loop.create_future()
        self._error: BaseException | None = None
        self._stream: CompletionStream | None = None
        self._listeners = 0
        self.is_done = self.is_closed = False
        pool.submit(self._read, generator, generation)

    async def listen(self) -> AsyncGenerator[CompletionDelta, None]:
        """Yield every delta. Leaving early cancels the generation if nobody else listens.

        Raises:
            InputError: the engine refused the generation.
        """
        self._listeners += 1
        told = 0
        try:
            while True:
                while told < len(self._deltas):
                    told += 1
                    yield self._deltas[told - 1]
                if self._error is not None:
                    raise self._error
                if self.is_done:
                    return
                await asyncio.shield(self._changed)
        finally:
            self._listeners -= 1
            if not self._listeners:
                self.close()

    def close(self) -> None:
        """Cancel what is not done."""
        self.is_closed = True
        if self._stream is not None and not self.is_done:
            self._stream.close()

    def _read(self, generator: Generator, generation: Generation) -> None:
        """In a thread of its own: the engine's stream blocks until something is there."""
        try:
            stream = generator.generate(generation)
            self._call(self._take_stream, stream)
            for delta in stream:
                self._call(self._take, delta)
            self._call(self._end, None)
        except BaseException as error:
            self._call(self._end, error)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _take_stream(self, stream: CompletionStream) -> None:
        self._stream = stream
        if self.is_closed:
            stream.close()

    def _take(self, delta: CompletionDelta) -> None:
        self._deltas.append(delta)
        self._wake()

    def _end(self, error: BaseException | None) -> None:
        self.is_done, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, self._loop.create_future()
        changed.set_result(None)

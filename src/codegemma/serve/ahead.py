"""Does what helps the next request while nobody asks: writes what would come after an acceptance, reads a wider prompt.

**In**: deeds, in order.
**Out**: what they leave behind: answers, prompts that were read; cancelled by any request.
**Not**: guesses at anything but whole acceptance.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from codegemma.errors import UserError
from codegemma.serve.writing import Writer

# Nothing else came for so long. Writing gives way at a token; reading at the end of a part, for which whoever types on
# would wait a second on a slow machine.
WRITE_AFTER_S, READ_AFTER_S = 0.05, 1.5

Deed = Callable[[], Awaitable[None]]


class Ahead:
    """At most one thing is done ahead at a time."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Make way."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def start(self, *deeds: tuple[float, Deed]) -> None:
        """Do one after the other, each once it has been quiet for its seconds."""
        self.cancel()
        self._task = asyncio.create_task(self._do(deeds))

    async def _do(self, deeds: tuple[tuple[float, Deed], ...]) -> None:
        for quiet_s, deed in deeds:
            await asyncio.sleep(quiet_s)
            if self._writer.running:
                return
            with contextlib.suppress(UserError):  # nobody asked for it; who asks for the same is told
                await deed()

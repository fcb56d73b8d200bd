"""Writes what would come after an answer is accepted, while nobody asks for anything else.

**In**: a session whose answer was just shown.
**Out**: an answer that is there when the editor asks for it; cancelled by any request.
**Not**: guesses at anything but whole acceptance.
"""

import asyncio
import contextlib
from collections.abc import Callable

from codegemma.records import Generation, StopRules
from codegemma.serve.answers import Answers, make_answer
from codegemma.serve.asks import Report, Wishes
from codegemma.serve.writing import Writer

# Nothing else came for so long.
_IDLE_S = 0.05


class Ahead:
    """At most one answer is written ahead at a time."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Make way."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def start(
        self, make: Callable[[], tuple[Generation, StopRules, str]], suffix: str, wishes: Wishes, answers: Answers
    ) -> None:
        """Begin once it is quiet; `make` lays out the prompt then, and tells the text that it continues."""
        self.cancel()
        self._task = asyncio.create_task(self._write(make, suffix, wishes, answers))

    async def _write(
        self, make: Callable[[], tuple[Generation, StopRules, str]], suffix: str, wishes: Wishes, answers: Answers
    ) -> None:
        await asyncio.sleep(_IDLE_S)
        if self._writer.running:
            return
        generation, rules, text = make()
        written = ""
        stream = self._writer.write(generation, rules, Report(), wishes.least_indent)
        async with contextlib.aclosing(stream):
            async for piece in stream:
                written += piece.text
                if piece.report is not None and piece.report.is_whole:
                    reason = piece.report.stop_reason
                    answers.add(make_answer(text, suffix, wishes, [written], [reason], is_prepared=True))

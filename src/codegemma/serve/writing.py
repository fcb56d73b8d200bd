"""Has the engine write one generation for everybody who asked the same, trimmed and reported.

**In**: a `Generation`, the rules that end it, and what is known of its prompt.
**Out**: `Piece`s; the last of each choice has the `Report`.
**Not**: prompts and sessions (`service.py`).
"""

import contextlib
import itertools
import secrets
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

from codegemma.records import CompletionDelta, Generation, Generator, StopReason, StopRules, Usage
from codegemma.serve.asks import Piece, Report
from codegemma.serve.relay import Relay
from codegemma.serve.speed import SpeedMeter
from codegemma.serve.trim import Trimmer

# More streams at once than any engine has slots; the rest waits in line.
_MAX_THREADS = 256
_COUNTS = tuple(field.name for field in fields(Usage))


class Writer:
    """The engine, as the service sees it."""

    def __init__(self, generator: Generator, speed: SpeedMeter) -> None:
        self._generator, self._speed = generator, speed
        self._relays: dict[Generation, Relay] = {}
        self._pool = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="engine-stream")
        self._start_name = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    @property
    def running(self) -> int:
        """How many generations are under way."""
        return len(self._relays)

    def name_answer(self) -> str:
        """Name an answer, for events about it."""
        return f"{self._start_name}-{next(self._numbers)}"

    def close(self) -> None:
        """Cancel what runs."""
        for relay in list(self._relays.values()):
            relay.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def write(
        self, generation: Generation, rules: StopRules, base: Report, least_indent: int = 0
    ) -> AsyncGenerator[Piece, None]:
        """Write, and cancel when the iterator is closed before its end and nobody else listens.

        Raises:
            InputError: the engine refused the generation; nothing was yielded then.
        """
        relay = self._relays.get(generation)
        is_shared = relay is not None and not relay.is_closed
        if relay is None or relay.is_closed:
            relay = self._relays[generation] = Relay(self._generator, generation, self._pool)
        base = replace(base, answer_id=self.name_answer(), source="shared" if is_shared else "engine")
        trimmers = {choice: Trimmer(rules, least_indent) for choice in range(generation.choices)}
        try:
            async with contextlib.aclosing(relay.listen()) as deltas:
                async for delta in deltas:
                    trimmer = trimmers.get(delta.choice)
                    if trimmer is None:
                        continue  # trimmed to its end before
                    text, reason = _trim(trimmer, delta)
                    report = None
                    if reason is not None:
                        del trimmers[delta.choice]
                        report = self._fill_report(base, reason, delta.usage)
                    if text or delta.token_ids or report is not None:
                        yield Piece(text, delta.choice, delta.token_ids, delta.logprobs, report)
                    if not trimmers:
                        return
        finally:
            if self._relays.get(generation) is relay and (relay.is_done or relay.is_closed):
                del self._relays[generation]

    def _fill_report(self, base: Report, reason: StopReason, usage: Usage | None) -> Report:
        if usage is None:
            return replace(base, stop_reason=reason, prompt_tokens=sum(tokens for _, tokens in base.parts))
        if base.source == "engine":
            self._speed.take(usage)
        return replace(base, stop_reason=reason, **{name: getattr(usage, name) for name in _COUNTS})


def _trim(trimmer: Trimmer, delta: CompletionDelta) -> tuple[str, StopReason | None]:
    told = trimmer.feed(delta.text)
    if told.stop_reason is not None or delta.stop_reason is None:
        return told.text, told.stop_reason
    rest = trimmer.finish()
    return told.text + rest.text, rest.stop_reason or delta.stop_reason

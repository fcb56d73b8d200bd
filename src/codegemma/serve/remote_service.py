"""A service in another process, as an editor's language server asks it: one model for many editors.

**In**: the address of a `codegemma serve`, and asks.
**Out**: `RemoteService`, which answers and counts as a `Service` does, through `/infill` and `/v1/events`.
**Not**: other servers: the reply's `why`, by which answers are named, is ours. A request whose asker leaves is cut off,
by which the server cancels it.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from codegemma.records import StopReason
from codegemma.serve.asks import Caller, InfillAsk, Piece, Report
from codegemma.wire import Cut, ServerError, Wire

_TIMEOUT_S: Final = 60.0
_WAIT_S: Final = 0.5
_FOR_EVER: Final = 10**9


class RemoteService:
    """One server."""

    def __init__(self, address: str, api_key: str | None = None) -> None:
        """Take the server's address; nothing is asked yet.

        Raises:
            InputError: no address.
        """
        self._is_closed = threading.Event()
        # A keystroke is not asked again: the next one is there by then.
        self._wire = Wire(address, api_key=api_key, timeout_s=_TIMEOUT_S, tries=1)
        self._patient = Wire(address, api_key=api_key, timeout_s=_TIMEOUT_S, tries=_FOR_EVER, wait=self._rest)
        self.address, self.model_name = address, ""
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="remote-service")
        self.metrics = _RemoteMetrics(self)

    async def warm_up(self) -> None:
        """Wait until the server has loaded its model, and learn its name.

        Raises:
            ServerError: nobody answers.
        """
        self.model_name = str((await self._ask(self._patient, "/v1/health", None)).get("model", ""))

    async def infill(self, ask: InfillAsk, caller: Caller) -> AsyncGenerator[Piece, None]:  # noqa: ARG002
        """Complete at a cursor, in one piece.

        Raises:
            ServerError: no answer, or no good one.
        """
        reply = await self._ask(self._wire, "/infill", _spell(ask))
        try:
            yield _read_piece(reply)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServerError(f"{self.address} is no codegemma serve: its reply lacks {error}") from error

    def tell(self, event: Mapping[str, Any]) -> None:
        """Tell the server of an event; whether it hears is its own affair."""
        with contextlib.suppress(RuntimeError):  # closed
            self._pool.submit(self._tell_now, event)

    def close(self) -> None:
        """Ask no more; events that wait are told."""
        self._is_closed.set()
        self._pool.shutdown(wait=True)

    def _tell_now(self, event: Mapping[str, Any]) -> None:
        with contextlib.suppress(ServerError):  # an empty reply, which is no JSON, among them
            self._wire.ask("/v1/events", event)

    def _rest(self, _: float) -> None:
        if self._is_closed.wait(_WAIT_S):
            raise ServerError(f"{self.address} is not asked any more")

    async def _ask(self, wire: Wire, route: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        cut = Cut()
        loop = asyncio.get_running_loop()
        try:
            reply = await loop.run_in_executor(self._pool, lambda: wire.ask(route, body, is_first=True, cut=cut))
        finally:
            cut.make()  # closing alone would not wake a thread that waits
        if not isinstance(reply, dict):
            raise ServerError(f"{self.address} is no codegemma serve: it answers with no object")
        return reply


class _RemoteMetrics:
    """Counts nothing itself: the server does, and its `/metrics` tells."""

    _NAMES: Final = {"shown": "view", "accepted": "select", "dismissed": "dismiss", "retained": "retained"}

    def __init__(self, service: RemoteService) -> None:
        self._service = service

    def count_event(self, event: str, answer_id: str, chars: int | None = None) -> bool:
        """Tell the server; true, for nobody waits for what it says."""
        counted = {} if chars is None else {"characters": chars}
        self._service.tell({"type": self._NAMES[event], "completion_id": answer_id, **counted})
        return True

    def render(self) -> bytes:
        """Say where the counters are."""
        return f"# {self._service.address}/metrics\n".encode()


def _spell(ask: InfillAsk) -> dict[str, Any]:
    wishes = ask.wishes
    budgets = {"t_max_prompt_ms": wishes.prompt_budget_s, "t_max_predict_ms": wishes.new_budget_s}
    known = {"path": ask.path, "language": ask.language}
    return {
        "input_prefix": ask.prefix,
        "input_suffix": ask.suffix,
        "input_extra": [{"filename": neighbor.path, "text": neighbor.text} for neighbor in ask.context],
        "n_predict": wishes.max_new_tokens,
        **{name: value for name, value in known.items() if value is not None},
        **{name: seconds * 1000 for name, seconds in budgets.items() if seconds is not None},
    }


def _read_piece(reply: Mapping[str, Any]) -> Piece:
    why = reply["why"]
    report = Report(
        int(reply["tokens_evaluated"]),
        answer_id=str(why["answer_id"]),
        stop_reason=StopReason(why["stop_reason"]),
        source=str(why["source"]),
        place=str(why["place"]),
        mode=str(why["mode"]),
        parts=tuple(why["parts"].items()),
        neighbors=tuple(why["neighbors"]),
        dropped=tuple(why["dropped"]),
        model=str(reply["model"]),
    )
    return Piece(str(reply["content"]), report=report)

"""A service in another process, as an editor's language server asks it: one model for many editors.

**In**: the address of a `codegemma serve`, and asks.
**Out**: `RemoteService`, which answers and counts as a `Service` does, through `/infill` and `/v1/events`.
**Not**: other servers: the reply's `why`, by which answers are named, is ours. A request whose asker leaves is cut off,
by which the server cancels it.
"""

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from codegemma.errors import UserError
from codegemma.records import StopReason
from codegemma.serve.asks import Caller, InfillAsk, Piece, Report
from codegemma.wire import read_address

_TIMEOUT_S: Final = 60.0
_LOADING: Final = 503
_WAIT_S: Final = 0.5
_MAX_REPLY_BYTES: Final = 16_000_000


class ServerAwayError(UserError):
    """The server does not answer, or not with what was asked for."""

    exit_code = 3


class RemoteService:
    """One server."""

    def __init__(self, address: str, api_key: str | None = None) -> None:
        """Take the server's address; nothing is asked yet.

        Raises:
            InputError: no address.
        """
        place = read_address(address)
        self._kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._root = place.host, place.port, place.root
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self.address, self.model_name = address, ""
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="remote-service")
        self.metrics = _RemoteMetrics(self)

    async def warm_up(self) -> None:
        """Wait until the server has loaded its model, and learn its name.

        Raises:
            ServerAwayError: nobody answers.
        """
        while (reply := await self._ask("/v1/health", None))[0] == _LOADING:
            await asyncio.sleep(_WAIT_S)
        self.model_name = str(self._read(*reply).get("model", ""))

    async def infill(self, ask: InfillAsk, caller: Caller) -> AsyncGenerator[Piece, None]:  # noqa: ARG002
        """Complete at a cursor, in one piece.

        Raises:
            ServerAwayError: no answer, or no good one.
        """
        reply = self._read(*await self._ask("/infill", _spell(ask)))
        try:
            yield _read_piece(reply)
        except (KeyError, TypeError, ValueError) as error:
            raise ServerAwayError(f"{self.address} is no codegemma serve: its reply lacks {error}") from error

    def tell(self, event: Mapping[str, Any]) -> None:
        """Tell the server of an event; whether it hears is its own affair."""
        with contextlib.suppress(RuntimeError):  # closed
            self._pool.submit(self._tell_now, event)

    def close(self) -> None:
        """Ask no more; events that wait are told."""
        self._pool.shutdown(wait=True)

    def _tell_now(self, event: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._exchange(self._connect(), "/v1/events", event)

    def _connect(self) -> http.client.HTTPConnection:
        return self._kind(self._host, self._port, timeout=_TIMEOUT_S)

    async def _ask(self, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        connection = self._connect()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, self._exchange, connection, path, body)
        except (OSError, http.client.HTTPException) as error:
            raise ServerAwayError(f"no server answers at {self.address} ({error}); is codegemma serve up?") from error
        finally:
            _cut(connection)

    def _exchange(
        self, connection: http.client.HTTPConnection, path: str, body: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request("GET" if body is None else "POST", self._root + path, content, self._headers)
            reply = connection.getresponse()
            return reply.status, reply.read(_MAX_REPLY_BYTES)
        finally:
            connection.close()

    def _read(self, status: int, content: bytes) -> dict[str, Any]:
        try:
            reply = json.loads(content)
        except ValueError:
            reply = None
        if status != http.client.OK or not isinstance(reply, dict):
            raise ServerAwayError(f"{self.address} answers {status}: {content[:200].decode('utf-8', 'replace')}")
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


def _cut(connection: http.client.HTTPConnection) -> None:
    """Cut a connection on which a thread may still wait: closing alone would not wake it."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)

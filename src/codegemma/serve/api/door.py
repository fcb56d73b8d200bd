"""What every door is made of: a route with its declared fields, and how replies and streams are spelled.

**In**: a protocol's own handler.
**Out**: `Door`, and compact JSON, server-sent events and lines of JSON that editors' hand-written parsers read.
**Not**: keys, limits and the loading state (`app.py`).

Traps that the spelling avoids: llama.vim finds `"content":"` only without a space; twinny splits events at `data:`, so
that inside a string it is escaped; Continue ends a buffer at a comment `: ping`, so none is sent.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from codegemma.serve.api.fields import Schema
from codegemma.serve.asks import Caller, Piece

if TYPE_CHECKING:
    from codegemma.serve.service import Service

_END = object()
_NO_STORE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

ErrorShape = Callable[[int, str], Mapping[str, Any]]
Pieces = AsyncGenerator[Piece, None]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that passed the checks: its fields, who sends it, and the service behind all doors."""

    service: "Service"
    caller: Caller
    fields: Mapping[str, Any]
    request: Request


@dataclass(frozen=True, slots=True)
class Door:
    """One route of one protocol. An open one needs no key; one that needs no model answers while it is loaded, and
    must not touch the exchange's service."""

    method: str
    path: str
    answer: Callable[[Exchange], Awaitable[Response]]
    summary: str
    shape: ErrorShape
    fields: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    is_open: bool = False
    statuses: tuple[int, ...] = (200,)
    needs_model: bool = True


def spell_json(value: Any) -> bytes:
    """Spell compact JSON on one line, with no `data:` inside it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("data:", "data\\u003a").encode("utf-8", "replace")


def reply(value: Any, status: int = 200) -> Response:
    """Reply with JSON."""
    return Response(spell_json(value), status, media_type="application/json")


async def reply_events(request: Request, values: AsyncGenerator[Any, None], last: str | None = "[DONE]") -> Response:
    """Reply with server-sent events, once the first is there: an engine's refusal still gets its own status."""
    stream = await _start(request, values)
    return _Stream(_spell_events(stream, last), media_type="text/event-stream", headers=_NO_STORE)


async def reply_lines(request: Request, values: AsyncGenerator[Any, None]) -> Response:
    """Reply with one JSON value a line."""
    stream = await _start(request, values)
    return _Stream(_spell_lines(stream), media_type="application/x-ndjson", headers=_NO_STORE)


class _Stream(StreamingResponse):
    """A streamed reply whose source is closed at once when the client leaves."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with contextlib.suppress(RuntimeError):
                await self.body_iterator.aclose()  # type: ignore[attr-defined]


async def _spell_events(values: AsyncGenerator[Any, None], last: str | None) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(values):
        async for value in values:
            yield b"data: " + spell_json(value) + b"\n\n"
    if last is not None:
        yield f"data: {last}\n\n".encode()


async def _spell_lines(values: AsyncGenerator[Any, None]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(values):
        async for value in values:
            yield spell_json(value) + b"\n"


async def _start(request: Request, values: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """Wait for the first value, or for the client to leave."""
    first = await wait_while_there(request, anext(values, _END))

    async def chain() -> AsyncGenerator[Any, None]:
        async with contextlib.aclosing(values):
            if first is not _END:
                yield first
                async for value in values:
                    yield value

    return chain()


async def wait_while_there(request: Request, work: Awaitable[Any]) -> Any:
    """Await work, and give it up when the client leaves.

    Raises:
        ClientDisconnect: nobody is there to be answered.
    """
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_wait_until_gone(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for other in (task, leaving):
            if not other.done():
                other.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@dataclass(slots=True)
class Whole:
    """A choice with all its pieces put together."""

    text: str
    pieces: list[Piece]

    @property
    def last(self) -> Any:
        """The report."""
        return self.pieces[-1].report


async def collect(exchange: Exchange, pieces: Pieces, choices: int = 1) -> list[Whole]:
    """Read an answer to its end, unless the client leaves before."""

    async def read() -> list[Whole]:
        wholes = [Whole("", []) for _ in range(choices)]
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                wholes[piece.choice].pieces.append(piece)
        for whole in wholes:
            whole.text = "".join(piece.text for piece in whole.pieces)
        return wholes

    wholes: list[Whole] = await wait_while_there(exchange.request, read())
    return wholes

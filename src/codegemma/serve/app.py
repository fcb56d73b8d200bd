"""The server's application: every door behind the same checks of keys, sizes, times and fields.

**In**: a `Service`, or the wait for one; doors; keys.
**Out**: an ASGI application. While the model is loaded every door answers 503 in its own shape.
**Not**: sockets (`server.py`). CORS stays closed: no header allows another origin, and a foreign `Origin` is refused.
"""

import asyncio
import ipaddress
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from codegemma.errors import UserError
from codegemma.serve.api.door import Door, Exchange, reply
from codegemma.serve.api.fields import parse_json, read_fields
from codegemma.serve.api.openai import shape_error as shape_default
from codegemma.serve.asks import Caller
from codegemma.serve.choices import ServeChoices
from codegemma.serve.keys import KeyRing, TooManyRequestsError
from codegemma.serve.service import Service

# Larger bodies are read in a thread, so that nobody else waits for it.
_LARGE_BODY_BYTES = 2**18
# A body so many times too long is not even heard to its end.
_HEARD_SHARE = 8
_GONE = Response(status_code=499)


class RefusalError(Exception):
    """A request that is not answered, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gate:
    """What every request passes before its door answers."""

    def __init__(self, choices: ServeChoices, keys: KeyRing) -> None:
        self.choices, self.keys = choices, keys
        self.service: Service | None = None
        self.doing = ""  # what the start is at

    async def answer(self, door: Door, request: Request) -> Response:
        """Check a request and have its door answer; every error is spelled in the door's shape."""
        started = time.perf_counter()
        try:
            response = await self._answer_checked(door, request)
        except RefusalError as refusal:
            response = reply(door.shape(refusal.status, str(refusal)), refusal.status)
        except UserError as error:  # a field is wrong, or the engine refused it
            response = reply(door.shape(400, str(error)), 400)
        except ClientDisconnect:
            response = _GONE
        if self.service is not None:
            self.service.metrics.count_reply(door.path, response.status_code, started)
        return response

    async def _answer_checked(self, door: Door, request: Request) -> Response:
        check_origin(request)
        if not self.keys.is_needed:
            check_host(request)
        caller = self._check_key(door, request)
        body = await self._read_body(request) if door.method == "POST" else b""
        if self.service is None and door.needs_model:
            raise RefusalError(503, "Loading model" + (f": {self.doing}" if self.doing else ""))
        fields: Mapping[str, Any] = {}
        if door.fields:
            parsed = await asyncio.to_thread(parse_json, body) if len(body) > _LARGE_BODY_BYTES else parse_json(body)
            fields = read_fields(parsed, door.fields, door.required)
        return await door.answer(Exchange(cast(Service, self.service), caller, fields, request))

    def _check_key(self, door: Door, request: Request) -> Caller:
        host = request.client.host if request.client else ""
        if door.is_open or not self.keys.is_needed:
            return Caller("", host, door.path)
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if kind.lower() == "bearer" else request.headers.get("x-api-key", "")
        try:
            name = self.keys.find(token)
        except TooManyRequestsError as error:
            raise RefusalError(429, str(error)) from error
        if name is None:
            raise RefusalError(401, "a valid API key is needed: send Authorization: Bearer KEY")
        return Caller(name, host, door.path)

    async def _read_body(self, request: Request) -> bytes:
        """Read a body. What is too long is read on and dropped, for a client that still sends hears no answer."""
        most, size = self.choices.max_body_bytes, 0
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(self.choices.body_timeout_s):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size <= most:
                        chunks.append(chunk)
                    elif size > most * _HEARD_SHARE:
                        break
        except TimeoutError as error:
            raise RefusalError(408, f"the body did not come within {self.choices.body_timeout_s:g} s") from error
        if size > most:
            raise RefusalError(413, f"the body is too long; at most {most} bytes are read")
        return b"".join(chunks)


def check_origin(request: Request) -> None:
    """Refuse what a web page of another origin sends: a browser would let it reach a server on loopback.

    Raises:
        RefusalError: it is one's.
    """
    origin = request.headers.get("origin")
    if not origin:
        return
    scheme, netloc, _ = _split(origin)
    is_page = origin == "null" or scheme.startswith("http") or not scheme
    if is_page and netloc != request.headers.get("host"):
        raise RefusalError(403, "requests of web pages are not answered")


def check_host(request: Request) -> None:
    """Refuse a page whose name was made to mean this machine: a server without keys is asked by names of loopback.

    Raises:
        RefusalError: it was asked by another name.
    """
    host = request.headers.get("host", "")
    if host and not is_loopback(_split(f"//{host}")[2]):
        raise RefusalError(403, "without keys, only requests to a loopback address are answered")


def _split(address: str) -> tuple[str, str, str]:
    """Take an address apart into scheme, place and host; of one that is none, nothing is left."""
    try:
        parts = urlsplit(address)
        return parts.scheme, parts.netloc, parts.hostname or ""
    except ValueError:
        return "", "", ""


def is_loopback(host: str) -> bool:
    """Say whether an address is reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("::1")
    (True, True, False, True)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_app(gate: Gate, doors: Sequence[Door]) -> Starlette:
    """Build the application; one path may be answered by several doors, one for each method."""
    routes = [Route(door.path, _make_endpoint(gate, door), methods=[door.method]) for door in doors]
    return Starlette(routes=routes, exception_handlers={HTTPException: _spell_http_error, Exception: _spell_failure})


def _make_endpoint(gate: Gate, door: Door) -> Any:
    async def endpoint(request: Request) -> Response:
        return await gate.answer(door, request)

    return endpoint


async def _spell_http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = {404: f"no route {request.url.path}", 405: f"{request.method} is not allowed here"}
    headers = getattr(error, "headers", None)
    response = reply(shape_default(status, what.get(status, str(error))), status)
    response.headers.update(headers or {})
    return response


async def _spell_failure(_: Request, error: Exception) -> Response:
    with suppress(Exception):
        return reply(shape_default(500, f"a defect of the server: {type(error).__name__}"), 500)
    return Response(status_code=500)

"""Asks a server over HTTP and tries again where that may help: JSON out, JSON in, whole or as a stream of events.

**In**: a route and a body.
**Out**: the reply, or one clear error.
**Not**: a dependency: the standard library is enough, with a thread for each request under way. A stream is not tried
again: part of it was read already.

A thread that waits for a reply cannot be told to stop; another thread can cut its connection by a `Cut`, by which the
server learns that nobody waits.
"""

import contextlib
import json
import random
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from codegemma.errors import InputError, UserError
from codegemma.pace import Pace

# A server that loads, is full or behind a restarting proxy; other errors do not go away.
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
# No other question of ours would fare better.
_WHOEVER_ASKS: Final = frozenset({401, 403})
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0
# What a server may wish for itself.
_LONGEST_WISH_S: Final = 600.0
_MAX_REPLY_BYTES: Final = 64_000_000
_SHOWN_CHARS: Final = 300


class ServerError(UserError):
    """A server does not answer, or not in the form that it should. `status` is set where it refused."""

    exit_code = 3

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def refuses_question(self) -> bool:
        """Tell whether what was asked is refused, so that another question may be answered."""
        return self.status is not None and self.status not in _WHOEVER_ASKS


class Cut:
    """Ends the question that it is given to, from another thread; a second time or too late does nothing."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.is_made = False

    def make(self) -> None:
        """Cut the connection, and let no other be made."""
        self.is_made = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed already
                self._socket.shutdown(socket.SHUT_RDWR)

    def watch(self, connected: socket.socket) -> None:
        """Know the connection that is to be cut."""
        self._socket = connected
        if self.is_made:
            self.make()


class _Request(urllib.request.Request):
    cut: Cut | None = None


def _watch(kind: Any, cut: Cut | None) -> Any:
    """Make a kind of connection whose cut knows its socket."""

    class Watched(kind):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            if cut is not None:
                cut.watch(self.sock)

    return Watched


class _Http(urllib.request.HTTPHandler):
    def do_open(self, http_class: Any, req: Any, **more: Any) -> Any:
        return super().do_open(_watch(http_class, req.cut), req, **more)


class _Https(urllib.request.HTTPSHandler):
    def do_open(self, http_class: Any, req: Any, **more: Any) -> Any:
        return super().do_open(_watch(http_class, req.cut), req, **more)


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: the key is for this server alone."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Wire:
    """One server."""

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        tries: int = 6,
        wait: Callable[[float], None] = time.sleep,
        pace: Pace | None = None,
    ) -> None:
        """Take the server's address, with or without `/v1`. Tries keep to the `pace`, which counts those that failed.

        Raises:
            InputError: no address, or a key that no header may hold.
        """
        host = _find_host(address)
        # What runs on this machine is not asked for by way of another.
        direct = [urllib.request.ProxyHandler({})] if host in ("localhost", "::1") or host.startswith("127.") else []
        self._opener = urllib.request.build_opener(_Stay(), _Http(), _Https(), *direct)
        api_key = (api_key or "").strip()
        if not (api_key.isascii() and api_key.isprintable()):
            raise InputError("the key holds characters that no header may; is it the right file?")
        self.address = address.rstrip("/").removesuffix("/v1")
        self._headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {api_key}"} if api_key else {}
        )
        self._timeout_s, self._tries, self._wait = timeout_s, tries, wait
        self._pace = pace or Pace()

    def ask(
        self, route: str, body: Mapping[str, Any] | None = None, *, is_first: bool = False, cut: Cut | None = None
    ) -> Any:
        """Ask, and ask again after a while where the server was busy or did not answer in time.

        At the first question of all a server that is not there is not waited for; after a cut nothing is.

        Raises:
            ServerError: refused, or no answer at the last try.
        """
        found: Exception | str = ""
        for number in range(self._tries):
            self._pace.await_turn()
            wish_s = None
            try:
                return self._ask_once(route, body, cut)
            except urllib.error.HTTPError as error:
                found, wish_s = f"{error.code} {_read_message(error)}", _read_retry_after(error)
                self._pace.count(str(error.code))
                if error.code not in _PASSING:
                    raise ServerError(f"{self.address}{route} refused: {found}", error.code) from error
            except (OSError, HTTPException) as error:  # refused, reset, cut off or too slow
                found = error
                self._pace.count(_name_failure(error))
                if is_first and isinstance(getattr(error, "reason", error), (ConnectionRefusedError, socket.gaierror)):
                    raise ServerError(f"{self.address} does not answer ({error}); is the server up?") from error
            if cut is not None and cut.is_made:
                raise ServerError(f"{self.address}{route} was cut off")
            if number + 1 < self._tries:
                self._rest(number, wish_s)
        tries = "1 try" if self._tries == 1 else f"{self._tries} tries"
        raise ServerError(f"{self.address}{route} gave no answer in {tries} ({found}); is the server up?")

    def stream(self, route: str, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Ask once for events that the server sends as they come; closing the iterator closes the connection.

        Raises:
            ServerError: it is not there, refuses, breaks off, or sends what is no JSON.
        """
        try:
            with self._open(route, body) as reply:
                for line in reply:
                    kind, _, value = line.decode("utf-8", "replace").partition(":")
                    if kind == "data" and value.strip() and value.strip() != "[DONE]":
                        yield self._read_event(value.strip())
        except urllib.error.HTTPError as error:
            raise ServerError(f"{self.address} refused: {error.code} {_read_message(error)}", error.code) from error
        except (OSError, HTTPException) as error:
            raise ServerError(f"{self.address} does not answer ({error}); is `codegemma serve` running?") from error

    def _read_event(self, value: str) -> dict[str, Any]:
        try:
            event = json.loads(value)
        except ValueError as error:
            raise ServerError(f"{self.address} streams what is no JSON: {value[:80]!r}") from error
        if not isinstance(event, dict):
            return {}
        if "error" in event:
            raise ServerError(f"{self.address} broke off: {_find_message(event)}")
        return event

    def _rest(self, number: int, wish_s: float | None) -> None:
        """Wait before the next try: as long as the server wishes, and then nobody else asks either; or ever longer."""
        if wish_s is not None:
            self._pace.hold(wish_s)
        self._wait(wish_s or min(_FIRST_WAIT_S * 2**number * (1 + random.random() / 4), _LONGEST_WAIT_S))

    def _open(self, route: str, body: Mapping[str, Any] | None, cut: Cut | None = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = _Request(self.address + route, content, self._headers)  # the scheme was looked at
        request.cut = cut
        return self._opener.open(request, timeout=self._timeout_s)

    def _ask_once(self, route: str, body: Mapping[str, Any] | None, cut: Cut | None) -> Any:
        with self._open(route, body, cut) as reply:
            content = reply.read(_MAX_REPLY_BYTES + 1)
        if len(content) > _MAX_REPLY_BYTES:
            raise ServerError(f"{self.address}{route} replied with over {_MAX_REPLY_BYTES:,} bytes")
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            self._pace.count("no JSON")
            shown = content[:_SHOWN_CHARS].decode("utf-8", errors="replace")
            raise ServerError(f"{self.address}{route} replied with no JSON: {shown!r}") from error


def _find_host(address: str) -> str:
    """Find whom an address names, once it is seen to be one."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError(f"{address!r} is no address of a server ({error}); wanted http://HOST:PORT") from error
    if parts.scheme not in ("http", "https") or not host or any(map(str.isspace, host)):
        raise InputError(f"{address!r} is no address of a server; wanted http://HOST:PORT")
    return host


def name_server(address: str) -> str:
    """Name the server of an address, whatever the route: what paces itself, paces itself by it.

    >>> name_server("http://GPU:8000/v1") == name_server("http://gpu:8000"), name_server("https://api.example.com")
    (True, 'api.example.com:443')
    """
    try:
        parts = urlsplit(address)
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    except ValueError:
        return address  # whoever asks it is told


def _name_failure(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return "time-out" if isinstance(reason, TimeoutError) else type(reason).__name__


def _read_message(error: urllib.error.HTTPError) -> str:
    """Read what a server says of an error, in whichever of the usual shapes."""
    try:
        content = error.read(_MAX_REPLY_BYTES).decode("utf-8", errors="replace")
    except (OSError, HTTPException):
        return error.reason
    try:
        text = _find_message(json.loads(content))
    except (ValueError, AttributeError):
        text = content
    return text.strip()[:_SHOWN_CHARS] or error.reason


def _find_message(found: Any) -> str:
    error = found.get("error", found)
    return str(error.get("message", error) if isinstance(error, dict) else error)[:_SHOWN_CHARS]


def _read_retry_after(error: urllib.error.HTTPError) -> float | None:
    """Read for how long the server wants peace: seconds, or a date (RFC 9110, section 10.2.3)."""
    value = error.headers.get("Retry-After", "") if error.headers else ""
    try:
        wish_s = (
            float(value) if value.isdecimal() else (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        )
    except (ValueError, TypeError):
        return None
    return min(wish_s, _LONGEST_WISH_S) if wish_s > 0 else None

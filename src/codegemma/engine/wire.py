"""Asks a server over HTTP and tries again where that may help: JSON out, JSON in.

**In**: a route and a body.
**Out**: the reply, or one clear error.
**Not**: streams. The standard library is enough for that: no dependency, and a thread for each request under way.
"""

import json
import random
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, Final

from codegemma.errors import InputError, UserError

# A server that loads, is full or behind a restarting proxy; other errors do not go away.
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0
_MAX_REPLY_BYTES: Final = 64_000_000
_SHOWN_CHARS: Final = 300


class ServerError(UserError):
    """A server does not answer, or not in the form that it should."""

    exit_code = 3


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
    ) -> None:
        """Take the server's address, with or without `/v1`.

        Raises:
            InputError: no address.
        """
        if not address.startswith(("http://", "https://")):
            raise InputError(f"{address!r} is no address of a server; wanted http://HOST:PORT")
        self.address = address.rstrip("/").removesuffix("/v1")
        self._headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {api_key}"} if api_key else {}
        )
        self._timeout_s, self._tries, self._wait = timeout_s, tries, wait

    def ask(self, route: str, body: Mapping[str, Any] | None = None, *, is_first: bool = False) -> Any:
        """Ask, and ask again after a while where the server was busy or did not answer in time.

        At the first question of all a server that is not there is not waited for.

        Raises:
            ServerError: refused, or no answer at the last try.
        """
        found: Exception | str = ""
        for number in range(self._tries):
            try:
                return self._ask_once(route, body)
            except urllib.error.HTTPError as error:
                found = f"{error.code} {_read_message(error)}"
                if error.code not in _PASSING:
                    raise ServerError(f"{self.address}{route} refused: {found}") from error
                wait_s = _read_retry_after(error)
            except (OSError, HTTPException) as error:  # refused, reset, cut off or too slow
                found, wait_s = error, None
                if is_first and isinstance(getattr(error, "reason", error), (ConnectionRefusedError, socket.gaierror)):
                    raise ServerError(f"{self.address} does not answer ({error}); is the server up?") from error
            if number + 1 < self._tries:
                self._wait(min(wait_s or _FIRST_WAIT_S * 2**number * (1 + random.random() / 4), _LONGEST_WAIT_S))
        raise ServerError(f"{self.address}{route} gave no answer in {self._tries} tries ({found}); is the server up?")

    def _ask_once(self, route: str, body: Mapping[str, Any] | None) -> Any:
        request = urllib.request.Request(  # noqa: S310  # the scheme was looked at
            self.address + route, None if body is None else json.dumps(body).encode(), self._headers
        )
        with urllib.request.urlopen(request, timeout=self._timeout_s) as reply:  # noqa: S310
            content = reply.read(_MAX_REPLY_BYTES + 1)
        if len(content) > _MAX_REPLY_BYTES:
            raise ServerError(f"{self.address}{route} replied with over {_MAX_REPLY_BYTES:,} bytes")
        try:
            return json.loads(content)
        except ValueError as error:
            shown = content[:_SHOWN_CHARS].decode("utf-8", errors="replace")
            raise ServerError(f"{self.address}{route} replied with no JSON: {shown!r}") from error


def _read_message(error: urllib.error.HTTPError) -> str:
    """Read what a server says of an error, in whichever of the usual shapes."""
    try:
        content = error.read(_MAX_REPLY_BYTES).decode("utf-8", errors="replace")
    except (OSError, HTTPException):
        return error.reason
    try:
        found = json.loads(content)
        found = found.get("error", found)
        text = str(found.get("message", found) if isinstance(found, dict) else found)
    except (ValueError, AttributeError):
        text = content
    return text.strip()[:_SHOWN_CHARS] or error.reason


def _read_retry_after(error: urllib.error.HTTPError) -> float | None:
    value = error.headers.get("Retry-After", "") if error.headers else ""
    return float(value) if value.isdecimal() and int(value) > 0 else None

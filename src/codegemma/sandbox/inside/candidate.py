"""Runs a program that nobody trusts and lets another box call its functions. `main` gets the number of an open socket.

**In**: the program's text; then calls.
**Out**: the names it defined; then what each call gave or raised.
**Not**: tests. Neither they nor what they expect are ever in this box.
"""

from __future__ import annotations

import os
import sys

from wire import WireError, decode, encode, receive, send  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ModuleType = type(sys)
_MAX_REASON_CHARS = 300


class _Kept:
    """Objects that stay here, by their number."""

    def __init__(self) -> None:
        self._objects: list[Any] = []

    def refer(self, value: Any) -> list[Any]:
        self._objects.append(value)
        return [len(self._objects) - 1, type(value).__name__]

    def look_up(self, reference: Any) -> Any:
        return self._objects[reference[0]]


class _Channel:
    """A socket by its number, without the module that costs more to load than the program to run."""

    def __init__(self, number: int) -> None:
        os.set_inheritable(number, False)
        self._number = number

    def recv(self, size: int) -> bytes:
        return os.read(self._number, size)

    def sendall(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._number, data) :]


def main(number: int) -> None:
    """Run the program, then serve calls until nobody asks any more."""
    channel = _Channel(number)
    sys.set_int_max_str_digits(0)
    kept = _Kept()
    namespace: dict[str, Any] = {"__name__": "candidate"}
    try:
        exec(compile(receive(channel), "candidate.py", "exec"), namespace)  # noqa: S102 (this is what the box is for)
        names = {n: encode(v, kept.refer) for n, v in namespace.items() if _is_told(n, v)}
        send(channel, {"names": names, "modules": [n for n, v in namespace.items() if isinstance(v, ModuleType)]})
    except BaseException as error:
        send(channel, _describe(error))
        return
    while True:
        try:
            request = receive(channel)
        except EOFError:
            return
        try:
            answer = {"value": encode(_do(request, kept), kept.refer)}
        except BaseException as error:
            answer = _describe(error)
        try:
            send(channel, answer)
        except WireError as error:
            send(channel, _describe(error))


def _do(request: Any, kept: _Kept) -> Any:
    act, owner = request["act"], kept.look_up(request["of"])
    arguments = [decode(item, kept.look_up) for item in request.get("arguments", [])]
    if act == "call":
        return owner(*arguments, **{k: decode(v, kept.look_up) for k, v in request.get("named", {}).items()})
    if act == "set":
        return setattr(owner, *arguments)
    return _ACTS[act](owner, *arguments)


_ACTS: dict[str, Callable[..., Any]] = {
    "get": getattr,
    "item": lambda owner, key: owner[key],
    "len": len,
    "list": list,
    "text": str,
    "truth": bool,
}


def _is_told(name: str, value: Any) -> bool:
    return not name.startswith("__") and not isinstance(value, ModuleType)


def _describe(error: BaseException) -> dict[str, str]:
    try:
        reason = str(error)[:_MAX_REASON_CHARS]
    except BaseException:
        reason = "an error that cannot be spelled"
    return {"raised": type(error).__name__, "reason": reason}

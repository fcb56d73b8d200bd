"""Values that cross from one box to another, as plain data; and the messages that carry them.

**In**: a connected socket; Python values.
**Out**: `send`, `receive`; `encode` and `decode`, whose results hold built-in types and nothing else.
**Not**: objects. What is not plain data stays in the box that made it, under a number.

A list that is told is a list on the other side whatever its class was, and its `==` is that of lists: an object that
calls itself equal to everything does not come through.

A program's box starts for every program, and half of that was imports: so nothing is imported here that an interpreter
has not loaded by itself, except the part of `json` that is written in C.
"""

from __future__ import annotations

import builtins

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

MAX_MESSAGE_BYTES = 16 * 2**20
_SIZE_BYTES = 4
# JSON numbers are exact up to here; larger integers are spelled.
_MAX_NUMBER = 2**53


class WireError(Exception):
    """What came is no message, is too long, or holds what cannot be told."""


def send(channel: socket.socket, message: object) -> None:
    """Send one message.

    Raises:
        WireError: it is too long.
        OSError: nobody listens any more.
    """
    data = spell_json(message).encode()
    if len(data) > MAX_MESSAGE_BYTES:
        raise WireError(f"a message of {len(data)} bytes, at most {MAX_MESSAGE_BYTES} are passed on")
    channel.sendall(len(data).to_bytes(_SIZE_BYTES, "big") + data)


def receive(channel: socket.socket) -> Any:
    """Wait for one message.

    Raises:
        WireError: too long, cut off, or not JSON.
        EOFError: the other side is gone.
    """
    size = int.from_bytes(_receive_exactly(channel, _SIZE_BYTES), "big")
    if size > MAX_MESSAGE_BYTES:
        raise WireError(f"a message of {size} bytes, at most {MAX_MESSAGE_BYTES} are passed on")
    try:
        return read_json(_receive_exactly(channel, size).decode())
    except (ValueError, RecursionError) as error:
        raise WireError(f"what came is not JSON: {error}") from error


class _Rules:
    """What the scanner asks for: JSON as it is written, and no number that JSON does not know."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"{name} is no number of JSON")


try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    _scan = make_scanner(_Rules)  # type: ignore[arg-type]  # its stub names the class, not what it reads

    def spell_json(value: object) -> str:
        """Spell plain data without a space."""
        return "".join(
            make_encoder(None, _refuse, encode_basestring_ascii, None, ":", ",", False, False, False)(value, 0)
        )

    def read_json(text: str) -> Any:
        """Read one value, which is all of the text.

        Raises:
            ValueError: it is not.
        """
        try:
            value, end = _scan(text, 0)
        except StopIteration as error:
            raise ValueError("a value is missing") from error
        if end != len(text):
            raise ValueError("something stands behind the value")
        return value

except ImportError:  # an interpreter without that part: the same in Python
    import json

    def spell_json(value: object) -> str:
        """Spell plain data without a space."""
        return json.dumps(value, separators=(",", ":"), allow_nan=False)

    def read_json(text: str) -> Any:
        """Read one value, which is all of the text.

        Raises:
            ValueError: it is not.
        """
        return json.loads(text)


def _refuse(value: object) -> object:
    raise TypeError(f"a {type(value).__name__} is no plain data")


def _receive_exactly(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        piece = channel.recv(min(size - len(parts), 65536))
        if not piece:
            raise EOFError("the other side is gone")
        parts += piece
    return bytes(parts)


def encode(value: Any, refer: Callable[[Any], Any]) -> Any:
    """Spell a value; `refer` gives the number under which anything else than plain data stays here.

    >>> encode((1, [2.5, "a"]), id)
    ['t', [1, ['l', [['f', '0x1.4000000000000p+1'], 'a']]]]
    """
    # Methods of the built-in class, not of a class derived from it that may say what it likes.
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        number = int.__int__(value)
        return number if -_MAX_NUMBER < number < _MAX_NUMBER else ["i", hex(number)]
    if isinstance(value, str):
        return str.__str__(value) if type(value) is str else "".join(str.__iter__(value))
    if isinstance(value, dict):
        return ["d", [[encode(k, refer), encode(v, refer)] for k, v in dict.items(value)]]
    for kind, tag, walk in _SERIES:
        if isinstance(value, kind):
            return [tag, [encode(item, refer) for item in walk(value)]]
    for kind, tag, spell in _ATOMS:
        if isinstance(value, kind):
            return [tag, spell(value)]
    if isinstance(value, type) and _BUILT_IN.get(type.__getattribute__(value, "__name__")) is value:
        return ["k", value.__name__]
    return ["o", refer(value)]


def decode(spelled: Any, look_up: Callable[[Any], Any]) -> Any:
    """Make the value again; `look_up` finds what stayed on either side by its number.

    Raises:
        WireError: what came was not spelled by `encode`.
    """
    if spelled is None or isinstance(spelled, bool | int | str):
        return spelled
    try:
        tag, content = spelled
        if tag == "d":
            return {decode(k, look_up): decode(v, look_up) for k, v in content}
        if tag in _MAKERS:
            return _MAKERS[tag](decode(item, look_up) for item in content)
        return look_up(content) if tag == "o" else _READERS[tag](content)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise WireError(f"what came is not a value ({type(error).__name__}: {error})") from error


_BUILT_IN: dict[str, type] = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}
_SERIES: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (list, "l", list.__iter__),
    (tuple, "t", tuple.__iter__),
    (set, "s", set.__iter__),
    (frozenset, "z", frozenset.__iter__),
)
_ATOMS: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (float, "f", float.hex),
    (
        complex,
        "c",
        lambda value: [float.hex(complex.__complex__(value).real), float.hex(complex.__complex__(value).imag)],
    ),
    (bytes, "b", bytes.hex),
    (bytearray, "y", bytearray.hex),
    (range, "r", lambda value: [value.start, value.stop, value.step]),
)
_MAKERS: dict[str, Callable[[Any], Any]] = {"l": list, "t": tuple, "s": set, "z": frozenset}
_READERS: dict[str, Callable[[Any], Any]] = {
    "i": lambda text: int(text, 16),
    "f": float.fromhex,
    "c": lambda parts: complex(float.fromhex(parts[0]), float.fromhex(parts[1])),
    "b": bytes.fromhex,
    "y": bytearray.fromhex,
    "r": lambda parts: range(*parts),
    "k": lambda name: _BUILT_IN[name],
}

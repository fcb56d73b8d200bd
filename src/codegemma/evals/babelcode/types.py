"""The types that a question is posed in, in BabelCode's spelling, and those of values.

**In**: plain values; types as published, such as `list<map<string;integer>>`.
**Out**: `Type`: parsed, spelled, inferred, joined.
**Not**: any programming language's types; `languages.py` spells those.

A tuple whose members are of one type is a list, as in BabelCode (Orlanski et al., 2302.01973); others have no type.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codegemma.errors import InputError

PRIMITIVES = frozenset({"boolean", "integer", "long", "float", "double", "character", "string"})
_CONTAINERS = {"list": 1, "set": 1, "map": 2}
# An element of nothing but empty lists.
UNKNOWN = "unknown"
# From the left to the right every value of the one is a value of the other.
_WIDENING = ("integer", "long", "float", "double")
_MAX_INTEGER = 2**31
_MAX_LONG = 2**63
# Published fractions of so many digits are doubles, which are compared more closely.
_DOUBLE_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Type:
    """A type: a primitive, or a container with the types of its items."""

    kind: str
    items: tuple["Type", ...] = ()

    def __str__(self) -> str:
        """Spell it as published."""
        return self.kind if not self.items else f"{self.kind}<{';'.join(map(str, self.items))}>"

    def walk(self) -> Iterator["Type"]:
        """Give the type and all types in it."""
        yield self
        for item in self.items:
            yield from item.walk()


def parse_type(spelled: str) -> Type:
    """Read a type as published.

    >>> parse_type("list<map<string;integer>>").items[0].items[1].kind
    'integer'
    >>> str(parse_type("tuple<integer|integer>"))
    'list<integer>'

    Raises:
        InputError: it is not spelled so, or is a tuple of several types.
    """
    tokens = re.findall(r"\w+|\S", spelled)
    found = _parse(tokens, spelled)
    if tokens:
        raise InputError(f"{spelled!r} goes on after a type; wanted such as list<map<string;integer>>")
    return found


def _parse(tokens: list[str], spelled: str) -> Type:
    kind = tokens.pop(0) if tokens else ""
    items, sign = [], ""
    if tokens[:1] == ["<"]:
        while (sign := tokens.pop(0) if tokens else "") and sign in "<;|,":
            items.append(_parse(tokens, spelled))
    if sign not in ("", ">") or (items and not sign):
        raise InputError(f"{spelled!r} does not close its brackets; wanted such as list<map<string;integer>>")
    if kind == "tuple" and items:
        joined = join_all(items)
        if joined is not None:
            return Type("list", (joined,))
    if (kind in PRIMITIVES and not items) or (kind in _CONTAINERS and _CONTAINERS[kind] == len(items)):
        return Type(kind, tuple(items))
    known = ", ".join([*sorted(PRIMITIVES), *_CONTAINERS])
    raise InputError(f"{spelled!r} is no type that all languages have; known: {known}, and tuples of one type")


def infer_type(value: Any) -> Type | None:
    """Tell the narrowest type of a value; `None` where it has none that all languages share.

    >>> str(infer_type({"a": [1, 2.5]})), infer_type([1, "a"]), str(infer_type((1, 2**40)))
    ('map<string;list<float>>', None, 'list<long>')
    """
    if isinstance(value, bool):
        return Type("boolean")
    if isinstance(value, int):
        return _infer_integer(value)
    if isinstance(value, float):
        fraction = repr(value).partition(".")[2]
        return Type("double" if len(fraction) >= _DOUBLE_DIGITS else "float")
    if isinstance(value, str):
        # Beyond ASCII one sign is several characters in some languages.
        return Type("character" if len(value) == 1 and value.isascii() else "string")
    if isinstance(value, list | tuple | set | frozenset):
        item = join_all([infer_type(item) for item in value])
        return None if item is None else Type("set" if isinstance(value, set | frozenset) else "list", (item,))
    if isinstance(value, dict):
        key = join_all([infer_type(key) for key in value])
        item = join_all([infer_type(item) for item in value.values()])
        return None if key is None or item is None or key.items else Type("map", (_widen_key(key), item))
    return None


def _infer_integer(value: int) -> Type | None:
    if -_MAX_INTEGER <= value < _MAX_INTEGER:
        return Type("integer")
    return Type("long") if -_MAX_LONG < value < _MAX_LONG else None


def _widen_key(key: Type) -> Type:
    return Type("string") if key.kind == "character" else key


def join_types(one: Type | None, other: Type | None) -> Type | None:
    """Find the narrowest type that has the values of both; `None` where there is none.

    >>> str(join_types(Type("integer"), Type("float"))), join_types(Type("integer"), Type("string"))
    ('float', None)
    """
    if one is None or other is None:
        return None
    if one == other or other.kind == UNKNOWN:
        return one
    if one.kind == UNKNOWN:
        return other
    if one.kind in _WIDENING and other.kind in _WIDENING:
        return max(one, other, key=lambda found: _WIDENING.index(found.kind))
    if {one.kind, other.kind} == {"character", "string"}:
        return Type("string")
    if one.kind != other.kind or len(one.items) != len(other.items) or not one.items:
        return None
    items = [join_types(left, right) for left, right in zip(one.items, other.items, strict=True)]
    return None if None in items else Type(one.kind, tuple(item for item in items if item is not None))


def join_all(types: Sequence[Type | None]) -> Type | None:
    """Join many; of none what is in it is unknown."""
    joined: Type | None = Type(UNKNOWN)
    for found in types:
        joined = join_types(joined, found)
    return joined


def settle(found: Type) -> Type:
    """Say what is in a container that was always empty: integers, which every language has."""
    if found.kind == UNKNOWN:
        return Type("integer")
    return Type(found.kind, tuple(settle(item) for item in found.items))

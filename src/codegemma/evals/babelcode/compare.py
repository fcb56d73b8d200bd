"""Compares what a program told with what was expected: as BabelCode does, and with its known unfairness mended.

**In**: a value as a prelude spells it, the expected one, its type, the language.
**Out**: whether they are equal, by either `Scorer`.
**Not**: trust. What is told is data; nothing that a program defines takes part.

As published: only a fraction that is the answer itself may be off, by 1e-6 or 1e-9; a tuple is no list; in Go nil is no
empty list; in JavaScript the keys of an object stand in the expected order. Mended: none of that, and any fraction may
be off by 1e-6.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from codegemma.evals.babelcode.languages import Target
from codegemma.evals.babelcode.types import PRIMITIVES, Type


class Scorer(StrEnum):
    """Which comparison: the published one, or that with fixes."""

    PUBLISHED = "published"
    FIXED = "fixed"


class UntoldError(Exception):
    """What a program told is no value."""


@dataclass(frozen=True, slots=True)
class Series:
    """A container as it was told: `tag` is l, t, s, m, or n where there is none."""

    tag: str
    items: tuple[Any, ...]


_FRACTION_OFF = {"float": 1e-6, "double": 1e-9}
_FIXED_OFF = 1e-6
_MAX_TOLD_CHARS = 4_000_000


def read_told(stdout: bytes, mark: str) -> dict[int, str]:
    """Find the lines that carry the mark; what else a program printed is its own affair.

    Raises:
        UntoldError: one value is told twice.
    """
    found: dict[int, str] = {}
    for match in re.finditer(rf"^{re.escape(mark)} (\d{{1,9}}) (.*)$", stdout.decode("utf-8", "replace"), re.MULTILINE):
        if int(match[1]) in found:
            raise UntoldError(f"value {match[1]} is told twice")
        found[int(match[1])] = match[2].rstrip("\r")
    return found


def decode_told(spelled: str) -> Any:
    """Read a value as a prelude spells it.

    >>> decode_told('["l",[1,["f","2.5"],["x","6869"]]]').items
    (1, 2.5, 'hi')

    Raises:
        UntoldError: it is not spelled so.
    """
    try:
        return _decode(json.loads(spelled[:_MAX_TOLD_CHARS]))
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise UntoldError(f"{spelled[:80]!r} is no value ({error})") from error


def _decode(told: Any) -> Any:
    if told is None or isinstance(told, bool | int):
        return told
    tag, content = told
    if tag == "f":
        return float(content)
    if tag == "x":
        return bytes.fromhex(content).decode("utf-8", "surrogateescape")
    if tag == "r":
        return chr(content)
    if tag == "n":
        return Series("n", ())
    if tag == "m":
        return Series("m", tuple((_decode(key), _decode(value)) for key, value in content))
    if tag in ("l", "t", "s"):
        return Series(tag, tuple(_decode(item) for item in content))
    raise ValueError(f"tag {tag!r}")


def are_equal(told: Any, expected: Any, found: Type, target: Target, scorer: Scorer) -> bool:
    """Compare an answer with what was expected.

    >>> from codegemma.evals.babelcode.languages import read_target
    >>> from codegemma.evals.babelcode.types import parse_type
    >>> told, fractions = decode_told('["l",[["f","0.30000000000000004"]]]'), parse_type("list<float>")
    >>> [are_equal(told, [0.3], fractions, read_target("rust"), scorer) for scorer in Scorer]
    [False, True]
    """
    off = _FRACTION_OFF.get(found.kind, 0.0) if scorer is Scorer.PUBLISHED else _FIXED_OFF
    return _equal(told, expected, found, _Rules(target, scorer is Scorer.FIXED, off))


@dataclass(frozen=True, slots=True)
class _Rules:
    target: Target
    is_fixed: bool
    off: float


def _equal(told: Any, expected: Any, found: Type, rules: _Rules) -> bool:
    if found.kind in PRIMITIVES:
        return _equal_primitives(told, expected, found.kind, rules)
    if not isinstance(told, Series):
        return False
    if told.tag == "n":
        return rules.is_fixed and not expected
    if found.kind == "map":
        return told.tag == "m" and _equal_maps(told.items, expected, found, rules)
    if found.kind == "set":
        return told.tag == "s" and _hold_same(told.items, list(expected), found.items[0], rules)
    is_list = told.tag == "l" or (told.tag == "t" and rules.is_fixed)
    return is_list and _equal_items(told.items, expected, found.items[0], rules)


def _equal_primitives(told: Any, expected: Any, kind: str, rules: _Rules) -> bool:
    if kind in ("float", "double"):
        return _is_number(told, rules) and _is_close(float(told), float(expected), rules)
    if kind == "boolean":
        is_one = isinstance(told, bool) or (rules.target.has_loose_booleans and _is_number(told, rules))
        return is_one and told == bool(expected)
    if kind in ("integer", "long"):
        return _is_number(told, rules) and told == expected
    return isinstance(told, str) and told == expected


def _is_number(told: Any, rules: _Rules) -> bool:
    return isinstance(told, int | float) and (rules.target.has_loose_booleans or not isinstance(told, bool))


def _is_close(told: float, expected: float, rules: _Rules) -> bool:
    if told == expected or (math.isnan(told) and math.isnan(expected)):
        return True
    if rules.is_fixed:
        return math.isclose(told, expected, rel_tol=rules.off, abs_tol=rules.off)
    return abs(told - expected) < rules.off


def _equal_items(told: Sequence[Any], expected: Sequence[Any], item: Type, rules: _Rules) -> bool:
    inner = rules if rules.is_fixed else _Rules(rules.target, False, 0.0)
    return len(told) == len(expected) and all(
        _equal(one, other, item, inner) for one, other in zip(told, expected, strict=True)
    )


def _hold_same(told: Sequence[Any], expected: list[Any], item: Type, rules: _Rules) -> bool:
    left = list(expected)
    for one in told:
        at = next((n for n, other in enumerate(left) if _equal_items([one], [other], item, rules)), None)
        if at is None:
            return False
        left.pop(at)
    return not left


def _equal_maps(told: Sequence[Any], expected: Mapping[Any, Any], found: Type, rules: _Rules) -> bool:
    key_type, item_type = found.items
    pairs = list(expected.items())
    if rules.target.has_ordered_maps and not rules.is_fixed:
        # Keys that are whole numbers come first, in their order, wherever they were written.
        numbers = sorted((pair for pair in pairs if _is_index(pair[0])), key=lambda pair: int(pair[0]))
        pairs = [*numbers, *(pair for pair in pairs if not _is_index(pair[0]))]
        if [str(_read_key(key, key_type, rules)) for key, _ in told] != [str(key) for key, _ in pairs]:
            return False
    left = {_read_key(key, key_type, rules): value for key, value in told}
    return len(left) == len(told) == len(pairs) and all(
        key in left and _equal_items([left[key]], [value], item_type, rules) for key, value in pairs
    )


def _is_index(key: Any) -> bool:
    return re.fullmatch(r"0|[1-9][0-9]{0,9}", str(key)) is not None and int(key) < 2**32 - 1


def _read_key(key: Any, key_type: Type, rules: _Rules) -> Any:
    if rules.target.has_text_keys and isinstance(key, str) and key_type.kind in ("integer", "long", "boolean"):
        try:
            return int(key) if key_type.kind != "boolean" else {"true": True, "false": False}[key]
        except (ValueError, KeyError):
            return key
    return key

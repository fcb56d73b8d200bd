"""How a choice is written down and overridden.

**In**: frozen dataclasses of choices, one per reach, nested in a recipe; `key=value` strings of `--set`.
**Out**: a new recipe with the values replaced, and its plain-data form for manifests and fingerprints.
**Not**: the choices themselves: each reach keeps its own, and `codegemma/recipes/` holds the recipes.
"""

import dataclasses
import difflib
import enum
import hashlib
import json
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from codegemma.errors import UserError

T = TypeVar("T")


class ChoiceError(UserError):
    """A choice that does not exist or does not parse; the message lists what does."""

    exit_code = 2


def override(choices: T, settings: Iterable[str]) -> T:
    """Replace values in nested frozen dataclasses by `dotted.key=value` strings.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Choices:
    ...     learning_rate: float = 4e-3
    >>> override(Choices(), ["learning_rate=1e-3"])
    Choices(learning_rate=0.001)

    Raises:
        ChoiceError: unknown key (the known ones are listed), missing `=`, or a value that does not fit the type.
    """
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ChoiceError(f"--set wants key=value, got {setting!r}")
        choices = _replace_at(choices, key.strip().split("."), value.strip(), key.strip())
    return choices


def _replace_at(choices: Any, keys: list[str], value: str, full_key: str) -> Any:
    if not dataclasses.is_dataclass(choices) or isinstance(choices, type):
        raise ChoiceError(f"{full_key!r} goes too deep: {keys[0]!r} is inside a plain value")
    known = {f.name for f in dataclasses.fields(choices)}
    if keys[0] not in known:
        close = difflib.get_close_matches(keys[0], known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise ChoiceError(f"unknown choice {full_key!r}{hint} Known here: {', '.join(sorted(known))}")
    current = getattr(choices, keys[0])
    if len(keys) > 1:
        return dataclasses.replace(choices, **{keys[0]: _replace_at(current, keys[1:], value, full_key)})
    if dataclasses.is_dataclass(current):
        inner = ", ".join(f"{full_key}.{f.name}" for f in dataclasses.fields(current))
        raise ChoiceError(f"{full_key!r} is a group of choices; set one of {inner}")
    annotation = typing.get_type_hints(type(choices))[keys[0]]
    try:
        parsed = _parse(value, annotation)
        return dataclasses.replace(choices, **{keys[0]: parsed})
    except (ValueError, TypeError) as error:
        raise ChoiceError(f"{full_key}={value}: wanted {_name_type(annotation)} ({error})") from error


def _parse(value: str, annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(annotation)
        if value.lower() == "none" and type(None) in options:
            return None
        return _parse(value, next(o for o in options if o is not type(None)))
    if origin is typing.Literal:
        literals = typing.get_args(annotation)
        if value not in literals:
            raise ValueError(f"got {value!r}")
        return value
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation(value)
    if annotation is bool:
        if value.lower() not in ("true", "false"):
            raise ValueError("a boolean is true or false")
        return value.lower() == "true"
    if annotation in (int, float, str):
        return annotation(value)
    if origin is tuple:
        inner = typing.get_args(annotation)[0]
        return tuple(_parse(part.strip(), inner) for part in value.split(",") if part.strip())
    raise ValueError("this choice cannot be set from the command line")


def _name_type(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "one of " + ", ".join(str(m.value) for m in annotation)
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


_PLAIN = frozenset({str, int, float, bool})


def to_plain(choices: Any) -> Any:
    """Turn nested choices into what JSON can hold: dataclasses to dicts, enums to values, tuples to lists."""
    if choices is None or type(choices) in _PLAIN:  # most of what a fingerprint is made of
        return choices
    if dataclasses.is_dataclass(choices) and not isinstance(choices, type):
        return {f.name: to_plain(getattr(choices, f.name)) for f in dataclasses.fields(choices)}
    if isinstance(choices, enum.Enum):
        return choices.value
    if isinstance(choices, Mapping):
        return {str(k): to_plain(v) for k, v in choices.items()}
    if isinstance(choices, (list, tuple)):
        return [to_plain(v) for v in choices]
    return str(choices) if isinstance(choices, Path) else choices


def from_plain(kind: Any, plain: Any) -> Any:
    """Turn what `to_plain` made back into `kind`, a dataclass or any annotation that a choice can have.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Count:
    ...     files: int
    ...     by_reason: dict[str, int]
    >>> from_plain(tuple[Count, ...], [{"files": 3, "by_reason": {"empty": 1}}])
    (Count(files=3, by_reason={'empty': 1}),)

    Raises:
        ValueError: the plain data is not what `kind` holds.
        TypeError: an annotation that plain data cannot hold.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in arguments if option is not type(None)]
        if plain is None and len(options) < len(arguments):
            return None
        # Of several dataclasses, the one with these fields.
        fitting = options if len(options) == 1 else [option for option in options if _has_fields(option, plain)]
        if len(fitting) == 1:
            return from_plain(fitting[0], plain)
    elif origin is typing.Literal:
        return _check(plain, plain in arguments, kind)
    elif origin is tuple or (origin in (dict, Counter) and arguments[0] is str):
        return _from_plain_many(kind, plain)
    elif dataclasses.is_dataclass(kind):
        return _from_plain_fields(kind, plain)
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(plain)
    elif kind in (str, int, float, bool, type(None), Path):
        is_number = kind is float and type(plain) is int  # JSON of other writers has `0` for `0.0`
        found = _check(plain, is_number or type(plain) is (str if kind is Path else kind), kind)
        return Path(found) if kind is Path else found
    raise TypeError(f"{_name_type(kind)} cannot be kept as plain data")


def _has_fields(kind: Any, plain: Any) -> bool:
    return (
        dataclasses.is_dataclass(kind)
        and isinstance(plain, dict)
        and plain.keys() == {field.name for field in dataclasses.fields(kind)}
    )


def _from_plain_many(kind: Any, plain: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        _check(plain, isinstance(plain, dict), kind)
        return {key: from_plain(arguments[1], value) for key, value in plain.items()}
    if origin is Counter:
        return Counter(from_plain(dict[str, int], plain))
    _check(plain, isinstance(plain, list), kind)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(from_plain(arguments[0], value) for value in plain)
    _check(plain, len(plain) == len(arguments), kind)
    return tuple(map(from_plain, arguments, plain))


def _from_plain_fields(kind: Any, plain: Any) -> Any:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    _check(plain, isinstance(plain, dict) and plain.keys() == set(names), kind)
    return kind(**{name: from_plain(hints[name], plain[name]) for name in names})


def _check(plain: Any, is_right: bool, kind: Any) -> Any:
    if not is_right:
        raise ValueError(f"wanted {_name_type(kind)}, got {plain!r:.80}")
    return plain


def fingerprint(*parts: Any) -> str:
    """Hash plain data or choices to 16 hexadecimal digits: equal parts, equal fingerprint, on every machine."""
    text = json.dumps([to_plain(p) for p in parts], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

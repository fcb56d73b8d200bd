"""How a request's fields are declared, once, for checking them and for the OpenAPI document.

**In**: JSON as it came.
**Out**: a dictionary of fields with their types and defaults; `FieldError` says which is wrong and what was wanted.
**Not**: unknown fields: they are let through unread, since clients send more than any protocol names.

A field that is `null` is as good as absent.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from codegemma.errors import UserError

Schema = Mapping[str, Any]
_LARGEST = 2**53
# Deeper nesting is no request of anybody.
_MAX_DEPTH = 64


class FieldError(UserError):
    """A request's body cannot be used; the message names the field."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}" if name else problem)
        self.name = name


def text(**more: Any) -> Schema:
    """A string."""
    return {"type": ["string", "null"], **more}


def whole(low: int = 0, high: int = _LARGEST, **more: Any) -> Schema:
    """A whole number from `low` to `high`."""
    return {"type": ["integer", "null"], "minimum": low, "maximum": high, **more}


def number(low: float = 0.0, high: float = 1e6, **more: Any) -> Schema:
    """A finite number from `low` to `high`."""
    return {"type": ["number", "null"], "minimum": low, "maximum": high, **more}


def flag(**more: Any) -> Schema:
    """Yes or no."""
    return {"type": ["boolean", "null"], **more}


def listing(items: Schema, high: int = 100_000, **more: Any) -> Schema:
    """A list of like things; none of them is `null`."""
    return {"type": ["array", "null"], "items": stay(items), "maxItems": high, **more}


def table(fields: Mapping[str, Schema], required: tuple[str, ...] = (), **more: Any) -> Schema:
    """An object with some known fields."""
    wanted = {"required": list(required)} if required else {}
    return {"type": ["object", "null"], "properties": {k: dict(v) for k, v in fields.items()}, **wanted, **more}


def anything(**more: Any) -> Schema:
    """Whatever it is, it is not read."""
    return dict(more)


def refused(why: str, *neutral: Any) -> Schema:
    """What nothing here does: refused with the reason, but for the values that ask for nothing."""
    return {"enum": [*neutral, None], "description": f"refused: {why}"}


def either(*schemas: Schema) -> Schema:
    """The first that fits."""
    return {"anyOf": [dict(schema) for schema in schemas]}


def stay(schema: Schema) -> Schema:
    """The same, but `null` is not taken for absent."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [stay(each) for each in schema["anyOf"]]}
    return {**schema, "type": [kind for kind in schema["type"] if kind != "null"]} if "type" in schema else schema


def parse_json(content: bytes) -> dict[str, Any]:
    """Read a body.

    Raises:
        FieldError: not UTF-8, not JSON, not an object, or numbers that are none.
    """
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise FieldError("", f"the body is not UTF-8 (byte {error.start}); send JSON in UTF-8") from error
    except RecursionError as error:
        raise FieldError("", "the body is nested too deeply") from error
    except ValueError as error:
        raise FieldError("", f"the body is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise FieldError("", f"the body is {_name(value)}; wanted a JSON object")
    return value


def read_fields(body: Mapping[str, Any], fields: Mapping[str, Schema], required: tuple[str, ...]) -> dict[str, Any]:
    """Check a body and return its known fields, with those that are absent left out.

    >>> read_fields({"n": 3, "more": 1}, {"n": whole(1, 8), "stop": text()}, ())
    {'n': 3}

    Raises:
        FieldError: a required field is missing, or one is not what it should be.
    """
    known = {name: body[name] for name in fields if body.get(name) is not None}
    for name in required:
        if name not in known:
            raise FieldError(name, "is missing")
    return {name: _check(value, fields[name], name, 0) for name, value in known.items()}


def _check(value: Any, schema: Schema, name: str, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise FieldError(name, "is nested too deeply")
    if "anyOf" in schema:
        return _check_either(value, schema["anyOf"], name, depth)
    if "type" not in schema:
        if "enum" in schema and value not in schema["enum"]:
            raise FieldError(name, f"is {schema['description']}; leave it out")
        return value
    kind = _kind_of(value, schema["type"])
    if kind is None:
        wanted = " or ".join(t for t in schema["type"] if t != "null")
        raise FieldError(name, f"is {_name(value)}; wanted {wanted}")
    if kind == "string":
        return _check_text(value, schema, name)
    if kind in ("integer", "number"):
        return _check_number(int(value) if kind == "integer" else value, schema, name)
    if kind == "array":
        if len(value) > schema.get("maxItems", len(value)) or len(value) < schema.get("minItems", 0):
            wanted = f"{schema.get('minItems', 0):,} to {schema['maxItems']:,}"
            raise FieldError(name, f"has {len(value):,} items; wanted {wanted}")
        return [_check(item, schema["items"], f"{name}[{i}]", depth + 1) for i, item in enumerate(value)]
    if kind == "object":
        return _check_table(value, schema, name, depth)
    return value


def _check_either(value: Any, schemas: list[Schema], name: str, depth: int) -> Any:
    problem = None
    for schema in schemas:
        try:
            return _check(value, schema, name, depth + 1)
        except FieldError as error:
            problem = problem or error
    raise problem or FieldError(name, "is of no known type")


def _check_table(value: dict[str, Any], schema: Schema, name: str, depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    for wanted in schema.get("required", ()):
        if value.get(wanted) is None:
            raise FieldError(f"{name}.{wanted}", "is missing")
    return {
        key: _check(item, properties[key], f"{name}.{key}", depth + 1) if key in properties else item
        for key, item in value.items()
        if item is not None
    }


def _check_text(value: str, schema: Schema, name: str) -> str:
    if "enum" in schema and value not in schema["enum"]:
        raise FieldError(name, f"is {value[:40]!r}; known: {', '.join(map(str, schema['enum']))}")
    return mend(value)


def _check_number(value: float, schema: Schema, name: str) -> float:
    if value in (math.inf, -math.inf):
        raise FieldError(name, "is not a finite number")
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    if not low <= value <= high:
        shown = value if abs(value) < _LARGEST else "too large a number"
        raise FieldError(name, f"is {shown}; wanted {low} to {high}")
    return value


def mend(value: str) -> str:
    r"""Put U+FFFD in the place of half characters, which no model reads.

    >>> mend("a\ud800b")
    'a\ufffdb'
    """
    if value.isascii():
        return value
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _kind_of(value: Any, kinds: list[str]) -> str | None:
    if isinstance(value, bool):
        return "boolean" if "boolean" in kinds else None
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return next((kind for kind in ("integer", "number") if kind in kinds), None)
    names = {float: "number", str: "string", list: "array", dict: "object", type(None): "null"}
    kind = names.get(type(value))
    return kind if kind in kinds else None


def _name(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")

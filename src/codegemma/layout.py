"""Lays a record class out in columns: frozen dataclasses to plain rows and back, and the Arrow schema of those rows.

**In**: annotations of records: nested records, tuples, enums and int32 arrays included.
**Out**: a schema; rows that Parquet, or JSON, can hold.
**Not**: files; those are `shards.py`.
"""

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

T = TypeVar("T")

SCALARS = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


class Column(NamedTuple):
    """How one annotation is stored: its Arrow type, and the way there and back."""

    arrow_type: Any
    is_nullable: bool
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


@functools.cache
def make_schema(kind: Any) -> Any:
    """Make the Arrow schema of a record class."""
    return pa.schema([pa.field(n, c.arrow_type, nullable=c.is_nullable) for n, c in lay_out(kind).items()])


@functools.cache
def lay_out(kind: Any) -> dict[str, Column]:
    """Tell for each field of a record class how it is stored.

    Raises:
        TypeError: a field that cannot be.
    """
    hints = typing.get_type_hints(kind)
    return {field.name: _column(hints[field.name]) for field in dataclasses.fields(kind)}


def _column(annotation: Any) -> Column:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union) and len(arguments) == 2 and type(None) in arguments:
        return _optional(_column(next(a for a in arguments if a is not type(None))))
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _tuple(_column(arguments[0]))
    if getattr(annotation, "array_type", None) is np.ndarray and list(annotation.dtypes) == ["int32"]:
        return _int32_array()
    if annotation in SCALARS:
        return Column(SCALARS[annotation], False, _same, _same)
    if isinstance(annotation, type) and issubclass(annotation, enum.StrEnum):
        return Column(pa.string(), False, str, annotation)
    if dataclasses.is_dataclass(annotation):
        return _nested(typing.cast(type, annotation))
    raise TypeError(
        f"a record field of type {annotation} cannot be stored; known: {SCALARS.keys()} and what holds them"
    )


def _same(value: Any) -> Any:
    return value


def _optional(inner: Column) -> Column:
    def encode(value: Any) -> Any:
        return None if value is None else inner.encode(value)

    def decode(value: Any) -> Any:
        return None if value is None else inner.decode(value)

    return Column(inner.arrow_type, True, encode, decode)


def _tuple(inner: Column) -> Column:
    element = pa.field("element", inner.arrow_type, nullable=inner.is_nullable)
    return Column(
        pa.list_(element),
        False,
        lambda values: [inner.encode(v) for v in values],
        lambda values: tuple(inner.decode(v) for v in values),
    )


def _int32_array() -> Column:
    element = pa.field("element", pa.int32(), nullable=False)
    return Column(pa.list_(element), False, _same, lambda values: np.array(values, dtype=np.int32))


def _nested(kind: type) -> Column:
    columns = lay_out(kind)

    return Column(
        pa.struct(list(make_schema(kind))),
        False,
        lambda record: to_row(record, columns),
        lambda row: from_row(row, kind, columns),
    )


def to_row(record: Any, columns: dict[str, Column]) -> dict[str, Any]:
    """Turn a record into a row; arrays stay arrays."""
    return {name: column.encode(getattr(record, name)) for name, column in columns.items()}


def from_row(row: dict[str, Any], kind: type[T], columns: dict[str, Column]) -> T:
    """Turn a row back into a record."""
    return kind(**{name: column.decode(row[name]) for name, column in columns.items()})

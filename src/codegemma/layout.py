"""Lays a record class out in columns: frozen dataclasses to Arrow columns or plain rows and back, and their schema.

**In**: annotations of records: nested records, tuples, enums and int32 arrays included.
**Out**: a schema; for Parquet the values of many records as columns, for JSON those of one as a row.
**Not**: files; those are `shards.py`.
"""

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise, repeat
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

T = TypeVar("T")

SCALARS = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


class Column(NamedTuple):
    """How one annotation is stored: its Arrow type, and the way there and back, for one value and for many at once."""

    arrow_type: Any
    is_nullable: bool
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    encode_all: Callable[[Sequence[Any]], Any]  # values to an Arrow array
    decode_all: Callable[[Any], Iterable[Any]]  # an Arrow array to values


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
        return _plain(SCALARS[annotation], _same, _same)
    if isinstance(annotation, type) and issubclass(annotation, enum.StrEnum):
        return _plain(pa.string(), str, annotation)
    if dataclasses.is_dataclass(annotation):
        return _nested(typing.cast(type, annotation))
    raise TypeError(
        f"a record field of type {annotation} cannot be stored; known: {SCALARS.keys()} and what holds them"
    )


def _same(value: Any) -> Any:
    return value


def _plain(
    arrow_type: Any, encode: Callable[[Any], Any], decode: Callable[[Any], Any], is_nullable: bool = False
) -> Column:
    def encode_all(values: Sequence[Any]) -> Any:
        return pa.array(values if encode is _same else list(map(encode, values)), arrow_type)

    def decode_all(array: Any) -> Iterable[Any]:
        values: list[Any] = array.to_pylist()
        return values if decode is _same else map(decode, values)

    return Column(arrow_type, is_nullable, encode, decode, encode_all, decode_all)


def _optional(inner: Column) -> Column:
    def encode(value: Any) -> Any:
        return None if value is None else inner.encode(value)

    def decode(value: Any) -> Any:
        return None if value is None else inner.decode(value)

    is_same = inner.encode is _same
    return _plain(inner.arrow_type, _same if is_same else encode, _same if is_same else decode, is_nullable=True)


def _tuple(inner: Column) -> Column:
    arrow_type = pa.list_(pa.field("element", inner.arrow_type, nullable=inner.is_nullable))

    def encode_all(values: Sequence[Any]) -> Any:
        return _join(values, inner.encode_all(list(chain.from_iterable(values))), arrow_type)

    def decode_all(array: Any) -> Iterator[Any]:
        elements = tuple(inner.decode_all(array.flatten()))
        return (elements[start:end] for start, end in _find_parts(array))

    return Column(
        arrow_type,
        False,
        lambda values: [inner.encode(v) for v in values],
        lambda values: tuple(inner.decode(v) for v in values),
        encode_all,
        decode_all,
    )


def _int32_array() -> Column:
    arrow_type = pa.list_(pa.field("element", pa.int32(), nullable=False))

    def encode_all(values: Sequence[Any]) -> Any:
        return _join(values, pa.array(np.concatenate([np.zeros(0, np.int32), *values])), arrow_type)

    def decode_all(array: Any) -> Iterator[Any]:
        elements = array.flatten().to_numpy()
        return (elements[start:end].copy() for start, end in _find_parts(array))

    return Column(arrow_type, False, _same, lambda values: np.array(values, dtype=np.int32), encode_all, decode_all)


def _join(values: Sequence[Any], elements: Any, arrow_type: Any) -> Any:
    """Make a list array of values whose elements stand one after another."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), elements, type=arrow_type)


def _find_parts(array: Any) -> Iterator[tuple[int, int]]:
    """Say where the elements of each list of an array stand among all of them."""
    offsets = array.offsets.to_numpy()
    return pairwise((offsets - offsets[0]).tolist())


def _nested(kind: type) -> Column:
    columns, schema = lay_out(kind), make_schema(kind)

    def encode_all(records: Sequence[Any]) -> Any:
        return pa.StructArray.from_arrays(list(to_columns(records, columns)), fields=list(schema))

    return Column(
        pa.struct(list(schema)),
        False,
        lambda record: to_row(record, columns),
        lambda row: from_row(row, kind, columns),
        encode_all,
        lambda array: from_columns(dict(zip(columns, array.flatten(), strict=True)), kind, columns),
    )


def to_columns(records: Sequence[Any], columns: dict[str, Column]) -> Iterator[Any]:
    """Turn records into an Arrow array for each field."""
    return (column.encode_all([getattr(record, name) for record in records]) for name, column in columns.items())


def from_columns(arrays: Mapping[str, Any], kind: type[T], columns: dict[str, Column]) -> Iterator[T]:
    """Turn Arrow arrays by the names of fields back into records; a field without one has its default."""
    values = [
        columns[field.name].decode_all(arrays[field.name]) if field.name in columns else repeat(field.default)
        for field in dataclasses.fields(typing.cast(Any, kind))
    ]
    return map(kind, *values)


def to_row(record: Any, columns: dict[str, Column]) -> dict[str, Any]:
    """Turn a record into a row; arrays stay arrays."""
    return {name: column.encode(getattr(record, name)) for name, column in columns.items()}


def from_row(row: dict[str, Any], kind: type[T], columns: dict[str, Column]) -> T:
    """Turn a row back into a record."""
    return kind(**{name: column.decode(row[name]) for name, column in columns.items()})

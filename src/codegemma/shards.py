"""Records on disk: frozen dataclasses to Parquet and back, so that the data reaches can each be rerun alone.

**In**: records of `records.py` (nested records, tuples, enums and int32 arrays included).
**Out**: Parquet files, written under a temporary name, synced, renamed when whole; equal records give equal bytes.
Beside them lies a build's manifest, which stands for their being whole. An object store gets and gives whole files.
**Not**: any knowledge of what a record means.
"""

import contextlib
import dataclasses
import enum
import functools
import json
import os
import tempfile
import types
import typing
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from codegemma.errors import InputError, OutputError
from codegemma.files import write_whole
from codegemma.folders import refuse_half_removed
from codegemma.places import get_bytes, is_remote, open_local, put_file, size_bytes
from codegemma.recipe import from_plain, to_plain

T = TypeVar("T")

# Records in one row group: enough for zstd to find repetition, few enough that a reader holds some megabytes.
ROW_GROUP_RECORDS = 128
SCALARS = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


class Column(NamedTuple):
    """How one annotation is stored: its Arrow type, and the way there and back."""

    arrow_type: Any
    is_nullable: bool
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def write_records(path: Path, records: Iterable[T], kind: type[T] | None = None) -> int:
    """Write all records to `path` and return their number; until then, nothing stands under that name.

    `kind` names the record class where there may be no record to tell it; without it, an empty file has no columns.

    Raises:
        OutputError: no permission, no space, a folder in the way, or a store that does not answer.
    """
    if is_remote(path := _as_place(path)):
        with tempfile.TemporaryDirectory(prefix="codegemma-") as folder:
            count = write_records(whole := Path(folder) / path.name, records, kind)
            put_file(path, whole)
        return count
    iterator = iter(records)
    first = list(islice(iterator, 1))
    kind = kind if kind is not None or not first else type(first[0])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _as_output_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        count = _write_table(temporary, path, chain(first, iterator), kind)
        with _as_output_error(path):
            _rename_synced(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return count


def _write_table(temporary: Path, path: Path, records: Iterator[Any], kind: type | None) -> int:
    schema = _schema(kind) if kind is not None else pa.schema([])
    columns = _columns(kind) if kind is not None else {}
    count = 0
    with _as_output_error(path):
        writer = pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True)
    try:
        while group := list(islice(records, ROW_GROUP_RECORDS)):
            table = pa.Table.from_pylist([_to_row(record, columns) for record in group], schema=schema)
            with _as_output_error(path):
                writer.write_table(table, row_group_size=ROW_GROUP_RECORDS)
            count += len(group)
    finally:
        with _as_output_error(path):
            writer.close()
    return count


def list_parts(path: Path) -> list[Path]:
    """List the files that `path` is made of: itself, or, of a folder, its Parquet files in the order of their names."""
    return sorted(path.glob("[!.]*.parquet")) if path.is_dir() else [path]


def find_output(place: Path, name: str) -> Path:
    """Find an output of a build: in its folder, or `place` is that file or folder of parts itself.

    Raises:
        InputError: a repository is being removed from it.
    """
    found = place / name if place.is_dir() and place.name != name else place
    refuse_half_removed(found.parent)
    return found


def measure_parts(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Give the size in bytes of every file that some outputs of a folder are made of, by its path in there."""
    parts = [part for name in names for part in list_parts(folder / name)]
    return {part.relative_to(folder).as_posix(): part.stat().st_size for part in parts}


def hash_files(paths: Iterable[Path]) -> str:
    """Hash the contents of some files, by their sorted paths; of training packs, this is what a run remembers of them.

    Raises:
        InputError: one cannot be read.
    """
    digest = xxhash.xxh3_64()
    for path in sorted(paths):
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); name the folder that holds it") from error
    return digest.hexdigest()


def read_records(path: Path, kind: type[T]) -> Iterator[T]:
    """Stream the records of a file, or of a folder of such files, in the order in which they were written.

    Raises:
        InputError: no such file, not whole, damaged, or written for another kind of record; the message names the file.
    """
    for part in list_parts(_as_place(path)):
        yield from _read_part(part, kind, None)


def read_rows(path: Path, kind: type[T], rows: Collection[int]) -> Iterator[T]:
    """Stream the records of one file that stand in some rows, counted from 0, in the file's order.

    Only the row groups that hold one of them are decoded.

    Raises:
        InputError: as `read_records`.
    """
    yield from _read_part(_as_place(path), kind, frozenset(rows))


def _read_part(path: Path, kind: type[T], rows: frozenset[int] | None) -> Iterator[T]:
    if not is_remote(path) and not path.is_file():
        raise InputError(f"{path}: no such file; wanted {kind.__name__} records in Parquet")
    try:
        with open_local(path) as file, pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            columns = _columns(typing.cast(Hashable, kind))
            _check_schema(path, parquet, kind)
            wanted = None if rows is None else {row // ROW_GROUP_RECORDS for row in rows}
            for group in range(parquet.num_row_groups) if wanted is None else sorted(wanted):
                read = parquet.read_row_group(group).to_pylist()
                for number, row in enumerate(read, start=group * ROW_GROUP_RECORDS):
                    if rows is None or number in rows:
                        yield _from_row(row, kind, columns)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; wanted {kind.__name__} records in Parquet") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: truncated, damaged or not Parquet ({reason}); build it again") from error


def count_records(path: Path) -> int:
    """Count the records of a file, or of a folder of files, without reading them.

    Raises:
        InputError: no such file, or not Parquet.
    """
    try:
        count = 0
        for part in list_parts(_as_place(path)):
            with open_local(part) as file:
                count += pq.read_metadata(file).num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: truncated, damaged or not Parquet ({reason}); build it again") from error
    return count


def _as_place(path: Path | str) -> Path:
    return Path(path) if isinstance(path, str) else path


def _check_schema(path: Path, parquet: Any, kind: Any) -> None:
    schema = parquet.schema_arrow
    is_empty = parquet.metadata.num_rows == 0 and not schema.names
    if not is_empty and not schema.equals(_schema(kind)):
        wanted, came = ", ".join(_columns(kind)), ", ".join(schema.names)
        raise InputError(f"{path}: not {kind.__name__} records; wanted columns {wanted}; came {came}; build it again")


@functools.cache
def _schema(kind: Any) -> Any:
    return pa.schema([pa.field(n, c.arrow_type, nullable=c.is_nullable) for n, c in _columns(kind).items()])


@functools.cache
def _columns(kind: Any) -> dict[str, Column]:
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
    columns = _columns(kind)

    return Column(
        pa.struct(list(_schema(kind))),
        False,
        lambda record: _to_row(record, columns),
        lambda row: _from_row(row, kind, columns),
    )


def _to_row(record: Any, columns: dict[str, Column]) -> dict[str, Any]:
    return {name: column.encode(getattr(record, name)) for name, column in columns.items()}


def _from_row(row: dict[str, Any], kind: type[T], columns: dict[str, Column]) -> T:
    return kind(**{name: column.decode(row[name]) for name, column in columns.items()})


class Manifest(Protocol):
    """A dataclass that tells a build, and the size of every Parquet file that the build wrote beside it."""

    @property
    def parquet_bytes(self) -> dict[str, int]:
        """File names and sizes."""
        ...


M = TypeVar("M", bound=Manifest)


def write_build_manifest(file: Path, report: Manifest) -> None:
    """Write a build's report as JSON, whole or not at all; written last, it says that the files beside it are whole.

    Raises:
        OutputError: no permission or no space.
    """
    write_whole(file, json.dumps(to_plain(report), indent=2).encode())


def read_build_manifest(file: Path, kind: type[M]) -> M | None:
    """Read the report of an earlier build, or `None` where there is none or a Parquet file is not the one it tells.

    It comes with `is_reused` set.

    Raises:
        InputError: a store that does not answer: nobody knows what is there.
    """
    try:
        report: M = from_plain(kind, json.loads(get_bytes(file).decode()) | {"is_reused": True})
        is_whole = all(size_bytes(file.parent / name) == size for name, size in report.parquet_bytes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return report if is_whole else None


@contextlib.contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path}: cannot be written ({reason}); choose another --out or make room") from error


def _rename_synced(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

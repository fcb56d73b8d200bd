"""Records on disk: frozen dataclasses to files and back, so that the data reaches can each be rerun alone.

**In**: records of `records.py`.
**Out**: Parquet, or ArrayRecord where the name ends so, each record the bytes of one JSON object; written under a
temporary name, synced, renamed when whole; equal records give equal bytes. An object store gets and gives whole files.
**Not**: any knowledge of what a record means.
"""

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Collection, Container, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from codegemma import array_records
from codegemma.errors import InputError, OutputError
from codegemma.folders import refuse_half_removed
from codegemma.layout import Column, from_columns, from_row, lay_out, make_schema, to_columns, to_row
from codegemma.places import is_remote, open_local, put_file

T = TypeVar("T")

PARQUET_SUFFIX = ".parquet"
SUFFIXES = (PARQUET_SUFFIX, array_records.SUFFIX)
# Records in one row group: enough for zstd to find repetition, few enough that a reader holds some megabytes.
ROW_GROUP_RECORDS = 128


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
        write = _write_blobs if path.suffix == array_records.SUFFIX else _write_table
        count = write(temporary, path, chain(first, iterator), kind)
        with _as_output_error(path):
            _rename_synced(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return count


def _write_table(temporary: Path, path: Path, records: Iterator[Any], kind: type | None) -> int:
    schema = make_schema(kind) if kind is not None else pa.schema([])
    columns = lay_out(kind) if kind is not None else {}
    count = 0
    with _as_output_error(path):
        # Dictionaries cost a quarter of the time: texts and offsets hardly repeat, and zstd finds what does.
        writer = pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=False, write_page_checksum=True)
    try:
        while group := list(islice(records, ROW_GROUP_RECORDS)):
            table = pa.Table.from_arrays(list(to_columns(group, columns)), schema=schema)
            with _as_output_error(path):
                writer.write_table(table, row_group_size=ROW_GROUP_RECORDS)
            count += len(group)
    finally:
        with _as_output_error(path):
            writer.close()
    return count


def _write_blobs(temporary: Path, path: Path, records: Iterator[Any], kind: type | None) -> int:
    columns = lay_out(kind) if kind is not None else {}
    with _as_output_error(path):
        return array_records.write_blobs(temporary, (_to_json(to_row(record, columns)) for record in records))


def _to_json(row: dict[str, Any]) -> bytes:
    # Only an array is no plain data.
    spelled = json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=lambda array: array.tolist())
    return spelled.encode()


def find_format(path: Path) -> Path:
    """Find records by the name that they have in Parquet: where they stand in ArrayRecord only, by that name."""
    other = path.with_suffix(array_records.SUFFIX)
    return other if path.suffix == PARQUET_SUFFIX and not path.exists() and other.exists() else path


def list_parts(path: Path) -> list[Path]:
    """List the files that `path` is made of, in either format: itself, or, of a folder, its parts by their names.

    In a store it is one object: builds that are published there are read by `published.lend_build`.
    """
    if is_remote(path) or not (path := find_format(path)).is_dir():
        return [path]
    return sorted(part for part in path.glob("[!.]*") if part.suffix in SUFFIXES)


def find_output(place: Path, name: str) -> Path:
    """Find an output of a build: in its folder, or `place` is that file or folder of parts itself.

    Raises:
        InputError: a repository is being removed from it.
    """
    found = find_format(place / name) if place.is_dir() and place.stem != Path(name).stem else place
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


def read_columns(path: Path, kind: type) -> Any:
    """Read the records of one Parquet file as an Arrow table, where an object for each would be too much.

    Raises:
        InputError: as `read_records`.
    """
    with _open_records(_as_place(path), kind) as file, pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        _check_schema(path, parquet, kind)
        return parquet.read(use_threads=False)


def _read_part(path: Path, kind: type[T], rows: frozenset[int] | None) -> Iterator[T]:
    read = _read_blobs if path.suffix == array_records.SUFFIX else _read_table
    with _open_records(path, kind) as file:
        yield from read(path, file, kind, rows)


@contextlib.contextmanager
def _open_records(path: Path, kind: type) -> Iterator[Path]:
    if not is_remote(path) and not path.is_file():
        raise InputError(f"{path}: no such file; wanted {kind.__name__} records in Parquet")
    try:
        with open_local(path) as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; wanted {kind.__name__} records in Parquet") from error
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _describe_damage(path, error) from error


def _read_table(path: Path, file: Path, kind: type[T], rows: frozenset[int] | None) -> Iterator[T]:
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        columns = _check_schema(path, parquet, kind)
        wanted = None if rows is None else {row // ROW_GROUP_RECORDS for row in rows}
        for group in range(parquet.num_row_groups) if wanted is None else sorted(wanted):
            table = parquet.read_row_group(group, use_threads=False)
            if rows is not None:
                first = group * ROW_GROUP_RECORDS
                places = [row - first for row in sorted(rows) if 0 <= row - first < table.num_rows]
                table = table.take(pa.array(places, pa.int64()))
            arrays = {name: table[name].combine_chunks() for name in columns}
            yield from from_columns(arrays, kind, columns)


def _read_blobs(path: Path, file: Path, kind: type[T], rows: frozenset[int] | None) -> Iterator[T]:
    for blob in array_records.read_blobs(file, None if rows is None else sorted(rows)):
        row = json.loads(blob)
        if not isinstance(row, dict):
            raise ValueError("no JSON object")
        columns = _find_columns(row, kind)
        if row.keys() != columns.keys():
            raise _describe_strangers(path, row, kind)
        yield from_row(row, kind, columns)


def _describe_damage(path: Path, error: Exception) -> InputError:
    reason = str(error).partition("\n")[0]
    wanted = "ArrayRecord" if path.suffix == array_records.SUFFIX else "Parquet"
    return InputError(f"{path}: truncated, damaged or not {wanted} ({reason}); build it again")


def count_records(path: Path) -> int:
    """Count the records of a file, or of a folder of files, without reading them.

    Raises:
        InputError: no such file, or not Parquet.
    """
    try:
        count = 0
        for part in list_parts(_as_place(path)):
            with open_local(part) as file:
                is_blobs = part.suffix == array_records.SUFFIX
                count += array_records.count_blobs(file) if is_blobs else pq.read_metadata(file).num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _describe_damage(path, error) from error
    return count


def _as_place(path: Path | str) -> Path:
    return Path(path) if isinstance(path, str) else path


def _check_schema(path: Path, parquet: Any, kind: Any) -> dict[str, Column]:
    """Check that a file holds records of a kind, and return the columns that it has of it."""
    schema = parquet.schema_arrow
    columns = _find_columns(schema.names, kind)
    is_empty = parquet.metadata.num_rows == 0 and not schema.names
    if not is_empty and not schema.equals(pa.schema([make_schema(kind).field(name) for name in columns])):
        raise _describe_strangers(path, schema.names, kind)
    return columns


def _find_columns(names: Container[str], kind: Any) -> dict[str, Column]:
    """Choose the columns to look for: a field with a default may be missing, the record is older than the field."""
    defaults = {field.name for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}
    return {name: column for name, column in lay_out(kind).items() if name in names or name not in defaults}


def _describe_strangers(path: Path, names: Iterable[str], kind: Any) -> InputError:
    wanted, came = ", ".join(lay_out(kind)), ", ".join(names)
    return InputError(f"{path}: not {kind.__name__} records; wanted columns {wanted}; came {came}; build it again")


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

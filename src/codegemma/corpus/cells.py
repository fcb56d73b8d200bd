"""Reads single cells of a Parquet column, of any size of file, and fast when they are asked for in their order.

**In**: a file, a column of strings or bytes, a row group, a row in it.
**Out**: the cell's bytes, whether or not they are text.
**Not**: which columns mean what (`parquet.py`).

A row group may hold gigabytes, so it is decoded batch by batch, going on from the row before; the batches that were
decoded last are kept. Rows in order cost one pass; going back costs another.
"""

import functools
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codegemma.corpus.copies import UnreachableError, open_kept

BATCH_ROWS = 64
# Decoded batches of one row group that are kept, at least one.
MAX_KEPT_BYTES = 64 * 2**20
# Most builds read one row group per process; a second serves licence texts that stand elsewhere.
_MAX_OPEN_GROUPS = 2
# Bytes read at once of a column that may be as long as its file.
_BUFFER_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class ParquetCell:
    """One cell of a Parquet file."""

    file: str
    column: str
    group: int
    row: int

    def read(self, max_bytes: int) -> bytes:
        """Read the cell. Raises `OSError` where the file is damaged or the cell is null."""
        try:
            cell = _open_group(self.file, self.column, self.group, os.getpid()).read(self.row)
        except UnreachableError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError, StopIteration) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's own: it says what is wrong
            reason = str(error).partition("\n")[0] or "it ends before this row"
            raise OSError(f"{self.file}: damaged in row group {self.group}: {reason}") from error
        if not cell.is_valid:
            raise OSError("null in place of the content")
        return bytes(memoryview(cell.as_buffer())[:max_bytes])


def open_parquet(file: str) -> Any:
    """Open a Parquet file for streaming.

    Raises:
        OSError: it cannot be read.
        pa.ArrowException: it is not Parquet.
    """
    return open_kept(
        file, lambda path: pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, page_checksum_verification=True)
    )


def as_bytes(column: Any) -> Any:
    """Look at a column of strings as bytes, without a check that they are UTF-8."""
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    return column.cast(pa.large_binary())


def is_texts(kind: Any) -> bool:
    """Say whether a column's type is strings or bytes."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


class _Group:
    """One column of one row group, decoded as far as it was asked for."""

    def __init__(self, file: str, column: str, group: int) -> None:
        self._parquet = open_parquet(file)
        self._column, self._group = column, group
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._start()

    def _start(self) -> None:
        self._batches: Iterator[Any] = self._parquet.iter_batches(
            BATCH_ROWS, row_groups=[self._group], columns=[self._column], use_threads=False
        )
        self._next = 0

    def read(self, row: int) -> Any:
        number = row // BATCH_ROWS
        if number not in self._kept:
            if number < self._next:
                self._start()
            while self._next <= number:
                self._keep(as_bytes(next(self._batches).column(0)))
        return self._kept[number][row % BATCH_ROWS]

    def _keep(self, batch: Any) -> None:
        self._kept[self._next] = batch
        self._kept.move_to_end(self._next)
        self._next += 1
        while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > MAX_KEPT_BYTES:
            self._kept.popitem(last=False)


@functools.lru_cache(maxsize=_MAX_OPEN_GROUPS)
def _open_group(file: str, column: str, group: int, _process: int) -> _Group:
    return _Group(file, column, group)

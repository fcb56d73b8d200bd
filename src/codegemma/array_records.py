"""ArrayRecord files: runs of bytes that are read by their number, in the format that Grain reads at random.

**In**: records spelled as bytes.
**Out**: a file of them, the same for the same bytes; back, all or some, each checked by the format's own sums.
**Not**: what the bytes mean (`shards.py`), or a file that appears whole: its writer renames it.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from codegemma.errors import MissingExtraError

SUFFIX = ".arrayrecord"
# Each record compressed on its own, so that reading one decodes one.
_OPTIONS = "group_size:1,zstd:3"
# Records that are read together.
_BATCH = 128


def _load_library() -> Any:
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise MissingExtraError(
            f"ArrayRecord files need packages that are not here ({error}); pip install codegemma[arrayrecord], "
            "or leave pack.format at parquet"
        ) from error
    return array_record_module


def write_blobs(path: Path, blobs: Iterable[bytes]) -> int:
    """Write records to a file and return their number.

    Raises:
        OSError: no permission or no space.
        MissingExtraError: the extra `arrayrecord` is not installed.
    """
    library = _load_library()
    count = 0
    with _as_os_error():
        writer = library.ArrayRecordWriter(str(path), _OPTIONS)
    try:
        for blob in blobs:
            with _as_os_error():
                writer.write(blob)
            count += 1
    finally:
        with _as_os_error():
            writer.close()
    return count


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the library has no other class for what the disk refuses
        raise OSError(str(error).partition(";")[0]) from error


def read_blobs(path: Path, rows: Sequence[int] | None = None) -> Iterator[bytes]:
    """Stream the records of a file, all or those of some rows, which count from 0.

    Raises:
        ValueError: not whole, damaged, or not ArrayRecord.
        MissingExtraError: the extra `arrayrecord` is not installed.
    """
    reader = _open(path)
    try:
        wanted = range(reader.num_records()) if rows is None else [row for row in rows if row < reader.num_records()]
        for first in range(0, len(wanted), _BATCH):
            yield from reader.read(list(wanted[first : first + _BATCH]))
    except RuntimeError as error:
        raise ValueError(str(error).partition(";")[0]) from error
    finally:
        reader.close()


def count_blobs(path: Path) -> int:
    """Count the records of a file; raises what `read_blobs` raises."""
    reader = _open(path)
    try:
        return int(reader.num_records())
    finally:
        reader.close()


def _open(path: Path) -> Any:
    try:
        reader = _load_library().ArrayRecordReader(str(path))
        if not reader.ok():  # a file that was cut off would read as an empty one
            reader.close()  # raises what is wrong
            raise RuntimeError("no ArrayRecord file")
    except RuntimeError as error:
        raise ValueError(str(error).partition(";")[0]) from error
    return reader

"""Keeps sketches on disk, a folder for each shard, so that near-duplicates are found without all of them in memory.

**In**: the sketches of the files of one shard; the sketches of its part of each repository.
**Out**: the same, mapped from disk; the parts of each repository merged into one sketch.
**Not**: a search (`near_duplicates.py`). About a kilobyte a file: 512 bytes of signature, 504 of sorted band hashes.
"""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt32, UInt64

from codegemma.corpus.sketches import (
    BANDS,
    PLACES,
    Signatures,
    Sketch,
    Sketches,
    hash_bands,
    merge_sketches,
    shorten_sketches,
)
from codegemma.errors import InputError, OutputError
from codegemma.files import write_whole

FileKey = tuple[str, str]  # repository and path

# Written last: a shard without it is not whole.
KEYS, _SIGNATURES, _BAND_HASHES, _BAND_ROWS = "keys.parquet", "signatures.npy", "band_hashes.npy", "band_rows.npy"
_KEY_SCHEMA = pa.schema([("repo", pa.string()), ("path", pa.string())])
_REPO_SCHEMA = pa.schema([("repo", pa.string()), ("sketch", pa.binary(PLACES * 8))])


class SketchShard(NamedTuple):
    """The sketched files of one shard. `band_hashes` is sorted and `band_rows` tells whose hash it is."""

    keys: Any  # an Arrow table of `repo` and `path`
    signatures: Signatures
    band_hashes: UInt64[np.ndarray, " entries"]
    band_rows: UInt32[np.ndarray, " entries"]


def make_shard(sketches: Mapping[FileKey, Sketch]) -> SketchShard:
    """Prepare a shard for the search."""
    rows: Sketches = np.array(list(sketches.values()), np.uint64).reshape(-1, PLACES)
    hashes = hash_bands(rows).ravel()
    order = np.argsort(hashes, kind="stable")
    table = pa.table([[repo for repo, _ in sketches], [path for _, path in sketches]], schema=_KEY_SCHEMA)
    return SketchShard(table, shorten_sketches(rows), hashes[order], (order // BANDS).astype(np.uint32))


def write_shard(path: Path, shard: SketchShard) -> None:
    """Write a shard as the folder `path`; an earlier one there is replaced. `KEYS` is written last.

    Raises:
        OutputError: no permission, no space, or a file in the way.
    """
    try:
        (path / KEYS).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error
    arrays = {_SIGNATURES: shard.signatures, _BAND_HASHES: shard.band_hashes, _BAND_ROWS: shard.band_rows}
    for file_name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_whole(path / file_name, buffer.getvalue())
    write_whole(path / KEYS, _encode_table(shard.keys))


def read_shard(path: Path) -> SketchShard:
    """Map a shard from the folder that `write_shard` made; only what the search looks at is read.

    Raises:
        InputError: the shard is not whole.
    """
    try:
        keys = pq.read_table(path / KEYS, schema=_KEY_SCHEMA)
        arrays = [np.load(path / name, mmap_mode="r") for name in (_SIGNATURES, _BAND_HASHES, _BAND_ROWS)]
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: not a whole shard of sketches ({reason}); remove it and build it again") from error
    shard = SketchShard(keys, *arrays)
    wanted = ((keys.num_rows, PLACES), (keys.num_rows * BANDS,), (keys.num_rows * BANDS,))
    came = tuple(array.shape for array in arrays)
    if came != wanted:
        raise InputError(f"{path}: arrays of {came} for {keys.num_rows} files; wanted {wanted}; build it again")
    return shard


def write_repository_sketches(path: Path, sketches: Mapping[str, Sketch]) -> None:
    """Write what one shard knows of each repository: the merged sketch of the files of it that lie in the shard.

    Raises:
        OutputError: no permission, no space, or a folder in the way.
    """
    columns = [list(sketches), [sketch.tobytes() for sketch in sketches.values()]]
    write_whole(path, _encode_table(pa.table(columns, schema=_REPO_SCHEMA)))


def read_repository_sketches(files: Iterable[Path]) -> dict[str, Sketch]:
    """Merge what shards know: the sketch of each whole repository, by name.

    Raises:
        InputError: a file that is not whole.
    """
    merged: dict[str, Sketch] = {}
    for path in files:
        try:
            rows = pq.read_table(path, schema=_REPO_SCHEMA).to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"{path}: truncated, damaged or not sketches ({reason}); build it again") from error
        for row in rows:
            part = np.frombuffer(row["sketch"], np.uint64)
            merged[row["repo"]] = merge_sketches([part, merged[row["repo"]]] if row["repo"] in merged else [part])
    return dict(sorted(merged.items()))


def _encode_table(table: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()

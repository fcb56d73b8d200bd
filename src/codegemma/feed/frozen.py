"""Token shards: the very rows that a loader gives, written down for audit and for trainers of other kinds.

**In**: a loader, and how many steps.
**Out**: `rows-*.parquet`, one record for each row of each step with the pieces of files that it is made of,
`tokenizer.json` and `frozen.json`; `read_frozen` gives the same batches back.
**Not**: how this project trains: fresh holes in every epoch cost nothing here, on disk they cost an epoch each.

Killed at any moment and started again, whole shards stay. Their bytes do not depend on the number of workers.
"""

import contextlib
import hashlib
import io
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from codegemma.errors import InputError, OutputError
from codegemma.feed.loader import KnownBatch, Loader
from codegemma.feed.trace import list_batch
from codegemma.files import write_whole
from codegemma.places import get_bytes, is_remote
from codegemma.recipe import to_plain
from codegemma.records import Batch
from codegemma.runner import Progress, ignore_progress
from codegemma.text.tokenizer import TOKENIZER_FILE

FROZEN_FILE = "frozen.json"
# Raise it when shards come to be laid out otherwise.
FORMAT_VERSION = 1
# As large as a shard may be in memory, in tokens: 16 MB.
SHARD_TOKENS = 2**20

_TEXT, _NUMBER = pa.string(), pa.int32()
_PIECE = pa.struct(
    [
        *(pa.field(name, _NUMBER, nullable=False) for name in ("segment", "token_start", "token_end", "epoch")),
        pa.field("repo", _TEXT, nullable=False),
        pa.field("commit", _TEXT),
        *(pa.field(name, _TEXT, nullable=False) for name in ("path", "blob", "language")),
        pa.field("license", _TEXT),
        pa.field("pack_id", _TEXT, nullable=False),
        *(pa.field(name, _NUMBER, nullable=False) for name in ("start", "end", "first_line", "last_line")),
        pa.field("mode", _TEXT),
        pa.field("hole_start", _NUMBER),
        pa.field("hole_end", _NUMBER),
        pa.field("redactions", pa.list_(_TEXT), nullable=False),
    ]
)
_ARRAYS = {"ids": np.int32, "loss_weights": np.float32, "segments": np.int32, "positions": np.int32}


@dataclass(frozen=True, slots=True)
class FrozenShard:
    """One file of rows. `tokens` counts those that are no padding; `state` is where the loader stands after it."""

    name: str
    first_step: int
    steps: int
    tokens: int
    size_bytes: int
    sha256: str
    state: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FrozenManifest:
    """What `frozen.json` holds: `about` is what decides the rows. Whole when its shards hold all `steps`."""

    about: dict[str, Any]
    steps: int
    batch_rows: int
    row_tokens: int
    shard_steps: int
    shards: tuple[FrozenShard, ...]
    format_version: int = FORMAT_VERSION

    @property
    def steps_done(self) -> int:
        """How many steps the shards hold."""
        return sum(shard.steps for shard in self.shards)


def freeze_rows(
    loader: Loader,
    out: Path,
    steps: int,
    about: Mapping[str, Any],
    *,
    workers: int = 1,
    on_progress: Progress = ignore_progress,
    check_batch: Callable[[int, Batch], None] | None = None,
) -> FrozenManifest:
    """Write the first `steps` batches of a fresh loader; shards that are there already are kept.

    `about` is what decides the rows besides the loader: plain data, kept in the manifest. `check_batch` sees every
    batch that is computed and may refuse it. `workers` threads encode and write; the loader is one.

    Raises:
        OutputError: `out` cannot be written, or holds other rows.
    """
    shape = loader.shape
    shard_steps = max(SHARD_TOKENS // (shape.rows * shape.row_tokens), 1)
    decided = {**to_plain(about), "loader": loader.identity}
    fresh = FrozenManifest(decided, steps, shape.rows, shape.row_tokens, shard_steps, ())
    manifest = _keep_whole_shards(out, fresh)
    for left_by_a_kill in () if is_remote(out) else out.glob(".rows-*.tmp"):
        left_by_a_kill.unlink()
    # What the ids mean goes with them.
    write_whole(out / TOKENIZER_FILE, loader.tokenizer.to_json().encode())
    _write_manifest(out, manifest)
    if manifest.shards:
        loader.set_state(manifest.shards[-1].state)
    under_way: deque[Future[FrozenShard]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for first in range(manifest.steps_done + 1, steps + 1, shard_steps):
            # A shard that waits to be written is memory: no more of them than workers.
            if len(under_way) >= workers:
                manifest = _add_shard(out, manifest, under_way.popleft().result())
            batches = []
            for step in range(first, min(first + shard_steps, steps + 1)):
                batches.append(loader.take_known())
                if check_batch is not None:
                    check_batch(step, batches[-1].batch)
                on_progress("freeze", step, steps)
            shard = _Shard(out, first, batches, _list_plain_pieces(loader, batches), loader.get_state())
            under_way.append(pool.submit(_write_shard, shard))
        while under_way:
            manifest = _add_shard(out, manifest, under_way.popleft().result())
    return manifest


class _Shard(NamedTuple):
    out: Path
    first_step: int
    batches: list[KnownBatch]
    pieces: list[list[dict[str, Any]]]
    state: dict[str, Any]


def _list_plain_pieces(loader: Loader, batches: list[KnownBatch]) -> list[list[dict[str, Any]]]:
    """List the pieces of every row of some batches."""
    rows = [list_batch(loader, known, [row]) for known in batches for row in range(len(known.serials))]
    return [[to_plain(piece) for piece in pieces] for pieces in rows]


def _write_shard(shard: _Shard) -> FrozenShard:
    data = _encode_shard(shard)
    name = f"rows-{shard.first_step:09d}.parquet"
    write_whole(shard.out / name, data)
    return FrozenShard(
        name=name,
        first_step=shard.first_step,
        steps=len(shard.batches),
        tokens=sum(int(np.count_nonzero(known.batch.segments)) for known in shard.batches),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        state=shard.state,
    )


def _encode_shard(shard: _Shard) -> bytes:
    batches = [known.batch for known in shard.batches]
    rows, row_tokens = batches[0].ids.shape
    steps = np.arange(shard.first_step, shard.first_step + len(batches), dtype=np.int32)
    columns = {
        "step": pa.array(np.repeat(steps, rows)),
        "row": pa.array(np.tile(np.arange(rows, dtype=np.int32), len(batches))),
    }
    for name in _ARRAYS:
        values = np.concatenate([getattr(batch, name) for batch in batches]).ravel()
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(values), row_tokens)
    columns["pieces"] = pa.array(shard.pieces, pa.list_(_PIECE))
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def _add_shard(out: Path, manifest: FrozenManifest, shard: FrozenShard) -> FrozenManifest:
    grown = FrozenManifest(**{**_fields(manifest), "shards": (*manifest.shards, shard)})
    _write_manifest(out, grown)
    return grown


def _fields(manifest: FrozenManifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in FrozenManifest.__slots__}


def _keep_whole_shards(out: Path, fresh: FrozenManifest) -> FrozenManifest:
    """Take up what an earlier call left, as far as its shards are whole one after the other."""
    earlier = read_manifest(out)
    if earlier is None:
        return fresh
    changed = [name for name in _fields(fresh) if name != "shards" and getattr(fresh, name) != getattr(earlier, name)]
    if changed:
        raise OutputError(
            f"{out} holds other rows: {', '.join(changed)} differ from its {FROZEN_FILE}; choose another --out"
        )
    kept: list[FrozenShard] = []
    for shard in earlier.shards:
        try:
            _read_shard_bytes(out, shard)
        except InputError:
            break
        kept.append(shard)
    return FrozenManifest(**{**_fields(fresh), "shards": tuple(kept)})


def _write_manifest(out: Path, manifest: FrozenManifest) -> None:
    write_whole(out / FROZEN_FILE, (json.dumps(to_plain(manifest), indent=1, ensure_ascii=False) + "\n").encode())


def read_manifest(folder: Path) -> FrozenManifest | None:
    """Read the manifest of frozen rows; `None` where there is none.

    Raises:
        InputError: there is one that cannot be read.
    """
    path = folder / FROZEN_FILE
    try:
        plain = json.loads(get_bytes(path).decode())
        shards = tuple(FrozenShard(**shard) for shard in plain["shards"])
        manifest = FrozenManifest(**{**plain, "shards": shards})
        if manifest.steps_done > manifest.steps:
            raise ValueError(f"{manifest.steps_done} of {manifest.steps} steps")
        return manifest
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not of this version or damaged ({error!r}); freeze the rows again") from error


def read_frozen(folder: Path, first_step: int = 1) -> Iterator[Batch]:
    """Stream the batches of frozen rows, bit for bit what the loader gave; needs neither JAX nor the packs.

    Raises:
        InputError: nothing frozen there, not finished, or a shard is missing or damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder} holds no {FROZEN_FILE}; wanted a folder that `codegemma freeze` wrote")
    if manifest.steps_done < manifest.steps:
        raise InputError(
            f"{folder} holds {manifest.steps_done} of {manifest.steps} steps; the same `codegemma freeze` goes on"
        )
    for shard in manifest.shards:
        if shard.first_step + shard.steps > first_step:
            yield from _read_shard(folder, manifest, shard, max(first_step - shard.first_step, 0))


def _read_shard(folder: Path, manifest: FrozenManifest, shard: FrozenShard, skipped_steps: int) -> Iterator[Batch]:
    shape = (shard.steps, manifest.batch_rows, manifest.row_tokens)
    try:
        # Without threads: Arrow's may still run when a short program ends, and abort it.
        data = pa.BufferReader(_read_shard_bytes(folder, shard))
        table = pq.read_table(data, columns=list(_ARRAYS), use_threads=False, pre_buffer=False)
        arrays = {
            name: table.column(name).combine_chunks().flatten().to_numpy().astype(kind, copy=False).reshape(shape)
            for name, kind in _ARRAYS.items()
        }
    except (pa.ArrowException, ValueError) as error:
        raise InputError(f"{folder / shard.name}: not a shard of this version ({error}); freeze again") from error
    for step in range(skipped_steps, shard.steps):
        yield Batch(**{name: array[step] for name, array in arrays.items()})


def _read_shard_bytes(folder: Path, shard: FrozenShard) -> bytes:
    path = folder / shard.name
    data = b""
    with contextlib.suppress(OSError):
        data = get_bytes(path)
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise InputError(f"{path} is missing or not what was written; freeze the rows again: whole shards are kept")
    return data

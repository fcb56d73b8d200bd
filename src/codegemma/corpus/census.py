"""Remembers what became of every file of a build, in columns: some 300 bytes a file, for a corpus of millions of them.

**In**: what intake found out, shard by shard; then, stage by stage, which texts are dropped and why.
**Out**: which texts are kept, on which side of the held-out border, where they stand, what is known of them; all drops.
**Not**: texts, or a judgement of them. A text is known by its number, counted from 0 through all shards.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from codegemma.corpus.intake import Sighting
from codegemma.corpus.sketch_shards import FileKey
from codegemma.layout import from_columns, lay_out, make_schema
from codegemma.records import DroppedFile
from codegemma.shards import read_columns

Numbers = Int64[np.ndarray, " texts"]
Mask = Bool[np.ndarray, " texts"]

# Drops that are turned into records at a time.
_BATCH_ROWS = 4_096
_DROP_ORDER = [("repo", "ascending"), ("path", "ascending"), ("stage", "ascending")]


class Drop(NamedTuple):
    """A text that is left out, and why."""

    number: int
    reason: str
    detail: str


class Census:
    """All texts of a build. `is_kept` and `is_heldout` have a place for each; what is dropped is not held out."""

    def __init__(self, sightings: Sequence[Path], dropped: Sequence[Path]) -> None:
        """Read what intake wrote: for each shard a file of `Sighting`s and one of `DroppedFile`s.

        Raises:
            InputError: a file that is not whole.
        """
        seen = [read_columns(path, Sighting) for path in sightings]
        self._starts = np.cumsum([0, *(table.num_rows for table in seen)])
        self._seen = pa.concat_tables([make_schema(Sighting).empty_table(), *seen]).combine_chunks()
        self._drops = [make_schema(DroppedFile).empty_table(), *(read_columns(path, DroppedFile) for path in dropped)]
        self.is_kept: Mask = np.ones(self._seen.num_rows, np.bool_)
        self.is_heldout: Mask = np.zeros(self._seen.num_rows, np.bool_)

    @property
    def is_train(self) -> Mask:
        """What is kept to be trained on."""
        is_train: Mask = self.is_kept & ~self.is_heldout
        return is_train

    @property
    def size_bytes(self) -> Numbers:
        """The size of each text."""
        sizes: Numbers = self._seen["size_bytes"].to_numpy()
        return sizes

    @staticmethod
    def find(chosen: Mask) -> Numbers:
        """Give the numbers of the chosen texts, in order."""
        return np.flatnonzero(chosen)

    def number_at(self, shard: int, row: int) -> int:
        """Give the number of the text in a row of a shard."""
        return int(self._starts[shard]) + row

    def rows_by_shard(self, chosen: Mask) -> dict[int, tuple[int, ...]]:
        """Say where the chosen texts stand: rows by shard, both in order."""
        cuts = np.searchsorted(np.flatnonzero(chosen), self._starts)
        parts = np.split(np.flatnonzero(chosen), cuts[1:-1])
        starts = self._starts.tolist()
        return {shard: tuple((part - starts[shard]).tolist()) for shard, part in enumerate(parts) if len(part)}

    def find_numbers(self, keys: Collection[FileKey]) -> dict[FileKey, int]:
        """Give the numbers of some files."""
        paths = pa.array(sorted({path for _, path in keys}), pa.string())
        numbers = np.flatnonzero(pc.is_in(self._seen["path"], value_set=paths).to_numpy())
        found = zip(self._list("repo", numbers), self._list("path", numbers), numbers.tolist(), strict=True)
        return {(repo, path): number for repo, path, number in found if (repo, path) in keys}

    def list_columns(self, names: Sequence[str], numbers: Numbers) -> Iterator[tuple[Any, ...]]:
        """List some fields of the `Sighting`s of some texts."""
        return zip(*(self._list(name, numbers) for name in names), strict=True)

    def list_values(self, name: str) -> Iterator[tuple[Any, Numbers]]:
        """List the different values of a field, each with the kept texts that have it."""
        kept = self.find(self.is_kept)
        coded = pc.dictionary_encode(self._seen[name].take(pa.array(kept)), null_encoding="encode").combine_chunks()
        codes = coded.indices.to_numpy()
        numbers = kept[np.argsort(codes, kind="stable")]
        ends = np.cumsum(np.bincount(codes, minlength=len(coded.dictionary)))
        for value, start, end in zip(coded.dictionary.to_pylist(), [0, *ends[:-1]], ends, strict=False):
            yield value, numbers[start:end]

    def list_repeated(self, name: str) -> Numbers:
        """List the kept texts whose value of a field another kept text has too."""
        kept = self.find(self.is_kept)
        coded = pc.dictionary_encode(self._seen[name].take(pa.array(kept))).combine_chunks()
        codes = coded.indices.to_numpy()
        repeated: Numbers = kept[np.bincount(codes, minlength=len(coded.dictionary))[codes] > 1]
        return repeated

    def drop(self, stage: str, drops: Iterable[Drop]) -> None:
        """Leave texts out; one that is gone already, or comes twice, went by its first reason."""
        first: dict[int, Drop] = {}
        for drop in drops:
            if self.is_kept[drop.number]:
                first.setdefault(drop.number, drop)
        numbers = np.array(list(first), np.int64)
        self.is_kept[numbers] = False
        self.is_heldout[numbers] = False
        places = self._seen.take(pa.array(numbers))
        columns = {
            "repo": places["repo"],
            "path": places["path"],
            "stage": pa.array([stage] * len(first), pa.string()),
            "reason": pa.array([drop.reason for drop in first.values()], pa.string()),
            "detail": pa.array([drop.detail for drop in first.values()], pa.string()),
            "size_bytes": places["size_bytes"],
        }
        self._drops.append(pa.table(columns, schema=make_schema(DroppedFile)))

    def list_drops(self) -> Iterator[DroppedFile]:
        """List all dropped files by repository, path and stage."""
        drops = pa.concat_tables(self._drops).combine_chunks()
        order = pc.sort_indices(drops, sort_keys=_DROP_ORDER)
        for start in range(0, len(order), _BATCH_ROWS):
            batch = drops.take(order[start : start + _BATCH_ROWS]).combine_chunks()
            arrays = {name: batch[name].combine_chunks() for name in batch.column_names}
            yield from from_columns(arrays, DroppedFile, lay_out(DroppedFile))

    def _list(self, name: str, numbers: Numbers) -> list[Any]:
        values: list[Any] = self._seen[name].take(pa.array(numbers)).to_pylist()
        return values

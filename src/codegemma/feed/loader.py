"""Feeds training: shuffles windows, spells them with fresh holes in every epoch, packs them into rows, batches rows.

**In**: a Parquet file of packs, a tokenizer, choices, the shape of a batch.
**Out**: `Loader`, an endless iterator of `Batch` that can be stopped and taken up exactly where it was.
**Not**: several worker processes: one core spells some hundred times what a laptop trains on (`benchmarks/feed.py`).

Grain underneath: the state of a loader is a few integers, and the batches after `set_state` equal those without an
interruption. Rows are packed in this process, as grain's packing iterator must be, and prefetched by one thread.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from codegemma.errors import InputError
from codegemma.feed.choices import FeedChoices, FeedError
from codegemma.feed.rows import SpelledWindow, WindowSpeller
from codegemma.feed.windows import plan_windows
from codegemma.recipe import fingerprint
from codegemma.records import Batch, Pack
from codegemma.shards import find_output, read_records
from codegemma.text.tokenizer import Tokenizer

# Batches that lie ready while a step runs.
_PREFETCHED_BATCHES = 4


@dataclass(frozen=True, slots=True)
class RowShape:
    """The shape of a batch: `rows` (B) of `row_tokens` (L), and which share of the data this host reads."""

    rows: int
    row_tokens: int
    host: int = 0
    hosts: int = 1


class KnownBatch(NamedTuple):
    """A batch, and for each row the serial numbers of its windows: segment `n` is number `n - 1` of its row."""

    batch: Batch
    serials: tuple[tuple[int, ...], ...]


class Loader:
    """An endless, resumable iterator of batches."""

    def __init__(
        self, packs: list[Pack], tokenizer: Tokenizer, choices: FeedChoices, shape: RowShape, seed: int
    ) -> None:
        """Plan the windows of `packs` and start at the first epoch; see `open_loader`."""
        self.packs, self.tokenizer, self.shape = packs, tokenizer, shape
        self.speller = WindowSpeller(packs, tokenizer, choices, seed, shape.row_tokens)
        self.windows = plan_windows(packs, tokenizer, shape.row_tokens, self.speller.encode, choices.min_window_share)
        if len(self.windows) < shape.hosts:
            raise FeedError(f"{len(self.windows)} windows cannot feed {shape.hosts} hosts; use fewer or more data")
        self._windows_per_epoch = len(range(shape.host, len(self.windows), shape.hosts))
        self.identity = fingerprint([w.blob for p in packs for w in p.files], choices, shape, seed)
        self._order = _shuffle_windows(len(self.windows), shape, seed)
        self._iterator = _build_pipeline(self._order, self._spell, choices, shape, seed)
        self.first_state = self.get_state()

    def __iter__(self) -> Iterator[Batch]:
        """Return the loader itself."""
        return self

    def __next__(self) -> Batch:
        """Return the next batch; there is always one."""
        return self.take_known().batch

    def take_known(self) -> KnownBatch:
        """Return the next batch with what it is made of; `spell_serial` tells what a serial number stands for."""
        rows = next(self._iterator)
        batch = Batch(rows["ids"], rows["weights"], rows["ids_segment_ids"], rows["ids_positions"])
        return KnownBatch(batch, rows["serials"])

    def spell_serial(self, serial: int) -> SpelledWindow:
        """Spell this host's window number `serial`, counted on through its epochs."""
        return self._spell(serial, self._order[serial])

    def _spell(self, serial: int, window: int) -> SpelledWindow:
        return self.speller.spell(self.windows[window], self.find_epoch(serial))

    def find_epoch(self, serial: int) -> int:
        """Tell in which epoch the window number `serial` is read; the first is 0."""
        return serial // self._windows_per_epoch

    def get_state(self) -> dict[str, Any]:
        """Return where the loader is, as plain data; taken after a batch, it leads to the next."""
        return {"identity": self.identity, "position": self._iterator.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken.

        Raises:
            InputError: the state is of other data, choices, shape or seed: it would lead to other batches.
        """
        if state.get("identity") != self.identity:
            raise InputError(
                f"this loader state belongs to other data or choices ({state.get('identity')}, here {self.identity}); "
                "go on with the run's own data and settings, or start a new run in another folder"
            )
        self._iterator.set_state(state["position"])

    @property
    def epoch(self) -> int:
        """Tell how many times the batches so far have gone through this host's windows."""
        position = self._iterator.get_state()
        while "next_index" not in position:
            position = position["parent"]
        return int(position["next_index"]) // self._windows_per_epoch

    def close(self) -> None:
        """Stop prefetching; no more batches after this."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            # Dropped here as well: grain complains if it is still held when the interpreter ends.
            iterator.close()


def hash_batch(batch: Batch) -> str:
    """Hash what a step reads: equal batches have equal hashes, on every machine."""
    digest = xxhash.xxh3_64()
    for array in (batch.ids, batch.loss_weights, batch.segments, batch.positions):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def open_loader(packs: Path, tokenizer: Tokenizer, choices: FeedChoices, shape: RowShape, seed: int) -> Loader:
    """Open `packs-train.parquet` (or the folder that holds it) as an endless loader.

    The order of batches depends on `seed`, the choices, the packs and the shape alone.

    Raises:
        InputError: no such file, or not packs.
        FeedError: nothing to train on, or rows too short.
    """
    file = find_output(packs, "packs-train.parquet")
    records = list(read_records(file, Pack))
    if not any(f.text for pack in records for f in pack.files):
        raise FeedError(f"{file} holds no text to train on; run `codegemma build` on a repository with source files")
    return Loader(records, tokenizer, choices, shape, seed)


def _shuffle_windows(windows: int, shape: RowShape, seed: int) -> Any:
    """Order this host's windows, afresh in each epoch: serial number to index of window."""
    import grain  # loads JAX: only who trains pays for it

    order = grain.MapDataset.range(windows).seed(seed).shuffle()
    return order[shape.host :: shape.hosts].repeat()


def _build_pipeline(
    order: Any, spell: Callable[[int, int], SpelledWindow], choices: FeedChoices, shape: RowShape, seed: int
) -> Any:
    import grain

    def spell_known(serial: int, window: int) -> dict[str, Any]:
        spelled = spell(serial, window)
        return {"ids": spelled.ids, "weights": spelled.weights, "serials": serial}

    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    dataset = order.map_with_index(spell_known).to_iter_dataset(options)
    lengths = {"ids": shape.row_tokens, "weights": shape.row_tokens}
    packed = grain.experimental.FirstFitPackIterDataset(
        dataset, length_struct=lengths, num_packing_bins=choices.packing_bins, seed=seed, meta_features=("serials",)
    )
    batches = packed.batch(shape.rows, drop_remainder=True, batch_fn=_stack_rows)
    return iter(grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=_PREFETCHED_BATCHES))


def _stack_rows(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0].keys() - {"serials"}}
    return {**stacked, "serials": tuple(tuple(row["serials"]) for row in rows)}

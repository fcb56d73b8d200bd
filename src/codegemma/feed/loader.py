"""Feeds training: shuffles windows, spells them with fresh holes in every epoch, packs them into rows, batches rows.

**In**: a Parquet file of packs, a tokenizer, choices (of which mixture, among others), the shape of a batch.
**Out**: `Loader`, an endless iterator of `Batch` that can be stopped and taken up exactly where it was.
**Not**: several worker processes: one core spells some hundred times what a laptop trains on (`benchmarks/feed.py`).

Grain underneath: the state of a loader is a few integers, and the batches after `set_state` equal those without an
interruption. Rows are packed in this process, as grain's packing iterator must be, and prefetched by one thread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from jaxtyping import Int32

from codegemma.errors import InputError
from codegemma.feed.choices import FeedChoices, FeedError, describe_feed
from codegemma.feed.mixture import Source
from codegemma.feed.rows import SpelledWindow, WindowSpeller
from codegemma.feed.windows import plan_windows
from codegemma.recipe import fingerprint
from codegemma.records import Batch, Pack
from codegemma.shards import find_output, read_records
from codegemma.text.tokenizer import Tokenizer

# Batches that lie ready while a step runs.
_PREFETCHED_BATCHES = 4
# Windows of a source that tell how long its windows are.
_LOOKED_AT_WINDOWS = 500


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
        self.sources = choices.mixture.list_sources()
        source_of = {kind: number for number, source in enumerate(self.sources) for kind in source.kinds}
        self.packs = [pack for pack in packs if pack.kind in source_of]
        _check_sources(self.sources, packs)
        self.tokenizer, self.shape = tokenizer, shape
        self.speller = WindowSpeller(self.packs, tokenizer, choices, seed, shape.row_tokens)
        self.windows = plan_windows(
            self.packs, tokenizer, shape.row_tokens, self.speller.encode, choices.min_window_share
        )
        numbers: list[list[int]] = [[] for _ in self.sources]
        for number, window in enumerate(self.windows):
            numbers[source_of[self.packs[window[0].pack].kind]].append(number)
        self._orders = [_Order(own, shape, seed, source) for own, source in zip(numbers, self.sources, strict=True)]
        self.identity = fingerprint([w.blob for p in self.packs for w in p.files], describe_feed(choices), shape, seed)
        self._iterator = self._build_pipeline(choices, seed)
        self.first_state = self.get_state()

    def _build_pipeline(self, choices: FeedChoices, seed: int) -> Any:
        import grain  # loads JAX: only who trains pays for it

        from codegemma.feed.turns import Turns

        turns = Turns([source.share for source in self.sources], self.spell_serial)
        lengths = {"ids": self.shape.row_tokens, "weights": self.shape.row_tokens}
        packed = grain.experimental.FirstFitPackIterDataset(
            turns,
            length_struct=lengths,
            num_packing_bins=choices.packing_bins,
            seed=seed,
            meta_features=("serials", "groups"),
        )
        batches = packed.batch(self.shape.rows, drop_remainder=True, batch_fn=_stack_rows)
        return iter(grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=_PREFETCHED_BATCHES))

    def __iter__(self) -> Iterator[Batch]:
        """Return the loader itself."""
        return self

    def __next__(self) -> Batch:
        """Return the next batch; there is always one."""
        return self.take_known().batch

    def take_known(self) -> KnownBatch:
        """Return the next batch with what it is made of; `spell_serial` tells what a serial number stands for."""
        rows = next(self._iterator)
        batch = Batch(
            rows["ids"],
            rows["weights"],
            rows["ids_segment_ids"],
            rows["ids_positions"],
            _spread(rows["groups"], self.shape),
        )
        return KnownBatch(batch, rows["serials"])

    def count_tokens(self, known: KnownBatch) -> list[int]:
        """Count the tokens of a batch by source, in the order of `sources`."""
        counts = [0] * len(self.sources)
        for segments, serials in zip(known.batch.segments, known.serials, strict=True):
            for serial, count in zip(serials, np.bincount(segments)[1:].tolist(), strict=True):
                counts[self._split_serial(serial)[0]] += count
        return counts

    def spell_serial(self, serial: int) -> SpelledWindow:
        """Spell this host's window of that serial number; numbers go on through its epochs."""
        source, number = self._split_serial(serial)
        return self.speller.spell(self.windows[self._orders[source].find_window(number)], self.find_epoch(serial))

    def find_epoch(self, serial: int) -> int:
        """Tell in which epoch of its source the window of a serial number is read; the first is 0."""
        source, number = self._split_serial(serial)
        return number // self._orders[source].epoch_windows

    def _split_serial(self, serial: int) -> tuple[int, int]:
        """Tell the source of a serial number, and the how manieth window of it this is."""
        number, source = divmod(serial, len(self.sources))
        return source, number

    def estimate_epochs(self, tokens: int) -> list[float]:
        """Tell how often this host will have gone through each source after so many tokens, from a look at some."""
        epochs = []
        for source, order in zip(self.sources, self._orders, strict=True):
            looked_at = range(min(order.epoch_windows, _LOOKED_AT_WINDOWS))
            windows = (self.windows[order.find_window(number)] for number in looked_at)
            mean = sum(len(self.speller.spell(window, epoch=0).ids) for window in windows) / len(looked_at)
            epochs.append(tokens * source.share / (mean * order.epoch_windows))
        return epochs

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
    def epochs(self) -> list[float]:
        """Tell how many times the batches so far have gone through this host's windows of each source."""
        position = self._iterator.get_state()
        while "next_index" not in position:
            position = position["parent"]
        windows = position.get("windows", [position["next_index"]])
        return [count / order.epoch_windows for count, order in zip(windows, self._orders, strict=True)]

    @property
    def epoch(self) -> int:
        """Tell how many times the batches so far have gone through the source that was read most often."""
        return int(max(self.epochs))

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


class _Order:
    """The order of one source's windows on this host, afresh in each epoch."""

    def __init__(self, windows: list[int], shape: RowShape, seed: int, source: Source) -> None:
        import grain

        if len(windows) < shape.hosts:
            whose = f" of {source.name}" if source.share < 1 else ""
            raise FeedError(f"{len(windows)} windows{whose} cannot feed {shape.hosts} hosts; use fewer or more data")
        self._windows = windows
        own = grain.MapDataset.range(len(windows)).seed(seed).shuffle()[shape.host :: shape.hosts]
        self.epoch_windows = len(own)
        self._order = own.repeat()

    def find_window(self, number: int) -> int:
        """Tell which window comes as number `number`, counted on through the epochs."""
        return self._windows[int(self._order[number])]


def _check_sources(sources: Sequence[Source], packs: Sequence[Pack]) -> None:
    """Refuse a mixture for which the data have nothing."""
    there = {pack.kind for pack in packs if any(file.text for file in pack.files)}
    for source in sources:
        if there and not there & set(source.kinds):
            found = ", ".join(sorted(there))
            raise FeedError(
                f"the mixture wants {source.share:.1%} {source.name}, and the data hold only {found}: "
                f"add it to the inputs of `codegemma build`, as {source.kinds[0]}=PATH, or change feed.mixture.shares"
            )


def _stack_rows(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    listed = {"serials", "groups"}
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0].keys() - listed}
    return stacked | {name: tuple(tuple(row[name]) for row in rows) for name in listed}


def _spread(rows: Sequence[Sequence[Sequence[tuple[int, int]]]], shape: RowShape) -> Int32[np.ndarray, "B L"]:
    """Give each token of a batch its group: windows lie side by side in a row, padding after them."""
    groups = np.zeros((len(rows), shape.row_tokens), np.int32)
    for row, windows in zip(groups, rows, strict=True):
        numbers, lengths = np.array([run for window in windows for run in window], np.int32).reshape(-1, 2).T
        row[: lengths.sum()] = np.repeat(numbers, lengths)
    return groups

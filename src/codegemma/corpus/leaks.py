"""Finds held-out files that the training files give away: near-duplicates, and copies of a part of a larger file.

**In**: shingles of the held-out files, then of each training file in turn.
**Out**: for each held-out file, the training files that are most like it and how much.
**Not**: an estimate, up to hundreds of megabytes. Only the held-out side is indexed, a tenth of the corpus, so the
counts can be exact; beyond that, one shingle in 2, 4, 8 ... stands for all, the same ones on both sides.
"""

import copy
import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from codegemma.corpus.dedup import Shingles
from codegemma.files import write_whole

# Indexed shingles take 16 bytes each; a byte of source gives about a quarter of one.
MAX_INDEXED_BYTES = 32 * 2**20
_SAVED = ("hashes", "owners", "sizes", "common", "is_boilerplate")
# A byte each: at most 64 MB, and then one in eight is true.
_MAX_FILTER_BITS = 26
_MIX = np.uint64(0x9E3779B97F4A7C15)
# A shingle of so many held-out files is boilerplate, a licence header most often: it tells nothing, and is not counted.
MAX_OWNERS = 50


def choose_sampling(heldout_bytes: int) -> int:
    """Say of how many shingles one is kept, so that those of the held-out files fit in memory: a power of two.

    >>> choose_sampling(20_000_000), choose_sampling(200_000_000)
    (1, 8)
    """
    sampling = 1
    while heldout_bytes > sampling * MAX_INDEXED_BYTES:
        sampling *= 2
    return sampling


def sample_shingles(shingles: Shingles, sampling: int) -> Shingles:
    """Keep the shingles whose mixed hash is a multiple of `sampling`: shares of what is kept estimate shares of all."""
    return shingles if sampling == 1 else shingles[(shingles * _MIX >> np.uint64(40)) % np.uint64(sampling) == 0]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much of a held-out file stands in a training file: two measures between 0 and 1, each with its file.

    `jaccard` is shared shingles over all shingles of both, `containment` over those of the held-out file.
    """

    jaccard: float
    jaccard_path: str
    containment: float
    containment_path: str


class LeakIndex:
    """Counts shared shingles between all held-out files and one training file at a time."""

    def __init__(self, heldout: Sequence[Shingles]) -> None:
        hashes = np.concatenate([*heldout, np.empty(0, np.uint64)])
        owners = np.repeat(np.arange(len(heldout)), [len(shingles) for shingles in heldout])
        order = np.argsort(hashes, kind="stable")
        hashes, owners = hashes[order], owners[order]
        common, counts = np.unique(hashes, return_counts=True)
        self._common = common[counts > MAX_OWNERS]
        is_telling = ~np.isin(hashes, self._common)
        self._hashes, self._owners = hashes[is_telling], owners[is_telling]
        self._sizes = np.bincount(self._owners, minlength=len(heldout))
        # A file of boilerplate alone has nothing of its own to measure.
        self._is_boilerplate = (np.bincount(owners, minlength=len(heldout)) > 0) & (self._sizes == 0)
        self._prepare()
        self._forget()

    def _prepare(self) -> None:
        """Make the filter that passes over most of what is not indexed."""
        self._shift = np.uint64(64 - min(max(len(self._hashes), 1).bit_length() + 3, _MAX_FILTER_BITS))
        self._is_possible = np.zeros(1 << (64 - int(self._shift)), np.bool_)
        self._is_possible[self._hashes >> self._shift] = True

    def _forget(self) -> None:
        self._jaccard = np.zeros(len(self._sizes))
        self._containment = np.where(self._is_boilerplate, 1.0, 0.0)
        self._jaccard_path = [""] * len(self._sizes)
        self._containment_path = ["boilerplate" if alone else "" for alone in self._is_boilerplate]

    def save(self, path: Path) -> None:
        """Write what was indexed, not what was compared with it.

        Raises:
            OutputError: no permission or no space.
        """
        buffer = io.BytesIO()
        arrays = {name: getattr(self, f"_{name}") for name in _SAVED}
        np.savez(buffer, **arrays)
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "LeakIndex":
        """Read an index that was saved; nothing has been compared with it yet."""
        index = copy.copy(_read_index(path))
        index._forget()
        return index

    @classmethod
    def _from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "LeakIndex":
        index = cls.__new__(cls)
        for name in _SAVED:
            setattr(index, f"_{name}", arrays[name])
        index._prepare()
        return index

    def compare(self, train_path: str, shingles: Shingles) -> None:
        """Note where this training file is the nearest so far; of equals, the first stays."""
        # Boilerplate is not indexed, so it is shared with nobody; only its number matters.
        telling = len(shingles) - _count_members(shingles, self._common)
        touched, both = self._count_shared(shingles[self._is_possible[shingles >> self._shift]])
        sizes = self._sizes[touched]
        self._raise(self._jaccard, self._jaccard_path, touched, both / (sizes + telling - both), train_path)
        self._raise(self._containment, self._containment_path, touched, both / sizes, train_path)

    def find_like(self, shingles: Shingles, min_jaccard: float, min_containment: float) -> int | None:
        """Find a held-out file that a text gives away by one of the measures; nothing is noted."""
        touched, both = self._count_shared(shingles[self._is_possible[shingles >> self._shift]])
        telling, sizes = len(shingles) - _count_members(shingles, self._common), self._sizes[touched]
        is_like = (both / (sizes + telling - both) >= min_jaccard) | (both / sizes >= min_containment)
        return int(touched[is_like][0]) if is_like.any() else None

    def _count_shared(self, shingles: Shingles) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Give the held-out files that have some of the shingles, and how many each."""
        starts = np.searchsorted(self._hashes, shingles, "left")
        # Most are not there: the filter lets one in eight pass.
        is_there = self._hashes[np.minimum(starts, len(self._hashes) - 1)] == shingles
        starts, shingles = starts[is_there], shingles[is_there]
        lengths = np.searchsorted(self._hashes, shingles, "right") - starts
        # The positions of all runs start..start+length, one run after another.
        offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        touched, both = np.unique(self._owners[np.repeat(starts, lengths) + offsets], return_counts=True)
        return touched, both

    @staticmethod
    def _raise(
        best: Float64[np.ndarray, " heldout"],
        paths: list[str],
        touched: Int64[np.ndarray, " n"],
        values: Float64[np.ndarray, " n"],
        train_path: str,
    ) -> None:
        higher = touched[values > best[touched]]
        best[touched] = np.maximum(best[touched], values)
        for number in higher:
            paths[number] = train_path

    def find_alike(self, min_jaccard: float, min_containment: float) -> Iterator[tuple[int, Likeness]]:
        """Yield the number and the measures of each held-out file that one of the measures puts at its border."""
        is_alike = (self._jaccard >= min_jaccard) | (self._containment >= min_containment)
        for number in np.flatnonzero(is_alike).tolist():
            yield number, self._tell(number)

    def _tell(self, number: int) -> Likeness:
        return Likeness(
            float(self._jaccard[number]),
            self._jaccard_path[number],
            float(self._containment[number]),
            self._containment_path[number],
        )


def _count_members(shingles: Shingles, wanted: Shingles) -> int:
    """Count how many of a few wanted shingles stand among sorted ones."""
    if not len(shingles):
        return 0
    places = np.minimum(np.searchsorted(shingles, wanted), len(shingles) - 1)
    return int(np.count_nonzero(shingles[places] == wanted))


@functools.lru_cache(maxsize=1)
def _read_index(path: Path) -> LeakIndex:
    """Read an index; a worker that compares many shards does so once."""
    with np.load(path, allow_pickle=False) as arrays:
        return LeakIndex._from_arrays(dict(arrays))

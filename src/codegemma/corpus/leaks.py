"""Finds held-out files that the training files give away: near-duplicates, and copies of a part of a larger file.

**In**: shingles of the held-out files, then of each training file in turn.
**Out**: for each held-out file, the training files that are most like it and how much.
**Not**: an estimate. Only the held-out side is indexed, a tenth of the corpus, so the counts can be exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from codegemma.corpus.dedup import Shingles

# A shingle of so many held-out files is boilerplate, a licence header most often: it tells nothing, and is not counted.
MAX_OWNERS = 50


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
        self._jaccard = np.zeros(len(heldout))
        # A file of boilerplate alone has nothing of its own to measure.
        self._containment = np.where(self._sizes == 0, 1.0, 0.0)
        self._jaccard_path = [""] * len(heldout)
        self._containment_path = ["boilerplate" if size == 0 else "" for size in self._sizes]

    def compare(self, train_path: str, shingles: Shingles) -> None:
        """Note where this training file is the nearest so far; of equals, the first stays."""
        telling = shingles[~np.isin(shingles, self._common)]
        shared = self._count_shared(telling)
        touched = np.flatnonzero(shared)
        both, sizes = shared[touched], self._sizes[touched]
        self._raise(self._jaccard, self._jaccard_path, touched, both / (sizes + len(telling) - both), train_path)
        self._raise(self._containment, self._containment_path, touched, both / sizes, train_path)

    def _count_shared(self, shingles: Shingles) -> Int64[np.ndarray, " heldout"]:
        starts = np.searchsorted(self._hashes, shingles, "left")
        lengths = np.searchsorted(self._hashes, shingles, "right") - starts
        # The positions of all runs start..start+length, one run after another.
        offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        owners = self._owners[np.repeat(starts, lengths) + offsets]
        return np.bincount(owners, minlength=len(self._sizes))

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

    def nearest(self) -> list[Likeness]:
        """Give each held-out file's highest measures, in the order in which the files were given."""
        rows = zip(self._jaccard, self._jaccard_path, self._containment, self._containment_path, strict=True)
        return [Likeness(float(j), j_path, float(c), c_path) for j, j_path, c, c_path in rows]

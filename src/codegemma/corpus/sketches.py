"""Makes a small sketch of a set of shingles, from which the likeness of two sets can be told without the sets.

**In**: shingles, sorted, each once (`dedup.py`).
**Out**: a MinHash sketch of 256 places, its band hashes, and a signature of 512 bytes to keep.
**Not**: exact: with 256 places the standard error of an estimated Jaccard index is at most 0.031.

Two sets agree in a place with a probability that is their Jaccard index, small sets and large ones alike: the places
are filled by fast similarity sketching (Dahlgaard, Knudsen and Thorup, 2017), where a place that no shingle falls into
gets one in a later round. The sketch of a union is the smaller of two sketches, place by place.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float64, UInt16, UInt64

from codegemma.corpus.dedup import Shingles
from codegemma.corpus.tokens import HASH_STEP, mix

PLACES = 256
# Of 42 bands of 6 places one at least agrees with probability 1 - (1 - j**6)**42: 0.01 at a Jaccard index of 0.25, 0.03
# at 0.3, 0.16 at 0.4, 0.48 at 0.5, 0.87 at 0.6, 0.995 at 0.7, 0.9998 at 0.75. Fewer than that would lose pairs at
# StarCoder2's border of 0.7; the pairs below it that come along cost one comparison of signatures each.
BANDS, BAND_PLACES = 42, 6

# A key is the round and the 55 bits of a hash that follow its place, so that a later round never displaces an earlier
# one and keys of one place are in the order of their hashes.
_ROUND_SHIFT = np.uint64(55)
_BIN_SHIFT = np.uint64(56)
# Rounds after the first 256 fill one place each, with all shingles: at the latest then, every place is filled.
_MAX_ROUNDS = 2 * PLACES
# Hashes computed at a time for the rounds of a small set: about as many as fill 256 places by chance.
_BLOCK_HASHES = 2048

Sketch = UInt64[np.ndarray, "256"]
Sketches = UInt64[np.ndarray, "n 256"]
Signatures = UInt16[np.ndarray, "n 256"]

# The sketch of nothing: whatever is merged with it stays as it is.
EMPTY_SKETCH: Sketch = np.full(PLACES, np.iinfo(np.uint64).max, np.uint64)


def sketch_shingles(shingles: Shingles) -> Sketch:
    """Sketch a set.

    >>> from codegemma.corpus.dedup import hash_shingles
    >>> one = hash_shingles(" ".join(f"word{n}" for n in range(1000)))
    >>> other = hash_shingles(" ".join(f"word{n}" for n in range(200, 1000)))
    >>> round(float((sketch_shingles(one) == sketch_shingles(other)).mean()), 1)  # exactly 796 of 996
    0.8
    """
    sketch = EMPTY_SKETCH.copy()
    if not len(shingles):
        return sketch
    # Sorted hashes lie in the order of their highest bits, the place: the first of each place is its smallest.
    borders = np.searchsorted(shingles, np.arange(PLACES, dtype=np.uint64) << _BIN_SHIFT)
    ends = np.append(borders[1:], len(shingles))
    filled = np.flatnonzero(borders < ends)
    sketch[filled] = _take_key_bits(shingles[borders[filled]])
    start, is_full = 1, len(filled) == PLACES
    while not is_full and start < _MAX_ROUNDS:
        stop = min(start + max(1, _BLOCK_HASHES // len(shingles)), _MAX_ROUNDS)
        _fill(sketch, shingles, np.arange(start, stop, dtype=np.uint64)[:, None])
        start, is_full = stop, bool((sketch != EMPTY_SKETCH).all())
    return sketch


def _fill(sketch: Sketch, shingles: Shingles, rounds: UInt64[np.ndarray, "rounds 1"]) -> None:
    hashes = mix(shingles[None, :] + rounds * np.uint64(HASH_STEP))
    keys = (rounds << _ROUND_SHIFT) | _take_key_bits(hashes)
    places = np.where(rounds < PLACES, hashes >> _BIN_SHIFT, rounds % np.uint64(PLACES))
    np.minimum.at(sketch, places.ravel().astype(np.intp), keys.ravel())


def _take_key_bits(hashes: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    return (hashes >> np.uint64(1)) & ((np.uint64(1) << _ROUND_SHIFT) - np.uint64(1))


def merge_sketches(sketches: Iterable[Sketch]) -> Sketch:
    """Sketch the union of the sets: that of a repository from those of its files."""
    merged = EMPTY_SKETCH.copy()
    for sketch in sketches:
        np.minimum(merged, sketch, out=merged)
    return merged


def shorten_sketches(sketches: Sketches) -> Signatures:
    """Shorten each place to 16 bits: two that differ agree by chance once in 65,536 times."""
    signatures: Signatures = (mix(sketches.copy()) >> np.uint64(48)).astype(np.uint16)
    return signatures


def estimate_jaccard(ones: Signatures, others: Signatures) -> Float64[np.ndarray, " n"]:
    """Estimate the Jaccard index of each pair: the share of places that agree, which is right on average."""
    jaccard: Float64[np.ndarray, " n"] = (ones == others).mean(axis=1)
    return jaccard


def hash_bands(sketches: Sketches) -> UInt64[np.ndarray, "n 42"]:
    """Hash six places at a time; no two bands have hashes in common."""
    bands = sketches[:, : BANDS * BAND_PLACES].reshape(-1, BANDS, BAND_PLACES)
    hashes = np.broadcast_to(np.arange(BANDS, dtype=np.uint64), bands.shape[:2]).copy()
    for place in range(BAND_PLACES):
        hashes = mix(hashes * np.uint64(HASH_STEP) + bands[:, :, place])
    return hashes

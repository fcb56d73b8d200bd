"""An honest n-gram baseline: bytes given the bytes before them, interpolated Witten-Bell, nothing learned but counts.

**In**: the training files; then pairs of prefix and middle.
**Out**: bits of each middle given its prefix; a proper distribution over 256 bytes for every context.
**Not**: the suffix: it does not look behind the hole. Contexts are 56-bit hashes; two that collide share their counts,
which is still a proper distribution.

P_k(b | c) = (n(cb) + t(c) P_{k-1}(b | c)) / (n(c) + t(c)), down to P_{-1} = 1/256, where t counts the distinct bytes
seen after c (Witten and Bell, 1991, method C). A short context wins: on 5 MB of Python, 4 bytes give 1.82 bits per byte
and 10 bytes give 2.05.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8, UInt64

# On up to 8 MB of Python 4 or 5 won; each further byte costs 100 MB of memory and some seconds.
ORDERS = range(2, 8)
# One file in this many is kept aside to choose the order.
HELD_ASIDE_ONE_IN = 10
# Odd, so that multiplication is invertible; the fractional part of the golden ratio times 2^64 (Knuth, volume 3, 6.4).
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
CONTEXT_BITS_DROPPED = np.uint64(8)
BYTE_BITS = np.uint64(8)


@dataclass(frozen=True, slots=True)
class Counts:
    """What followed each context of one length: sorted keys, so that a lookup is a binary search.

    `pair_keys` hold a context's hash above the byte that followed; `context_keys` the hash alone.
    """

    pair_keys: UInt64[np.ndarray, " pairs"]
    pair_counts: Int64[np.ndarray, " pairs"]
    context_keys: UInt64[np.ndarray, " contexts"]
    context_counts: Int64[np.ndarray, " contexts"]
    context_types: Int64[np.ndarray, " contexts"]


@dataclass(frozen=True, slots=True)
class NgramModel:
    """Counts for contexts of 0 to `order` bytes, the shortest first."""

    counts: tuple[Counts, ...]

    @property
    def order(self) -> int:
        """The longest context, in bytes."""
        return len(self.counts) - 1

    def distribution(self, context: bytes) -> Float64[np.ndarray, "256"]:
        """Give the probability of every next byte.

        >>> model = train_ngram(["abab"], order=2)
        >>> int(model.distribution(b"ba").argmax()) == ord("b")
        True
        """
        window = _frame([context], self.order)
        ends = np.full(256, len(window), dtype=np.int64)
        return list(self._interpolate(window, ends, np.arange(256, dtype=np.uint8)))[-1]

    def bits_of_middles(self, prefixes: Sequence[str], middles: Sequence[str]) -> Float64[np.ndarray, " holes"]:
        """Measure each middle in bits, given its prefix."""
        parts = [_tail(p, self.order) + m.encode() for p, m in zip(prefixes, middles, strict=True)]
        sizes = np.array([len(m.encode()) for m in middles], dtype=np.int64)
        window = _frame(parts, self.order)
        file_ends = np.cumsum([len(part) + self.order for part in parts])
        where = np.concatenate([np.arange(end - size, end) for end, size in zip(file_ends, sizes, strict=True)])
        probabilities = list(self._interpolate(window, where, window[where]))[-1]
        return np.bincount(np.repeat(np.arange(len(sizes)), sizes), -np.log2(probabilities), len(sizes))

    def _interpolate(
        self, window: UInt8[np.ndarray, " bytes"], where: Int64[np.ndarray, " n"], following: UInt8[np.ndarray, " n"]
    ) -> Iterator[Float64[np.ndarray, " n"]]:
        """Yield the probability of `following[i]` at `window[where[i]]`, order by order, each from the one below."""
        probability = np.full(len(where), 1 / 256)
        hashes = np.zeros(len(where), dtype=np.uint64)
        for length, counts in enumerate(self.counts):
            if length:
                hashes = _lengthen(hashes, window[where - length])
            probability = _mix(counts, hashes >> CONTEXT_BITS_DROPPED, following, probability)
            yield probability


def train_ngram(texts: Sequence[str], order: int) -> NgramModel:
    """Count what follows every context of up to `order` bytes in the texts.

    Raises:
        ValueError: all texts are empty.
    """
    encoded = [text.encode() for text in texts if text]
    if not encoded:
        raise ValueError("no text to count")
    window = _frame(encoded, order)
    where = _file_positions([len(text) for text in encoded], order)
    following = window[where].astype(np.uint64)
    hashes, counts = np.zeros(len(where), dtype=np.uint64), []
    for length in range(order + 1):
        if length:
            hashes = _lengthen(hashes, window[where - length])
        counts.append(_count((hashes >> CONTEXT_BITS_DROPPED) << BYTE_BITS | following))
    return NgramModel(tuple(counts))


def choose_order(texts: Sequence[str], orders: Sequence[int] = ORDERS) -> int:
    """Find the order with the fewest bits on files kept aside (one in ten, the last ones of each ten).

    One model of the highest order rates all of them, because it passes through every lower one.
    """
    aside = [text for i, text in enumerate(texts) if i % HELD_ASIDE_ONE_IN == HELD_ASIDE_ONE_IN - 1 and text]
    rest = [text for i, text in enumerate(texts) if i % HELD_ASIDE_ONE_IN != HELD_ASIDE_ONE_IN - 1 and text]
    if not aside or not rest:
        return min(orders)
    model = train_ngram(rest, max(orders))
    encoded = [text.encode() for text in aside]
    window, where = _frame(encoded, model.order), _file_positions([len(text) for text in encoded], model.order)
    bits = [-np.log2(p).sum() for p in model._interpolate(window, where, window[where])]
    return min(orders, key=lambda order: bits[order])


def _frame(parts: Sequence[bytes], order: int) -> UInt8[np.ndarray, " bytes"]:
    """Join the parts, each behind `order` zero bytes, so that no context reaches into another file."""
    return np.frombuffer(b"".join(bytes(order) + part for part in parts), dtype=np.uint8)


def _file_positions(sizes_bytes: Sequence[int], order: int) -> Int64[np.ndarray, " bytes"]:
    """Where the real bytes stand in a frame.

    >>> _file_positions([2, 1], order=3).tolist()
    [3, 4, 8]
    """
    sizes = np.array(sizes_bytes, dtype=np.int64)
    return np.arange(sizes.sum()) + np.repeat(np.arange(1, len(sizes) + 1) * order, sizes)


def _tail(text: str, size_bytes: int) -> bytes:
    return text[max(0, len(text) - size_bytes) :].encode()[-size_bytes:] if size_bytes else b""


def _lengthen(hashes: UInt64[np.ndarray, " n"], before: UInt8[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Extend hashed contexts by the byte before them; wraps at 64 bits, with the high half folded down to mix well."""
    mixed = (hashes + before + np.uint64(1)) * MULTIPLIER
    folded: UInt64[np.ndarray, " n"] = mixed ^ (mixed >> np.uint64(32))
    return folded


def _count(pairs: UInt64[np.ndarray, " n"]) -> Counts:
    keys, pair_counts = _count_runs(np.sort(pairs))
    contexts, types = _count_runs(keys >> BYTE_BITS)
    starts = np.concatenate([[0], np.cumsum(types)[:-1]])
    return Counts(keys, pair_counts, contexts, np.add.reduceat(pair_counts, starts), types)


def _count_runs(values: UInt64[np.ndarray, " n"]) -> tuple[UInt64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Count equal neighbours of a sorted array.

    >>> [a.tolist() for a in _count_runs(np.array([3, 3, 7], dtype=np.uint64))]
    [[3, 7], [2, 1]]
    """
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return values[starts], np.diff(starts, append=len(values))


def _mix(
    counts: Counts,
    contexts: UInt64[np.ndarray, " n"],
    following: UInt8[np.ndarray, " n"],
    shorter: Float64[np.ndarray, " n"],
) -> Float64[np.ndarray, " n"]:
    at, is_seen = _find(counts.context_keys, contexts)
    pair_at, is_pair_seen = _find(counts.pair_keys, contexts << BYTE_BITS | following)
    types = counts.context_types[at]
    pair_counts = np.where(is_pair_seen, counts.pair_counts[pair_at], 0)
    longer: Float64[np.ndarray, " n"] = (pair_counts + types * shorter) / (counts.context_counts[at] + types)
    return np.where(is_seen, longer, shorter)


def _find(
    keys: UInt64[np.ndarray, " m"], wanted: UInt64[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    is_found: Bool[np.ndarray, " n"] = keys[at] == wanted
    return at, is_found

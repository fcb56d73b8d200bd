"""Nearest-line retrieval, a baseline that copies: find the text before the cursor in training, answer what followed.

**In**: the training files; then the prefixes of holes.
**Out**: for each prefix the rest of line that most often follows its longest known ending, or `None`.
**Not**: the suffix, and nothing fuzzy: indentation, blank lines and trailing white space do not count.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

# How much of the ending must be found, tried from the longest: past 256 bytes a longer match hardly changes the answer.
CONTEXT_BYTES = (256, 192, 128, 96, 64, 48, 40, 32, 28, 24, 20, 16, 14, 12, 10, 8, 7, 6, 5, 4, 3, 2)
# Bytes are digits of a number in this base, modulo 2^64: odd, so that a stretch's hash can be shifted to start at 0.
BASE = 0x5851F42D4C957F2D
INVERSE_BASE = pow(BASE, -1, 1 << 64)
SIEVE_BITS = 20
SIEVE_SHIFT = np.uint64(64 - SIEVE_BITS)
NEWLINE = ord("\n")
FILE_BORDER = 0
_LINE_BORDER = re.compile(r"[ \t\f\v\r]*\n\s*")


@dataclass(frozen=True, slots=True)
class Retriever:
    """Training text, normalised, with running hashes that give the hash of any stretch of it in one step.

    `line_ends[i]` is where the line of byte `i` ends; `shifts[i]` moves a hash that starts at `i` to start at 0.
    """

    text: UInt8[np.ndarray, " bytes"] = field(repr=False)
    line_ends: Int64[np.ndarray, " bytes"] = field(repr=False)
    sums: UInt64[np.ndarray, " bytes_and_end"] = field(repr=False)
    shifts: UInt64[np.ndarray, " bytes"] = field(repr=False)

    def retrieve(self, prefixes: Sequence[str]) -> list[str | None]:
        """Answer each prefix with the rest of line that most often follows its longest ending found in training.

        >>> index_lines(["def area(r):\\n    return 3.14 * r * r\\n"]).retrieve(["if x:\\n  return 3.", "zq"])
        ['14 * r * r', None]
        """
        endings = [normalise(prefix).encode()[-CONTEXT_BYTES[0] :] for prefix in prefixes]
        answers: list[str | None] = [None] * len(prefixes)
        for size_bytes in CONTEXT_BYTES:
            asking = [i for i, ending in enumerate(endings) if answers[i] is None and len(ending) >= size_bytes]
            for i, answer in zip(asking, self._answer([endings[i][-size_bytes:] for i in asking]), strict=True):
                answers[i] = answer
        return answers

    def _answer(self, endings: Sequence[bytes]) -> list[str | None]:
        """Look endings of one length up in one pass over the training text."""
        if not endings or len(self.text) <= len(endings[0]):
            return [None] * len(endings)
        size_bytes = len(endings[0])
        wanted, question = np.unique([_hash_bytes(ending) for ending in endings], return_inverse=True)
        # Most stretches are none of the wanted ones: a table of the hashes' high bits sends them away at once.
        sieve = np.zeros(1 << SIEVE_BITS, dtype=np.bool_)
        sieve[wanted >> SIEVE_SHIFT] = True
        starts = slice(0, len(self.text) - size_bytes)
        hashes = (self.sums[size_bytes:-1] - self.sums[starts]) * self.shifts[starts]
        maybe = np.flatnonzero(sieve[hashes >> SIEVE_SHIFT])
        at = np.minimum(np.searchsorted(wanted, hashes[maybe]), len(wanted) - 1)
        follows = self.text[maybe + size_bytes]
        is_found = (wanted[at] == hashes[maybe]) & (follows != NEWLINE) & (follows != FILE_BORDER)
        return [self._most_frequent(w) for w in _group(maybe[is_found] + size_bytes, at[is_found], question)]

    def _most_frequent(self, starts: Int64[np.ndarray, " n"]) -> str | None:
        """Read the most frequent rest of line among these places; the earliest decides a tie."""
        if not len(starts):
            return None
        rests = (self.sums[self.line_ends[starts]] - self.sums[starts]) * self.shifts[starts]
        _, first, counts = np.unique(rests, return_index=True, return_counts=True)
        start = starts[first[np.lexsort((first, -counts))[0]]]
        return self.text[start : self.line_ends[start]].tobytes().decode()


def index_lines(texts: Sequence[str]) -> Retriever:
    """Normalise the training files and prepare them for look-ups."""
    joined = "".join(f"{normalise(text)}\n\0" for text in texts).encode() or b"\n"
    text = np.frombuffer(joined, dtype=np.uint8)
    newlines = np.flatnonzero(text == NEWLINE)
    line_ends = np.append(newlines, len(text))[np.searchsorted(newlines, np.arange(len(text)))]
    return Retriever(text, line_ends, _sum_digits(text), _powers(INVERSE_BASE, len(text)))


def normalise(text: str) -> str:
    """Drop what nearness should not depend on: indentation, blank lines, trailing white space, the kind of line end.

    >>> normalise("    if x:  \\r\\n\\r\\n        return ")
    'if x:\\nreturn '
    """
    return _LINE_BORDER.sub("\n", text).lstrip()


def _group(
    places: Int64[np.ndarray, " n"], keys: Int64[np.ndarray, " n"], wanted_keys: Int64[np.ndarray, " m"]
) -> list[Int64[np.ndarray, " _"]]:
    """List, for each wanted key, the places that carry it, in order."""
    order = np.argsort(keys, kind="stable")
    starts, ends = (np.searchsorted(keys[order], wanted_keys, side) for side in ("left", "right"))
    return [places[order[start:end]] for start, end in zip(starts, ends, strict=True)]


def _hash_bytes(text: bytes) -> np.uint64:
    return np.uint64(_sum_digits(np.frombuffer(text, dtype=np.uint8))[-1])


def _sum_digits(text: UInt8[np.ndarray, " n"]) -> UInt64[np.ndarray, " n_and_end"]:
    digits = (text.astype(np.uint64) + np.uint64(1)) * _powers(BASE, len(text))
    return np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(digits)])


def _powers(base: int, count: int) -> UInt64[np.ndarray, " n"]:
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)

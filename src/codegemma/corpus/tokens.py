"""Hashes the tokens of a text in one pass that near-duplicates, leaks and decontamination share.

**In**: a text.
**Out**: for each token its 64-bit hash, its first byte and whether it is a word; hashes of runs of tokens.
**Not**: a language's own tokens: a word is a run of ASCII letters, digits, `_` and bytes from 0x80 on, whatever they
spell (a no-break space counts as a letter), and every other sign stands alone. Case counts, white space does not.
Nor is it proof against an adversary: two words of a thousand characters can be made to collide.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8, UInt64

# The step of a polynomial hash modulo 2**64: odd, so that it can be divided by, and from the golden ratio so that its
# bits are well mixed.
HASH_STEP = 0x9E3779B97F4A7C15
# Bytes hashed at a time: their 64-bit sums stay in a core's cache. A word longer than a block is several tokens.
BLOCK_BYTES = 1 << 15

SPACE, WORD, SIGN = 0, 1, 2
# What `str.isspace` says of ASCII, so that the digest of `dedup.py` and this pass overlook the same signs.
_SPACES = b"\t\n\v\f\r\x1c\x1d\x1e\x1f "
_CLASSES = bytes(
    SPACE if byte in _SPACES else WORD if byte >= 0x80 or chr(byte).isalnum() or byte == ord("_") else SIGN
    for byte in range(256)
)

Hashes = UInt64[np.ndarray, " n"]


class Tokens(NamedTuple):
    """The tokens of a text, in order. `starts` are offsets in its UTF-8 bytes."""

    hashes: UInt64[np.ndarray, " tokens"]
    starts: Int64[np.ndarray, " tokens"]
    is_word: Bool[np.ndarray, " tokens"]


class _Powers(NamedTuple):
    powers: UInt64[np.ndarray, " block"]
    inverses: UInt64[np.ndarray, " block"]


def encode_text(text: str) -> bytes:
    """Encode as UTF-8; half of a surrogate pair, which UTF-8 has no place for, is encoded like any other sign.

    >>> encode_text("é"), encode_text(chr(0xD800))
    (b'\\xc3\\xa9', b'\\xed\\xa0\\x80')
    """
    return text.encode("utf-8", "surrogatepass")


def hash_tokens(content: bytes) -> Tokens:
    """Hash words and single signs; white space, and nothing else, is passed over: `a[i] += 1` is not `a i`.

    >>> tokens = hash_tokens(b"x = f(x)")
    >>> tokens.starts.tolist(), tokens.is_word.tolist()
    ([0, 2, 4, 5, 6, 7], [True, False, True, False, True, False])
    >>> bool(tokens.hashes[0] == tokens.hashes[4])
    True
    """
    blocks, start = [], 0
    classes = content.translate(_CLASSES)
    while start < len(content):
        end = _find_block_end(classes, start)
        blocks.append(_hash_block(content, classes, start, end))
        start = end
    if len(blocks) == 1:
        return blocks[0]
    empty = Tokens(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.bool_))
    return Tokens(*(np.concatenate(column) for column in zip(empty, *blocks, strict=True)))


def _find_block_end(classes: bytes, start: int) -> int:
    end = start + BLOCK_BYTES
    if end >= len(classes):
        return len(classes)
    border = max(classes.rfind(SPACE, start, end), classes.rfind(SIGN, start, end))
    return border + 1 if border >= 0 else end


def _hash_block(content: bytes, classes: bytes, start: int, end: int) -> Tokens:
    kinds = np.frombuffer(classes, np.uint8, end - start, start)
    starts, ends = _find_borders(kinds)
    powers, inverses = _compute_powers()
    sums = np.zeros(end - start + 1, np.uint64)
    np.multiply(np.frombuffer(content, np.uint8, end - start, start), powers[: end - start], out=sums[1:])
    np.cumsum(sums, out=sums)
    # The polynomial of the bytes between two borders, moved to where its first byte has power 0.
    hashes = (sums[ends] - sums[starts]) * inverses[starts]
    return Tokens(mix(hashes), starts + start, kinds[starts] == WORD)


def _find_borders(kinds: UInt8[np.ndarray, " bytes"]) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    is_word, is_sign = kinds == WORD, kinds == SIGN
    is_start, is_end = is_word.copy(), is_word.copy()
    is_start[1:] &= ~is_word[:-1]
    is_end[:-1] &= ~is_word[1:]
    return np.flatnonzero(is_start | is_sign), np.flatnonzero(is_end | is_sign) + 1


@functools.cache
def _compute_powers() -> _Powers:
    def raise_step(step: int) -> UInt64[np.ndarray, " block"]:
        factors = np.full(BLOCK_BYTES, step, np.uint64)
        factors[0] = 1
        return np.cumprod(factors, dtype=np.uint64)

    return _Powers(raise_step(HASH_STEP), raise_step(pow(HASH_STEP, -1, 1 << 64)))


def mix(hashes: Hashes) -> Hashes:
    """Make every bit depend on every bit, in place: the finalizer of MurmurHash3 (Appleby), which is a bijection.

    >>> len(set((mix(np.arange(1000, dtype=np.uint64)) >> np.uint64(40)).tolist()))
    1000
    """
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(0xFF51AFD7ED558CCD)
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(0xC4CEB9FE1A85EC53)
    hashes ^= hashes >> np.uint64(33)
    return hashes


def hash_runs(hashes: UInt64[np.ndarray, " tokens"], run_tokens: int) -> UInt64[np.ndarray, " runs"]:
    """Hash each run of so many tokens, in order; fewer tokens than that are one run.

    >>> words = hash_tokens(b"to be or not to be").hashes
    >>> runs = hash_runs(words, 2)
    >>> len(runs), bool(runs[0] == runs[4]), len(hash_runs(words, 9))
    (5, True, 1)
    """
    count = max(1, len(hashes) - run_tokens + 1)
    rolled = np.zeros(count, np.uint64)
    for place in range(min(run_tokens, len(hashes))):
        rolled *= np.uint64(HASH_STEP)
        rolled += hashes[place : place + count]
    return mix(rolled)

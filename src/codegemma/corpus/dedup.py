"""Finds files that are the same, and prepares the search for files that are almost the same.

**In**: texts.
**Out**: a digest that ignores white space, the duplicates it shows, and code-aware shingles.
**Not**: near-duplicates inside the training side; what stands on both sides of the held-out border is `leaks.py`'s.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import xxhash
from jaxtyping import UInt64

STAGE = "dedup"

# Words and single signs; white space, and nothing else, is passed over: `a[i] += 1` is not `a i`.
TOKEN = re.compile(r"\w+|[^\w\s]")
# StarCoder2 and most others: five tokens.
SHINGLE_TOKENS = 5
# The step of a polynomial hash modulo 2**64: odd, and from the golden ratio so that its bits are well mixed.
HASH_STEP = 0x9E3779B97F4A7C15

Shingles = UInt64[np.ndarray, " shingles"]


class Sighting(NamedTuple):
    """One file as the search for duplicates sees it. Sightings sort by repository, then path."""

    repo: str
    path: str
    blob: str
    digest: str


class Duplicate(NamedTuple):
    """A file that is left out, how it equals another, and which one is kept."""

    reason: str
    kept: Sighting


def digest_text(text: str) -> str:
    r"""Name a text up to white space.

    >>> digest_text("if a:\n    b()\n") == digest_text("if a:\r\n\tb()")
    True
    """
    return xxhash.xxh3_128_hexdigest(" ".join(text.split()).encode())


def find_duplicates(sightings: Iterable[Sighting]) -> dict[tuple[str, str], Duplicate]:
    """Map `(repo, path)` of each repeated file to the one that is kept: the first by repository, then path.

    >>> copies = [Sighting("r", "b.py", "1", "x"), Sighting("r", "a.py", "1", "x"), Sighting("r", "c.py", "2", "x")]
    >>> {path: (found.reason, found.kept.path) for (_, path), found in find_duplicates(copies).items()}
    {'b.py': ('exact_duplicate', 'a.py'), 'c.py': ('whitespace_duplicate', 'a.py')}
    """
    first: dict[str, Sighting] = {}
    duplicates = {}
    for sighting in sorted(sightings):
        kept = first.setdefault(sighting.digest, sighting)
        if kept is not sighting:
            reason = "exact_duplicate" if kept.blob == sighting.blob else "whitespace_duplicate"
            duplicates[sighting.repo, sighting.path] = Duplicate(reason, kept)
    return duplicates


def hash_shingles(text: str) -> Shingles:
    """Hash each run of five tokens; sorted, each once. A shorter text is one shingle.

    >>> a, b = hash_shingles("x = f(y)  # call"), hash_shingles("x=f( y ) # call")
    >>> len(a), bool((a == b).all())
    (4, True)
    """
    tokens = TOKEN.findall(text)
    known = {token: xxhash.xxh3_64_intdigest(token.encode()) for token in set(tokens)}
    hashes = np.fromiter(map(known.__getitem__, tokens), np.uint64, len(tokens))
    count = max(1, len(hashes) - SHINGLE_TOKENS + 1)
    rolled = np.zeros(count, np.uint64)
    for place in range(min(SHINGLE_TOKENS, len(hashes))):
        rolled = rolled * np.uint64(HASH_STEP) + hashes[place : place + count]
    return np.unique(rolled)

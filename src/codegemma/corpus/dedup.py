"""Finds files that are the same, and prepares the search for files that are almost the same.

**In**: texts.
**Out**: a digest that ignores white space, the duplicates it shows, and code-aware shingles.
**Not**: near-duplicates, which are `near_duplicates.py`'s; across the held-out border they are `leaks.py`'s.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import xxhash
from jaxtyping import UInt64

from codegemma.corpus.tokens import Tokens, encode_text, hash_runs, hash_tokens

STAGE = "dedup"

# StarCoder2 and most others: five tokens.
SHINGLE_TOKENS = 5

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
    return xxhash.xxh3_128_hexdigest(encode_text(" ".join(text.split())))


def find_duplicates(sightings: Iterable[Sighting], *, within_repos: bool = False) -> dict[tuple[str, str], Duplicate]:
    """Map `(repo, path)` of each repeated file to the one that is kept: the first by repository, then path.

    `within_repos` leaves what only another repository has as well.

    >>> copies = [Sighting("r", "b.py", "1", "x"), Sighting("r", "a.py", "1", "x"), Sighting("r", "c.py", "2", "x")]
    >>> {path: (found.reason, found.kept.path) for (_, path), found in find_duplicates(copies).items()}
    {'b.py': ('exact_duplicate', 'a.py'), 'c.py': ('whitespace_duplicate', 'a.py')}
    """
    first: dict[tuple[str, str], Sighting] = {}
    duplicates = {}
    for sighting in sorted(sightings):
        kept = first.setdefault((sighting.repo if within_repos else "", sighting.digest), sighting)
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
    return shingle_tokens(hash_tokens(encode_text(text)))


def shingle_tokens(tokens: Tokens) -> Shingles:
    """Hash each run of five tokens, for whoever has the tokens already; sorted, each once."""
    runs = np.sort(hash_runs(tokens.hashes, SHINGLE_TOKENS))
    # Ten times as fast as `np.unique`, which does not sort first.
    is_first = np.ones(len(runs), np.bool_)
    np.not_equal(runs[1:], runs[:-1], out=is_first[1:])
    return runs[is_first]

"""Measures how natural the places are where a suffix would start: which class of boundary each cut is.

**In**: a text and its natural cuts.
**Out**: for each class, how many cuts it has, and from how many places of the text the loader would move on to one of
them. With the length of the text, that is the share of suffixes that start there.
**Not**: the loader's own draw (`feed/cut.py`): ends of holes are taken as equally likely anywhere, and all are moved;
it leaves some where they are, and passes over brackets that a hole closes.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Int8, Int32

# How far the loader moves a cut to make it natural (the fill-in-the-middle specification, version 1).
REACH_CHARS = 256


class Boundary(StrEnum):
    """What stands around a cut: a closing bracket after it, else a header's end before it, else a line's end after it.

    A line ends with a statement, a comment, or a part of one. `WITHIN_LINE` is between statements that share a line, or
    before a comment at the end of one.
    """

    CLOSING_BRACKET = "closing_bracket"
    HEADER_END = "header_end"
    LINE_END = "line_end"
    WITHIN_LINE = "within_line"


class BoundaryCounts(NamedTuple):
    """Cuts, and places from which a cut is within reach, by class in the order of `Boundary`."""

    cuts: tuple[int, ...]
    places: tuple[int, ...]


def _classify() -> Int8[np.ndarray, "256 256"]:
    """Number the class of a cut by the characters before and after it."""
    classes = np.full((256, 256), 3, np.int8)
    classes[:, list(b"\r\n")] = 2
    classes[list(b"{:([")] = 1
    classes[:, list(b")]}")] = 0
    return classes


_CLASSES = _classify()


def count_boundaries(text: str, natural_cuts: Int32[np.ndarray, " cuts"]) -> BoundaryCounts:
    r"""Count the cuts of each class, and the places from which the next cut is one of these and within reach.

    >>> count_boundaries("def f(a):\n    return 1\n", np.array([7, 9, 22], dtype=np.int32))
    BoundaryCounts(cuts=(1, 1, 1, 0), places=(7, 2, 13, 0))
    """
    # One byte for each character: what is not in Latin-1 is none of the signs.
    chars = np.frombuffer(f"\n{text}\n".encode("latin-1", "replace"), np.uint8)
    classes = _CLASSES[chars[natural_cuts], chars[natural_cuts + 1]]
    reach = natural_cuts.copy()
    reach[1:] -= natural_cuts[:-1]
    cuts = np.bincount(classes, minlength=len(Boundary))
    places = np.bincount(classes, np.minimum(reach, REACH_CHARS), minlength=len(Boundary)).astype(np.int64)
    return BoundaryCounts(tuple(cuts.tolist()), tuple(places.tolist()))


def name_boundaries(language: str, counts: Sequence[int]) -> dict[str, int]:
    """Name counts by language and class, for sums over files; classes that there are none of are left out.

    >>> name_boundaries("go", (1, 0, 2, 0))
    {'go.closing_bracket': 1, 'go.line_end': 2}
    """
    return {f"{language}.{boundary}": count for boundary, count in zip(Boundary, counts, strict=True) if count}

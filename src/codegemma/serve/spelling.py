"""Keeps the token ids of a text that mostly grows at its end: a keystroke costs one or two new ids.

**In**: the text as it is now, again and again; ids that the model itself wrote and that were accepted.
**Out**: ids that spell the text, byte for byte. Of a text that was set once they are `tokenizer.encode`'s.
**Not**: windows or sentinels (`session.py`).

What stands before a change keeps its ids up to the last border where nothing in the vocabulary joins, so that typing
gives the ids that encoding the whole would give. Ids that the model wrote stay as it wrote them.
"""

import copy
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from codegemma.text.beginnings import count_common
from codegemma.text.tokenizer import Tokenizer

# How far back a border is looked for first; in code one comes every four characters.
_NEAR_CHARS = 64


class Spelling:
    """A text and its ids.

    >>> from codegemma.text.tokenizer import train_tokenizer
    >>> spelling = Spelling(train_tokenizer(["def add(a, b):\\n"] * 9, vocab_size=400))
    >>> spelling.change("def add(")
    >>> spelling.change("def add(a, b)")
    >>> spelling.ids == spelling.tokenizer.encode("def add(a, b)").tolist()
    True
    """

    def __init__(self, tokenizer: Tokenizer, text: str = "") -> None:
        self.tokenizer = tokenizer
        self.text = ""
        self.ids: list[int] = []
        self._starts: list[int] = []
        self._sealed = 0
        self.change(text)

    def change(self, text: str) -> None:
        """Spell another text, keeping the ids of what both begin with."""
        if text == self.text:
            return
        common = count_common(self.text, text)
        start, kept = self._find_resume(text, common)
        ids = self.tokenizer.encode(text[start:])
        del self.ids[kept:], self._starts[kept:]
        self.ids += ids.tolist()
        self._starts += (self.tokenizer.find_starts(ids) + start).tolist()
        self.text, self._sealed = text, min(self._sealed, start)

    def accept(self, start: int, ids: Sequence[int]) -> None:
        """Put ids that the model wrote in the place of what stands from the character `start` on; they stay.

        Ids that do not spell whole characters, or a `start` inside a token, change nothing.
        """
        kept = bisect_left(self._starts, start)
        at_border = self._starts[kept] == start if kept < len(self._starts) else start == len(self.text)
        try:
            written = self.tokenizer.decode_bytes(ids).decode()
        except UnicodeDecodeError:
            return
        if not at_border or not written:
            return
        del self.ids[kept:], self._starts[kept:]
        self.ids += ids
        self._starts += (self.tokenizer.find_starts(np.asarray(ids, np.int32)) + start).tolist()
        self.text = self.text[:start] + written
        self._sealed = len(self.text)

    def copy(self) -> "Spelling":
        """Copy it, so that both can change."""
        other = copy.copy(self)
        other.ids, other._starts = self.ids.copy(), self._starts.copy()
        return other

    def find_last(self) -> int:
        """Where the last id begins, in characters, if a longer one may stand there; else the end of the text.

        After a line break, and after a character that is spelled in bytes, nothing longer is looked for.
        """
        if not self.ids or self.text.endswith(("\n", "\r")):
            return len(self.text)
        piece = self.tokenizer.decode_bytes(self.ids[-1:])
        is_part = len(piece) == 1 and piece >= b"\x80"
        return len(self.text) if is_part else self._starts[-1]

    def _find_resume(self, text: str, common: int) -> tuple[int, int]:
        """Find where to encode from, and how many ids stand before it."""
        for low in (max(common - _NEAR_CHARS, 0), 0):
            borders = [low + int(o) for o in self.tokenizer.find_borders(text[low : common + 1])]
            if self._sealed <= common:
                borders = [*(o for o in borders if o > self._sealed), self._sealed]
                borders.sort()
            for border in reversed(borders):
                kept = bisect_left(self._starts, border)
                is_start = border in (0, len(self.text)) or (kept < len(self._starts) and self._starts[kept] == border)
                if is_start:
                    return border, kept
        return 0, 0

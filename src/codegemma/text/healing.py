"""Heals the end of a prompt: its last piece of text is chosen anew, with what the model writes after it.

**In**: the text before the cursor; a vocabulary.
**Out**: the text without its unsure end, and the bytes of that end; the ids that may come next while bytes are owed.
**Not**: choosing among those ids, which is the engine's.

Text is divided into tokens with a view to what follows: `retu` is spelled as if nothing came after it, and no token
that goes on from there spells `return` as whole text does. The last word, sign or blank is therefore taken back, and
the answer must begin with its bytes, in whatever tokens.
"""

import re
from bisect import bisect_left, bisect_right
from functools import lru_cache

import numpy as np
from jaxtyping import Int32

from codegemma.text.control_tokens import RESERVED_IDS
from codegemma.text.tokenizer import Tokenizer

# A word with the space before it, a run of signs, or blanks with the line break before them: what one token may spell.
_LAST_PIECE = re.compile(r"(?: ?\w+|[^\w\s]+|\n?[^\S\n]+|\n)\Z")
# What is longer is no beginning of a token either.
_MAX_HEALED_CHARS = 32


def split_for_healing(text: str) -> tuple[str, bytes]:
    """Divide the text before the cursor: what stays in the prompt, and the bytes that the answer must start with.

    >>> split_for_healing("x = 1; retu"), split_for_healing("x = 1;")
    (('x = 1;', b' retu'), ('x = 1', b';'))
    """
    found = _LAST_PIECE.search(text, max(len(text) - _MAX_HEALED_CHARS - 1, 0))
    if found is None or len(found[0]) > _MAX_HEALED_CHARS:
        return text, b""
    return text[: found.start()], found[0].encode("utf-8", errors="replace")


class ByteIndex:
    """The vocabulary in the order of its bytes: all tokens with one beginning stand side by side."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Sort the pieces; control and reserved tokens, which spell nothing, are left out."""
        self.pieces = tokenizer.spelled
        ids = [i for i in range(RESERVED_IDS, len(self.pieces)) if self.pieces[i]]
        self._ids = np.asarray(sorted(ids, key=self.pieces.__getitem__), np.int32)
        self._sorted = [self.pieces[i] for i in self._ids]
        self._longest = max(map(len, self._sorted), default=0)

    def find_allowed(self, owed: bytes) -> Int32[np.ndarray, " n"]:
        """Find the ids that may come next where the text must go on with `owed`: those that begin it or go beyond it.

        Every byte has a token, so there always is one.
        """
        parts = [self._find_equal(owed[:length]) for length in range(1, min(len(owed), self._longest + 1))]
        start = bisect_left(self._sorted, owed)
        # All that begin with `owed` stand before whatever is larger than `owed` and any further bytes.
        end = bisect_right(self._sorted, owed + b"\xff" * (self._longest + 1))
        return np.concatenate([*parts, self._ids[start:end]])

    def _find_equal(self, piece: bytes) -> Int32[np.ndarray, " n"]:
        return self._ids[bisect_left(self._sorted, piece) : bisect_right(self._sorted, piece)]


@lru_cache(maxsize=4)
def index_bytes(tokenizer: Tokenizer) -> ByteIndex:
    """Index a vocabulary once: 256,000 pieces take an eighth of a second."""
    return ByteIndex(tokenizer)


class Healing:
    """What an answer still owes: the bytes that were taken back from its prompt."""

    def __init__(self, owed: bytes, index: ByteIndex) -> None:
        """Begin with all of it owed."""
        self.owed = owed
        self._index = index

    def find_allowed(self) -> Int32[np.ndarray, " n"] | None:
        """Find the ids that may come next; `None` for all."""
        return self._index.find_allowed(self.owed) if self.owed else None

    def take(self, token_id: int) -> bytes:
        """Take the next id and return what it adds beyond the bytes that were owed.

        >>> from codegemma.text.tokenizer import train_tokenizer
        >>> tokenizer = train_tokenizer(["return first\\n"] * 9, vocab_size=400)
        >>> healing = Healing(b"retu", index_bytes(tokenizer))
        >>> b"".join(healing.take(i) for i in tokenizer.encode("return").tolist()), healing.owed
        (b'rn', b'')
        """
        piece = self._index.pieces[token_id] if token_id < len(self._index.pieces) else b""
        paid = min(len(piece), len(self.owed))
        self.owed = self.owed[paid:]
        return piece[paid:]

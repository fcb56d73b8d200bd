"""Encodes any span of a file at the cost of its two ends: the inside comes from the file's ids, kept from before.

**In**: a text and a tokenizer.
**Out**: `EncodedText.encode_span(start, end)`, equal to `tokenizer.encode(text[start:end])` (property-tested).
**Not**: approximate: where no sure border lies inside a span, the span is encoded afresh.
"""

import numpy as np
from jaxtyping import Int32

from codegemma.text.tokenizer import Tokenizer

Ids = Int32[np.ndarray, " n"]


class EncodedText:
    """A text with its ids, and where spans can be joined without changing how they are spelled.

    `borders` are the character offsets at which encoding may be split (`Tokenizer.find_borders`); `border_tokens` the
    index of the token that begins there.
    """

    __slots__ = ("_border_tokens", "_borders", "_tokenizer", "ids", "starts", "text")

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        """Encode `text` once."""
        self.text = text
        self.ids = tokenizer.encode(text)
        self.starts = tokenizer.find_starts(self.ids)
        self._borders = tokenizer.find_borders(text) if len(text) > 1 else np.zeros(0, dtype=np.int32)
        self._border_tokens = np.searchsorted(self.starts, self._borders).astype(np.int32)
        self._tokenizer = tokenizer

    def encode_span(self, start: int, end: int) -> Ids:
        """Encode `text[start:end]` from the kept ids; only the pieces beside `start` and `end` are encoded afresh."""
        if start >= end:
            return np.zeros(0, dtype=np.int32)
        first = int(self._borders.searchsorted(start))
        last = int(self._borders.searchsorted(end, side="right")) - 1
        if start == 0:
            head_end, head_token = 0, 0
        elif first < len(self._borders):
            head_end, head_token = int(self._borders[first]), int(self._border_tokens[first])
        else:
            head_end, head_token = end, 0
        if end == len(self.text):
            tail_start, tail_token = end, len(self.ids)
        elif last >= 0:
            tail_start, tail_token = int(self._borders[last]), int(self._border_tokens[last])
        else:
            tail_start, tail_token = start, 0
        if head_end >= tail_start:
            return self._tokenizer.encode(self.text[start:end])
        parts = [self.ids[head_token:tail_token]]
        if start < head_end:
            parts.insert(0, self._tokenizer.encode(self.text[start:head_end]))
        if tail_start < end:
            parts.append(self._tokenizer.encode(self.text[tail_start:end]))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

"""Divides packs into windows that fit a training row: which pieces of which files are read together.

**In**: packs, a tokenizer, the row's length in tokens.
**Out**: `Window`s; every character of every file is in exactly one of them, and a window is one pack's.
**Not**: holes (`cut.py`): a window is divided once, its holes are drawn afresh in every epoch.

A file that fits in a row is not divided. A longer one is divided at the starts of its blocks, so that prefix, middle
and suffix are always in one window ("context-level" infilling of Bavarian et al., with the file as the unit).
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from codegemma.feed.choices import FeedError
from codegemma.feed.spans import EncodedText
from codegemma.records import Pack, PackedFile, SourceKind
from codegemma.text.infill_format import UNIT_OVERHEAD_TOKENS, encode_path
from codegemma.text.tokenizer import Tokenizer

# A hole adds two cuts inside the text; each may spell the pieces beside it in a few more tokens than before.
_CUT_SLACK_TOKENS = 8
_UNIT_COST_TOKENS = UNIT_OVERHEAD_TOKENS + _CUT_SLACK_TOKENS
# A piece shorter than this share of the row is not worth dividing a file for.
_MIN_PIECE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Piece:
    """`file.text[start:end]` of file number `file` in pack number `pack`, half-open, in characters."""

    pack: int
    file: int
    start: int
    end: int


Window = tuple[Piece, ...]


def plan_windows(
    packs: Sequence[Pack],
    tokenizer: Tokenizer,
    row_tokens: int,
    encode: Callable[[int, int], EncodedText],
    min_window_share: float = 1.0,
) -> list[Window]:
    """Divide every pack into windows of at most `row_tokens` tokens, `<bos>` and a hole in each piece included.

    `encode(pack, file)` returns that file's encoded text. Windows aim at a length drawn between `min_window_share` of
    the row and the whole row; with 1.0 every window is filled as far as it goes. A conversation is a window, undivided.

    Raises:
        FeedError: a path alone fills the row, or there is no text at all.
    """
    windows: list[Window] = []
    for pack_index, pack in enumerate(packs):
        if pack.kind is SourceKind.CONVERSATION:
            windows += [(Piece(pack_index, number, 0, len(file.text)),) for number, file in enumerate(pack.files)]
            continue
        budgets = _draw_budgets(pack.pack_id, row_tokens, min_window_share)
        windows += _plan_pack(pack_index, pack, tokenizer, row_tokens, encode, budgets)
    if not windows:
        raise FeedError("the packs hold no text; build them again from a repository with source files")
    return windows


def _plan_pack(
    pack_index: int,
    pack: Pack,
    tokenizer: Tokenizer,
    row_tokens: int,
    encode: Callable[[int, int], EncodedText],
    budgets: Iterator[int],
) -> Iterator[Window]:
    budget = row_tokens - 1
    pieces: list[Piece] = []
    room = next(budgets)
    for file_index, file in enumerate(pack.files):
        overhead = len(encode_path(tokenizer, file.path)) + _UNIT_COST_TOKENS
        least_room = overhead + max(16, row_tokens // 8)
        if budget < least_room:
            raise FeedError(
                f"a row of {row_tokens} tokens is too short for the path {file.path!r}, which takes {overhead} of them"
            )
        encoded = encode(pack_index, file_index)
        start = 0
        while start < len(file.text):
            if not pieces:
                room = max(room, least_room)
            fits_whole = _count_tokens(encoded, start, len(file.text)) <= room - overhead
            is_new = not pieces
            if fits_whole:
                end = len(file.text)
            elif not is_new and _count_tokens(encoded, start, len(file.text)) <= budget - overhead:
                end = start  # it fits in a window of its own: do not divide it
            else:
                end = _find_piece_end(file, encoded, start, room - overhead)
                if not is_new and _count_tokens(encoded, start, end) < _MIN_PIECE_SHARE * row_tokens:
                    end = start
            if end == start:
                yield tuple(pieces)
                pieces, room = [], next(budgets)
                continue
            pieces.append(Piece(pack_index, file_index, start, end))
            room -= overhead + _count_tokens(encoded, start, end)
            start = end
    if pieces:
        yield tuple(pieces)


def _draw_budgets(pack_id: str, row_tokens: int, min_share: float) -> Iterator[int]:
    """Draw the lengths of a pack's windows, `<bos>` taken off; the same for the same pack."""
    rng = random.Random(pack_id)
    while True:
        yield round(row_tokens * rng.uniform(min_share, 1.0)) - 1


def _count_tokens(encoded: EncodedText, start: int, end: int) -> int:
    """Count the tokens that begin in `[start, end)`."""
    first, last = np.searchsorted(encoded.starts, (start, end))
    return int(last - first)


def _find_piece_end(file: PackedFile, encoded: EncodedText, start: int, room_tokens: int) -> int:
    """Find the last block start within the room; failing that the last line start, then any token's start."""
    if room_tokens < 1:
        return start
    first = int(np.searchsorted(encoded.starts, start))
    last = min(first + room_tokens, len(encoded.starts) - 1)
    limit = max(int(encoded.starts[last]), start + 1)
    block = _last_at_most(file.block_starts, limit)
    if block is not None and _count_tokens(encoded, start, block) >= _MIN_PIECE_SHARE * room_tokens:
        return block
    line = file.text.rfind("\n", start, limit) + 1
    return line if line > start else limit


def _last_at_most(offsets: Int32[np.ndarray, " n"], limit: int) -> int | None:
    index = int(np.searchsorted(offsets, limit, side="right")) - 1
    return int(offsets[index]) if index >= 0 else None

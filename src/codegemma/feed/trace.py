"""Tells where a trained token comes from: which characters of which file, and in which part of the format it stood.

**In**: a loader and one of its batches (`Loader.take_known`), a row, a token.
**Out**: `PieceOrigin` for each piece of a row, `TokenOrigin` for a token.
**Not**: which batch a run read at which step (`train/replay.py`). Nothing is stored: windows are spelled again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from codegemma.errors import InputError
from codegemma.feed.loader import KnownBatch, Loader
from codegemma.feed.rows import PieceOutcome, SpelledWindow
from codegemma.records import InfillMode, PackedFile, SourceKind
from codegemma.text.control_tokens import CONTROL_TOKENS, FILE_SEPARATOR_ID, RESERVED_IDS
from codegemma.text.infill_format import Ids, encode_path, format_infill, format_whole, join_files


class Part(StrEnum):
    """What a token is: part of the path line, of a piece without a hole, of a piece with one, or no text at all."""

    PATH = "path"
    WHOLE = "whole"
    PREFIX = "prefix"
    MIDDLE = "middle"
    SUFFIX = "suffix"
    CONTROL = "control"
    PADDING = "padding"


_TEXT_PARTS = (Part.PATH, Part.WHOLE, Part.PREFIX, Part.MIDDLE, Part.SUFFIX)


@dataclass(frozen=True, slots=True)
class PieceOrigin:
    """A piece of a file in a row: characters `start` to `end` of it, as tokens `token_start` to `token_end` of the row.

    The tokens include the path line and the token that ends the piece. Lines count from 1 and both are included;
    `mode` and the hole, in the file's characters, are `None` where the piece is shown whole.
    """

    row: int
    segment: int
    token_start: int
    token_end: int
    epoch: int
    repo: str
    commit: str | None
    path: str
    blob: str
    language: str
    license: str | None
    pack_id: str
    start: int
    end: int
    first_line: int
    last_line: int
    mode: InfillMode | None
    hole_start: int | None
    hole_end: int | None
    redactions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TextSpan:
    """Characters `start` to `end` of a file, or of its path line: half-open, lines and columns count from 1.

    `before` and `after` are the text beside them in the same part, `text` what the characters are: of a token that is
    one byte of a character, that character.
    """

    start: int
    end: int
    line: int
    column: int
    end_line: int
    end_column: int
    before: str
    text: str
    after: str


@dataclass(frozen=True, slots=True)
class TokenOrigin:
    """One token of a row. `piece` is `None` for padding, `span` for padding, control tokens and what a turn says.

    `spelled` is the token's own text, U+FFFD where it is one byte of a character, or the control token's name.
    `redactions` are those of the piece's file in the lines of the span.
    """

    row: int
    token: int
    token_id: int
    spelled: str
    part: Part
    segment: int
    position: int
    loss_weight: float
    piece: PieceOrigin | None
    span: TextSpan | None
    redactions: tuple[str, ...] = field(default=())


# How much of the part is shown on either side of a token.
_SHOWN_CHARS = 160


def list_pieces(loader: Loader, known: KnownBatch, row: int) -> list[PieceOrigin]:
    """List the pieces of a row, in the order in which they stand there.

    Raises:
        InputError: the batch has no such row; the message says which there are.
    """
    _check_index("row", row, len(known.serials))
    pieces: list[PieceOrigin] = []
    offset = 0
    for segment, serial in enumerate(known.serials[row], 1):
        window = loader.spell_serial(serial)
        place = _Place(row, segment, offset, loader.find_epoch(serial))
        pieces += _describe_window(loader, window, _label_tokens(loader, window), place)
        offset += len(window.ids)
    return pieces


def list_batch(loader: Loader, known: KnownBatch, rows: Sequence[int] | None = None) -> list[PieceOrigin]:
    """List the pieces of some rows of a batch, or of all."""
    chosen = range(len(known.serials)) if rows is None else rows
    return [piece for row in chosen for piece in list_pieces(loader, known, row)]


def trace_token(loader: Loader, known: KnownBatch, row: int, token: int) -> TokenOrigin:
    """Tell where token number `token` of a row comes from. `<bos>` counts as part of the piece after it.

    Raises:
        InputError: the batch has no such row or token; the message says which there are.
    """
    _check_index("row", row, len(known.serials))
    _check_index("token", token, known.batch.ids.shape[1])
    batch = known.batch
    token_id, segment = int(batch.ids[row, token]), int(batch.segments[row, token])
    position, weight = int(batch.positions[row, token]), float(batch.loss_weights[row, token])
    if segment == 0:
        name = CONTROL_TOKENS[token_id]
        return TokenOrigin(row, token, token_id, name, Part.PADDING, segment, position, weight, None, None)
    serial = known.serials[row][segment - 1]
    window = loader.spell_serial(serial)
    labels = _label_tokens(loader, window)
    place = _Place(row, segment, token - position, loader.find_epoch(serial))
    pieces = _describe_window(loader, window, labels, place)
    piece = next(piece for piece in pieces if token < piece.token_end)
    label = int(labels[position])
    if label >= 0:
        name = CONTROL_TOKENS[token_id]
        return TokenOrigin(row, token, token_id, name, Part.CONTROL, segment, position, weight, piece, None)
    part = _read_label(label)
    number = pieces.index(piece)
    spelled = loader.tokenizer.decode([token_id])
    if _is_conversation(loader, window):
        return TokenOrigin(row, token, token_id, spelled, part, segment, position, weight, piece, None)
    index = int(np.count_nonzero(labels[:position] == label))
    span = _find_span(loader, window.outcomes[number], part, index)
    redactions = () if part is Part.PATH else _select_redactions(piece.redactions, span)
    return TokenOrigin(row, token, token_id, spelled, part, segment, position, weight, piece, span, redactions)


def _check_index(name: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise InputError(f"no {name} {index}: a batch of this run has {name}s 0 to {count - 1}")


def _label_tokens(loader: Loader, window: SpelledWindow) -> Int32[np.ndarray, " n"]:
    """Label every token of a window: its part and piece, below 0, or the control token that it is.

    Labels take the place of ids in the very functions that spell a window, so that there is one layout. Of a
    conversation, all that is said is one part.
    """
    if _is_conversation(loader, window):
        return np.where(window.ids < RESERVED_IDS, window.ids, _make_labels(0, Part.WHOLE, window.ids))
    files = []
    for number, outcome in enumerate(window.outcomes):
        parts = {part: _make_labels(number, part, ids) for part, ids in _encode_parts(loader, outcome).items()}
        if outcome.mode is None:
            labels = format_whole(parts[Part.PATH], parts[Part.WHOLE])
        else:
            path, prefix, middle = parts[Part.PATH], parts[Part.PREFIX], parts[Part.MIDDLE]
            labels, _ = format_infill(path, prefix, middle, parts[Part.SUFFIX], outcome.mode, middle_weight=1.0)
        files.append((labels, np.ones(len(labels), dtype=np.float32)))
    labels, _ = join_files(files)
    is_control = labels >= 0
    if len(labels) != len(window.ids) or not np.array_equal(labels[is_control], window.ids[is_control]):
        raise AssertionError("a window was spelled otherwise than its outcomes tell")
    return labels


def _is_conversation(loader: Loader, window: SpelledWindow) -> bool:
    return loader.packs[window.outcomes[0].piece.pack].kind is SourceKind.CONVERSATION


def _make_labels(number: int, part: Part, ids: Ids) -> Ids:
    return np.full(len(ids), -1 - number * len(_TEXT_PARTS) - _TEXT_PARTS.index(part), dtype=np.int32)


def _read_label(label: int) -> Part:
    return _TEXT_PARTS[(-1 - label) % len(_TEXT_PARTS)]


def _encode_parts(loader: Loader, outcome: PieceOutcome) -> dict[Part, Ids]:
    path = _find_file(loader, outcome).path if outcome.has_path else None
    encoded = loader.speller.encode(outcome.piece.pack, outcome.piece.file)
    spans = _divide(outcome)
    return {Part.PATH: encode_path(loader.tokenizer, path)} | {
        part: encoded.encode_span(*span) for part, span in spans.items()
    }


def _divide(outcome: PieceOutcome) -> dict[Part, tuple[int, int]]:
    piece, hole = outcome.piece, outcome.hole
    if hole is None:
        return {Part.WHOLE: (piece.start, piece.end)}
    return {
        Part.PREFIX: (piece.start, hole.start),
        Part.MIDDLE: (hole.start, hole.end),
        Part.SUFFIX: (hole.end, piece.end),
    }


def _find_file(loader: Loader, outcome: PieceOutcome) -> PackedFile:
    return loader.packs[outcome.piece.pack].files[outcome.piece.file]


class _Place(NamedTuple):
    """Where a window stands: its first token is number `offset` of the row."""

    row: int
    segment: int
    offset: int
    epoch: int


def _describe_window(loader: Loader, window: SpelledWindow, labels: Ids, place: _Place) -> list[PieceOrigin]:
    # A piece ends with its separator, the last with the end of the window; `<bos>` is before the first.
    ends = [*(np.flatnonzero(labels == FILE_SEPARATOR_ID) + 1).tolist(), len(labels)]
    starts = [1, *ends[:-1]]
    return [
        _describe_piece(loader, outcome, place, start, end)
        for outcome, start, end in zip(window.outcomes, starts, ends, strict=True)
    ]


def _describe_piece(loader: Loader, outcome: PieceOutcome, place: _Place, start: int, end: int) -> PieceOrigin:
    pack, file, piece = loader.packs[outcome.piece.pack], _find_file(loader, outcome), outcome.piece
    return PieceOrigin(
        row=place.row,
        segment=place.segment,
        token_start=place.offset + start,
        token_end=place.offset + end,
        epoch=place.epoch,
        repo=pack.repo,
        commit=pack.commit,
        path=file.path,
        blob=file.blob,
        language=file.language,
        license=file.license,
        pack_id=pack.pack_id,
        start=piece.start,
        end=piece.end,
        first_line=file.text.count("\n", 0, piece.start) + 1,
        last_line=file.text.count("\n", 0, piece.end - 1) + 1,
        mode=outcome.mode,
        hole_start=None if outcome.hole is None else outcome.hole.start,
        hole_end=None if outcome.hole is None else outcome.hole.end,
        redactions=file.redactions,
    )


def _find_span(loader: Loader, outcome: PieceOutcome, part: Part, index: int) -> TextSpan:
    """Find the characters of token number `index` of a part."""
    ids = _encode_parts(loader, outcome)[part]
    file = _find_file(loader, outcome)
    text = file.path + "\n" if part is Part.PATH else file.text
    first, last = (0, len(text)) if part is Part.PATH else _divide(outcome)[part]
    start = first + int(loader.tokenizer.find_starts(ids)[index])
    # Of a character that is spelled in bytes, every byte stands for the whole.
    end = start + len(loader.tokenizer.decode(ids[index : index + 1]))
    return TextSpan(
        start,
        end,
        *_locate(text, start),
        *_locate(text, end),
        before=text[max(first, start - _SHOWN_CHARS) : start],
        text=text[start:end],
        after=text[end : min(last, end + _SHOWN_CHARS)],
    )


def _select_redactions(redactions: tuple[str, ...], span: TextSpan) -> tuple[str, ...]:
    # A line end belongs to the line that it ends.
    last_line = span.line + span.text[:-1].count("\n")
    return tuple(note for note in redactions if span.line <= int(note.rpartition(":")[2]) <= last_line)


def _locate(text: str, offset: int) -> tuple[int, int]:
    """Tell line and column, counted from 1.

    >>> _locate("a = 1\\r\\nb = 2", 7)
    (2, 1)
    """
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)

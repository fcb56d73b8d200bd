"""Every token of a batch is told its characters: no more, no fewer, in every mode and for every kind of text."""

import dataclasses
import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.feed.packs import make_file, standard_packs
from tests.text.test_tokenizer import SOURCE_TEXT, small_tokenizer

from codegemma.errors import InputError
from codegemma.feed.choices import FeedChoices
from codegemma.feed.loader import KnownBatch, Loader, RowShape
from codegemma.feed.trace import Part, PieceOrigin, TokenOrigin, list_batch, list_pieces, trace_token
from codegemma.records import InfillMode, Pack, PackedFile, Split
from codegemma.text.control_tokens import BOS_ID, CONTROL_TOKENS, EOS_ID, FILE_SEPARATOR_ID, RESERVED_IDS

TEXTS = st.lists(st.lists(SOURCE_TEXT, max_size=8).map("\r\n".join), min_size=1, max_size=3).filter(any)
CHOICES = st.builds(
    FeedChoices,
    infill_share=st.sampled_from([0.0, 0.8, 1.0]),
    spm_share=st.sampled_from([0.0, 0.5, 1.0]),
    spm_mode=st.sampled_from([InfillMode.SPM, InfillMode.SPM1]),
    path_share=st.sampled_from([0.0, 0.5, 1.0]),
    packing_bins=st.just(2),
)
TEXT_PARTS = {Part.PATH, Part.WHOLE, Part.PREFIX, Part.MIDDLE, Part.SUFFIX}


def make_loader(packs: list[Pack], choices: FeedChoices | None = None, row_tokens: int = 96) -> Loader:
    return Loader(packs, small_tokenizer(), choices or FeedChoices(packing_bins=8), RowShape(2, row_tokens), seed=3)


def trace_all(loader: Loader, known: KnownBatch) -> list[TokenOrigin]:
    rows, tokens = known.batch.ids.shape
    return [trace_token(loader, known, row, token) for row in range(rows) for token in range(tokens)]


def find_file(packs: list[Pack], origin: TokenOrigin) -> PackedFile:
    assert origin.piece is not None
    (file,) = [f for p in packs if p.pack_id == origin.piece.pack_id for f in p.files if f.path == origin.piece.path]
    return file


def assert_spelled_at(text: str, origin: TokenOrigin) -> None:
    """The characters at the span are what the token spells; of a character in bytes, it is one of the bytes."""
    span = origin.span
    assert span is not None
    spelled = small_tokenizer().decode_bytes([origin.token_id])
    assert text[span.start : span.end] == span.text
    assert spelled == span.text.encode() or (
        len(span.text) == 1 and len(spelled) == 1 and spelled in span.text.encode()
    )
    lines = text.split("\n")
    assert lines[span.line - 1][span.column - 1 :].startswith(span.text.split("\n")[0])
    assert sum(len(line) + 1 for line in lines[: span.end_line - 1]) + span.end_column - 1 == span.end
    assert text[: span.start].endswith(span.before)
    assert text[span.end :].startswith(span.after)


@given(TEXTS, CHOICES, st.integers(0, 2))
@settings(deadline=None, max_examples=20)
def test_every_token_is_told_its_characters_and_every_character_its_tokens(texts, choices, skipped):
    files = tuple(make_file(f"d 𝒳/f{i}.py", text) for i, text in enumerate(texts))
    packs = [Pack("p", "r", "c" * 40, Split.TRAIN, files)]
    loader = make_loader(packs, choices)
    known = [loader.take_known() for _ in range(skipped + 1)][-1]
    spelled: defaultdict[tuple[PieceOrigin, Part], bytes] = defaultdict(bytes)
    for origin in trace_all(loader, known):
        assert origin.token_id == known.batch.ids[origin.row, origin.token]
        assert (origin.part in TEXT_PARTS) == (origin.token_id >= RESERVED_IDS) == (origin.span is not None)
        assert (origin.part is Part.PADDING) == (origin.piece is None) == (origin.segment == 0)
        if origin.span is None or origin.piece is None:
            assert origin.spelled == CONTROL_TOKENS[origin.token_id]
            continue
        piece, file = origin.piece, find_file(packs, origin)
        assert piece.token_start <= origin.token < piece.token_end
        assert_spelled_at(file.path + "\n" if origin.part is Part.PATH else file.text, origin)
        if origin.part is Part.WHOLE:
            assert (piece.mode, piece.hole_start) == (None, None)
        elif origin.part is not Part.PATH:
            assert piece.hole_start is not None
            assert piece.hole_end is not None
            borders = {
                Part.PREFIX: (piece.start, piece.hole_start),
                Part.MIDDLE: (piece.hole_start, piece.hole_end),
                Part.SUFFIX: (piece.hole_end, piece.end),
            }[origin.part]
            assert borders[0] <= origin.span.start < origin.span.end <= borders[1]
        spelled[piece, origin.part] += small_tokenizer().decode_bytes([origin.token_id])
    for piece in list_batch(loader, known):
        (file,) = [f for f in files if f.path == piece.path]
        parts = [spelled[piece, part] for part in (Part.WHOLE, Part.PREFIX, Part.MIDDLE, Part.SUFFIX)]
        assert b"".join(parts) == file.text[piece.start : piece.end].encode()
        assert spelled[piece, Part.PATH] in (b"", f"{file.path}\n".encode())
        assert (piece.repo, piece.commit, piece.blob, piece.pack_id) == ("r", "c" * 40, file.blob, "p")
    loader.close()


def test_pieces_cover_the_tokens_of_their_row_and_end_with_their_terminator():
    loader = make_loader(list(standard_packs()), row_tokens=512)
    for known in (loader.take_known() for _ in range(6)):
        for row, serials in enumerate(known.serials):
            ids = known.batch.ids[row]
            pieces = list_pieces(loader, known, row)
            covered = set()
            for piece in pieces:
                assert ids[piece.token_end - 1] in (FILE_SEPARATOR_ID, EOS_ID)
                assert set(known.batch.segments[row][piece.token_start : piece.token_end]) == {piece.segment}
                covered |= set(range(piece.token_start, piece.token_end))
            padding = np.flatnonzero(known.batch.segments[row] == 0)
            assert covered | set(np.flatnonzero(ids == BOS_ID)) | set(padding) == set(range(512))
            assert {piece.segment for piece in pieces} == set(range(1, len(serials) + 1))
    loader.close()


def test_the_same_batch_is_made_of_the_same_windows_on_every_host():
    """What a loader tells about its rows is true of the batch that a loader which tells nothing would give."""
    for host in range(2):
        loaders = [
            Loader(list(standard_packs()), small_tokenizer(), FeedChoices(packing_bins=8), RowShape(4, 128, host, 2), 3)
            for _ in range(2)
        ]
        for _ in range(20):
            known, batch = loaders[0].take_known(), next(loaders[1])
            assert np.array_equal(known.batch.ids, batch.ids)
            for row, serials in enumerate(known.serials):
                respelled = np.concatenate([loaders[1].spell_serial(serial).ids for serial in serials])
                assert np.array_equal(batch.ids[row][: len(respelled)], respelled)
                assert not batch.segments[row][len(respelled) :].any()
        for loader in loaders:
            loader.close()


def test_every_mode_and_part_is_met_in_real_source():
    met = set()
    for spm_mode in (InfillMode.SPM, InfillMode.SPM1):
        packs = list(standard_packs())
        loader = make_loader(packs, FeedChoices(spm_mode=spm_mode, packing_bins=8), row_tokens=192)
        for _ in range(4):
            for origin in trace_all(loader, loader.take_known()):
                met.add((origin.piece.mode if origin.piece else None, origin.part))
                if origin.span is not None and origin.part is not Part.PATH:
                    assert_spelled_at(find_file(packs, origin).text, origin)
        loader.close()
    parts = (Part.PATH, Part.PREFIX, Part.MIDDLE, Part.SUFFIX, Part.CONTROL)
    assert {(None, Part.WHOLE), *itertools.product(InfillMode, parts)} <= met


def test_redactions_are_told_for_the_lines_of_the_token_only():
    file = make_file("a.py", "first = 1\nmail = 'x@example.org'\nlast = 3\n")
    file = dataclasses.replace(file, redactions=("email:2", "ip_address:3"), license="MIT")
    loader = make_loader([Pack("p", "r", None, Split.TRAIN, (file,))], FeedChoices(infill_share=0.0, path_share=0.0))
    known = loader.take_known()
    told = [(o.span.line, o.redactions) for o in trace_all(loader, known) if o.span is not None and o.span.text != "\n"]
    assert {notes for line, notes in told if line == 1} == {()}
    assert {notes for line, notes in told if line == 2} == {("email:2",)}
    assert {notes for line, notes in told if line == 3} == {("ip_address:3",)}
    assert all(p.redactions == file.redactions and p.license == "MIT" for p in list_batch(loader, known))
    loader.close()


@pytest.mark.parametrize(
    ("row", "token", "message"), [(2, 0, "rows 0 to 1"), (-1, 0, "rows"), (0, 96, "tokens 0 to 95")]
)
def test_a_place_that_a_batch_does_not_have_is_refused_with_those_it_has(row, token, message):
    loader = make_loader(list(standard_packs()))
    with pytest.raises(InputError, match=message):
        trace_token(loader, loader.take_known(), row, token)
    loader.close()

"""Windows: everything is read once, nothing is longer than a row."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.feed.packs import make_file, standard_packs
from tests.text.test_tokenizer import SOURCE_TEXT, small_tokenizer

from codegemma.feed.choices import FeedChoices, FeedError
from codegemma.feed.rows import WindowSpeller
from codegemma.feed.windows import plan_windows
from codegemma.records import InfillMode, Pack, Split
from codegemma.text.control_tokens import (
    BOS_ID,
    EOS_ID,
    FILE_SEPARATOR_ID,
    FIM_MIDDLE_ID,
    FIM_PREFIX_ID,
    FIM_SUFFIX_ID,
)

SPM_MODES = st.sampled_from([InfillMode.SPM, InfillMode.SPM1])
TEXTS = st.lists(st.lists(SOURCE_TEXT, max_size=12).map("\n".join), min_size=1, max_size=4)


def plan(packs, row_tokens, choices=None):
    choices = choices or FeedChoices()
    speller = WindowSpeller(packs, small_tokenizer(), choices, 0, row_tokens)
    return speller, plan_windows(packs, small_tokenizer(), row_tokens, speller.encode, choices.min_window_share)


@given(TEXTS, st.sampled_from([64, 100, 400]), st.sampled_from([0.0, 0.2, 1.0]))
@settings(deadline=None)
def test_every_character_is_in_exactly_one_window(texts, row_tokens, min_window_share):
    files = tuple(make_file(f"f{i}.py", text) for i, text in enumerate(texts))
    packs = [Pack("p", "r", None, Split.TRAIN, files)]
    if not any(texts):
        with pytest.raises(FeedError, match="no text"):
            plan(packs, row_tokens)
        return
    _, windows = plan(packs, row_tokens, FeedChoices(min_window_share=min_window_share))
    covered = [""] * len(texts)
    for window in windows:
        for piece in window:
            assert piece.end > piece.start
            assert len(covered[piece.file]) == piece.start
            covered[piece.file] += texts[piece.file][piece.start : piece.end]
    assert covered == texts


@given(TEXTS, st.sampled_from([64, 100, 400]), st.integers(0, 5))
@settings(deadline=None)
def test_no_spelled_window_is_longer_than_a_row(texts, row_tokens, epoch):
    files = tuple(make_file(f"f{i}.py", text) for i, text in enumerate(texts))
    packs = [Pack("p", "r", None, Split.TRAIN, files)]
    if any(texts):
        speller, windows = plan(packs, row_tokens)
        for window in windows:
            spelled = speller.spell(window, epoch)
            assert len(spelled.ids) == len(spelled.weights) <= row_tokens
            assert spelled.ids[0] == BOS_ID
            assert spelled.ids[-1] == EOS_ID
            assert list(spelled.ids).count(FILE_SEPARATOR_ID) == len(window) - 1


def uncut(ids) -> list[bytes]:
    """Read a spelled window back as the texts of its pieces, by its control tokens alone; there are no path lines."""
    texts = []
    parts: list[list[int]] = [[]]
    order: list[int] = []
    for token_id in ids.tolist()[1:]:
        if token_id in (FIM_PREFIX_ID, FIM_SUFFIX_ID, FIM_MIDDLE_ID):
            order.append(token_id)
            parts.append([])
        elif token_id in (FILE_SEPARATOR_ID, EOS_ID):
            before, *hole = [small_tokenizer().decode_bytes(part) for part in parts]
            if hole:
                # In SPM the prefix part is empty; prefix and middle stand behind the suffix, one after the other.
                part = dict(zip(order, hole, strict=True))
                before += part[FIM_PREFIX_ID] + part[FIM_MIDDLE_ID] + part[FIM_SUFFIX_ID]
            texts.append(before)
            parts, order = [[]], []
        else:
            parts[-1].append(token_id)
    return texts


@given(TEXTS, st.sampled_from([64, 100, 400]), st.integers(0, 5), st.sampled_from([0.0, 0.8, 1.0]), SPM_MODES)
@settings(deadline=None)
def test_uncutting_the_ids_gives_back_the_exact_files(texts, row_tokens, epoch, infill_share, spm_mode):
    files = tuple(make_file(f"f{i}.py", text) for i, text in enumerate(texts))
    if not any(texts):
        return
    choices = FeedChoices(infill_share=infill_share, path_share=0.0, spm_mode=spm_mode, hole_syntax=1.0)
    speller, windows = plan([Pack("p", "r", None, Split.TRAIN, files)], row_tokens, choices)
    read = [b""] * len(texts)
    for window in windows:
        for piece, text in zip(window, uncut(speller.spell(window, epoch).ids), strict=True):
            read[piece.file] += text
    assert read == [text.encode() for text in texts]


def test_a_file_that_fits_is_not_divided():
    packs = standard_packs()
    speller, windows = plan(packs, 2048)
    divided = {(p.pack, p.file) for w in windows for p in w if p.end - p.start < len(packs[p.pack].files[p.file].text)}
    assert divided
    for pack, file in divided:
        assert len(speller.encode(pack, file).ids) > 2048 - 64


def test_long_files_are_divided_at_block_starts():
    packs = standard_packs()
    _, windows = plan(packs, 512)
    borders = [(p.pack, p.file, p.start) for w in windows for p in w if p.start]
    at_blocks = [start in packs[pack].files[file].block_starts for pack, file, start in borders]
    assert sum(at_blocks) > 0.5 * len(borders)
    assert all(packs[pack].files[file].text[start - 1] == "\n" for pack, file, start in borders)


def test_windows_are_well_filled():
    speller, windows = plan(standard_packs(), 256)
    tokens = sum(len(speller.spell(window, 0).ids) for window in windows)
    assert tokens > 0.7 * 256 * len(windows)


@pytest.mark.parametrize(
    ("spm_mode", "order"),
    [
        (InfillMode.SPM, [FIM_PREFIX_ID, FIM_SUFFIX_ID, FIM_MIDDLE_ID]),
        (InfillMode.SPM1, [FIM_SUFFIX_ID, FIM_PREFIX_ID, FIM_MIDDLE_ID]),
    ],
)
def test_rows_are_spelled_in_the_chosen_spm(spm_mode, order):
    speller, windows = plan(standard_packs(), 256, FeedChoices(infill_share=1.0, spm_share=1.0, spm_mode=spm_mode))
    for window in windows[:20]:
        ids = speller.spell(window, 0).ids.tolist()
        sentinels = [i for i in ids if i in order]
        assert sentinels == order * len(window)
        assert (ids[ids.index(FIM_PREFIX_ID) + 1] == FIM_SUFFIX_ID) == (spm_mode is InfillMode.SPM)


def test_a_syntax_hole_is_cut_from_the_tree_of_the_whole_file():
    """Windows begin anywhere in a file; a hole that was drawn in a shifted tree would end inside words."""
    speller, windows = plan(standard_packs(), 256, FeedChoices(infill_share=1.0, hole_uniform=0.0, hole_syntax=1.0))
    outcomes = [o for w in windows for o in speller.spell(w, 0).outcomes if o.piece.start > 0]
    packs = standard_packs()
    texts = [packs[o.piece.pack].files[o.piece.file].text for o in outcomes]
    split = [
        text[o.hole.end - 1 : o.hole.end + 1].isidentifier() and text[o.hole.end - 1 : o.hole.end + 1] != ""
        for o, text in zip(outcomes, texts, strict=True)
        if 0 < o.hole.end < o.piece.end
    ]
    assert len(split) > 30
    assert sum(split) / len(split) < 0.1


def test_shares_of_infill_spm_and_paths_are_as_chosen():
    choices = FeedChoices(infill_share=0.8, spm_share=0.5, path_share=0.9)
    speller, windows = plan(standard_packs(), 256, choices)
    outcomes = [o for epoch in range(6) for w in windows for o in speller.spell(w, epoch).outcomes]
    holes = [o for o in outcomes if o.hole is not None]
    assert len(holes) / len(outcomes) == pytest.approx(0.8, abs=0.04)
    assert sum(o.mode == "spm" for o in holes) / len(holes) == pytest.approx(0.5, abs=0.05)
    assert sum(o.has_path for o in outcomes) / len(outcomes) == pytest.approx(0.9, abs=0.03)


def test_holes_are_drawn_afresh_in_every_epoch_and_alike_in_the_same():
    speller, windows = plan(standard_packs(), 256)
    again, _ = plan(standard_packs(), 256)
    first = [speller.spell(w, 0).ids.tolist() for w in windows]
    assert [again.spell(w, 0).ids.tolist() for w in reversed(windows)] == first[::-1]
    assert sum(speller.spell(w, 1).ids.tolist() != ids for w, ids in zip(windows, first, strict=True)) > 0.7 * len(
        first
    )


def test_a_row_too_short_for_the_path_is_refused():
    pack = dataclasses.replace(standard_packs()[0], files=(make_file("deep/" * 40 + "a.py", "x = 1\n"),))
    with pytest.raises(FeedError, match="too short for the path"):
        plan([pack], 64)


def test_ends_of_middles_are_at_all_positions_where_windows_are_drawn():
    """Else a model of short rows learns to end a middle by its position."""
    speller, windows = plan(standard_packs(), 256, FeedChoices(min_window_share=0.2))
    lengths = [len(speller.spell(window, 0).ids) for window in windows]
    counts = [sum(low <= n < low + 52 for n in lengths) for low in (52, 104, 156, 208)]
    assert min(counts) > 0.08 * len(lengths)

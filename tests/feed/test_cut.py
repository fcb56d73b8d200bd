"""Holes: where they lie, and that nothing is lost by cutting."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.test_tokenizer import SOURCE_TEXT

from codegemma.feed.choices import FeedChoices
from codegemma.feed.cut import cut_piece
from codegemma.records import InfillMode
from codegemma.text.syntax import list_nodes

CHOICES = st.builds(
    FeedChoices,
    hole_uniform=st.just(0.1),
    hole_log_uniform=st.floats(0, 1),
    hole_line=st.floats(0, 1),
    hole_rest_of_line=st.floats(0, 1),
    hole_syntax=st.floats(0, 1),
    natural_share=st.sampled_from([0.0, 0.5, 1.0]),
)


@given(SOURCE_TEXT, CHOICES, st.integers(0, 2**32), st.sets(st.integers(0, 200)))
@settings(deadline=None)
def test_a_hole_lies_in_the_text(text, choices, seed, cuts):
    natural_cuts = np.array(sorted(c for c in cuts if c <= len(text)), dtype=np.int32)
    hole = cut_piece(text, natural_cuts, choices, random.Random(seed), lambda: list_nodes(text, "python"))
    assert 0 <= hole.start <= hole.end <= len(text)


def cut_often(text: str, natural_cuts: list[int], choices: FeedChoices, times: int = 300):
    rng = random.Random(7)
    cuts = np.array(natural_cuts, dtype=np.int32)
    return [cut_piece(text, cuts, choices, rng, lambda: list_nodes(text, "python")) for _ in range(times)]


TEXT = "class A:\n    def f(self, x):\n        return g(x)  \n\n\nvalue = A()\n"
CUTS = [TEXT.index(end) + len(end) for end in ("x):", "g(x)", "A()\n")]


def test_a_line_hole_is_the_content_of_a_line():
    holes = cut_often(TEXT, CUTS, FeedChoices(hole_uniform=0, hole_line=1))
    assert {TEXT[h.start : h.end] for h in holes} == {"class A:", "def f(self, x):", "return g(x)", "value = A()"}


def test_a_rest_of_line_hole_ends_where_the_content_ends():
    holes = cut_often(TEXT, CUTS, FeedChoices(hole_uniform=0, hole_rest_of_line=1))
    ends = {len("class A:"), TEXT.index(":\n        return") + 1, TEXT.index("g(x)") + 4, len(TEXT) - 1}
    assert {h.end for h in holes} == ends
    assert len({h.start for h in holes}) > 20


def test_the_end_of_a_line_is_natural_only_where_a_natural_cut_is():
    for choices in (FeedChoices(hole_uniform=0, hole_line=1), FeedChoices(hole_uniform=0, hole_rest_of_line=1)):
        holes = cut_often(TEXT, CUTS, choices)
        assert {h.is_natural for h in holes} == {True, False}
        assert all(h.is_natural == (h.end in CUTS) for h in holes)


def test_suffixes_start_at_natural_cuts_as_often_as_chosen():
    reachable = FeedChoices(natural_share=0.9, max_natural_shift_chars=256)
    holes = cut_often(TEXT, CUTS, reachable, times=2000)
    moved = [h for h in holes if h.is_natural]
    assert 0.85 < len(moved) / len(holes) < 0.97
    assert all(h.end in CUTS for h in moved)


def test_a_cut_out_of_reach_moves_to_the_end_of_the_line():
    holes = cut_often(TEXT, [], FeedChoices(natural_share=1.0))
    assert all(h.end == len(TEXT) or TEXT[h.end] == "\n" for h in holes)
    assert not any(h.is_natural for h in holes)


def test_log_uniform_holes_are_short():
    holes = cut_often("x" * 5000, [], FeedChoices(hole_uniform=0, hole_log_uniform=1, natural_share=0))
    lengths = sorted(h.end - h.start for h in holes)
    assert lengths[-1] <= 256
    assert 8 <= lengths[len(lengths) // 2] <= 32


@pytest.mark.parametrize(
    "bad",
    [
        {"infill_share": 1.5},
        {"spm_share": -0.1},
        {"hole_uniform": 0.0},
        {"spm_mode": InfillMode.PSM},
        {"packing_bins": 0},
    ],
)
def test_impossible_choices_are_refused(bad):
    with pytest.raises(ValueError, match=r"share|weights|at least|spm"):
        FeedChoices(**bad)


def test_a_bracket_that_opens_in_the_middle_is_closed_in_it():
    text = "value = call(first, other(second))\n"
    cuts = [text.index("second") + 6, text.index("))") + 1, len(text) - 1]
    for hole in cut_often(text, cuts, FeedChoices(natural_share=1.0)):
        middle = text[hole.start : hole.end]
        assert middle.count("(") <= middle.count(")")


def test_a_syntax_hole_is_a_node_or_siblings_and_lies_in_its_piece():
    only_syntax = FeedChoices(hole_uniform=0, hole_syntax=1)
    rng = random.Random(7)
    cuts = np.array(CUTS, dtype=np.int32)
    middles = set()
    for _ in range(2000):
        hole = cut_piece(TEXT, cuts, only_syntax, rng, lambda: list_nodes(TEXT, "python"))
        middles.add(TEXT[hole.start : hole.end])
    # A node, siblings, and the body of a class; nothing that ends inside a name.
    assert {"g(x)", "(self, x)", "self, x", "def f(self, x):\n        return g(x)"} <= middles
    assert not any(middle.endswith(("sel", "retur", "val")) for middle in middles)
    # A piece is the middle of a file: no hole reaches over its borders.
    start, end = TEXT.index("def"), TEXT.index("value") - 1
    nodes = list_nodes(TEXT, "python") - np.array([start, start, 0], np.int32)
    for _ in range(300):
        hole = cut_piece(TEXT[start:end], cuts[:0], only_syntax, rng, lambda: nodes)
        assert 0 <= hole.start <= hole.end <= end - start

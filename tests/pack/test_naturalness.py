import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.pack.naturalness import REACH_CHARS, Boundary, count_boundaries
from codegemma.text.syntax import analyze_syntax

CUTS = st.lists(st.integers(0, 60), unique=True).map(lambda cuts: np.array(sorted(cuts), np.int32))


@pytest.mark.parametrize(
    ("marked", "boundary"),
    [
        ("f(a|)", Boundary.CLOSING_BRACKET),
        ("f(|)", Boundary.CLOSING_BRACKET),
        ("if a:|\n    b", Boundary.HEADER_END),
        ("if (a) {| // why\n", Boundary.HEADER_END),
        ("a = 1|\r\nb = 2\r\n", Boundary.LINE_END),
        ("# 漢字 🐍|", Boundary.LINE_END),
        ("a = 1;| b = 2", Boundary.WITHIN_LINE),
        ("return a|  # why", Boundary.WITHIN_LINE),
    ],
)
def test_a_cut_is_of_the_class_that_stands_around_it(marked: str, boundary: Boundary) -> None:
    cut = marked.index("|")
    counts = count_boundaries(marked.replace("|", ""), np.array([cut], np.int32))
    assert dict(zip(Boundary, counts.cuts, strict=True))[boundary] == sum(counts.cuts) == 1
    assert dict(zip(Boundary, counts.places, strict=True))[boundary] == cut


@given(st.text(st.characters(codec=None), min_size=60, max_size=80), CUTS)
def test_every_cut_has_one_class_and_no_place_is_counted_twice(text: str, cuts: np.ndarray) -> None:
    counts = count_boundaries(text, cuts)
    assert sum(counts.cuts) == len(cuts)
    assert sum(counts.places) == (cuts[-1] if len(cuts) else 0)


def test_places_out_of_reach_are_not_counted() -> None:
    text = "x = '" + "a" * 1_000 + "'\n"
    counts = count_boundaries(text, analyze_syntax(text, "python").natural_cuts)
    assert sum(counts.places) == REACH_CHARS

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codegemma.corpus.dedup import Shingles
from codegemma.corpus.sketches import (
    BAND_PLACES,
    BANDS,
    EMPTY_SKETCH,
    Sketches,
    estimate_jaccard,
    hash_bands,
    merge_sketches,
    shorten_sketches,
    sketch_shingles,
)

NUMBERS = st.sets(st.integers(0, 2**64 - 1), min_size=1, max_size=40)


def as_shingles(numbers: set[int]) -> Shingles:
    return np.array(sorted(numbers), np.uint64)


def draw_pairs(shared: int, own: int, count: int) -> tuple[Sketches, Sketches]:
    """Sketch `count` pairs of sets with so many shared numbers and so many of their own on either side."""
    source = np.random.default_rng(0)
    ones, others = [], []
    for _ in range(count):
        numbers = source.integers(0, 2**64, shared + 2 * own, np.uint64)
        ones.append(sketch_shingles(np.sort(numbers[: shared + own])))
        others.append(sketch_shingles(np.sort(np.concatenate([numbers[:shared], numbers[shared + own :]]))))
    return np.array(ones), np.array(others)


@pytest.mark.parametrize(("shared", "own"), [(1, 1), (3, 1), (7, 4), (70, 15), (70, 30), (700, 150), (3000, 3000)])
def test_estimate_is_right_on_average_for_small_sets_and_large_ones(shared: int, own: int) -> None:
    pairs = 100
    ones, others = draw_pairs(shared, own, pairs)
    exact = shared / (shared + 2 * own)
    estimates = estimate_jaccard(shorten_sketches(ones), shorten_sketches(others))
    # Five standard errors of 256 independent places, and a chance agreement of 16 bits. Sets smaller than 256 do no
    # worse: their places are filled in rounds that are independent of each other.
    error = (exact * (1 - exact) / ones.shape[1] / pairs) ** 0.5
    assert abs(estimates.mean() - exact) < 5 * error + 1e-4
    assert estimates.std() < 1.5 * (exact * (1 - exact) / ones.shape[1]) ** 0.5


@given(NUMBERS, NUMBERS)
@example({0x0100_0000_0000_0001}, {0x0180_0000_0000_0000})
def test_sketch_of_a_union_is_the_merge_of_the_sketches(one: set[int], other: set[int]) -> None:
    merged = merge_sketches([sketch_shingles(as_shingles(one)), sketch_shingles(as_shingles(other))])
    assert (merged == sketch_shingles(as_shingles(one | other))).all()


@given(NUMBERS)
def test_every_place_is_filled_and_nothing_is_the_sketch_of_nothing(numbers: set[int]) -> None:
    assert (sketch_shingles(as_shingles(numbers)) != EMPTY_SKETCH).all()
    assert (sketch_shingles(as_shingles(set())) == EMPTY_SKETCH).all()


@pytest.mark.parametrize(("shared", "own"), [(30, 35), (60, 20), (700, 150)])
def test_bands_agree_as_often_as_their_curve_says(shared: int, own: int) -> None:
    ones, others = draw_pairs(shared, own, 300)
    found = (hash_bands(ones) == hash_bands(others)).any(axis=1).mean()
    wanted = 1 - (1 - (shared / (shared + 2 * own)) ** BAND_PLACES) ** BANDS
    assert found == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / 300) ** 0.5 + 0.01)

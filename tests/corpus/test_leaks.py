import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.corpus.dedup import Shingles, hash_shingles
from codegemma.corpus.leaks import MAX_OWNERS, LeakIndex, Likeness

SETS = st.sets(st.integers(0, 30), min_size=1)


def as_shingles(numbers: set[int]) -> Shingles:
    return np.array(sorted(numbers), np.uint64)


def tell_all(index: LeakIndex) -> list[Likeness]:
    return [likeness for _, likeness in index.find_alike(0.0, 0.0)]


@given(heldout=st.lists(SETS, min_size=1, max_size=5), train=st.lists(SETS, max_size=5))
def test_measures_are_those_of_plain_set_arithmetic(heldout: list[set[int]], train: list[set[int]]) -> None:
    index = LeakIndex([as_shingles(numbers) for numbers in heldout])
    for number, numbers in enumerate(train):
        index.compare(f"{number}.py", as_shingles(numbers))
    for mine, likeness in zip(heldout, tell_all(index), strict=True):
        assert likeness.jaccard == pytest.approx(max([len(mine & other) / len(mine | other) for other in train] + [0]))
        assert likeness.containment == pytest.approx(max([len(mine & other) / len(mine) for other in train] + [0]))
        if likeness.jaccard:
            nearest = train[int(likeness.jaccard_path.removesuffix(".py"))]
            assert len(mine & nearest) / len(mine | nearest) == pytest.approx(likeness.jaccard)


@given(heldout=st.lists(st.sets(st.integers(0, 20), min_size=1), max_size=4), other=st.sets(st.integers(0, 20)))
def test_a_text_is_like_what_a_comparison_would_find_alike(heldout: list[set[int]], other: set[int]) -> None:
    index = LeakIndex([as_shingles(numbers) for numbers in heldout])
    found = index.find_like(as_shingles(other), 0.5, 0.8)
    index.compare("other.py", as_shingles(other))
    alike = [number for number, _ in index.find_alike(0.5, 0.8)]
    assert found == (alike[0] if alike else None)


def test_small_file_inside_a_large_one_is_contained_though_hardly_alike() -> None:
    small = "".join(f"def part_{n}(value):\n    return value * {n}\n" for n in range(3))
    large = "".join(f"class Other{n}:\n    number = {n}\n" for n in range(200))
    index = LeakIndex([hash_shingles(small)])
    index.compare("large.py", hash_shingles(large + small))
    [likeness] = tell_all(index)
    assert likeness.containment == 1.0
    assert likeness.jaccard < 0.1


def test_licence_header_of_many_files_does_not_make_them_alike() -> None:
    header = "".join(f"# line {n} of the licence that stands above every file\n" for n in range(20))
    texts = [header + f"def f{n}(a{n}, b{n}):\n    return a{n} + b{n}\n" for n in range(MAX_OWNERS + 1)]
    index = LeakIndex([*map(hash_shingles, texts), hash_shingles(header)])
    index.compare("train.py", hash_shingles(header + "import sys\nprint(sys.argv[1:])\n"))
    *others, bare = tell_all(index)
    assert all(likeness.containment < 0.5 for likeness in others)
    assert (bare.containment, bare.containment_path) == (1.0, "boilerplate")


def test_nothing_held_out_is_nothing_to_find() -> None:
    index = LeakIndex([])
    index.compare("a.py", hash_shingles("x = 1"))
    assert tell_all(index) == []

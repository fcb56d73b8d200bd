import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.corpus.dedup import Sighting, digest_text, find_duplicates, hash_shingles

TEXT = st.text(st.characters())
TOKEN = re.compile(r"[A-Za-z0-9_\x80-\U0010ffff]+|[^\s\x1c-\x1f]")


def test_white_space_alone_makes_no_difference_and_everything_else_does() -> None:
    assert digest_text("a = 1\r\n\r\n") == digest_text("a =\t1")
    assert digest_text("a = 1") != digest_text("a = 2")
    assert digest_text("ab") != digest_text("a b")
    assert digest_text("A") != digest_text("a")


@given(st.permutations([Sighting(r, p, b, "d") for r, p, b in [("s", "a", "1"), ("r", "z", "1"), ("r", "b", "2")]]))
def test_first_by_repository_and_path_survives_in_whatever_order_they_come(order: list[Sighting]) -> None:
    duplicates = find_duplicates(order)
    assert {key: (found.reason, found.kept.path) for key, found in duplicates.items()} == {
        ("r", "z"): ("whitespace_duplicate", "b"),
        ("s", "a"): ("whitespace_duplicate", "b"),
    }


def test_files_that_differ_stay() -> None:
    assert find_duplicates([Sighting("r", "a", "1", "x"), Sighting("r", "b", "2", "y")]) == {}


@given(TEXT)
def test_shingles_are_sorted_distinct_and_blind_to_white_space(text: str) -> None:
    shingles = hash_shingles(text)
    assert (np.diff(shingles.astype(object)) > 0).all()
    assert (hash_shingles("\n".join(TOKEN.findall(text))) == shingles).all()


@pytest.mark.parametrize(("one", "other"), [("a[i] += 1", "a i"), ("f(x)", "f[x]"), ("a b", "b a"), ("X = 1", "x = 1")])
def test_signs_order_and_case_count(one: str, other: str) -> None:
    assert not np.array_equal(hash_shingles(one), hash_shingles(other))


def test_shingles_are_those_of_an_independent_count() -> None:
    text = "a b c d e f a b c d e"
    tokens = text.split()
    runs = {tuple(tokens[i : i + 5]) for i in range(len(tokens) - 4)}
    assert len(hash_shingles(text)) == len(runs)
    assert len(np.intersect1d(hash_shingles(text), hash_shingles("z a b c d e"))) == 1

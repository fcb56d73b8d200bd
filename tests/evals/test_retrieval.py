"""Retrieval answers with what followed the longest known ending, and agrees with a search done the slow way."""

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from codegemma.evals.retrieval import CONTEXT_BYTES, index_lines, normalise

TRAIN = [
    "class Shape:\n    def area(self):\n        return self.width * self.height\n",
    "class Box:\n    def area(self):\n        return self.width * self.height\n\n    def id(self):\n        return 1\n",
    "class Disc:\n    def area(self):\n        return self.radius ** 2\n",
]


def _retrieve_slowly(texts: list[str], prefix: str) -> str | None:
    """The definition, over characters: the longest of the allowed endings, then the most frequent rest of line."""
    ending = normalise(prefix).encode()
    for size in CONTEXT_BYTES:
        rests: Counter[bytes] = Counter()
        for text in texts:
            data = normalise(text).encode() + b"\n"
            for match in re.finditer(b"(?=" + re.escape(ending[-size:]) + rb"([^\n]+))", data):
                rests[match.group(1)] += 1
        if len(ending) >= size and rests:
            return rests.most_common(1)[0][0].decode()
    return None


def test_next_line_is_the_most_frequent_one() -> None:
    prefix = "class Cube:\n  def area(self):\n    "
    assert index_lines(TRAIN).retrieve([prefix]) == ["return self.width * self.height"]


def test_longer_ending_decides_against_the_majority() -> None:
    prefix = "class Disc:\r\n\tdef area(self):\r\n\t\treturn self."
    assert index_lines(TRAIN).retrieve([prefix]) == ["radius ** 2"]


def test_unknown_ending_has_no_answer() -> None:
    assert index_lines(TRAIN).retrieve(["€€", "", "q"]) == [None, None, None]
    assert index_lines([]).retrieve(["def f():\n"]) == [None]


def test_endings_do_not_reach_across_files() -> None:
    assert index_lines(["ab\n", "cd\n"]).retrieve(["ab\n"]) == [None]


words = st.sampled_from(["if ", "a", "b", "ß", "\n", "  ", "(", ")", "\n\n    ", "return "])
texts = st.lists(words, max_size=30).map("".join)


@given(train=st.lists(texts, max_size=4), prefix=texts)
def test_answers_equal_a_slow_search(train: list[str], prefix: str) -> None:
    assert index_lines(train).retrieve([prefix]) == [_retrieve_slowly(train, prefix)]


@given(texts)
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)

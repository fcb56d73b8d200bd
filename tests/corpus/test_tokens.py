"""The one token pass, against a pattern that says the same in one line."""

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codegemma.corpus.tokens import BLOCK_BYTES, encode_text, hash_runs, hash_tokens

TOKEN = re.compile(rb"[A-Za-z0-9_\x80-\xff]+|[^A-Za-z0-9_\x80-\xff\s\x1c-\x1f]")
# Any string Python can hold: null bytes, control signs and halves of surrogate pairs included.
TEXT = st.text(st.one_of(st.sampled_from("ab_1 \n\t(.é\0\x1f\xa0\ud800"), st.characters()), max_size=60)


@given(TEXT)
@example("")
@example(" \n")
def test_tokens_are_hashed_each_alike_and_start_where_the_pattern_says(text: str) -> None:
    content = encode_text(text)
    tokens = hash_tokens(content)
    wanted = list(TOKEN.finditer(content))
    assert tokens.starts.tolist() == [match.start() for match in wanted]
    assert tokens.is_word.tolist() == [re.match(rb"[\w\x80-\xff]", match.group()) is not None for match in wanted]
    by_hash = dict(zip(tokens.hashes.tolist(), [match.group() for match in wanted], strict=True))
    assert [by_hash[number] for number in tokens.hashes.tolist()] == [match.group() for match in wanted]
    assert len(by_hash) == len({match.group() for match in wanted})


@given(word=st.text("ab0_", min_size=1, max_size=9), before=st.text(" (é", max_size=9))
def test_hash_of_a_word_does_not_depend_on_what_stands_before_it(word: str, before: str) -> None:
    text = f"{before} {word})"
    tokens = hash_tokens(encode_text(text))
    assert tokens.hashes[-2] == hash_tokens(word.encode()).hashes[0]


@pytest.mark.parametrize("length", [BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
def test_block_borders_do_not_show(length: int) -> None:
    content = (b"value_%d = other(value_%d)\n" * (length // 8) % tuple(range(2 * (length // 8))))[:length]
    tokens = hash_tokens(content)
    wanted = [match.span() for match in TOKEN.finditer(content)]
    assert tokens.starts.tolist() == [start for start, _ in wanted]
    alone = [hash_tokens(content[start:end]).hashes[0] for start, end in wanted]
    assert (tokens.hashes == np.array(alone)).all()


def test_word_longer_than_a_block_is_cut_and_nothing_is_lost() -> None:
    tokens = hash_tokens(b"(" + b"a" * (2 * BLOCK_BYTES) + b")")
    assert tokens.starts.tolist() == [0, 1, 1 + BLOCK_BYTES, 1 + 2 * BLOCK_BYTES]


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 5))
def test_runs_are_equal_where_their_tokens_are(numbers: list[int], run_tokens: int) -> None:
    runs = hash_runs(np.array(numbers, np.uint64), run_tokens)
    spelled = [tuple(numbers[i : i + run_tokens]) for i in range(max(1, len(numbers) - run_tokens + 1))]
    assert len(runs) == len(spelled)
    assert len(set(zip(runs.tolist(), spelled, strict=True))) == len(set(spelled)) == len(set(runs.tolist()))

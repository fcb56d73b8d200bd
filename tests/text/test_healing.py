import hypothesis.strategies as st
import pytest
from hypothesis import given

from codegemma.text.control_tokens import RESERVED_IDS
from codegemma.text.healing import ByteIndex, Healing, index_bytes, split_for_healing
from codegemma.text.tokenizer import Tokenizer, train_tokenizer

SOURCE = 'def add(first, second):\n    """Add – both."""\n    return first + second\n\n\nprint(add(1, 2))\n'
TOKENIZER = train_tokenizer([SOURCE] * 9, vocab_size=420)
INDEX = ByteIndex(TOKENIZER)
OWED = st.one_of(
    st.text(max_size=9).map(str.encode), st.binary(max_size=9), st.sampled_from([b"retur", b" fir", b"\n   "])
)


@given(OWED, st.randoms(use_true_random=False), st.integers(0, 3))
def test_whatever_is_chosen_the_answer_starts_with_what_is_owed(owed: bytes, draw, more: int) -> None:
    healing, ids, told = Healing(owed, INDEX), [], b""
    while (allowed := healing.find_allowed()) is not None or more > 0:
        more -= allowed is None
        ids.append(int(draw.choice(allowed.tolist())) if allowed is not None else draw.randrange(TOKENIZER.vocab_size))
        told += healing.take(ids[-1])
    assert TOKENIZER.decode_bytes(ids) == owed + told
    assert not healing.owed


@given(OWED.filter(bool))
def test_a_token_is_allowed_if_and_only_if_the_text_can_go_on_as_owed(owed: bytes) -> None:
    wanted = [
        i
        for i in range(RESERVED_IDS, TOKENIZER.vocab_size)
        if (piece := TOKENIZER.decode_bytes([i])) and (piece.startswith(owed) or owed.startswith(piece))
    ]
    assert sorted(INDEX.find_allowed(owed).tolist()) == wanted
    assert wanted


@given(st.text(max_size=60))
def test_nothing_is_lost_where_the_text_is_divided(text: str) -> None:
    kept, owed = split_for_healing(text)
    assert kept.encode("utf-8", "replace") + owed == text.encode("utf-8", "replace")


@pytest.mark.parametrize(
    ("text", "owed"),
    [
        ("", b""),
        ("retu", b"retu"),
        ("x = self.na", b"na"),
        ("if x ==", b"=="),
        ("if x == ", b" "),
        ("def f():\n", b"\n"),
        ("def f():\n    ", b"\n    "),
        ("# größe", " größe".encode()),
        ("x = '" + "a" * 40, b""),
    ],
)
def test_last_word_sign_or_blank_is_taken_back(text: str, owed: bytes) -> None:
    assert split_for_healing(text)[1] == owed


def test_whole_words_are_chosen_where_half_a_word_stood(tokenizer_of_words: Tokenizer) -> None:
    index = index_bytes(tokenizer_of_words)
    pieces = {index.pieces[i] for i in index.find_allowed(b"retu")}
    assert {b"return", b"r"} <= pieces
    assert index is index_bytes(tokenizer_of_words)


@pytest.fixture(scope="module")
def tokenizer_of_words() -> Tokenizer:
    return train_tokenizer([SOURCE] * 9, vocab_size=600)

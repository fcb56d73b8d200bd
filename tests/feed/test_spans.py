"""Spans are spelled from kept ids exactly as if they were encoded afresh."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.test_tokenizer import SOURCE_TEXT, gemma_tokenizer, small_tokenizer

from codegemma.feed.spans import EncodedText


@pytest.mark.parametrize("load", [small_tokenizer, gemma_tokenizer])
@given(text=st.lists(SOURCE_TEXT, max_size=4).map("\n    ".join), data=st.data())
@settings(deadline=None)
def test_encoding_a_span_equals_encoding_its_text(load, text, data):
    encoded = EncodedText(text, load())
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assert np.array_equal(encoded.encode_span(start, end), load().encode(text[start:end]))


def test_the_inside_of_a_span_is_not_encoded_again():
    tokenizer = small_tokenizer()
    text = "\n".join(f"value_{i} = compute({i}, other)" for i in range(200))
    encoded = EncodedText(text, tokenizer)
    spelled_again = []

    class Watched:
        def encode(self, part: str):
            spelled_again.append(part)
            return tokenizer.encode(part)

    encoded._tokenizer = Watched()  # type: ignore[assignment]
    encoded.encode_span(1003, 4001)
    assert sum(len(part) for part in spelled_again) < 60

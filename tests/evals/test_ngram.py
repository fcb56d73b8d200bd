"""The n-gram baseline is a real distribution, agrees with the formula done by hand, and learns."""

import math
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.evals.ngram import choose_order, train_ngram

TEXTS = ["def area(r):\n    return 3.14 * r * r\n", "def side(a):\n    return a ** 0.5\n", "größe = 'ß€'\n"]


def _probability_by_hand(texts: list[str], order: int, context: bytes, byte: int) -> float:
    """Witten-Bell from its definition, with dictionaries; contexts at a file's start are padded with zero bytes."""
    counts: dict[bytes, Counter[int]] = defaultdict(Counter)
    for text in texts:
        data = bytes(order) + text.encode()
        for i in range(order, len(data)):
            for length in range(order + 1):
                counts[data[i - length : i]][data[i]] += 1
    probability = 1 / 256
    padded = bytes(order) + context
    for length in range(order + 1):
        seen = counts.get(padded[len(padded) - length :])
        if seen:
            probability = (seen[byte] + len(seen) * probability) / (seen.total() + len(seen))
    return probability


@given(context=st.binary(max_size=12), order=st.integers(0, 6))
def test_probabilities_of_all_bytes_sum_to_one(context: bytes, order: int) -> None:
    distribution = train_ngram(TEXTS, order).distribution(context)
    assert distribution.min() > 0
    assert distribution.sum() == pytest.approx(1.0, abs=1e-12)


@given(
    context=st.sampled_from([b"", b"d", b"return ", b"return 3", b"zzz", "'ß".encode(), b"\x00"]),
    order=st.integers(0, 5),
    byte=st.integers(0, 255),
)
def test_probability_is_the_formula_done_by_hand(context: bytes, order: int, byte: int) -> None:
    fast = train_ngram(TEXTS, order).distribution(context)[byte]
    assert fast == pytest.approx(_probability_by_hand(TEXTS, order, context, byte), rel=1e-12)


def test_bits_of_a_middle_are_the_sum_over_its_bytes() -> None:
    model = train_ngram(TEXTS, order=3)
    prefixes, middles = ["def ", "", "x = 'ß"], ["area(b):", "größe", "€'"]
    expected = []
    for prefix, middle in zip(prefixes, middles, strict=True):
        context, bits = prefix.encode(), 0.0
        for byte in middle.encode():
            bits -= math.log2(model.distribution(context)[byte])
            context += bytes([byte])
        expected.append(bits)
    assert model.bits_of_middles(prefixes, middles).tolist() == pytest.approx(expected, rel=1e-12)


def test_what_was_seen_costs_less_than_what_was_not() -> None:
    model = train_ngram(TEXTS * 5, order=4)
    seen, unseen = model.bits_of_middles(["def area(r):\n    "] * 2, ["return 3", "zqjx!!07"])
    assert seen < 0.2 * unseen


def test_a_longer_context_is_chosen_where_the_text_needs_it() -> None:
    """Period 6 over two letters: two bytes of context do not tell what comes, five do."""
    assert choose_order(["aabaab" * 40 + "abbabb" * 40] * 20, orders=(2, 3, 6)) > 2
    assert choose_order(["short"], orders=(4, 6)) == 4


def test_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no text"):
        train_ngram(["", ""], order=2)

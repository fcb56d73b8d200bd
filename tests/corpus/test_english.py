"""English stays, other languages go, and what no one can tell is kept or dropped as the choice says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.sentences import ENGLISH, OTHERS

from codegemma.corpus.english import MAX_FOREIGN, MIN_SURE, English, extract_prose, find_foreign, measure_english

FORMULAS = r"Then $\int_0^1 x^2\,dx = \frac13$ and \[\sum_{k=1}^n k = \frac{n(n+1)}{2}.\] "


def test_every_english_sentence_is_kept() -> None:
    assert [text for text in ENGLISH if find_foreign(text, English.LIKELY)] == []
    told = [probability for text in ENGLISH if (probability := measure_english(text)) is not None]
    assert len(told) >= len(ENGLISH) - 1
    assert min(told) >= MIN_SURE


@pytest.mark.parametrize("language", OTHERS)
def test_every_sentence_in_another_language_goes(language: str) -> None:
    for text in OTHERS[language]:
        found = find_foreign(text, English.LIKELY)
        assert found is not None, text
        assert found[0] == "not_english"


def test_code_formulas_and_addresses_do_not_make_a_document_foreign_or_english() -> None:
    around = "```\nwhile not self.is_done: return the_value_of(that, and_this)\n```\nhttps://the.end/of/the/world "
    for text in ENGLISH[:3]:
        assert find_foreign(FORMULAS + around + text, English.SURE) is None
    for text in (OTHERS["de"][0], OTHERS["fr"][0], OTHERS["tr"][0]):
        assert find_foreign(around + FORMULAS.replace("Then", "").replace(" and ", "") + text, English.LIKELY)


@pytest.mark.parametrize("text", ["", "x = 1", "42", r"$\frac{1}{2}$" * 50, "\0" * 99, "\ud800" * 99, "https://x.org"])
def test_what_no_one_can_tell_is_kept_or_dropped_by_choice(text: str) -> None:
    assert measure_english(text) is None
    assert find_foreign(text, English.LIKELY) is None
    assert find_foreign(text, English.ANY) is None
    found = find_foreign(text, English.SURE)
    assert found is not None
    assert found[0] == "unsure_language"


def test_any_language_may_be_let_in() -> None:
    assert all(find_foreign(text, English.ANY) is None for texts in OTHERS.values() for text in texts)


def test_a_long_document_is_looked_at_in_three_places() -> None:
    german, english = OTHERS["de"][0] + " ", ENGLISH[0] + " "
    probability = measure_english(english * 3 + german * 300)
    assert probability is not None
    assert probability < MAX_FOREIGN
    assert len(extract_prose(english * 10_000)) < 2_000


@given(st.text(max_size=2000))
def test_any_text_can_be_asked_about(text: str) -> None:
    probability = measure_english(text)
    assert probability is None or 0 <= probability <= 1

"""Cuts in every language of the card. `marked/` was checked by hand: `‸` is a natural cut, `▸` a block start."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegemma.text.languages import LANGUAGES, has_grammar
from codegemma.text.syntax import analyze_syntax

MARKED = {path.stem: path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parent / "marked").iterdir())}
PLAIN = {language: marked.replace("‸", "").replace("▸", "") for language, marked in MARKED.items()}
every_language = pytest.mark.parametrize("language", LANGUAGES)


@st.composite
def spoiled_sources(draw: st.DrawFn) -> tuple[str, str]:
    """Real source whose lines are shuffled, repeated, cut, and ended in either way."""
    language = draw(st.sampled_from(sorted(LANGUAGES)))
    line = st.sampled_from(PLAIN[language].split("\n")) | st.sampled_from(["é {", "漢;", "#else", "}", "/*", "\0", "`"])
    ends = st.sampled_from(["\n", "\r\n", "\r", ""])
    lines = draw(st.lists(st.tuples(line, ends), max_size=30))
    return language, "".join(part for pair in lines for part in pair)


def mark(text: str, language: str) -> str:
    syntax = analyze_syntax(text, language)
    cuts, starts = set(syntax.natural_cuts.tolist()), set(syntax.block_starts.tolist())
    marked = (("▸" if i in starts else "") + ("‸" if i in cuts else "") + c for i, c in enumerate(text + "\0"))
    return "".join(marked)[:-1]


def test_every_language_of_the_table_has_its_grammar_and_a_marked_file() -> None:
    assert all(has_grammar(language) for language in LANGUAGES)
    assert set(MARKED) == set(LANGUAGES)


@every_language
def test_cuts_and_blocks_are_where_a_person_put_them(language: str) -> None:
    assert mark(PLAIN[language], language) == MARKED[language]


@every_language
def test_crlf_files_have_the_cuts_of_lf_files(language: str) -> None:
    marked = mark(PLAIN[language].replace("\n", "\r\n"), language)
    assert marked.replace("\r\n", "\n") == MARKED[language]
    assert "\r‸\n" not in marked


@pytest.mark.slow
@settings(max_examples=300)
@given(spoiled_sources())
def test_offsets_of_any_text_lie_in_it_and_never_between_cr_and_lf(source: tuple[str, str]) -> None:
    language, text = source
    syntax = analyze_syntax(text, language)
    for offsets in (syntax.natural_cuts, syntax.block_starts):
        assert np.all(np.diff(offsets) > 0)
        assert all(0 <= offset <= len(text) for offset in offsets)
    assert not [cut for cut in syntax.natural_cuts if text[max(cut - 1, 0) : cut + 1] == "\r\n"]
    assert all(start == 0 or text[start - 1] == "\n" for start in syntax.block_starts)


@every_language
@pytest.mark.parametrize(
    "unit", ["{", "(", "}\n", "a(", "#if x\n", "case 1:\n", "/*", "'", "\0", "<a>", "if (a) ", "{ x; "]
)
def test_hostile_text_neither_crashes_nor_hangs(language: str, unit: str) -> None:
    assert 0.0 <= analyze_syntax(unit * (20_000 // len(unit)), language).error_share <= 1.0

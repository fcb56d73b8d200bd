"""Where answers end: golden cases for each language, and the laws of reading an answer piece by piece."""

import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codegemma.records import Extent, StopReason, StopRules
from codegemma.text.control_tokens import CONTROL_TOKENS, STOP_IDS
from codegemma.text.languages import LANGUAGES
from codegemma.text.stops import StopWatch, Told, cut_text, ends_answer

CURSOR = "¦"
CASES = tomllib.loads(Path(__file__).with_name("stops.toml").read_text(encoding="utf-8"))["case"]


def rules_of(case) -> StopRules:
    prefix, _, suffix = case["source"].partition(CURSOR)
    return StopRules(extent=Extent(case["extent"]), prefix=prefix, suffix=suffix, language=case["language"] or None)


def watch_in_pieces(rules: StopRules, pieces: list[str]) -> tuple[list[str], StopReason | None]:
    """Tell what each piece lets be told, up to the end."""
    watch, told = StopWatch(rules), []
    for piece in pieces:
        found = watch.feed(piece)
        told.append(found.text)
        if found.stop_reason is not None:
            return told, found.stop_reason
    last = watch.finish()
    return [*told, last.text], last.stop_reason


@pytest.mark.parametrize("case", CASES, ids=[f"{c['language']}: {c['promise']}" for c in CASES])
def test_golden_cut(case):
    answer, _, rest = case["answer"].partition(CURSOR)
    assert cut_text(answer + rest, rules_of(case)) == (answer, case.get("reason"))
    told, reason = watch_in_pieces(rules_of(case), list(answer + rest))
    assert ("".join(told), reason) == (answer, case.get("reason"))


def test_every_language_has_golden_cases():
    assert {case["language"] for case in CASES} >= LANGUAGES.keys() - {"tsx"}


SPLIT_TEXT = st.lists(
    st.sampled_from(
        [
            "a", "b1", " ", "  ", "    ", "\t", "\n", "\r\n", "{", "}", "(", ")", "[", "]", ";", ":", ",", '"',
            "'", "`",
            "else", "elif x:", "return a", "return_the_whole_thing()", "def f():", "if (a) {", "# c", "// c", "/*",
            "*/",
            '"""', "@x", "é", "日本", "\n}\n", "\n    ", "#[x]", "}\n}",
        ]
    ),
    max_size=24,
)  # fmt: skip
RULES = st.builds(
    StopRules,
    strings=st.lists(st.sampled_from(["\n\n", "abc", "b1", "a ", "\n}", "}\n}", "return a\n", ""]), max_size=3).map(
        tuple
    ),
    extent=st.sampled_from(Extent),
    prefix=SPLIT_TEXT.map("".join),
    suffix=SPLIT_TEXT.map("".join),
    language=st.sampled_from([None, "python", "java", "rust", "javascript"]),
)


@given(rules=RULES, parts=SPLIT_TEXT, borders=st.lists(st.integers(0, 60), max_size=30))
@example(StopRules(strings=("abc", "b1")), ["a", "b1"], [1, 2])
@example(StopRules(extent=Extent.BLOCK, language="python"), ["a", "\n", "else", "elif x:"], [3, 4])
def test_pieces_tell_what_the_whole_tells(rules, parts, borders):
    text = "".join(parts)
    places = [0, *sorted({min(border, len(text)) for border in borders}), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]
    whole = cut_text(text, rules)
    for division in (pieces, list(text)):
        told, reason = watch_in_pieces(rules, division)
        assert ("".join(told), reason) == whole


@given(rules=RULES, parts=SPLIT_TEXT)
def test_what_is_told_begins_the_answer_and_holds_no_stop_string(rules, parts):
    text = "".join(parts)
    told = cut_text(text, rules)
    assert text.startswith(told.text)
    assert not any(string and string in told.text for string in rules.strings)
    assert (told.text == text) or told.stop_reason is not None


def test_strings_straddle_pieces_and_are_held_back():
    watch = StopWatch(StopRules(strings=("<end>",)))
    assert watch.feed("a <e") == Told("a ")
    assert watch.feed("f") == Told("<ef")
    assert watch.feed("<en") == Told("")
    assert watch.feed("d> b") == Told("", StopReason.STRING)
    assert watch.feed("more") == Told("", StopReason.STRING)


def test_what_was_held_back_is_told_when_the_answer_ends_otherwise():
    watch = StopWatch(StopRules(strings=("<end>",), prefix="x = ", suffix="\n\nreturn_the_whole_thing()"))
    assert watch.feed("a\n\nreturn_the_wh") == Told("a")
    assert watch.finish() == Told("\n\nreturn_the_wh")


def test_an_open_answer_is_told_at_once():
    watch = StopWatch(StopRules())
    assert [watch.feed(piece).text for piece in ("a", " ", "\n", "}")] == ["a", " ", "\n", "}"]


def test_crlf_is_no_part_of_a_line():
    assert cut_text("1\r\ny\r\n", StopRules(extent=Extent.LINE)) == ("1", StopReason.LINE_END)


def test_repetition_is_found_across_line_ends_of_both_kinds():
    rules = StopRules(prefix="def f():\r\n    ", suffix="\r\n    return total_of_all\r\n")
    assert cut_text("a = 1\r\n    return total_of_all\r\n", rules) == ("a = 1", StopReason.SUFFIX_REPEATED)


@pytest.mark.parametrize("token_id", sorted(CONTROL_TOKENS))
def test_control_tokens_end_an_answer_where_they_stand_after_one(token_id):
    assert ends_answer(token_id, StopRules()) == (token_id in STOP_IDS)
    assert not ends_answer(token_id, StopRules(control_tokens_end=False))

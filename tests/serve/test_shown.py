"""How much of a completion is accepted, and how much of that stands, told by the changes of its document."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serve.conftest import SOURCE

from codegemma.records import StopReason
from codegemma.serve.asks import Report
from codegemma.serve.metrics import Metrics
from codegemma.serve.shown import Shown, count_standing

TEXT = "first, second):\n    return first\n"


def show(text: str = TEXT) -> Shown:
    return Shown("a-1", "file:///a.py", 8, text, "def add(")


def test_words_that_are_accepted_count_and_characters_that_are_typed_do_not():
    shown = show()
    assert [shown.follow(8, 0, "first"), shown.accepted] == [True, 5]
    assert [shown.follow(13, 0, ","), shown.accepted] == [False, 5]
    assert [shown.follow(14, 0, " second"), shown.accepted] == [True, 13]


@pytest.mark.parametrize("change", [(3, 0, "first"), (8, 1, "first"), (8, 0, "other"), (8, 0, "")])
def test_any_other_change_ends_it(change):
    shown = show()
    assert not shown.follow(*change)
    assert not shown.follow(8, 0, "first")
    assert shown.accepted == 0


def test_what_was_accepted_is_looked_for_line_by_line():
    shown = show()
    shown.accepted = len(TEXT)
    assert shown.count_standing("def add(" + TEXT) == len(TEXT)
    assert shown.count_standing("def add(first, second):\n        return first\n") == len(TEXT)
    assert shown.count_standing("def add(first, second):\n    return second\n") == len("first, second):\n")
    assert shown.count_standing("") == 0


@given(st.text("ab \n", max_size=30), st.text("ab \n", max_size=9), st.text("ab \n", max_size=30))
def test_what_nobody_touched_stands_whole_and_nothing_stands_twice(text, line, after):
    line = line.rpartition("\n")[2]
    has_words = bool(text.splitlines() and text.splitlines()[0].strip())
    if has_words:
        assert count_standing(text, line, "x\n" + line + text + after) == len(text)
    assert 0 <= count_standing(text, line, after) <= len(text)


def count(metrics: Metrics, name: str) -> float:
    lines = metrics.render().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_an_answer_accepted_piece_by_piece_is_one_answer():
    metrics = Metrics()
    metrics.count_answer(Report(answer_id="a-1", stop_reason=StopReason.SCOPE_END), 20, "python")
    for chars in (5, 12, 9, None, None):
        assert metrics.count_event("accepted", "a-1", chars)
    assert count(metrics, 'codegemma_completions_total{event="accepted"') == 1
    assert count(metrics, "codegemma_accepted_characters_total") == 20
    for _ in range(2):
        metrics.count_event("retained", "a-1", 13)
    assert count(metrics, "codegemma_retained_characters_total") == 13
    assert count(metrics, 'codegemma_completions_total{event="retained"') == 1


def test_an_answer_of_which_little_stands_is_not_retained():
    metrics = Metrics()
    metrics.count_answer(Report(answer_id="a-1", stop_reason=StopReason.SCOPE_END), 20, "python")
    metrics.count_event("accepted", "a-1")
    metrics.count_event("retained", "a-1", 4)
    assert count(metrics, 'codegemma_completions_total{event="retained"') == 0
    assert count(metrics, "codegemma_retained_characters_total") == 4
    assert not metrics.count_event("retained", "unknown", 10**9)
    assert count(metrics, "codegemma_retained_characters_total") == 4


def test_events_over_http_tell_how_many_characters(running):
    at = SOURCE.index("st - second")
    sides = {"input_prefix": SOURCE[:at], "input_suffix": SOURCE[at + 11 :], "path": "a.py"}
    name = running.client.post("/infill", json=sides).json()["why"]["answer_id"]
    for kind, characters in (("view", None), ("select", 4), ("select", None), ("retained", 9)):
        body = {"type": kind, "completion_id": name} | ({"characters": characters} if characters else {})
        assert running.client.post("/v1/events", json=body).status_code == 200
    assert count(running.service.metrics, "codegemma_accepted_characters_total") == len("st - second")
    assert count(running.service.metrics, "codegemma_retained_characters_total") == 9

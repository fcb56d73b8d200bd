"""What is kept of learners is bounded: the oldest exercises become sums, a teacher's tasks stay."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.serve.tutor import ledger as ledger_module
from codegemma.serve.tutor.ledger import Ledger


@pytest.fixture(autouse=True, scope="module")
def _small():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_MAX_OF_ONE", 3), ("_MAX_RECORDS", 6), ("_MAX_LEARNERS", 4)):
            patch.setattr(ledger_module, name, value)
        yield


def attempt(ledger: Ledger, owner: str, exercise: str, *, passes: bool = False) -> None:
    record = ledger.find(owner, exercise)
    record.attempts += 1
    record.is_solved |= passes
    ledger.keep(owner, exercise)


def list_exercises(ledger: Ledger, owner: str) -> list[str]:
    return [row["exercise"] for row in ledger.report(owner)["exercises"]]


def test_the_oldest_exercises_become_sums_and_tasks_stay(tmp_path):
    with closing(Ledger(tmp_path / "progress")) as ledger:
        for number, exercise in enumerate(["task:leap", "a", "b", "a", "c", "d"]):
            attempt(ledger, "ada", exercise, passes=number == 1)
        report = ledger.report("ada")
        assert list_exercises(ledger, "ada") == ["task:leap", "c", "d"]
        assert report["earlier"] == {"exercises": 2, "attempts": 3, "solved": 1}
        assert (report["attempts"], report["solved"]) == (6, 1)
    with closing(Ledger(tmp_path / "progress")) as again:
        assert again.report("ada") == report


def test_a_teachers_tasks_leave_no_room_and_work_goes_on():
    ledger = Ledger()
    for exercise in ("task:1", "task:2", "task:3", "task:4", "a", "b"):
        attempt(ledger, "ada", exercise)
    assert list_exercises(ledger, "ada") == ["task:1", "task:2", "task:3", "task:4", "b"]


def test_nobody_crowds_out_the_others_and_learners_are_bounded(tmp_path):
    with closing(Ledger(tmp_path / "progress")) as ledger:
        for owner in ("ada", "bob", "eve"):
            for exercise in "abcd":
                attempt(ledger, owner, exercise)
        kept = [list_exercises(ledger, owner) for owner in ("ada", "bob", "eve")]
        assert kept == [[], ["b", "c", "d"], ["b", "c", "d"]]
        assert [ledger.report(owner)["attempts"] for owner in ("ada", "bob", "eve")] == [4, 4, 4]
        for owner in ("fay", "gus"):
            attempt(ledger, owner, "a")
        assert ledger.report("ada")["attempts"] == 0
    with closing(sqlite3.connect(tmp_path / "progress")) as file:
        owners = {row[0] for row in file.execute("SELECT owner FROM records UNION SELECT owner FROM sums")}
    assert owners == {"bob", "eve", "fay", "gus"}


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["a", "b", "c", "d", "e", "task:t"]))))
def test_no_attempt_is_lost_from_the_sums(attempts):
    ledger = Ledger()
    for owner, exercise in attempts:
        attempt(ledger, owner, exercise)
    for owner in "xyz":
        assert ledger.report(owner)["attempts"] == sum(whose == owner for whose, _ in attempts)

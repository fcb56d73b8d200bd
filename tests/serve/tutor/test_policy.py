"""A teacher's file is read whole or refused with the key that is wrong."""

import pytest

from codegemma.errors import InputError
from codegemma.serve.tutor.exercises import make_exercise
from codegemma.serve.tutor.ladder import give_hint
from codegemma.serve.tutor.ledger import Record
from codegemma.serve.tutor.policy import Policy, Rung, read_policy

FILE = """
level = "intermediate"
may_set_level = false
highest_hint = "pseudo-code"
free_chat = false
completion = "line"
max_solution_share = 1

[[tasks]]
name = "leap"
about = ["leap year"]
solution = "def is_leap(y):\\n    return y % 4 == 0"
"""


def test_a_policy_is_read(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(FILE)
    policy = read_policy(path)
    assert (policy.level, policy.may_set_level, policy.highest, policy.completion) == (
        "intermediate", False, Rung.PSEUDO_CODE, "line",
    )  # fmt: skip
    assert policy.tasks[0].about == ("leap year",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("higest_hint = 'code'", "unknown key 'higest_hint'; known: level"),
        ("highest_hint = 'everything'", "known: nudge, concept"),
        ("free_chat = 'no'", "wanted true or false"),
        ("code_after_attempts = true", "wanted a whole number"),
        ("code_after_attempts = -1", "wanted 0 or more"),
        ("topics = 'numbers'", "wanted a list of strings"),
        ("tasks = 1", r"wanted \[\[tasks\]\]"),
        ("[[tasks]]\nstatement = 'x'", "task 1: name is missing"),
        ("[[tasks]]\nname = 'x'\nsolutoin = ''", "task 1: unknown key 'solutoin'"),
        ("[[tasks]]\nname = 'x'\n[[tasks]]\nname = 'x'", "share a name"),
        ("level =", "is no TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, reason):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=reason):
        read_policy(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_policy(tmp_path / "none.toml")


def test_hints_climb_a_rung_at_a_time_and_end_where_the_policy_does():
    exercise, record = make_exercise("write-beginner-numbers-1"), Record()
    rungs = [give_hint(exercise, record, Policy(highest_hint="pseudo-code")).rung for _ in range(5)]
    assert rungs == [Rung.NUDGE, Rung.CONCEPT, Rung.PSEUDO_CODE, None, None]


def test_code_is_a_hint_after_an_attempt_only():
    exercise, record = make_exercise("write-beginner-numbers-1"), Record(rung=3)
    assert "1 more attempt" in give_hint(exercise, record, Policy()).text
    record.attempts = 1
    assert give_hint(exercise, record, Policy()).code == exercise.solution

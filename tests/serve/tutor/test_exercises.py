"""Exercises are right by construction, made again by their names, and their tests cannot be looked up."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegemma.errors import InputError
from codegemma.serve.tutor.exercises import KINDS, TOPICS, make_exercise, name_exercise, read_prediction
from codegemma.serve.tutor.operations import OPERATIONS
from codegemma.serve.tutor.policy import LEVELS

NAMES = st.builds(
    name_exercise, st.sampled_from(KINDS), st.sampled_from(LEVELS), st.sampled_from(TOPICS), st.integers(0, 10**6)
)


def run(program, given):
    namespace: dict[str, Any] = {}
    exec(program, namespace)  # noqa: S102 (our own text)
    try:
        return namespace["solve"](given)
    except Exception as error:
        return repr(error)


@settings(max_examples=60)
@given(NAMES, st.text(max_size=4))
def test_the_reference_is_right_by_the_steps_functions(name, secret):
    exercise = make_exercise(name, secret)
    for case in (*exercise.examples, *exercise.cases):
        assert run(exercise.solution, case.given) == case.expected
    if exercise.kind == "repair":
        assert any(run(exercise.starter, case.given) != case.expected for case in exercise.cases)
        assert exercise.starter.strip() != exercise.solution.strip()


@given(NAMES)
def test_a_name_makes_the_same_exercise_and_another_secret_other_cases(name):
    one, same, other = make_exercise(name, "a"), make_exercise(name, "a"), make_exercise(name, "b")
    assert one == same
    assert (one.statement, one.starter, one.examples) == (other.statement, other.starter, other.examples)
    assert exercise_is_about(one, name)
    if one.kind != "predict":
        assert one.cases != other.cases


def exercise_is_about(exercise, name):
    return (exercise.kind, exercise.level, exercise.topic) == tuple(name.split("-")[:3])


def test_slips_are_steps_of_the_same_kind():
    for operation in OPERATIONS.values():
        if operation.slip:
            other = OPERATIONS[operation.slip]
            assert (other.takes, other.gives) == (operation.takes, operation.gives), operation.name


@pytest.mark.parametrize("name", ["", "write", "write-beginner-numbers-x", "draw-beginner-numbers-1", "a-b-c-1"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(InputError):
        make_exercise(name)


def test_a_prediction_is_a_value_and_nothing_that_runs():
    assert read_prediction(" [1, 'a'] ") == [1, "a"]
    for text in ("__import__('os').getcwd()", "x", "", "(" * 500):
        with pytest.raises(InputError):
            read_prediction(text)

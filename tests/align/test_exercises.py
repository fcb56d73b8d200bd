"""The family is correct by construction: careful programs pass, careless ones fail, held-out compositions are new."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.align.choices import ExerciseChoices, RewardChoices
from codegemma.align.exercises import (
    answer_rightly,
    draw_givens,
    list_compositions,
    make_problems,
    write_program,
)
from codegemma.align.operations import BY_NAME, OPERATIONS
from codegemma.align.rewards import Answer, Judge, compare, drop_flaky, has_form
from codegemma.errors import UserError
from codegemma.records import Split
from codegemma.sandbox.calls import Caller, Told

CHOICES = ExerciseChoices(problems=300, demonstrated=200, heldout=200)
COMPOSITIONS = list(list_compositions(3))


def run(program: str, given_value: Any) -> Any:
    """Run a program of ours here: it is no model's."""
    namespace: dict[str, Any] = {}
    exec(program, namespace)  # noqa: S102
    try:
        return namespace["f"](given_value)
    except Exception as error:
        return error


@given(st.sampled_from(COMPOSITIONS), st.integers(1, 5), st.integers(0, 1000))
def test_the_careful_program_gives_what_is_right(composition: Any, number: int, seed: int) -> None:
    steps = [(operation, number) for operation in composition]
    program = write_program(steps)
    assert has_form(program)
    for value in draw_givens(composition[0].takes, 16, random.Random(seed)):
        assert run(program, value) == answer_rightly(steps, value)


@pytest.mark.parametrize("operation", [op for op in OPERATIONS if op.careless is not None], ids=lambda op: op.name)
def test_the_careless_spelling_fails_a_test_more_often_than_not(operation: Any) -> None:
    failed = 0
    for seed in range(10):
        steps = [(operation, seed % 5 + 1)]
        givens = draw_givens(operation.takes, 16, random.Random(seed))[::2]
        failed += any(run(write_program(steps, [True]), value) != answer_rightly(steps, value) for value in givens)
    assert failed >= 7


def test_no_heldout_composition_is_trained_and_the_same_seed_gives_the_same() -> None:
    trained, heldout = make_problems(CHOICES, Split.TRAIN), make_problems(CHOICES, Split.HELDOUT)
    assert (len(trained), len(heldout)) == (300, 200)
    assert not {p.composition for p in trained} & {p.composition for p in heldout}
    assert len({p.steps for p in heldout}) == len(heldout)
    assert make_problems(CHOICES, Split.TRAIN) == trained
    assert sum(p.demonstration is not None for p in trained) == 200


def test_some_demonstrations_pass_and_some_do_not() -> None:
    problems = [p for p in make_problems(CHOICES, Split.TRAIN) if p.demonstration]
    passed = sum(
        compare(Told(tuple(run(p.demonstration or "", test.given) for test in p.tests)), p.tests).count(False) == 0
        for p in problems
    )
    assert 0.35 < passed / len(problems) < 0.75


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    try:
        opened = Caller()
    except UserError as error:
        pytest.skip(str(error))
    with opened:
        yield opened


def test_rewards_tell_passing_from_failing_and_ill_formed_ones(caller: Caller) -> None:
    problem = next(p for p in make_problems(CHOICES, Split.HELDOUT) if "capital" in p.composition)
    right = write_program([(BY_NAME[name], number) for name, number in problem.steps])
    judge = Judge(caller, RewardChoices())
    answers = [
        Answer(right, 30, has_ended=True),
        Answer(f"Here:\n```python\n{right}\n```", 40, has_ended=True),
        Answer("import os\n" + right, 30, has_ended=True),
        Answer("def f(x):\n    return 3.5", 30, has_ended=True),
        Answer(right, 30, has_ended=False),
        Answer("def f(x", 5, has_ended=True),
    ]
    judged = judge.judge_later([problem], [answers]).result()
    assert [one.reward for one in judged] == [1.1, 1.1, 1.0, 0.1, 0.0, 0.0]
    assert [one.is_audited for one in judged] == [True, True, True, False, False, False]
    judge.close()


def test_a_flaky_test_is_dropped_and_a_problem_without_tests_with_it(caller: Caller) -> None:
    problem = make_problems(CHOICES, Split.TRAIN)[0]
    steady = write_program([(BY_NAME[name], number) for name, number in problem.steps])
    assert drop_flaky(problem, steady, caller) == (problem, 0)
    noisy = "import random\ndef f(x):\n    return random.random()"
    assert drop_flaky(problem, noisy, caller)[0] is None

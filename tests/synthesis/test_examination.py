"""Piece by piece: any answer is read or refused, variants are other programs, flaky tests are noticed."""

import ast
import inspect
import itertools
import random
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegemma.errors import InputError
from codegemma.pace import Pace
from codegemma.records import Pack, PackedFile, Split
from codegemma.sandbox.box import Sandbox
from codegemma.shards import write_records
from codegemma.synthesis.choices import ExaminationChoices, SynthesisChoices
from codegemma.synthesis.examination import Examiner
from codegemma.synthesis.outcomes import Draft, Drop, Reason
from codegemma.synthesis.problem_file import spell_case
from codegemma.synthesis.prompts import read_draft, read_scores
from codegemma.synthesis.seeds import cut_snippet, read_seeds
from codegemma.synthesis.variants import break_program

WORDS = "Tell by chance, which no test can do, whether a number is lucky or is not."
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
PIECES = (
    "## Problem\n", "## Solution\n", "**Tests**\n", "```python\n", "```\n", "~~~\n", "x\n", "\n", "helpfulness: 4",
    "\ud800", "correctness 5", " ", "#",
)  # fmt: skip
FUNCTIONS = [
    source
    for module in (random, textwrap, inspect, itertools)
    for _, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__
    if (source := textwrap.dedent(inspect.getsource(function))).count("\n") < 30
]


@pytest.fixture(scope="module")
def examiner(sandbox: Sandbox) -> Iterator[Examiner]:
    # That one of two outcomes never comes in so many runs happens once in half a million.
    made = Examiner(sandbox, ExaminationChoices(runs=20))
    yield made
    made.close()


@pytest.mark.parametrize(
    "solution",
    [
        "import random\ndef is_lucky(number):\n    return random.random() < 0.5\n",
        "def is_lucky(number):\n    return list({'lucky', 'unlucky'})[0] == 'lucky'\n",
    ],
    ids=["chance", "order of a set"],
)
def test_a_flaky_test_is_noticed_by_running_it_again(examiner: Examiner, solution: str) -> None:
    found = examiner.examine(Draft(WORDS, solution, "assert is_lucky(7)"))
    assert found.drop is not None and found.drop.reason is Reason.FLAKY


def test_what_a_solution_prints_does_not_hide_its_cases(examiner: Examiner) -> None:
    loud = "def add(a, b):\n    print('[[[')\n    return a + b\n"
    found = examiner.examine(Draft(WORDS, loud, "\n".join(f"assert add({n}, 1) == {n + 1}" for n in range(5))))
    assert found.drop is None
    assert [case.wanted for case in found.cases] == ["1", "2", "3", "4", "5"]


@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_answer_is_read_or_refused(answer: str) -> None:
    assert isinstance(read_draft(answer), Draft | Drop)
    read_scores(answer)


@settings(max_examples=40)
@given(st.sampled_from(FUNCTIONS), st.integers(1, 12))
def test_variants_are_other_programs_and_the_same_each_time(program: str, count: int) -> None:
    variants = break_program(program, count)
    assert len(variants) == len(set(variants)) <= count
    assert break_program(program, count) == variants
    for variant in variants:
        compile(variant, "variant.py", "exec")
        assert variant != ast.unparse(ast.parse(program))


@given(st.tuples(PLAIN, PLAIN), PLAIN)
def test_a_spelled_case_means_the_same_or_is_none(arguments: tuple[object, object], wanted: object) -> None:
    case = spell_case(arguments, wanted)
    assert case is not None
    assert repr(ast.literal_eval(case.given)) == repr(arguments)
    assert repr(ast.literal_eval(case.wanted)) == repr(wanted)


@given(st.floats(0.5, 100), st.lists(st.tuples(st.floats(0, 2), st.sampled_from([None, None, 0.1, 3.0])), max_size=30))
def test_tries_keep_their_distance_and_nobody_asks_while_the_server_rests(
    rate: float, events: list[tuple[float, float | None]]
) -> None:
    now = [100.0]
    pace = Pace(rate, clock=lambda: now[0], wait=lambda seconds: now.__setitem__(0, now[0] + seconds))
    starts: list[float] = []
    rests_until = 0.0
    for passed, wish in events:
        now[0] += passed
        pace.await_turn()
        assert now[0] >= rests_until - 1e-9
        starts.append(now[0])
        if wish is not None:
            pace.hold(wish)
            rests_until = now[0] + wish
    assert all(later - earlier >= 1 / rate - 1e-9 for earlier, later in itertools.pairwise(starts))


def test_more_seeds_are_the_same_and_others_whatever_the_order_of_the_corpus(tmp_path: Path) -> None:
    none, start = np.zeros(0, np.int32), np.zeros(1, np.int32)
    text = "first = 1\nsecond = 2\nthird = 3\n"
    packs = [
        Pack(str(n), "r", None, Split.TRAIN, (PackedFile(f"{n}.py", "python", text, str(n), None, none, start),))
        for n in range(20)
    ]
    places = []
    for number, order in enumerate((packs, packs[::-1])):
        write_records(tmp_path / f"{number}.parquet", order)
        for count in (5, 12):
            seeds = read_seeds([tmp_path / f"{number}.parquet"], SynthesisChoices(seeds=count))
            places.append([seed.place for seed in seeds])
    few, many, few_again, many_again = places
    assert (few, many) == (few_again, many_again) and set(few) < set(many)
    assert cut_snippet(packs[0], packs[0].files[0], 7, 2) is None  # two lines say too little


def test_a_source_file_is_a_seed_without_terms(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import os\n\n\ndef f(x):\n    y = x\n    return y\n")
    (seed,) = read_seeds([tmp_path / "a.py"], SynthesisChoices(seed=1))
    assert (seed.path, seed.license, seed.commit, seed.language) == ("a.py", None, None, "python")
    with pytest.raises(InputError, match="no known language"):
        (tmp_path / "a.unknown").write_text("x")
        read_seeds([tmp_path / "a.unknown"], SynthesisChoices())

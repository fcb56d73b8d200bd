"""Questions, their translation, and programs of eight languages that are compiled, run and judged."""

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.evals.babelcode_questions import CHEATS, DOUBLE, ENDLESS, SPLIT, TRUE_ANSWERS, WRONG_ANSWERS
from tests.evals.subjects import find_benchmarks, make_subject

from codegemma.errors import InputError
from codegemma.evals.babelcode import judge as judging
from codegemma.evals.babelcode import suites
from codegemma.evals.babelcode.compare import Scorer
from codegemma.evals.babelcode.judge import BabelJudge
from codegemma.evals.babelcode.languages import TARGETS, read_target
from codegemma.evals.babelcode.questions import (
    Parameter,
    Question,
    ask_problems,
    list_problems,
    make_question,
    read_sources,
)
from codegemma.evals.babelcode.record import Call, Source, record_calls
from codegemma.evals.babelcode.suites import make_attempt, make_problem
from codegemma.evals.babelcode.translate import pose
from codegemma.evals.babelcode.types import infer_type, join_all, parse_type, settle
from codegemma.evals.choices import EvalChoices
from codegemma.evals.run import evaluate
from codegemma.evals.store import Store
from codegemma.evals.truncation import POLICIES
from codegemma.sandbox import warm_compiler
from codegemma.sandbox.box import Limits, Safety, Sandbox
from codegemma.sandbox.judge import Outcome, Verdict
from codegemma.sandbox.toolchains import look_for, read_toolchains

# Quick to compile, or not compiled at all; each other language is one of the long suites.
QUICK = ("javascript", "python", "csharp", "go")
LANGUAGES = [key if key in QUICK else pytest.param(key, marks=pytest.mark.slow) for key in TARGETS]
FILES = {"babelcode-humaneval": "HumanEval.jsonl.gz", "babelcode-mbpp": "mbpp_sanitized.jsonl.gz"}

Judging = Callable[[str, Question], BabelJudge]


@pytest.fixture(scope="module")
def open_judge(sandbox: Sandbox) -> Iterator[Judging]:
    """One judge for each language, made when it is first asked for."""
    made: dict[str, BabelJudge] = {}

    def get(key: str, question: Question) -> BabelJudge:
        found = look_for(read_toolchains()[key])
        if not found.is_ready:
            pytest.skip(f"no toolchain for {found.toolchain.name}: {found.problem}")
        if key not in made:
            made[key] = BabelJudge(sandbox, found.toolchain, read_target(key), [])
        made[key]._questions[question.task_id] = question
        return made[key]

    yield get
    for judge in made.values():
        judge.close()


def examine(
    open_judge: Judging, key: str, question: Question, answer: str, scorer: Scorer = Scorer.PUBLISHED
) -> Verdict:
    posed = pose(question, read_target(key))
    return open_judge(key, question).examine_by(make_attempt(posed, answer), scorer)


@functools.cache
def ask(suite: str) -> list[Question]:
    with Sandbox() as sandbox:
        return ask_problems(sandbox, read_sources(find_benchmarks() / FILES[suite], suite), suite)


@pytest.mark.parametrize("key", LANGUAGES)
def test_true_answer_passes_and_a_wrong_one_fails(open_judge: Judging, key: str) -> None:
    assert examine(open_judge, key, DOUBLE, TRUE_ANSWERS[key]).outcome is Outcome.PASSED
    wrong = examine(open_judge, key, DOUBLE, WRONG_ANSWERS[key])
    assert (wrong.outcome, wrong.reason) == (Outcome.FAILED, "call 0 of 2 gives 6, wanted 4")
    broken = examine(open_judge, key, DOUBLE, "    ) this is no program (\n")
    assert broken.outcome is Outcome.ERROR


@pytest.mark.parametrize("key", [pytest.param(key, marks=pytest.mark.slow) for key in ("java", "kotlin")])
def test_a_compiler_that_goes_down_whatever_it_is_given_blames_no_program(
    sandbox: Sandbox, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = look_for(read_toolchains()[key])
    if not found.is_ready:
        pytest.skip(f"no toolchain for {found.toolchain.name}: {found.problem}")
    with BabelJudge(sandbox, found.toolchain, read_target(key), [DOUBLE]) as judge:
        monkeypatch.setattr(warm_compiler, "_LIMITS", dataclasses.replace(warm_compiler._LIMITS, address_bytes=2**20))
        attempt = make_attempt(pose(DOUBLE, read_target(key)), TRUE_ANSWERS[key])
        assert judge.examine_by(attempt, Scorer.PUBLISHED).outcome is Outcome.NOT_RUN
        monkeypatch.undo()
        assert judge.examine_by(attempt, Scorer.PUBLISHED).outcome is Outcome.PASSED


@pytest.mark.parametrize("kind", sorted(CHEATS))
@pytest.mark.parametrize("key", LANGUAGES)
def test_cheat_gains_nothing(open_judge: Judging, key: str, kind: str) -> None:
    # With the fixes, which give Go the package to leave by.
    verdict = examine(open_judge, key, DOUBLE, CHEATS[kind][key], Scorer.FIXED)
    assert verdict.outcome in (Outcome.FAILED, Outcome.GONE, Outcome.ERROR)
    assert "does not compile" not in verdict.reason


@pytest.mark.parametrize("key", LANGUAGES)
def test_endless_answer_meets_its_limit(open_judge: Judging, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "RUN_LIMITS", Limits(wall_s=60, cpu_s=1))
    assert examine(open_judge, key, DOUBLE, ENDLESS[key]).outcome is Outcome.TIME


@pytest.mark.parametrize("key", LANGUAGES)
def test_answer_with_null_bytes_or_of_ten_megabytes_is_judged_as_any_other(open_judge: Judging, key: str) -> None:
    mark = "#" if key == "python" else "//"
    long = f"    {mark} {'x' * 10**7}\n{WRONG_ANSWERS[key]}"
    assert examine(open_judge, key, DOUBLE, long).outcome in (Outcome.FAILED, Outcome.ERROR)
    verdict = examine(open_judge, key, DOUBLE, f"    \0\n{WRONG_ANSWERS[key]}\0")
    assert verdict.outcome in (Outcome.FAILED, Outcome.ERROR)


@pytest.mark.parametrize("key", LANGUAGES)
def test_stub_gives_texts_with_every_sign_back(open_judge: Judging, key: str) -> None:
    verdict = examine(open_judge, key, SPLIT, pose(SPLIT, read_target(key)).write_stub())
    assert verdict.outcome is Outcome.PASSED, verdict.reason


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
CASES = st.one_of(
    st.lists(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), max_size=4), min_size=1, max_size=5),
    st.lists(st.lists(st.floats(width=64), max_size=4), min_size=1, max_size=5),
    st.lists(st.lists(TEXTS, max_size=4), min_size=1, max_size=5),
    st.lists(
        st.dictionaries(TEXTS.filter(lambda text: text != "__proto__"), st.booleans(), max_size=4),
        min_size=1,
        max_size=5,
    ),
    st.lists(
        st.dictionaries(st.integers(0, 2**31 - 1), st.lists(st.text("ab c", max_size=3)), max_size=3),
        min_size=1,
        max_size=5,
    ),
)


@pytest.mark.parametrize("key", LANGUAGES)
@settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(values=CASES)
def test_literal_of_any_value_comes_back(open_judge: Judging, key: str, values: list[Any]) -> None:
    found = join_all([infer_type(value) for value in values])
    assert found is not None
    calls = tuple(Call((index,), value) for index, value in enumerate(values))
    question = Question("own/literal", "f", "Any.", (Parameter("x", parse_type("integer")),), settle(found), calls, "")
    verdict = examine(open_judge, key, question, pose(question, read_target(key)).write_stub())
    if key != "javascript" or max((abs(n) for v in values for n in v if isinstance(n, int)), default=0) < 2**53:
        assert verdict.outcome is Outcome.PASSED, verdict.reason


def test_go_answer_gets_its_imports_from_the_fixes_only(open_judge: Judging) -> None:
    answer = "\treturn strings.Fields(text)\n}"
    published, fixed = (examine(open_judge, "go", SPLIT, answer, scorer) for scorer in Scorer)
    assert "does not compile" in published.reason
    assert fixed.outcome is Outcome.PASSED


def test_go_nothing_is_an_empty_list_to_the_fixes_only(open_judge: Judging) -> None:
    question = Question(
        "own/nil", "f", "Nothing.", DOUBLE.parameters, parse_type("list<integer>"), (Call((1,), []),), ""
    )
    answer = "\tvar r []int\n\treturn r\n}"
    assert [examine(open_judge, "go", question, answer, scorer).outcome for scorer in Scorer] == [
        Outcome.FAILED,
        Outcome.PASSED,
    ]


def test_chatter_of_a_program_is_no_value(open_judge: Judging) -> None:
    answer = '    console.log("x 0 4"); process.stdout.write("no end");\n    return 2 * x;\n}'
    assert examine(open_judge, "javascript", DOUBLE, answer).outcome is Outcome.PASSED


@pytest.mark.parametrize("suite", sorted(FILES))
@pytest.mark.parametrize("key", [pytest.param(key, marks=pytest.mark.slow) for key in TARGETS])
def test_stubs_of_published_problems_compile_and_pass(open_judge: Judging, key: str, suite: str) -> None:
    for question in ask(suite)[::16]:
        verdict = examine(open_judge, key, question, pose(question, read_target(key)).write_stub(), Scorer.FIXED)
        assert verdict.outcome is Outcome.PASSED, f"{question.task_id}: {verdict.reason}"


@pytest.mark.parametrize(
    ("suite", "count"),
    [("babelcode-humaneval", 161), pytest.param("babelcode-mbpp", 342, marks=pytest.mark.slow)],
)
def test_listed_problems_all_have_types_and_calls(suite: str, count: int) -> None:
    assert len(list_problems(suite)) == count
    found = ask(suite)
    assert [question.task_id for question in found] == list_problems(suite)
    assert all(question.calls and question.text for question in found)
    assert sum(question.left_out for question in found) < 0.05 * sum(len(question.calls) for question in found)


def test_calls_that_no_type_covers_are_counted() -> None:
    source = Source("own/f", "def f(x):\n    return x\n", "", "f", "")
    question = make_question(source, [Call((1,), 1), Call((2,), None), Call(("a",), "a"), Call((4,), 4.5)])
    assert (str(question.returns), len(question.calls), question.left_out) == ("float", 2, 2)
    with pytest.raises(InputError, match="no call"):
        make_question(source, [Call((None,), 1)])


@pytest.mark.parametrize(
    ("key", "task_id"), [("csharp", "HumanEval/121"), pytest.param("cpp", "HumanEval/160", marks=pytest.mark.slow)]
)
def test_name_that_a_language_keeps_for_itself_is_changed(open_judge: Judging, key: str, task_id: str) -> None:
    question = next(question for question in ask("babelcode-humaneval") if question.task_id == task_id)
    assert examine(open_judge, key, question, pose(question, read_target(key)).write_stub()).has_passed


def test_answer_that_names_folders_of_the_box_is_left_alone_without_one() -> None:
    answer = '    return 2 * x if len("/program/prelude") == 16 else 0\n'
    with (
        Sandbox(1, Safety.UNSAFE) as sandbox,
        BabelJudge(sandbox, read_toolchains()["python"], read_target("python"), [DOUBLE]) as judge,
    ):
        assert judge.examine(make_attempt(pose(DOUBLE, read_target("python")), answer)).has_passed


def test_what_was_recorded_is_not_run_again(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    source, store = Source("own/f", "def f(x):\n    return x\n", "assert f(1) == 1\n", "f", ""), Store()
    first = record_calls(sandbox, [source], store=store)
    monkeypatch.setattr(Sandbox, "run", None)
    assert record_calls(sandbox, [source], store=store) == first == [[Call((1,), 1)]]


def test_solution_that_fails_its_tests_is_refused(sandbox: Sandbox) -> None:
    source = Source("HumanEval/0", "def f(x):\n    return x\n", "assert f(1) == 2\n", "f", "")
    with pytest.raises(InputError, match="missing"):
        ask_problems(sandbox, [source], "babelcode-humaneval")
    with pytest.raises(InputError, match="fails its own tests"):
        record_calls(sandbox, [source])


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("cpp", "int doubleIt(int x) {\n"),
        ("csharp", "    public int DoubleIt(int x) {\n"),
        ("go", "func doubleIt(x int) int {\n"),
        ("java", "    public int doubleIt(int x) {\n"),
        ("javascript", "function doubleIt(x) {\n"),
        ("kotlin", "fun doubleIt(x: Int): Int {\n"),
        ("python", "def double_it(x: int) -> int:\n"),
        ("rust", "pub fn double_it(x: i32) -> i32 {\n"),
    ],
)
def test_prompt_has_the_head_and_the_words_of_its_language(key: str, line: str) -> None:
    posed = pose(DOUBLE, read_target(key))
    assert line in posed.prompt
    assert f"{read_target(key).spell_name('double_it')}(2)" in posed.prompt
    if key != "python":
        assert 'Split a text: "a b".' in pose(SPLIT, read_target(key)).prompt


@pytest.mark.parametrize("key", TARGETS)
def test_answer_ends_where_its_function_does(key: str) -> None:
    problem = make_problem(DOUBLE, key)
    answer = TRUE_ANSWERS[key]
    written = f"{answer}\n\nint other = 1;\n" if key != "python" else f"{answer}\ndef other():\n    pass\n"
    assert POLICIES["function"](problem, written).rstrip() == answer.rstrip()


def test_suites_run_from_the_published_files_to_figures(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("node", path="/usr/local/bin:/usr/bin:/bin") is None:
        pytest.skip("no toolchain for JavaScript: codegemma toolchains install javascript")
    monkeypatch.setattr(suites, "TARGETS", ("javascript", "python"))
    run = evaluate(
        make_subject(), ["babelcode-humaneval"], data=[find_benchmarks()], out=tmp_path, model="bytes",
        choices=EvalChoices(limit=2),
    )  # fmt: skip
    (found,) = run.suites
    assert {m.kind for m in found.measurements} == {"javascript", "python"}
    assert {m.system for m in found.measurements} >= {"model, function", "model, function, fixed"}
    assert all(m.interval.items == 2 for m in found.measurements)
    assert len([note for note in found.notes if "ran in boxes" in note]) == 1


@pytest.mark.parametrize(
    ("tool", "reason"),
    [("", "apt-get install --no-install-recommends golang-go"), ("go version go1.2.1", "older than 1.18")],
    ids=["absent", "too old"],
)
def test_language_without_a_compiler_or_with_an_old_one_is_not_run_and_no_zero(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, reason: str
) -> None:
    from codegemma.sandbox import toolchains, workshop

    if tool:
        (tmp_path / "go").write_text(f"#!/bin/sh\necho {tool}\n")
        (tmp_path / "go").chmod(0o755)
    found = toolchains.look_for(read_toolchains()["go"], path=f"{tmp_path}:/bin" if tool else str(tmp_path))
    out = tmp_path / "out"
    monkeypatch.setattr(workshop, "look_for", lambda _: found)
    monkeypatch.setattr(suites, "TARGETS", ("go",))
    run = evaluate(
        make_subject(), ["babelcode-humaneval"], data=[find_benchmarks()], out=out, model="bytes",
        choices=EvalChoices(limit=1),
    )  # fmt: skip
    assert run.suites[0].measurements == ()
    assert reason in run.suites[0].not_run["go"]

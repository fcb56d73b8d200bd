"""The published files are read whole, and their own solutions pass in the boxes that judge a model's."""

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.evals.mutants import mutate
from tests.evals.subjects import find_benchmarks

from codegemma.errors import InputError
from codegemma.evals.problems import (
    Problem,
    choose_problems,
    join_shots,
    read_humaneval,
    read_infilling,
    read_mbpp,
    read_problems,
)
from codegemma.sandbox.box import Limits, Sandbox
from codegemma.sandbox.judge import Outcome, PythonJudge

FILES: dict[str, tuple[str, Callable[[Any], Problem], int]] = {
    "humaneval": ("HumanEval.jsonl.gz", read_humaneval, 164),
    "single": ("HumanEval-SingleLineInfilling.jsonl.gz", read_infilling, 1033),
    "multi": ("HumanEval-MultiLineInfilling.jsonl.gz", read_infilling, 5815),
    "random": ("HumanEval-RandomSpanInfilling.jsonl.gz", read_infilling, 1640),
    "light": ("HumanEval-RandomSpanInfillingLight.jsonl.gz", read_infilling, 164),
    "mbpp": ("mbpp.jsonl.gz", read_mbpp, 974),
    "sanitized": ("mbpp_sanitized.jsonl.gz", read_mbpp, 427),
}


def load(name: str) -> list[Problem]:
    file, read, tasks = FILES[name]
    return read_problems(find_benchmarks() / file, read, "its publisher", tasks)


def list_failed(judge: PythonJudge, problems: list[Problem], solve: Callable[[Problem], str]) -> list[str]:
    verdicts = judge.examine_all([problem.pose(solve(problem)) for problem in problems])
    return [
        f"{p.task_id}: {v.outcome} after {v.seconds:.1f} s: {v.reason} {v.stderr[:200]!r}"
        for p, v in zip(problems, verdicts, strict=True)
        if not v.has_passed
    ]


def solve_truly(problem: Problem) -> str:
    return problem.solution


@pytest.mark.parametrize("name", FILES)
def test_published_file_holds_its_problems_and_solutions(name: str) -> None:
    problems = load(name)
    assert all(p.solution in p.write_program(p.solution) for p in problems)
    if name == "single":
        assert len({p.group for p in problems}) == 164


def test_limit_spreads_over_problems_and_is_nested() -> None:
    problems = load("single")
    few, more = choose_problems(problems, 40), choose_problems(problems, 80)
    assert len(few) == 40
    assert len({p.group for p in few}) > 25
    assert {p.task_id for p in few} < {p.task_id for p in more}


def test_canonical_solutions_of_humaneval_pass(judge: PythonJudge) -> None:
    assert list_failed(judge, load("humaneval"), solve_truly) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FILES if name != "humaneval"])
def test_canonical_solutions_pass(judge: PythonJudge, name: str) -> None:
    assert list_failed(judge, load(name), solve_truly) == []


@pytest.mark.slow
def test_empty_answer_passes_27_single_lines_and_no_random_span(sandbox: Sandbox) -> None:
    problems, light = load("single"), load("light")
    # A loop that lost its step never ends: of those there are many, and none is waited for long.
    with PythonJudge(sandbox, Limits(wall_s=30, cpu_s=2)) as judge:
        assert len(problems) - len(list_failed(judge, problems, lambda _: "")) == 27
        assert len(list_failed(judge, light, lambda _: "")) == len(light)


def run_bare(problem: Problem, text: str) -> bool | None:
    """Run program and tests in one interpreter, as the benchmark's own harness does; `None` where it does not end."""
    whole = f"{problem.write_program(text)}\n{problem.tests}"
    # A mutant may fill lists without end: it gets the memory of a box and no more, or the machine stands still.
    command = ["/bin/sh", "-c", f'ulimit -v {Limits().memory_bytes // 1024}; exec "$@"', "sh"]
    try:
        done = subprocess.run(
            [*command, sys.executable, "-I", "-c", whole], capture_output=True, timeout=10, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["humaneval", "mbpp", "single", "multi"])
@pytest.mark.parametrize("part", range(8))
def test_boxed_verdict_on_mutants_is_the_bare_interpreter_s(sandbox: Sandbox, name: str, part: int) -> None:
    problems = load(name)
    mutants = 5
    if name in ("single", "multi"):
        problems, mutants = choose_problems(problems, 400), 1
    rng = random.Random(part)
    texts = [(p, text) for p in problems[part::8] for text in (p.solution, *mutate(p.solution, mutants, rng))]
    with PythonJudge(sandbox, Limits(wall_s=30, cpu_s=2)) as judge, ThreadPoolExecutor(2) as pool:
        boxed = list(judge.examine_all([p.pose(text) for p, text in texts]))
        # One that does not end in a box is not waited for a second time.
        ended = [verdict.outcome is not Outcome.TIME for verdict in boxed]
        bare = list(pool.map(lambda item: run_bare(*item[0]) if item[1] else None, zip(texts, ended, strict=True)))
    differing = [
        (p.task_id, text, plain, verdict.outcome, verdict.reason)
        for (p, text), plain, verdict in zip(texts, bare, boxed, strict=True)
        if plain is not None and plain != verdict.has_passed
    ]
    assert differing == []
    assert len({v.has_passed for v in boxed}) == 2


def test_shots_stand_before_the_question_as_printed_in_the_paper() -> None:
    problems = {p.task_id: p for p in load("mbpp")}
    shots = join_shots([problems["MBPP/2"], problems["MBPP/3"]])
    assert shots.startswith("You are an expert Python programmer, and here is your task: Write a function to find")
    assert shots.count("[BEGIN]\n") == shots.count("\n[DONE]\n\n") == 2
    assert "\r" not in shots


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; get it from its publisher"),
        (b"not gzip", "not the benchmark"),
        (gzip.compress(b'{"task_id": "a/b/c"}\n'), "prompt"),
        (gzip.compress(json.dumps({"task_id": "x"}).encode() * 99)[:40], "get it again"),
        (gzip.compress(b"[1, 2]\n"), "wanted gzipped JSON lines"),
    ],
    ids=["missing", "not gzip", "other fields", "truncated", "not objects"],
)
def test_missing_or_foreign_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "HumanEval.jsonl.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_problems(path, read_humaneval, "its publisher", 164)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("change", ["twice", "missing", "reordered"])
def test_file_that_is_not_whole_is_refused_and_one_in_another_order_is_not(tmp_path: Path, change: str) -> None:
    lines = gzip.decompress((find_benchmarks() / "HumanEval.jsonl.gz").read_bytes()).splitlines(keepends=True)
    changed = {"twice": [*lines[:-1], lines[0]], "missing": lines[:-1], "reordered": lines[::-1]}[change]
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(changed)))
    if change == "reordered":
        assert len(read_problems(path, read_humaneval, "its publisher", 164)) == 164
        return
    with pytest.raises(InputError, match=r"163 of them different|holds 163 problems"):
        read_problems(path, read_humaneval, "its publisher", 164)

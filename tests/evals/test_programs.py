"""From answers to pass@k: each policy cuts as it says, every problem is counted, equal programs run once."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evals.byte_completer import ByteCompleter, make_byte_tokenizer
from tests.evals.subjects import find_benchmarks, make_subject

from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import Examination
from codegemma.evals.ngram import train_ngram
from codegemma.evals.problems import Problem
from codegemma.evals.programs import Answerer, Asking
from codegemma.evals.run import evaluate
from codegemma.evals.samples import Sample, estimate_pass_at_k, read_samples
from codegemma.evals.scoring import Subject
from codegemma.evals.truncation import POLICIES
from codegemma.records import Completion, InfillMode, Request, StopReason
from codegemma.runner import ignore_progress
from codegemma.sandbox.judge import Outcome, PythonJudge


class KnownAnswers(ByteCompleter):
    """Answers a prefix as it was told; counts what it was asked."""

    def __init__(self, answers: Mapping[str, Sequence[str]]) -> None:
        super().__init__(train_ngram(["a"], order=2))
        self.answers = answers
        self.asked: list[Request] = []

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += requests
        known = [self.answers[r.prefix] for r in requests]
        return [
            Completion(texts[r.sampling.seed % len(texts)], (), StopReason.CONTROL_TOKEN, 1)
            for r, texts in zip(requests, known, strict=True)
        ]


def make_problem(name: str, suffix: str = "") -> Problem:
    head = f"def {name}(x):\n"
    return Problem(
        name, name, head, suffix, head, suffix, "    return x + 1\n", f"assert {name}(1) == 2\n", names=(name,)
    )


def answer(
    judge: PythonJudge,
    answers: Mapping[str, Sequence[str]],
    problems: Sequence[Problem],
    asking: Asking,
    choices: EvalChoices,
) -> tuple[dict[tuple[str, str], list[Outcome]], KnownAnswers]:
    completer = KnownAnswers(answers)
    exam = Examination(Subject(completer, make_byte_tokenizer(), 4096, ()), (), choices, ignore_progress)
    answerer = Answerer(exam, judge)
    samples: list[Sample] = []
    answerer.answer(problems, asking, samples.append)
    answerer.close()
    found: dict[tuple[str, str], list[Outcome]] = {}
    for sample in samples:
        for judged in sample.judged:
            found.setdefault((sample.task_id, judged.policy), []).append(judged.outcome)
    return found, completer


def test_every_problem_has_its_outcome_under_every_policy(judge: PythonJudge) -> None:
    problems = [make_problem("f"), make_problem("g")]
    answers = {"def f(x):\n": ["    return x + 1\n\ndef other(:"], "def g(x):\n": ["    return x\n"]}
    asking = Asking("k", None, ("all", "stop_words", "parses"), 64)
    found, completer = answer(judge, answers, problems, asking, EvalChoices())
    assert found == {
        ("f", "all"): [Outcome.ERROR],
        ("f", "stop_words"): [Outcome.PASSED],
        ("f", "parses"): [Outcome.PASSED],
        ("g", "all"): [Outcome.FAILED],
        ("g", "stop_words"): [Outcome.FAILED],
        ("g", "parses"): [Outcome.FAILED],
    }
    assert [r.mode for r in completer.asked] == [None, None]


def test_samples_differ_by_seed_and_greedy_ones_are_written_once(judge: PythonJudge) -> None:
    answers = {"def f(x):\n": ["    return x + 1\n", "    return x\n"]}
    asking = Asking("k", None, ("all",), 64)
    found, completer = answer(judge, answers, [make_problem("f")], asking, EvalChoices(samples=4, temperature=0.8))
    assert found["f", "all"] == [Outcome.PASSED, Outcome.FAILED] * 2
    assert len(completer.asked) == 4
    found, completer = answer(judge, answers, [make_problem("f")], asking, EvalChoices(samples=4))
    assert found["f", "all"] == [Outcome.PASSED] * 4
    assert len(completer.asked) == 1


def test_answer_with_null_bytes_or_of_ten_megabytes_is_one_that_fails(judge: PythonJudge) -> None:
    answers = {"def f(x):\n": ["    return '\0'\n"], "def g(x):\n": ["    # " + "x" * 10**7 + "\n    return x\n"]}
    asking = Asking("k", None, ("all",), 64)
    found, _ = answer(judge, answers, [make_problem("f"), make_problem("g")], asking, EvalChoices())
    assert found == {("f", "all"): [Outcome.ERROR], ("g", "all"): [Outcome.FAILED]}


@pytest.mark.parametrize(
    ("policy", "text", "kept"),
    [
        ("all", "a\nb", "a\nb"),
        ("first_line", "    return x\n    y\n", "    return x\n"),
        ("stop_words", "    return x\n\nclass A: pass", "    return x\n"),
        ("done", "def f(x): return x\n[DONE]\n\nYou", "def f(x): return x\n"),
        ("suffix", "    x += 1\n    return x\n", "    x += 1\n"),
        ("scope", "    x += 1\n\ndef g(): pass\n", "    x += 1"),
        ("parses", "    x += 1\n    y = (\n", "    x += 1\n"),
        ("parses", "\0", ""),
    ],
)
def test_policy_cuts_as_it_says(policy: str, text: str, kept: str) -> None:
    problem = make_problem("f", "    return x\n")
    assert POLICIES[policy](problem, text) == kept


@given(st.sampled_from(sorted(POLICIES)), st.text(max_size=60), st.text(max_size=30))
def test_policy_keeps_a_start_of_any_text(policy: str, text: str, suffix: str) -> None:
    kept = POLICIES[policy](make_problem("f", suffix), text)
    assert text.startswith(kept.removesuffix("\n") if policy == "first_line" else kept)


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_draws_with_one_that_passed(samples: int, data: st.DataObject) -> None:
    passed, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    draws = list(itertools.combinations([i < passed for i in range(samples)], k))
    assert math.isclose(estimate_pass_at_k(samples, passed, k), np.mean([any(draw) for draw in draws]), abs_tol=1e-12)


@pytest.mark.parametrize(("samples", "passed", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)])
def test_pass_at_k_of_impossible_counts_is_refused(samples: int, passed: int, k: int) -> None:
    with pytest.raises(ValueError, match="wanted"):
        estimate_pass_at_k(samples, passed, k)


def test_suites_run_from_the_published_files_to_figures(sandbox: object, tmp_path: Path) -> None:
    names = ["humaneval", "infilling-single", "mbpp", "mbpp-sanitized"]
    run = evaluate(
        make_subject(), names, data=[find_benchmarks()], out=tmp_path, model="bytes",
        choices=EvalChoices(limit=3, has_path_line=True),
    )  # fmt: skip
    assert [(s.suite, s.items) for s in run.suites] == [(name, 3) for name in names]
    shown = {(m.kind, m.mode, m.metric) for s in run.suites for m in s.measurements}
    assert ("single_line", InfillMode.PSM, "pass_at_1") in shown
    assert ("single_line_with_path", InfillMode.PSM, "pass_at_1") in shown
    prompts = {(s.kind, s.mode): s.prompt for s in read_samples(tmp_path / "holes-infilling-single.jsonl")}
    assert len(set(prompts.values())) == len(prompts) == 4
    assert all(m.interval.items == 3 for s in run.suites for m in s.measurements)
    assert any("bubblewrap" in note for note in run.suites[0].notes)

"""What could not be run or read is said: no verdict is no zero, and nobody's file is written over."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.evals.small_suite import ASKING, PROBLEMS, Model, TextJudge, make_subject, make_suite

from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import Examination
from codegemma.evals.page import write_page
from codegemma.evals.pairing import read_items
from codegemma.evals.program_suites import answer_programs
from codegemma.evals.results import RESULTS_FILE, Results
from codegemma.evals.run import evaluate
from codegemma.evals.samples import Sample, read_samples
from codegemma.evals.scoring import Subject
from codegemma.evals.suites import SUITES
from codegemma.records import Completion, Request, StopReason
from codegemma.runner import ignore_progress


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> TextJudge:
    """Register the small suite."""
    judge = TextJudge()
    monkeypatch.setitem(SUITES, "small", make_suite(judge))
    return judge


def run_small(subject: Subject, out: Path) -> Results:
    return evaluate(subject, ["small"], data=[], out=out, model="m", choices=EvalChoices())


def read_records(out: Path) -> list[Sample]:
    """Read the records without their times, which differ from run to run."""
    return [
        dataclasses.replace(s, judged=tuple(dataclasses.replace(j, seconds=0.0) for j in s.judged))
        for s in read_samples(out / "holes-small.jsonl")
    ]


def test_a_program_that_could_not_be_run_leaves_no_score_and_is_run_by_the_next_command(
    small: TextJudge, tmp_path: Path
) -> None:
    whole = run_small(make_subject(Model()), tmp_path / "whole")
    small.refused = "def f5("
    (suite,) = run_small(make_subject(Model()), tmp_path / "out").suites
    assert suite.measurements == ()
    assert suite.not_run == {
        "k": "no score, 1 of 12 problems lack an answer or a verdict (t/5): it could not be run on this machine: full"
    }
    page = write_page(tmp_path / "out").read_text()
    assert "it could not be run on this machine: full" in page and "not run after" not in page
    items = read_items(tmp_path / "out" / "holes-small.jsonl")
    assert {len(found) for found in items.values()} == {11}
    small.refused, model = "", Model()
    assert run_small(make_subject(model), tmp_path / "out").suites == whole.suites
    assert model.asked == []
    assert read_records(tmp_path / "out") == read_records(tmp_path / "whole")


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"model": "m", "suites": 7}', b"\xff\x00"])
def test_a_file_of_results_that_cannot_be_read_is_left_alone_and_nothing_is_asked(
    small: TextJudge, tmp_path: Path, content: bytes
) -> None:
    run_small(make_subject(Model()), tmp_path)
    (tmp_path / RESULTS_FILE).write_bytes(content)
    model = Model()
    with pytest.raises(InputError, match=r"results\.json is there, does not hold results .* take another --out"):
        run_small(make_subject(model), tmp_path)
    assert (tmp_path / RESULTS_FILE).read_bytes() == content
    assert model.asked == []


class Terse(Model):
    """Answers everything by one line."""

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        return [Completion("    return x + 1\n", (), StopReason.CONTROL_TOKEN, 1) for _ in requests]


def test_what_a_small_window_takes_away_is_told() -> None:
    long = dataclasses.replace(PROBLEMS[1], prefix=f"# {'x' * 40}\n{PROBLEMS[1].prefix}")
    subject = dataclasses.replace(make_subject(Terse()), max_context_tokens=40)
    exam = Examination(subject, (), EvalChoices(), ignore_progress)
    notes = answer_programs(exam, [PROBLEMS[0], long], [ASKING], TextJudge()).notes
    assert notes[-1] == (
        "the model's window of 40 tokens is small for this: answers have at most 10 tokens, where 64 are meant. "
        "k: 1 of 2 questions were cut"
    )
    whole = dataclasses.replace(exam, subject=make_subject(Terse()))
    assert not any("window" in note for note in answer_programs(whole, [PROBLEMS[0]], [ASKING], TextJudge()).notes)

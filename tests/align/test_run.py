"""The sequence on a model that knows nothing: stages run, are measured beside their controls, and are not run twice."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from codegemma.align.run import AlignJob, align
from codegemma.align_report import write_report
from codegemma.cli.main import cli
from codegemma.errors import InputError
from codegemma.feed.choices import FeedChoices
from codegemma.model.weights import load_model
from codegemma.sandbox.calls import Caller

from .conftest import CHOICES
from .test_given import ADD


@pytest.mark.slow
def test_stages_run_once_and_are_measured_beside_their_controls(base: Path, caller: Caller, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text('{"prompt": "Hi", "completion": "a"}\nnothing\n')
    # What knows nothing answers nothing rightly: there would be no pairs.
    choices = replace(CHOICES, stages=("sft", "grpo"))
    problems = tmp_path / "problems.jsonl"
    problems.write_text(json.dumps(ADD))
    job = AlignJob(base, tmp_path / "out", choices, FeedChoices(packing_bins=2), None, (chats,), (problems,))
    result = align(job, caller)
    assert (result.given.kept, result.problems[0]) == (1, 41)
    assert (result.chats.kept, result.chats.dropped.total()) == (1, 1)
    assert list(result.solved) == ["sft", "grpo", "control-grpo"]
    assert len(result.solved["grpo"]) == 10
    assert [(gain.ours, gain.theirs) for gain in result.gains] == [("grpo", "control-grpo")]
    load_model(result.model)
    assert "control-grpo" in write_report(job, result).read_text()
    again = align(job, caller)
    assert again.stages["grpo"].flops == result.stages["grpo"].flops
    assert again.solved == result.solved


@pytest.mark.slow
def test_without_anything_to_learn_from_the_job_says_so(base: Path, caller: Caller, tmp_path: Path) -> None:
    choices = replace(CHOICES, exercises=replace(CHOICES.exercises, demonstrated=0), stages=("sft",))
    with pytest.raises(InputError, match="no conversation to tune on"):
        align(AlignJob(base, tmp_path / "out", choices, FeedChoices()), caller)


def test_help_teaches_without_loading_jax() -> None:
    told = CliRunner().invoke(cli, ["align", "--help"]).output
    for word in ("sft", "grpo", "--chats", "Example", "killed"):
        assert word in told


def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.jsonl", tmp_path / "out"
    bad.write_text('{"problem": "Add."}\n')
    for option, place in (("--problems", bad), ("--chats", tmp_path / "none.jsonl"), ("--data", tmp_path)):
        told = CliRunner().invoke(cli, ["align", "--base", "tiny", "--out", str(out), option, str(place)])
        assert told.exit_code != 0
        assert str(place) in told.output
        assert not out.exists()

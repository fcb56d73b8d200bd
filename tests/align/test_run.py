"""The sequence on a model that knows nothing: stages run, are measured beside their controls, and are not run twice."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from codegemma.align.run import AlignJob, align
from codegemma.align_report import spell_infill, write_report
from codegemma.cli.main import cli
from codegemma.errors import InputError
from codegemma.feed.choices import FeedChoices
from codegemma.model.weights import load_model
from codegemma.records import Pack, PackedFile, Split
from codegemma.sandbox.calls import Caller
from codegemma.shards import write_records
from codegemma.train.job import hash_model

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
        assert isinstance(told.exception, InputError)
        assert str(place) in str(told.exception)
        assert not out.exists()


@pytest.mark.slow
def test_rehearsed_code_is_held_in_all_stages_and_measured_elsewhere(
    base: Path, caller: Caller, tmp_path: Path
) -> None:
    none, text = np.zeros(0, np.int32), "".join(f"value_{n} = compute({n})\n" for n in range(40))
    for side, name in ((Split.TRAIN, "packs-train.parquet"), (Split.HELDOUT, "packs-heldout.parquet")):
        file = PackedFile(f"{side}.py", "python", text, side, None, none, none)
        write_records(tmp_path / "data" / name, [Pack(file.path, "r", None, side, (file,))])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/one.py").write_text(text)
    choices = replace(
        CHOICES, stages=("sft", "grpo"), has_control=False, infill_holes=8,
        rehearsal_share=0.5, rehearsal_rows=2, rehearsal_hold=4.0,
    )  # fmt: skip
    job = AlignJob(base, tmp_path / "out", choices, FeedChoices(packing_bins=2), tmp_path / "data")
    job = replace(job, elsewhere=tmp_path / "elsewhere")
    result = align(job, caller)
    for stage, about in (("sft", "run.json"), ("grpo", "stage.json")):
        identity = json.loads((tmp_path / "out" / stage / about).read_text())["identity"]
        assert (identity["held_to"], identity["hold"]) == (hash_model(base), 4.0)
    assert list(result.filled) == list(result.filled_elsewhere) == ["base", "grpo"]
    lines = spell_infill(result)
    assert [line.partition(":")[0] for line in lines] == [
        "infilling, rehearsed, held out", "infilling, not rehearsed", "infilling, both"
    ]  # fmt: skip
    assert lines[-1].endswith("; 8 holes"), "half of them in each place"
    assert "not rehearsed" in write_report(job, result).read_text()

"""Runs are found, told and compared as they lie in their folders, and none is disturbed."""

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from codegemma.cli.runs import command
from codegemma.errors import InputError
from codegemma.folders import hold_folder
from codegemma.train.job import TrainJob
from codegemma.train.loop import train
from codegemma.train.manifest import RunManifest, describe_identity, write_manifest
from codegemma.train.runs import RunState, find_runs, list_differences
from codegemma.train.runs_report import make_page

from .run_job import CHOICES


def write_run(folder: Path, steps: int = 0, **changes: object) -> Path:
    """Write what a run of `steps` lines leaves before it ends."""
    choices = dataclasses.replace(CHOICES, **changes)  # type: ignore[arg-type]
    folder.mkdir(parents=True)
    identity = describe_identity(choices, None, data="8d3f")
    write_manifest(folder, RunManifest(identity, 12, None, 2, "", "cpu", "0.10.2", (), {"name": "tiny"}))
    lines = [
        {"step": n, "loss": 6.0 - n, "tokens_per_s": 100.0, "loss_by_language/python": 5.0 - n}
        for n in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_real_run_is_finished_and_tells_its_losses_apart(job: TrainJob) -> None:
    train(job)
    (run,) = find_runs([job.out], pytest.fail)
    assert (run.state, run.step, run.name) == (RunState.FINISHED, CHOICES.steps, "run")
    for name in ("loss_by_language/python", "loss_by_source/code", "memory_bytes", "gradient_norm"):
        assert run.find_last(name) is not None, name
    assert run.find_last("mfu") is None  # nobody publishes the peak of this CPU
    modes = [name for name in run.lines[-1] if name.startswith("loss_by_mode/")]
    assert modes
    page = make_page([run]).render()
    assert "Loss by language" in page
    assert page.count("<svg") >= 6


def test_state_follows_what_lies_in_the_folder(tmp_path: Path) -> None:
    write_run(tmp_path / "cut", steps=2)
    write_run(tmp_path / "new")
    held = write_run(tmp_path / "held", steps=1)
    with hold_folder(held):
        assert {run.name: run.state for run in find_runs([tmp_path], pytest.fail)} == {
            "cut": RunState.STOPPED, "held": RunState.RUNNING, "new": RunState.PLANNED,
        }  # fmt: skip
    assert find_runs([held], pytest.fail)[0].state is RunState.STOPPED


def test_copies_of_a_manifest_in_models_and_folders_named_twice_are_one_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    (run / "model").mkdir()
    (run / "model" / "run.json").write_bytes((run / "run.json").read_bytes())
    assert [found.folder for found in find_runs([tmp_path, run], pytest.fail)] == [run]


def test_only_choices_that_differ_are_listed(tmp_path: Path) -> None:
    write_run(tmp_path / "a", steps=3)
    write_run(tmp_path / "b", steps=2, peak_learning_rate=0.5, seed=3, log_every_steps=1)
    runs = find_runs([tmp_path], pytest.fail)
    assert list_differences(runs) == {
        "train.peak_learning_rate": [CHOICES.peak_learning_rate, 0.5], "train.seed": [CHOICES.seed, 3],
    }  # fmt: skip
    page = make_page(runs).render()
    assert "train.peak_learning_rate" in page
    assert "0.5" in page


def test_command_tells_people_and_programs_the_same(tmp_path: Path) -> None:
    write_run(tmp_path / "a", steps=3)
    write_run(tmp_path / "b", steps=2, seed=3)
    page = tmp_path / "runs.html"
    told = CliRunner().invoke(command, [str(tmp_path), "--json", "--html", str(page)], catch_exceptions=False)
    plain = json.loads(told.stdout)
    assert [run["loss"] for run in plain["runs"]] == [3.0, 4.0]
    assert plain["differences"] == {"train.seed": [CHOICES.seed, 3]}
    assert "http" not in page.read_text().replace("http://www.w3.org", "")
    shown = CliRunner().invoke(command, [str(tmp_path)], catch_exceptions=False).stdout
    assert "stopped" in shown
    assert f"train.seed: {CHOICES.seed}, 3" in shown


def test_folder_without_runs_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder there holds a run\.json"):
        find_runs([tmp_path], pytest.fail)
    with pytest.raises(InputError, match="is no folder"):
        find_runs([tmp_path / "absent"], pytest.fail)


def test_run_of_another_version_is_told_and_the_others_are_shown(tmp_path: Path) -> None:
    write_run(tmp_path / "a", steps=3)
    older = write_run(tmp_path / "older", steps=1) / "run.json"
    older.write_text('{"identity": {}}')
    told = CliRunner().invoke(command, [str(tmp_path)], catch_exceptions=False)
    assert f"left out: {older} is no run of this version" in told.stderr
    assert told.exit_code == 0
    (tmp_path / "a" / "run.json").unlink()
    with pytest.raises(InputError, match="is no run of this version"):
        find_runs([tmp_path], pytest.fail)

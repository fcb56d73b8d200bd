import contextlib
import dataclasses
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.errors import InputError, OutputError
from codegemma.recipe import ChoiceError
from codegemma.records import InfillMode
from codegemma.runner import Progress
from codegemma.text.tokenizer import Tokenizer, train_tokenizer
from codegemma.train.checkpoint import Checkpoints
from codegemma.train.guards import DivergedError, InterruptedRun, hold_folder
from codegemma.train.job import TrainJob
from codegemma.train.loop import train
from codegemma.train.manifest import ThreadChangeError, read_manifest, write_manifest
from codegemma.train.meters import read_metrics

# Differ between two runs of the same numbers.
TIMES = ("tokens_per_s", "seconds", "data_wait_s", "memory_bytes")


def with_train(job: TrainJob, **changes: object) -> TrainJob:
    return dataclasses.replace(job, train=dataclasses.replace(job.train, **changes))  # type: ignore[arg-type]


def read_numbers(out: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(out / "metrics.jsonl")]


def assert_same_model(one: Path, other: Path) -> None:
    left, right = (load_file(path / "model/model.safetensors") for path in (one, other))
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def count_into(steps: list[int]) -> Progress:
    def count(stage: str, done: int, total: int | None) -> None:
        steps.append(done)

    return count


def stop_at(step: int) -> Progress:
    """Interrupt this process as a user does, when the run has taken `step` steps."""

    def interrupt(stage: str, done: int, total: int | None) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGINT)

    return interrupt


def test_run_learns_and_leaves_a_model_that_completes(job: TrainJob) -> None:
    lines: list[Mapping[str, float]] = []
    done: list[int] = []
    result = train(job, count_into(done), lines.append)
    assert done == list(range(1, 13))
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    assert lines == read_metrics(job.out / "metrics.jsonl")
    assert lines[-1]["loss"] < lines[0]["loss"] < 1.1 * math.log(job.tokenizer.vocab_size)
    assert lines[-1]["bits_per_token"] == pytest.approx(lines[-1]["plain_cross_entropy"] / math.log(2))
    assert lines[-1]["tokens"] == result.tokens <= 12 * 2 * 64
    assert result.steps == 12
    assert result.final_loss == lines[-1]["loss"]
    assert 0 <= result.data_wait_share < 1
    engine = Engine.load(result.model)
    assert engine.infill_modes == (InfillMode.SPM, InfillMode.PSM)
    assert engine.max_context_tokens == job.train.row_tokens
    samples = read_metrics(job.out / "samples.jsonl")
    assert [line["step"] for line in samples] == [6, 12]
    assert job.sample is not None
    assert GeneratorCompleter(engine).complete_all([job.sample])[0].text == samples[-1]["text"]
    assert list((job.out / "tensorboard").glob("events.*"))


def test_finished_run_is_not_run_again(job: TrainJob) -> None:
    short = with_train(job, steps=2)
    first = train(short)
    done: list[int] = []
    second = train(short, count_into(done))
    assert done == []
    assert dataclasses.replace(second, resumed_step=None) == first


def test_interrupted_run_goes_on_as_if_nothing_had_happened(job: TrainJob, tmp_path: Path) -> None:
    handler_before = signal.getsignal(signal.SIGINT)
    train(job)
    halved = dataclasses.replace(job, out=tmp_path / "halved")
    with pytest.raises(InterruptedRun, match="saved at step 7 of 12; the same command goes on") as interrupted:
        train(halved, stop_at(7))
    assert interrupted.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is handler_before
    assert not (halved.out / "model").exists()
    assert train(halved).resumed_step == 7
    assert_same_model(job.out, halved.out)
    assert read_numbers(halved.out) == read_numbers(job.out)
    assert read_metrics(halved.out / "samples.jsonl") == read_metrics(job.out / "samples.jsonl")


@pytest.mark.parametrize("kill", ["now", *(pytest.param(i, marks=pytest.mark.slow) for i in range(10))])
def test_killed_run_ends_with_the_parameters_of_an_uninterrupted_one(
    job: TrainJob, tokenizer: Tokenizer, tmp_path: Path, kill: object
) -> None:
    """SIGKILL in a real process at a moment that nobody chose; also while a checkpoint is being written."""
    steps = 40
    train(with_train(dataclasses.replace(job, sample=None), steps=steps, save_every_steps=3))
    tokenizer.save(tmp_path / "tokenizer.json")
    killed_out = tmp_path / "killed"
    command = [sys.executable, str(Path(__file__).parent / "run_job.py"), str(job.data), str(tmp_path), str(killed_out)]
    with subprocess.Popen([*command, str(steps)], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for _ in range(random.Random(time.time_ns()).randint(4, steps - 10)):
            killed.stdout.readline()
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    last = subprocess.run([*command, str(steps)], stdout=subprocess.PIPE, text=True, check=True)
    resumed_step = json.loads(last.stdout.splitlines()[-1])["resumed_step"]
    assert resumed_step is not None, "it must have gone on, not started over"
    assert 3 <= resumed_step < steps
    assert_same_model(job.out, killed_out)
    assert read_numbers(killed_out) == read_numbers(job.out)
    assert not list((killed_out / "checkpoints").glob("*tmp*"))


def test_diverged_run_says_so_and_keeps_the_checkpoint_before(job: TrainJob) -> None:
    wild = with_train(job, peak_learning_rate=1e30, save_every_steps=1, warmup_steps=0)
    with pytest.raises(DivergedError, match=r"diverged.*peak_learning_rate \(now 1e\+30\)"):
        train(wild)
    checkpoints = Checkpoints(wild.out / "checkpoints", 2)
    assert checkpoints.latest_step is not None
    checkpoints.close()
    assert not (wild.out / "model").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seed": 1}, "train.seed was 0, now 1"), ({"steps": 13}, "train.steps was 12, now 13")],
)
def test_run_with_other_choices_is_refused_by_name(job: TrainJob, change: dict[str, int], message: str) -> None:
    with pytest.raises(InterruptedRun):
        train(job, stop_at(1))
    with pytest.raises(OutputError, match=message):
        train(with_train(job, **change))
    assert train(with_train(job, log_every_steps=1)).resumed_step == 1


def test_other_number_of_threads_is_refused_unless_allowed(job: TrainJob) -> None:
    with pytest.raises(InterruptedRun):
        train(job, stop_at(2))
    manifest = read_manifest(job.out)
    assert manifest is not None
    write_manifest(job.out, dataclasses.replace(manifest, threads=manifest.threads + 62))
    with pytest.raises(ThreadChangeError, match=r"started with \d+ threads.*allow_thread_change=true"):
        train(job)
    assert train(with_train(job, allow_thread_change=True)).resumed_step == 2


def test_two_processes_do_not_share_a_folder(job: TrainJob) -> None:
    with hold_folder(job.out), pytest.raises(OutputError, match="another process works"):
        train(job)


def test_minutes_fix_the_number_of_steps_once(job: TrainJob) -> None:
    seldom = {"save_every_steps": 10**6, "log_every_steps": 10**6, "sample_every_steps": 10**6}
    timed = dataclasses.replace(with_train(job, steps=None, **seldom), minutes=0.1)
    with contextlib.suppress(InterruptedRun):
        train(timed, stop_at(1))
    before = read_manifest(timed.out)
    assert before is not None
    assert before.seconds_per_step is not None
    assert train(timed).steps == before.total_steps
    assert read_manifest(timed.out) == before


def test_run_of_unknown_length_is_refused_before_anything_is_written(job: TrainJob) -> None:
    with pytest.raises(ChoiceError, match=r"--minutes N, or --set train.steps=N"):
        train(with_train(job, steps=None))
    assert not job.out.exists()


def test_base_is_the_start_and_keeps_its_window(job: TrainJob, tmp_path: Path) -> None:
    first = train(job)
    adapted = dataclasses.replace(job, out=tmp_path / "adapted", base=first.model, config=None)
    result = train(with_train(adapted, steps=2, peak_learning_rate=1e-9, log_every_steps=1))
    assert read_metrics(adapted.out / "metrics.jsonl")[0]["loss"] < read_numbers(job.out)[0]["loss"] - 0.1
    before, after = (load_file(folder / "model.safetensors") for folder in (first.model, result.model))
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-6)
    with pytest.raises(InputError, match=r"train\.row_tokens=64"):
        train(with_train(adapted, row_tokens=128))
    with pytest.raises(InputError, match=r"train\.row_tokens=96"):
        train(with_train(adapted, row_tokens=128, margin_tokens=32))


def test_margin_of_the_rows_is_not_in_the_models_window(job: TrainJob, tmp_path: Path) -> None:
    first = train(with_train(job, steps=1, row_tokens=80, margin_tokens=16))
    assert Engine.load(first.model).max_context_tokens == 64
    again = train(
        with_train(
            dataclasses.replace(job, out=tmp_path / "again", base=first.model, config=None),
            steps=1,
            row_tokens=80,
            margin_tokens=16,
        )
    )
    assert Engine.load(again.model).max_context_tokens == 64


def test_tokenizer_larger_than_the_base_is_refused(job: TrainJob, tmp_path: Path) -> None:
    first = train(with_train(job, steps=1))
    texts = [Path(__file__).read_text()]
    other = dataclasses.replace(job, out=tmp_path / "b", base=first.model, tokenizer=train_tokenizer(texts, 900))
    with pytest.raises(InputError, match="ids, the base 512"):
        train(other)


def test_folder_that_cannot_be_written_is_an_output_error(job: TrainJob, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        train(dataclasses.replace(job, out=tmp_path / "file/run"))


def test_training_works_outside_the_main_thread(job: TrainJob) -> None:
    steps: list[int] = []
    thread = threading.Thread(target=lambda: steps.append(train(with_train(job, steps=1)).steps))
    thread.start()
    thread.join()
    assert steps == [1]

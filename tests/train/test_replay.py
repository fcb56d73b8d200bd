"""What a run read is recomputed exactly, from any step, and a run that cannot be recomputed is refused."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegemma.errors import InputError
from codegemma.feed.loader import KnownBatch, Loader, hash_batch
from codegemma.feed.trace import list_batch, trace_token
from codegemma.folders import claim_folder
from codegemma.records import Batch, Pack
from codegemma.shards import read_records, write_records
from codegemma.text.tokenizer import Tokenizer, train_tokenizer
from codegemma.train.guards import InterruptedRun
from codegemma.train.job import TrainJob
from codegemma.train.loop import train
from codegemma.train.manifest import read_manifest, write_manifest
from codegemma.train.meters import read_metrics
from codegemma.train.replay import ROWS_FILE, find_run_files, open_replay


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches that a run really reads, as they leave its loader."""
    batches: list[Batch] = []
    original = Loader.take_known

    def spy(self: Loader) -> KnownBatch:
        known = original(self)
        batches.append(known.batch)
        return known

    monkeypatch.setattr(Loader, "take_known", spy)
    return batches


def assert_same(left: Batch, right: Batch) -> None:
    for field in dataclasses.fields(Batch):
        np.testing.assert_array_equal(getattr(left, field.name), getattr(right, field.name))


def change_lines(run: Path, change: Any) -> None:
    lines = [change(line) for line in read_metrics(run / ROWS_FILE)]
    (run / ROWS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_every_step_of_a_run_is_recomputed_and_vouched_for(job: TrainJob, read: list[Batch]) -> None:
    train(job)
    assert len(read) == 12
    assert [line["step"] for line in read_metrics(job.out / ROWS_FILE)] == [3, 6, 9, 12]
    with open_replay(job.out, job.data) as replay:
        # Backwards and forwards, so that no step depends on the one asked for before.
        for step in [12, 1, 5, 6, 7, 2, 11, 3, 1]:
            found = replay.find_batch(step)
            assert (found.step, found.is_checked) == (step, True)
            assert_same(found.known.batch, read[step - 1])
        # A run's model folder stands for the run.
        assert find_run_files(job.out / "model", job.data).run == job.out.resolve()


def test_an_interrupted_run_is_recomputed_as_it_really_went(job: TrainJob, read: list[Batch]) -> None:
    def stop(stage: str, done: int, total: int | None) -> None:
        if done == 8:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRun):
        train(job, stop)
    with open_replay(job.out, job.data) as replay:
        assert_same(replay.find_batch(8).known.batch, read[7])
        assert not replay.find_batch(8).is_checked
        assert replay.find_batch(6).is_checked
    del read[8:]  # what the replay took
    train(job)
    assert [line["step"] for line in read_metrics(job.out / ROWS_FILE)] == [3, 6, 9, 12]
    with open_replay(job.out, job.data) as replay:
        assert replay.find_batch(8).is_checked
        assert_same(replay.find_batch(10).known.batch, read[9])


@pytest.mark.parametrize("damage", ["no file", "other identity", "no position", "torn"])
def test_marks_that_cannot_be_used_cost_time_only(job: TrainJob, damage: str) -> None:
    train(job)
    with open_replay(job.out, job.data) as replay:
        wanted = replay.find_batch(11).known.batch
    if damage == "no file":
        (job.out / ROWS_FILE).unlink()
    elif damage == "torn":
        (job.out / ROWS_FILE).write_bytes((job.out / ROWS_FILE).read_bytes()[:-40])
    else:
        state = {"identity": "other"} if damage == "other identity" else {"position": {"next_row": 0}}
        change_lines(job.out, lambda line: line | {"loader": line["loader"] | state})
    with open_replay(job.out, job.data) as replay:
        found = replay.find_batch(11)
        assert_same(found.known.batch, wanted)
        assert found.is_checked == (damage not in ("no file", "torn"))


def test_rows_that_are_not_the_runs_are_refused(job: TrainJob) -> None:
    train(job)
    change_lines(job.out, lambda line: line | {"rows": "0" * 16} if line["step"] == 6 else line)
    with open_replay(job.out, job.data) as replay:
        with pytest.raises(InputError, match=r"at step 6: another version of codegemma"):
            replay.find_batch(5)
        assert replay.find_batch(2).is_checked


def test_data_tokenizer_and_choices_must_be_the_runs(job: TrainJob, tmp_path: Path) -> None:
    train(job)
    packs = list(read_records(job.data / "packs-train.parquet", Pack))
    write_records(tmp_path / "other/packs-train.parquet", packs[1:])
    other = train_tokenizer(["other words\n"] * 9, vocab_size=420)
    other.save(tmp_path)
    for arguments, message in (
        ((job.out, tmp_path / "other"), "is not what the run in"),
        ((job.out, tmp_path / "nowhere"), "nowhere"),
        ((job.out, None), "--data"),
        ((tmp_path, job.data), r"holds no run\.json"),
        ((None, job.data), "which run read"),
        ((None, None), "neither"),
        ((job.out, job.data, tmp_path / "tokenizer.json"), "--tokenizer"),
    ):
        with pytest.raises(InputError, match=message):
            find_run_files(*arguments)
    manifest = read_manifest(job.out)
    assert manifest is not None
    newer = dataclasses.replace(manifest, identity=manifest.identity | {"feed": {"no_such_choice": 1}})
    write_manifest(job.out, newer)
    with pytest.raises(InputError, match="no_such_choice"):
        find_run_files(job.out, job.data)


def test_a_run_in_adapts_layout_is_found_by_its_data_alone(job: TrainJob) -> None:
    packs = list(read_records(job.data / "packs-train.parquet", Pack))
    claim_folder(job.out)
    write_records(job.out / "data/packs-train.parquet", packs)
    train(dataclasses.replace(job, data=job.out / "data"))
    files = find_run_files(None, job.out / "data")
    assert files.run == job.out.resolve()
    assert find_run_files(job.out, None).data == job.out / "data"
    assert find_run_files(job.out / "model", None).data == job.out.resolve() / "data"


def test_tokens_of_a_run_are_traced_to_the_characters_that_they_spell(job: TrainJob, tokenizer: Tokenizer) -> None:
    train(job)
    texts = {f.path: f.text for pack in read_records(job.data / "packs-train.parquet", Pack) for f in pack.files}
    rng = np.random.default_rng(0)
    with open_replay(job.out, job.data) as replay:
        traced = 0
        for _ in range(60):
            step, row, token = int(rng.integers(1, 13)), int(rng.integers(2)), int(rng.integers(64))
            known = replay.find_batch(step).known
            origin = trace_token(replay.loader, known, row, token)
            assert origin.token_id == known.batch.ids[row, token]
            assert origin.loss_weight == known.batch.loss_weights[row, token]
            if origin.span is not None and origin.piece is not None and origin.part != "path":
                text = texts[origin.piece.path][origin.span.start : origin.span.end]
                assert tokenizer.decode([origin.token_id]) in (text, "�")
                traced += 1
        assert traced > 20
        assert {piece.path for piece in list_batch(replay.loader, replay.find_batch(4).known)} <= texts.keys()


def test_equal_batches_have_equal_hashes_and_any_change_another() -> None:
    def make() -> list[np.ndarray]:
        return [np.arange(6, dtype=t).reshape(2, 3) for t in (np.int32, np.float32, np.int32, np.int32)]

    hashes = {hash_batch(Batch(*make()))}
    assert hashes == {hash_batch(Batch(*make()))}
    for changed in range(4):
        arrays = make()
        arrays[changed][1, 1] += 1
        hashes.add(hash_batch(Batch(*arrays)))
    assert len(hashes) == 5

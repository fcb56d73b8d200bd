"""A run on a mixture tells what it was given, goes on after a stop, and is recomputed as any other."""

import dataclasses
import json
from pathlib import Path

import pytest
from tests.feed.packs import mixed_packs

from codegemma.feed.choices import FeedChoices, FeedError
from codegemma.feed.mixture import MixtureChoices
from codegemma.shards import write_records
from codegemma.text.tokenizer import Tokenizer
from codegemma.train.guards import InterruptedRun
from codegemma.train.job import TrainJob
from codegemma.train.loop import read_result, train
from codegemma.train.replay import open_replay

from .run_job import CHOICES, CONFIG
from .test_loop import assert_same_model, stop_at


@pytest.fixture
def job(tmp_path: Path, tokenizer: Tokenizer) -> TrainJob:
    write_records(tmp_path / "data" / "packs-train.parquet", mixed_packs())
    feed = FeedChoices(packing_bins=2, mixture=MixtureChoices(("code_and_text",)))
    choices = dataclasses.replace(CHOICES, steps=40)
    return TrainJob(tmp_path / "data", tmp_path / "run", choices, feed, tokenizer, CONFIG)


def test_run_tells_wanted_and_delivered_shares_and_the_same_after_an_interruption(job: TrainJob) -> None:
    result = train(job)
    code, text = result.sources
    assert (code.source, code.wanted_share) == ("code+synthetic", 0.8)
    assert (text.source, text.wanted_share) == ("text+mathematics", 0.2)
    assert code.tokens / (code.tokens + text.tokens) == pytest.approx(0.8, abs=0.02)
    assert code.tokens + text.tokens == result.tokens
    assert json.loads((result.model / "run.json").read_text())["result"]["sources"][1]["tokens"] == text.tokens
    assert read_result(job.out) == dataclasses.replace(result, resumed_step=40)
    again = dataclasses.replace(job, out=job.out.with_name("again"))
    with pytest.raises(InterruptedRun):
        train(again, stop_at(17))
    resumed = train(again)
    assert resumed.sources == result.sources
    assert_same_model(again.out, job.out)


def test_every_step_of_a_mixed_run_is_recomputed_and_vouched_for(job: TrainJob) -> None:
    train(job)
    with open_replay(job.out, job.data) as replay:
        for step in (40, 7, 23):
            assert replay.find_batch(step).is_checked


def test_run_that_would_repeat_a_source_too_often_does_not_begin(job: TrainJob) -> None:
    mixture = MixtureChoices(("code=0.01", "mathematics=0.99"), max_epochs=0.5)
    limited = dataclasses.replace(job, feed=dataclasses.replace(job.feed, mixture=mixture))
    with pytest.raises(FeedError, match=r"40 steps would go .* times through mathematics, at most 0.5 are wanted"):
        train(limited)
    assert not (job.out / "run.json").exists()
    few = dataclasses.replace(limited, train=dataclasses.replace(job.train, steps=2))
    assert train(few).steps == 2

"""A step that went wrong changes nothing, is told with what it read, and by policy is passed over or ends the run."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegemma.model.gemma import init_params
from codegemma.records import Batch
from codegemma.train.divergence import Watch, judge, start_watch
from codegemma.train.guards import DivergedError
from codegemma.train.job import TrainJob
from codegemma.train.loop import train
from codegemma.train.meters import read_metrics
from codegemma.train.step import TrainState, init_state, make_train_step

from .test_loop import assert_same_model, read_numbers, with_train
from .test_step import CHOICES, CONFIG, STEPS, draw_batch


def watch_after(losses: list[float], norms: list[float]) -> Watch:
    watch = start_watch()
    for loss, norm in zip(losses, norms, strict=True):
        _, watch = judge(watch, jnp.float32(loss), jnp.float32(norm), CHOICES)
    return watch


@pytest.mark.parametrize(
    ("loss", "norm", "is_bad"),
    [
        (2.0, 1.0, False), (5.9, 19.0, False), (6.1, 1.0, True), (2.0, 21.0, True), (0.1, 1e-6, False),
        (float("nan"), 1.0, True), (2.0, float("inf"), True), (float("-inf"), 1.0, True),
    ],
)  # fmt: skip
def test_spike_is_what_is_far_above_the_usual(loss: float, norm: float, is_bad: bool) -> None:
    watch = watch_after([2.0] * 60, [1.0] * 60)
    bad, after = judge(watch, jnp.float32(loss), jnp.float32(norm), CHOICES)
    assert bool(bad) is is_bad
    assert int(after.bad_in_a_row) == int(after.bad_steps) == is_bad
    if is_bad:
        assert after.loss == watch.loss


def test_without_a_history_only_what_is_no_number_is_bad() -> None:
    watch = watch_after([2.0] * 5, [1.0] * 5)
    assert not judge(watch, jnp.float32(90.0), jnp.float32(1e5), CHOICES)[0]
    assert judge(watch, jnp.float32("nan"), jnp.float32(1.0), CHOICES)[0]


@given(st.lists(st.floats(0.5, 8.0), min_size=60, max_size=90))
@settings(max_examples=10, deadline=None)
def test_usual_lies_among_what_came(losses: list[float]) -> None:
    watch = jax.device_get(watch_after(losses, [1.0] * len(losses)))
    assert min(losses) - 1e-3 <= watch.loss <= max(losses) + 1e-3
    assert abs(watch.log_norm) < 1e-5


def test_bad_step_changes_neither_parameters_nor_moments_and_the_next_one_does() -> None:
    step = make_train_step(CONFIG, CHOICES, STEPS)
    state, _ = step(init_state(init_params(CONFIG, jax.random.key(0)), CHOICES, STEPS), draw_batch())
    before: TrainState = jax.device_get(state)
    state, metrics = step(state, dataclasses.replace(draw_batch(), loss_weights=np.full((4, 32), np.nan, np.float32)))
    after: TrainState = jax.device_get(state)
    assert metrics["bad_in_a_row"] == metrics["bad_steps"] == 1
    assert after.step == 2
    for mine, theirs in zip(jax.tree.leaves(after.params), jax.tree.leaves(before.params), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for mine, theirs in zip(jax.tree.leaves(after.opt_state), jax.tree.leaves(before.opt_state), strict=True):
        # Counters go on: the schedule counts what was read.
        np.testing.assert_array_equal(mine, theirs + 1 if theirs.dtype == np.int32 else theirs)
    state, metrics = step(state, draw_batch())
    assert [int(metrics[name]) for name in ("bad_in_a_row", "bad_steps")] == [0, 1]
    assert np.any(np.asarray(state.params["q"]) != before.params["q"])


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the loader's weights no numbers in chosen batches, as a damaged file or machine would."""

    def spoil(*steps: int) -> None:
        def make_spoiled(*arguments: Any, **named: Any) -> Any:
            step = make_train_step(*arguments, **named)

            def run(state: TrainState, batch: Batch) -> Any:
                if int(state.step) + 1 in steps:
                    batch = dataclasses.replace(batch, loss_weights=batch.loss_weights * np.float32(np.nan))
                return step(state, batch)

            return run

        monkeypatch.setattr("codegemma.train.loop.make_train_step", make_spoiled)

    return spoil


def test_bad_steps_are_passed_over_told_and_in_no_mean(
    job: TrainJob, spoil: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    spoil(4, 5)
    job = dataclasses.replace(job, sample=None)
    with caplog.at_level(logging.WARNING):
        result = train(job)
    lines = read_metrics(job.out / "metrics.jsonl")
    assert [line["bad_steps"] for line in lines] == [0, 2, 2, 2]
    assert np.isfinite([line["loss"] for line in lines]).all()
    assert np.isfinite(result.final_loss)
    told = read_metrics(job.out / "divergences.jsonl")
    assert [(line["step"], line["loss"]) for line in told] == [(4, "nan"), (5, "nan")]
    assert [line["step"] for line in read_metrics(job.out / "rows.jsonl")] == [3, 4, 5, 6, 9, 12]
    assert "step 4 was bad and changed nothing" in caplog.text
    assert f"`codegemma trace {job.out} --step 4` tells what it read" in caplog.text


def test_run_that_stops_at_a_bad_step_goes_on_past_it_when_told_to(
    job: TrainJob, spoil: Callable[..., None], tmp_path: Path
) -> None:
    spoil(7)
    stopping = with_train(dataclasses.replace(job, sample=None), on_divergence="stop")
    for _ in range(2):  # again is the same
        with pytest.raises(
            DivergedError, match=r"at step 7 .*bad step 1 in a row.*read batch [0-9a-f]{16}; .*--step 7`"
        ):
            train(stopping)
    resumed = train(with_train(stopping, on_divergence="skip"))
    assert (resumed.resumed_step, resumed.steps) == (5, 12)
    at_once = dataclasses.replace(stopping, out=tmp_path / "at-once")
    train(with_train(at_once, on_divergence="skip"))
    assert_same_model(at_once.out, job.out)
    assert read_numbers(at_once.out) == read_numbers(job.out)


def test_bad_steps_in_a_row_end_the_run_whatever_the_policy(job: TrainJob, spoil: Callable[..., None]) -> None:
    spoil(*range(6, 13))
    with pytest.raises(
        DivergedError, match=r"at step 8 .*bad step 3 in a row.*train\.max_bad_steps \(now 3\)"
    ) as error:
        train(with_train(dataclasses.replace(job, sample=None), max_bad_steps=3))
    assert error.value.exit_code == 5

"""Stages learn what they should, and killed anywhere they end as if nothing had happened."""

import signal
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from codegemma.align.averaging import average_models
from codegemma.align.exercises import Problem, make_problems
from codegemma.align.objective import judge_pairs, judge_policy, make_objective
from codegemma.align.policy import PolicySource
from codegemma.align.preference import PairSource, Preference, pick_pairs, rate_reference
from codegemma.align.rehearsal import Rehearsal
from codegemma.align.reward_head import RewardHead, read_states, train_head
from codegemma.align.rewards import Answer, Judged
from codegemma.align.stage import Stage, StageResult, run_stage
from codegemma.align.writing import Writer, Written
from codegemma.engine.rollout import Rollout
from codegemma.errors import InputError, OutputError
from codegemma.feed.choices import FeedChoices
from codegemma.feed.loader import RowShape
from codegemma.model.weights import load_model
from codegemma.records import Split
from codegemma.text.tokenizer import Tokenizer
from codegemma.train.guards import InterruptedRun
from codegemma.train.meters import read_metrics

from .conftest import CHOICES, EXERCISES

NO_REHEARSAL = partial(Rehearsal, None, shape=RowShape(0, 192), seed=0)


class LetterJudge:
    """Rewards answers by a rule that needs no box: the share of characters in the first half of the alphabet."""

    def judge_later(self, _: list[Problem], answers: list[list[Answer]]) -> "Future[list[Judged]]":
        done: Future[list[Judged]] = Future()
        shares = [sum(c < "n" for c in a.text) / max(len(a.text), 1) for group in answers for a in group]
        done.set_result([Judged(share, share > 0.5, share, True, True) for share in shares])
        return done


def run_policy(base: Path, out: Path, on_progress: Any = lambda *_: None, algorithm: Any = "grpo") -> StageResult:
    from dataclasses import replace

    choices = replace(CHOICES.policy, algorithm=algorithm, beta=0.01)
    tokenizer = Tokenizer.load(base)

    def make_source(params: Any, config: Any) -> PolicySource:
        rehearsal = NO_REHEARSAL(tokenizer=tokenizer, feed=FeedChoices())
        problems = make_problems(EXERCISES, Split.TRAIN)
        judge: Any = LetterJudge()
        return PolicySource(problems, params, Writer(config, tokenizer), judge, choices, rehearsal)

    objective = make_objective(partial(judge_policy, choices=choices), 0.0)
    stage = Stage("grpo", base, out, choices.train, objective, {"algorithm": algorithm})
    return run_stage(stage, make_source, on_progress)


def assert_same_model(one: Path, other: Path) -> None:
    jax.tree.map(np.testing.assert_array_equal, load_model(one)[0], load_model(other)[0])


def test_an_interrupted_policy_ends_with_the_same_model(base: Path, tmp_path: Path) -> None:
    whole = run_policy(base, tmp_path / "whole")

    def interrupt(stage: str, done: int, total: int | None) -> None:
        if done == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(InterruptedRun):
        run_policy(base, tmp_path / "cut", interrupt)
    ended = run_policy(base, tmp_path / "cut")
    assert (ended.resumed_step, ended.steps, ended.flops) == (1, 3, whole.flops)
    assert_same_model(whole.model, ended.model)
    lines = read_metrics(tmp_path / "cut" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert run_policy(base, tmp_path / "cut").flops == whole.flops, "a finished stage is told, not run"
    with pytest.raises(OutputError, match="algorithm was grpo, now reinforce"):
        run_policy(base, tmp_path / "cut", algorithm="reinforce")


def test_reinforce_moves_the_policy_and_tells_its_divergence(base: Path, tmp_path: Path) -> None:
    done = run_policy(base, tmp_path / "run", algorithm="reinforce")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert lines[0]["divergence"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["divergence"] > 0
    before, after = load_model(base)[0]["emb"], load_model(done.model)[0]["emb"]
    assert float(np.abs(np.asarray(before) - np.asarray(after)).max()) > 1e-4


def make_pairs(tokenizer: Tokenizer, count: int = 12) -> list[Preference]:
    """Prefer answers with an a to ones with a z, whatever is asked."""
    ids = {word: (*tokenizer.encode(word).tolist(), 107) for word in ("a a", "z z")}
    prompts = [(2, *tokenizer.encode(f"Write {n}.").tolist()) for n in range(count)]
    return [Preference(prompt, ids["a a"], ids["z z"]) for prompt in prompts]


def test_dpo_prefers_what_is_preferred(base: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    choices = CHOICES.preference

    def make_source(params: Any, config: Any) -> PairSource:
        pairs = rate_reference(params, config, make_pairs(tokenizer))
        assert all(pair.reference[0] < 0 for pair in pairs)
        rehearsal = NO_REHEARSAL(tokenizer=tokenizer, feed=FeedChoices())
        return PairSource(pairs, choices, rehearsal, config.count_parameters())

    objective = make_objective(partial(judge_pairs, choices=choices), 0.0)
    run_stage(Stage("dpo", base, tmp_path / "dpo", choices.train, objective, {}), make_source)
    lines = read_metrics(tmp_path / "dpo" / "metrics.jsonl")
    assert lines[0]["loss"] == pytest.approx(np.log(2), abs=1e-3), "at its start the policy is its reference"
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["accuracy"] == 1.0


def test_pairs_are_of_answers_that_passed_and_ones_that_ended_and_failed(tokenizer: Tokenizer) -> None:
    def make(text: str, *, has_passed: bool, has_ended: bool = True) -> tuple[Written, Judged]:
        written = Written((2,), Rollout((1,), (0.0,), has_ended), Answer(text, 1, has_ended))
        return written, Judged(float(has_passed), has_passed, 1.0, True, has_passed)

    made = [
        make("a", has_passed=True), make("a", has_passed=True), make("b", has_passed=False),
        make("c", has_passed=False, has_ended=False),
    ]  # fmt: skip
    import random

    pairs = pick_pairs([w for w, _ in made], [j for _, j in made], 5, random.Random(0))
    assert len(pairs) == 1
    with pytest.raises(InputError, match="nothing to prefer"):
        PairSource([], CHOICES.preference, NO_REHEARSAL(tokenizer=tokenizer, feed=FeedChoices()), 1)


def test_a_reward_head_tells_preferred_answers_from_others(base: Path, tokenizer: Tokenizer) -> None:
    params, config = load_model(base)
    pairs = make_pairs(tokenizer)
    head: RewardHead = train_head(params, config, pairs[:8], steps=100)
    chosen, rejected = (
        head.rate(read_states(params, config, [(p.prompt, answer) for p in pairs[8:] for answer in [pick(p)]]))
        for pick in (lambda p: p.chosen, lambda p: p.rejected)
    )
    assert np.all(chosen > rejected)


def test_the_mean_of_models_is_a_model(base: Path, tmp_path: Path) -> None:
    run = run_policy(base, tmp_path / "run")
    averaged = average_models([base, run.model], tmp_path / "mean")
    one, other, mean = (np.asarray(load_model(folder)[0]["q"]) for folder in (base, run.model, averaged))
    np.testing.assert_allclose(mean, (one + other) / 2, atol=1e-7)

"""Each loss against TRL's formula, written in PyTorch; values and slopes to 1e-5."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.align import losses

torch = pytest.importorskip("torch")
TOLERANCE = 1e-5
PAIRS, ROWS, TOKENS, GROUP = 6, 8, 5, 4


def draw(*shape: int, seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_same(ours: Callable[[Any], Any], theirs: Callable[[Any], Any], at: np.ndarray) -> None:
    """Compare values and slopes of two scalar functions."""
    value, slope = jax.value_and_grad(ours)(jnp.asarray(at))
    point = torch.tensor(at, requires_grad=True)
    wanted = theirs(point)
    wanted.backward()
    np.testing.assert_allclose(float(value), float(wanted.detach()), atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(np.asarray(slope), point.grad.numpy(), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_dpo_is_that_of_trl(smoothing: float) -> None:
    rejected, ref_chosen, ref_rejected = (10 * draw(PAIRS, seed=seed) for seed in (1, 2, 3))

    def theirs(chosen: Any) -> Any:
        # trl/trainer/dpo_trainer.py, loss type "sigmoid": the log-ratio of the policy less that of the reference.
        logits = (chosen - torch.tensor(rejected)) - (torch.tensor(ref_chosen) - torch.tensor(ref_rejected))
        sigmoid = torch.nn.functional.logsigmoid
        return (-sigmoid(0.1 * logits) * (1 - smoothing) - sigmoid(-0.1 * logits) * smoothing).mean()

    assert_same(
        lambda chosen: losses.compute_dpo(chosen, rejected, ref_chosen, ref_rejected, 0.1, smoothing).mean(),
        theirs,
        10 * draw(PAIRS, seed=0),
    )


@pytest.mark.parametrize("averaging", ["answer", "token", "constant"])
@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_grpo_is_that_of_trl(averaging: losses.Averaging, beta: float) -> None:
    old, reference = draw(ROWS, TOKENS, seed=1), draw(ROWS, TOKENS, seed=2)
    advantages = draw(ROWS, seed=3)
    mask: Any = (np.arange(TOKENS) < np.array([5, 3, 1, 4, 5, 2, 2, 5])[:, None]).astype(np.float32)

    def theirs(logprobs: Any) -> Any:
        # trl/trainer/grpo_trainer.py: loss types "grpo", "bnpo" and "dr_grpo".
        ratio = torch.exp(logprobs - torch.tensor(old))
        weight, kept = torch.tensor(advantages)[:, None], torch.tensor(mask)
        loss = -torch.min(ratio * weight, torch.clamp(ratio, 1 - 0.2, 1 + 0.28) * weight)
        apart = torch.tensor(reference) - logprobs
        loss = loss + beta * (torch.exp(apart) - apart - 1)
        if averaging == "answer":
            return ((loss * kept).sum(-1) / kept.sum(-1).clamp(min=1.0)).mean()
        if averaging == "token":
            return (loss * kept).sum() / kept.sum().clamp(min=1.0)
        return (loss * kept).sum() / (loss.size(0) * TOKENS)

    def ours(logprobs: Any) -> Any:
        rated = losses.compute_grpo(
            logprobs, old, advantages, clip_low=0.2, clip_high=0.28, reference=reference, beta=beta
        )
        return losses.average(rated, mask, averaging, TOKENS)

    assert_same(ours, theirs, old + 0.3 * draw(ROWS, TOKENS, seed=5))


def test_advantages_are_those_of_trl() -> None:
    rewards = draw(ROWS, seed=0)
    grouped = torch.tensor(rewards).view(-1, GROUP)
    mean, std = grouped.mean(1).repeat_interleave(GROUP), grouped.std(1).repeat_interleave(GROUP)
    wanted = (torch.tensor(rewards) - mean) / (std + 1e-4)
    np.testing.assert_allclose(losses.centre_by_group(jnp.asarray(rewards), GROUP), wanted, atol=TOLERANCE)
    # trl/trainer/rloo_trainer.py
    baseline = (grouped.sum(1, keepdim=True) - grouped) / (GROUP - 1)
    left_out = losses.leave_one_out(jnp.asarray(rewards), GROUP)
    np.testing.assert_allclose(left_out, (grouped - baseline).view(-1), atol=TOLERANCE)


def test_reinforce_with_divergence_is_that_of_trl() -> None:
    logprobs, reference, rewards = draw(ROWS, TOKENS, seed=1), draw(ROWS, TOKENS, seed=2), draw(ROWS, seed=3)
    mask: Any = (np.arange(TOKENS) < 4).astype(np.float32)[None].repeat(ROWS, 0)
    # RLOO: the reward less beta times the summed log-ratio, leave-one-out, times the answer's log-probability.
    apart = ((torch.tensor(logprobs) - torch.tensor(reference)) * torch.tensor(mask)).sum(1)
    grouped = (torch.tensor(rewards) - 0.05 * apart).view(-1, GROUP)
    weight = (grouped - (grouped.sum(1, keepdim=True) - grouped) / (GROUP - 1)).view(-1)
    penalized = losses.penalize_divergence(jnp.asarray(rewards), logprobs, reference, mask, 0.05)
    advantages = losses.leave_one_out(penalized, GROUP)
    np.testing.assert_allclose(advantages, weight, atol=TOLERANCE)
    slope = jax.grad(lambda at: jnp.sum(losses.compute_reinforce(at, logprobs, advantages) * mask) / ROWS)(logprobs)
    point = torch.tensor(logprobs, requires_grad=True)
    (-(weight * (point * torch.tensor(mask)).sum(1)).mean()).backward()
    np.testing.assert_allclose(slope, point.grad.numpy(), atol=TOLERANCE)


def test_bradley_terry_is_that_of_trl() -> None:
    rejected = draw(PAIRS, seed=1)

    def theirs(chosen: Any) -> Any:
        # trl/trainer/reward_trainer.py
        loss = -torch.nn.functional.logsigmoid(chosen - torch.tensor(rejected)).mean()
        return loss + 0.01 * torch.mean((chosen + torch.tensor(rejected)) ** 2)

    assert_same(lambda at: losses.compute_bradley_terry(at, rejected, 0.01).mean(), theirs, draw(PAIRS, seed=0))


@given(st.lists(st.floats(-5, 5, width=32), min_size=GROUP, max_size=GROUP), st.floats(-3, 3, width=32))
def test_advantages_sum_to_nothing_and_ignore_what_all_have(rewards: list[float], added: float) -> None:
    given_rewards = jnp.asarray(rewards)
    plain = losses.centre_by_group(given_rewards, GROUP, "none")
    assert abs(float(plain.sum())) < 1e-4
    np.testing.assert_allclose(losses.centre_by_group(given_rewards + added, GROUP, "none"), plain, atol=1e-4)
    np.testing.assert_allclose(losses.leave_one_out(given_rewards, GROUP), plain * GROUP / (GROUP - 1), atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_group_of_equal_rewards_says_nothing(value: float) -> None:
    assert not np.any(losses.centre_by_group(jnp.full(GROUP, value), GROUP))

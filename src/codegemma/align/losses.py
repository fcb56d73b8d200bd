"""What tuning minimises, as small pure functions of log-probabilities and rewards.

**In**: natural log-probabilities of tokens (`B` answers of `L` tokens) or of whole answers, masks of the answers' own
tokens, rewards, advantages.
**Out**: losses and advantages; each is compared with an independent formula in `tests/align/test_losses.py`.
**Not**: a model (`objective.py`), sampling (`engine/rollout.py`) or judging (`rewards.py`).

Answers of one question lie next to each other, `group` of them.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# How a loss over tokens becomes one number: every answer counts the same (GRPO, 2402.03300), every token does (DAPO,
# 2503.14476), or tokens are divided by a constant, so that length gains nothing (Dr. GRPO, 2503.20783).
Averaging = Literal["answer", "token", "constant"]
# TRL's: keeps a group in which all rewards are nearly the same from blowing up.
_STD_EPSILON = 1e-4


def compute_dpo(
    chosen: Float[Array, " pairs"],
    rejected: Float[Array, " pairs"],
    reference_chosen: Float[Array, " pairs"],
    reference_rejected: Float[Array, " pairs"],
    beta: float,
    label_smoothing: float = 0.0,
) -> Float[Array, " pairs"]:
    """Rate each pair by direct preference optimisation (Rafailov et al. 2305.18290, equation 7).

    Log-probabilities are of whole answers. `label_smoothing` is the chance that a preference is the wrong way round
    (conservative DPO, Mitchell 2023).

    >>> one = jnp.ones(1)
    >>> print(compute_dpo(one, one, one, one, beta=0.1))
    [0.6931472]
    """
    margin = beta * ((chosen - reference_chosen) - (rejected - reference_rejected))
    right, wrong = jax.nn.log_sigmoid(margin), jax.nn.log_sigmoid(-margin)
    return -(1 - label_smoothing) * right - label_smoothing * wrong


def compute_bradley_terry(
    chosen: Float[Array, " pairs"], rejected: Float[Array, " pairs"], centring: float = 0.0
) -> Float[Array, " pairs"]:
    """Rate each pair's rewards: -log of the chance that the chosen one wins (Bradley and Terry, 1952).

    Rewards are only known up to a constant; `centring` weighs the square of their sum, which holds it near zero
    (Eisenstein et al. 2312.09244).
    """
    return -jax.nn.log_sigmoid(chosen - rejected) + centring * jnp.square(chosen + rejected)


def centre_by_group(
    rewards: Float[Array, " B"], group: int, scaling: Literal["group", "none"] = "group"
) -> Float[Array, " B"]:
    """Give each answer its advantage over its group's mean, in the group's standard deviations or as it is.

    A group whose rewards are all alike has advantage 0 throughout: it says nothing.

    >>> print(centre_by_group(jnp.array([1.0, 0.0, 1.0, 1.0]), 2, "none"))
    [ 0.5 -0.5  0.   0. ]
    """
    grouped = rewards.reshape(-1, group)
    advantages = grouped - jnp.mean(grouped, axis=1, keepdims=True)
    if scaling == "group":
        advantages /= jnp.std(grouped, axis=1, ddof=1, keepdims=True) + _STD_EPSILON
    return advantages.reshape(-1)


def leave_one_out(rewards: Float[Array, " B"], group: int) -> Float[Array, " B"]:
    """Give each answer its advantage over the mean of the others of its group (RLOO, Ahmadian et al. 2402.14740).

    >>> print(leave_one_out(jnp.array([1.0, 0.0]), 2))
    [ 1. -1.]
    """
    grouped = rewards.reshape(-1, group)
    others = (jnp.sum(grouped, axis=1, keepdims=True) - grouped) / (group - 1)
    return (grouped - others).reshape(-1)


def estimate_divergence(logprobs: Float[Array, "B L"], reference: Float[Array, "B L"]) -> Float[Array, "B L"]:
    """Estimate, token by token, the KL divergence from the reference: never negative, unbiased (Schulman's k3)."""
    difference = reference - logprobs
    return jnp.exp(difference) - difference - 1


def compute_grpo(
    logprobs: Float[Array, "B L"],
    old_logprobs: Float[Array, "B L"],
    advantages: Float[Array, " B"],
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    reference: Float[Array, "B L"] | None = None,
    beta: float = 0.0,
) -> Float[Array, "B L"]:
    """Rate each token by the clipped ratio to the policy that wrote it (GRPO, Shao et al. 2402.03300, equation 3).

    `clip_high` above `clip_low` lets rare tokens rise (DAPO). `beta` weighs the divergence from `reference`.
    """
    ratio = jnp.exp(logprobs - old_logprobs)
    clipped = jnp.clip(ratio, 1 - clip_low, 1 + clip_high)
    loss = -jnp.minimum(ratio * advantages[:, None], clipped * advantages[:, None])
    return loss if reference is None else loss + beta * estimate_divergence(logprobs, reference)


def penalize_divergence(
    rewards: Float[Array, " B"],
    logprobs: Float[Array, "B L"],
    reference: Float[Array, "B L"],
    mask: Float[Array, "B L"],
    beta: float,
) -> Float[Array, " B"]:
    """Take from each answer's reward how much likelier it has become than under the reference, as Gemma did.

    So the expected reward is the task's less `beta` times the KL divergence (2203.02155, equation 2).
    """
    return rewards - beta * jnp.sum(mask * (logprobs - reference), axis=1)


def compute_reinforce(
    logprobs: Float[Array, "B L"], old_logprobs: Float[Array, "B L"], advantages: Float[Array, " B"]
) -> Float[Array, "B L"]:
    """Rate each token by REINFORCE (Williams, 1992), weighed by how likely the writer was to write it.

    The weight is 1 for the policy that wrote the answers, where this is the plain -advantage x log-probability in its
    slope, and corrects for the step between writing and learning.
    """
    weight = lax.stop_gradient(jnp.exp(logprobs - old_logprobs))
    return -weight * advantages[:, None] * logprobs


def average(
    losses: Float[Array, "B L"],
    mask: Float[Array, "B L"],
    averaging: Averaging,
    max_tokens: int = 1,
    add_up: Callable[[Array], Array] = lambda value: value,
) -> Float[Array, ""]:
    """Make one number of the losses of the answers' own tokens; rows without any are no answers.

    `add_up` adds a count over the devices that hold the other rows: the number is then this device's part.

    >>> losses, mask = jnp.array([[1.0, 0.0], [3.0, 5.0]]), jnp.array([[1.0, 0.0], [1.0, 1.0]])
    >>> [float(average(losses, mask, kind, 2)) for kind in ("answer", "token", "constant")]
    [2.5, 3.0, 2.25]
    """
    sums, counts = jnp.sum(losses * mask, axis=1), jnp.sum(mask, axis=1)
    answers = add_up(jnp.sum(counts > 0).astype(jnp.float32))
    match averaging:
        case "answer":
            return jnp.sum(sums / jnp.maximum(counts, 1)) / jnp.maximum(answers, 1)
        case "token":
            return jnp.sum(sums) / jnp.maximum(add_up(jnp.sum(counts)), 1)
        case "constant":
            return jnp.sum(sums) / (jnp.maximum(answers, 1) * max_tokens)

"""A reward model: one linear head on a model's last state, trained on pairs by Bradley and Terry.

**In**: a model, which stays as it is; pairs of preferred answers and others.
**Out**: `RewardHead`: a number for an answer, to compare with others to the same prompt.
**Not**: a copy of the model: the head reads the states of the very parameters that are given.

Gemma was tuned with such rewards (2403.08295, section 6). Here they stand in where answers cannot be run.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32

from codegemma.align.losses import compute_bradley_terry
from codegemma.align.objective import lay_rows
from codegemma.align.preference import Preference
from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params, forward

_ROWS = 64
_CENTRING = 0.01
_LEARNING_RATE = 0.03
# Of a head of a few hundred numbers: against learning the pairs by heart.
_WEIGHT_DECAY = 0.1


class RewardHead(NamedTuple):
    """`reward = state @ weights`; the states are standardized by what the pairs had."""

    weights: Float32[np.ndarray, " D"]
    mean: Float32[np.ndarray, " D"]
    scale: Float32[np.ndarray, " D"]

    def rate(self, states: Float32[np.ndarray, "n D"]) -> Float32[np.ndarray, " n"]:
        """Rate answers by their last states."""
        rewards: Float32[np.ndarray, " n"] = ((states - self.mean) / self.scale) @ self.weights
        return rewards


def read_states(
    params: Params, config: GemmaConfig, answers: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> Float32[np.ndarray, "n D"]:
    """Read the model's state at the last token of each prompt with its answer."""
    found = []
    for start in range(0, len(answers), _ROWS):
        part = answers[start : start + _ROWS]
        laid = lay_rows(part, _ROWS)
        found.append(np.asarray(_read_last(params, config, laid))[: len(part)])
    return np.concatenate(found)


@partial(jax.jit, static_argnames=("config",))
def _read_last(params: Params, config: GemmaConfig, laid: Any) -> Float[Array, "B D"]:
    hidden = forward(params, config, laid.ids, laid.segments, laid.positions)
    last = jnp.maximum(jnp.sum(laid.segments, axis=1) - 1, 0)
    states: Array = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
    return states


def train_head(params: Params, config: GemmaConfig, pairs: Sequence[Preference], steps: int = 300) -> RewardHead:
    """Train a head on pairs, all of them in each step.

    Raises:
        InputError: no pairs.
    """
    if not pairs:
        raise InputError("a reward head learns from pairs, and there are none: let the model answer more problems")
    states = read_states(params, config, [(p.prompt, answer) for p in pairs for answer in (p.chosen, p.rejected)])
    mean, scale = states.mean(axis=0), states.std(axis=0) + 1e-3
    chosen, rejected = ((states[side::2] - mean) / scale for side in (0, 1))
    weights = _fit(jnp.asarray(chosen), jnp.asarray(rejected), steps)
    return RewardHead(np.asarray(weights), mean, scale)


@partial(jax.jit, static_argnames=("steps",))
def _fit(chosen: Float[Array, "n D"], rejected: Float[Array, "n D"], steps: int) -> Float[Array, " D"]:
    optimizer = optax.adamw(_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)

    def compute(weights: Array) -> Array:
        return jnp.mean(compute_bradley_terry(chosen @ weights, rejected @ weights, _CENTRING))

    def step(carry: tuple[Array, optax.OptState], _: None) -> tuple[tuple[Array, optax.OptState], None]:
        weights, state = carry
        updates, state = optimizer.update(jax.grad(compute)(weights), state, weights)
        return (optax.apply_updates(weights, updates), state), None

    start = jnp.zeros(chosen.shape[1])
    (weights, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, length=steps)
    return weights

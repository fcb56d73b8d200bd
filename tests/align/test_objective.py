"""The objectives on a model: what they add to the gradient is what differentiating the loss as it is written gives."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegemma.align.choices import PolicyChoices, PreferenceChoices
from codegemma.align.objective import (
    PairRows,
    PolicyRows,
    TuneRows,
    judge_pairs,
    judge_policy,
    lay_rows,
    lay_values,
    make_objective,
)
from codegemma.feed.groups import number_group
from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import init_params
from codegemma.model.score import score_tokens
from codegemma.records import InfillMode
from codegemma.train.choices import TrainChoices
from codegemma.train.divergence import judge as judge_step
from codegemma.train.divergence import start_watch
from codegemma.train.objective import Rows, compute_held_loss, compute_loss

CONFIG = GemmaConfig(64, 32, 2, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=64, max_positions=64)
# Prompts and answers of several lengths.
WRITTEN = [([2, 9, 8, 7], [11, 12, 13]), ([2, 9, 8, 7], [11, 14]), ([2, 5], [15, 16, 17, 18, 1]), ([2, 5], [15, 1])]


def draw_rows(kind: str) -> Any:
    rng = np.random.default_rng(0)
    laid = lay_rows(WRITTEN)
    arrays: Any = [jnp.asarray(array) for array in laid]
    kinds: Any = {"pairs": PairRows, "policy": PolicyRows}
    if kind == "pairs":
        return kinds[kind](*arrays, jnp.asarray(rng.normal(-9, 1, len(WRITTEN)), jnp.float32))
    # Near what an untrained model says, so that the ratio is clipped for some tokens and not for others.
    old, reference = (
        jnp.asarray(lay_values([rng.normal(-4.1, 0.2, len(answer)).tolist() for _, answer in WRITTEN], laid))
        for _ in range(2)
    )
    return kinds[kind](*arrays, old, reference, jnp.asarray([1.0, -1.0, 0.5, -0.5]))


@pytest.mark.parametrize(
    ("kind", "judge"),
    [
        ("pairs", partial(judge_pairs, choices=PreferenceChoices(beta=0.5))),
        ("policy", partial(judge_policy, choices=PolicyChoices(beta=0.1))),
        ("policy", partial(judge_policy, choices=PolicyChoices(algorithm="reinforce"))),
    ],
)
def test_gradient_is_that_of_the_loss_as_it_is_written(kind: str, judge: Callable[..., Any]) -> None:
    rows, params = draw_rows(kind), init_params(CONFIG, jax.random.key(0))

    def compute_ours(params: Any) -> Any:
        return make_objective(judge, 0.5)(params, CONFIG, TuneRows(rows, None), Execution(), chunk_tokens=16)[0]

    def compute_plainly(params: Any) -> Any:
        logprobs, _ = score_tokens(params, CONFIG, rows.ids, rows.segments, rows.positions)
        return judge(logprobs * rows.loss_weights, rows, lambda value: value)[0]

    ours, plain = jax.grad(compute_ours)(params), jax.grad(compute_plainly)(params)
    assert max(float(jnp.abs(slope).max()) for slope in jax.tree.leaves(plain)) > 1e-3
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_code_is_held_where_the_reference_has_it_and_conversations_are_learned() -> None:
    before, params = (init_params(CONFIG, jax.random.key(seed)) for seed in (0, 1))
    code, talk = number_group("code", "python", InfillMode.PSM), number_group("conversation", "chat", None)
    laid, hold = lay_rows(WRITTEN), 3.0
    groups = np.where(np.arange(len(WRITTEN))[:, None] < 2, code, talk) + np.zeros_like(laid.ids)
    arrays: Any = [jnp.asarray(array) for array in (*laid, groups)]
    rows = Rows(*arrays)

    def compute_ours(params: Any, reference: Any = before) -> Any:
        return compute_held_loss(params, CONFIG, rows, reference=reference, hold=hold, chunk_tokens=16)

    def compute_plainly(params: Any) -> Any:
        now, then = (score_tokens(p, CONFIG, rows.ids, rows.segments, rows.positions)[0] for p in (params, before))
        losses = jnp.where(groups == code, hold / 2 * (now - then) ** 2, -now)
        return jnp.sum(losses * laid.answer) / jnp.sum(laid.answer)

    (_, told), ours = jax.value_and_grad(compute_ours, has_aux=True)(params)
    value, plainly = jax.value_and_grad(compute_plainly)(params)
    assert float(told["loss"]) == pytest.approx(float(value), rel=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), ours, plainly)
    plain = compute_loss(params, CONFIG, rows, chunk_tokens=16)[1]
    for name in told.keys() - {"loss", "judged_loss"}:
        np.testing.assert_allclose(told[name], plain[name], rtol=1e-5)
    # Where nothing was forgotten, nothing pulls: rows of code alone, as rehearsal has them.
    rows = rows._replace(groups=None)
    still = jax.grad(lambda p: compute_ours(p, params)[0])(params)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(still)) < 1e-6


def test_a_batch_of_more_conversation_than_usual_is_no_spike() -> None:
    """Held code adds nothing to the loss: who judges by that skips the batches from which most is learned."""
    params = init_params(CONFIG, jax.random.key(0))
    code, talk = number_group("code", "python", InfillMode.PSM), number_group("conversation", "chat", None)
    laid, places = lay_rows(WRITTEN), np.arange(len(WRITTEN))[:, None]

    def compute(talks: int) -> Any:
        groups = np.where(places < talks, talk, code) + np.zeros_like(laid.ids)
        arrays: Any = [jnp.asarray(array) for array in (*laid, groups)]
        return compute_held_loss(params, CONFIG, Rows(*arrays), reference=params, hold=1.0, chunk_tokens=16)[1]

    choices, norm, watch = TrainChoices(), jnp.float32(1.0), start_watch()
    usual, rich = compute(1), compute(len(WRITTEN))
    assert rich["loss"] > choices.max_loss_ratio * usual["loss"] > 0
    for _ in range(50):
        _, watch = judge_step(watch, usual["judged_loss"], norm, choices)
    assert not judge_step(watch, rich["judged_loss"], norm, choices)[0]
    assert judge_step(watch, 4 * rich["judged_loss"], norm, choices)[0]

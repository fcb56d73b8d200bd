"""A step learns, repeats bit for bit, and does with its gradient what optax's AdamW does."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution, Remat
from codegemma.model.gemma import init_params
from codegemma.records import Batch
from codegemma.train.choices import TrainChoices
from codegemma.train.objective import compute_loss, put_batch
from codegemma.train.step import TrainState, init_state, make_schedule, make_train_step

CONFIG = GemmaConfig(120, 32, 2, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=48)
CHOICES = TrainChoices(batch_rows=4, row_tokens=32, warmup_steps=5, compute_dtype="float32")
STEPS = 40


def draw_batch(seed: int = 0) -> Batch:
    ids = np.random.default_rng(seed).integers(0, CONFIG.vocab_size, (4, 32)).astype(np.int32)
    weights = np.ones(ids.shape, np.float32)
    weights[:, 0] = 0
    positions = np.tile(np.arange(32, dtype=np.int32), (4, 1))
    return Batch(ids, weights, np.ones_like(ids), positions)


def run(choices: TrainChoices, steps: int) -> tuple[TrainState, list[float]]:
    state = init_state(init_params(CONFIG, jax.random.key(0)), choices, STEPS)
    step, losses = make_train_step(CONFIG, choices, STEPS), []
    for number in range(steps):
        state, metrics = step(state, draw_batch(number % 3))
        losses.append(float(metrics["loss"]))
    return state, losses


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_training_on_the_same_batches_learns_them(compute_dtype: Literal["float32", "bfloat16"]) -> None:
    state, losses = run(dataclasses.replace(CHOICES, compute_dtype=compute_dtype), STEPS)
    assert losses[0] > np.log(CONFIG.vocab_size) - 0.5
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    assert state.step == STEPS


def test_repeated_run_is_equal_bit_for_bit() -> None:
    (first, _), (second, _) = run(CHOICES, 4), run(CHOICES, 4)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_update_is_that_of_optax_adamw_with_clipping() -> None:
    choices = dataclasses.replace(CHOICES, clip_norm=0.1)
    params = init_params(CONFIG, jax.random.key(0))
    reference = optax.chain(
        optax.clip_by_global_norm(0.1),
        optax.adamw(
            make_schedule(choices, STEPS),
            choices.beta1,
            choices.beta2,
            choices.adam_epsilon,
            weight_decay=choices.weight_decay,
            mask={name: "norm" not in name for name in params},
        ),
    )
    state, _ = run(choices, 3)
    opt_state = reference.init(params)
    differentiate = jax.jit(jax.grad(lambda params, rows: compute_loss(params, CONFIG, rows)[0]))
    for number in range(3):
        rows = put_batch(draw_batch(number))
        gradient = differentiate(params, rows)
        assert optax.tree.norm(gradient) > 0.1
        updates, opt_state = reference.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
    for name, value in params.items():
        np.testing.assert_allclose(state.params[name], value, atol=2e-5)


def test_norm_weights_do_not_decay_and_matrices_do() -> None:
    choices = dataclasses.replace(CHOICES, weight_decay=0.5)
    params = {name: value + 1.0 for name, value in init_params(CONFIG, jax.random.key(0)).items()}
    batch = dataclasses.replace(draw_batch(), loss_weights=np.zeros((4, 32), np.float32))
    state, metrics = make_train_step(CONFIG, choices, STEPS)(init_state(params, choices, STEPS), batch)
    factor = 1 - 0.5 * float(metrics["learning_rate"])
    for name, value in params.items():
        np.testing.assert_allclose(state.params[name], value if "norm" in name else value * factor, rtol=1e-5)


def test_schedule_rises_to_the_peak_and_falls_to_its_share() -> None:
    choices = dataclasses.replace(CHOICES, final_lr_share=0.1)
    rates = np.array([float(make_schedule(choices, STEPS)(jnp.array(n))) for n in range(STEPS + 1)])
    peak = choices.peak_learning_rate
    np.testing.assert_allclose(rates[:5], peak * np.arange(1, 6) / 5, rtol=1e-5)
    assert np.all(np.diff(rates[5:]) < 0)
    np.testing.assert_allclose(rates[[5, STEPS]], [peak, 0.1 * peak], rtol=1e-5)


def test_run_shorter_than_its_warmup_still_has_a_schedule() -> None:
    for steps in (1, 2, 4):
        rates = [float(make_schedule(CHOICES, steps)(jnp.array(n))) for n in range(steps)]
        assert all(0 < rate <= 1.0001 * CHOICES.peak_learning_rate for rate in rates)


def test_state_that_went_in_is_consumed() -> None:
    state = init_state(init_params(CONFIG, jax.random.key(0)), CHOICES, STEPS)
    make_train_step(CONFIG, CHOICES, STEPS)(state, draw_batch())
    assert state.params["q"].is_deleted()


def test_parameters_handed_over_are_not_consumed() -> None:
    params = init_params(CONFIG, jax.random.key(0))
    make_train_step(CONFIG, CHOICES, STEPS)(init_state(params, CHOICES, STEPS), draw_batch())
    assert np.isfinite(params["q"]).all()


@pytest.mark.parametrize("remat", ["full", "qkvo", "offload"])
def test_recomputation_changes_no_gradient(remat: Remat) -> None:
    params, rows = init_params(CONFIG, jax.random.key(0)), put_batch(draw_batch())

    def differentiate(execution: Execution) -> dict[str, jax.Array]:
        gradient: dict[str, jax.Array] = jax.jit(jax.grad(lambda p: compute_loss(p, CONFIG, rows, execution)[0]))(
            params
        )
        return gradient

    kept = differentiate(Execution(unroll=False))
    for name, slope in differentiate(Execution(unroll=False, remat=remat)).items():
        np.testing.assert_allclose(slope, kept[name], atol=1e-5 * float(jnp.max(jnp.abs(kept[name]))), rtol=0)

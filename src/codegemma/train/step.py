"""One training step: gradient, clipping, AdamW; compiled once, bit for bit the same when repeated.

**In**: the state and a batch.
**Out**: the next state (the old one's memory is reused) and the step's metrics.
**Not**: the loop, logging and checkpoints.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params
from codegemma.records import Batch
from codegemma.train.choices import TrainChoices
from codegemma.train.objective import Metrics, Rows, compute_loss, put_batch


class TrainState(NamedTuple):
    """Everything that a step changes. `step` counts the finished steps."""

    step: Int[Array, ""]
    params: Params
    opt_state: Any


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_schedule(choices: TrainChoices, total_steps: int) -> optax.Schedule:
    """Rise linearly over the warm-up, then fall linearly to the final share of the peak."""
    warmup = min(choices.warmup_steps, max(total_steps - 1, 0))
    peak = choices.peak_learning_rate
    fall = optax.linear_schedule(peak, peak * choices.final_lr_share, max(total_steps - warmup, 1))
    if warmup == 0:
        return fall
    # The first step already learns: it runs at 1/warmup of the peak, not at 0.
    rise = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    return optax.join_schedules([rise, fall], [warmup])


def make_optimizer(choices: TrainChoices, total_steps: int) -> optax.GradientTransformation:
    """Clip by the global norm, then AdamW; norm weights do not decay."""

    def is_decayed(params: Params) -> dict[str, bool]:
        return {name: not name.endswith("norm") for name in params}

    return optax.chain(
        optax.clip_by_global_norm(choices.clip_norm),
        optax.adamw(
            make_schedule(choices, total_steps),
            b1=choices.beta1,
            b2=choices.beta2,
            eps=choices.adam_epsilon,
            weight_decay=choices.weight_decay,
            mask=is_decayed,
        ),
    )


def init_state(params: Params, choices: TrainChoices, total_steps: int) -> TrainState:
    """Start from these parameters, in float32, with an optimiser that has seen nothing. The parameters are copied."""
    params = {name: jnp.array(value, jnp.float32) for name, value in params.items()}
    return TrainState(jnp.zeros((), jnp.int32), params, make_optimizer(choices, total_steps).init(params))


def make_train_step(config: GemmaConfig, choices: TrainChoices, total_steps: int) -> TrainStep:
    """Compile the step. The state that goes in is consumed: use the one that comes out.

    Metrics are those of `compute_loss`, `gradient_norm` (before clipping) and `learning_rate`.
    """
    optimizer = make_optimizer(choices, total_steps)
    schedule = make_schedule(choices, total_steps)

    def run(state: TrainState, rows: Rows) -> tuple[TrainState, Metrics]:
        def loss_of(params: Params) -> tuple[Array, Metrics]:
            return compute_loss(
                params,
                config,
                rows,
                compute_dtype=jnp.dtype(choices.compute_dtype),
                chunk_tokens=choices.loss_chunk_tokens,
                z_loss=choices.z_loss,
                remat=choices.remat,
            )

        gradients, metrics = jax.grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics |= {"gradient_norm": optax.tree.norm(gradients), "learning_rate": schedule(state.step)}
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics

    compiled = jax.jit(run, donate_argnums=0)
    return lambda state, batch: compiled(state, put_batch(batch))

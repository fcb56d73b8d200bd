"""One training step: gradient, clipping, AdamW; compiled once, bit for bit the same when repeated.

**In**: the state and a batch.
**Out**: the next state (the old one's memory is reused) and the step's metrics.
**Not**: the loop, logging and checkpoints.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Int

from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution, take_as_it_is
from codegemma.model.gemma import Params
from codegemma.model.kernels import choose_attention
from codegemma.model.sharding import AXES, ROW_AXES, add_up, complete_gradients, gather, specify_by_hand
from codegemma.records import Batch
from codegemma.train.choices import TrainChoices
from codegemma.train.objective import Metrics, Rows, compute_loss, put_batch

_MAX_UNROLLED_LAYERS = 8


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


def make_train_step(
    config: GemmaConfig, choices: TrainChoices, total_steps: int, mesh: Mesh | None = None
) -> TrainStep:
    """Compile the step. The state that goes in is consumed: use the one that comes out.

    Metrics are those of `compute_loss`, `gradient_norm` (before clipping) and `learning_rate`.
    """
    compiled = jax.jit(write_train_step(config, choices, total_steps, mesh), donate_argnums=0)
    return lambda state, batch: compiled(state, put_batch(batch))


def write_train_step(
    config: GemmaConfig, choices: TrainChoices, total_steps: int, mesh: Mesh | None = None
) -> Callable[[TrainState, Rows], tuple[TrainState, Metrics]]:
    """Write the step as a function of arrays, on one device or on a mesh, to be compiled by whoever needs it."""
    optimizer = make_optimizer(choices, total_steps)
    schedule = make_schedule(choices, total_steps)
    differentiate = _differentiate_on_one(config, choices) if mesh is None else _divide(config, choices, mesh)

    def run(state: TrainState, rows: Rows) -> tuple[TrainState, Metrics]:
        gradients, metrics = differentiate(state.params, rows)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics |= {"gradient_norm": optax.tree.norm(gradients), "learning_rate": schedule(state.step)}
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics

    return run


Differentiate = Callable[[Params, Rows], tuple[Params, Metrics]]


def _differentiate_on_one(config: GemmaConfig, choices: TrainChoices) -> Differentiate:
    loss = partial(
        compute_loss,
        execution=choose_execution(config, choices),
        chunk_tokens=choices.loss_chunk_tokens,
        z_loss=choices.z_loss,
    )
    return jax.grad(lambda params, rows: loss(params, config, rows), has_aux=True)


def _divide(config: GemmaConfig, choices: TrainChoices, mesh: Mesh) -> Differentiate:
    """Give each device its rows and its part of the weights, which it gathers layer by layer."""
    execution = choose_execution(config, choices, mesh)
    loss = partial(
        compute_loss, execution=execution, chunk_tokens=choices.loss_chunk_tokens, z_loss=choices.z_loss, add_up=add_up
    )

    def differentiate(params: Params, rows: Rows) -> tuple[Params, Metrics]:
        gradients, metrics = jax.grad(lambda params: loss(params, config, rows), has_aux=True)(params)
        return complete_gradients(gradients), metrics

    parts = specify_by_hand(config)
    divided_rows: Any = PartitionSpec(ROW_AXES)
    divided: Differentiate = jax.shard_map(
        differentiate,
        mesh=mesh,
        in_specs=(parts, Rows(*[divided_rows] * len(Rows._fields))),
        out_specs=(parts, PartitionSpec()),
        # Pallas' kernels want every axis in hand; one that divides something is left to XLA.
        axis_names=set(AXES) if mesh.shape["tensor"] == 1 else set(ROW_AXES),
        check_vma=False,
    )
    return divided


def choose_execution(config: GemmaConfig, choices: TrainChoices, mesh: Mesh | None = None) -> Execution:
    """Turn a run's choices into how its rows are computed on these devices."""
    device = jax.local_devices()[0] if mesh is None else mesh.devices.flat[0]
    dtype = jnp.dtype(choices.compute_dtype)
    kernel = choose_attention(config, device, choices.row_tokens) if choices.attention == "auto" else choices.attention
    return Execution(
        compute_dtype=dtype,
        activation_dtype=jnp.dtype(choices.activation_dtype),
        remat=choices.remat,
        # XLA's CPU backend runs a chain of layers faster than a loop; a long chain takes long to compile.
        unroll=device.platform == "cpu" and config.num_layers <= _MAX_UNROLLED_LAYERS,
        attention=kernel,
        gather=take_as_it_is if mesh is None else partial(gather, compute_dtype=dtype),
        tensor_axis="tensor" if mesh is not None and mesh.shape["tensor"] > 1 else None,
    )

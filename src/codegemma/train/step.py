"""One training step: gradient, clipping, AdamW; compiled once, bit for bit the same when repeated.

**In**: the state and a batch; with adapters, the frozen parameters that they hang on.
**Out**: the next state (the old one's memory is reused) and the step's metrics.
**Not**: the loop, logging and checkpoints.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution, take_as_it_is
from codegemma.model.gemma import Params
from codegemma.model.kernels import choose_attention
from codegemma.model.lora import attach, init_adapters
from codegemma.model.sharding import AXES, ROW_AXES, add_up, complete_gradients, gather, specify_by_hand
from codegemma.model.vocabulary import ALONE, Vocabulary, divide_vocabulary
from codegemma.train.choices import LoraChoices, TrainChoices
from codegemma.train.divergence import Watch, describe_watch, judge, keep_if_bad, start_watch
from codegemma.train.objective import Metrics, compute_loss
from codegemma.train.placement import place_tree, put_rows

_MAX_UNROLLED_LAYERS = 8


class TrainState(NamedTuple):
    """Everything that a step changes.

    `step` counts the finished steps, bad ones too; `params` are the model's, or adapters alone; `watch` knows what is
    usual.
    """

    step: Int[Array, ""]
    params: Params
    opt_state: Any
    watch: Watch


# A batch is a `records.Batch`, or any tree of arrays whose first axis is that of the rows.
TrainStep = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
# Parameters, shape, rows, execution; `chunk_tokens`, `z_loss` and `add_up` by name. As `compute_loss`, which is one.
Objective = Callable[..., tuple[Array, Metrics]]


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
    params = jax.tree.map(lambda value: jnp.array(value, jnp.float32), params)
    opt_state = make_optimizer(choices, total_steps).init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state, start_watch())


def describe_trained(config: GemmaConfig, lora: LoraChoices | None = None) -> Params:
    """Describe what is trained: adapters, or all parameters of a model."""
    if lora is None or lora.rank is None:
        return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in config.shape_params().items()}
    rank, targets = lora.rank, lora.targets
    described: Params = jax.eval_shape(lambda: init_adapters(config, rank, targets, jax.random.key(0)))
    return described


def describe_state(
    trained: Params, config: GemmaConfig, choices: TrainChoices, total_steps: int, mesh: Mesh | None
) -> TrainState:
    """Describe the state that `init_state` makes, each array with its place on the mesh; nothing is allocated."""
    state: TrainState = jax.eval_shape(lambda trained: init_state(trained, choices, total_steps), trained)
    if mesh is None:
        return state
    described: TrainState = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        state,
        place_tree(state, config, mesh),
    )
    return described


def start_state(
    trained: Params, config: GemmaConfig, choices: TrainChoices, total_steps: int, mesh: Mesh | None
) -> TrainState:
    """Start as `init_state` does, on a mesh if there is one: each device gets its part of what is trained."""
    if mesh is None:
        return init_state(trained, choices, total_steps)
    places = jax.tree.map(lambda leaf: leaf.sharding, describe_state(trained, config, choices, total_steps, mesh))
    make = jax.jit(lambda trained: init_state(trained, choices, total_steps), out_shardings=places)
    made: TrainState = make(trained)
    return made


def make_train_step(  # noqa: PLR0917
    config: GemmaConfig,
    choices: TrainChoices,
    total_steps: int,
    mesh: Mesh | None = None,
    frozen: Params | None = None,
    objective: Objective = compute_loss,
    reference: Params | None = None,
) -> TrainStep:
    """Compile the step. The state that goes in is consumed: use the one that comes out.

    `frozen` is the base of adapters, where `choices.lora` trains those; `reference` a model that the objective compares
    with, where it does. Metrics are those of `compute_loss`, `gradient_norm` (before clipping), `learning_rate` and
    those of `describe_watch`; with another `objective`, its own.
    """
    step = write_train_step(config, choices, total_steps, mesh, objective)
    if mesh is None:
        compiled = jax.jit(step, donate_argnums=0)
    else:
        trained = describe_trained(config, None if frozen is None else choices.lora)
        state = describe_state(trained, config, choices, total_steps, mesh)
        places = jax.tree.map(lambda leaf: leaf.sharding, state)
        compiled = jax.jit(step, donate_argnums=0, out_shardings=(places, NamedSharding(mesh, PartitionSpec())))
    return lambda state, batch: compiled(state, put_rows(batch, mesh), frozen, reference)


def write_train_step(
    config: GemmaConfig,
    choices: TrainChoices,
    total_steps: int,
    mesh: Mesh | None = None,
    objective: Objective = compute_loss,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Write the step as a function of arrays, on one device or on a mesh, to be compiled by whoever needs it.

    It takes the state, the rows, the base of adapters where these are trained, and a reference if any. Where the loss
    does not tell a usual step, as those of policies, which may be zero or less, a `judged_loss` among the metrics does.
    """
    optimizer = make_optimizer(choices, total_steps)
    schedule = make_schedule(choices, total_steps)
    write = _differentiate_on_one if mesh is None else partial(_divide, mesh=mesh)
    differentiate = write(config, choices, objective)

    def run(
        state: TrainState, rows: Any, frozen: Params | None = None, reference: Params | None = None
    ) -> tuple[TrainState, Metrics]:
        gradients, metrics = differentiate(state.params, rows, frozen, reference, state.step)
        norm = optax.tree.norm(gradients)
        is_bad, watch = judge(state.watch, metrics.get("judged_loss", metrics["loss"]), norm, choices)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = keep_if_bad(is_bad, optax.apply_updates(state.params, updates), state.params)
        opt_state = keep_if_bad(is_bad, opt_state, state.opt_state)
        metrics |= {"gradient_norm": norm, "learning_rate": schedule(state.step)} | describe_watch(watch)
        return TrainState(state.step + 1, params, opt_state, watch), metrics

    return run


def join_params(
    trained: Params, frozen: Params | None, choices: TrainChoices, step: Int[Array, ""] | None = None, part: Any = 0
) -> Params:
    """Put together what `gemma.py` takes: the trained parameters, or adapters on the frozen ones.

    With a step, adapters drop what `choices` leave out; `part` is the number of the device, which has rows of its own.
    """
    if frozen is None:
        return trained
    key = None if step is None else jax.random.fold_in(jax.random.fold_in(jax.random.key(choices.seed), step), part)
    return attach(frozen, trained, choices.lora.scale, choices.lora.dropout, key)


# Trained parameters, rows, frozen parameters, those of a reference, number of the step.
Differentiate = Callable[[Params, Any, Params | None, Params | None, Int[Array, ""]], tuple[Params, Metrics]]


def _differentiate_on_one(config: GemmaConfig, choices: TrainChoices, objective: Objective) -> Differentiate:
    loss = partial(
        objective,
        execution=choose_execution(config, choices),
        chunk_tokens=choices.loss_chunk_tokens,
        z_loss=choices.z_loss,
    )

    def differentiate(
        trained: Params, rows: Any, frozen: Params | None, reference: Params | None, step: Array
    ) -> tuple[Params, Metrics]:
        compare = _give_reference(loss, reference)
        gradient = jax.grad(lambda t: compare(join_params(t, frozen, choices, step), config, rows), has_aux=True)
        gradients, metrics = gradient(trained)
        return gradients, metrics

    return differentiate


def _give_reference(loss: Objective, reference: Params | None) -> Objective:
    return loss if reference is None else partial(loss, reference=reference)


def _divide(config: GemmaConfig, choices: TrainChoices, objective: Objective, mesh: Mesh) -> Differentiate:
    """Give each device its rows and its part of the weights, which it gathers layer by layer."""
    execution = choose_execution(config, choices, mesh)
    loss = partial(
        objective, execution=execution, chunk_tokens=choices.loss_chunk_tokens, z_loss=choices.z_loss, add_up=add_up
    )

    def differentiate(
        trained: Params, rows: Any, frozen: Params | None, reference: Params | None, step: Array
    ) -> tuple[Params, Metrics]:
        part, compare = lax.axis_index(ROW_AXES), _give_reference(loss, reference)
        gradients, metrics = jax.grad(
            lambda t: compare(join_params(t, frozen, choices, step, part), config, rows), has_aux=True
        )(trained)
        return complete_gradients(gradients), metrics

    def run(
        trained: Params, rows: Any, frozen: Params | None, reference: Params | None, step: Array
    ) -> tuple[Params, Metrics]:
        parts, *others = (specify_by_hand(config, params) for params in (trained, frozen, reference))
        divided_rows: Any = PartitionSpec(ROW_AXES)
        divided: Differentiate = jax.shard_map(
            differentiate,
            mesh=mesh,
            in_specs=(parts, divided_rows, *others, PartitionSpec()),
            out_specs=(parts, PartitionSpec()),
            # Pallas' kernels want every axis in hand; one that divides something is left to XLA.
            axis_names=set(AXES) if mesh.shape["tensor"] == 1 else set(ROW_AXES),
            check_vma=False,
        )
        return divided(trained, rows, frozen, reference, step)

    return run


def _share_vocabulary(config: GemmaConfig, choices: TrainChoices, mesh: Mesh | None) -> Vocabulary:
    if mesh is None:
        return ALONE
    devices, dtype = mesh.shape["fsdp"], jnp.dtype(choices.compute_dtype)
    if mesh.shape["tensor"] > 1:
        # That axis divides the vocabulary already; the columns are gathered.
        return Vocabulary(devices, compute_dtype=dtype)
    tokens = choices.batch_rows * choices.row_tokens // (mesh.shape["data"] * devices)
    return divide_vocabulary(devices, config.vocab_size, config.embed_dim, tokens, dtype)


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
        vocabulary=_share_vocabulary(config, choices, mesh),
    )

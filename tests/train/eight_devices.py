"""A program of its own: eight virtual devices must be asked for before JAX starts. Prints differences as JSON."""

import dataclasses
import json
import sys
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import init_params
from codegemma.model.lora import init_adapters
from codegemma.model.quantize import quantize_params
from codegemma.model.sharding import divide_rows, make_mesh, place_params
from codegemma.train.choices import LoraChoices, TrainChoices
from codegemma.train.objective import Rows
from codegemma.train.start import Start
from codegemma.train.step import init_state, make_optimizer, write_train_step

ROWS, TOKENS, STEPS = 8, 64, 3


def draw_rows(config: GemmaConfig, seed: int) -> Rows:
    """Draw packed rows: two segments each, weights between 0 and 1."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, config.vocab_size, (ROWS, TOKENS)).astype(np.int32)
    segments = np.where(np.arange(TOKENS) < 40, 1, 2) + np.zeros((ROWS, 1), np.int64)
    positions = np.where(np.arange(TOKENS) < 40, np.arange(TOKENS), np.arange(TOKENS) - 40) + np.zeros((ROWS, 1), int)
    weights = random.random((ROWS, TOKENS)).astype(np.float32)
    return Rows(*(jnp.asarray(a) for a in (ids, weights, segments.astype(np.int32), positions.astype(np.int32))))


def make_start(config: GemmaConfig, choices: TrainChoices) -> Start:
    """Draw a model; with adapters, none of whose matrices is zero, it is frozen, as floats or as integers."""
    params = init_params(config, jax.random.key(0))
    if choices.lora.rank is None:
        return Start(params)
    fresh = init_adapters(config, choices.lora.rank, choices.lora.targets, jax.random.key(1))
    drawn = {t: pair | {"b": 0.1 * jax.random.normal(jax.random.key(2), pair["b"].shape)} for t, pair in fresh.items()}
    is_rounded = choices.lora.base_dtype == "int4"
    return Start(drawn, quantize_params(params, 4) | {"emb": params["emb"]} if is_rounded else params)


def compare(config: GemmaConfig, choices: TrainChoices) -> dict[str, float]:
    """Train a few steps on one device and on the mesh; return the largest relative differences."""
    start = make_start(config, choices)
    alone = jax.jit(write_train_step(config, dataclasses.replace(choices, mesh=(1, 1, 1)), STEPS))
    mesh = make_mesh(choices.mesh)
    divided = jax.jit(write_train_step(config, choices, STEPS, mesh))
    state = init_state(start.trained, choices, STEPS)
    placed = jax.device_put(start.trained, place_params(mesh, config, start.trained))
    frozen = start.frozen and jax.device_put(start.frozen, place_params(mesh, config, start.frozen))
    state_8 = state._replace(params=placed, opt_state=make_optimizer(choices, STEPS).init(placed))
    worst: dict[str, float] = {"loss": 0.0, "gradient_norm": 0.0}
    for step in range(STEPS):
        rows = draw_rows(config, step)
        state, metrics = alone(state, rows, start.frozen)
        rows_8 = Rows(*(jax.device_put(a, divide_rows(mesh)) for a in rows))
        state_8, metrics_8 = divided(state_8, rows_8, frozen)
        for name in ("loss", "gradient_norm"):
            worst[name] = max(worst[name], abs(float(metrics_8[name]) / float(metrics[name]) - 1))
    after = jax.tree_util.tree_leaves_with_path(state.params)
    others = zip(jax.tree.leaves(start.trained), jax.tree.leaves(state_8.params), strict=True)
    for (path, value), (old, other) in zip(after, others, strict=True):
        change = max(float(jnp.max(jnp.abs(value - old))), 1e-9)
        worst[jax.tree_util.keystr(path)] = float(np.max(np.abs(np.asarray(value) - np.asarray(other)))) / change
    return worst


def main() -> None:
    """Compare every combination that the command line asks for."""
    kv_heads, tensor, remat, chunk, base_dtype = sys.argv[1:6]
    config = GemmaConfig(512, 64, 3, num_heads=4, num_kv_heads=int(kv_heads), head_dim=32, mlp_dim=96)
    # "none" trains the model itself, anything else adapters on it.
    lora = LoraChoices() if base_dtype == "none" else LoraChoices(rank=4, alpha=8.0, base_dtype=cast(Any, base_dtype))
    choices = TrainChoices(
        batch_rows=ROWS, row_tokens=TOKENS, warmup_steps=0, adam_epsilon=1e-3, compute_dtype="float32", lora=lora,
        remat=cast(Any, remat), loss_chunk_tokens=int(chunk), z_loss=1e-3, mesh=(2, -1, int(tensor)),
    )  # fmt: skip
    print(json.dumps({"devices": len(jax.devices()), **compare(config, choices)}))


if __name__ == "__main__":
    main()

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
from codegemma.model.sharding import divide_params, divide_rows, make_mesh
from codegemma.train.choices import TrainChoices
from codegemma.train.objective import Rows
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


def compare(config: GemmaConfig, choices: TrainChoices) -> dict[str, float]:
    """Train a few steps on one device and on the mesh; return the largest relative differences."""
    params = init_params(config, jax.random.key(0))
    alone = jax.jit(write_train_step(config, dataclasses.replace(choices, mesh=(1, 1, 1)), STEPS))
    mesh = make_mesh(choices.mesh)
    divided = jax.jit(write_train_step(config, choices, STEPS, mesh))
    state = init_state(params, choices, STEPS)
    places = divide_params(mesh, config)
    placed = {name: jax.device_put(value, places[name]) for name, value in params.items()}
    state_8 = state._replace(params=placed, opt_state=make_optimizer(choices, STEPS).init(placed))
    worst: dict[str, float] = {"loss": 0.0, "gradient_norm": 0.0}
    for step in range(STEPS):
        rows = draw_rows(config, step)
        state, metrics = alone(state, rows)
        state_8, metrics_8 = divided(state_8, Rows(*(jax.device_put(a, divide_rows(mesh)) for a in rows)))
        for name in ("loss", "gradient_norm"):
            worst[name] = max(worst[name], abs(float(metrics_8[name]) / float(metrics[name]) - 1))
    for name, value in state.params.items():
        change = float(jnp.max(jnp.abs(value - params[name])))
        worst[name] = float(np.max(np.abs(np.asarray(value) - np.asarray(state_8.params[name])))) / max(change, 1e-9)
    return worst


def main() -> None:
    """Compare every combination that the command line asks for."""
    kv_heads, tensor, remat, chunk = sys.argv[1:5]
    config = GemmaConfig(512, 64, 3, num_heads=4, num_kv_heads=int(kv_heads), head_dim=32, mlp_dim=96)
    choices = TrainChoices(
        batch_rows=ROWS, row_tokens=TOKENS, warmup_steps=0, adam_epsilon=1e-3, compute_dtype="float32",
        remat=cast(Any, remat), loss_chunk_tokens=int(chunk), z_loss=1e-3, mesh=(2, -1, int(tensor)),
    )  # fmt: skip
    print(json.dumps({"devices": len(jax.devices()), **compare(config, choices)}))


if __name__ == "__main__":
    main()

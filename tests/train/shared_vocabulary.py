"""A program of its own: four virtual devices share the embedding in every way there is. Prints differences as JSON."""

import json
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import Params, init_params
from codegemma.model.sharding import add_up, complete_gradients, gather, make_mesh, specify_by_hand
from codegemma.model.vocabulary import Vocabulary
from codegemma.train.objective import Rows, compute_loss

from .eight_devices import draw_rows

CONFIG = GemmaConfig(96, 64, 1, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=64)
DEVICES, CHUNK = 4, 50


def compute_alone(params: Params, rows: Rows) -> tuple[Params, Any]:
    """Compute gradients and metrics on one device."""
    loss = partial(compute_loss, chunk_tokens=CHUNK, z_loss=1e-3)
    computed: tuple[Params, Any] = jax.grad(lambda params: loss(params, CONFIG, rows), has_aux=True)(params)
    return computed


def compute_shared(params: Params, rows: Rows, lookers: int, scorers: int) -> tuple[Params, Any]:
    """Compute the same on four devices of which so many look up, and score, together."""
    execution = Execution(
        gather=partial(gather, compute_dtype=jnp.float32), vocabulary=Vocabulary(DEVICES, lookers, scorers, jnp.float32)
    )
    loss = partial(compute_loss, execution=execution, chunk_tokens=CHUNK, z_loss=1e-3, add_up=add_up)

    def differentiate(params: Params, rows: Rows) -> tuple[Params, Any]:
        gradients, metrics = jax.grad(lambda params: loss(params, CONFIG, rows), has_aux=True)(params)
        return complete_gradients(gradients), metrics

    parts = specify_by_hand(CONFIG, params)
    divided: Any = PartitionSpec(("data", "fsdp"))
    shared = jax.shard_map(
        differentiate, mesh=make_mesh((1, DEVICES, 1)), in_specs=(parts, Rows(*[divided] * len(rows))),
        out_specs=(parts, PartitionSpec()), check_vma=False,
    )  # fmt: skip
    return jax.jit(shared)(params, rows)  # type: ignore[no-any-return]


def main() -> None:
    """Compare one way of sharing with one device."""
    lookers, scorers = map(int, sys.argv[1:3])
    params, rows = init_params(CONFIG, jax.random.key(0)), draw_rows(CONFIG, 0)
    rows = rows._replace(groups=rows.segments)
    (alone, metrics), (shared, metrics_shared) = (
        compute_alone(params, rows),
        compute_shared(params, rows, lookers, scorers),
    )
    pairs = {name: (alone[name], shared[name]) for name in alone} | {
        name: (metrics[name], metrics_shared[name]) for name in metrics
    }
    differences = {
        name: float(np.max(np.abs(np.asarray(one) - np.asarray(other))) / np.max(np.abs(np.asarray(one))))
        for name, (one, other) in pairs.items()
    }
    print(json.dumps(differences))


if __name__ == "__main__":
    main()

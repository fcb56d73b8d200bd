"""The layers' weights, stacked or apart: who trains keeps them stacked, who only reads on a CPU takes them apart.

**In**: parameters as `gemma.py` describes them.
**Out**: `run_layers`, which walks either; `take_apart`, which lays small models out for a CPU.
**Not**: what a layer computes.

A loop over a stack copies each weight before its product, and products that share their rows join their weights each
time. Both cost nothing where the rows are many. Where a single token is read they cost more than the product.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from codegemma.model.lora import LORA
from codegemma.model.products import Joined

State = TypeVar("State")
# Stacked over layers; each may be an array, or integers with their scales.
STACKED_NAMES = ("attn_norm", "q", "kv", "o", "ffw_norm", "gate_up", "down")
# A tuple of dictionaries, one a layer, in the place of the stacks.
_APART = "layers"
# The embedding turned round, `[D V]`, beside itself: several rows are scored with it in half the time.
UNEMBEDDING = "unembedding"
# A chain of layers takes long to compile, and the copy takes memory.
_MAX_LAYERS = 8
_MAX_BYTES = 2**31
_MAX_UNEMBEDDING_BYTES = 2**26


def take_apart(params: dict[str, Any]) -> dict[str, Any]:
    """Lay each layer out by itself, what one product takes joined; a large, deep or quantised model stays stacked."""
    stacks = {name: params[name] for name in STACKED_NAMES}
    if not all(isinstance(stack, jax.Array) for stack in stacks.values()):
        return params
    if len(stacks["q"]) > _MAX_LAYERS or sum(stack.nbytes for stack in stacks.values()) > _MAX_BYTES:
        return params
    rest = {name: value for name, value in params.items() if name not in stacks}
    layers = tuple(_lay_out({name: stack[n] for name, stack in stacks.items()}) for n in range(len(stacks["q"])))
    table = rest["emb"]
    if isinstance(table, jax.Array) and table.dtype == jnp.float32 and table.nbytes <= _MAX_UNEMBEDDING_BYTES:
        rest[UNEMBEDDING] = jnp.array(table.T)
    return rest | {_APART: layers}


def is_apart(params: dict[str, Any]) -> bool:
    """Tell whether each layer is laid out by itself."""
    return _APART in params


def run_layers(
    run_layer: Callable[[State, tuple[Any, dict[str, Any]]], State],
    start: State,
    params: dict[str, Any],
    unroll: bool | int,
) -> State:
    """Let each layer change the state in turn: it gets the state, its number and its own part of the parameters."""
    if _APART in params:
        state = start
        for n, layer in enumerate(params[_APART]):
            state = run_layer(state, (n, layer | dict(_take_adapter(params, n))))
        return state
    stacks = {name: params[name] for name in (*STACKED_NAMES, LORA) if name in params}
    numbers = jnp.arange(len(params["attn_norm"]))

    def run(state: State, numbered: tuple[Any, dict[str, Any]]) -> tuple[State, None]:
        return run_layer(state, numbered), None

    return lax.scan(run, start, (numbers, stacks), unroll=unroll)[0]


def _take_adapter(params: dict[str, Any], n: int) -> Iterator[tuple[str, Any]]:
    if LORA in params:
        yield LORA, jax.tree.map(lambda leaf: leaf[n], params[LORA])


def _lay_out(layer: dict[str, Any]) -> dict[str, Any]:
    width = layer["attn_norm"].shape[-1]
    query = [part.reshape(width, -1) for part in (layer["q"], *layer["kv"])]
    return {
        "attn_norm": layer["attn_norm"],
        "qkv": Joined.join(query),
        "o": layer["o"],
        "ffw_norm": layer["ffw_norm"],
        "gate_up": Joined.join(tuple(layer["gate_up"])),
        "down": layer["down"],
    }

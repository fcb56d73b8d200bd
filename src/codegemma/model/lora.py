"""Low-rank adapters: small matrices beside frozen ones, and all that a training on them changes.

**In**: the shape of a model, a rank, which of its seven matrices get an adapter; frozen parameters, floats or integers.
**Out**: `Adapters`, a pytree of its own; `attach` hangs it on parameters, which the functions of `gemma.py` then take.
**Not**: files (`formats/peft.py`), and no gradient of what is frozen.

A product `x W` becomes `x W + scale (x A) B` (Hu et al. 2021, 2106.09685, section 4.1). Adding `A B` to `W` first would
be less code and would need the gradient of the whole matrix, a third of the step's work. `B` begins as zeros, so that
fresh adapters change no bit of any result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from codegemma.model.config import GemmaConfig
from codegemma.model.formats.peft import TARGETS, AdapterFile, shape_target
from codegemma.model.products import multiply_each

# By target, such as "q": "a" [N I R] and "b" [N R O]; heads are flat, as in products.
Adapters = dict[str, dict[str, Array]]
# Where they hang in a dictionary of parameters.
LORA = "lora"


@partial(jax.tree_util.register_dataclass, data_fields=("matrices", "keys"), meta_fields=("scale", "dropout"))
@dataclass(frozen=True, slots=True)
class Attached:
    """Adapters that hang on parameters, of all layers or of one.

    `keys` draw what dropout leaves out, one for each layer; `None` leaves nothing out.
    """

    matrices: Any
    keys: Any
    scale: float
    dropout: float


@partial(jax.tree_util.register_dataclass, data_fields=("matrices", "rows"), meta_fields=())
@dataclass(frozen=True, slots=True)
class AttachedByRow:
    """Several adapters at once, `E` of them: `matrices` are "a" [N E I R] and "b" [N E R O], their scale within.

    `rows` [N B] tells which one each row of the batch takes, for each layer the same.
    """

    matrices: Any
    rows: Any


def stack_adapters(config: GemmaConfig, files: Sequence[AdapterFile]) -> Adapters:
    """Lay adapters side by side, behind one that changes nothing; smaller ranks are filled up with zeros."""
    rank = max(file.rank for file in files)
    stacked: Adapters = {}
    for target in sorted({target for file in files for target in file.matrices}):
        inputs, outputs = shape_target(config, target)
        a = np.zeros((config.num_layers, len(files) + 1, inputs, rank), np.float32)
        b = np.zeros((config.num_layers, len(files) + 1, rank, outputs), np.float32)
        for number, file in enumerate(files, 1):
            if target in file.matrices:
                left, right = file.matrices[target]
                a[:, number, :, : file.rank], b[:, number, : file.rank] = left, right * file.scale
        stacked[target] = {"a": jnp.asarray(a), "b": jnp.asarray(b)}
    return stacked


def attach_by_row(params: dict[str, Any], stacked: Adapters, rows: Array) -> dict[str, Any]:
    """Hang stacked adapters on parameters: row `b` takes adapter `rows[b]`, 0 for none."""
    layers = next(iter(stacked.values()))["a"].shape[0]
    return params | {LORA: AttachedByRow(stacked, jnp.broadcast_to(rows, (layers, rows.shape[0])))}


def init_adapters(config: GemmaConfig, rank: int, targets: Sequence[str], key: Array) -> Adapters:
    """Draw `A` uniformly within the inverse root of its inputs, as PEFT does, and begin `B` with zeros."""
    adapters: Adapters = {}
    for target, drawn in zip(targets, jax.random.split(key, len(targets)), strict=True):
        inputs, outputs = shape_target(config, target)
        bound = inputs**-0.5
        a = jax.random.uniform(drawn, (config.num_layers, inputs, rank), jnp.float32, -bound, bound)
        adapters[target] = {"a": a, "b": jnp.zeros((config.num_layers, rank, outputs), jnp.float32)}
    return adapters


def attach(
    params: dict[str, Any], adapters: Adapters, scale: float, dropout: float = 0.0, key: Array | None = None
) -> dict[str, Any]:
    """Hang adapters on parameters, which stay what they are; without a key nothing is dropped."""
    layers = next(iter(adapters.values()))["a"].shape[0]
    keys = None if key is None or not dropout else jax.random.split(key, layers)
    return params | {LORA: Attached(adapters, keys, scale, dropout)}


def add_low_rank(
    products: tuple[Array, ...], x: Float[Array, "*rows I"], layer: dict[str, Any], targets: tuple[str, ...], dtype: Any
) -> tuple[Array, ...]:
    """Add to the products of the same rows with several matrices what the adapters of these make of the rows."""
    attached = layer.get(LORA)
    if isinstance(attached, AttachedByRow):
        return tuple(y + _multiply_by_row(x, attached, t, dtype) for t, y in zip(targets, products, strict=True))
    pairs = {} if attached is None else {t: attached.matrices[t] for t in targets if t in attached.matrices}
    if attached is None or not pairs:
        return products
    if attached.keys is None:
        narrow = multiply_each(x, tuple(pair["a"] for pair in pairs.values()), dtype)
    else:
        narrow = tuple(multiply_each(_drop(x, attached, t), (pair["a"],), dtype)[0] for t, pair in pairs.items())
    wide = {
        t: multiply_each(y, (pair["b"],), dtype)[0] * attached.scale
        for (t, pair), y in zip(pairs.items(), narrow, strict=True)
    }
    return tuple(y + wide[t] if t in wide else y for t, y in zip(targets, products, strict=True))


def _multiply_by_row(x: Float[Array, "B T I"], attached: AttachedByRow, target: str, dtype: Any) -> Array:
    if target not in attached.matrices:
        return jnp.zeros((), jnp.float32)
    a, b = (attached.matrices[target][side][attached.rows].astype(dtype) for side in ("a", "b"))
    narrow = jnp.einsum("bti,bir->btr", x.astype(dtype), a, preferred_element_type=jnp.float32)
    wide: Array = jnp.einsum("btr,bro->bto", narrow.astype(dtype), b, preferred_element_type=jnp.float32)
    return wide


def _drop(x: Array, attached: Attached, target: str) -> Array:
    """Leave out a share of the numbers, others for each target, and raise the rest: the mean stays."""
    key = jax.random.fold_in(attached.keys, TARGETS.index(target))
    is_kept = jax.random.bernoulli(key, 1 - attached.dropout, x.shape)
    return jnp.where(is_kept, x / (1 - attached.dropout), 0)

"""What a run starts from and what it leaves: a model of its own, or adapters on a frozen one.

**In**: a base or none, a shape, choices; at the end, what was trained.
**Out**: `Start`, the trained and the frozen parameters; the model's folder, which for adapters is PEFT's layout.
**Not**: steps. Of a frozen base nothing is in the train state: neither gradient nor optimiser nor checkpoint know it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.formats import peft
from codegemma.model.formats.parts import DTYPES
from codegemma.model.formats.table import open_weights
from codegemma.model.gemma import Params, init_params
from codegemma.model.lineage import Lineage
from codegemma.model.lora import init_adapters
from codegemma.model.quantize import Bits, load_quantized, load_rounded, quantize_params, widen
from codegemma.model.sharding import divide_params
from codegemma.model.weights import load_model, save_model
from codegemma.model.write import write_adapter_model
from codegemma.train.choices import LoraChoices, TrainChoices
from codegemma.train.placement import put_params, use_host

_BITS: Mapping[str, Bits] = {"int8": 8, "int4": 4}
_FLOATS: Mapping[str, Literal["bf16", "f32"]] = {"bfloat16": "bf16", "float32": "f32"}


class Start(NamedTuple):
    """`trained` is what a step changes; `frozen` the base of adapters, `None` where the model itself is trained."""

    trained: Params
    frozen: Params | None = None


def load_start(base: Path | None, config: GemmaConfig, choices: TrainChoices, mesh: Mesh | None = None) -> Start:
    """Load the base's parameters, or draw fresh ones; with `train.lora`, adapters on the base that is frozen.

    Each process reads its base whole, in its host's memory, and its devices get their parts. Fresh parameters are the
    same for every mesh.

    A base that is an adapter already goes on as that adapter.

    Raises:
        InputError: the base cannot be read, or is an adapter of other choices.
    """
    if base is None:
        return Start(draw_params(config, jax.random.key(choices.seed), mesh))
    with use_host(mesh):
        return place_start(_load_base(base, config, choices), config, mesh)


def load_reference(place: Path, config: GemmaConfig, mesh: Mesh | None = None) -> Params:
    """Load a model that a run compares with, each device of a mesh its part; adapters are merged into their base.

    Raises:
        InputError: the model cannot be read.
    """
    with use_host(mesh):
        return place_start(Start(load_model(place)[0]), config, mesh).trained


def place_start(start: Start, config: GemmaConfig, mesh: Mesh | None) -> Start:
    """Give each device of a mesh its part."""
    if mesh is None:
        return start
    frozen = None if start.frozen is None else put_params(start.frozen, config, mesh)
    return Start(put_params(start.trained, config, mesh), frozen)


def draw_params(config: GemmaConfig, key: Array, mesh: Mesh | None) -> Params:
    """Draw fresh parameters, each where it is to lie: no device of a mesh ever holds them all."""
    if mesh is None:
        return init_params(config, key)
    drawn: Params = jax.jit(lambda: init_params(config, key), out_shardings=divide_params(mesh, config))()
    return drawn


def _load_base(base: Path, config: GemmaConfig, choices: TrainChoices) -> Start:
    key = jax.random.key(choices.seed)
    if choices.lora.rank is None:
        return Start(load_model(base)[0])
    root = find_root(base)
    frozen = _load_frozen(root, choices)
    if root == base:
        return Start(init_adapters(config, choices.lora.rank, choices.lora.targets, key), frozen)
    return Start(_read_adapters(base, config, choices.lora), frozen)


def find_root(base: Path) -> Path:
    """Find what is frozen: the base itself, or that of an adapter which the run goes on with."""
    return peft.locate_base(base) if peft.recognize(base) else base


def make_blank(config: GemmaConfig, choices: TrainChoices, mesh: Mesh | None = None) -> Start:
    """Make a start of the same arrays without a base's values, to measure steps with."""
    if choices.lora.rank is None:
        return Start(draw_params(config, jax.random.key(0), mesh))
    with use_host(mesh):
        return place_start(_make_blank_adapters(config, choices, choices.lora.rank), config, mesh)


def _make_blank_adapters(config: GemmaConfig, choices: TrainChoices, rank: int) -> Start:
    stored = "bfloat16" if choices.lora.base_dtype == "stored" else choices.lora.base_dtype
    dtype = jnp.dtype("float32" if stored in _BITS else stored)
    params: Params = {name: jnp.zeros(shape, dtype) for name, shape in config.shape_params().items()}
    frozen = _hold_embedding(quantize_params(params, _BITS[stored]), choices) if stored in _BITS else params
    return Start(init_adapters(config, rank, choices.lora.targets, jax.random.key(0)), frozen)


def save_result(
    folder: Path,
    base: Path | None,
    config: GemmaConfig,
    choices: TrainChoices,
    trained: Params,
    *,
    lineage: Lineage,
    files: Mapping[str, bytes],
) -> None:
    """Write the model's folder: weights, or the adapters with the name of their base.

    Raises:
        OutputError: no permission, no space, or the folder holds something that is not a model.
    """
    lora = choices.lora
    if lora.rank is None or base is None:
        save_model(folder, trained, config, dtype=choices.save_dtype, lineage=lineage, extra_files=files)
        return
    name, revision = peft.name_base(find_root(base))
    adapter = peft.AdapterFile(
        rank=lora.rank,
        alpha=lora.alpha,
        scale=lora.scale,
        dropout=lora.dropout,
        matrices={t: (np.asarray(pair["a"]), np.asarray(pair["b"])) for t, pair in trained.items()},
        base=name,
        revision=revision,
    )
    write_adapter_model(folder, config, adapter, lineage, files)


def _load_frozen(place: Path, choices: TrainChoices) -> Params:
    dtype = choices.lora.base_dtype
    if dtype == "stored" and (loaded := load_quantized(place)) is not None:
        return _hold_embedding(loaded[0], choices)
    if dtype in _BITS:
        return _hold_embedding(load_rounded(place, _BITS[dtype])[0], choices)
    if dtype == "stored":
        # Anything but bfloat16 is held exactly only in float32 (float16 has a narrower range and more digits).
        return load_model(place, "bf16" if open_weights(place).dtype == DTYPES["bf16"] else "f32")[0]
    return load_model(place, _FLOATS[dtype])[0]


def _hold_embedding(params: Params, choices: TrainChoices) -> Params:
    """Hold the embedding, which is the output too, as the floats that products take: the loss reads all of it."""
    return params | {"emb": widen(params["emb"]).astype(jnp.dtype(choices.compute_dtype))}


def _read_adapters(place: Path, config: GemmaConfig, lora: LoraChoices) -> Params:
    found = peft.read_adapter(place, config)
    wanted = (lora.rank, set(lora.targets), lora.scale)
    if (found.rank, set(found.matrices), found.scale) != wanted:
        raise InputError(
            f"{place} is an adapter of rank {found.rank}, scale {found.scale:g}, on {', '.join(found.matrices)}; "
            f"wanted is rank {lora.rank}, scale {lora.scale:g}, on {', '.join(lora.targets)}: choose the same with "
            f"--set train.lora..., or merge it first: codegemma convert {place} MERGED --to hf"
        )
    return {t: {"a": jnp.asarray(a), "b": jnp.asarray(b)} for t, (a, b) in found.matrices.items()}

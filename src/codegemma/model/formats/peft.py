"""Adapters in the layout of PEFT (https://github.com/huggingface/peft): `adapter_config.json` and safetensors.

**In**: a folder that PEFT or `write_adapter` wrote; the base that it names, or one that is given.
**Out**: `AdapterFile`; the weights of the base with the adapter merged into them, part by part; or the folder.
**Not**: what PEFT has besides plain LoRA of the seven matrices: refused by name. A base is checked by its hash where
the lineage beside the adapter has one, else by shapes alone.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.formats.folder import read_json
from codegemma.model.formats.parts import DTYPES, Part, Weights, shape_part
from codegemma.model.formats.safetensors_file import map_tensors, write_tensors
from codegemma.model.hub import locate_model
from codegemma.model.lineage import LINEAGE_FILE, find_hub_id
from codegemma.shards import hash_files

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
# Our name of a matrix -> its stack in `gemma.py`, which of a pair it is, and PEFT's module.
_TARGETS: Mapping[str, tuple[str, tuple[int, ...], str]] = {
    "q": ("q", (), "self_attn.q_proj"),
    "k": ("kv", (0,), "self_attn.k_proj"),
    "v": ("kv", (1,), "self_attn.v_proj"),
    "o": ("o", (), "self_attn.o_proj"),
    "gate": ("gate_up", (0,), "mlp.gate_proj"),
    "up": ("gate_up", (1,), "mlp.up_proj"),
    "down": ("down", (), "mlp.down_proj"),
}
TARGETS = tuple(_TARGETS)
_MODULES = {module.rpartition(".")[2]: target for target, (_, _, module) in _TARGETS.items()}
_PREFIX = "base_model.model.model.layers."
# What would make more of an adapter than two matrices a target, and what it is where it does not.
_FOREIGN_OPTIONS: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "use_dora": (False,),
    "fan_in_fan_out": (False,),
    "lora_bias": (False,),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "modules_to_save": ([],),
    "layers_to_transform": ([],),
    "layer_replication": ([],),
    "trainable_token_indices": ([],),
    "target_parameters": ([],),
    "use_qalora": (False,),
}


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter as it lies in a folder. `matrices` are by target: `A` as [N, I, R] and `B` as [N, R, O], float32.

    `scale` multiplies their product: alpha over the rank, or over its root where PEFT's `use_rslora` is on. `base` is
    what the folder calls its base, `base_hash` what the lineage says that this one's files hash to.
    """

    rank: int
    alpha: float
    scale: float
    dropout: float
    matrices: Mapping[str, tuple[np.ndarray, np.ndarray]]
    base: str
    revision: str | None = None
    base_hash: str | None = None


def shape_target(config: GemmaConfig, target: str) -> tuple[int, int]:
    """Tell inputs and outputs of one of the seven matrices.

    >>> config = GemmaConfig(512, 192, 1, num_heads=3, num_kv_heads=1, head_dim=64, mlp_dim=768)
    >>> shape_target(config, "v"), shape_target(config, "o"), shape_target(config, "down")
    ((192, 64), (192, 192), (768, 192))
    """
    stack, pair, _ = _TARGETS[target]
    shape = shape_part(config, Part(stack, (0, *pair)))
    inputs = 2 if target == "o" else 1
    return math.prod(shape[:inputs]), math.prod(shape[inputs:])


def recognize(place: Path) -> bool:
    """Tell whether a folder holds an adapter."""
    return (place / CONFIG_FILE).is_file()


def open_weights(place: Path, open_base: Callable[[Path], Weights], base: Path | None = None) -> Weights:
    """Open the base of an adapter with the adapter merged into it; nothing of the base is read yet.

    Merged parts are read in float32; `dtype` is the base's, to which they are rounded when they are written without
    a word about it. `base` goes before what the folder names.

    Raises:
        InputError: no such base, another base than the one that it was trained on, a matrix that is missing or of
            another shape, or more than plain LoRA.
    """
    opened = open_base(base or locate_base(place))
    adapter = read_adapter(place, opened.config)
    check_base(place, adapter, opened)
    by_part = {(stack, pair): target for target, (stack, pair, _) in _TARGETS.items() if target in adapter.matrices}

    def read(part: Part, rows: slice) -> np.ndarray:
        plain = opened.read(part, rows)
        target = by_part.get((part.name, part.at[1:]))
        if target is None:
            return plain
        a, b = (matrix[part.at[0]] for matrix in adapter.matrices[target])
        added = (a @ b).reshape(shape_part(opened.config, part))[rows]
        merged: np.ndarray = plain.astype(np.float32) + np.float32(adapter.scale) * added
        return merged

    files = (*(place / name for name in (CONFIG_FILE, WEIGHTS_FILE)), *opened.files)
    return replace(opened, place=place, format="peft", read=read, files=files)


def locate_base(place: Path) -> Path:
    """Find the base that an adapter names: a folder, as it is or seen from the adapter's, or an id of the hub.

    Raises:
        InputError: it is in none of them, or cannot be fetched.
    """
    about = _read_about(place)
    name = str(about.get("base_model_name_or_path") or "")
    for folder in (Path(name), place / name):
        if name and folder.exists():
            return folder
    revision = about.get("revision")
    found = locate_model(f"{name}@{revision}" if name and revision else name)
    if not name or not found.exists():
        raise InputError(
            f"{place} is an adapter of {name or 'a base that it does not name'}, which is not here; write where its "
            f"base is as base_model_name_or_path into {CONFIG_FILE}, or name both: codegemma convert BASE DST --to hf "
            f"--adapter {place}"
        )
    return found


def read_adapter(place: Path, config: GemmaConfig) -> AdapterFile:
    """Read an adapter of a model of some shape.

    Raises:
        InputError: a matrix that is missing or of another shape, an unknown target, or more than plain LoRA.
    """
    about = _read_about(place)
    rank, alpha = _read_number(place, about, "r"), _read_number(place, about, "lora_alpha")
    if rank < 1 or rank != int(rank):
        raise InputError(f"{place / CONFIG_FILE} has r {rank:g}; wanted a whole number of at least 1")
    tensors = dict(map_tensors(place / WEIGHTS_FILE))
    named = about.get("target_modules")
    modules = [str(name).rpartition(".")[2] for name in named] if isinstance(named, list) else _find_modules(tensors)
    if unknown := sorted(set(modules) - _MODULES.keys()):
        raise InputError(
            f"{place / CONFIG_FILE} adapts {', '.join(unknown)}; known are {', '.join(_MODULES)}: it is an adapter of "
            "another architecture, or of more than is merged here"
        )
    targets = sorted({_MODULES[name] for name in modules}, key=TARGETS.index)
    matrices = {t: _take(place, config, t, int(rank), tensors) for t in targets}
    if tensors:
        raise InputError(
            f"{place / WEIGHTS_FILE} holds {len(tensors)} tensors more than {config.num_layers} layers and "
            f"{', '.join(targets)} have, {next(iter(tensors))} among them: it is an adapter of another base"
        )
    return AdapterFile(
        rank=int(rank),
        alpha=alpha,
        scale=alpha / (rank**0.5 if about.get("use_rslora") else rank),
        dropout=float(about.get("lora_dropout") or 0.0),
        matrices=matrices,
        base=str(about.get("base_model_name_or_path") or ""),
        revision=about.get("revision"),
        base_hash=_read_base_hash(place),
    )


def check_base(place: Path, adapter: AdapterFile, base: Weights) -> None:
    """Compare a base with the one that an adapter was trained on.

    Raises:
        InputError: it is another one.
    """
    if adapter.base_hash is not None and (came := hash_files(base.files)) != adapter.base_hash:
        raise InputError(
            f"{place} was trained on a base whose files hash to {adapter.base_hash}; those of {base.place} hash to "
            f"{came}: it is another model, or was converted since. Name the very base in {CONFIG_FILE}"
        )


def write_adapter(folder: Path, config: GemmaConfig, adapter: AdapterFile) -> None:
    """Write an adapter into a folder, in float32, as `peft` loads it."""
    shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
    blocks: list[np.ndarray] = []
    for target, (a, b) in adapter.matrices.items():
        for layer in range(config.num_layers):
            for side, matrix in (("A", a), ("B", b)):
                block = np.ascontiguousarray(np.asarray(matrix[layer], np.float32).T)
                shapes[_name_tensor(target, layer, side)] = block.shape, DTYPES["f32"]
                blocks.append(block)
    write_tensors(folder / WEIGHTS_FILE, shapes, blocks)
    plain = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "revision": adapter.revision,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": [_TARGETS[target][2].rpartition(".")[2] for target in adapter.matrices],
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def name_base(place: Path) -> tuple[str, str | None]:
    """Spell a base for `adapter_config.json`: id and revision of a hub's model, else the folder's absolute path."""
    return find_hub_id(place) or (str(place.absolute()), None)


def _name_tensor(target: str, layer: int, side: str) -> str:
    return f"{_PREFIX}{layer}.{_TARGETS[target][2]}.lora_{side}.weight"


def _find_modules(tensors: Mapping[str, Any]) -> list[str]:
    """Name the modules by the tensors, where the config has a pattern in the place of a list."""
    return sorted({name.partition(".lora_")[0].rpartition(".")[2] for name in tensors})


def _take(
    place: Path, config: GemmaConfig, target: str, rank: int, tensors: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Stack one target's matrices over the layers, and take them out of `tensors`."""
    inputs, outputs = shape_target(config, target)
    stacks = []
    for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
        layers = []
        for layer in range(config.num_layers):
            name = _name_tensor(target, layer, side)
            found = tensors.pop(name, None)
            if found is None or found.shape != shape:
                came = "is missing" if found is None else f"is {list(found.shape)}"
                raise InputError(
                    f"{place / WEIGHTS_FILE}: {name} {came}; wanted {list(shape)}: the adapter belongs on another "
                    "base, or its folder was not copied whole"
                )
            layers.append(found.T.astype(np.float32))
        stacks.append(np.stack(layers))
    return stacks[0], stacks[1]


def _read_about(place: Path) -> dict[str, Any]:
    about = read_json(place / CONFIG_FILE)
    if about.get("peft_type") != "LORA":
        raise InputError(f"{place / CONFIG_FILE} has peft_type {about.get('peft_type')!r}; wanted 'LORA'")
    for name, plain in _FOREIGN_OPTIONS.items():
        value = about.get(name)
        if value is not None and value not in plain:
            raise InputError(
                f"{place / CONFIG_FILE} has {name} {value!r}, which is more than two matrices for each target; merge "
                "the adapter with PEFT (merge_and_unload) and take the whole model"
            )
    return about


def _read_number(place: Path, about: Mapping[str, Any], name: str) -> float:
    value = about.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{place / CONFIG_FILE} has {name} {value!r}; wanted a number; copy the adapter again")
    return float(value)


def _read_base_hash(place: Path) -> str | None:
    """Read from the lineage which base the adapter was trained on; `None` for one that others wrote."""
    if not (place / LINEAGE_FILE).is_file():
        return None
    steps = read_json(place / LINEAGE_FILE).get("steps")
    for step in reversed(steps if isinstance(steps, list) else []):
        if isinstance(step, dict) and step.get("adapter_of"):
            return str(step["adapter_of"])
    return None

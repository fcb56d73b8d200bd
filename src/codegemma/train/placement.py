"""Puts a run's state and batches on its devices, and takes the parameters back whole.

**In**: choices, a state or a batch of host arrays.
**Out**: arrays that lie where `model/sharding.py` says, on one device, on many, or on those of several processes.
**Not**: collectives within a step; those are in `step.py`.

Every process makes the whole batch and places its own rows of it: the loader is deterministic, so the batches of a run
are the same for any number of processes and any mesh.
"""

import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params
from codegemma.model.sharding import (
    AXES,
    check_mesh,
    divide_params,
    divide_rows,
    fill_in_mesh,
    make_mesh,
    place_params,
)
from codegemma.records import Batch
from codegemma.train.choices import TrainChoices
from codegemma.train.objective import Rows, put_batch

_log = logging.getLogger(__name__)


def open_mesh(config: GemmaConfig, choices: TrainChoices) -> Mesh | None:
    """Lay out the devices that a run uses: all, or the first ones where its mesh names fewer; `None` for a single one.

    Where nobody chose a mesh, as many devices of this process are used as divide the model and the batch.

    Raises:
        InputError: the mesh is not of these devices, or does not divide the model or the batch.
    """
    devices = jax.devices()
    if jax.process_count() == 1:
        size = int(np.prod(choices.mesh))
        is_chosen = choices.mesh != TrainChoices().mesh
        devices = devices[: size if size > 0 else None if is_chosen else _count_usable(config, choices, len(devices))]
    mesh = make_mesh(choices.mesh, devices)
    try:
        check_mesh(mesh.shape, config, choices.batch_rows)
    except InputError as error:
        one = "" if jax.process_count() > 1 else "; --set train.mesh=1,1,1 uses one device"
        raise InputError(f"{error} (--set train.mesh, train.batch_rows){one}") from error
    return None if len(devices) == 1 else mesh


def _count_usable(config: GemmaConfig, choices: TrainChoices, devices: int) -> int:
    reason = ""
    for count in range(devices, 1, -1):
        try:
            check_mesh(dict(zip(AXES, fill_in_mesh(choices.mesh, count), strict=True)), config, choices.batch_rows)
        except InputError as error:
            reason = reason or str(error)
        else:
            break
    else:
        count = 1
    if count < devices:
        _log.warning("uses %s of %s devices: %s", count, devices, reason)
    return count


def count_devices(mesh: Mesh | None) -> int:
    """Count the devices of a run."""
    return 1 if mesh is None else mesh.size


def put_rows(batch: Any, mesh: Mesh | None) -> Any:
    """Hand a batch, or any tree of arrays by rows, to the devices: each gets its rows."""
    if mesh is None:
        return put_batch(batch) if isinstance(batch, Batch) else jax.tree.map(jnp.asarray, batch)
    divided = divide_rows(mesh)

    def place(array: np.ndarray) -> Array:
        # By what each device holds, not by process: where a tensor axis spans processes, two hold the same rows.
        return jax.make_array_from_callback(array.shape, divided, lambda part: array[part])

    if not isinstance(batch, Batch):
        return jax.tree.map(place, batch)
    parts: Any = (batch.ids, batch.loss_weights, batch.segments, batch.positions, batch.groups)
    return jax.tree.map(place, Rows(*parts))


def place_tree(tree: Any, config: GemmaConfig, mesh: Mesh) -> Any:
    """Give each leaf of a state its sharding: what is kept for a parameter lies where the parameter lies."""
    places = divide_params(mesh, config)
    shapes = config.shape_params()
    everywhere = NamedSharding(mesh, PartitionSpec())

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        names = [key.key for key in path if getattr(key, "key", None) in places]
        return places[names[0]] if names and tuple(leaf.shape) == tuple(shapes[names[0]]) else everywhere

    return jax.tree_util.tree_map_with_path(place, tree)


def put_params(params: Params, config: GemmaConfig, mesh: Mesh) -> Params:
    """Divide parameters of a model over a mesh, or lay adapters and integers on each device of it."""

    def place(value: Any, sharding: NamedSharding) -> Array:
        host = np.asarray(value)
        return jax.make_array_from_callback(host.shape, sharding, lambda part: host[part])

    placed: Params = jax.tree.map(place, params, place_params(mesh, config, params))
    return placed


@contextlib.contextmanager
def use_host(mesh: Mesh | None) -> Iterator[None]:
    """Make arrays in the host's memory, where a device of a mesh would not hold them whole."""
    devices = None
    with contextlib.suppress(RuntimeError):  # JAX_PLATFORMS names no cpu
        devices = None if mesh is None else jax.local_devices(backend="cpu")
    with contextlib.nullcontext() if devices is None else jax.default_device(devices[0]):
        yield


def take_whole(tree: Any, *, is_wanted: bool = True) -> Any:
    """Bring divided arrays to this process's host memory; all processes call this, those that want them get them.

    Layer by layer, since a device would not hold a stack of layers beside its part of the state.
    """
    return jax.tree.map(lambda value: _take_array(value, is_wanted), tree)


def _take_array(value: Array, is_wanted: bool) -> np.ndarray | None:
    if value.is_fully_addressable:
        return np.asarray(value) if is_wanted else None
    if value.ndim < 3:
        whole = np.asarray(_replicate(value))
        return whole if is_wanted else None
    found = np.empty(value.shape, value.dtype) if is_wanted else None
    for layer in range(value.shape[0]):
        part = _replicate(_take_layer(value, layer))
        if found is not None:
            found[layer] = np.asarray(part)
    return found


def _replicate(value: Array) -> Array:
    sharding: Any = value.sharding
    whole: Array = _make_replicate(NamedSharding(sharding.mesh, PartitionSpec()))(value)
    return whole


@functools.cache
def _make_replicate(everywhere: NamedSharding) -> Any:
    return jax.jit(lambda value: value, out_shardings=everywhere)


@jax.jit
def _take_layer(value: Array, layer: int) -> Array:
    part: Array = lax.dynamic_index_in_dim(value, layer, keepdims=False)
    return part

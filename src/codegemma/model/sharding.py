"""Which part of each parameter lies on which device: one table, three axes.

**In**: a mesh with the axes `data`, `fsdp` and `tensor`, the shape of a model.
**Out**: shardings for parameters, optimiser state and batches; `gather`, which makes a weight whole where it is used.
**Not**: collectives for the tensor axis: XLA derives those from the table.

`data` holds copies, `fsdp` divides every large parameter over the devices that also divide the batch (ZeRO-3,
Rajbhandari et al. 2020), `tensor` divides heads, feed-forward and vocabulary (Shoeybi et al. 2019). A weight is
gathered one layer at a time in the format of the products, and its gradient goes back scattered: between layers no
device holds more than its part. (XLA may write the scattering as an all-reduce of
which a part is kept: libtpu 0.0.42 does.)
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.vocabulary import add_scattered

AXES = ("data", "fsdp", "tensor")
ROW_AXES = ("data", "fsdp")
# Without the layer axis, which is never divided. One key/value head (2B) cannot be divided: it lies on every device.
# Norms are small: all have them.
_SPECS: dict[str, PartitionSpec] = {
    "emb": PartitionSpec("tensor", "fsdp"),
    "attn_norm": PartitionSpec(),
    "q": PartitionSpec("fsdp", "tensor", None),
    "kv": PartitionSpec(None, "fsdp", "tensor", None),
    "o": PartitionSpec("tensor", None, "fsdp"),
    "ffw_norm": PartitionSpec(),
    "gate_up": PartitionSpec(None, "fsdp", "tensor"),
    "down": PartitionSpec("tensor", "fsdp"),
    "final_norm": PartitionSpec(),
}
_UNSTACKED = frozenset({"emb", "final_norm"})
_WHOLE = PartitionSpec()


def make_mesh(sizes: Sequence[int], devices: Sequence[Any] | None = None) -> Mesh:
    """Lay devices out along `data`, `fsdp` and `tensor`; one size may be -1, for what is left.

    >>> dict(make_mesh((1, -1, 1), jax.devices()[:1]).shape)
    {'data': 1, 'fsdp': 1, 'tensor': 1}

    Raises:
        InputError: the sizes are not those of this number of devices.
    """
    from jax.experimental import mesh_utils

    devices = jax.devices() if devices is None else devices
    shape = fill_in_mesh(sizes, len(devices))
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices > 1:
        if shape[0] % slices:
            raise InputError(f"{slices} slices need a data axis that they divide, got {shape[0]}; choose a multiple")
        inner = (shape[0] // slices, *shape[1:])
        laid_out = mesh_utils.create_hybrid_device_mesh(inner, (slices, 1, 1), devices)
    elif devices[0].platform == "tpu":
        laid_out = mesh_utils.create_device_mesh(shape, devices)
    else:
        laid_out = np.array(devices).reshape(shape)
    return Mesh(laid_out, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def fill_in_mesh(sizes: Sequence[int], devices: int) -> tuple[int, ...]:
    """Put the number of devices that are left in the place of -1.

    >>> fill_in_mesh((1, -1, 2), 8)
    (1, 4, 2)

    Raises:
        InputError: the sizes are not those of this number of devices.
    """
    known = int(np.prod([size for size in sizes if size != -1]))
    open_sizes = sum(size == -1 for size in sizes)
    is_possible = len(sizes) == len(AXES) and open_sizes <= 1 and known > 0 and devices % known == 0
    shape = tuple(devices // known if size == -1 else size for size in sizes) if is_possible else ()
    if not is_possible or int(np.prod(shape)) != devices:
        raise InputError(
            f"a mesh of {' x '.join(map(str, sizes))} ({', '.join(AXES)}) does not hold {devices} device"
            f"{'s' * (devices != 1)}; choose sizes whose product is {devices}, one of them may be -1"
        )
    return shape


def check_mesh(mesh: Mapping[str, int], config: GemmaConfig, rows: int) -> None:
    """Refuse sizes of a mesh that does not divide the model or the batch, before anything is compiled.

    Raises:
        InputError: what cannot be divided, by what, and what would be possible.
    """
    wanted = {
        "rows of a batch": (rows, mesh["data"] * mesh["fsdp"], "data x fsdp"),
        "embed_dim": (config.embed_dim, mesh["fsdp"], "fsdp"),
        "num_heads": (config.num_heads, mesh["tensor"], "tensor"),
        "mlp_dim": (config.mlp_dim, mesh["tensor"], "tensor"),
        "vocab_size": (config.vocab_size, mesh["tensor"], "tensor"),
    }
    for what, (size, devices, axis) in wanted.items():
        if size % devices:
            raise InputError(
                f"{size} {what} cannot be divided over {devices} devices ({axis}); choose a mesh whose {axis} "
                f"divides {size}, or another number of {what}"
            )
    heads, tensor = config.num_kv_heads, mesh["tensor"]
    if heads > 1 and heads % tensor:
        raise InputError(f"{heads} key/value heads cannot be divided over {tensor} devices (tensor); choose a divisor")


def specify_params(config: GemmaConfig) -> dict[str, PartitionSpec]:
    """Tell how each stacked parameter of a model is divided."""
    specs = {name: spec if name in _UNSTACKED else PartitionSpec(None, *spec) for name, spec in _SPECS.items()}
    if config.num_kv_heads == 1:
        specs["kv"] = PartitionSpec(None, None, "fsdp", None, None)
    return specs


def specify_by_hand(config: GemmaConfig, params: Mapping[str, Any] | None) -> dict[str, PartitionSpec] | None:
    """Tell the same without the tensor axis: what `jax.shard_map` is told, who leaves that axis to XLA.

    Of `params`: of the model's, and of others (adapters, integers) that they lie whole on every device.
    """
    specs = {
        name: PartitionSpec(*(axis if axis == "fsdp" else None for axis in spec))
        for name, spec in specify_params(config).items()
    }
    return None if params is None else {n: specs[n] if _is_divided(n, v) else _WHOLE for n, v in params.items()}


def place_params(mesh: Mesh, config: GemmaConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """Give the sharding of every array in parameters of a model, of integers, or in adapters.

    Adapters are small, and integers a quarter of what is divided otherwise: they lie whole on every device, so that
    none waits for another's.
    """
    places, whole = divide_params(mesh, config), NamedSharding(mesh, _WHOLE)
    return {
        name: places[name] if _is_divided(name, value) else jax.tree.map(lambda _: whole, value)
        for name, value in params.items()
    }


def _is_divided(name: str, value: Any) -> bool:
    return name in _SPECS and hasattr(value, "shape") and hasattr(value, "dtype") and not hasattr(value, "qvalue")


def divide_params(mesh: Mesh, config: GemmaConfig) -> dict[str, NamedSharding]:
    """Give the sharding of each parameter, for `jax.device_put`, `jax.jit` and checkpoints."""
    return {name: NamedSharding(mesh, spec) for name, spec in specify_params(config).items()}


def divide_rows(mesh: Mesh) -> NamedSharding:
    """Give the sharding of a batch: rows over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(ROW_AXES))


def gather(name: str, part: Any, compute_dtype: Any) -> Any:
    """Make one layer's weight whole over `fsdp`, in the format of the products: inside `jax.shard_map` only."""
    spec = _SPECS[name]
    if not isinstance(part, jax.Array):
        return part  # integers are whole everywhere
    return _gather(part, tuple(spec).index("fsdp"), jnp.dtype(compute_dtype)) if "fsdp" in spec else part


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(part: Array, axis: int, compute_dtype: Any) -> Array:
    whole: Array = lax.all_gather(part.astype(compute_dtype), "fsdp", axis=axis, tiled=True)
    return whole


def _gather_forward(part: Array, axis: int, compute_dtype: Any) -> tuple[Array, None]:
    return _gather(part, axis, compute_dtype), None


def _gather_backward(axis: int, compute_dtype: Any, saved: None, slope: Array) -> tuple[Array]:  # noqa: ARG001
    return (add_scattered(slope, axis, compute_dtype),)


_gather.defvjp(_gather_forward, _gather_backward)


def add_up(value: Array) -> Array:
    """Add a number over all devices that hold other rows: inside `jax.shard_map` only."""
    total: Array = lax.psum(value, ROW_AXES)
    return total


def complete_gradients(gradients: dict[str, Any]) -> dict[str, Any]:
    """Add what `gather` has not: over `data` always, over `fsdp` where a parameter is not divided over it."""

    def axes(name: str) -> tuple[str, ...]:
        return ("data",) if "fsdp" in _SPECS.get(name, ()) and isinstance(gradients[name], jax.Array) else ROW_AXES

    return {name: lax.psum(slope, axes(name)) for name, slope in gradients.items()}

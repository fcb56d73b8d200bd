"""Compiles the real training step for accelerators that are not here, and reads off what it will need.

**In**: the shape of a model, choices, a topology.
**Out**: a `Plan`: memory a chip, collectives, operations, bounds on time; or a `Misfit` with XLA's own words.
**Not**: a run. What a step takes in time cannot be told without the chip: bounds are bounds, and are named so.

libtpu compiles for a TPU on any machine (`pip install "codegemma[tpu]"`). For a GPU nothing is compiled: arguments and
operations are counted, the rest is unknown.
"""

import dataclasses
import hashlib
import os
import time
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.sharding import check_mesh, divide_rows, fill_in_mesh, make_mesh
from codegemma.train.chips import Topology
from codegemma.train.choices import TrainChoices
from codegemma.train.collectives import Collective, list_collectives
from codegemma.train.flops import count_attention, count_flops, count_model
from codegemma.train.objective import Rows
from codegemma.train.step import TrainState, describe_state, describe_trained, write_train_step

# The schedule's length changes a constant of the program, not its size.
_SOME_STEPS = 1000
# What libtpu reads to find out where it is: here it is nowhere.
_NO_TPU_HERE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# A single chip and a TPU's host of four are named to libtpu with the chips of one host.
_HOST_SHAPES = {"v5e:1x1": (1, 1, 1)}


@dataclass(frozen=True, slots=True)
class Plan:
    """What one compiled step needs of each chip.

    `argument_bytes` are parameters, optimiser state and batch; `peak_bytes` the most that is held at once; both are
    XLA's own. `host_bytes` were offloaded. `program_flops` count all chips, recomputation included. For a GPU,
    `peak_bytes` is `None` and there are no collectives: nothing was compiled.
    """

    topology: Topology
    mesh: dict[str, int]
    rows: int
    row_tokens: int
    remat: str
    attention: str
    argument_bytes: int
    temp_bytes: int | None
    peak_bytes: int | None
    host_bytes: int
    program_flops: float
    model_flops_per_token: float
    collectives: tuple[Collective, ...]
    compile_s: float
    program_hash: str
    versions: dict[str, str]

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.rows * self.row_tokens

    @property
    def compute_s(self) -> float:
        """What the products alone take at the chip's peak: no step is faster."""
        return self.program_flops / self.topology.chips / self.topology.chip.bf16_flops

    @property
    def memory_s(self) -> float:
        """What it takes to read and write the arguments once: no step is faster."""
        return 2 * self.argument_bytes / self.topology.chip.memory_bytes_per_s

    @property
    def link_s(self) -> float:
        """What the collectives take at the links' peak, were nothing to overlap."""
        return sum(c.moved_bytes for c in self.collectives) / self.topology.chip.link_bytes_per_s

    @property
    def bound_tokens_per_s(self) -> float:
        """Tokens a second over all chips that no step can exceed."""
        return self.tokens / max(self.compute_s, self.memory_s)

    def tokens_per_s_at(self, mfu: float) -> float:
        """Tokens a second at a share of the peak, counting what the model needs with causal attention halved."""
        return mfu * self.topology.chips * self.topology.chip.bf16_flops / self.model_flops_per_token


@dataclass(frozen=True, slots=True)
class Misfit:
    """A step that does not fit: the compiler's own words."""

    topology: Topology
    rows: int
    reason: str


def plan_step(config: GemmaConfig, choices: TrainChoices, topology: Topology) -> Plan | Misfit:
    """Compile the step of `choices` for a topology.

    Raises:
        InputError: libtpu is not installed, does not know the topology, or the mesh does not divide model or batch.
    """
    if topology.chip.kind == "gpu":
        return _count_only(config, choices, topology)
    mesh = make_mesh(choices.mesh, list_devices(topology))
    check_mesh(mesh.shape, config, choices.batch_rows)
    state, rows = describe_arguments(config, choices, mesh)
    step = write_train_step(config, choices, _SOME_STEPS, mesh)
    placements = jax.tree.map(lambda leaf: leaf.sharding, state)
    lowered = jax.jit(step, donate_argnums=0, out_shardings=(placements, None)).lower(state, rows)
    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Misfit(topology, choices.batch_rows, _shorten(str(error)))
    compile_s = time.perf_counter() - start
    memory: Any = compiled.memory_analysis()
    text = compiled.as_text() or ""
    execution_flops = count_flops(step, state, rows) + _count_kernels(config, choices, mesh)
    return Plan(
        topology=topology,
        mesh=dict(mesh.shape),
        rows=choices.batch_rows,
        row_tokens=choices.row_tokens,
        remat=choices.remat,
        attention="splash" if "tpu_custom_call" in text else "xla",
        argument_bytes=memory.argument_size_in_bytes,
        temp_bytes=memory.temp_size_in_bytes,
        peak_bytes=memory.peak_memory_in_bytes,
        host_bytes=memory.host_temp_size_in_bytes,
        program_flops=execution_flops,
        model_flops_per_token=count_model(config, choices.row_tokens),
        collectives=tuple(list_collectives(text)),
        compile_s=compile_s,
        program_hash=hashlib.sha256(lowered.as_text().encode()).hexdigest()[:12],
        versions=list_versions(),
    )


def find_largest_batch(config: GemmaConfig, choices: TrainChoices, topology: Topology) -> Plan | None:
    """Double the rows of a batch until one does not fit, then return the largest that did; `None` if none fits."""
    best: Plan | None = None
    rows = choices.batch_rows
    while True:
        plan = plan_step(config, dataclasses.replace(choices, batch_rows=rows), topology)
        if isinstance(plan, Misfit):
            return best
        best, rows = plan, rows * 2


def list_devices(topology: Topology) -> list[Any]:
    """Ask libtpu for the devices of a topology that is not here.

    Raises:
        InputError: libtpu is not installed, or knows no such topology.
    """
    for name, value in _NO_TPU_HERE.items():
        os.environ.setdefault(name, value)
    try:
        metadata.version("libtpu")
    except metadata.PackageNotFoundError:
        raise InputError(
            'planning for a TPU needs its compiler: pip install "codegemma[tpu]" (no TPU is needed)'
        ) from None
    from jax.experimental import topologies

    options: dict[str, Any] = {}
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    name = topology.name.rpartition("*")[2]
    if name in _HOST_SHAPES:
        options["chips_per_host_bounds"] = _HOST_SHAPES[name]
    try:
        description = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    except (ValueError, NotImplementedError, jax.errors.JaxRuntimeError) as error:
        raise InputError(f"{topology.name}: libtpu knows no such topology ({_shorten(str(error))})") from error
    return list(description.devices)


def describe_arguments(config: GemmaConfig, choices: TrainChoices, mesh: Mesh) -> tuple[TrainState, Rows]:
    """Describe what the step takes, each array with its place on the mesh; nothing is allocated."""
    shape, divided = (choices.batch_rows, choices.row_tokens), divide_rows(mesh)
    ids, weights = (_describe_array(shape, dtype, sharding=divided) for dtype in (jnp.int32, jnp.float32))
    return describe_state(describe_trained(config), config, choices, _SOME_STEPS, mesh), Rows(ids, weights, ids, ids)


def _describe_array(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding | None = None) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def list_versions() -> dict[str, str]:
    """Name what compiles."""
    versions = {}
    for package in ("jax", "jaxlib", "libtpu"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _count_only(config: GemmaConfig, choices: TrainChoices, topology: Topology) -> Plan | Misfit:
    """Count what needs no compiler: arguments of each chip and operations."""
    shape = fill_in_mesh(choices.mesh, topology.chips)
    sizes = dict(zip(("data", "fsdp", "tensor"), shape, strict=True))
    check_mesh(sizes, config, choices.batch_rows)
    parts = sizes["fsdp"] * sizes["tensor"]
    arguments = 12 * config.count_parameters() // parts
    limit = topology.chip.memory_gib * 2**30
    if arguments > limit:
        reason = (
            f"parameters and optimiser state alone take {arguments / 2**30:.1f} GiB of {topology.chip.memory_gib:.1f}"
        )
        return Misfit(topology, choices.batch_rows, reason)
    plain = dataclasses.replace(choices, mesh=(1, 1, 1), attention="xla")
    ids = _describe_array((choices.batch_rows, choices.row_tokens), jnp.int32)
    weights = _describe_array(ids.shape, jnp.float32)
    state = describe_state(describe_trained(config), config, plain, _SOME_STEPS, None)
    flops = count_flops(write_train_step(config, plain, _SOME_STEPS), state, Rows(ids, weights, ids, ids))
    return Plan(
        topology=topology,
        mesh=sizes,
        rows=choices.batch_rows,
        row_tokens=choices.row_tokens,
        remat=choices.remat,
        attention="not compiled",
        argument_bytes=arguments,
        temp_bytes=None,
        peak_bytes=None,
        host_bytes=0,
        program_flops=flops,
        model_flops_per_token=count_model(config, choices.row_tokens),
        collectives=(),
        compile_s=0.0,
        program_hash="",
        versions=list_versions(),
    )


def _count_kernels(config: GemmaConfig, choices: TrainChoices, mesh: Mesh) -> float:
    """Count attention where a kernel does it: once more forward where the layer's work is done again."""
    device = mesh.devices.flat[0]
    if device.platform != "tpu" or choices.attention == "xla":
        return 0.0
    once_more = 4 / 3 if choices.remat == "full" else 1.0
    return once_more * count_attention(config, choices.row_tokens) * choices.batch_rows * choices.row_tokens


def _shorten(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    wanted = [line for line in lines if "Used" in line or "Exceeded" in line or "RESOURCE" in line]
    return " ".join(wanted[:2] or lines[:1])[:300]

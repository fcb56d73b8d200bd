"""Compiles the real training step for accelerators that are not here, and reads off what it will need.

**In**: the shape of a model, choices, a topology.
**Out**: a `Plan`: memory a chip, collectives, operations, bounds on time; or a `Misfit` with XLA's own words.
**Not**: a run. What a step takes in time cannot be told without the chip: bounds are bounds, and are named so.

libtpu compiles for a TPU on any machine (`pip install "codegemma[tpu]"`), also for several processes at once. For a
GPU nothing is compiled: memory is estimated by formula, operations are counted on the traced step as for a TPU.
"""

import dataclasses
import hashlib
import math
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
from codegemma.model.sharding import AXES, check_mesh, divide_rows, fill_in_mesh, make_mesh
from codegemma.train.chips import SHAPES, Topology
from codegemma.train.choices import TrainChoices
from codegemma.train.collectives import Collective, list_collectives
from codegemma.train.estimate import estimate_collectives, estimate_host_bytes, estimate_memory
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
# What libtpu must be told of some slices: where one chip is a host, where the links close to rings, that a chip of v4
# computes as one.
_SLICE_OPTIONS: dict[str, dict[str, Any]] = {
    "v5e:1x1": {"chips_per_host_bounds": (1, 1, 1)},
    "v6e:1x1": {"chips_per_host_bounds": (1, 1, 1)},
    "v5e:8x16": {"wrap": (False, True, False)},
    "v5e:16x16": {"wrap": (True, True, False)},
    **{f"v4:{shape}": {"chip_config_name": "megacore"} for shape in SHAPES["v4"]},
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What one compiled step needs of each chip.

    `memory` is by kind, in bytes; `peak_bytes` the most that is held at once, which is less than its kinds together,
    since they do not all live at the same time. `host_bytes` were offloaded. `program_flops` count all chips,
    recomputation included. Where nothing was compiled (`is_estimate`), memory and collectives are by formula.
    """

    topology: Topology
    mesh: dict[str, int]
    rows: int
    row_tokens: int
    remat: str
    attention: str
    memory: dict[str, int]
    peak_bytes: int
    host_bytes: int
    is_estimate: bool
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
        """What it takes to read and write parameters and optimiser state once: no step is faster."""
        return 2 * (self.memory["parameters"] + self.memory["optimizer"]) / self.topology.chip.memory_bytes_per_s

    @property
    def link_s(self) -> float:
        """What the collectives take at the links' peak, were nothing to overlap."""
        return sum(c.moved_bytes for c in self.collectives) / self.topology.link_bytes_per_s

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


@dataclass(frozen=True, slots=True)
class LoweredStep:
    """A step as it goes to the compiler, with what it was traced from."""

    lowered: Any
    step: Any
    state: TrainState
    rows: Rows
    mesh: Mesh

    @property
    def program_hash(self) -> str:
        """Hash the program: equal programs compile to the same."""
        return hashlib.sha256(self.lowered.as_text().encode()).hexdigest()[:12]


def lower_step(config: GemmaConfig, choices: TrainChoices, topology: Topology) -> LoweredStep:
    """Trace the step of `choices` for a TPU's topology: some seconds.

    Raises:
        InputError: libtpu is not installed, does not know the topology, or the mesh does not divide model or batch.
    """
    mesh = make_mesh(choices.mesh, list_devices(topology))
    check_mesh(mesh.shape, config, choices.batch_rows)
    state, rows = describe_arguments(config, choices, mesh)
    step = write_train_step(config, choices, _SOME_STEPS, mesh)
    placements = jax.tree.map(lambda leaf: leaf.sharding, state)
    lowered = jax.jit(step, donate_argnums=0, out_shardings=(placements, None)).lower(state, rows)
    return LoweredStep(lowered, step, state, rows, mesh)


def plan_step(config: GemmaConfig, choices: TrainChoices, topology: Topology) -> Plan | Misfit:
    """Compile the step of `choices` for a topology; for GPUs, estimate it.

    Raises:
        InputError: libtpu is not installed, does not know the topology, or the mesh does not divide model or batch.
    """
    if topology.chip.kind == "gpu":
        return estimate_step(config, choices, topology)
    return compile_step(config, choices, topology, lower_step(config, choices, topology))


def compile_step(config: GemmaConfig, choices: TrainChoices, topology: Topology, traced: LoweredStep) -> Plan | Misfit:
    """Compile a traced step, which takes a minute or two, and read off what it needs."""
    start = time.perf_counter()
    try:
        compiled = traced.lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Misfit(topology, choices.batch_rows, shorten(str(error)))
    compile_s = time.perf_counter() - start
    memory: Any = compiled.memory_analysis()
    text = compiled.as_text() or ""
    flops = count_flops(traced.step, traced.state, traced.rows) + _count_kernels(config, choices, traced.mesh)
    return Plan(
        topology=topology,
        mesh=dict(traced.mesh.shape),
        rows=choices.batch_rows,
        row_tokens=choices.row_tokens,
        remat=choices.remat,
        attention="splash" if "tpu_custom_call" in text else "xla",
        memory={
            "parameters": _count_part_bytes(traced.state.params),
            "optimizer": _count_part_bytes(traced.state.opt_state),
            "batch": _count_part_bytes(traced.rows),
            "temporary": memory.temp_size_in_bytes,
            "program": memory.generated_code_size_in_bytes,
        },
        peak_bytes=memory.peak_memory_in_bytes,
        host_bytes=memory.host_temp_size_in_bytes,
        is_estimate=False,
        program_flops=flops,
        model_flops_per_token=count_model(config, choices.row_tokens),
        collectives=tuple(list_collectives(text)),
        compile_s=compile_s,
        program_hash=traced.program_hash,
        versions=list_versions(),
    )


def find_largest_batch(
    config: GemmaConfig, choices: TrainChoices, topology: Topology
) -> tuple[Plan | None, Misfit | None]:
    """Find the largest batch that fits, from that of `choices` on: doubled until one does not, then halved between.

    Returns it and the smallest that did not fit; `None` where even the first does not.
    """
    best: Plan | None = None
    worst: Misfit | None = None
    unit = choices.batch_rows
    low, high = 0, 1
    while worst is None or high - low > 1:
        trial = high if worst is None else (low + high) // 2
        result = plan_step(config, dataclasses.replace(choices, batch_rows=trial * unit), topology)
        if isinstance(result, Plan):
            best, low = result, trial
            high = trial * 2 if worst is None else high
        else:
            worst, high = result, trial
    return best, worst


def _count_part_bytes(tree: Any) -> int:
    """Count what one device holds of some arrays."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


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

    name = topology.name.rpartition("*")[2]
    options = _SLICE_OPTIONS.get(name, {}) | ({"num_slices": topology.slices} if topology.slices > 1 else {})
    try:
        description = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    except (ValueError, NotImplementedError, jax.errors.JaxRuntimeError) as error:
        raise InputError(f"{topology.name}: libtpu knows no such topology ({shorten(str(error))})") from error
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


def estimate_step(config: GemmaConfig, choices: TrainChoices, topology: Topology) -> Plan | Misfit:
    """Estimate what a step needs of each GPU: memory and traffic by formula, operations from the traced step.

    Raises:
        InputError: the mesh does not divide model or batch.
    """
    sizes = dict(zip(AXES, fill_in_mesh(choices.mesh, topology.chips), strict=True))
    check_mesh(sizes, config, choices.batch_rows)
    memory = estimate_memory(config, choices, sizes)
    peak, limit = sum(memory.values()), topology.chip.memory_gib * 2**30
    if peak > limit:
        kinds = ", ".join(f"{kind} {size / 2**30:.1f}" for kind, size in memory.items())
        reason = f"estimated at {peak / 2**30:.1f} GiB of {limit / 2**30:.1f}: {kinds} GiB"
        return Misfit(topology, choices.batch_rows, reason)
    alone = dataclasses.replace(choices, mesh=(1, 1, 1), attention="xla")
    state, rows = describe_arguments(config, alone, make_mesh((1, 1, 1), jax.devices("cpu")[:1]))
    return Plan(
        topology=topology,
        mesh=sizes,
        rows=choices.batch_rows,
        row_tokens=choices.row_tokens,
        remat=choices.remat,
        attention="not compiled",
        memory=memory,
        peak_bytes=peak,
        host_bytes=estimate_host_bytes(config, choices, sizes),
        is_estimate=True,
        program_flops=float(count_flops(write_train_step(config, alone, _SOME_STEPS), state, rows)),
        model_flops_per_token=count_model(config, choices.row_tokens),
        collectives=tuple(estimate_collectives(config, choices, sizes)),
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


def shorten(message: str) -> str:
    """Keep of the compiler's message what says how much is missing."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    wanted = [line for line in lines if "Used" in line or "Exceeded" in line or "RESOURCE" in line]
    return " ".join(wanted[:2] or lines[:1])[:300]

"""Accelerators that a run can be planned for: what they hold, how fast they are, what they cost.

**In**: a topology as `codegemma plan` takes it: `v5e:4x4`, `2*v5e:16x16` (slices), `h100:8`.
**Out**: a `Chip` and a `Topology`.
**Not**: measurements: the figures are the makers' own.
"""

import math
import re
from dataclasses import dataclass

from codegemma.errors import InputError

_TOPOLOGY = re.compile(r"(?:(?P<slices>\d+)\*)?(?P<chip>[a-z0-9]+):(?P<shape>\d+(?:x\d+)*)")


@dataclass(frozen=True, slots=True)
class Chip:
    """One accelerator.

    `memory_gib` is what XLA may use; `bf16_flops` and `memory_bytes_per_s` are peaks. `link_bytes_per_s` is what a chip
    sends and receives over all its links at once, one way. `dollars_per_hour` is a list price on demand in the United
    States, for orientation; `None` where no list price is public.
    """

    name: str
    kind: str
    memory_gib: float
    bf16_flops: float
    memory_bytes_per_s: float
    link_bytes_per_s: float
    dollars_per_hour: float | None


# cloud.google.com/tpu/docs (v4, v5e, v5p, v6e), nvidia.com data sheets (A100 80 GB, H100 SXM, H200); 15.75 GiB is the
# limit that XLA itself names for a v5e.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", "tpu", 31.25, 275e12, 1228e9, 300e9, 3.22),
        Chip("v5e", "tpu", 15.75, 197e12, 819e9, 200e9, 1.20),
        Chip("v5p", "tpu", 95.74, 459e12, 2765e9, 600e9, 4.20),
        Chip("v6e", "tpu", 31.25, 918e12, 1640e9, 448e9, 2.70),
        Chip("a100", "gpu", 79.0, 312e12, 2039e9, 300e9, None),
        Chip("h100", "gpu", 79.0, 989e12, 3350e9, 450e9, None),
        Chip("h200", "gpu", 139.0, 989e12, 4800e9, 450e9, None),
    )
}


# How JAX names their kinds: the first that begins a device's own name stands for it.
_DEVICE_KINDS = {
    "TPU v4": "v4", "TPU v5 lite": "v5e", "TPU v5e": "v5e", "TPU v5": "v5p", "TPU v6": "v6e",
    "NVIDIA A100": "a100", "NVIDIA H100": "h100", "NVIDIA H200": "h200",
}  # fmt: skip


def find_chip(device_kind: str) -> Chip | None:
    """Find the chip that a device is, by what JAX calls its kind; `None` if there are no figures of it.

    >>> find_chip("NVIDIA H100 80GB HBM3").name, find_chip("TPU v5 lite").name, find_chip("cpu")
    ('h100', 'v5e', None)
    """
    names = (name for kind, name in _DEVICE_KINDS.items() if device_kind.startswith(kind))
    name = next(names, None)
    return None if name is None else CHIPS[name]


# Slices that libtpu 0.0.42 compiles for.
_PLANES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "8x8x8")
SHAPES = {"v4": _CUBES, "v5e": _PLANES, "v5p": _CUBES, "v6e": _PLANES}
# A machine's GPUs are joined by NVLink; between machines each has a network card of 400 Gbit/s.
_MACHINE_GPUS = 8
_NETWORK_BYTES_PER_S = 50e9


@dataclass(frozen=True, slots=True)
class Topology:
    """Chips and how they are laid out; several slices are joined by the data-centre network."""

    name: str
    chip: Chip
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def chips(self) -> int:
        """How many chips there are in all."""
        return math.prod(self.shape) * self.slices

    @property
    def link_bytes_per_s(self) -> float:
        """What a chip sends and receives, over the slowest links that join all chips of a slice."""
        is_network = self.chip.kind == "gpu" and self.chips > _MACHINE_GPUS
        return _NETWORK_BYTES_PER_S if is_network else self.chip.link_bytes_per_s


def read_topology(name: str) -> Topology:
    """Read a topology's name.

    >>> read_topology("2*v5e:4x4").chips
    32

    Raises:
        InputError: no such spelling, no such chip, or no slice of it in that shape; the message lists what is known.
    """
    match = _TOPOLOGY.fullmatch(name)
    if match is None:
        raise InputError(
            f"{name!r} is no topology; wanted CHIP:SHAPE such as v5e:4x4, 2*v5e:16x16 (two slices) or h100:8"
        )
    chip = CHIPS.get(match["chip"])
    if chip is None:
        raise InputError(f"{name!r}: no figures of a chip {match['chip']!r}; known: {', '.join(CHIPS)}")
    known = SHAPES.get(chip.name, ())
    if known and match["shape"] not in known:
        raise InputError(f"{name!r}: no slice of {chip.name} has that shape; known: {', '.join(known)}")
    shape = tuple(int(size) for size in match["shape"].split("x"))
    return Topology(name, chip, shape, int(match["slices"] or 1))

"""Tells whether this machine has an accelerator, without loading JAX to ask it.

**In**: /dev.
**Out**: yes or no.
**Not**: whether JAX can use it.
"""

from pathlib import Path
from typing import Final

# What the drivers of Google's, NVIDIA's and AMD's accelerators put there.
_DEVICES: Final = ("accel[0-9]*", "vfio/[0-9]*", "nvidia[0-9]*", "kfd")


def has_accelerator(folder: Path = Path("/dev")) -> bool:
    """Tell whether a driver has put an accelerator into the folder of devices."""
    return any(any(folder.glob(pattern)) for pattern in _DEVICES)

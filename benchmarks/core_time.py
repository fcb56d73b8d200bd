"""Tells the processor time of a process and of all below it, also of those that nobody waits for.

**In**: a machine that lets this process make a control group for processor time.
**Out**: `CoreTime`, a clock of seconds of processor; `None` where there are no such groups.
**Not**: time that other work on the machine makes us wait: on a busy machine this says what a clock cannot.

`getrusage` does not see what ends in a box: bubblewrap leaves without waiting for the box's first process.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds by the clock, and of processor where control groups tell them."""

    clock_s: float = 0.0
    core_s: float = 0.0

    def __sub__(self, before: "Spent") -> "Spent":
        return Spent(self.clock_s - before.clock_s, self.core_s - before.core_s)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.clock_s + other.clock_s, self.core_s + other.core_s)

    def __mul__(self, times: float) -> "Spent":
        return Spent(self.clock_s * times, self.core_s * times)


class CoreTime:
    """A group that this process enters, with all that it starts from then on."""

    def __init__(self, folder: Path, file: str, unit_s: float, key: str) -> None:
        """Enter the group.

        Raises:
            OSError: this machine does not let us.
        """
        folder.mkdir(exist_ok=True)
        self._file, self._unit_s, self._key = folder / file, unit_s, key
        self.read_s()  # else it is a folder like any other
        (folder / "cgroup.procs").write_text(str(os.getpid()))

    def read_s(self) -> float:
        """Tell the seconds of processor since the group was entered."""
        words = self._file.read_text().split()
        return int(words[words.index(self._key) + 1 if self._key else 0]) * self._unit_s


def open_core_time() -> CoreTime | None:
    """Enter a group of version 1 or 2, whichever this machine has; groups are left to the machine's owner to remove."""
    name = f"codegemma-time-{os.getpid()}"
    for folder, file, unit_s, key in (
        (_ROOT / "cpuacct" / name, "cpuacct.usage", 1e-9, ""),
        (_ROOT / name, "cpu.stat", 1e-6, "usage_usec"),
    ):
        try:
            return CoreTime(folder, file, unit_s, key)
        except OSError:
            continue
    return None


def read_spent(core: CoreTime | None) -> Spent:
    """Tell what was spent since some time or other."""
    return Spent(time.perf_counter(), core.read_s() if core else 0.0)

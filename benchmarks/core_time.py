"""Tells the processor time of a process and of all below it, also of those that nobody waits for.

**In**: a machine that lets this process make a control group for processor time.
**Out**: `CoreTime`, a clock of seconds of processor; `None` where there are no such groups.
**Not**: time that other work on the machine makes us wait: on a busy machine this says what a clock cannot.

`getrusage` does not see what ends in a box: bubblewrap leaves without waiting for the box's first process.
"""

import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


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

"""Control groups: the memory and the number of processes of a whole box, where this machine lets us make groups.

**In**: limits in bytes and processes.
**Out**: `Group`, made once and used for one box after another; `make_group` gives `None` where that is not allowed.
**Not**: limits of one process; those are resource limits (`box.py`).

Version 1 has a tree for each kind, version 2 (the kernel's cgroup-v2.rst) one tree for all.
"""

import contextlib
import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_numbers = itertools.count()
_PATIENCE_S = 10.0
_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class Group:
    """Folders that a process enters by writing its number to `cgroup.procs` in each."""

    folders: tuple[Path, ...]
    is_unified: bool

    def limit(self, memory_bytes: int, processes: int) -> None:
        """Set the limits for the next box.

        What earlier boxes left counts until this machine's init collects it, which some do late: it is let in on top.
        """
        processes += self._count_left()
        if self.is_unified:
            values = {"memory.max": memory_bytes, "memory.swap.max": 0, "pids.max": processes}
        else:
            values = {"memory.limit_in_bytes": memory_bytes, "pids.max": processes}
        for name, value in values.items():
            for folder in self.folders:
                if (folder / name).exists():
                    _lower(folder / name, value)

    def _count_left(self) -> int:
        for folder in self.folders:
            with contextlib.suppress(OSError):
                return int((folder / "pids.current").read_text())
        return 0

    def count_out_of_memory(self) -> int:
        """Tell how often the kernel has ended a process of this group for memory."""
        name = "memory.events" if self.is_unified else "memory.oom_control"
        for folder in self.folders:
            with contextlib.suppress(OSError):
                lines = (line.split() for line in (folder / name).read_text().splitlines())
                return next((int(words[1]) for words in lines if words[0] == "oom_kill"), 0)
        return 0

    def kill(self) -> None:
        """End whatever is left in the group."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                for number in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(number), 9)

    def remove(self) -> None:
        """Remove the folders, as soon as the last of the processes that were ended is gone."""
        for folder in self.folders:
            _remove(folder)


def make_group() -> Group | None:
    """Make a group below this process's own; `None` where the machine has no such groups or refuses."""
    name = f"codegemma-{os.getpid()}-{next(_numbers)}"
    own: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            own |= dict.fromkeys(kinds.split(",") if kinds else ["unified"], path.lstrip("/"))
    if "memory" in own and "pids" in own:
        folders = tuple(_ROOT / kind / own[kind] / name for kind in ("memory", "pids"))
        return _make(folders, is_unified=False)
    if (_ROOT / "cgroup.controllers").exists():
        return _make((_ROOT / own.get("unified", "") / name,), is_unified=True)
    return None


def _make(folders: tuple[Path, ...], *, is_unified: bool) -> Group | None:
    group = Group(folders, is_unified)
    try:
        for folder in folders:
            folder.mkdir()
        if is_unified and not (folders[0] / "memory.max").exists():
            raise FileNotFoundError("the memory controller is not delegated to this process")
    except OSError:
        group.remove()
        return None
    return group


def _remove(folder: Path) -> None:
    # A killed process leaves its group some time after its parent was told, later where many wait for the processor.
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(_PAUSE_S)


def _lower(file: Path, value: int) -> None:
    # Below what the last box left in its caches the kernel refuses at first, and makes room while it is asked again.
    for _ in range(3):
        try:
            file.write_text(str(value))
            return
        except OSError:
            continue

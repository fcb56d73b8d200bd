"""Starts the process again with huge pages for malloc, where that is possible: training on a CPU is then faster.

**In**: the environment and the running command.
**Out**: the same command in the same process id, with glibc's tunable set; or nothing, where there are no such pages.
**Not**: a change of any result. `benchmarks/train_step.py` measures what it is worth.

XLA's CPU backend takes and returns hundreds of megabytes a step; with pages of 4 kB the kernel spends more time on them
than the step on its element-wise work. glibc reads the tunable only when a process starts.
"""

import os
import sys
from pathlib import Path

TUNABLES = "GLIBC_TUNABLES"
_HUGE_PAGES = "glibc.malloc.hugetlb"
_KERNEL_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def add_huge_pages(tunables: str) -> str | None:
    """Add the tunable to those already set, or return `None` where a choice about it has been made.

    >>> add_huge_pages("glibc.malloc.check=1")
    'glibc.malloc.check=1:glibc.malloc.hugetlb=1'
    >>> add_huge_pages("glibc.malloc.hugetlb=0") is None
    True
    """
    if _HUGE_PAGES in tunables:
        return None
    return ":".join(part for part in (tunables, f"{_HUGE_PAGES}=1") if part)


def restart_with_huge_pages() -> None:
    """Replace this process by the same command with huge pages; return where that cannot help or was done."""
    tunables = add_huge_pages(os.environ.get(TUNABLES, ""))
    try:
        is_offered = "[never]" not in _KERNEL_SETTING.read_text()
    except OSError:
        return
    # Only where this command is what the process was started for: not inside a program that calls it.
    is_own_process = sys.orig_argv[-len(sys.argv[1:]) :] == sys.argv[1:] if sys.argv[1:] else len(sys.orig_argv) > 1
    if tunables is not None and is_offered and is_own_process:
        os.environ[TUNABLES] = tunables
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606

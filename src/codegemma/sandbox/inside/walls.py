"""Walls between programs of one box: each behind namespaces of its own, which a copy of this process makes for itself.

**In**: `start_copy`; in the copy `build_walls`, then `lock` with the filter of system calls and seconds of computing.
**Out**: the first process of its own namespaces, with an empty /tmp, /job and /dev/shm and its own view of processes.
**Not**: the walls towards the machine. Those are bubblewrap's and stand around all of this; nothing here is more than
the kernel lets a user without any rights do.

What two boxes do not share, two copies do not share either: users, processes, network, IPC, hostname, mounts. Shared
are files that nobody can write (/usr and the rest), and the memory of the process that was copied, as it was then.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
from pathlib import Path

_LIBC = ctypes.PyDLL(None, use_errno=True)
_LIBC.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_CLONE = {"x86_64": 56, "aarch64": 220}
# linux/sched.h: the namespaces NS, CGROUP, UTS, IPC, USER, PID and NET; and PIDFD.
_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_PIDFD = 0x00001000
# linux/mount.h
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC, _REMOUNT, _BIND = 1, 2, 4, 8, 32, 4096
_PLAIN = _NO_SUID | _NO_DEVICES
# What an owner may write in /proc belongs to the machine; bubblewrap covers the same.
_OF_THE_MACHINE = ("sys", "sysrq-trigger", "irq", "bus")
# linux/prctl.h, linux/seccomp.h, linux/capability.h
_DROP_FROM_BOUND, _SET_SECCOMP, _FILTER_MODE, _CAPABILITY_VERSION = 24, 22, 2, 0x20080522
_MAX_CAPABILITIES = 64
# linux/sockios.h, linux/if.h
_SET_INTERFACE_FLAGS, _UP = 0x8914, 0x41
_FILTER_STEP_BYTES = 8


class _FilterProgram(ctypes.Structure):
    _fields_ = (("steps", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def start_copy() -> tuple[int, int]:
    """Copy this process into new namespaces: its number, which is 0 in the copy, and a descriptor that names it.

    Raises:
        OSError: the kernel does not let us.
    """
    call = _CLONE.get(os.uname().machine)
    if call is None:
        raise OSError(f"the number of `clone` is not known on {os.uname().machine}")
    descriptor, nothing = ctypes.c_int(-1), ctypes.c_void_p()
    flags = ctypes.c_ulong(_NAMESPACES | _PIDFD | signal.SIGCHLD)
    number = _LIBC.syscall(ctypes.c_long(call), flags, nothing, ctypes.byref(descriptor), nothing, nothing)
    return _check(number, "clone"), descriptor.value


def build_walls(user: int, group: int, disk_bytes: int) -> None:
    """Make the copy's own what its namespaces only made separate. `user` and `group` are those of before.

    Raises:
        OSError: a step was refused; nothing may run then.
    """
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/gid_map", f"{group} {group} 1")
    _mount("tmpfs", "/tmp", "tmpfs", _PLAIN, f"mode=1777,size={disk_bytes}")  # noqa: S108 (the box's own)
    _mount("tmpfs", "/job", "tmpfs", _PLAIN, f"mode=0777,size={disk_bytes}")
    _mount("tmpfs", "/dev/shm", "tmpfs", _PLAIN, f"mode=1777,size={disk_bytes}")  # noqa: S108 (the box's own)
    _mount("devpts", "/dev/pts", "devpts", _NO_SUID | _NO_EXEC, "newinstance,ptmxmode=0666,mode=620")
    _mount("proc", "/proc", "proc", _PLAIN | _NO_EXEC)
    for place in (f"/proc/{name}" for name in _OF_THE_MACHINE):
        if Path(place).exists():
            _mount(place, place, None, _BIND)
            _mount(place, place, None, _BIND | _REMOUNT | _READ_ONLY | _PLAIN | _NO_EXEC)
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SET_INTERFACE_FLAGS, struct.pack("16sh14x", b"lo", _UP))
    os.chdir("/job")


def lock(filter_steps: bytes, cpu_s: int) -> None:
    """Give up every right for good, then all calls that the filter denies.

    Raises:
        OSError: a step was refused; nothing may run then.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    for capability in range(_MAX_CAPABILITIES):
        if _LIBC.prctl(_DROP_FROM_BOUND, capability, 0, 0, 0) < 0:
            break  # the kernel knows no more of them
    header, none = struct.pack("Ii", _CAPABILITY_VERSION, 0), bytes(24)
    _check(_LIBC.capset(header, none), "capset")
    program = _FilterProgram(len(filter_steps) // _FILTER_STEP_BYTES, filter_steps)
    _check(_LIBC.prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.addressof(program), 0, 0), "seccomp")


def close_all_but(kept: set[int]) -> None:
    """Close every other descriptor that this process may have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for before, after in zip([-1, *sorted(kept)], [*sorted(kept), limit], strict=True):
        if before + 1 < after:
            os.closerange(before + 1, after)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    source_, target_, kind_, options_ = (
        None if text is None else text.encode() for text in (source, target, kind, options)
    )
    _check(_LIBC.mount(source_, target_, kind_, ctypes.c_ulong(flags), options_), f"mount {target}")


def _write(path: str, text: str) -> None:
    number = os.open(path, os.O_WRONLY)
    try:
        os.write(number, text.encode())
    finally:
        os.close(number)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result

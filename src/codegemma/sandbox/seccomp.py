"""The system calls that a boxed program may not make, as a filter that bubblewrap loads.

**In**: nothing; the table below.
**Out**: `make_filter`: a classic BPF program for this machine's architecture, in bytes.
**Not**: the only wall: namespaces, an empty network and dropped capabilities stand whether or not a call is filtered.

A denied call fails with EPERM instead of killing the program, so that a library which probes for a feature goes on
without it. `clone3` fails with ENOSYS, because its flags lie in memory that a filter cannot read: the C library then
takes `clone`, whose flags are looked at.
"""

import errno
import tempfile

from codegemma.errors import MissingExtraError

# What a program that computes does not need and what has opened boxes before: other processes' memory, mounts,
# namespaces, kernel modules, keyrings, performance counters, io_uring (which does what filtered calls do).
_DENIED = (
    "acct", "add_key", "bpf", "chroot", "delete_module", "fanotify_init", "finit_module", "fsconfig", "fsmount",
    "fsopen", "fspick", "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl",
    "kcmp", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mount", "mount_setattr", "move_mount",
    "move_pages", "name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open", "pidfd_getfd",
    "pivot_root", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "reboot",
    "request_key", "setns", "settimeofday", "swapoff", "swapon", "syslog", "umount2", "unshare", "userfaultfd",
    "vhangup",
)  # fmt: skip
# CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET and TIME: `clone` with any of these makes a namespace.
_NAMESPACE_FLAGS = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x00000080)
# TIME (0x80) shares its bit with the exit signal of `clone`, where it is no signal that is used.
# A virtual machine's socket to its host (AF_VSOCK, 40) does not care for network namespaces; neither do the kernel's
# own families. What is left is local (1), the empty network of the box (2, 10) and its listing (16).
_ALLOWED_FAMILIES = frozenset({1, 2, 10, 16})
_MAX_FAMILY = 64


def make_filter() -> bytes:
    """Compile the filter.

    Raises:
        MissingExtraError: the package pyseccomp or the library libseccomp is not installed.
    """
    try:
        import pyseccomp as seccomp
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingExtraError(
            f"the sandbox's filter needs pyseccomp and libseccomp ({error}); "
            "pip install codegemma[sandbox], and on Debian: apt-get install libseccomp2"
        ) from error
    allow = seccomp.SyscallFilter(seccomp.ALLOW)
    for name in _DENIED:
        try:
            allow.add_rule(seccomp.ERRNO(errno.EPERM), name)
        except (OSError, ValueError):
            continue  # a call that this architecture or libseccomp does not know cannot be made by its name
    allow.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    for flag in _NAMESPACE_FLAGS:
        allow.add_rule(seccomp.ERRNO(errno.EPERM), "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    for family in range(_MAX_FAMILY):
        if family not in _ALLOWED_FAMILIES:
            allow.add_rule(seccomp.ERRNO(errno.EAFNOSUPPORT), "socket", seccomp.Arg(0, seccomp.EQ, family))
    allow.add_rule(seccomp.ERRNO(errno.EAFNOSUPPORT), "socket", seccomp.Arg(0, seccomp.GE, _MAX_FAMILY))
    with tempfile.TemporaryFile() as file:
        allow.export_bpf(file)
        file.seek(0)
        return file.read()

"""Keeps an interpreter ready and copies it for every program, each copy behind walls of its own (`walls.py`).

**In**: the number of an open socket; on it, for each program, three open files: its channel, its output, its errors.
**Out**: for each an open file that names the copy's first process; or, instead, what went wrong.
**Not**: the program. Its text goes to the copy, so that this process holds nothing that another program may not know.

A copy is two processes: the first of its namespaces, which collects what ends there, and the program. When the first
ends, the kernel ends all of them.
"""

import gc
import importlib
import os
import signal
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import candidate  # type: ignore[import-not-found]
from walls import build_walls, close_all_but, lock, start_copy  # type: ignore[import-not-found]

sys.path.pop(0)

# What programs import most: a copy has it already. Not `random`, whose numbers would be the same in every copy.
_READY = ("typing", "collections", "functools", "itertools", "math", "operator", "re", "string", "heapq")
_ARGUMENTS = 5
_MAX_FILTER_BYTES = 2**20
_MAX_REASON_BYTES = 400
_BUILT = b"."


def main() -> None:
    """Copy this process for each program that is announced, until nobody announces any more."""
    orders_number, filter_number, cpu_s, disk_bytes = map(int, sys.argv[1:_ARGUMENTS])
    steps = os.read(filter_number, _MAX_FILTER_BYTES)
    os.close(filter_number)
    orders = socket.socket(fileno=orders_number)
    user, group = os.geteuid(), os.getegid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    for name in _READY:
        importlib.import_module(name)
    sys.argv = ["-c"]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # copies that have ended are collected by the kernel
    gc.collect()
    gc.freeze()
    while True:
        head, descriptors, _, _ = socket.recv_fds(orders, 1, 3)
        if not head:
            return
        hears, tells = os.pipe()
        named = -1
        try:
            number, named = start_copy()
            if number == 0:
                _be_first(descriptors, tells, (user, group), disk_bytes, steps, cpu_s)
        except OSError as error:
            os.write(tells, str(error).encode())
        for number in (*descriptors, tells):
            os.close(number)
        told = os.read(hears, _MAX_REASON_BYTES)  # that the walls stand, or why they do not
        os.close(hears)
        socket.send_fds(orders, [told or b"the copy ended before its walls stood"], [named] if named >= 0 else [])
        if named >= 0:
            os.close(named)


def _be_first(
    descriptors: list[int], tells: int, owner: tuple[int, int], disk_bytes: int, steps: bytes, cpu_s: int
) -> None:
    """Be the first process behind the walls; never comes back."""
    try:
        os.setsid()  # a signal to a group of processes goes to all of it, whatever their namespaces
        close_all_but({0, 1, 2, *descriptors, tells})
        build_walls(*owner, disk_bytes)
        lock(steps, cpu_s)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        program = os.fork()
        if program == 0:
            os.close(tells)
            _run(*descriptors)
        os.write(tells, _BUILT)
        close_all_but(set())
        while os.waitpid(-1, 0)[0] != program:
            pass
    except BaseException as error:
        os.write(tells, str(error).encode() or b"a step was refused")
    finally:
        os._exit(0)


def _run(channel: int, output: int, errors: int) -> None:
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # One of its own: flags set on a shared one would be seen by the next program.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number, place in ((nowhere, 0), (output, 1), (errors, 2)):
            os.dup2(number, place)
            os.close(number)
        candidate.main(channel)
        sys.stdout.flush()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()

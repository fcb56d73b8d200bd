"""Runs many small programs, each in a child that this process forks. Started with the number of an open socket.

**In**: batches: programs, the name of a function, what it is called with, seconds a program may take, children at once.
**Out**: for each program, in the order in which they end, what each call gave, as plain data, or that there is none.
**Not**: what is right: neither tests nor wanted values are ever in this box.

A child cannot read this process's memory (it is not dumpable) and does not hold its socket. It may kill it, as it has
the same user: then the batch's other programs are tried again elsewhere. After a batch nothing of it is left alive.
"""

import ctypes
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from wire import decode, encode, receive, send  # type: ignore[import-not-found]

sys.path.pop(0)
_MAX_ANSWER_BYTES = 65536
_CHILD_MEMORY_BYTES = 2**28
_MAX_DESCRIPTORS = 1024
_PR_SET_DUMPABLE = 4
_SIZE = struct.Struct(">I")


def main() -> None:
    """Serve batches until nobody asks any more."""
    sys.set_int_max_str_digits(0)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    channel = socket.socket(fileno=int(sys.argv[1]))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    while True:
        try:
            batch = receive(channel)
        except EOFError:
            return
        _run_batch(channel, batch)
        _end_all()
        send(channel, {"done": True})


def _run_batch(channel: socket.socket, batch: dict[str, Any]) -> None:
    waiting = list(enumerate(batch["programs"]))[::-1]
    with selectors.DefaultSelector() as selector:
        running: dict[int, tuple[int, int, float, bytearray]] = {}
        while waiting or running:
            while waiting and len(running) < batch["children"]:
                number, program = waiting.pop()
                child, answer = _start(channel, program, batch)
                running[answer] = (number, child, time.monotonic() + batch["seconds"], bytearray())
                selector.register(answer, selectors.EVENT_READ)
            first = min(deadline for _, _, deadline, _ in running.values())
            ready = {key.fd for key, _ in selector.select(max(0.0, first - time.monotonic()))}
            for answer in list(running):
                number, child, deadline, heard = running[answer]
                piece = os.read(answer, 65536) if answer in ready else b""
                heard += piece
                is_late = time.monotonic() > deadline
                if (answer in ready and not piece) or is_late or len(heard) > _MAX_ANSWER_BYTES + _SIZE.size:
                    selector.unregister(answer)
                    os.close(answer)
                    del running[answer]
                    _end(child)
                    send(channel, {"number": number, "is_late": is_late, "told": _read(heard)})


def _read(heard: bytearray) -> str | None:
    """Take an answer only if it is whole: the rest is what a program wrote there of its own."""
    if len(heard) < _SIZE.size or _SIZE.unpack(heard[: _SIZE.size])[0] != len(heard) - _SIZE.size:
        return None
    return bytes(heard[_SIZE.size :]).decode("utf-8", "replace")


def _start(channel: socket.socket, program: str, batch: dict[str, Any]) -> tuple[int, int]:
    answer, told = os.pipe()
    child = os.fork()
    if child:
        os.close(told)
        return child, answer
    try:
        os.setsid()
        channel.close()
        os.closerange(3, told)
        os.closerange(told + 1, _MAX_DESCRIPTORS)
        seconds = int(batch["seconds"]) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (_CHILD_MEMORY_BYTES, _CHILD_MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(told, _call(program, batch))
    finally:
        os._exit(0)


def _call(program: str, batch: dict[str, Any]) -> bytes:
    """Define the program and call its function; a call that raises tells so, and the next one is made all the same."""
    import json

    told: list[Any] = []
    namespace: dict[str, Any] = {"__name__": "candidate"}
    try:
        exec(compile(program, "candidate.py", "exec"), namespace)  # noqa: S102 (this is what the box is for)
        function = namespace[batch["name"]]
        for given in batch["calls"]:
            try:
                told.append([encode(function(*[decode(one, None) for one in given]), _refuse)])
            except Exception:
                told.append(None)
    except BaseException:
        told = told or [None]
    content = json.dumps(told, separators=(",", ":")).encode()
    return _SIZE.pack(len(content)) + content if len(content) <= _MAX_ANSWER_BYTES else b""


def _refuse(value: Any) -> Any:
    raise TypeError(f"a {type(value).__name__} is no plain data")


def _end(child: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        return


def _end_all() -> None:
    """End what children left behind: in this box, all but the first process and this one."""
    if os.getpid() != 1 and Path("/inside").is_dir():
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    return
            except ChildProcessError:
                return


if __name__ == "__main__":
    main()

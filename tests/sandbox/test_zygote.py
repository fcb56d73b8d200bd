"""A copy of the zygote is as far from the next one, and from this machine, as a box from another box."""

import ast
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codegemma.sandbox import judge as judging
from codegemma.sandbox.box import Limits, Sandbox, name_python
from codegemma.sandbox.inside.wire import decode, receive, send
from codegemma.sandbox.judge import Examinee, Outcome, PythonJudge
from codegemma.sandbox.zygote import Zygote, open_zygote

NAMESPACES = ("user", "pid", "net", "ipc", "uts", "mnt", "cgroup")
# What a program can find out about where it runs; told by a copy and by a box of its own.
FACTS = """
import os, resource, socket
def read(path):
    return open(path).read()
status = dict(line.split(':\\t', 1) for line in read('/proc/self/status').splitlines())
facts = {
    'rights': {name: status[name].strip() for name in status if name[:3] == 'Cap' or name in ('Seccomp', 'NoNewPrivs')},
    'owner': [os.getuid(), os.getgid(), os.getpid(), os.getppid()],
    'processes': sorted(name for name in os.listdir('/proc') if name.isdigit()),
    'limits': {name: list(resource.getrlimit(getattr(resource, name))) for name in dir(resource) if 'RLIMIT_' in name},
    'folders': {name: sorted(os.listdir(name)) for name in ('/', '/job', '/tmp', '/dev', '/dev/shm', '/dev/pts')},
    'environment': dict(os.environ), 'where': os.getcwd(), 'name': socket.gethostname(),
    'interfaces': [name for _, name in socket.if_nameindex()],
    'loopback': os.path.exists('/proc/net/if_inet6') and read('/proc/net/if_inet6'),
    'users': [read('/proc/self/uid_map').split()[0], read('/proc/self/gid_map').split()[0]],
}
"""
LEAVES_TRACES = """
import os, socket
places = ['/tmp/x', '/job/x', '/dev/shm/x', '/dev/x', '/x', '/inside/x', '/usr/x', '/proc/sys/kernel/hostname']
def leave(place):
    try:
        open(place, 'w').write('trace')
        return True
    except OSError:
        return False
left = [place for place in places if leave(place)]
seen = [place for place in places[:-1] if os.path.exists(place)]
"""


@pytest.fixture(scope="module")
def zygote(sandbox: Sandbox) -> Iterator[Zygote]:
    python, shown = name_python()
    with Sandbox(1) as own:
        opened, why = open_zygote(own, python, {**shown, judging.INSIDE: "/inside"}, Limits(wall_s=60, processes=32))
        if opened is None:
            pytest.skip(f"no namespaces within namespaces on this machine: {why}")
        yield opened
        opened.close()


def tell(zygote: Zygote, program: str, *names: str) -> list[Any]:
    """Run a program in a copy and take what it defined under these names."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60.0)
    with ours, theirs, zygote.start(theirs.fileno()):
        theirs.close()
        send(ours, program)
        answer = receive(ours)
        return [decode(answer["names"][name], str) for name in names] if "names" in answer else [answer]


def test_copy_finds_itself_where_a_box_of_its_own_would_be(
    zygote: Zygote, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "open_zygote", lambda *_: (None, "not on this machine"))
    (copied,) = tell(zygote, FACTS, "facts")
    with PythonJudge(sandbox, Limits(wall_s=60, processes=32)) as judge:
        verdict = judge.examine(Examinee(f"{FACTS}import sys\nsys.stderr.write(repr(facts))\nsys.stderr.flush()", ""))
    for name, facts in ast.literal_eval(verdict.stderr.decode()).items():
        assert copied[name] == facts, name


def test_every_namespace_of_a_copy_is_its_own(zygote: Zygote) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, zygote.start(theirs.fileno()) as running:
        first = find_number(running)
        parent = int(next(line for line in read_status(first) if line.startswith("PPid")).split()[1])
        for name in NAMESPACES:
            of = [Path(f"/proc/{number}/ns/{name}").readlink() for number in (first, parent, os.getpid())]
            assert len(set(of)) == 3, (name, of)


def find_number(running: Any) -> int:
    lines = Path(f"/proc/self/fdinfo/{running._process._named}").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pid")).split()[1])


def read_status(number: int) -> list[str]:
    return Path(f"/proc/{number}/status").read_text().splitlines()


def test_copy_leaves_nothing_for_the_next_one(zygote: Zygote) -> None:
    for _ in range(2):
        left, seen = tell(zygote, LEAVES_TRACES, "left", "seen")
        assert left == seen == ["/tmp/x", "/job/x", "/dev/shm/x"]  # noqa: S108 (the box's own)


def test_copy_holds_no_open_file_but_its_own(zygote: Zygote) -> None:
    source = (
        "import os, time\n"
        "kinds = sorted(os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in os.listdir('/proc/self/fd')"
        " if os.path.exists(f'/proc/self/fd/{n}'))\n"
        # The first process says that the walls stand before it closes its own.
        "for _ in range(600):\n    firsts = os.listdir('/proc/1/fd')\n    if not firsts: break\n    time.sleep(0.05)"
    )
    kinds, firsts = tell(zygote, source, "kinds", "firsts")
    assert kinds == ["/dev/null", "pipe", "pipe", "socket"]
    assert firsts == []


@pytest.mark.parametrize("signal", ["SIGSTOP", "SIGKILL"])
def test_signal_to_the_group_of_a_program_reaches_no_other(zygote: Zygote, signal: str) -> None:
    # The program leaves its group, so that its child signals only those whom it did not start itself.
    source = (
        "import os, signal\nhears, tells = os.pipe()\nchild = os.fork()\n"
        f"if child == 0:\n    os.read(hears, 1)\n    os.kill(0, signal.{signal})\n"
        "groups = [os.getpgrp(), os.getsid(0)]\nos.setsid()\nos.write(tells, b'.')\nos.waitpid(child, os.WUNTRACED)"
    )
    assert tell(zygote, source, "groups") == [[1, 1]]
    assert tell(zygote, "x = 2", "x") == [2]


def test_program_that_ends_all_it_sees_ends_itself_only(zygote: Zygote) -> None:
    source = "import os, subprocess\nsubprocess.Popen(['/bin/sleep', '60'])\nos.kill(-1, 9)\nos.kill(1, 9)\nx = 1"
    assert tell(zygote, source, "x") == [1]
    assert tell(zygote, "x = 2", "x") == [2]


def test_zygote_is_started_again_when_it_goes_down(zygote: Zygote) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, zygote.start(theirs.fileno()) as running:
        parent = int(next(line for line in read_status(find_number(running)) if line.startswith("PPid")).split()[1])
        os.kill(parent, 9)
    assert tell(zygote, "x = 3", "x") == [3]


def test_zygote_that_a_worker_started_again_outlives_the_worker(zygote: Zygote) -> None:
    def open_again() -> None:
        zygote.close()
        assert tell(zygote, "x = 4", "x") == [4]

    thread = threading.Thread(target=open_again)
    thread.start()
    thread.join()
    again = zygote._box
    while Path(f"/proc/self/task/{thread.native_id}").exists():  # joined before it is quite gone
        time.sleep(0.01)
    assert tell(zygote, "x = 5", "x") == [5]
    assert zygote._box is again


def test_program_over_its_memory_is_told_so_and_the_next_one_has_all_of_it(sandbox: Sandbox) -> None:
    if not sandbox.has_groups:
        pytest.skip("this machine lets us make no control groups")
    limits = replace(judging.LIMITS, memory_bytes=128 * 2**20)
    with PythonJudge(sandbox, limits) as judge:
        for _ in range(sandbox.boxes + 1):
            assert judge.examine(Examinee("len(bytearray(b'1') * 10**9)", "")).outcome is Outcome.MEMORY
            assert judge.examine(Examinee("len(bytearray(b'1') * 80 * 2**20)", "")).has_passed


def test_machine_without_nested_namespaces_has_a_box_for_each_program(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "open_zygote", lambda *_: (None, "not on this machine"))
    with PythonJudge(sandbox) as judge:
        assert judge.describe()["start"] == "a box for each program"
        assert judge.examine(Examinee("def f(x): return 2 * x", "assert f(2) == 4")).has_passed

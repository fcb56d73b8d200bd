"""Every cheat works where program and tests share a process or the machine, and gains nothing here: neither in a box of
its own nor behind the walls of a copy.

Prints the table of them.
"""

import base64
import collections
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sandbox.cheats import BARE_TESTS, BREAKOUTS, COMPILED, FORGERIES, Cheat

from codegemma.sandbox.box import Limits, Program, Sandbox, name_python
from codegemma.sandbox.judge import Examinee, PythonJudge

PYTHON, SHOWN = name_python()
LIMITS = Limits(wall_s=20, memory_bytes=256 * 2**20, processes=64, output_bytes=2**20)
BARE_PATIENCE_S = 30.0
ALL = (*FORGERIES, *BREAKOUTS, *COMPILED)


def name(cheat: Cheat) -> str:
    return f"{cheat.kind}: {cheat.name}"


def test_table_of_cheats_holds_what_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = collections.Counter(cheat.kind for cheat in ALL)
    with capsys.disabled():
        print("\ncheats that work against a bare process and are stopped here:")
        for kind, count in sorted(kinds.items()):
            print(f"  {count:3} {kind}")
        print(f"  {len(ALL):3} in all, {len(COMPILED)} of them compiled")
    assert len(ALL) >= 40
    assert len(COMPILED) >= 10
    assert min(kinds.values()) >= 2


@pytest.mark.parametrize("cheat", FORGERIES, ids=name)
def test_forgery_passes_bare_tests_and_fails_here(judge: PythonJudge, cheat: Cheat, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(cheat.source + BARE_TESTS)
    bare = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, timeout=60)
    assert bare.returncode == 0
    assert "ALL TESTS PASSED" in bare.stdout

    verdict = judge.examine(Examinee(cheat.source, "assert f(2) == 4\nassert f(-3) == -6\n", names=("f",)))
    assert not verdict.has_passed


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What a program could harm or read: a listening port, another process, files."""
    (tmp_path / "secret").write_text("key")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "sibling.py").write_text("answer")
    abstract = f"box-test-{os.getpid()}-{time.monotonic_ns()}"
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        local = opened.enter_context(socket.socket(socket.AF_UNIX))
        local.bind("\0" + abstract)
        local.listen()
        sibling = subprocess.Popen(["/bin/sleep", "60"], env={"SECRET_OF_PARENT": "1"})
        opened.callback(sibling.wait)
        opened.callback(sibling.kill)
        yield {
            "PORT": str(listening.getsockname()[1]),
            "ABSTRACT": abstract,
            "SIBLING": str(sibling.pid),
            "SECRET": str(tmp_path / "secret"),
            "OUTSIDE": str(tmp_path / "outside"),
            "LATE": str(tmp_path / "late"),
        }


@pytest.fixture(scope="module")
def strict_judge(sandbox: Sandbox) -> Iterator[PythonJudge]:
    with PythonJudge(sandbox, LIMITS) as made:
        yield made


def has_happened(stdout: bytes, surroundings: dict[str, str], patience_s: float) -> bool:
    late, outside = Path(surroundings["LATE"]), Path(surroundings["OUTSIDE"])
    deadline = time.monotonic() + patience_s
    while True:
        if stdout.endswith(b"done\n") or late.exists() or any((outside / n).exists() for n in "ac"):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def wait_for(cheat: Cheat) -> float:
    """Only what survives can still happen after its program is gone: 0.4 s after it was started."""
    return 1.0 if cheat.kind == "surviving children" else 0.0


def run_bare(command: list[str], surroundings: dict[str, str]) -> bool:
    environment = {**os.environ, **surroundings, "SECRET_OF_PARENT": "1"}
    # A parent of its own, whose environment the program may look for.
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@"; exit $?', "sh", *command], capture_output=True, env=environment, check=False
    )
    return has_happened(done.stdout, surroundings, BARE_PATIENCE_S)


def run_behind_walls(judge: PythonJudge, cheat: Cheat, source: str, surroundings: dict[str, str]) -> bool:
    told = f"import os, sys\nos.environ.update({surroundings!r})\n"
    verdict = judge.examine(Examinee(f"{told}{source}\nsys.stdout.flush()\n", "assert False"))
    assert not verdict.has_passed
    return has_happened(verdict.stdout, surroundings, wait_for(cheat))


def test_what_happens_behind_walls_is_seen(strict_judge: PythonJudge, surroundings: dict[str, str]) -> None:
    honest = Cheat("none", "prints", "print('done')")
    if not strict_judge.is_copying:
        pytest.skip("no namespaces within namespaces on this machine: each program has a box of its own")
    assert run_behind_walls(strict_judge, honest, honest.source, surroundings)
    compiled = "import subprocess\nsubprocess.run(['/bin/echo', 'done'])"
    assert run_behind_walls(strict_judge, honest, compiled, surroundings)


@pytest.mark.parametrize("cheat", BREAKOUTS, ids=name)
def test_breakout_succeeds_bare_and_fails_here(
    sandbox: Sandbox, strict_judge: PythonJudge, cheat: Cheat, surroundings: dict[str, str], tmp_path: Path
) -> None:
    if cheat.kind in ("fork bomb", "memory bomb") and not sandbox.has_groups:
        pytest.skip("this machine lets us make no control groups: processes and memory are limited one by one")
    boxed = Program([*PYTHON, "-c", cheat.source], read_only=SHOWN, environment=surroundings)
    assert not has_happened(sandbox.run(boxed, LIMITS).stdout, surroundings, wait_for(cheat))
    assert not run_behind_walls(strict_judge, cheat, cheat.source, surroundings)
    assert run_bare([sys.executable, "-c", cheat.source], surroundings)
    shutil.rmtree("/usr/local/share/box-test", ignore_errors=True)


def spell_compiled(file: Path) -> str:
    """A program in Python that is this one."""
    spelled = base64.b64encode(file.read_bytes()).decode()
    write = f"import base64, subprocess\nopen('/job/a.exe', 'wb').write(base64.b64decode({spelled!r}))\n"
    return f"{write}os.chmod('/job/a.exe', 0o755)\nsubprocess.run(['/job/a.exe'])"


@pytest.mark.parametrize("cheat", COMPILED, ids=name)
def test_compiled_breakout_succeeds_bare_and_fails_here(
    sandbox: Sandbox, strict_judge: PythonJudge, cheat: Cheat, surroundings: dict[str, str], tmp_path: Path
) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    if cheat.kind in ("fork bomb", "memory bomb") and not sandbox.has_groups:
        pytest.skip("this machine lets us make no control groups: processes and memory are limited one by one")
    (tmp_path / "a.c").write_text(cheat.source)
    subprocess.run([shutil.which("cc") or "cc", "-w", "-o", tmp_path / "a.exe", tmp_path / "a.c"], check=True)
    boxed = Program(["/job/a.exe"], files={"a.exe": (tmp_path / "a.exe").read_bytes()}, environment=surroundings)
    assert not has_happened(sandbox.run(boxed, LIMITS).stdout, surroundings, wait_for(cheat))
    assert not run_behind_walls(strict_judge, cheat, spell_compiled(tmp_path / "a.exe"), surroundings)
    assert run_bare([str(tmp_path / "a.exe")], surroundings)

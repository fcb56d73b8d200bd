"""Processes that die, hang or give up, and what becomes of the others: real processes, though without JAX."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from codegemma.cli.train import drop_option
from codegemma.errors import UserError
from codegemma.train.supervisor import Limits, StartCommand, supervise

# Each takes its own number, and the run's folder; every start leaves a file.
PROLOGUE = """
import os, signal, sys, time
from pathlib import Path
from codegemma.train.supervisor import Pulse
number, out = int(sys.argv[1]), Path(sys.argv[2])
pulse = Pulse()
starts = len(list(out.glob(f"start-{number}-*")))
(out / f"start-{number}-{starts}").write_text(str(os.getpid()))
def save(step):
    (out / "checkpoints" / str(step)).mkdir(parents=True, exist_ok=True)
def wait_for_the_other():
    while True:
        pulse.beat()
        time.sleep(0.02)
"""


def write_start(program: str, out: Path) -> StartCommand:
    def start(number: int, address: str) -> list[str]:
        return [sys.executable, "-c", PROLOGUE + program, str(number), str(out)]

    return start


def ignore(text: str) -> None:
    """Hear nothing of what was done."""


def count_starts(out: Path) -> int:
    return len(list(out.glob("start-0-*")))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("victim", [0, 1])
def test_killed_process_takes_the_other_along_and_both_begin_again(tmp_path: Path, victim: int) -> None:
    program = f"""
if starts == 0:
    save(5)
    if number == {victim}:
        os.kill(os.getpid(), signal.SIGKILL)
    wait_for_the_other()
"""
    told: list[str] = []
    began = time.monotonic()
    assert supervise(write_start(program, tmp_path), 2, tmp_path, Limits(), told.append) == 0
    assert time.monotonic() - began < 30
    assert told == [f"process {victim} was killed by SIGKILL; all processes begin again from step 5"]
    assert count_starts(tmp_path) == 2


def test_process_without_a_step_for_long_counts_as_hanging(tmp_path: Path) -> None:
    program = "if starts == 0:\n    save(5)\n    time.sleep(100) if number else wait_for_the_other()\n"
    told: list[str] = []
    assert supervise(write_start(program, tmp_path), 2, tmp_path, Limits(hang_s=3.0), told.append) == 0
    assert told == ["process 1 took no step for 3 s; all processes begin again from step 5"]


def test_restarts_that_do_not_get_further_come_to_an_end(tmp_path: Path) -> None:
    program = "save(min(starts, 2))\nsys.exit(1)\n"
    with pytest.raises(UserError, match=r"process 0 ended with code 1; 3 restarts in a row .* beyond step 2"):
        supervise(write_start(program, tmp_path), 1, tmp_path, Limits(), ignore)
    # The first reached step 0, the second and third got further, three more did not.
    assert count_starts(tmp_path) == 6


@pytest.mark.parametrize("code", [2, 3, 4, 5, 130, 75])
def test_what_cannot_be_helped_is_not_tried_again(tmp_path: Path, code: int) -> None:
    program = f"sys.exit({code}) if number else wait_for_the_other()"
    limits = Limits(final_codes=Limits().final_codes | {75})
    program = program.replace("if number", "if number == 1")
    assert supervise(write_start(program, tmp_path), 2, tmp_path, limits, ignore) == code
    assert count_starts(tmp_path) == 1


def run_supervisor(tmp_path: Path, program: str, stdout: int | None = None) -> "subprocess.Popen[bytes]":
    script = (
        "import sys; from pathlib import Path; from codegemma.train.supervisor import *\n"
        "program, out = sys.argv[1], Path(sys.argv[2])\n"
        "start = lambda number, address: [sys.executable, '-c', program, str(number), str(out)]\n"
        "sys.exit(supervise(start, 2, out, Limits(), print))\n"
    )
    command = [sys.executable, "-u", "-c", script, PROLOGUE + program, str(tmp_path)]
    return subprocess.Popen(command, stdout=stdout)


def wait_until(is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read_pids(out: Path) -> Sequence[int]:
    texts = [file.read_text() for file in out.glob("start-*")]
    return [int(text) for text in texts if text]


def test_order_to_stop_reaches_every_process_and_ends_with_their_code(tmp_path: Path) -> None:
    program = "signal.signal(signal.SIGTERM, lambda *_: (save(9), sys.exit(0)))\n(out / f'up-{number}').touch()\n"
    with run_supervisor(tmp_path, program + "wait_for_the_other()\n") as process:
        wait_until(lambda: len(list(tmp_path.glob("up-*"))) == 2)
        process.terminate()
    assert process.returncode == 0
    assert (tmp_path / "checkpoints/9").exists()


def test_order_to_stop_that_comes_between_two_starts_is_heard(tmp_path: Path) -> None:
    program = "sys.exit(1) if starts == 0 else wait_for_the_other()\n"
    with run_supervisor(tmp_path, program, subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"begin again" in process.stdout.readline()
        process.terminate()
        try:
            assert process.wait(60) == 128 + signal.SIGTERM
        finally:
            process.kill()


def test_processes_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with run_supervisor(tmp_path, "wait_for_the_other()\n") as process:
        wait_until(lambda: len(read_pids(tmp_path)) == 2)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: not any(is_alive(pid) for pid in read_pids(tmp_path)))


def test_children_get_the_command_without_the_option() -> None:
    words = ["train", "--processes", "2", "--out", "--processes", "3", "run", "--processes=4"]
    assert drop_option(words, "--processes") == ["train", "--out", "run"]

"""What a box lets a program do, and what it does not."""

import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from codegemma.errors import InputError
from codegemma.sandbox import box
from codegemma.sandbox.box import Ended, Limits, Program, Ran, Running, Safety, Sandbox, name_python
from codegemma.sandbox.process import BoxError

PYTHON, SHOWN = name_python()


LIMITS = Limits(wall_s=20.0)


def run(sandbox: Sandbox, source: str, limits: Limits = LIMITS, **more: object) -> Ran:
    return sandbox.run(Program([*PYTHON, "-c", source], read_only=SHOWN, **more), limits)  # type: ignore[arg-type]


def test_output_exit_code_input_and_files_are_those_of_the_program(sandbox: Sandbox) -> None:
    source = "import sys; print(open('a.txt').read() + sys.stdin.read()); print('no', file=sys.stderr); sys.exit(3)"
    ran = run(sandbox, source, files={"a.txt": b"file "}, stdin=b"input")
    assert (ran.ended, ran.exit_code, ran.stdout, ran.stderr) == (Ended.EXITED, 3, b"file input\n", b"no\n")


def test_long_input_and_output_flow_at_the_same_time(sandbox: Sandbox) -> None:
    data = bytes(range(256)) * 2000
    ran = sandbox.run(Program(["/bin/cat"], stdin=data), Limits(output_bytes=2**20))
    assert ran.stdout == data


def test_program_that_does_not_read_its_input_ends_all_the_same(sandbox: Sandbox) -> None:
    assert sandbox.run(Program(["/bin/true"], stdin=b"x" * 10**6)).exit_code == 0


@pytest.mark.parametrize(
    ("source", "ended"),
    [
        ("while True: pass", Ended.TIME),
        ("import time; time.sleep(60)", Ended.TIME),
        ("while True: print('x' * 1000)", Ended.OUTPUT),
        ("import sys\nwhile True: sys.stderr.write('x' * 1000)", Ended.OUTPUT),
    ],
)
def test_limit_of_time_and_of_output_ends_a_program(sandbox: Sandbox, source: str, ended: Ended) -> None:
    ran = run(sandbox, source, Limits(wall_s=1.5, output_bytes=10_000))
    assert (ran.ended, ran.exit_code) == (ended, None)
    assert len(ran.stdout) + len(ran.stderr) <= 10_000
    assert ran.seconds < 10


def test_memory_of_all_processes_together_is_limited(sandbox: Sandbox) -> None:
    if not sandbox.has_groups:
        pytest.skip("this machine lets us make no control groups")
    child = "  if os.fork() == 0:\n    b = bytearray(60 * 2**20); time.sleep(60)\n"
    source = f"import os, time\nfor _ in range(4):\n{child}os.wait()"
    ran = run(sandbox, source, Limits(wall_s=60, memory_bytes=150 * 2**20))
    assert ran.ended is Ended.MEMORY


def test_next_program_of_a_box_starts_with_whole_limits(sandbox: Sandbox) -> None:
    for _ in range(2 * sandbox.boxes):
        run(sandbox, "b = bytearray(10**9)", Limits(memory_bytes=100 * 2**20, address_bytes=2**29))
    assert run(sandbox, "print(1)").stdout == b"1\n"


def test_child_that_outlives_its_parent_is_ended_with_the_box(sandbox: Sandbox, tmp_path: Path) -> None:
    source = (
        "import os, time\nif os.fork() == 0:\n  os.setsid()\n  time.sleep(1)\n  open('/job/late', 'w').write('alive')\n"
        "print('parent is done')"
    )
    ran = run(sandbox, source, job=tmp_path)
    assert ran.stdout == b"parent is done\n"
    time.sleep(1.5)
    assert not (tmp_path / "late").exists()


def test_folder_given_as_job_keeps_what_was_written(sandbox: Sandbox, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    run(sandbox, "open('out', 'w').write('kept')", job=tmp_path)
    assert (tmp_path / "out").read_text() == "kept"


def test_many_threads_share_the_boxes(sandbox: Sandbox) -> None:
    answers: list[bytes] = []

    def work(number: int) -> None:
        answers.append(run(sandbox, f"print({number})").stdout.strip())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, answers)) == list(range(12))


def test_without_bubblewrap_nothing_runs_unless_the_risk_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box, "which", lambda _: None)
    with pytest.raises(InputError, match="apt-get install bubblewrap"):
        Sandbox(1)
    with Sandbox(1, Safety.UNSAFE) as unsafe:
        assert unsafe.describe()["safety"] == "unsafe"
        assert unsafe.run(Program([*PYTHON, "-c", "print(2)"])).stdout == b"2\n"


def test_machine_that_forbids_boxes_is_named_before_the_first_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(box, "which", lambda _: str(broken))
    with pytest.raises(InputError, match="setting up uid map: Permission denied"):
        Sandbox(1)


def test_box_that_cannot_be_built_is_no_program_that_failed(sandbox: Sandbox) -> None:
    with pytest.raises(BoxError, match="Can't find source path /no/such/folder"):
        sandbox.run(Program(["/bin/true"], read_only={Path("/no/such/folder"): "/shown"}))
    assert run(sandbox, "import sys; sys.exit('bwrap: no room')").exit_code == 1
    # What cannot be executed is the program's own fault: a compiler may make it of what a model wrote.
    assert sandbox.run(Program(["/job/main"])).exit_code == 1


def test_box_outlives_the_thread_that_opened_it(sandbox: Sandbox) -> None:
    hears, tells = os.pipe()
    source = f"import os; print(os.read({hears}, 5).decode())"
    program = Program([*PYTHON, "-c", source], read_only=SHOWN, descriptors=(hears,))
    with contextlib.ExitStack() as opened:
        found: list[Running] = []
        thread = threading.Thread(target=lambda: found.append(opened.enter_context(sandbox.start(program, LIMITS))))
        thread.start()
        thread.join()
        while Path(f"/proc/self/task/{thread.native_id}").exists():  # joined before it is quite gone
            time.sleep(0.01)
        os.write(tells, b"still")
        assert found[0].wait().stdout == b"still\n"
    os.close(hears)
    os.close(tells)


def test_groups_are_gone_after_the_sandbox_is_closed() -> None:
    made = Sandbox(2)
    folders = [folder for group in made._all_groups if group is not None for folder in group.folders]
    made.run(Program(["/bin/true"]))
    made.close()
    assert not any(folder.exists() for folder in folders)


def test_boxes_that_are_ended_leave_nothing_in_their_group() -> None:
    with Sandbox(1) as made:
        if not made.has_groups:
            pytest.skip("this machine lets us make no control groups")
        hears, tells = os.pipe()
        os.write(tells, b".")
        for _ in range(40):
            with made.start(Program(["/bin/sleep", "60"]), Limits(processes=16)) as running:
                time.sleep(0.03)
                assert running.wait(until=hears).ended is Ended.STOPPED
        os.close(hears)
        os.close(tells)
        assert made.run(Program(["/bin/echo", "still"])).stdout == b"still\n"


def test_boxes_that_have_ended_do_not_count_for_the_next_one() -> None:
    with Sandbox(1) as made:
        for _ in range(40):
            assert made.run(Program(["/bin/echo", "fine"]), Limits(processes=8)).stdout == b"fine\n"


def test_bare_subprocess_would_have_seen_this_machine(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    source = f"print(open({str(secret)!r}).read())"
    assert subprocess.run([*PYTHON, "-c", source], capture_output=True, check=True).stdout == b"key\n"
    assert run(sandbox, source).exit_code == 1

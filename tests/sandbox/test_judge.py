"""Verdicts: those of the bare interpreter on honest programs, and a limit named where one was met."""

import time
from pathlib import Path

import pytest

from codegemma.sandbox import judge as judging
from codegemma.sandbox.box import Limits, Sandbox
from codegemma.sandbox.judge import Examinee, Outcome, PythonJudge
from codegemma.sandbox.zygote import Zygote

DOUBLE = "assert f(2) == 4\n"


def examine_function(judge: PythonJudge, program: str, tests: str = DOUBLE) -> tuple[Outcome, str]:
    verdict = judge.examine(Examinee(program, tests, names=("f",)))
    return verdict.outcome, verdict.reason


@pytest.mark.parametrize(
    ("program", "outcome", "reason"),
    [
        ("def f(x): return 2 * x", Outcome.PASSED, ""),
        ("def f(x): return x", Outcome.FAILED, ""),
        ("def f(x): return x.y", Outcome.ERROR, "AttributeError: 'int' object has no attribute 'y'"),
        ("def f(x: return", Outcome.ERROR, "SyntaxError"),
        ("def g(x): return 2 * x", Outcome.ERROR, "does not define f"),
        ("f = 3", Outcome.ERROR, "not callable"),
        ("import os\ndef f(x): os._exit(0)", Outcome.GONE, "ended before its tests did"),
        ("import os\ndef f(x): os.kill(os.getpid(), 11)", Outcome.GONE, "ended before its tests did"),
        ("def f(x): raise SystemExit(0)", Outcome.ERROR, "SystemExit"),
        ("def f(x): return f(x)", Outcome.ERROR, "RecursionError"),
        ("def f(x): return [0] * 10**10", Outcome.ERROR, "MemoryError"),
        ("def f(x):\n    a = []\n    a.append(a)\n    return a", Outcome.ERROR, "RecursionError"),
        ("def f(x): return 'x' * 2**25", Outcome.ERROR, "at most"),
        ("import numpy_that_is_not_there\ndef f(x): return 2 * x", Outcome.ERROR, "ModuleNotFoundError"),
        ("def f(x): return '\\ud800\\0'", Outcome.FAILED, ""),
        ("\0", Outcome.ERROR, "null bytes"),
    ],
)
def test_outcome_names_what_happened(judge: PythonJudge, program: str, outcome: Outcome, reason: str) -> None:
    found, why = examine_function(judge, program)
    assert found is outcome
    assert reason in why


def test_limits_are_outcomes_of_their_own(sandbox: Sandbox) -> None:
    # Of processor time: on a busy machine the clock would decide who meets which limit first.
    with PythonJudge(sandbox, Limits(wall_s=60, cpu_s=3, output_bytes=10_000, memory_bytes=200 * 2**20)) as judge:
        assert examine_function(judge, "def f(x):\n    while True: pass")[0] is Outcome.TIME
        assert examine_function(judge, "def f(x):\n    while True: print('x' * 1000)")[0] is Outcome.OUTPUT
        grows = "def f(x):\n    a = []\n    while True: a.append(bytearray(2**20))"
        assert examine_function(judge, grows)[0] in (Outcome.MEMORY, Outcome.ERROR)
        assert examine_function(judge, "def f(x): return 2 * x")[0] is Outcome.PASSED


def test_errors_that_tests_expect_come_with_their_class(judge: PythonJudge) -> None:
    tests = "try:\n    f(1)\nexcept ValueError as error:\n    assert 'no' in str(error)\nelse:\n    assert False\n"
    assert examine_function(judge, "def f(x): raise ValueError('no')", tests)[0] is Outcome.PASSED
    own = "class E(Exception): pass\ndef f(x): raise E('no')"
    assert examine_function(judge, own, tests)[0] is Outcome.ERROR


def test_objects_stay_in_the_box_and_answer_there(judge: PythonJudge) -> None:
    program = "class Node:\n    def __init__(self, v): self.v, self.next = v, None\ndef f(node): return node.next.v"
    tests = "n = Node(1)\nn.next = Node(4)\nassert f(n) == 4\nassert n.next.v == 4\nassert n != Node(1)\n"
    assert judge.examine(Examinee(program, tests)).has_passed
    assert judge.examine(
        Examinee("def f(n): return (i * i for i in range(n))", "assert list(f(3)) == [0, 1, 4]")
    ).has_passed


def test_program_never_sees_a_test(judge: PythonJudge) -> None:
    program = (
        "import gc, glob, os\n"
        "def f(x):\n"
        "    files = [open(p).read() for p in glob.glob('/job/*') + glob.glob('/tmp/*')]\n"
        "    wanted = ' '.join(['the', 'expected', 'answer'])\n"
        "    return any(wanted in text for text in [*files, *map(str, gc.get_objects())])\n"
    )
    assert examine_function(judge, program, "assert f(1) == False, 'the expected answer'\n")[0] is Outcome.PASSED


def test_tests_that_do_not_end_are_cut_off_and_others_go_on(sandbox: Sandbox) -> None:
    with PythonJudge(sandbox, Limits(wall_s=2)) as judge:
        assert examine_function(judge, "def f(x): return 1", "while True: pass")[0] is Outcome.TIME
        assert examine_function(judge, "def f(x): return 2 * x")[0] is Outcome.PASSED


def test_box_of_the_tests_is_started_again_when_it_goes_down(sandbox: Sandbox) -> None:
    with PythonJudge(sandbox, Limits(wall_s=5)) as judge:
        examine_function(judge, "def f(x): return 1", "import os\nos.kill(os.getppid(), 9)\n")
        time.sleep(0.2)
        assert examine_function(judge, "def f(x): return 2 * x")[0] is Outcome.PASSED


def test_many_are_answered_in_order_and_equal_ones_run_once(judge: PythonJudge) -> None:
    programs = [Examinee(f"def f(x): return {n % 3}", "assert f(1) == 1") for n in range(9)]
    verdicts = list(judge.examine_all(programs))
    assert [v.has_passed for v in verdicts] == [n % 3 == 1 for n in range(9)]
    assert verdicts[0] is verdicts[3]


@pytest.mark.parametrize("is_copying", [True, False])
def test_program_without_a_box_is_not_run_and_the_next_one_is(
    sandbox: Sandbox, is_copying: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_PAUSE_S", 0.0)
    if not is_copying:
        monkeypatch.setattr(judging, "open_zygote", lambda *_: (None, "not on this machine"))
    absent = {Path("/no/such/folder"): "/shown"}
    with PythonJudge(sandbox) as judge:
        if judge.is_copying is not is_copying:
            pytest.skip("no namespaces within namespaces on this machine")
        zygotes = [judge._zygotes.get() for _ in range(judge.boxes)] if is_copying else []
        with monkeypatch.context() as broken:
            starters: list[PythonJudge | Zygote] = [*zygotes] or [judge]
            for starter in starters:
                broken.setattr(starter, "_shown", {**starter._shown, **absent})
            for zygote in zygotes:
                zygote.close()
                judge._zygotes.put(zygote)
            verdict = judge.examine(Examinee("def f(x): return 2 * x", "assert f(2) == 4"))
            assert (verdict.outcome, verdict.has_passed, verdict.is_mishap) == (Outcome.NOT_RUN, False, True)
            assert "/no/such/folder" in verdict.reason or is_copying
        assert judge.examine(Examinee("def f(x): return 2 * x", "assert f(2) == 4")).has_passed


FILLS = """
import errno, os
def fill(place):
    written = 0
    try:
        for number in range(9):
            with open(f"{place}/{number}", "wb", buffering=0) as file:
                for _ in range(50):
                    written += file.write(bytes(2 ** 20))
    except OSError as error:
        return error.errno == errno.ENOSPC, written <= 64 * 2 ** 20
    return None
"""


@pytest.mark.parametrize("place", ["/tmp", "/job", "/dev/shm"])  # noqa: S108 (the box's own)
def test_disk_that_a_program_fills_is_its_own_and_the_next_one_has_all_of_it(judge: PythonJudge, place: str) -> None:
    for _ in range(judge.boxes + 1):
        verdict = judge.examine(Examinee(FILLS, f"assert fill({place!r}) == (True, True)"))
        assert verdict.has_passed, verdict.reason

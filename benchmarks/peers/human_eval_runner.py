"""Runs programs as OpenAI's human-eval does (`execution.py`, `evaluation.py`), written anew: nothing is isolated.

    python benchmarks/peers/human_eval_runner.py PROGRAMS.json WORKERS

A thread pool; for every program a manager's process that holds the result, and a forked process that executes program
and tests in one namespace under an alarm. Prints, as JSON, how many passed and in how many seconds.
"""

import contextlib
import io
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TIMEOUT_S = 3.0


class TimedOutError(Exception):
    """The alarm went off."""


def execute(program: str, result: Any) -> None:
    """Run one program in this process, and say how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        signal.signal(signal.SIGALRM, _stop)
        signal.setitimer(signal.ITIMER_REAL, TIMEOUT_S)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                exec(program, {})  # noqa: S102 (what it is about)
            result.append("passed")
        except TimedOutError:
            result.append("timed out")
        except BaseException as error:
            result.append(f"failed: {error}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.chdir("/")


def check(program: str) -> bool:
    """Run one program in a process of its own."""
    with multiprocessing.Manager() as manager:
        result = manager.list()
        process = multiprocessing.Process(target=execute, args=(program, result))
        process.start()
        process.join(timeout=TIMEOUT_S + 1)
        if process.is_alive():
            process.kill()
        return list(result) == ["passed"]


def _stop(*_: object) -> None:
    raise TimedOutError


def main() -> None:
    """Time all programs."""
    programs, workers = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), int(sys.argv[2])
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        passed = sum(pool.map(check, programs))
    print(json.dumps({"passed": passed, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main()

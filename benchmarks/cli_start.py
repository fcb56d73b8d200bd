"""How long the command line takes to answer: `codegemma --help` beside bare Python, its floor, and an import of JAX.

    python benchmarks/cli_start.py [--rounds 11]

Each round starts every process once, so that what else the machine does meets all of them. Printed are medians and
ratios to bare Python.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "codegemma --help": [str(Path(sys.executable).with_name("codegemma")), "--help"],
    "codegemma adapt --help": [str(Path(sys.executable).with_name("codegemma")), "adapt", "--help"],
    "pip --help": [sys.executable, "-m", "pip", "--help"],
    "python -c 'import jax'": [sys.executable, "-c", "import jax"],
}


def measure(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = [{name: measure(command) for name, command in COMMANDS.items()} for _ in range(parser.parse_args().rounds)]
    floor = statistics.median(times["python -c pass"] for times in rounds)
    for name in COMMANDS:
        times = [each[name] for each in rounds]
        median = statistics.median(times)
        print(
            f"{name:24} {median * 1e3:7.0f} ms (best {min(times) * 1e3:.0f}), {median / floor:5.1f} times bare Python"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

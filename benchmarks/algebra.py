"""Algebra problems drawn a second of processor time: ours with worked steps, DeepMind's `mathematics_dataset` without.

Usage::

    python -m venv ENV && ENV/bin/pip install "sympy==1.5.1" "numpy<1.24" six absl-py
    ENV/bin/pip install --no-deps mathematics_dataset        # its last release wants a sympy of that time
    python benchmarks/algebra.py --peer ENV/bin/python [--seconds 10]

**In**: nothing.
**Out**: problems a second and characters of each, of all our families, and of those that the peer has as well (linear
equations, systems, polynomials, sequences) with the ratio; how many of ours `instruct algebra` would drop as asked
before.
**Not**: quality. Ours come as whole conversations, each step told; theirs are a question and an answer.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from codegemma.instruct.algebra.families import FAMILIES, LEVELS, tell_examples
from codegemma.instruct.examples import spell_line

_PEER = Path(__file__).with_name("peers") / "deepmind_mathematics.py"
_SHARED = ("linear", "systems", "quadratic", "factoring", "sequences")
_AT_ONCE = 500


def measure_ours(families: Sequence[str], seconds: float) -> tuple[float, float, float]:
    """Tell problems and spell their lines: how many a second, how long, and which share was asked before."""
    examples = tell_examples(families, LEVELS, 0)
    asked: set[str] = set()
    count, chars, began = 0, 0, time.process_time()
    while (spent := time.process_time() - began) < seconds:
        for example in islice(examples, _AT_ONCE):
            chars += len(spell_line(example))
            asked.add(example.turns[0].text)
            count += 1
    return count / spent, chars / count, 1 - len(asked) / count


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of processor time, for each line")
    parser.add_argument("--peer", help="interpreter of an environment with mathematics_dataset")
    args = parser.parse_args()
    for name, families in (("all families", list(FAMILIES)), ("shared families", _SHARED)):
        rate, chars, again = measure_ours(families, args.seconds)
        print(f"{name:16} {rate:9,.0f} problems/s, {chars:5.0f} characters, {again:.1%} asked before", flush=True)
    if args.peer is None:
        print("peer             not measured: --peer names the interpreter of its environment")
        return
    ran = subprocess.run([args.peer, str(_PEER), str(args.seconds)], stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(ran.stdout.splitlines()[-1])
    label = f"peer {told['version']}"
    print(f"{label:16} {told['problems_per_s']:9,.0f} problems/s, {told['chars']:5.0f} characters")
    print(f"ratio            {rate / told['problems_per_s']:9.1f} (shared families)")


if __name__ == "__main__":
    main()

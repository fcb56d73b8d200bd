"""Draws algebra problems with DeepMind's `mathematics_dataset`, and prints how many a second of processor time.

Nothing of ours: it runs in the environment of the peer, by `benchmarks/algebra.py`.
"""

import json
import sys
import time
from importlib import metadata

from mathematics_dataset.modules import algebra

MODULES = ("linear_1d", "linear_2d", "polynomial_roots", "sequence_next_term", "sequence_nth_term")


def main(seconds: float) -> None:
    """Take the modules in turn until the time is over."""
    drawn = algebra.train(lambda entropy: entropy)
    for name in MODULES:
        drawn[name]()
    count, chars, began = 0, 0, time.process_time()
    while (spent := time.process_time() - began) < seconds:
        for name in MODULES:
            problem = drawn[name]()
            chars += len(f"{problem.question}{problem.answer}")
            count += 1
    version = metadata.version("mathematics_dataset")
    print(json.dumps({"version": version, "problems_per_s": count / spent, "chars": chars / count}))


if __name__ == "__main__":
    main(float(sys.argv[1]))

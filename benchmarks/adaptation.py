"""What adaptation is worth: the adapted model against its base, another repository, and counting, over several seeds.

    python benchmarks/adaptation.py --out runs/adaptation [--repo FOLDER] [--seeds 3] [--steps 2000]

For each seed the whole job runs (`codegemma.adapt`): adaptation to the repository, the same steps on another one, and
every system on the same held-out holes, 2,000 of each kind where the files allow. Printed are each system's figures and
the paired differences with 95 % intervals, by bootstrap over files. Interrupted, it goes on where it was. Defaults to
JAX's own source, which the shipped base has not seen.
"""

import argparse
import dataclasses
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from codegemma.adapt import AdaptJob, AdaptResult, adapt, find_base, find_other
from codegemma.evals.choices import EvalChoices
from codegemma.evals.measure import Measurement
from codegemma.recipe import override
from codegemma.recipes import load_recipe

SHOWN = ("exact_match", "line_match", "bits_per_byte")


def run_seed(repo: Path, out: Path, seed: int, steps: int) -> AdaptResult:
    recipe = override(load_recipe("tiny"), [f"train.seed={seed}", f"train.steps={steps}"])
    recipe = dataclasses.replace(recipe, evals=EvalChoices(generated_holes=0))
    base = find_base(str(recipe.base))
    workers = len(os.sched_getaffinity(0))
    return adapt(AdaptJob((repo,), out / f"seed-{seed}", recipe, base, find_other([repo]), None, workers))


def format_row(measurement: Measurement) -> str:
    interval = measurement.interval
    scale, unit = (100, "%") if measurement.unit == "share" else (1, "bits/byte")
    bounds = "no interval"
    if interval.low is not None and interval.high is not None:
        bounds = f"{interval.low * scale:.3f} to {interval.high * scale:.3f}"
    mode = measurement.mode.upper() if measurement.mode else ""
    return (
        f"  {measurement.system:32} {measurement.kind:13} {mode:4} {measurement.metric:14} "
        f"{interval.mean * scale:8.3f} ({bounds}) {unit}, {interval.items} holes"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repo", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000, help="what two cores do in two minutes")
    arguments = parser.parse_args()
    found = find_spec("jax")
    repo = arguments.repo or Path(next(iter(found.submodule_search_locations or [])) if found else ".")
    for seed in range(arguments.seeds):
        result = run_seed(repo, arguments.out, seed, arguments.steps)
        print(f"seed {seed}: {result.run.steps} steps, {result.run.tokens:,} tokens, {result.run.seconds:.0f} s")
        for row in (*result.measurements, *result.gains):
            if row.metric in SHOWN:
                print(format_row(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

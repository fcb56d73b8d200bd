"""What a further round costs and gives, by the share of it that is rehearsal: its model against the one before.

    python benchmarks/rounds.py --out runs/rounds [--repo FOLDER] [--steps 300] [--shares 0,0.25,0.5,0.75] [--edited 3]

For each share the whole job runs twice (`codegemma.adapt`) on a copy of the repository: a first round, then, after
functions were added to some training files, a further one. Printed are what the further round trained on, its CPU time
beside that of the first, and the paired differences on the same held-out holes with 95 % intervals, by bootstrap over
files. Held-out holes show what the model forgot of code in general, not how well it learned what was added. Defaults to
the standard library's `email`, which the shipped base has not seen.
"""

import argparse
import dataclasses
import email
import shutil
import sys
import time
from pathlib import Path

from codegemma.adapt import BEFORE, AdaptJob, AdaptResult, adapt, find_base
from codegemma.evals.choices import EvalChoices
from codegemma.recipe import override
from codegemma.recipes import load_recipe
from codegemma.records import Pack
from codegemma.shards import read_records


def make_job(repo: Path, out: Path, steps: int, share: float) -> AdaptJob:
    recipe = override(load_recipe("tiny"), [f"train.steps={steps}", f"rounds.rehearsal_share={share}"])
    recipe = dataclasses.replace(recipe, evals=EvalChoices(max_holes_per_kind=300, generated_holes=0))
    return AdaptJob((repo,), out, recipe, find_base(str(recipe.base)), other=None, minutes=None)


def edit_files(job: AdaptJob, count: int) -> None:
    packs = read_records(job.out / "data/packs-train.parquet", Pack)
    for path in sorted(file.path for pack in packs for file in pack.files)[:count]:
        file = job.places[0] / path
        name = file.stem.strip("_")
        added = (
            f'\n\ndef describe_{name}(value):\n    """Tell of {name} in words."""\n    return f"{name}: {{value}}"\n'
        )
        file.write_text(file.read_text() + added)


def tell(result: AdaptResult, first_cpu_s: float, cpu_s: float, share: float) -> None:
    planned = result.round
    print(
        f"share {share}: {planned.files_changed} files changed, {planned.packs_changed} + {planned.packs_rehearsed} of "
        f"{planned.packs} packs, {planned.rehearsed_share:.0%} rehearsed, {result.run.steps} steps; "
        f"CPU {cpu_s:.0f} s, first round {first_cpu_s:.0f} s"
    )
    for gain in result.gains:
        if gain.metric == "bits_per_byte" and gain.system.endswith(BEFORE) and gain.mode is not None:
            low, high = gain.interval.low, gain.interval.high
            bounds = f"{low:+.3f} to {high:+.3f}" if low is not None and high is not None else "no interval"
            print(f"  {gain.kind:13} {gain.mode.upper():4} {gain.interval.mean:+.3f} bits/byte ({bounds})", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repo", type=Path, default=Path(str(email.__file__)).parent)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--shares", default="0,0.25,0.5,0.75")
    parser.add_argument("--edited", type=int, default=3)
    arguments = parser.parse_args()
    for share in map(float, arguments.shares.split(",")):
        folder = arguments.out / f"share-{share:g}"
        repo = folder / arguments.repo.name
        if folder.exists():
            sys.exit(f"{folder} exists; choose another --out")
        shutil.copytree(arguments.repo, repo)
        job = make_job(repo, folder / "out", arguments.steps, share)
        started_s = time.process_time()
        adapt(job)
        first_s = time.process_time()
        edit_files(job, arguments.edited)
        tell(adapt(job), first_s - started_s, time.process_time() - first_s, share)
    return 0


if __name__ == "__main__":
    sys.exit(main())

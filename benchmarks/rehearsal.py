"""What instruction tuning costs infilling, by how code is rehearsed: text learned anew, or the base's own say held.

Usage::

    python benchmarks/rehearsal.py --out runs/rehearsal [--data BUILD] [--steps 400] [--settings text,hold]

**In**: the shipped base; packages that it learned from, to rehearse (`library.py`), or a build of your own; exercises.
**Out**: for each setting a line: held-out problems solved; bits per byte and exact match of holes in (a) held-out files
of what was rehearsed and (b) a package that nothing rehearsed, before, after and the paired difference. Taken up where
it was when it is killed.
**Not**: preferences and rewards, which rehearse a row in nine: `codegemma align` prints what the whole tuning cost.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from codegemma.adapt import find_base, find_other
from codegemma.align.measure import count_solved, fill_holes, read_heldout, read_package
from codegemma.align.run import AlignJob, align
from codegemma.evals.measure import compare
from codegemma.evals.scoring import HoleResult
from codegemma.library import build_library
from codegemma.recipes import Recipe, load_recipe
from codegemma.records import Pack
from codegemma.runner import ignore_progress
from codegemma.sandbox.calls import Caller

# Share of the tokens that is code, peak rate, and how strongly code is held; 0 learns its text.
SETTINGS: Mapping[str, tuple[float, float, float]] = {
    "none": (0.0, 1e-3, 0.0),
    "text": (0.4, 1e-3, 0.0),
    "text-slow": (0.6, 3e-4, 0.0),
    "hold": (0.4, 1e-3, 4.0),
    "hold-strong": (0.4, 1e-3, 16.0),
    "hold-slow": (0.6, 3e-4, 16.0),
}
_DEFAULT = "none,text,text-slow,hold-slow"


def tune(name: str, base: Path, data: Path, recipe: Recipe, args: argparse.Namespace, caller: Caller) -> Path:
    """Tune on demonstrations alone."""
    share, rate, hold = SETTINGS[name]
    sft = replace(recipe.align.sft, steps=args.steps, peak_learning_rate=rate)
    choices = replace(
        recipe.align, stages=("sft",), sft=sft, rehearsal_share=share, rehearsal_hold=hold, has_control=False,
        infill_holes=0, exercises=replace(recipe.align.exercises, heldout=args.problems),
    )  # fmt: skip
    began = time.perf_counter()
    result = align(AlignJob(base, args.out / name, choices, recipe.feed, data), caller)
    solved, seconds = count_solved(result.solved["sft"]), time.perf_counter() - began
    told = f"share {share:g}, rate {rate:g}, hold {hold:g}"
    print(f"{name:12} {told}: solves {solved.mean:.1%}, {seconds:.0f} s", flush=True)
    return result.model


def tell_change(place: str, before: Sequence[HoleResult], after: Sequence[HoleResult]) -> None:
    """Print bits per byte and exact match before and after, kinds of holes together."""
    ours, theirs = ([replace(h, kind="hole", system=s) for h in hs] for s, hs in (("after", after), ("before", before)))
    told = {m.metric: m.interval for m in compare(ours, theirs)}
    bits, exact = told["bits_per_byte"], told["exact_match"]
    start = sum(h.bits or 0.0 for h in before) / sum(h.middle_bytes for h in before)
    hits = sum(bool(h.exact_match) for h in before) / len(before)
    print(
        f"    {place:20} {start:.3f} -> {start + bits.mean:.3f} bits per byte ({bits.mean / start:+.1%}; "
        f"{bits.low:+.4f} to {bits.high:+.4f}), exact match {hits:.2%} -> {hits + exact.mean:.2%} "
        f"({exact.low:+.2%} to {exact.high:+.2%})",
        flush=True,
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="a build to rehearse [default: the library, built into --out]")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--holes", type=int, default=1000, help="in each of the two places")
    parser.add_argument("--problems", type=int, default=400, help="held-out ones to solve")
    parser.add_argument("--settings", default=_DEFAULT, help=f"some of {','.join(SETTINGS)}")
    return parser.parse_args()


def main() -> None:
    """Tune by each setting, and measure."""
    args = parse_arguments()
    recipe, base, package = load_recipe("tiny_it"), find_base("tiny"), find_other(())
    data = args.data or build_library(args.out / "data", recipe)
    places: dict[str, list[Pack]] = {"rehearsed, held out": read_heldout(data)}
    if package is not None:
        places["not rehearsed"] = read_package(package)

    def fill(model: Path) -> dict[str, list[HoleResult]]:
        return {place: fill_holes(model, packs, args.holes, ignore_progress) for place, packs in places.items()}

    before = fill(base)
    with Caller() as caller:
        for name in args.settings.split(","):
            model = tune(name, base, data, recipe, args, caller)
            for place, after in fill(model).items():
                tell_change(place, before[place], after)


if __name__ == "__main__":
    main()

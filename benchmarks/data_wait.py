"""How long training waits for data: rows spelled beside the steps, against rows spelled when they are asked for.

Usage::

    python -m benchmarks.data_wait [--steps 150] [--rounds 3]

**In**: the shipped recipe `tiny` on Python's standard library, spelled with the shipped base's tokenizer; same steps.
**Out**: share of the time that a step waited, of both, medians over interleaved rounds; wanted: under 1 % beside.
**Not**: an accelerator, which is quicker at its step: `feed.py` tells how many tokens a core spells in a second.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from codegemma.feed import loader as loading
from codegemma.feed.loader import Loader, RowShape
from codegemma.model.gemma import init_params
from codegemma.recipes import load_recipe
from codegemma.records import Pack, PackedFile, Split
from codegemma.text.tokenizer import Tokenizer
from codegemma.train.step import init_state, make_train_step

SOURCES = sorted(Path(dataclasses.__file__).parent.glob("*.py"))
BASE = Path(loading.__file__).parents[1] / "bases/tiny"
RECIPE = load_recipe("tiny")
WANTED = 0.01
WARMUP_STEPS = 5
# What grain calls a loader without a thread of its own.
BESIDE, ASKED = loading._PREFETCHED_BATCHES, 0


def read_packs() -> Iterator[Pack]:
    """Read the standard library, a pack a file."""
    none = np.zeros(0, np.int32)
    for number, path in enumerate(SOURCES):
        file = PackedFile(path.name, "python", path.read_text(errors="replace"), path.name, None, none, none)
        yield Pack(str(number), "python", None, Split.TRAIN, (file,))


def measure(packs: list[Pack], tokenizer: Tokenizer, prefetched: int, steps: int) -> tuple[float, float]:
    """Train some steps; return the share of the time spent waiting, and tokens a second."""
    loading._PREFETCHED_BATCHES = prefetched
    shape = RowShape(RECIPE.train.batch_rows, RECIPE.train.row_tokens)
    loader = Loader(packs, tokenizer, RECIPE.feed, shape, seed=0)
    config = dataclasses.replace(RECIPE.model, vocab_size=tokenizer.vocab_size)
    step = make_train_step(config, RECIPE.train, steps)
    state = init_state(init_params(config, jax.random.key(0)), RECIPE.train, steps)
    waited = total = 0.0
    for number in range(WARMUP_STEPS + steps):
        start = time.perf_counter()
        batch = loader.take_known().batch
        wait = time.perf_counter() - start
        state, metrics = step(state, batch)
        jax.device_get(metrics)
        if number >= WARMUP_STEPS:
            waited, total = waited + wait, total + time.perf_counter() - start
    loader.close()
    return waited / total, steps * shape.rows * shape.row_tokens / total


def main() -> int:
    """Measure both in turn and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    packs, tokenizer = list(read_packs()), Tokenizer.load(BASE)
    found: dict[int, list[tuple[float, float]]] = {BESIDE: [], ASKED: []}
    for _ in range(args.rounds):
        for prefetched, rounds in found.items():
            rounds.append(measure(packs, tokenizer, prefetched, args.steps))
    shares = {key: statistics.median(share for share, _ in rounds) for key, rounds in found.items()}
    speeds = {key: statistics.median(speed for _, speed in rounds) for key, rounds in found.items()}
    print(f"recipe tiny, {args.steps} steps of {RECIPE.train.batch_rows * RECIPE.train.row_tokens} tokens on "
          f"{jax.default_backend()}, {args.rounds} rounds")  # fmt: skip
    print(f"spelled beside the steps    waits {shares[BESIDE]:6.2%} of the time, {speeds[BESIDE]:8,.0f} tokens/s")
    print(f"spelled when asked for      waits {shares[ASKED]:6.2%} of the time, {speeds[ASKED]:8,.0f} tokens/s")
    print(f"speed beside / when asked   {speeds[BESIDE] / speeds[ASKED]:.2f}; wanted: waits under {WANTED:.0%}")
    return 0 if shares[BESIDE] < WANTED else 1


if __name__ == "__main__":
    raise SystemExit(main())

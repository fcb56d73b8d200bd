"""What it costs to trace a token and to freeze rows, beside the loader alone, which is the floor of both.

    python -m benchmarks.trace_freeze

Input: the standard library, one pack a file. CPU time of the process, medians of `ROUNDS` rounds that run every part.
`trace` from the start of a run must compute all batches before the step; from a mark of `rows.jsonl`, those after it.
`freeze` writes ids, weights, segments, positions and the pieces of every row; reading them back is what a trainer pays
that reads shards instead of packs.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.feed import read_packs

from codegemma.feed.choices import FeedChoices
from codegemma.feed.frozen import freeze_rows, read_frozen
from codegemma.feed.loader import Loader, RowShape
from codegemma.feed.trace import trace_token
from codegemma.records import Pack
from codegemma.text.tokenizer import Tokenizer, train_tokenizer

ROUNDS = 3
TOKENS = 2**22
STEPS_AFTER_MARK = 10


def measure(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def run_round(loader: Loader, steps: int) -> tuple[dict[str, float], float, int]:
    """Return CPU seconds of every part, bytes a token, and tokens; the loader stands at its first batch."""

    def skip(count: int) -> None:
        for _ in range(count):
            next(loader)

    def trace(state: dict[str, object], before: int) -> None:
        loader.set_state(state)
        skip(before)
        trace_token(loader, loader.take_known(), 3, loader.shape.row_tokens // 2)

    times = {"loader": measure(lambda: skip(steps))}
    state = loader.get_state()
    times["from start"] = measure(lambda: trace(loader.first_state, steps - 1))
    times["from mark"] = measure(lambda: trace(state, STEPS_AFTER_MARK - 1))
    loader.set_state(loader.first_state)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        times["freeze"] = measure(lambda: freeze_rows(loader, out, steps, {}))
        times["read"] = measure(lambda: list(read_frozen(out)))
        size_bytes = sum(file.stat().st_size for file in out.glob("*.parquet"))
        tokens = sum(int((batch.segments > 0).sum()) for batch in read_frozen(out))
    return times, size_bytes / tokens, tokens


def compare(packs: list[Pack], tokenizer: Tokenizer, row_tokens: int) -> None:
    shape = RowShape(8, row_tokens)
    steps = TOKENS // (shape.rows * row_tokens)
    rounds = []
    for _ in range(ROUNDS):
        # Planning windows encodes every file: that is the opening, not the way to a step, and not measured.
        loader = Loader(packs, tokenizer, FeedChoices(), shape, seed=0)
        rounds.append(run_round(loader, steps))
        loader.close()
    median = {name: statistics.median(times[name] for times, _, _ in rounds) for name in rounds[0][0]}
    floor, (_, bytes_a_token, tokens) = median["loader"], rounds[0]
    print(
        f"rows of {row_tokens:5}, {steps} steps, {tokens / 1e6:.2f} M tokens: loader {floor:.2f} s | "
        f"trace from the start {median['from start'] / floor:.2f}x, {STEPS_AFTER_MARK} steps after a mark "
        f"{median['from mark'] * 1e3:.0f} ms | "
        f"freeze {median['freeze'] / floor:.2f}x, {tokens / median['freeze'] / 1e6:.2f} M tokens/s, "
        f"{bytes_a_token:.2f} bytes a token | reading back {floor / median['read']:.1f}x the loader's speed"
    )


def main() -> int:
    packs = read_packs()
    tokenizer = train_tokenizer((pack.files[0].text for pack in packs), 32_768)
    for row_tokens in (320, 2048, 8192):
        compare(packs, tokenizer, row_tokens)
    return 0


if __name__ == "__main__":
    sys.exit(main())

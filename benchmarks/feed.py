"""How fast the loader cuts, spells and packs on one core, against encoding every segment afresh.

    python benchmarks/feed.py [--gemma path/to/tokenizer.json]

Input: the standard library, one pack a file. Both sides get the same windows and the same holes; the peer is what the
infill transforms of the field do (Megatron-LM's and its descendants): encode prefix, middle and suffix one by one.
`cold` is the first epoch, in which every file is encoded once; `warm` is every later one. Packing into rows is the same
code for both, so it is left out of the ratio and shown in the loader's own figure.
"""

import argparse
import os
import statistics
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np

from codegemma.feed.choices import FeedChoices
from codegemma.feed.loader import Loader, RowShape
from codegemma.feed.rows import WindowSpeller
from codegemma.feed.windows import Window
from codegemma.records import Pack, PackedFile, Split
from codegemma.text.infill_format import encode_path, format_infill, format_whole, join_files
from codegemma.text.syntax import analyze_syntax
from codegemma.text.tokenizer import Tokenizer, train_tokenizer

ROUNDS = 5
TARGET_TOKENS_PER_S = 0.8e6


def read_packs() -> list[Pack]:
    root = Path(sysconfig.get_path("stdlib"))
    packs = []
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root).as_posix()
        if "site-packages" in path or "/test" in f"/{path}" or file.stat().st_size > 300_000:
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if text:
            syntax = analyze_syntax(text, "python")
            packed = PackedFile(path, "python", text, path, None, syntax.natural_cuts, syntax.block_starts)
            packs.append(Pack(path, "stdlib", None, Split.TRAIN, (packed,)))
    return packs


def spell_afresh(packs: list[Pack], tokenizer: Tokenizer, windows: list[Window], speller: WindowSpeller) -> int:
    """The peer: the same holes, every segment encoded on its own."""
    tokens = 0
    for window in windows:
        files = []
        for outcome in speller.spell(window, 0).outcomes:
            piece = outcome.piece
            file = packs[piece.pack].files[piece.file]
            path_ids = encode_path(tokenizer, file.path if outcome.has_path else None)
            if outcome.hole is None or outcome.mode is None:
                ids = format_whole(path_ids, tokenizer.encode(file.text[piece.start : piece.end]))
                files.append((ids, np.ones(len(ids), np.float32)))
                continue
            start, end = outcome.hole.start, outcome.hole.end
            parts = (file.text[piece.start : start], file.text[start:end], file.text[end : piece.end])
            prefix, middle, suffix = (tokenizer.encode(part) for part in parts)
            files.append(format_infill(path_ids, prefix, middle, suffix, outcome.mode, 1.0))
        tokens += len(join_files(files)[0])
    return tokens


def measure(name: str, packs: list[Pack], tokenizer: Tokenizer, row_tokens: int) -> None:
    loader = Loader(packs, tokenizer, FeedChoices(), RowShape(8, row_tokens), seed=0)
    windows = loader.windows
    cold: list[float] = []
    warm: list[float] = []
    afresh: list[float] = []
    for _ in range(ROUNDS):
        speller = WindowSpeller(packs, tokenizer, FeedChoices(), 0, row_tokens)
        for times in (cold, warm):
            start = time.process_time()
            tokens = sum(len(speller.spell(window, 0).ids) for window in windows)
            times.append(tokens / (time.process_time() - start))
        start = time.process_time()
        tokens = spell_afresh(packs, tokenizer, windows, speller)
        # The peer's time without that of drawing the same holes, which `spell` did for it.
        afresh.append(tokens / (time.process_time() - start - tokens / warm[-1]))
    batches = max(int(2e6) // (8 * row_tokens), 1)
    for _ in range(4):
        next(loader)
    start, real, slots = time.process_time(), 0, 0
    for _ in range(batches):
        batch = next(loader)
        real += int((batch.segments > 0).sum())
        slots += batch.ids.size
    packed = real / (time.process_time() - start)
    loader.close()
    cold_rate, warm_rate, afresh_rate = (statistics.median(rates) for rates in (cold, warm, afresh))
    print(
        f"{name:10} rows of {row_tokens:5}: loader {packed / 1e6:5.2f} M tokens/s (rows {real / slots:.1%} full) | "
        f"warm {warm_rate / 1e6:5.2f}, cold {cold_rate / 1e6:5.2f}, segment by segment {afresh_rate / 1e6:5.2f} | "
        f"warm / segment by segment {warm_rate / afresh_rate:4.1f}x | "
        f"loader / target of {TARGET_TOKENS_PER_S / 1e6} M {packed / TARGET_TOKENS_PER_S:.1f}x"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gemma", type=Path, help="Gemma's own tokenizer.json, measured beside ours")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    packs = read_packs()
    print(f"{len(packs)} files, {sum(len(p.files[0].text) for p in packs) / 1e6:.1f} M characters, one core, CPU time")
    tokenizers = {"ours 32k": train_tokenizer((p.files[0].text for p in packs), 32_768)}
    if arguments.gemma:
        tokenizers["Gemma 256k"] = Tokenizer.load(arguments.gemma)
    for name, tokenizer in tokenizers.items():
        for row_tokens in (2048, 8192):
            measure(name, packs, tokenizer, row_tokens)
    return 0


if __name__ == "__main__":
    sys.exit(main())

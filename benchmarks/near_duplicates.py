"""What near-duplicates and decontamination cost on one core, step by step, beside datatrove's MinHash.

    python -m benchmarks.near_duplicates [--datatrove PYTHON] [--benchmarks PATH]

Input: the standard library, and 900 near copies of 300 of its files (one identifier renamed, lines inserted, comments
changed). `--datatrove` is the interpreter of an environment with `datatrove==0.10.1 xxhash<4 tokenizers`; it gets the
same texts in the same run, in the configurations that `peers/datatrove_minhash.py` states. `--benchmarks` is a folder
of benchmarks to guard. CPU time, medians of five rounds; wanted: three times as fast as datatrove's fastest.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tests.corpus.near_copies import plant, read_library

from codegemma.corpus.benchmarks import read_benchmarks
from codegemma.corpus.choices import CorpusChoices, NearDuplicatePolicy
from codegemma.corpus.decontaminate import ContaminationIndex
from codegemma.corpus.dedup import hash_shingles, shingle_tokens
from codegemma.corpus.near_duplicates import find_near_duplicates
from codegemma.corpus.sketch_shards import make_shard, read_shard, write_shard
from codegemma.corpus.sketches import sketch_shingles
from codegemma.corpus.tokens import encode_text, hash_tokens

ROUNDS = 5
ORIGINALS = 300
# Shares of the planted copies by how alike they are: what lies below 0.7 is not to be found.
BORDERS = (0.0, 0.6, 0.7, 0.75, 0.8, 0.9, 1.01)
TARGET_RATIO = 3.0

Seconds = dict[str, list[float]]
T = TypeVar("T")


def read_texts() -> tuple[list[str], dict[int, int]]:
    """Read the input; tell for each planted copy by its number that of its original."""
    root = Path(sysconfig.get_path("stdlib"))
    originals = read_library(ORIGINALS)
    others = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]
    texts = list(originals.values()) + [
        path.read_text(encoding="utf-8", errors="replace")
        for path in others
        if path.relative_to(root).as_posix() not in originals
    ]
    places = {path: number for number, path in enumerate(originals)}
    copies = {}
    for path, _, text in plant(originals):
        copies[len(texts)] = places[path]
        texts.append(text)
    return texts, copies


def run_ours(texts: list[str], folder: Path, seconds: Seconds) -> set[int]:
    def timed(step: str, function: Callable[[], T]) -> T:
        started_s = time.process_time()
        result = function()
        seconds[step].append(time.process_time() - started_s)
        return result

    tokens = timed("tokens", lambda: [hash_tokens(encode_text(text)) for text in texts])
    shingles = timed("shingles", lambda: [shingle_tokens(found) for found in tokens])
    sketches = timed("sketch", lambda: [sketch_shingles(found) for found in shingles])
    keys = {("r", f"{number:06}"): sketch for number, sketch in enumerate(sketches)}
    timed("bands", lambda: write_shard(folder / "00000", make_shard(keys)))
    border = CorpusChoices().min_near_duplicate_jaccard
    return timed(
        "search",
        lambda: {
            int(near.key[1])
            for near in find_near_duplicates([read_shard(folder / "00000")], NearDuplicatePolicy.EVERYWHERE, border)
        },
    )


def run_datatrove(python: Path, texts: list[str], folder: Path) -> dict[str, Any]:
    lines = folder / "texts.jsonl"
    lines.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    peer = Path(__file__).parent / "peers" / "datatrove_minhash.py"
    answer = subprocess.run([python, peer, lines, folder], check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def print_recall(name: str, removed: set[int], copies: dict[int, int], jaccard: dict[int, float]) -> None:
    """A copy is found if it or its original goes: who of the two is nobody's mistake."""
    shares = []
    for low, high in itertools.pairwise(BORDERS):
        group = [number for number, index in jaccard.items() if low <= index < high]
        found = sum(number in removed or copies[number] in removed for number in group)
        shares.append(f"{low:.2f}-{min(high, 1):.2f}: {found / max(1, len(group)):6.1%} of {len(group)}")
    print(f"  pairs of a planted copy and its original that {name} parts, by exact Jaccard index: {', '.join(shares)}")


def measure_jaccard(texts: list[str], copies: dict[int, int]) -> dict[int, float]:
    measured = {}
    for copy, original in copies.items():
        ones, others = hash_shingles(texts[copy]), hash_shingles(texts[original])
        shared = len(np.intersect1d(ones, others, assume_unique=True))
        measured[copy] = shared / (len(ones) + len(others) - shared)
    return measured


def measure_decontamination(texts: list[str], path: Path, megabytes: float) -> None:
    benchmarks = read_benchmarks([path])
    started_s = time.process_time()
    index = ContaminationIndex(benchmarks.texts)
    build_s = time.process_time() - started_s
    tokens = [hash_tokens(encode_text(text)) for text in texts]
    times = []
    for _ in range(ROUNDS):
        started_s = time.process_time()
        found = [index.find(text, known) for text, known in zip(texts, tokens, strict=True)]
        times.append(time.process_time() - started_s)
    print(
        f"decontaminate {statistics.median(times) * 1e3 / megabytes:6.1f} ms/MB with the tokens given; index of "
        f"{len(benchmarks.texts)} texts built in {build_s:.1f} s; {sum(map(bool, found))} of {len(texts)} files match"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datatrove", type=Path, help="a Python that has it")
    parser.add_argument("--benchmarks", type=Path, help="a folder of benchmarks")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    texts, copies = read_texts()
    megabytes = sum(len(encode_text(text)) for text in texts) / 1e6
    print(f"{len(texts)} files, {megabytes:.1f} MB, {len(copies)} of them planted copies; one core, CPU time")
    ours: Seconds = defaultdict(list)
    peers: dict[str, list[float]] = defaultdict(list)
    removed: dict[str, set[int]] = {}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            removed["ours"] = run_ours(texts, Path(folder) / "shards", ours)
            if arguments.datatrove:
                for name, answer in run_datatrove(arguments.datatrove, texts, Path(folder)).items():
                    peers[name].append(sum(answer["cpu_s"].values()))
                    removed[f"datatrove ({name})"] = set(answer["removed"])
    cost_ms = {step: statistics.median(times) * 1e3 / megabytes for step, times in ours.items()}
    for step, cost in cost_ms.items():
        print(f"{step:13} {cost:6.1f} ms/MB")
    total = sum(cost_ms.values())
    print(f"{'ours in all':13} {total:6.1f} ms/MB, {1e3 / total:.0f} MB/s")
    for name, times in peers.items():
        cost = statistics.median(times) * 1e3 / megabytes
        print(f"datatrove, {name:7} {cost:6.1f} ms/MB; ours is {cost / total:.1f}x as fast, wanted {TARGET_RATIO:.0f}x")
    jaccard = measure_jaccard(texts, copies)
    for name, numbers in removed.items():
        print_recall(name, numbers, copies, jaccard)
    if arguments.benchmarks:
        measure_decontamination(texts, arguments.benchmarks, megabytes)
    return 0


if __name__ == "__main__":
    sys.exit(main())

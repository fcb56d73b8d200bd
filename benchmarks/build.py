"""What a build costs: CPU milliseconds per megabyte and step, throughput by workers, memory, and the floor.

    python benchmarks/build.py [REPO...] [--tokenizer tokenizer.json] [--workers 1 2] [--rounds 3] [--grow MB...]

Without REPO: the standard library and the packages installed beside it. A megabyte is one of source that was read and
wanted, kept or dropped. The floor is what cannot be left out: one bare parse by tree-sitter of what is kept and, with a
tokenizer, one bare encoding of it; both are measured in the same run, on the same texts. `--grow` builds ever larger
parts of the input, so that cost and memory can be seen against size. Every build runs in fresh processes.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.inputs import list_repositories
from codegemma.pack.choices import PackChoices
from codegemma.records import SourceFile
from codegemma.runner import LocalRunner, keep_workers
from codegemma.shards import read_records
from codegemma.text.languages import LANGUAGES, has_grammar

# At most so much of what is kept is parsed and encoded for the floor.
FLOOR_BYTES = 24_000_000


def choose_languages() -> tuple[str, ...]:
    """Take every language whose grammar is installed."""
    return tuple(name for name in LANGUAGES if has_grammar(name))


def build_once(repos: list[Path], out: Path, workers: int) -> dict[str, Any]:
    """Build in this process, which must be fresh, and tell what it cost."""
    from codegemma.corpus.pipeline import build_corpus
    from codegemma.pack.pipeline import build_packs

    started_s = time.perf_counter()
    runner = LocalRunner(workers)
    with keep_workers():
        corpus = build_corpus(repos, out, replace(CorpusChoices(), languages=choose_languages()), runner)
        packs = build_packs(out, out, PackChoices(), runner)
    wall_s = time.perf_counter() - started_s
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    unread = {"language", "too_big", "vendored", "environment", "cache", "version_control", "submodule", "symlink"}
    read_bytes = corpus.bytes_train + corpus.bytes_heldout
    read_bytes += sum(drop.size_bytes for drop in corpus.dropped if drop.reason not in unread)
    return {
        "mb": read_bytes / 1e6,
        "kept_mb": (corpus.bytes_train + corpus.bytes_heldout) / 1e6,
        "files": corpus.files_train + corpus.files_heldout,
        "wall_s": wall_s,
        "cpu_s": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        "peak_mib": [own.ru_maxrss / 1024, children.ru_maxrss / 1024],
        "steps": {k: v for r in (corpus.seconds, packs.seconds) for k, v in r.items() if k.endswith("_cpu_s")},
    }


def run_build(repos: list[Path], out: Path, workers: int) -> dict[str, Any]:
    """Build in a process of its own."""
    command = [sys.executable, __file__, *map(str, repos), "--once", str(out), "--workers", str(workers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_floor(out: Path, tokenizer: Path | None) -> dict[str, float]:
    """Parse and encode what was kept, bare; CPU milliseconds per megabyte."""
    from tree_sitter import Parser

    from codegemma.text.landmarks import load_grammar

    files, size_bytes = [], 0
    for file in read_records(out / "files-train.parquet", SourceFile):
        files.append(file)
        size_bytes += len(file.text.encode())
        if size_bytes >= FLOOR_BYTES:
            break
    parsers = {language: Parser(load_grammar(language)) for language in {file.language for file in files}}
    started_s = time.process_time()
    for file in files:
        parsers[file.language].parse(file.text.encode())
    floor = {"parse": (time.process_time() - started_s) / size_bytes * 1e9}
    if tokenizer is not None:
        from tokenizers import Tokenizer

        encoder = Tokenizer.from_file(str(tokenizer))
        started_s = time.process_time()
        for file in files:
            encoder.encode(file.text, add_special_tokens=False)
        floor["tokenise"] = (time.process_time() - started_s) / size_bytes * 1e9
    return floor


def print_steps(build: dict[str, Any], floor: dict[str, float]) -> None:
    print(f"\n{'step':24} {'CPU ms/MB':>10} {'floor':>8}")
    for step, seconds in sorted(build["steps"].items(), key=lambda item: -item[1]):
        name = step.removesuffix("_cpu_s")
        bare = f"{floor[name]:8.1f}" if name in floor else ""
        print(f"{name:24} {seconds / build['mb'] * 1e3:10.1f} {bare}")
    known_s = sum(build["steps"].values())
    print(f"{'the rest':24} {(build['cpu_s'] - known_s) / build['mb'] * 1e3:10.1f}")
    per_mb = build["cpu_s"] / build["mb"] * 1e3
    print(f"{'all':24} {per_mb:10.1f} {floor['parse']:8.1f}   {1e3 / per_mb:.2f} MB/s a core without tokenising")
    if "tokenise" in floor:
        with_tokens, least = per_mb + floor["tokenise"], floor["parse"] + floor["tokenise"]
        print(
            f"{'all, and tokenise':24} {with_tokens:10.1f} {least:8.1f}   {1e3 / with_tokens:.2f} MB/s a core, "
            f"{with_tokens / least:.2f} times the floor"
        )


def list_parts(repos: list[Path]) -> list[tuple[Path, str, int]]:
    """List the files that a build would read: repository, path and size, in a fixed random order."""
    wanted = {extension for name in choose_languages() for extension in LANGUAGES[name].extensions}
    found = []
    for root in repos:
        [listing] = list_repositories([root])
        found += [
            (root, entry.path, entry.size_bytes)
            for entry in listing.entries
            if entry.refusal is None and Path(entry.path).suffix in wanted and entry.size_bytes < 2**20
        ]
    random.Random(0).shuffle(found)
    return found


def copy_part(found: list[tuple[Path, str, int]], size_bytes: float, folder: Path) -> Path:
    """Copy so many bytes of the files into a folder."""
    taken = 0
    for root, path, size in found:
        if taken >= size_bytes:
            break
        target = folder / root.name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((root / path).read_bytes())
        taken += size
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repos", nargs="*", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json, Gemma's own for instance")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--grow", type=float, nargs="+", default=[], metavar="MB")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    repos = args.repos or [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    if args.once is not None:
        print(json.dumps(build_once(repos, args.once, args.workers[0])))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        builds: dict[int, list[dict[str, Any]]] = {workers: [] for workers in args.workers}
        for number in range(args.rounds):
            for workers in args.workers:
                out = Path(scratch) / f"{number}-{workers}"
                builds[workers].append(run_build(repos, out, workers))
        first = builds[args.workers[0]]
        middle = sorted(first, key=lambda build: build["cpu_s"])[len(first) // 2]
        print(f"{middle['mb']:.1f} MB read, {middle['kept_mb']:.1f} MB kept in {middle['files']:,} files")
        print_steps(middle, measure_floor(Path(scratch) / f"0-{args.workers[0]}", args.tokenizer))
        walls = {workers: statistics.median(build["wall_s"] for build in each) for workers, each in builds.items()}
        print()
        for workers, wall_s in walls.items():
            peak = [max(build["peak_mib"][place] for build in builds[workers]) for place in (0, 1)]
            print(
                f"{workers} workers: {wall_s:.1f} s, {middle['mb'] / wall_s:.2f} MB/s, "
                f"{walls[args.workers[0]] / wall_s:.2f} times {args.workers[0]}; "
                f"peak of the parent {peak[0]:.0f} MiB, of a worker {peak[1]:.0f} MiB"
            )
        if args.grow:
            found = list_parts(repos)
            print(f"\n{'MB':>8} {'CPU ms/MB':>10} {'parent MiB':>10} {'worker MiB':>10}")
        for size_mb in args.grow:
            part = copy_part(found, size_mb * 1e6, Path(scratch) / f"part-{size_mb:g}")
            grown = run_build([part], Path(scratch) / f"grown-{size_mb:g}", 2)
            print(
                f"{grown['mb']:8.1f} {grown['cpu_s'] / grown['mb'] * 1e3:10.1f} "
                f"{grown['peak_mib'][0]:10.0f} {grown['peak_mib'][1]:10.0f}"
            )
    print(f"{os.cpu_count()} cores; medians of {args.rounds} rounds")
    return 0


if __name__ == "__main__":
    sys.exit(main())

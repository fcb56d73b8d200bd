"""What a build costs: CPU milliseconds per megabyte and step beside their floors, speed-up by workers, memory by size.

    python benchmarks/build.py [REPO...] [--tokenizer tokenizer.json] [--workers 1 2] [--rounds 3] [--grow MB...]

Without REPO: the standard library and the packages installed beside it; archives will do as well. A megabyte is one of
source that was read and wanted, kept or dropped. A floor is what a step cannot leave out, done bare, on the same texts
in the same run: one parse by tree-sitter, one encoding by the `tokenizers` library, one reading, one hash, one writing.
`--grow` builds ever larger parts of the input with two workers; where the input is too small, it comes again with other
names in it. Every build runs in fresh processes. `--mb` takes no more than so much of the input for the first table.
"""

import argparse
import hashlib
import io
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path, PurePosixPath
from typing import Any

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.entries import Entry
from codegemma.corpus.inputs import list_repositories
from codegemma.pack.choices import PackChoices
from codegemma.records import SourceFile
from codegemma.runner import LocalRunner, keep_workers
from codegemma.shards import read_records, write_records
from codegemma.text.languages import LANGUAGES, has_grammar
from codegemma.text.tokenizer import Tokenizer

# At most so much of what is kept is done bare, for the floors.
FLOOR_BYTES = 24_000_000
BARE_FILES = 3000
GROW_WORKERS = 2
# Reasons for which a file is not read: its bytes do not count.
UNREAD = frozenset(
    {"language", "too_big", "vendored", "environment", "cache", "version_control", "submodule", "symlink"}
)
# Names that no language has as a keyword: they begin in lower case and have an underscore, a capital or a digit within.
NAME = re.compile(r"\b[a-z]+[_A-Z\d]\w*")


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
    kept_bytes = corpus.bytes_train + corpus.bytes_heldout
    read_bytes = kept_bytes + sum(drop.size_bytes for drop in corpus.dropped if drop.reason not in UNREAD)
    return {
        "mb": read_bytes / 1e6,
        "kept_mb": kept_bytes / 1e6,
        "listed": sum(repo.files_listed for repo in corpus.repos),
        "kept": corpus.files_train + corpus.files_heldout,
        "wall_s": wall_s,
        "cpu_s": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        "peak_mib": [read_peak_kib() / 1024, children.ru_maxrss / 1024],
        "steps": {k: v for r in (corpus.seconds, packs.seconds) for k, v in r.items() if k.endswith("_cpu_s")},
    }


def read_peak_kib() -> float:
    """Read how much memory this process has held; what `getrusage` tells counts the process that started it as well."""
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return float(peak)


def run_build(repos: Sequence[Path], out: Path, workers: int) -> dict[str, Any]:
    """Build in a process of its own."""
    command = [sys.executable, __file__, *map(str, repos), "--once", str(out), "--workers", str(workers)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_floors(out: Path, tokenizer: Path | None) -> dict[str, float]:
    """Do bare, on what was kept, what steps cannot leave out; CPU milliseconds per megabyte."""
    from tree_sitter import Parser

    from codegemma.text.landmarks import load_grammar

    files, size_bytes = [], 0
    for file in read_records(out / "files-train.parquet", SourceFile):
        files.append(file)
        size_bytes += len(file.text.encode())
        if size_bytes >= FLOOR_BYTES:
            break
    parsers = {language: Parser(load_grammar(language)) for language in {file.language for file in files}}
    buffers = [io.BytesIO(file.text.encode()) for file in files]

    def measure(work: Callable[[], object]) -> float:
        started_s = time.process_time()
        work()
        return (time.process_time() - started_s) / size_bytes * 1e9

    floors = {
        "parse": measure(lambda: [parsers[file.language].parse(file.text.encode()) for file in files]),
        "read": measure(lambda: [buffer.read().decode() for buffer in buffers]),
        "digest": measure(lambda: [hashlib.sha1(buffer.getbuffer(), usedforsecurity=False) for buffer in buffers]),
        "write": measure(lambda: write_records(out / "floor.parquet", files)),
    }
    if tokenizer is not None:
        import tokenizers

        library, ours = tokenizers.Tokenizer.from_file(str(tokenizer)), Tokenizer.load(tokenizer)
        ours.encode("")  # its table of borders is made once
        floors["tokenise"] = measure(lambda: [library.encode(file.text, add_special_tokens=False) for file in files])
        floors["tokenise, ours"] = measure(lambda: [ours.encode(file.text) for file in files])
        floors["tokenise, ours again"] = measure(lambda: [ours.encode(file.text) for file in files])
    return floors


def parse_bare(out: Path) -> float:
    """Parse files that a build kept, and nothing else, for the time that it takes; seconds."""
    from tree_sitter import Parser

    from codegemma.text.landmarks import load_grammar

    files = list(islice(read_records(out / "files-train.parquet", SourceFile), BARE_FILES))
    parsers = {language: Parser(load_grammar(language)) for language in {file.language for file in files}}
    started_s = time.perf_counter()
    for file in files:
        parsers[file.language].parse(file.text.encode())
    return time.perf_counter() - started_s


def measure_bare_speed_up(out: Path, workers: int) -> float:
    """Tell how much more is parsed a second by processes that share nothing: the most this machine gives."""

    def run(count: int) -> float:
        command = [sys.executable, __file__, "--parse", str(out)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        return max(float(process.communicate()[0]) for process in running)

    return statistics.median(workers * run(1) / run(workers) for _ in range(3))


def print_steps(build: dict[str, Any], floors: dict[str, float]) -> None:
    print(f"\n{'step':24} {'CPU ms/MB':>10} {'floor':>8}")
    for step, seconds in sorted(build["steps"].items(), key=lambda item: -item[1]):
        name = step.removesuffix("_cpu_s")
        floor = f"{floors[name]:8.1f}" if name in floors else ""
        print(f"{name:24} {seconds / build['mb'] * 1e3:10.1f} {floor}")
    known_s = sum(build["steps"].values())
    print(f"{'outside of steps':24} {(build['cpu_s'] - known_s) / build['mb'] * 1e3:10.1f}")
    per_mb = build["cpu_s"] / build["mb"] * 1e3
    print(f"{'all':24} {per_mb:10.1f} {floors['parse']:8.1f}   {1e3 / per_mb:.2f} MB/s a core without tokenising")
    if "tokenise" not in floors:
        return
    ours, bare = floors["tokenise, ours"], floors["tokenise"]
    print(
        f"{'tokenise':24} {ours:10.1f} {bare:8.1f}   {bare / ours:.1f} times as fast as the library, "
        f"{bare / floors['tokenise, ours again']:.1f} times where the text was seen before"
    )
    print(
        f"{'all, and tokenise':24} {per_mb + ours:10.1f} {floors['parse'] + bare:8.1f}   "
        f"{1e3 / (per_mb + ours):.2f} MB/s a core, {(per_mb + ours) / (floors['parse'] + bare):.2f} times the floor"
    )


def list_parts(repos: Sequence[Path], scratch: Path) -> list[tuple[str, Entry]]:
    """List the files that a build would read, by repository, in a fixed random order."""
    wanted = {extension for name in choose_languages() for extension in LANGUAGES[name].extensions}
    found = [
        (listing.repo, entry)
        for listing in list_repositories(repos, scratch=scratch)
        for entry in listing.entries
        if entry.refusal is None and PurePosixPath(entry.path).suffix in wanted and entry.size_bytes < 2**20
    ]
    random.Random(0).shuffle(found)
    return found


def copy_part(found: Sequence[tuple[str, Entry]], size_bytes: float, folder: Path) -> list[Path]:
    """Copy so many bytes of the files into a folder for each repository, under other names from the second time on."""
    taken = 0
    for number, repo, entry in ((number, *each) for number in count() for each in found):
        if taken >= size_bytes:
            break
        path, text = entry.path, entry.read_bytes(2**20).decode("utf-8", "replace")
        if number:
            stem, suffix = path.removesuffix(PurePosixPath(path).suffix), PurePosixPath(path).suffix
            path, text = rename(stem, number) + suffix, rename(text, number)
        target = folder / (f"{repo}-{number}" if number else repo) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="")
        taken += len(text)
    return sorted(folder.iterdir())


def rename(text: str, number: int) -> str:
    """Give what people named another name.

    >>> rename("def find_all(x): return findAll(x)", 2)
    'def find_all_2(x): return findAll_2(x)'
    """
    return NAME.sub(lambda match: f"{match[0]}_{number}", text)


def print_workers(builds: dict[int, list[dict[str, Any]]], out: Path) -> None:
    walls = {workers: statistics.median(build["wall_s"] for build in each) for workers, each in builds.items()}
    first = next(iter(walls.values()))
    print()
    for workers, wall_s in walls.items():
        peaks = [max(build["peak_mib"][place] for build in builds[workers]) for place in (0, 1)]
        print(
            f"{workers} workers: {wall_s:.1f} s, {builds[workers][0]['mb'] / wall_s:.2f} MB/s, "
            f"{first / wall_s:.2f} times as fast as the first, "
            f"bare parsing {measure_bare_speed_up(out, workers):.2f} times; "
            f"peak of the parent {peaks[0]:.0f} MiB, of a worker {peaks[1]:.0f} MiB"
        )


def grow(repos: Sequence[Path], sizes_mb: Sequence[float], scratch: Path) -> Iterator[dict[str, Any]]:
    """Build ever larger parts, each anew; nothing of one is left for the next."""
    found = list_parts(repos, scratch)
    for size_mb in sizes_mb:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            parts = copy_part(found, size_mb * 1e6, Path(folder) / "repos")
            yield run_build(parts, Path(folder) / "out", GROW_WORKERS)


def print_growth(builds: Iterator[dict[str, Any]]) -> None:
    print(f"\n{'MB':>8} {'files':>8} {'CPU ms/MB':>10} {'in steps':>9} {'parent MiB':>10} {'worker MiB':>10}")
    grown = []
    for build in builds:
        grown.append(build)
        print(
            f"{build['mb']:8.1f} {build['listed']:8} {build['cpu_s'] / build['mb'] * 1e3:10.1f} "
            f"{sum(build['steps'].values()) / build['mb'] * 1e3:9.1f} "
            f"{build['peak_mib'][0]:10.0f} {build['peak_mib'][1]:10.0f}",
            flush=True,
        )
    if len(grown) > 1:
        files = grown[-1]["listed"] - grown[0]["listed"]
        slope = (grown[-1]["peak_mib"][0] - grown[0]["peak_mib"][0]) * 2**20 / files
        print(f"the parent grows by {slope:.0f} bytes a file; {GROW_WORKERS} workers")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repos", nargs="*", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json, Gemma's own for instance")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mb", type=float)
    parser.add_argument("--grow", type=float, nargs="+", default=[], metavar="MB")
    parser.add_argument("--scratch", type=Path, help="a folder with room for what is built; 4 GB for each GB of source")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--parse", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.parse is not None:
        print(parse_bare(args.parse))
        return 0
    repos = args.repos or [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    if args.once is not None:
        print(json.dumps(build_once(repos, args.once, args.workers[0])))
        return 0
    if args.scratch is not None:
        args.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        scratch = Path(folder)
        measured = repos
        if args.mb is not None:
            measured = copy_part(list_parts(repos, scratch), args.mb * 1e6, scratch / "part")
        builds: dict[int, list[dict[str, Any]]] = {workers: [] for workers in args.workers}
        for number in range(args.rounds):
            for workers in args.workers:
                builds[workers].append(run_build(measured, scratch / f"{number}-{workers}", workers))
        if args.rounds:
            first = builds[args.workers[0]]
            middle = sorted(first, key=lambda build: build["cpu_s"])[len(first) // 2]
            print(f"{middle['mb']:.1f} MB read, {middle['kept_mb']:.1f} MB kept in {middle['kept']:,} files")
            print_steps(middle, measure_floors(scratch / f"0-{args.workers[0]}", args.tokenizer))
            print_workers(builds, scratch / f"0-{args.workers[0]}")
        if args.grow:
            print_growth(grow(repos, args.grow, scratch))
    print(f"\n{os.cpu_count()} cores; medians of {args.rounds} rounds")
    return 0


if __name__ == "__main__":
    sys.exit(main())

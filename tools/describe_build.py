"""Build data from repositories and describe them in Markdown: every number of a build, and no source.

    python tools/describe_build.py REPO... --out data > build.md

**In**: what `codegemma build` takes; and its options after `--`.
**Out**: Markdown on standard output: what the build cost, and what stands in `corpus.json` and `packs.json`.
**Not**: names of files. A build that stands in the folder already is described, and costs nothing.
"""

import argparse
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from codegemma.corpus.report import CorpusReport
from codegemma.corpus.report import read_manifest as read_corpus
from codegemma.pack.report import read_manifest as read_packs

MAX_ROWS = 40


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table of at most `MAX_ROWS` rows."""
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows[:MAX_ROWS]:
        print(f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in row)} |")
    if len(rows) > MAX_ROWS:
        print(f"\nand {len(rows) - MAX_ROWS} more rows.")


def to_mb(size_bytes: int) -> str:
    """Spell bytes as megabytes."""
    return f"{size_bytes / 1e6:,.1f}"


class Cost(NamedTuple):
    """What a build took: all processes together, but for the peak, which is the largest one's."""

    cpu_s: float
    wall_s: float
    peak_mib: float


def build(repos: Sequence[str], out: Path, options: Sequence[str]) -> Cost:
    """Run `codegemma build`, its words on standard error."""
    command = [sys.executable, "-m", "codegemma", "build", *repos, "--out", str(out), *options]
    start = time.monotonic()
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
    _, status, usage = os.wait4(pid, 0)  # counts its workers too, as it waited for them
    if status:
        raise SystemExit(f"codegemma build failed with {os.waitstatus_to_exitcode(status)}")
    return Cost(usage.ru_utime + usage.ru_stime, time.monotonic() - start, usage.ru_maxrss / 1024)


def name_machine() -> str:
    """Name the processor, the system and how much of both there is."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpus = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {processor}, {memory_gib:.0f} GiB, Python {platform.python_version()}"


def print_head(given: argparse.Namespace, options: Sequence[str], corpus: CorpusReport, cost: Cost | None) -> None:
    """Print the command, the machine, how much was read, and what it cost if it was done just now."""
    command = ["codegemma", "build", *(Path(repo).name for repo in given.repos), "--out", "DATA", *options]
    listed_bytes = corpus.bytes_train + corpus.bytes_heldout + sum(drop.size_bytes for drop in corpus.dropped)
    read_mb = (listed_bytes - sum(drop.size_bytes for drop in corpus.dropped if drop.stage == "read")) / 1e6
    kept_mb = (corpus.bytes_train + corpus.bytes_heldout) / 1e6
    print(f"    {shlex.join(command)}\n")
    print(f"codegemma {version('codegemma')}, {name_machine()}, {time.strftime('%Y-%m-%d', time.gmtime())}.\n")
    print(f"{sum(repo.files_listed for repo in corpus.repos):,} files listed, {to_mb(listed_bytes)} MB of all sorts;")
    print(f"{read_mb:,.1f} MB of source in wanted languages were read, {kept_mb:,.1f} MB kept before parsing.")
    if cost is not None:
        rate, each = read_mb / cost.cpu_s, cost.cpu_s * 1e3 / read_mb
        print(f"\n{cost.cpu_s:,.0f} s of CPU time, {each:,.0f} ms a megabyte read, {rate:.2f} MB/s a core, listing and")
        print(f"unpacking of archives included; {cost.wall_s:,.0f} s by the clock. The largest process held", end=" ")
        print(f"{cost.peak_mib:,.0f} MiB.")


def main() -> int:
    """Build, read the folder and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repos", nargs="+", metavar="REPO")
    parser.add_argument("--out", type=Path, required=True, metavar="DATA")
    border = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given, options = parser.parse_args(sys.argv[1:border]), sys.argv[border + 1 :]
    is_there = read_packs(given.out) is not None
    cost = build(given.repos, given.out, options)
    corpus, packs = read_corpus(given.out), read_packs(given.out)
    if corpus is None or packs is None:
        raise SystemExit(f"{given.out}: no whole build there")
    print_head(given, options, corpus, None if is_there else cost)
    print_table(("repository", "files listed", "held out"), [(r.repo, r.files_listed, r.heldout) for r in corpus.repos])
    print_table(
        ("stage", "files in", "kept", "dropped"),
        [(s.stage, s.files_in, s.files_kept, s.files_dropped) for s in corpus.stages],
    )
    drops = sorted(corpus.dropped, key=lambda drop: -drop.files)
    print_table(("stage", "reason", "files", "MB"), [(d.stage, d.reason, d.files, to_mb(d.size_bytes)) for d in drops])
    print_table(
        ("licence", "files", "MB"),
        [(x.license or "none stated", x.files, to_mb(x.size_bytes)) for x in corpus.licenses],
    )
    print("\nPseudonyms: " + (", ".join(f"{n:,} {kind}" for kind, n in corpus.redactions.items()) or "none") + ".")
    print("".join(f"\n- {line}" for line in (*corpus.lists, *corpus.notes)))
    for name, split in packs.splits.items():
        print(
            f"\n{name}: {split.files_packed:,} files of {split.files_in:,}, {split.chars / 1e6:,.1f} M characters, ",
            end="",
        )
        print(f"{split.packs:,} packs, {split.edges:,} import edges, {split.paired_tests:,} tests paired.")
        print_table(("language", "files"), split.files_by_language.most_common())
        shares = [
            (order, f"{edges / max(split.edges, 1):.1%}") for order, edges in sorted(split.colocated_edges.items())
        ]
        print_table(("order", "import edges in one pack"), shares)
    seconds = {**corpus.seconds, **{f"packs: {step}": spent for step, spent in packs.seconds.items()}}
    print_table(("step", "seconds"), [(step, f"{spent:,.1f}") for step, spent in seconds.items()])
    return 0


if __name__ == "__main__":
    sys.exit(main())

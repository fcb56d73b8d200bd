"""How many imports share a window of 30 kB, for four orders of files, on 15 packages of PyPI; and what grouping costs.

    python benchmarks/co_location.py [--cache FOLDER] [--window-bytes 30000] [PACKAGE...]

Ours is `grouped`. Its peers are CodeGemma's order, cut; files by name; and shuffled files, as StarCoder2 was trained.
The packages were named before anything was measured. Their wheels are downloaded by pip once, checked against the
digests below, and read without being installed or run.
"""

import argparse
import hashlib
import statistics
import subprocess
import sys
import time
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from codegemma.pack.choices import PackOrder
from codegemma.pack.graph import break_cycles
from codegemma.pack.group import RepositoryGraph, count_colocated_by_order, group_files
from codegemma.pack.imports import extract_imports, resolve_imports
from codegemma.pack.unit_tests import pair_tests


class Wheel(NamedTuple):
    """A pinned package, and the SHA-256 of its wheel for CPython 3.11 on x86-64 Linux."""

    name: str
    version: str
    sha256: str


WHEELS = (
    Wheel("click", "8.1.7", "ae74fb96c20a0277a1d615f1e4d73c8414f5a98db8b799a7931d1582f3390c28"),
    Wheel("requests", "2.32.3", "70761cfe03c773ceb22aa2f671b4757976145175cdfca038c02654d061d6dcc6"),
    Wheel("flask", "3.0.3", "34e815dfaa43340d1d15a5c3a02b8476004037eb4840b34910c6e21679d288f3"),
    Wheel("rich", "13.9.4", "6049d5e6ec054bf2779ab3358186963bac2ea89175919d699e378b99738c2a90"),
    Wheel("black", "24.10.0", "4007b1393d902b48b36958a216c20c4482f601569d19ed1df294a496eb366392"),
    Wheel("pytest", "8.3.3", "a6853c7375b2663155079443d2e45de913a911a11d669df02a50814944db57b2"),
    Wheel("aiohttp", "3.10.10", "679abe5d3858b33c2cf74faec299fda60ea9de62916e8b67e625d65bf069a3b7"),
    Wheel("networkx", "3.4.2", "df5d4365b724cf81b8c6a7312509d0c22386097011ad1abe274afd5e9d3bbc5f"),
    Wheel("sqlalchemy", "2.0.36", "2519f3a5d0517fc159afab1015e54bb81b4406c278749779be57a569d8d1bb0d"),
    Wheel("matplotlib", "3.9.2", "8912ef7c2362f7193b5819d17dae8629b34a95c58603d781329712ada83f9447"),
    Wheel("scikit-learn", "1.5.2", "f8b0ccd4a902836493e026c03256e8b206656f91fbcc4fde28c57a5b752561f1"),
    Wheel("numpy", "2.1.3", "bc6f24b3d1ecc1eebfbf5d6051faa49af40b03be1aaa781ebdadcbc090b4539b"),
    Wheel("pandas", "2.2.3", "c124333816c3a9b03fbeef3a9f230ba9a737e9e5bb4060aa2107a86cc0a497fc"),
    Wheel("sympy", "1.13.3", "54612cf55a62755ee71824ce692986f23c88ffa77207b30c1368eda4a7060f73"),
    Wheel("django", "5.1.3", "8b38a9a12da3ae00cb0ba72da985ec4b14de6345046b1e174b1fd7254398f818"),
)

PLATFORM = ("--only-binary=:all:", "--platform=manylinux2014_x86_64", "--python-version=3.11")
ORDERS = ("grouped", "codegemma", "alphabetical", "random")
MAX_FILE_BYTES = 1 << 20


def fetch_wheel(wheel: Wheel, cache: Path) -> Path:
    """Find a wheel in the cache, or download it; whatever its digest is not is refused."""
    found = _find_wheel(wheel, cache)
    if found is None:
        wanted = f"{wheel.name}=={wheel.version}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *PLATFORM, "-d", str(cache), wanted]
        subprocess.run(command, check=True)
        found = _find_wheel(wheel, cache)
    if found is None:
        raise SystemExit(f"{wheel.name} {wheel.version}: no wheel with SHA-256 {wheel.sha256} came; see {cache}")
    return found


def _find_wheel(wheel: Wheel, cache: Path) -> Path | None:
    name = wheel.name.replace("-", "_")
    files = [path for path in sorted(cache.glob("*.whl")) if path.name.lower().startswith(f"{name}-{wheel.version}-")]
    return next((path for path in files if hashlib.sha256(path.read_bytes()).hexdigest() == wheel.sha256), None)


def read_texts(wheel: Path) -> dict[str, str]:
    """Read the Python files that a corpus would keep."""
    texts = {}
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".py") and 0 < entry.file_size <= MAX_FILE_BYTES:
                try:
                    texts[entry.filename] = archive.read(entry).decode()
                except UnicodeDecodeError:
                    continue  # a test of decoders
    return texts


def build_graph(repo: str, texts: dict[str, str], cpu_s: defaultdict[str, float]) -> RepositoryGraph:
    """Link the files, and add the CPU seconds of each step to `cpu_s`. Sizes are in bytes: so is the window."""
    marks = [time.process_time()]
    imports = {path: extract_imports(text, "python") for path, text in texts.items()}
    marks.append(time.process_time())
    edges = resolve_imports(imports, repo)
    marks.append(time.process_time())
    kept = break_cycles(edges).kept
    marks.append(time.process_time())
    pairs = pair_tests(dict.fromkeys(texts, "python"))
    marks.append(time.process_time())
    steps = ("extract imports", "resolve imports", "break cycles", "pair tests")
    for step, start, end in zip(steps, marks[:-1], marks[1:], strict=True):
        cpu_s[step] += end - start
    sizes = {path: len(path) + 1 + len(text.encode()) for path, text in texts.items()}
    return RepositoryGraph(sizes, edges, kept, pairs)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", help="some of the pinned ones; default: all")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "codegemma" / "wheels")
    parser.add_argument("--window-bytes", type=int, default=30_000)
    options = parser.parse_args()
    if unknown := set(options.packages) - {wheel.name for wheel in WHEELS}:
        parser.error(f"{', '.join(sorted(unknown))}: not pinned; known: {', '.join(wheel.name for wheel in WHEELS)}")
    cpu_s: defaultdict[str, float] = defaultdict(float)
    graphs: dict[str, RepositoryGraph] = {}
    for wheel in WHEELS:
        if wheel.name in (options.packages or {wheel.name}):
            texts = read_texts(fetch_wheel(wheel, options.cache))
            graphs[f"{wheel.name} {wheel.version}"] = build_graph(wheel.name, texts, cpu_s)
    print_colocation(graphs, options.window_bytes)
    print_costs(graphs, cpu_s, options.window_bytes)


def print_colocation(graphs: dict[str, RepositoryGraph], window_bytes: int) -> None:
    """Print the share of import edges whose two files share a window, and how much more of them grouping keeps."""
    print(f"{f'windows of {window_bytes:,} bytes':24}{'files':>7}{'edges':>8}", end="")
    print("".join(f"{order:>13}" for order in ORDERS), f"{'grouped / codegemma':>20}")
    total: Counter[str] = Counter()
    ratios = []
    for name, graph in graphs.items():
        counts = Counter(count_colocated_by_order(graph, window_bytes))
        counts.update({"edges": len(graph.edges), "files": len(graph.size_chars)})
        ratios.append(print_shares(name, counts))
        total.update(counts)
    print_shares("all", total)
    middle = statistics.median(ratios)
    print(f"grouped / codegemma by package: {min(ratios):.2f} to {max(ratios):.2f}, median {middle:.2f}")


def print_shares(name: str, counts: Counter[str]) -> float:
    """Print one row: counts, shares of the edges, and the ratio, which is returned."""
    ratio = counts["grouped"] / max(counts["codegemma"], 1)
    shares = "".join(f"{counts[order] / max(counts['edges'], 1):13.1%}" for order in ORDERS)
    print(f"{name:24}{counts['files']:7,}{counts['edges']:8,}{shares}{ratio:21.2f}")
    return ratio


def print_costs(graphs: dict[str, RepositoryGraph], cpu_s: defaultdict[str, float], window_bytes: int) -> None:
    """Print CPU milliseconds per megabyte of source for each step."""
    size_mb = sum(sum(graph.size_chars.values()) for graph in graphs.values()) / 1e6
    for order in PackOrder:
        started_s = time.process_time()
        for graph in graphs.values():
            group_files(graph, order, window_bytes)
        cpu_s[f"group ({order.value})"] = time.process_time() - started_s
    print(f"\n{'step':24}{'ms/MB':>8}{'MB/s':>8}   ({size_mb:.1f} MB, one core)")
    for step, seconds in cpu_s.items():
        print(f"{step:24}{1e3 * seconds / size_mb:8.1f}{size_mb / max(seconds, 1e-9):8.0f}")


if __name__ == "__main__":
    main()

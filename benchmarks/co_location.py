"""How many imports share a pack, for four orders of files; and what the pack reach costs per megabyte.

    python benchmarks/co_location.py [PACKAGE...]      # default: the standard library, numpy, scipy, jax

Ours is `grouped`. Its peers are CodeGemma's order, cut; files by name; and shuffled files, as StarCoder2 was trained.
"""

import argparse
import importlib.util
import sysconfig
import time
from collections import Counter, defaultdict
from pathlib import Path

from codegemma.pack.choices import PackChoices, PackOrder
from codegemma.pack.graph import break_cycles
from codegemma.pack.group import RepositoryGraph, count_colocated_by_order, group_files
from codegemma.pack.imports import extract_imports, resolve_imports
from codegemma.pack.unit_tests import pair_tests
from codegemma.text.syntax import analyze_syntax

PACKAGES = ("stdlib", "numpy", "scipy", "jax")
BUDGETS_TOKENS = (8_192, 32_768)
MAX_FILE_BYTES = 1 << 20
SKIPPED_FOLDERS = {"site-packages", "__pycache__"}


def find_folder(package: str) -> Path:
    """Find where a package is installed."""
    if package == "stdlib":
        return Path(sysconfig.get_path("stdlib"))
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package}: no such package is installed here")
    return Path(spec.submodule_search_locations[0])


def read_texts(folder: Path) -> dict[str, str]:
    """Read the Python files that a corpus would keep."""
    texts = {}
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if SKIPPED_FOLDERS.isdisjoint(name.parts) and 0 < path.stat().st_size <= MAX_FILE_BYTES:
            try:
                texts[name.as_posix()] = path.read_bytes().decode()
            except UnicodeDecodeError:
                continue  # the standard library tests its own decoders with such files
    return texts


def build_graph(repo: str, texts: dict[str, str], cpu_s: defaultdict[str, float]) -> RepositoryGraph:
    """Link the files, and add the CPU seconds of each step to `cpu_s`."""
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
    return RepositoryGraph({path: len(path) + 1 + len(text) for path, text in texts.items()}, edges, kept, pairs)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", default=PACKAGES)
    cpu_s: defaultdict[str, float] = defaultdict(float)
    graphs: dict[str, RepositoryGraph] = {}
    size_mb = 0.0
    for package in parser.parse_args().packages:
        folder = find_folder(package)
        texts = read_texts(folder)
        size_mb += sum(len(text.encode()) for text in texts.values()) / 1e6
        graphs[package] = build_graph(folder.name, texts, cpu_s)
        started_s = time.process_time()
        for text in texts.values():
            analyze_syntax(text, "python")
        cpu_s["parse and cuts"] += time.process_time() - started_s
    print_colocation(graphs)
    print_costs(graphs, cpu_s, size_mb)


def print_colocation(graphs: dict[str, RepositoryGraph]) -> None:
    """Print the share of import edges whose two files share a pack."""
    print(
        f"{'edges in one pack':24}{'files':>7}{'edges':>8}{'grouped':>10}{'codegemma':>11}{'by name':>9}{'random':>8}"
    )
    for budget_tokens in BUDGETS_TOKENS:
        total: Counter[str] = Counter()
        for package, graph in graphs.items():
            counts = count_colocated_by_order(graph, PackChoices(budget_tokens=budget_tokens).budget_chars)
            counts |= {"edges": len(graph.edges), "files": len(graph.size_chars)}
            total.update(counts)
            print_shares(f"{package}, {budget_tokens:,}", counts)
        print_shares(f"all, {budget_tokens:,} tokens", total)


def print_shares(name: str, counts: dict[str, int] | Counter[str]) -> None:
    """Print one row: counts, then shares of the edges."""
    shares = [
        100 * counts[order] / max(counts["edges"], 1) for order in ("grouped", "codegemma", "alphabetical", "random")
    ]
    print(
        f"{name:24}{counts['files']:7,}{counts['edges']:8,}"
        f"{shares[0]:9.1f}%{shares[1]:10.1f}%{shares[2]:8.1f}%{shares[3]:7.1f}%"
    )


def print_costs(graphs: dict[str, RepositoryGraph], cpu_s: defaultdict[str, float], size_mb: float) -> None:
    """Print CPU milliseconds per megabyte of source for each step."""
    for order in PackOrder:
        started_s = time.process_time()
        for graph in graphs.values():
            group_files(graph, order, PackChoices().budget_chars)
        cpu_s[f"group ({order.value})"] = time.process_time() - started_s
    print(f"\n{'step':24}{'ms/MB':>8}{'MB/s':>8}   ({size_mb:.1f} MB, one core)")
    for step, seconds in cpu_s.items():
        print(f"{step:24}{1e3 * seconds / size_mb:8.1f}{size_mb / max(seconds, 1e-9):8.0f}")


if __name__ == "__main__":
    main()

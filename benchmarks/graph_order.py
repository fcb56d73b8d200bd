"""What the report's order costs on a large repository, beside the all-pairs reference on the same graph.

    python benchmarks/graph_order.py [--files 10000] [--edges 60000] [--reference-files 2000]

Imports are drawn at random, most of them of a few files, as in real repositories. The reference follows the report to
the letter: it looks for cycles anew after each edge that it removes, and knows the distance of every pair of files.
On a graph of `--reference-files` both must give the same edges and the same order; the ratio is of CPU seconds there.
"""

import argparse
import random
import resource
import time

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, shortest_path

from codegemma.pack.choices import PackChoices, PackOrder
from codegemma.pack.graph import break_cycles, order_dependencies, rank_edges
from codegemma.pack.group import RepositoryGraph, group_files
from codegemma.pack.imports import Edge


def draw_edges(files: int, edges: int, seed: int = 0) -> tuple[list[str], list[Edge]]:
    """Draw a graph: paths, and exactly so many edges."""
    rng = random.Random(seed)
    paths = [f"d{number % 100}/f{number:05}.py" for number in range(files)]
    ends: set[tuple[str, str]] = set()
    while len(ends) < edges:
        importer, imported = rng.choice(paths), paths[min(int(rng.paretovariate(0.5)), files - 1)]
        if importer != imported:
            ends.add((importer, imported))
    return paths, [Edge(*pair, rng.randrange(1, 5)) for pair in sorted(ends)]


def break_cycles_by_definition(edges: list[Edge]) -> list[Edge]:
    """Remove the least important edge that lies on a cycle, and look again."""
    kept = rank_edges(edges)
    names = sorted({path for edge in edges for path in (edge.importer, edge.imported)})
    numbers = {path: number for number, path in enumerate(names)}
    while True:
        sources = [numbers[edge.importer] for edge in kept]
        targets = [numbers[edge.imported] for edge in kept]
        matrix = coo_array((np.ones(len(kept), np.int8), (sources, targets)), shape=(len(names), len(names)))
        labels = connected_components(matrix.tocsr(), directed=True, connection="strong")[1]
        on_cycle = np.flatnonzero(labels[sources] == labels[targets])
        if not len(on_cycle):
            return sorted(kept)
        del kept[on_cycle[-1]]


def order_by_definition(paths: list[str], edges: list[Edge]) -> tuple[str, ...]:
    """Place, of the files whose imports are placed, the one with the least of all its distances to placed files."""
    paths = sorted(paths)
    numbers = {path: number for number, path in enumerate(paths)}
    sources = np.array([numbers[edge.importer] for edge in edges])
    targets = np.array([numbers[edge.imported] for edge in edges])
    matrix = coo_array((np.ones(len(edges)), (sources, targets)), shape=(len(paths), len(paths)))
    distances = shortest_path(matrix.tocsr(), directed=False, unweighted=True)
    unplaced_imports = np.bincount(sources, minlength=len(paths))
    order: list[int] = []
    is_placed = np.zeros(len(paths), bool)
    while len(order) < len(paths):
        ready = np.flatnonzero(~is_placed & (unplaced_imports == 0))
        nearest = distances[np.ix_(ready, np.array(order))].min(axis=1) if order else np.zeros(len(ready))
        chosen = int(ready[np.argmin(nearest)])  # of equals the first by name
        order.append(chosen)
        is_placed[chosen] = True
        unplaced_imports -= np.bincount(sources[targets == chosen], minlength=len(paths))
    return tuple(paths[number] for number in order)


def main() -> None:
    """Print the costs of both, and whether they agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--edges", type=int, default=60_000)
    parser.add_argument("--reference-files", type=int, default=2_000)
    options = parser.parse_args()

    paths, edges = draw_edges(options.files, options.edges)
    started_s = time.process_time()
    kept, broken = break_cycles(edges)
    broken_s = time.process_time()
    order_dependencies(paths, kept)
    ordered_s = time.process_time()
    graph = RepositoryGraph(dict.fromkeys(paths, 6_000), tuple(edges), kept, {})
    group_files(graph, PackOrder.GROUPED, PackChoices().budget_chars)
    grouped_s = time.process_time()
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{options.files:,} files, {options.edges:,} edges, {len(broken):,} of them closed cycles")
    print(f"break cycles {broken_s - started_s:.2f} s, order {ordered_s - broken_s:.2f} s,", end=" ")
    print(f"both {ordered_s - started_s:.2f} s; grouping {grouped_s - ordered_s:.2f} s; peak {peak_gib:.2f} GiB")

    paths, edges = draw_edges(options.reference_files, 3 * options.reference_files, seed=1)
    started_s = time.process_time()
    kept = break_cycles(edges).kept
    order = order_dependencies(paths, kept)
    ours_s = time.process_time() - started_s
    started_s = time.process_time()
    wanted = break_cycles_by_definition(edges)
    wanted_order = order_by_definition(paths, wanted)
    reference_s = time.process_time() - started_s
    if list(kept) != wanted or order != wanted_order:
        raise SystemExit("the order is not that of the reference")
    print(
        f"{options.reference_files:,} files, {len(edges):,} edges: the same order as the reference, "
        f"{ours_s:.2f} s against {reference_s:.2f} s, {reference_s / ours_s:.0f} times faster"
    )


if __name__ == "__main__":
    main()

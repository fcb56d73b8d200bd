"""Puts the files of one repository in dependency order, as the CodeGemma report does (section 2.3).

**In**: paths and the import edges between them.
**Out**: the edges without cycles, and an order in which a file comes after the files that it imports.
**Not**: budgets or tests: `group.py` and `unit_tests.py`. The same graph gives the same order, however it is listed.

What the report leaves open: an edge's importance is its weight, then how many files import its target, then the names;
a path's length is its number of edges, followed in either direction.
"""

import heapq
import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from codegemma.pack.imports import Edge

# So few edges are looked at one by one; for more, halving costs less than a step for each edge and node.
FEW_EDGES = 256

# One end of each edge, as a number.
Ends = Int64[np.ndarray, " edges"]


class AcyclicEdges(NamedTuple):
    """Edges sorted by path: those kept, and those that closed a cycle."""

    kept: tuple[Edge, ...]
    broken: tuple[Edge, ...]


def rank_edges(edges: Iterable[Edge]) -> list[Edge]:
    """Sort edges by falling importance.

    >>> [e.importer for e in rank_edges([Edge("a", "c", 1), Edge("b", "c", 2), Edge("c", "a", 1), Edge("d", "b", 1)])]
    ['b', 'a', 'c', 'd']
    """
    edges = list(edges)
    importers = Counter(edge.imported for edge in edges)
    return sorted(edges, key=lambda edge: (-edge.weight, -importers[edge.imported], edge.importer, edge.imported))


def break_cycles(edges: Iterable[Edge]) -> AcyclicEdges:
    """Remove the least important edge that lies on a cycle, again and again, until no cycle is left.

    >>> break_cycles([Edge("a", "b", 3), Edge("b", "c", 2), Edge("c", "a", 1)]).broken
    (Edge(importer='c', imported='a', weight=1),)
    """
    ranked = rank_edges(edges)
    # An edge is removed just when it lies on a cycle with edges that are all more important: those that are less so and
    # lie on a cycle are gone by then. So an edge goes if its ends are strongly connected by itself and those above it.
    is_broken = _joined_by_rank(*_number_ends(ranked))
    kept = sorted(edge for edge, broken in zip(ranked, is_broken, strict=True) if not broken)
    broken = sorted(edge for edge, broken in zip(ranked, is_broken, strict=True) if broken)
    return AcyclicEdges(tuple(kept), tuple(broken))


def _number_ends(edges: Sequence[Edge]) -> tuple[Ends, Ends]:
    numbers: dict[str, int] = {}
    ends = [numbers.setdefault(path, len(numbers)) for edge in edges for path in (edge.importer, edge.imported)]
    both = np.array(ends, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _joined_by_rank(sources: Ends, targets: Ends) -> list[bool]:
    """Say for each edge `r` whether the edges `0..r` strongly connect its ends.

    Halves the ranks: edges whose ends the lower half joins go on in there; for the others, what it joins becomes one
    node. An edge is looked at once per halving, so 60,000 edges cost some 16 passes, not 60,000.
    """
    is_joined = np.zeros(len(sources), bool)
    # Each task: edges by rank, their ends, and that the number of top edges it takes to join them is above low, up to
    # high; beyond the number of edges means never.
    tasks = [(np.arange(len(sources)), sources, targets, 0, len(sources) + 1)]
    while tasks:
        ranks, left, right, low, high = tasks.pop()
        is_joined[ranks[ranks >= high - 1]] = True
        if not np.any((ranks >= low) & (ranks < high - 1)):
            continue
        if len(ranks) <= FEW_EDGES:
            is_joined[ranks] |= (ranks >= low) & _join_few(left.tolist(), right.tolist())
            continue
        middle = (low + high) // 2
        components = _strong_components(left, right, ranks < middle)
        joined = components[0] == components[1]
        tasks.append((ranks[joined], left[joined], right[joined], low, middle))
        tasks.append((ranks[~joined], components[0][~joined], components[1][~joined], middle, high))
    flags: list[bool] = is_joined.tolist()
    return flags


def _join_few(sources: list[int], targets: list[int]) -> Bool[np.ndarray, " edges"]:
    """Say for each edge whether those before it lead from its target to its source, by what each node reaches."""
    numbers = {node: number for number, node in enumerate({*sources, *targets})}
    reached = [1 << number for number in range(len(numbers))]
    is_joined = []
    for source, target in zip((numbers[node] for node in sources), (numbers[node] for node in targets), strict=True):
        is_joined.append(bool(reached[target] >> source & 1))
        if not reached[source] >> target & 1:
            further = reached[target]
            reached = [nodes | further if nodes >> source & 1 else nodes for nodes in reached]
    return np.array(is_joined, bool)


def _strong_components(left: Ends, right: Ends, is_active: Bool[np.ndarray, " edges"]) -> tuple[Ends, Ends]:
    """Give both ends of each edge the number of their component in the graph of the active edges."""
    # It takes a quarter of a second to import, and few repositories need it.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes, numbers = np.unique(np.concatenate([left, right]), return_inverse=True)
    sources, targets = numbers[: len(left)], numbers[len(left) :]
    ones = np.ones(np.count_nonzero(is_active), np.int8)
    matrix = coo_array((ones, (sources[is_active], targets[is_active])), shape=(len(nodes), len(nodes)))
    labels = connected_components(matrix.tocsr(), directed=True, connection="strong")[1].astype(np.int64)
    return labels[sources], labels[targets]


def order_dependencies(paths: Iterable[str], edges: Iterable[Edge]) -> tuple[str, ...]:
    """Order files so that what is imported comes before what imports it; `edges` have no cycle.

    Of the files whose imports are all placed, the next is the one with the fewest edges to a placed file; ties go by
    name.

    >>> order_dependencies(["app", "db", "log", "web"], [Edge("app", "web", 1), Edge("web", "log", 1)])
    ('db', 'log', 'web', 'app')
    """
    importers, neighbors, unplaced_imports = _read_links(edges)
    distances = dict.fromkeys(paths, math.inf)
    ready = [(math.inf, path) for path in distances if not unplaced_imports[path]]
    heapq.heapify(ready)
    order: dict[str, None] = {}
    while ready:
        _, path = heapq.heappop(ready)
        if path in order:
            continue  # it was nearer in an earlier entry
        order[path] = None
        for importer in importers[path]:
            unplaced_imports[importer] -= 1
            if not unplaced_imports[importer]:
                heapq.heappush(ready, (distances[importer], importer))
        for nearer in _spread_distance(path, neighbors, distances):
            if not unplaced_imports[nearer] and nearer not in order:
                heapq.heappush(ready, (distances[nearer], nearer))
    if len(order) != len(distances):
        raise ValueError("the edges have a cycle: break_cycles first")
    return tuple(order)


class _Links(NamedTuple):
    importers: Mapping[str, list[str]]
    neighbors: Mapping[str, list[str]]
    unplaced_imports: Counter[str]


def _read_links(edges: Iterable[Edge]) -> _Links:
    links = _Links(defaultdict(list), defaultdict(list), Counter())
    for edge in edges:
        links.importers[edge.imported].append(edge.importer)
        links.neighbors[edge.imported].append(edge.importer)
        links.neighbors[edge.importer].append(edge.imported)
        links.unplaced_imports[edge.importer] += 1
    return links


def _spread_distance(start: str, neighbors: Mapping[str, list[str]], distances: dict[str, float]) -> Iterator[str]:
    """Lower distances to a newly placed file, breadth first, and yield the files that came nearer."""
    distances[start] = 0
    reached = deque([start])
    while reached:
        path = reached.popleft()
        for neighbor in neighbors[path]:
            if distances[path] + 1 < distances[neighbor]:
                distances[neighbor] = distances[path] + 1
                reached.append(neighbor)
                yield neighbor

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import floyd_warshall

from codegemma.pack import graph
from codegemma.pack.graph import break_cycles, order_dependencies, rank_edges
from codegemma.pack.imports import Edge

PATHS = [f"{letter}.py" for letter in "abcdefgh"]
ENDS = st.tuples(st.sampled_from(PATHS), st.sampled_from(PATHS)).filter(lambda ends: ends[0] != ends[1])
GRAPHS = st.dictionaries(ENDS, st.integers(1, 3), max_size=25).map(
    lambda weights: [Edge(*ends, weight) for ends, weight in weights.items()]
)


def find_reachable(edges: list[Edge], start: str) -> set[str]:
    reached, pending = set(), [start]
    while pending:
        path = pending.pop()
        for edge in edges:
            if edge.importer == path and edge.imported not in reached:
                reached.add(edge.imported)
                pending.append(edge.imported)
    return reached


def break_cycles_by_definition(edges: list[Edge]) -> set[Edge]:
    """Remove the least important edge on a cycle until there is none, searching anew each time."""
    kept = rank_edges(edges)
    while on_cycle := [edge for edge in kept if edge.importer in find_reachable(kept, edge.imported)]:
        kept.remove(on_cycle[-1])
    return set(edges) - set(kept)


def order_by_definition(paths: list[str], edges: list[Edge]) -> list[str]:
    """All-pairs shortest paths, then the whole list of unparented files for each place."""
    numbers = {path: i for i, path in enumerate(paths)}
    adjacency = np.zeros((len(paths), len(paths)))
    for edge in edges:
        adjacency[numbers[edge.importer], numbers[edge.imported]] = 1
    distances = floyd_warshall(adjacency, directed=False, unweighted=True)
    order: list[str] = []
    while len(order) < len(paths):
        ready = [
            path
            for path in paths
            if path not in order and all(e.imported in order for e in edges if e.importer == path)
        ]
        order.append(
            min(ready, key=lambda p: (min((distances[numbers[p], numbers[s]] for s in order), default=math.inf), p))
        )
    return order


@pytest.mark.parametrize("few", [0, 4, graph.FEW_EDGES])
@given(edges=GRAPHS)
def test_cycles_are_broken_at_their_least_important_edges(few: int, edges: list[Edge]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "FEW_EDGES", few)
        assert set(break_cycles(edges).broken) == break_cycles_by_definition(edges)


@given(GRAPHS)
def test_every_edge_is_kept_or_broken_once(edges: list[Edge]) -> None:
    kept, broken = break_cycles(edges)
    assert sorted(kept + broken) == sorted(edges)


@given(GRAPHS)
def test_order_is_that_of_the_definition(edges: list[Edge]) -> None:
    kept = list(break_cycles(edges).kept)
    assert list(order_dependencies(PATHS, kept)) == order_by_definition(PATHS, kept)


@given(GRAPHS)
def test_each_file_comes_once_and_after_what_it_imports(edges: list[Edge]) -> None:
    kept = break_cycles(edges).kept
    order = order_dependencies(PATHS, kept)
    assert sorted(order) == PATHS
    assert all(order.index(edge.imported) < order.index(edge.importer) for edge in kept)


@given(GRAPHS, st.randoms(use_true_random=False))
def test_order_does_not_depend_on_how_the_graph_is_listed(edges: list[Edge], rng: random.Random) -> None:
    shuffled, paths = rng.sample(edges, len(edges)), rng.sample(PATHS, len(PATHS))
    assert break_cycles(shuffled) == break_cycles(edges)
    kept = break_cycles(edges).kept
    assert order_dependencies(paths, reversed(kept)) == order_dependencies(PATHS, kept)


def test_importance_is_weight_then_importers_of_the_target_then_name() -> None:
    heavy, popular, first, last = Edge("z", "y", 2), Edge("y", "x", 1), Edge("a", "y", 1), Edge("b", "w", 1)
    others = [Edge("p", "x", 1), Edge("q", "x", 1)]
    assert rank_edges([last, first, popular, heavy, *others])[:1] == [heavy]
    assert rank_edges([last, first, popular, heavy]) == [heavy, first, last, popular]
    assert rank_edges([first, popular, *others])[-1] == first


def test_edges_with_a_cycle_are_refused() -> None:
    with pytest.raises(ValueError, match="cycle"):
        order_dependencies(["a", "b"], [Edge("a", "b", 1), Edge("b", "a", 1)])


def test_a_repository_of_ten_thousand_files_is_ordered() -> None:
    """Its time is measured by `benchmarks/graph_order.py`."""
    rng = random.Random(0)
    paths = [f"d{i % 100}/f{i:05}.py" for i in range(10_000)]
    ends = {(rng.choice(paths), paths[min(int(rng.paretovariate(0.5)), 9_999)]) for _ in range(60_000)}
    edges = [Edge(*pair, rng.randrange(1, 5)) for pair in sorted(ends) if pair[0] != pair[1]]
    kept, broken = break_cycles(edges)
    assert len(order_dependencies(paths, kept)) == 10_000
    assert broken

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.pack.choices import PackOrder
from codegemma.pack.graph import break_cycles
from codegemma.pack.group import RepositoryGraph, count_colocated, count_colocated_by_order, cut_order, group_files
from codegemma.pack.imports import Edge
from codegemma.pack.unit_tests import pair_tests

PATHS = [f"{prefix}{letter}.py" for prefix in ("", "test_", "x/") for letter in "abcd"]
ENDS = st.tuples(st.sampled_from(PATHS), st.sampled_from(PATHS)).filter(lambda ends: ends[0] != ends[1])
BUDGETS = st.integers(1, 60)


def make_graph(size_chars: dict[str, int], weights: dict[tuple[str, str], int]) -> RepositoryGraph:
    edges = tuple(Edge(*ends, weight) for ends, weight in weights.items())
    return RepositoryGraph(size_chars, edges, break_cycles(edges).kept, pair_tests(dict.fromkeys(size_chars, "python")))


GRAPHS = st.builds(
    make_graph,
    st.fixed_dictionaries(dict.fromkeys(PATHS, st.integers(1, 40))),
    st.dictionaries(ENDS, st.integers(1, 3), max_size=25),
)


@pytest.mark.parametrize("order", PackOrder)
@given(GRAPHS, BUDGETS)
def test_every_file_is_in_one_pack_once(order: PackOrder, graph: RepositoryGraph, budget_chars: int) -> None:
    packs = group_files(graph, order, budget_chars)
    assert sorted(path for pack in packs for path in pack) == sorted(PATHS)


@pytest.mark.parametrize("order", PackOrder)
@given(GRAPHS, BUDGETS)
def test_a_pack_is_within_the_budget_or_a_single_file(
    order: PackOrder, graph: RepositoryGraph, budget_chars: int
) -> None:
    for pack in group_files(graph, order, budget_chars):
        assert len(pack) == 1 or sum(graph.size_chars[path] for path in pack) <= budget_chars


@given(GRAPHS, BUDGETS)
def test_within_a_pack_dependencies_come_first_and_tests_behind_what_they_test(
    graph: RepositoryGraph, budget_chars: int
) -> None:
    for pack in group_files(graph, PackOrder.GROUPED, budget_chars):
        placed_tests = {test for test, tested in graph.pairs.items() if test in pack and tested in pack}
        for edge in graph.kept:
            if {edge.importer, edge.imported} <= set(pack) - placed_tests:
                assert pack.index(edge.imported) < pack.index(edge.importer)
        for test in placed_tests:
            assert pack.index(test) == pack.index(graph.pairs[test]) + 1


@pytest.mark.parametrize("order", PackOrder)
@given(GRAPHS, BUDGETS, st.randoms(use_true_random=False))
def test_packs_do_not_depend_on_how_the_repository_is_listed(
    order: PackOrder, graph: RepositoryGraph, budget_chars: int, rng: random.Random
) -> None:
    shuffled = RepositoryGraph(
        dict(rng.sample(list(graph.size_chars.items()), len(PATHS))),
        tuple(rng.sample(graph.edges, len(graph.edges))),
        tuple(rng.sample(graph.kept, len(graph.kept))),
        dict(rng.sample(list(graph.pairs.items()), len(graph.pairs))),
    )
    assert group_files(shuffled, order, budget_chars) == group_files(graph, order, budget_chars)


def test_codegemma_order_is_one_order_cut_where_the_budget_is_full() -> None:
    graph = make_graph({"a": 3, "b": 3, "c": 3, "d": 3}, {("a", "b"): 1, ("b", "c"): 1})
    assert group_files(graph, PackOrder.CODEGEMMA, 6) == (("c", "b"), ("a", "d"))


def test_grouping_keeps_clusters_whole_that_a_cut_order_divides() -> None:
    clusters = {f"{c}{i}.py": 10 for i in range(5) for c in "abcdef"}
    weights = {(f"{c}{i}.py", f"{c}0.py"): 1 for i in range(1, 5) for c in "abcdef"}
    weights |= {(f"{c}1.py", "z.py"): 1 for c in "abcdef"}
    graph = make_graph(clusters | {"z.py": 10}, weights)
    colocated = count_colocated_by_order(graph, budget_chars=50)
    assert colocated["grouped"] >= 24 > colocated["codegemma"]
    assert colocated["grouped"] > colocated["random"]


def test_packs_around_a_file_that_all_others_import_are_full() -> None:
    """Each join changes what ten thousand links are worth; quadratic time would be minutes."""
    paths = [f"f{number:05}.py" for number in range(10_000)]
    edges = tuple(Edge(path, paths[0], 1) for path in paths[1:])
    packs = group_files(RepositoryGraph(dict.fromkeys(paths, 10), edges, edges, {}), PackOrder.GROUPED, 1_000)
    assert {len(pack) for pack in packs} == {100}
    assert count_colocated(packs, edges) == 99


@given(GRAPHS)
def test_a_budget_that_holds_everything_colocates_every_edge(graph: RepositoryGraph) -> None:
    counts = count_colocated_by_order(graph, budget_chars=1_000)
    assert set(counts.values()) == {len(graph.edges)}


def test_colocation_counts_edges_not_names() -> None:
    edges = [Edge("a", "b", 5), Edge("b", "c", 1), Edge("c", "a", 1)]
    assert count_colocated(cut_order("abc", dict.fromkeys("abc", 1), 2), edges) == 1

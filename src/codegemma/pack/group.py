"""Divides the files of one repository into packs of a token budget, so that files that explain each other share one.

**In**: a `RepositoryGraph`: sizes, import edges, tests and what they test.
**Out**: packs of paths, every file in exactly one, in reading order; how many imports stay within a pack.
**Not**: cutting. A file larger than the budget is a pack of its own, which the loader divides.
"""

import hashlib
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from codegemma.pack.choices import PackOrder
from codegemma.pack.graph import order_dependencies
from codegemma.pack.imports import Edge
from codegemma.pack.unit_tests import place_tests

# Costs are rounded to powers of this, so that the links of a pack are weighed anew only when it has grown by a tenth.
COST_STEP = 1.1

Packs = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class RepositoryGraph:
    """What is known of one repository: `edges` as imported, `kept` without cycles, `pairs` from test to tested."""

    size_chars: Mapping[str, int]
    edges: tuple[Edge, ...]
    kept: tuple[Edge, ...]
    pairs: Mapping[str, str]


def group_files(graph: RepositoryGraph, order: PackOrder, budget_chars: int) -> Packs:
    """Divide the files into packs, each within the budget or a single file.

    >>> edges = (Edge("z", "a", 1),)
    >>> graph = RepositoryGraph({"a": 4, "m": 4, "z": 4}, edges, edges, pairs={})
    >>> group_files(graph, PackOrder.GROUPED, budget_chars=8)
    (('a', 'z'), ('m',))
    >>> group_files(graph, PackOrder.CODEGEMMA, budget_chars=4)
    (('a',), ('z',), ('m',))
    """
    if order is not PackOrder.GROUPED:
        return cut_order(_order_all(graph, order), graph.size_chars, budget_chars)
    packs = _merge_small(_join_linked(graph, budget_chars), graph.size_chars, budget_chars)
    pack_of = {path: number for number, pack in enumerate(packs) for path in pack}
    kept_by_pack = defaultdict(list)
    for edge in graph.kept:
        if pack_of[edge.importer] == pack_of[edge.imported]:
            kept_by_pack[pack_of[edge.importer]].append(edge)
    return tuple(order_files(pack, kept_by_pack[number], graph.pairs) for number, pack in enumerate(packs))


def _order_all(graph: RepositoryGraph, order: PackOrder) -> Iterable[str]:
    """Put all files in one order; all but the report's know no imports."""
    if order is PackOrder.CODEGEMMA:
        return order_files(graph.size_chars, graph.kept, graph.pairs)
    if order is PackOrder.ALPHABETICAL:
        return sorted(graph.size_chars)
    return sorted(graph.size_chars, key=lambda path: hashlib.sha256(path.encode()).digest())


def order_files(paths: Iterable[str], kept: Iterable[Edge], pairs: Mapping[str, str]) -> tuple[str, ...]:
    """Put files in reading order: by dependencies, then those without any by name, tests behind what they test.

    `kept` are edges among the files, without cycles.
    """
    present, kept = set(paths), tuple(kept)
    covered = {path for edge in kept for path in (edge.importer, edge.imported)}
    order = (*order_dependencies(covered, kept), *sorted(present - covered))
    return place_tests(order, {path: pairs[path] for path in present if path in pairs})


def cut_order(order: Iterable[str], size_chars: Mapping[str, int], budget_chars: int) -> Packs:
    """Cut one order into packs: a file that does not fit any more begins the next.

    >>> cut_order("abc", {"a": 3, "b": 2, "c": 9}, budget_chars=5)
    (('a', 'b'), ('c',))
    """
    return tuple(map(tuple, _merge_small([[path] for path in order], size_chars, budget_chars, sort_key=None)))


def _merge_small(
    packs: Iterable[Sequence[str]],
    size_chars: Mapping[str, int],
    budget_chars: int,
    sort_key: Callable[[Sequence[str]], str] | None = min,
) -> list[list[str]]:
    """Join neighbours while they fit: by the first path, so by folder, unless they come in an order of their own."""
    merged: list[list[str]] = []
    room_chars = 0
    for pack in sorted(packs, key=sort_key) if sort_key else packs:
        pack_chars = sum(size_chars[path] for path in pack)
        if not merged or pack_chars > room_chars:
            merged.append([])
            room_chars = budget_chars
        merged[-1] += pack
        room_chars -= pack_chars
    return merged


def _join_linked(graph: RepositoryGraph, budget_chars: int) -> list[list[str]]:
    """Begin with a pack for each file, and join the two that are most closely linked while the budget holds both."""
    joining = _Joining(graph, budget_chars)
    while joining.queue:
        closeness, left, right = heapq.heappop(joining.queue)
        # An entry is out of date when a pack is gone or has grown: then a later one stands for it.
        if joining.can_join(left, right) and closeness == joining.weigh(left, right):
            joining.join(left, right)
    return list(joining.packs.values())


class _Joining:
    """Packs under way, numbered by the first path of each; `queue` holds pairs, the most closely linked first.

    What links are weighed against: the room that both packs take, and the links that they may leave behind. Of the
    measures tried, this kept the most edges together.
    """

    def __init__(self, graph: RepositoryGraph, budget_chars: int) -> None:
        paths = sorted(graph.size_chars)
        numbers = {path: number for number, path in enumerate(paths)}
        self.packs = {number: [path] for path, number in numbers.items()}
        self._budget_chars = budget_chars
        self._sizes = [graph.size_chars[path] for path in paths]
        # An import is a link, and so is a test's name; both ways.
        self._links: list[Counter[int]] = [Counter() for _ in paths]
        for one, other in [*((edge.importer, edge.imported) for edge in graph.edges), *graph.pairs.items()]:
            self._links[numbers[one]][numbers[other]] += 1
            self._links[numbers[other]][numbers[one]] += 1
        self._degrees = [links.total() for links in self._links]
        self._costs = [self._find_cost(number) for number in numbers.values()]
        self.queue: list[tuple[float, int, int]] = []
        for number, links in enumerate(self._links):
            self._offer(number, (other for other in links if number < other))

    def _find_cost(self, pack: int) -> int:
        return round(math.log(max(self._sizes[pack] * self._degrees[pack], 1), COST_STEP) / 3)

    def weigh(self, left: int, right: int) -> float:
        """Weigh the links between two packs; the closer, the lower."""
        return -self._links[left][right] * COST_STEP ** -(self._costs[left] + self._costs[right])

    def can_join(self, left: int, right: int) -> bool:
        """Say whether both packs are still there and fit into one."""
        is_there = left in self.packs and right in self.packs
        return is_there and self._sizes[left] + self._sizes[right] <= self._budget_chars

    def _offer(self, pack: int, others: Iterable[int]) -> None:
        for other in others:
            if self.can_join(pack, other):
                heapq.heappush(self.queue, (self.weigh(pack, other), min(pack, other), max(pack, other)))

    def join(self, left: int, right: int) -> None:
        """Join two packs; the one with fewer neighbours goes into the other, so that no link is moved often."""
        into, gone = sorted((left, right), key=lambda pack: (-len(self._links[pack]), pack))
        self.packs[into] += self.packs.pop(gone)
        self._sizes[into] += self._sizes[gone]
        self._degrees[into] += self._degrees[gone] - 2 * self._links[into].pop(gone)
        moved, self._links[gone] = self._links[gone], Counter()
        del moved[into]
        for other, count in moved.items():
            self._links[into][other] += count
            self._links[other][into] += count
            del self._links[other][gone]
        cost = self._find_cost(into)
        is_dearer, self._costs[into] = cost != self._costs[into], cost
        self._offer(into, self._links[into] if is_dearer else moved)


def count_colocated(packs: Iterable[Sequence[str]], edges: Iterable[Edge]) -> int:
    """Count the edges whose two files are in one pack.

    >>> count_colocated([("a", "b"), ("c",)], [Edge("a", "b", 3), Edge("a", "c", 1)])
    1
    """
    pack_of = {path: number for number, pack in enumerate(packs) for path in pack}
    return sum(pack_of[edge.importer] == pack_of[edge.imported] for edge in edges)


def count_colocated_by_order(
    graph: RepositoryGraph, budget_chars: int, known: Mapping[PackOrder, Packs] = MappingProxyType({})
) -> dict[str, int]:
    """Count co-located edges for every order; `known` are packs of an order that need not be made again."""
    packs = {order.value: known.get(order) or group_files(graph, order, budget_chars) for order in PackOrder}
    return {name: count_colocated(divided, graph.edges) for name, divided in packs.items()}

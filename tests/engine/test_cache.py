"""The page cache against random histories: every page is somewhere, none is written while two read it."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from codegemma.engine.cache import Lease, PageCache, _Node

IDS = st.lists(st.integers(0, 2), min_size=1, max_size=14)


def list_nodes(cache: PageCache) -> list[_Node]:
    found, todo = [], list(cache._roots.values())
    while todo:
        node = todo.pop()
        found += node.children
        todo += node.children
    return found


def check_pages(cache: PageCache, leases: list[Lease]) -> None:
    """A page is free, a node's, or one lease's own; a node is held by as many leases as name it."""
    nodes = list_nodes(cache)
    pages = [*cache._free, *(n.page for n in nodes), *(p for lease in leases for p in lease.own_pages)]
    assert sorted(pages) == list(range(cache.page_count))
    for node in nodes:
        assert node.holders == sum(node in lease.nodes for lease in leases)
        assert len(node.ids) == cache.page_tokens or not (node.children or node.holders)
        siblings = [child.ids for child in node.parent.children] if node.parent else []
        assert siblings == sorted(set(siblings))
    assert cache._unheld == sum(not n.holders for n in nodes)
    assert len(cache._old) <= 4 * cache.page_count + 1


class Histories(RuleBasedStateMachine):
    """Plays a device: `content` is what each page holds; a lease must read back the very ids it was lent for."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.cache = PageCache(pages=9, page_tokens=3)
        self.content: dict[int, list[int]] = {page: [] for page in range(9)}
        self.open: list[tuple[Lease, list[int]]] = []

    def read(self, lease: Lease) -> list[int]:
        size = self.cache.page_tokens
        return [i for page in lease.pages for i in self.content[page][:size]][: lease.stored]

    def store(self, lease: Lease, ids: list[int]) -> None:
        for position in range(lease.stored, len(ids)):
            page, offset = lease.pages[position // 3], position % 3
            self.content[page] = [*self.content[page][:offset], ids[position]]

    @rule(target=leases, ids=IDS)
    def lend(self, ids: list[int]) -> tuple[Lease, list[int]]:
        lease, copies = self.cache.lend(ids)
        for source, target in copies:
            self.content[target] = list(self.content[source])
        assert self.read(lease) == ids[: lease.stored]
        before, room = lease.stored, self.cache.available_pages
        if self.cache.extend(lease, len(ids)):
            self.store(lease, ids)
            self.cache.publish(lease, ids)
        else:
            assert room < self.cache.count_pages(len(ids)) - len(lease.pages)
            assert lease.stored == before
            ids = ids[:before]
        self.open.append((lease, ids))
        return lease, ids

    @rule(opened=leases, more=IDS)
    def write(self, opened: tuple[Lease, list[int]], more: list[int]) -> None:
        lease, ids = opened
        if self.cache.extend(lease, len(ids) + len(more)):
            ids += more
            self.store(lease, ids)
            self.cache.publish(lease, ids)

    @rule(target=leases, opened=leases, share=st.floats(0, 1))
    def fork(self, opened: tuple[Lease, list[int]], share: float) -> "tuple[Lease, list[int]] | MultipleResults":
        lease, ids = opened
        known = ids[: int(share * len(ids))]
        twin = self.cache.fork(lease, len(known))
        if twin is None:
            assert self.cache.available_pages == 0
            return multiple()  # not `opened` again: a lease with two names would be used after it was given back
        for source, target in twin[1]:
            self.content[target] = list(self.content[source])
        assert self.read(twin[0]) == known
        self.open.append((twin[0], known))
        return twin[0], known

    @rule(opened=consumes(leases))
    def give_back(self, opened: tuple[Lease, list[int]]) -> None:
        lease, ids = opened
        if any(lease is other for other, _ in self.open):
            self.cache.give_back(lease, ids)
            self.open = [pair for pair in self.open if pair[0] is not lease]

    @precondition(lambda self: not self.open)
    @rule()
    def all_is_available_when_nothing_runs(self) -> None:
        assert self.cache.available_pages == self.cache.page_count
        lease, _ = self.cache.lend([7] * 27)
        assert self.cache.extend(lease, 27)
        self.cache.give_back(lease, [])

    @invariant()
    def every_page_is_somewhere_and_every_lease_reads_its_own_text(self) -> None:
        check_pages(self.cache, [lease for lease, _ in self.open])
        for lease, ids in self.open:
            assert self.read(lease) == ids
        for node in list_nodes(self.cache):
            assert self.content[node.page][: len(node.ids)] == list(node.ids)


Histories.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_random_histories = Histories.TestCase


def test_what_was_read_is_found_to_the_token() -> None:
    cache = PageCache(pages=8, page_tokens=4)
    first, _ = cache.lend(range(10))
    cache.extend(first, 10)
    cache.give_back(first, list(range(10)))
    for agreeing in range(10):
        lease, _ = cache.lend([*range(agreeing), 99])
        assert lease.stored == agreeing
        cache.give_back(lease, list(range(agreeing)))


def test_page_unused_for_longest_is_given_up_first() -> None:
    cache = PageCache(pages=3, page_tokens=2)
    for ids in ([1, 1], [2, 2], [3, 3]):
        lease, _ = cache.lend(ids)
        cache.extend(lease, 2)
        cache.give_back(lease, ids)
    again, _ = cache.lend([1, 1])
    cache.give_back(again, [1, 1])
    lease, _ = cache.lend([4, 4])
    cache.extend(lease, 2)
    cache.give_back(lease, [4, 4])
    assert [cache.lend(ids)[0].stored for ids in ([2, 2], [1, 1], [3, 3], [4, 4])] == [0, 2, 2, 2]

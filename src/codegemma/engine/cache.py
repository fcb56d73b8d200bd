"""Which page of the cache holds which tokens: pages are lent, shared by what they hold, and given up when old.

**In**: token ids of prompts, and how many of them were read.
**Out**: page numbers; what must be copied from page to page before the next step.
**Not**: keys and values: those are the device's (`compute.py`). Nothing here knows JAX.

What was read stays until its page is needed: a tree in which each node is a page and the path to it is the text before
it. A new prompt takes the pages of the longest known beginning, and shares them while it runs. A page of which only a
part agrees is copied, so no page is written while two read it. A page is free, or one lease's own, or a node.
"""

import heapq
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Copy(NamedTuple):
    """Page `source` must be copied to page `target` before the next step writes."""

    source: int
    target: int


@dataclass(slots=True, eq=False)
class _Node:
    """A page with its tokens, after those of its parents. Only leaves may hold fewer tokens than a page could."""

    page: int
    ids: tuple[int, ...]
    parent: "_Node | None"
    children: list["_Node"] = field(default_factory=list)
    holders: int = 0
    last_used: int = 0


@dataclass(slots=True, eq=False)
class Lease:
    """Pages of one sequence, in order: the first `len(nodes)` are shared, the others its own; `stored` tokens."""

    nodes: list[_Node] = field(default_factory=list)
    own_pages: list[int] = field(default_factory=list)
    stored: int = 0
    space: int = 0

    @property
    def pages(self) -> list[int]:
        """Numbers of the pages in the order of their tokens."""
        return [*(node.page for node in self.nodes), *self.own_pages]


class PageCache:
    """All pages of one device.

    >>> cache = PageCache(pages=4, page_tokens=2)
    >>> first, _ = cache.lend([5, 6, 7])
    >>> cache.extend(first, 3)
    True
    >>> cache.give_back(first, [5, 6, 7])
    >>> second, copies = cache.lend([5, 6, 8])
    >>> second.stored, copies
    (2, [])
    """

    def __init__(self, pages: int, page_tokens: int) -> None:
        """Start with all pages free."""
        self.page_count = pages
        self.page_tokens = page_tokens
        self._free = list(range(pages))[::-1]
        # What another adapter read of the same text is something else: each has a tree of its own.
        self._roots: defaultdict[int, _Node] = defaultdict(lambda: _Node(-1, (), None))
        self._clock = 0
        self._serial = 0
        self._unheld = 0
        # Nodes that nobody holds and no node follows, oldest first; entries that are no longer so are skipped.
        self._old: list[tuple[int, int, _Node]] = []

    @property
    def available_pages(self) -> int:
        """Pages that are free or can be freed. Whoever holds a node holds its path, so none is stuck."""
        return len(self._free) + self._unheld

    def count_pages(self, tokens: int) -> int:
        """How many pages so many tokens need."""
        return -(-tokens // self.page_tokens)

    def lend(self, ids: Sequence[int], space: int = 0) -> tuple[Lease, list[Copy]]:
        """Take the pages of the longest beginning of `ids` that was read; what follows is the caller's to extend by.

        `space` numbers whose reading it is: that of the model alone (0), or with one of its adapters.
        """
        self._clock += 1
        lease = Lease(space=space)
        node, size = self._roots[space], self.page_tokens
        while True:
            child, agreeing = self._find(node, tuple(ids[lease.stored : lease.stored + size]))
            if child is None or agreeing < size:
                break
            self._hold(child)
            lease.nodes.append(child)
            lease.stored += size
            node = child
        return lease, self._take_part(lease, child, agreeing) if child is not None else []

    def fork(self, lease: Lease, tokens: int) -> tuple[Lease, list[Copy]] | None:
        """Lend the first published `tokens` of a running sequence again; `None` where no page is left for a copy."""
        full = tokens // self.page_tokens
        twin = Lease(nodes=lease.nodes[:full], stored=full * self.page_tokens, space=lease.space)
        for node in twin.nodes:
            self._hold(node)
        if twin.stored == tokens:
            return twin, []
        page = self._allocate()
        if page is None:
            self._let_go(twin)
            return None
        twin.own_pages, twin.stored = [page], tokens
        return twin, [Copy(lease.pages[full], page)]

    def extend(self, lease: Lease, tokens: int) -> bool:
        """Make room for `tokens` in all; false, and nothing changed, where the pages do not suffice."""
        wanted = self.count_pages(tokens) - len(lease.nodes) - len(lease.own_pages)
        if wanted > self.available_pages:
            return False
        lease.own_pages += (page for _ in range(wanted) if (page := self._allocate()) is not None)
        return True

    def publish(self, lease: Lease, ids: Sequence[int]) -> None:
        """Share the pages that the tokens `ids`, all stored by now, fill."""
        lease.stored = len(ids)
        size = self.page_tokens
        while (start := len(lease.nodes) * size) + size <= lease.stored:
            parent = self._find_end(lease)
            node = self._insert(parent, tuple(ids[start : start + size]), lease.own_pages.pop(0))
            self._hold(node)
            lease.nodes.append(node)

    def give_back(self, lease: Lease, ids: Sequence[int]) -> None:
        """End a lease of which the tokens `ids` are stored; they stay known until their pages are needed."""
        self._clock += 1
        self.publish(lease, ids)
        rest = tuple(ids[len(lease.nodes) * self.page_tokens :])
        if rest:
            self._insert(self._find_end(lease), rest, lease.own_pages.pop(0))
        self._let_go(lease)

    def _find_end(self, lease: Lease) -> _Node:
        return lease.nodes[-1] if lease.nodes else self._roots[lease.space]

    def _let_go(self, lease: Lease) -> None:
        self._free += lease.own_pages
        for node in reversed(lease.nodes):
            self._release(node)
        lease.nodes, lease.own_pages, lease.stored = [], [], 0

    def _take_part(self, lease: Lease, node: _Node, agreeing: int) -> list[Copy]:
        """Take the tokens of a page that agree in part: the page itself where all of it agrees, else a copy."""
        if agreeing == len(node.ids) < self.page_tokens:
            self._remove(node)
            lease.own_pages, lease.stored = [node.page], lease.stored + agreeing
            return []
        self._hold(node)
        page = self._allocate()
        self._release(node)
        if page is None:
            return []
        lease.own_pages, lease.stored = [page], lease.stored + agreeing
        return [Copy(node.page, page)]

    def _find(self, node: _Node, ids: tuple[int, ...]) -> tuple[_Node | None, int]:
        """Find the child that agrees longest with `ids`: in sorted order it is a neighbour of where they would be."""
        place = bisect_left(node.children, ids, key=_read_ids)
        best, most = None, 0
        for child in node.children[max(place - 1, 0) : place + 1]:
            agreeing = _count_agreeing(child.ids, ids)
            if agreeing > most:
                best, most = child, agreeing
        return best, most

    def _insert(self, parent: _Node, ids: tuple[int, ...], page: int) -> _Node:
        """Make a page a node, or free it where another page tells as much; a page that told less gives way."""
        known, agreeing = self._find(parent, ids)
        if known is not None and agreeing == len(ids):
            self._free.append(page)
            known.last_used = self._clock
            self._note_old(known)
            return known
        if known is not None and agreeing == len(known.ids) < self.page_tokens:
            self._remove(known)
            self._free.append(known.page)
        node = _Node(page, ids, parent, last_used=self._clock)
        parent.children.insert(bisect_left(parent.children, ids, key=_read_ids), node)
        self._unheld += 1
        self._note_old(node)
        return node

    def _hold(self, node: _Node) -> None:
        self._unheld -= node.holders == 0
        node.holders += 1
        node.last_used = self._clock

    def _release(self, node: _Node) -> None:
        node.holders -= 1
        node.last_used = self._clock
        if not node.holders:
            self._unheld += 1
            self._note_old(node)

    def _allocate(self) -> int | None:
        if not self._free and not self._evict():
            return None
        return self._free.pop()

    def _evict(self) -> bool:
        """Free the page that was unused for longest among those that no other follows."""
        while self._old:
            last_used, _, node = heapq.heappop(self._old)
            if _is_evictable(node) and node.last_used == last_used:
                self._remove(node)
                self._free.append(node.page)
                return True
        return False

    def _remove(self, node: _Node) -> None:
        parent = node.parent
        assert parent is not None  # the root is no page  # noqa: S101
        del parent.children[bisect_left(parent.children, node.ids, key=_read_ids)]
        node.parent = None
        self._unheld -= 1
        self._note_old(parent)

    def _note_old(self, node: _Node) -> None:
        if not _is_evictable(node):
            return
        self._serial += 1
        heapq.heappush(self._old, (node.last_used, self._serial, node))
        if len(self._old) > 4 * self.page_count:
            kept = {id(entry[2]): entry for entry in sorted(self._old) if entry[0] == entry[2].last_used}
            self._old = [entry for entry in kept.values() if _is_evictable(entry[2])]
            heapq.heapify(self._old)


def _is_evictable(node: _Node) -> bool:
    return node.parent is not None and not node.holders and not node.children


def _read_ids(node: _Node) -> tuple[int, ...]:
    return node.ids


def _count_agreeing(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count

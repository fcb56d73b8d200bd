"""Leads imports of a dropped copy to the file that stands for it, so that a vendored library keeps its importers.

**In**: the imports of the files that stay, and which copies went for which of them.
**Out**: edges between files that stay; how many of them are such references, and how many imports lead outside.
**Not**: a copy that names a package only in its text, where the file that stands for it is outside: it is not found.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from codegemma.pack.imports import Edge, Import, ImportKind


class FollowedEdges(NamedTuple):
    """Edges between files that stay; `references` counts those that only a copy makes, `outside` what is no edge."""

    edges: tuple[Edge, ...]
    references: int
    outside: int


def add_copies(
    imports: Mapping[str, Sequence[Import]], stand_ins: Mapping[str, str | None]
) -> dict[str, Sequence[Import]]:
    """Add the copies to what can be imported: each declares what its stand-in does, and imports nothing."""
    copies: dict[str, Sequence[Import]] = {
        path: [s for s in imports.get(kept or "", ()) if s.kind is ImportKind.DECLARATION]
        for path, kept in stand_ins.items()
    }
    return {**imports, **copies}


def follow_copies(edges: Iterable[Edge], stand_ins: Mapping[str, str | None]) -> FollowedEdges:
    """Put in place of each copy its stand-in; `None` where that is no file of these.

    >>> follow_copies([Edge("a.py", "vendor/six.py", 2), Edge("a.py", "vendor/x.py", 1)],
    ...               {"vendor/six.py": "six.py", "vendor/x.py": None})
    FollowedEdges(edges=(Edge(importer='a.py', imported='six.py', weight=2),), references=1, outside=1)
    """
    direct: Counter[tuple[str, str]] = Counter()
    led: Counter[tuple[str, str]] = Counter()
    outside = 0
    for edge in edges:
        if edge.imported not in stand_ins:
            direct[edge.importer, edge.imported] += edge.weight
        elif (kept := stand_ins[edge.imported]) is None:
            outside += 1
        elif kept != edge.importer:
            led[edge.importer, kept] += edge.weight
    followed = sorted(Edge(*ends, weight) for ends, weight in (direct + led).items())
    return FollowedEdges(tuple(followed), len(led.keys() - direct.keys()), outside)

"""Cuts a hole into a piece of a file: where the cursor was, and where the suffix naturally begins.

**In**: text, its natural cuts and syntax nodes, and a random generator.
**Out**: `Hole`, two character offsets.
**Not**: tokens, or the choice of pieces (`windows.py`).
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from codegemma.feed.choices import HOLE_KINDS, FeedChoices


@dataclass(frozen=True, slots=True)
class Hole:
    """The middle is `text[start:end]`. `is_natural` says that the end was found on or moved to a natural cut."""

    start: int
    end: int
    is_natural: bool


def cut_piece(
    text: str,
    natural_cuts: Int32[np.ndarray, " cuts"],
    choices: FeedChoices,
    rng: random.Random,
    find_nodes: Callable[[], Int32[np.ndarray, "nodes 3"]],
) -> Hole:
    """Choose a hole in `text`; `natural_cuts` are offsets into it.

    `find_nodes` gives the nodes of the syntax tree as `text.syntax.list_nodes`, in offsets into `text` (some may lie
    outside); it is called only for a hole of that kind. A kind that finds no place becomes `uniform`.

    >>> from codegemma.text.syntax import list_nodes
    >>> text = "total = 0\\nfor x in xs:\\n    total += x\\n"
    >>> cuts = np.array([9, 38], dtype=np.int32)
    >>> only_lines = FeedChoices(hole_uniform=0.0, hole_line=1.0)
    >>> hole = cut_piece(text, cuts, only_lines, random.Random(1), lambda: list_nodes(text, "python"))
    >>> text[hole.start : hole.end]
    'total = 0'
    """
    kind = rng.choices(HOLE_KINDS, [getattr(choices, f"hole_{kind}") for kind in HOLE_KINDS])[0]
    if kind in ("line", "rest_of_line"):
        span = _find_line(text, rng)
        if span is not None:
            start, end = span
            start = rng.randrange(start, end) if kind == "rest_of_line" else start
            return Hole(start, end, is_natural=_is_cut(end, natural_cuts))
    if kind == "syntax":
        span = _find_syntax(text, find_nodes(), rng)
        if span is not None:
            return Hole(*span, is_natural=_is_cut(span[1], natural_cuts))
    start = rng.randrange(len(text) + 1)
    if kind == "log_uniform":
        length = round(math.exp(rng.uniform(0, math.log(choices.max_log_uniform_chars))))
        end = min(start + length, len(text))
    else:
        start, end = sorted((start, rng.randrange(len(text) + 1)))
    if rng.random() < choices.natural_share:
        return Hole(start, *_shift_to_natural(text, start, end, natural_cuts, choices.max_natural_shift_chars))
    return Hole(start, end, is_natural=_is_cut(end, natural_cuts))


def _shift_to_natural(
    text: str, start: int, end: int, natural_cuts: Int32[np.ndarray, " cuts"], reach: int
) -> tuple[int, bool]:
    """Move `end` forward to the next natural cut within `reach` characters, else to the end of its line.

    A closing bracket that was opened in the middle is passed over: what a completion opens, it closes.
    """
    for cut in natural_cuts[natural_cuts.searchsorted(end) :].tolist():
        if cut - end > reach:
            break
        if text[cut : cut + 1] not in _CLOSING or not _has_open_bracket(text[start:cut]):
            return cut, True
    line_end = text.find("\n", end)
    return (line_end if line_end >= 0 else len(text)), False


_CLOSING = frozenset(")]}")


def _has_open_bracket(text: str) -> bool:
    """Tell whether `text` opens more brackets than it closes; a bracket in a string counts too.

    >>> _has_open_bracket("total(x"), _has_open_bracket("total(x)")
    (True, False)
    """
    return sum(text.count(b) for b in "([{") > sum(text.count(b) for b in ")]}")


def _is_cut(offset: int, natural_cuts: Int32[np.ndarray, " cuts"]) -> bool:
    index = int(natural_cuts.searchsorted(offset))
    return index < len(natural_cuts) and int(natural_cuts[index]) == offset


# Drawing a character and taking its line favours long lines; a few draws find a line that is not blank.
_LINE_DRAWS = 8


def _find_line(text: str, rng: random.Random) -> tuple[int, int] | None:
    """Draw a line that is not blank; return where its content begins and ends, without indentation and line end."""
    for _ in range(_LINE_DRAWS):
        inside = rng.randrange(len(text) + 1)
        start = text.rfind("\n", 0, inside) + 1
        end = text.find("\n", inside)
        line = text[start : end if end >= 0 else len(text)]
        content = line.strip()
        if content:
            start += len(line) - len(line.lstrip())
            return start, start + len(content)
    return None


def _find_syntax(text: str, nodes: Int32[np.ndarray, "nodes 3"], rng: random.Random) -> tuple[int, int] | None:
    """Draw one node, as likely as it is long, or the siblings that a drawn stretch of text touches, half and half.

    AST-FIM's two kinds of mask. A node that is the whole text is not drawn: nothing would be left to infill from.
    """
    starts, ends, parents = nodes.T
    lengths, most = ends - starts, len(text.strip())
    is_inside = (starts >= 0) & (ends <= len(text)) & (lengths > 0) & (lengths < most)
    if not is_inside.any():
        return None
    if rng.random() < _ONE_NODE_SHARE:
        node = rng.choices(range(len(nodes)), (lengths * is_inside).tolist())[0]
        return int(starts[node]), int(ends[node])
    first, last = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
    around = np.flatnonzero((starts <= first) & (ends >= last))
    if not len(around):
        return None
    # In this order a child stands after its parents: the last one around is the innermost.
    touched = np.flatnonzero((parents == around[-1]) & is_inside & (starts < last) & (ends > first))
    if not len(touched):
        return None
    span = int(starts[touched[0]]), int(ends[touched[-1]])
    return span if span[1] - span[0] < most else None


_ONE_NODE_SHARE = 0.5

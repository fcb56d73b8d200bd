"""Cuts a hole into a piece of a file: where the cursor was, and where the suffix naturally begins.

**In**: text, its natural cuts, and a random generator.
**Out**: `Hole`, two character offsets; `InfillExample` where the text itself is wanted.
**Not**: tokens, or the choice of pieces (`windows.py`).
"""

import math
import random
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from codegemma.feed.choices import FeedChoices
from codegemma.records import InfillExample, InfillMode

_KINDS = ("uniform", "log_uniform", "line", "rest_of_line")


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
) -> Hole:
    """Choose a hole in `text`; `natural_cuts` are offsets into it.

    >>> text = "total = 0\\nfor x in xs:\\n    total += x\\n"
    >>> cuts = np.array([9, 38], dtype=np.int32)
    >>> only_lines = FeedChoices(hole_uniform=0.0, hole_line=1.0)
    >>> hole = cut_piece(text, cuts, only_lines, random.Random(1))
    >>> text[hole.start : hole.end]
    'total = 0'
    """
    weights = (choices.hole_uniform, choices.hole_log_uniform, choices.hole_line, choices.hole_rest_of_line)
    kind = rng.choices(_KINDS, weights)[0]
    if kind in ("line", "rest_of_line"):
        span = _find_line(text, rng)
        if span is not None:
            start, end = span
            start = rng.randrange(start, end) if kind == "rest_of_line" else start
            return Hole(start, end, is_natural=_is_cut(end, natural_cuts))
    start = rng.randrange(len(text) + 1)
    if kind == "log_uniform":
        length = round(math.exp(rng.uniform(0, math.log(choices.max_log_uniform_chars))))
        end = min(start + length, len(text))
    else:
        start, end = sorted((start, rng.randrange(len(text) + 1)))
    if rng.random() < choices.natural_share:
        return Hole(start, *_shift_to_natural(text, start, end, natural_cuts, choices.max_natural_shift_chars))
    return Hole(start, end, is_natural=_is_cut(end, natural_cuts))


def apply_hole(text: str, hole: Hole, mode: InfillMode, path: str | None) -> InfillExample:
    """Divide `text` at a hole.

    >>> example = apply_hole("return a + b", Hole(7, 8, False), InfillMode.PSM, None)
    >>> example.prefix, example.middle, example.suffix
    ('return ', 'a', ' + b')
    """
    return InfillExample(text[: hole.start], text[hole.start : hole.end], text[hole.end :], mode, path)


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

"""What a token is counted under when a loss is told apart: kind of source, language, mode of infilling.

**In**: the kind of a pack, the language of a file, the mode that a piece was cut in (`None` where it is shown whole).
**Out**: one small number, so that a step on the device adds up by number; names again, for who reads the figures.
**Not**: the sums (`train/objective.py`).
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from codegemma.records import InfillMode, SourceKind
from codegemma.text.languages import DOCUMENT_LANGUAGES, LANGUAGES

OTHER_LANGUAGE = "other"
WHOLE = "whole"


class Group(NamedTuple):
    """Tokens of one kind of source, one language and one mode."""

    source: str
    language: str
    mode: str


_LANGUAGES = (*LANGUAGES, *DOCUMENT_LANGUAGES, OTHER_LANGUAGE)
GROUPS = tuple(
    Group(*parts) for parts in itertools.product(map(str, SourceKind), _LANGUAGES, (WHOLE, *map(str, InfillMode)))
)
_NUMBERS: Mapping[Group, int] = {group: number for number, group in enumerate(GROUPS)}


def number_group(source: str, language: str, mode: InfillMode | None) -> int:
    """Give the number of a group.

    >>> GROUPS[number_group("code", "python", InfillMode.PSM)]
    Group(source='code', language='python', mode='psm')
    >>> GROUPS[number_group("text", "latin", None)]
    Group(source='text', language='other', mode='whole')
    """
    known = language if language in _LANGUAGES else OTHER_LANGUAGE
    return _NUMBERS[Group(source, known, mode or WHOLE)]


def add_up_by_name(sums: Sequence[float], counts: Sequence[float]) -> dict[str, tuple[float, float]]:
    """Add up sums and counts of groups by what they share, each of the three by itself; what has no count is left out.

    >>> counts = [0] * len(GROUPS)
    >>> counts[number_group("code", "python", None)], counts[number_group("code", "go", None)] = 2, 1
    >>> add_up_by_name([3.0 * count for count in counts], counts)["source/code"]
    (9.0, 3)
    """
    totals: defaultdict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0))
    for group, total, count in zip(GROUPS, sums, counts, strict=True):
        for facet, value in zip(Group._fields, group, strict=True) if count else ():
            before = totals[f"{facet}/{value}"]
            totals[f"{facet}/{value}"] = (before[0] + total, before[1] + count)
    return dict(totals)

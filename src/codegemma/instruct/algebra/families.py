"""The families of generated problems, and the stream of them that a seed gives.

**In**: which families, which levels, a seed.
**Out**: `Problem`s and conversations about them, the same for the same seed, on every machine.
**Not**: a guard against two that are alike; the writer counts and drops those.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from random import Random
from types import MappingProxyType

from codegemma.errors import InputError
from codegemma.instruct.algebra.arithmetic import make_percentage, make_remainder, make_sequence
from codegemma.instruct.algebra.equations import make_linear, make_quadratic, make_system
from codegemma.instruct.algebra.expressions import make_expansion, make_factoring, make_rational
from codegemma.instruct.algebra.problem import Problem
from codegemma.instruct.examples import Example

LEVELS = (1, 2, 3, 4, 5)
FAMILIES: Mapping[str, Callable[[int, Random], Problem]] = MappingProxyType(
    {
        "linear": make_linear,
        "systems": make_system,
        "quadratic": make_quadratic,
        "expansion": make_expansion,
        "factoring": make_factoring,
        "rational": make_rational,
        "sequences": make_sequence,
        "percentages": make_percentage,
        "remainders": make_remainder,
    }
)


def make_problem(family: str, level: int, seed: int) -> Problem:
    """Draw the problem of a family, a level and a seed.

    >>> print(make_problem("linear", 1, 0).question)
    Solve for y: 3y + 2 = -16

    Raises:
        InputError: an unknown family, or a level outside 1 to 5.
    """
    if family not in FAMILIES or level not in LEVELS:
        raise InputError(
            f"no problems of {family!r} at level {level}; families: {', '.join(FAMILIES)}; levels: {LEVELS[0]} to "
            f"{LEVELS[-1]}"
        )
    return FAMILIES[family](level, Random(f"{family}/{level}/{seed}"))


def tell_examples(families: Sequence[str], levels: Sequence[int], seed: int) -> Iterator[Example]:
    """Tell problems as conversations without end, families and levels in turn."""
    for number in count(seed << 32):
        for level in levels:
            for family in families:
                origin = {"kind": family, "level": level, "seed": number}
                yield Example(make_problem(family, level, number).tell_turns(), origin)

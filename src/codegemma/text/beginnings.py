"""How much two texts, or two lists of ids, have in common at their beginning.

**In**: two sequences of one kind.
**Out**: a number.
**Not**: what they have in common further on.
"""

from collections.abc import Sequence
from typing import TypeVar

S = TypeVar("S", str, Sequence[int])


def count_common(left: S, right: S) -> int:
    """Count the items that both begin with, in a few comparisons of long stretches: those are quicker than many short.

    >>> count_common("abcx", "abcdef"), count_common((2, 5), (2, 5)), count_common("", "a")
    (3, 2, 0)
    """
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    while low < high:  # left[:low] is common, left[:high + 1] is not
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low

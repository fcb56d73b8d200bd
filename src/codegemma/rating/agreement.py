"""How far raters agree beyond chance: Krippendorff's alpha.

**In**: for each item the values that raters gave it; any number of raters, gaps allowed.
**Out**: alpha: 1 is full agreement, 0 what chance would give, below 0 worse than chance.
**Not**: an interval, and no verdict; Krippendorff himself asks for 0.8, and 0.667 for tentative conclusions.

alpha = 1 - D_o / D_e over pairs of values in one item and in all (Krippendorff, "Computing Krippendorff's
alpha-reliability", 2011). Items with one value pair with nothing and are left out.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from codegemma.rating.campaign import Scale


def compute_alpha(items: Sequence[Sequence[int]], labels: int, scale: Scale) -> float | None:
    """Compute alpha of values from 0 to `labels - 1`; `None` where no two values can be compared.

    Where all values are equal nothing could disagree: there is no chance to compare with, and `None` too.

    >>> round(compute_alpha([[0, 0], [1, 1], [0, 1], [0, 0]], 2, Scale.NOMINAL), 4)
    0.5333
    """
    rated = [values for values in items if len(values) > 1]
    together = np.zeros((labels, labels))
    for values in rated:
        counts = np.bincount(values, minlength=labels).astype(np.float64)
        pairs = np.outer(counts, counts) - np.diag(counts)
        together += pairs / (len(values) - 1)
    totals = together.sum(axis=0)
    n = totals.sum()
    if n < 2:
        return None
    distance = _measure_distances(totals, scale)
    expected = (np.outer(totals, totals) - np.diag(totals)) / (n - 1)
    by_chance = float((expected * distance).sum())
    if by_chance == 0:
        return None
    return 1.0 - float((together * distance).sum()) / by_chance


def _measure_distances(totals: Float64[np.ndarray, " labels"], scale: Scale) -> Float64[np.ndarray, "labels labels"]:
    """Squared distances between labels: 0 or 1, or by how many values lie between two labels."""
    count = len(totals)
    if scale is Scale.NOMINAL:
        return 1.0 - np.eye(count)
    sums = np.concatenate([[0.0], np.cumsum(totals)])
    distance = np.zeros((count, count))
    for low in range(count):
        for high in range(low + 1, count):
            between = sums[high + 1] - sums[low] - (totals[low] + totals[high]) / 2
            distance[low, high] = distance[high, low] = between**2
    return distance

"""How well low places find what was spoiled."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from orric.exceptions import SelectionError
from orric.selection.gradients import Array
from orric.valuation.spoiling import Mask


def detection_auc(places: Array, spoiled: Mask) -> float:
    """Return how likely a spoiled sample has a lower place than one that is not; ties count half.

    The area under the receiver's operating characteristic, by the Mann-Whitney statistic (Hanley and McNeil,
    Radiology 1982): 0.5 for places that say nothing, 1 where all spoiled samples come first. O(n log n).

    Args:
        places: Shape (n,).
        spoiled: Shape (n,), some and not all.

    Raises:
        SelectionError: None is spoiled, or all are.

    >>> detection_auc(np.array([0.1, 0.2, 0.2, 0.9]), np.array([True, True, False, False]))
    0.875
    """
    bad, good = int(spoiled.sum()), int((~spoiled).sum())
    if not bad or not good:
        raise SelectionError("detection", f"{bad} of {bad + good} samples are spoiled", "spoil some, and not all")
    ranks = rankdata(-places)
    return float((ranks[spoiled].sum() - bad * (bad + 1) / 2) / (bad * good))


def precision_among_lowest(places: Array, spoiled: Mask) -> float:
    """Return which part of the lowest places are spoiled samples, among as many as are spoiled.

    By random places that is the part of all that is spoiled. Ties go to the sample that comes first.

    Args:
        places: Shape (n,).
        spoiled: Shape (n,), at least one.

    >>> precision_among_lowest(np.array([0.1, 0.9, 0.2, 0.3]), np.array([True, True, False, False]))
    0.5
    """
    lowest = np.argsort(places, kind="stable")[: int(spoiled.sum())]
    return float(spoiled[lowest].mean())

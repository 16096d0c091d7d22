"""What shares of a partitioned GPU are worth: the pace at which each job works."""

from __future__ import annotations

from typing import Any

import numpy as np

from orric.scenario.gpu import HardPartition, Saturating, TimeSlice

Array = np.ndarray[Any, Any]
# Columns of a pace: those of a stretch of `queueing` but for its end. A job that is always on has rounds of length 0.
PACE = 6


def paces(sharing: HardPartition, shares: Array, now_s: float = 0.0) -> Array:
    """Return the pace of every job of a GPU, from its share on.

    Where there are no slices, each pace follows from its own share alone.

    Args:
        sharing: How jobs share the GPU.
        shares: Of every job, in the order of the rounds; at most 1 together; shape (n,).
        now_s: When these shares begin to hold: rounds are counted from here.

    Returns:
        Of every job: seconds of work at the whole GPU done per second while on, the share of the GPU in use then, and
        length of a round, its origin, begin and length of the slice; shape (n, 6).
    """
    found = np.zeros((len(shares), PACE))
    if isinstance(sharing, TimeSlice):
        slices_s = shares * sharing.round_s - sharing.switch_s
        some = slices_s > 0
        found[some, :2] = 1.0
        found[some, 2], found[some, 3] = sharing.round_s, now_s
        begins_s = np.cumsum(shares) * sharing.round_s - shares * sharing.round_s
        found[some, 4], found[some, 5] = begins_s[some] + sharing.switch_s, slices_s[some]
        return found
    fixed = sharing.fixed if isinstance(sharing, Saturating) else 0.0
    some = shares > 0
    found[some, 0] = 1.0 / (fixed + (1 - fixed) / shares[some])
    found[some, 1] = shares[some]
    return found

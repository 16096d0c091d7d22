"""How requests arrive within a slot, and what an allocator is told beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np

from orric.randomness import generator
from orric.scenario import Stream

Array = np.ndarray[Any, np.dtype[np.float64]]
EWMA_WEIGHT = 0.3


def arrival_times(stream: Stream, slot: int, count: int, slot_s: float, seed: int) -> Array:
    """Return the arrival times of a slot's requests, ascending, in seconds since the first slot's start.

    Args:
        stream: Says how arrivals are spread.
        slot: Index from 1.
        count: D(t).
        slot_s: Length of a slot.
        seed: Seed of the run.

    Returns:
        Shape (count,), all within the slot.
    """
    start = (slot - 1) * slot_s
    if stream.arrivals == "upload":
        return np.full(count, start)
    if stream.arrivals == "deterministic":
        return start + np.arange(count, dtype=np.float64) * (slot_s / max(count, 1))
    # Given their number, the arrivals of a Poisson process are independent and even.
    return start + np.sort(generator(seed, "arrivals", 0, slot).random(count)) * slot_s


def forecasts(stream: Stream, requests: Array) -> Array:
    """Return what the allocator is told of D(t) at the start of each slot, shape (T,)."""
    told = requests.copy()
    if stream.forecast == "last":
        told[1:] = requests[:-1]
    elif stream.forecast == "ewma":
        for slot in range(1, len(requests)):
            told[slot] = EWMA_WEIGHT * requests[slot - 1] + (1 - EWMA_WEIGHT) * told[slot - 1]
    return told

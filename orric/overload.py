"""Whether a queue grows from slot to slot, so that its latencies say how long it was watched and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.statistics import Interval, mean_interval

Array = np.ndarray[Any, Any]

BATCHES = 10
# Fewer increments than that tell nothing of growth.
LEAST = 4
# Growth by a smaller part of what arrives is none: a thousandth of the requests is not what anybody is short of.
FLOOR = 0.001


@dataclass(frozen=True)
class Overload:
    """By how much the number of waiting requests grows in a slot.

    Attributes:
        growth: Mean of the growth per slot, with its 95 % interval by Student's t over batch means: increments of
            neighbouring slots depend upon one another, means of longer stretches hardly (Law and Kelton, Operations
            Research 32, 1984).
        requests: Requests that arrived in a slot on average.
    """

    growth: Interval
    requests: float

    @property
    def overloaded(self) -> bool:
        """Whether the queue grows, beyond chance and by a thousandth of the requests at least."""
        return self.growth.low > 0 and self.growth.mean >= FLOOR * self.requests

    def __str__(self) -> str:
        """Say it as a report does."""
        said = f"{self.growth.mean:+.1f} ± {self.growth.half_width:.1f} waiting a slot"
        return f"overloaded: {said}" if self.overloaded else said


def overload_of(waiting: Array, requests: Array, warmup_slots: int = 0) -> Overload | None:
    """Return by how much a queue grows in a slot, None below four slots.

    Args:
        waiting: Requests that wait at the end of every slot, shape (T,).
        requests: Requests that arrived in it, shape (T,).
        warmup_slots: The first slots, in which a queue fills up that then stays as it is, are left out.

    >>> import numpy as np
    >>> str(overload_of(np.arange(20.0) * 3, np.full(20, 100.0), warmup_slots=1))
    'overloaded: +3.0 ± 0.0 waiting a slot'
    >>> overload_of(np.array([0.0, 2.0, 1.0, 0.0]), np.full(4, 100.0)).overloaded
    False
    """
    increments = np.diff(waiting, prepend=0.0)[warmup_slots:]
    if len(increments) < LEAST:
        return None
    batches = min(BATCHES, len(increments))
    length = len(increments) // batches
    # What does not fill a batch is left out at the front, where the queue is furthest from how it goes on.
    means = increments[len(increments) - batches * length :].reshape(batches, length).mean(axis=1)
    return Overload(mean_interval(means), float(requests[warmup_slots:].mean()))

"""What shares of a GPU are worth: the pace at which each job works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.scenario.gpu import Saturating, Sharing, TimeSlice
from orric.simulation.queueing import worked

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Pace:
    """How a job works for a while.

    Attributes:
        speed: Seconds of work at the whole GPU done per second, while on.
        usage: Share of the GPU in use while it works.
        round_s: Length of a round, 0 for a job that is always on.
        origin_s: When the first round began.
        begin_s: Begin of the slice in a round.
        slice_s: Length of the slice.
    """

    speed: float = 0.0
    usage: float = 0.0
    round_s: float = 0.0
    origin_s: float = 0.0
    begin_s: float = 0.0
    slice_s: float = 0.0

    def row(self, end_s: float) -> tuple[float, ...]:
        """Return the pace as a stretch of `queueing`."""
        return (end_s, self.speed, self.usage, self.round_s, self.origin_s, self.begin_s, self.slice_s)

    def finish(self, now_s: float, work_s: float) -> float:
        """Return when work is done that goes on from now at this pace; infinity for never."""
        return float(worked(np.array([self.row(np.inf)]), now_s, work_s)[0])

    def left(self, now_s: float, until_s: float, work_s: float) -> tuple[float, float]:
        """Return what is left of some work at a later time, and the seconds of the whole GPU used until then."""
        _, left_s, used_s = worked(np.array([self.row(until_s)]), now_s, work_s)
        return float(left_s), float(used_s)

    def divided(self, workers: int) -> Pace:
        """Return the pace of each of several workers that divide the job."""
        return Pace(self.speed / workers, self.usage / workers, self.round_s, self.origin_s, self.begin_s, self.slice_s)


STILL = Pace()


def paces(sharing: Sharing, shares: Sequence[float], now_s: float) -> list[Pace]:
    """Return the pace of every job of a GPU, from its share on.

    Args:
        sharing: How jobs share the GPU.
        shares: Of every job, in the order of the rounds; at most 1 together.
        now_s: When these shares begin to hold: rounds are counted from here.
    """
    if isinstance(sharing, TimeSlice):
        found, begin_s = [], 0.0
        for share in shares:
            slice_s = share * sharing.round_s - sharing.switch_s
            if slice_s > 0:
                found.append(Pace(1.0, 1.0, sharing.round_s, now_s, begin_s + sharing.switch_s, slice_s))
            else:
                found.append(STILL)
            begin_s += share * sharing.round_s
        return found
    fixed = sharing.fixed if isinstance(sharing, Saturating) else 0.0
    return [Pace(1.0 / (fixed + (1 - fixed) / share), share) if share > 0 else STILL for share in shares]

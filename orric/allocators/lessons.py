"""What ORRIC learns from observations about serving in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orric.allocators.base import Array, StreamTask
from orric.allocators.timely import Demand, Learnt
from orric.records import Observation
from orric.timeliness import FACTORS, Corrections

if TYPE_CHECKING:
    from orric.allocators.together import StreamsTogether


# What part of earlier slots counts of how far forecasts were off; and for how many slots off by how much it begins.
KEPT = 0.95
USUAL_SLOTS, USUAL_MISS = 2.0, 0.05


@dataclass(frozen=True, eq=False)
class Past:
    """What was chosen for the streams of a GPU in a slot, and what came.

    Attributes:
        slot: Index from 1.
        demand: What came, and the budget that there was.
        retraining: Indices of configurations, shape (n,).
        inference: Likewise.
        shares: Of the GPU, at which they were to be served, shape (n,).
    """

    slot: int
    demand: Demand
    retraining: Array
    inference: Array
    shares: Array


class Lessons:
    """What the slot just over tells of every stream: whether it is served as fast as it should be.

    All is learnt from observations alone, so that a restart which replays them loses nothing.

    Args:
        streams: Of a task.

    Attributes:
        learnt: Of all streams.
    """

    def __init__(self, streams: Sequence[StreamTask]) -> None:
        self._numbers = {stream.name: k for k, stream in enumerate(streams)}
        self._retraining = [{one.name: i for i, one in enumerate(stream.retraining)} for stream in streams]
        self._inference = [{one.name: j for j, one in enumerate(stream.inference)} for stream in streams]
        self._corrections, nothing = Corrections(len(streams)), np.zeros(len(streams))
        self.learnt = Learnt(self._corrections.factors, self._corrections.shifts, nothing, nothing.copy())
        # Of every stream, forgotten slowly: slots, and sums of how far off they were, and of its square.
        self._misses = np.tile([USUAL_SLOTS, 0.0, USUAL_SLOTS * USUAL_MISS**2], (len(streams), 1))
        self._seen: dict[int, Observation] = {}
        self._waiting = np.zeros(len(streams))

    def observe(self, record: Observation) -> None:
        """Keep what happened to a stream until the whole slot is known."""
        self._seen[self._numbers[record.stream]] = record

    @property
    def whole(self) -> bool:
        """Whether every stream was observed, so that there is nothing to wait for."""
        return len(self._seen) == len(self._numbers)

    @property
    def slot(self) -> int | None:
        """The slot whose observations have not been learnt from; None where there are none."""
        return next((one.slot for one in self._seen.values()), None)

    def learn(self, group: StreamsTogether) -> Past | None:
        """Compare what was to be expected of the streams of a GPU with what happened.

        Returns:
            What was chosen for them in the slot just over; None where that was not told, is unknown to the task,
            or some of them were served on another GPU.
        """
        seen = [self._seen.pop(k, None) for k in group.streams.tolist()]
        there = [one for one in seen if one is not None]
        if len(there) < len(seen):
            return None
        before, self._waiting[group.streams] = self._waiting[group.streams], [one.waiting for one in there]
        names = zip(group.streams.tolist(), there, strict=True)
        places = [(self._retraining[k].get(one.retraining), self._inference[k].get(one.inference)) for k, one in names]
        chosen = np.array([(i, j) for i, j in places if i is not None and j is not None], np.intp).reshape(-1, 2)
        budget_macs = there[0].budget_macs
        away = any(one.gpu not in ("", group.name) for one in there)
        if len(chosen) < len(there) or budget_macs <= 0 or away:
            return None
        requests, shares = (
            np.array(one) for one in zip(*((s.requests, s.inference_share or 0.0) for s in there), strict=True)
        )
        told = np.array([one.told for one in there])
        demand = Demand(requests, budget_macs, before, self.learnt.of(group.streams))
        # In an overloaded slot many never join the queue, and shares are not those that were decided.
        if group.timely is not None and group.fit(told, budget_macs):
            timely = group.timely.beside(chosen[:, 0])
            speeds = timely.speeds(chosen[:, 1], shares, demand)[:, None] * FACTORS
            expected = timely.part_in_time(chosen[:, 1], speeds, demand)
            in_time = (np.array([one.served - one.late for one in there])) / np.maximum(requests, 1.0)
            self._corrections.observe(group.streams, expected, in_time, requests)
        self._forecasts(group.streams, requests, told)
        return Past(there[0].slot, demand, chosen[:, 0], chosen[:, 1], shares)

    def _forecasts(self, streams: Array, requests: Array, told: Array) -> None:
        """Learn how far what comes is from what slots tell."""
        known = (requests > 0) & (told > 0)
        streams = streams[known]
        missed = np.log(requests[known] / told[known])
        sums = self._misses[streams] * KEPT + np.stack([np.ones(len(missed)), missed, missed**2], axis=1)
        self._misses[streams] = sums
        weight, total, squares = sums.T
        self.learnt.means[streams] = total / weight
        self.learnt.spreads[streams] = np.sqrt(np.maximum(squares / weight - (total / weight) ** 2, 0.0))

"""Ekya's thief scheduler and its fair shares, as allocators."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from orric.allocators.base import Allocator, MicroProfiled, Slot, StreamTask, Task
from orric.allocators.stealing import steal
from orric.allocators.timely import ROOM
from orric.allocators.window import BETTER, Prospects, RetrainingWindow, Split
from orric.configuration import Allocation, StreamAllocation
from orric.devices import Device
from orric.exceptions import ScenarioError, nearest
from orric.learning import LearningCurve, RunningExtent
from orric.objective import feasible_together
from orric.records import Observation

# The median of the absolute value of a standard normal number.
_MEDIAN = 0.6744897501960817
# Shares are rounded down by this much, so that together they never exceed the budget.
_ROUNDED_DOWN = 1 - 1e-12
# An estimate that no label renews goes this part of the way back to the one from before any label.
_FORGOTTEN = 0.1


def trial_errors(key: int, slot: int, noise: float, streams: int, configurations: int) -> list[list[float]]:
    """Draw by what trials mistake the accuracies that they estimate: factors about 1.

    They are the same whenever the same slot is asked about.

    Args:
        key: Of an episode.
        slot: Index of the slot.
        noise: Median of the relative errors, which are normal.
        streams: Number of streams.
        configurations: Number of retraining configurations, at most, of a stream.

    Returns:
        Factors by stream and configuration.
    """
    if not noise:
        return [[1.0] * configurations] * streams
    drawn = np.random.default_rng((key, slot)).standard_normal((streams, configurations))
    factors: list[list[float]] = (1 + noise / _MEDIAN * drawn).tolist()
    return factors


class _Stream:
    """One stream's configurations, and what the allocator believes of its student."""

    def __init__(self, task: StreamTask, retraining: str | None, curves: Sequence[LearningCurve] | None) -> None:
        kept = [one for one in task.retraining if retraining in (None, one.name) or one is task.retraining[0]]
        self.name = task.name
        self.retraining = [one.name for one in kept]
        self.profits = [one.profit for one in kept]
        self._gains = {one.name: one.profit for one in kept}
        self.retraining_macs = [one.cost_macs for one in kept]
        self.inference = [one.name for one in task.inference]
        self.factors = [one.profit for one in task.inference]
        self.inference_macs = [one.cost_macs for one in task.inference]
        self.cheapest_macs = task.cheapest_macs
        self._most, self._best = task.retraining[-1].profit or 1.0, task.best_accuracy
        self._curves, self._extent = curves, RunningExtent(task.memory)
        self._untold = self._accuracy = task.best_accuracy / 2
        told = task.timeliness
        self._timeliness = None if told is None or told.deadline_s == math.inf else told

    def sustaining(
        self, requests: float, backlog: float, budget_macs: float, device: Device | None, capacity_macs: float
    ) -> list[tuple[float, float, int]]:
        """Return Ekya's s(r): the shares of a budget from which more of the requests are served well.

        Without a deadline, or on a device that is not known, a share sustains a configuration where it pays for the
        requests. Else what a configuration is worth counts for the part that is answered by the deadline at the share.

        Returns:
            Share, what the accuracy is multiplied by, and the configuration; ascending in share and factor.
        """
        scale = requests / budget_macs
        needs = [
            (cost * scale, factor, j)
            for j, (cost, factor) in enumerate(zip(self.inference_macs, self.factors, strict=True))
        ]
        if self._timeliness is None or device is None or requests <= 0:
            return needs
        shares = np.array([share for share, _, _ in needs])[:, None] * ROOM
        speeds = device.speed(np.minimum(shares * budget_macs / capacity_macs, 1.0))
        parts = self._timeliness.part(np.arange(len(needs))[:, None], speeds, requests, backlog)
        worth = np.array(self.factors)[:, None] * parts
        found: list[tuple[float, float, int]] = []
        for place in np.argsort(shares, axis=None, kind="stable").tolist():
            j, room = divmod(place, len(ROOM))
            if not found or worth[j, room] > found[-1][1] * (1 + BETTER):
                found.append((float(shares[j, room]), float(worth[j, room]), j))
        return found

    def observe(self, record: Observation) -> None:
        """Learn what came of a slot."""
        if self._curves is not None:
            self._extent.add(record.requests, self._gains.get(record.retraining, 0.0) * record.retrained)
        elif record.agreement is None:
            self._accuracy += (self._untold - self._accuracy) * _FORGOTTEN
        else:
            self._accuracy = record.agreement

    def accuracies(self, slot: Slot, requests: float) -> tuple[float, list[float]]:
        """Return the accuracy of the present weights, and of those that each retraining configuration ends with."""
        if self._curves is not None:
            curve = self._curves[slot.index - 1]
            found = curve(np.array([self._extent.value, *self._extent.after(requests, self.profits)])).tolist()
            return found[0], found[1:]
        present = self._accuracy
        rise = max(self._best - present, 0.0) / self._most
        return present, [present + rise * profit for profit in self.profits]


class Thief(MicroProfiled, Allocator):
    """Ekya's thief scheduler: shares of each GPU, moved in quanta from job to job as long as its estimate improves.

    In each slot and for each GPU it takes the streams there with the slot's budget as one window and steals as
    `orric.allocators.stealing.steal` says. Estimates of accuracy come from the profile's learning curves where they
    are handed in (see `profiled_by`), at a learning extent that it keeps itself from what it was told was retrained.
    Else the accuracy is the last agreement with the teacher; half of `best_accuracy` (which is as far from the best as
    from nothing) before there is any, to which it returns by a tenth in each slot without labels, lest a student once
    good is never looked at again; and retraining brings it nearer to `best_accuracy` by the part A_i / A_max. Both
    ways, weights serve as soon as they are there, as published, though in a scenario they may take over when the slot
    ends.

    Where streams have a deadline and it is known how the GPU is shared, Ekya's s(r), by which accuracy is multiplied at
    an inference share r, counts what is answered by the deadline; what sustains a stream is then more than what its
    requests cost. The publication has rates of frames in the place of deadlines.

    Shares are given where the task knows the GPUs' capacities. What a stream's requests cost at its cheapest
    configuration is never taken from its inference; where that is more than the budget, every stream gets its cheapest
    pair. Deciding a slot again gives the same answer.

    Source: Bhardwaj et al., "Ekya: Continuous Learning of Video Analytics Models on Edge Compute Servers", NSDI 2022,
    sections 4 and 5.

    Args:
        delta: The quantum, as a part of a GPU's budget, in (0, 1].
        rounds: How often every job is a thief, at least 1.
        noise: Median relative error of the estimated accuracies after retraining, at least 0; normal, drawn for each
            slot, stream and configuration. Ekya's micro-profiler has 5.8 %.
        retraining: Name of the one configuration that streams retrain by, if at all; left out, each picks its own.
        steal: Whether shares are stolen; otherwise they stay fair.

    Raises:
        ScenarioError: An option is out of its range.
    """

    name: ClassVar[str] = "thief"

    def __init__(
        self,
        delta: float = 0.1,
        rounds: int = 3,
        noise: float = 0.058,
        retraining: str | None = None,
        steal: bool = True,
    ) -> None:
        where = f"allocator {self.name!r}"
        if not 0 < delta <= 1:
            raise ScenarioError(where, f"the quantum delta is {delta:g}", "give a part of the budget, in (0, 1]")
        if rounds < 1:
            raise ScenarioError(where, f"{rounds} rounds", "give at least 1, or steal=False for fair shares")
        if not 0 <= noise < math.inf:
            raise ScenarioError(where, f"the noise is {noise:g}", "give a median relative error, at least 0")
        self._delta, self._rounds, self._noise = delta, rounds if steal else 0, noise
        self._retraining = retraining
        self._curves: Sequence[Sequence[LearningCurve]] | None = None

    def profiled_by(self, curves: Sequence[Sequence[LearningCurve]]) -> Thief:
        profiled = copy.copy(self)
        profiled._curves = tuple(tuple(each) for each in curves)
        return profiled

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        where, curves = f"allocator {self.name!r}", self._curves
        if curves is not None and (
            len(curves) != len(task.streams) or min(len(each) for each in curves) < task.horizon
        ):
            raise ScenarioError(
                where,
                f"has curves of {len(curves)} streams, too few for {len(task.streams)} over {task.horizon} slots",
                "hand in one for every stream and slot",
            )
        for stream in task.streams:
            names = [one.name for one in stream.retraining]
            if self._retraining is not None and self._retraining not in names:
                found = f"stream {stream.name!r} has no undominated retraining configuration {self._retraining!r}"
                raise ScenarioError(where, found, nearest(self._retraining, names))
        # Of every stream, the configuration of every share that its inference is looked at.
        self._sustained: list[list[int]] = [[] for _ in task.streams]
        self._key = int(rng.integers(2**63))
        self._streams = [
            _Stream(stream, self._retraining, None if curves is None else curves[k])
            for k, stream in enumerate(task.streams)
        ]
        self._number = {stream.name: k for k, stream in enumerate(task.streams)}
        self._options = max(len(stream.profits) for stream in self._streams)
        self._there = [[k for k, one in enumerate(task.streams) if one.gpu == gpu] for gpu in task.gpus]

    def decide(self, slot: Slot) -> Allocation:
        decided: list[StreamAllocation | None] = [None] * len(self._streams)
        errors = trial_errors(self._key, slot.index, self._noise, len(self._streams), self._options)
        total, planned, stolen = 0.0, 0, 0
        for gpu, there in enumerate(self._there):
            if not there:
                continue
            budget_macs = slot.budgets_macs[gpu]
            requests = [slot.requests[k] for k in there]
            cheapest = [self._streams[k].cheapest_macs for k in there]
            if budget_macs <= 0 or not feasible_together(np.array(requests), 0.0, np.array(cheapest), budget_macs):
                for k in there:
                    decided[k] = self._allocation(k, 0, 0)
                continue
            window = RetrainingWindow(
                1.0,
                1.0,
                tuple(
                    self._prospects(slot, k, requests[place], budget_macs, errors[k]) for place, k in enumerate(there)
                ),
            )
            split = steal(window, self._delta, self._rounds)
            for k, allocation in zip(there, self._fitted(slot, gpu, window, split), strict=True):
                decided[k] = allocation
            total, planned, stolen = total + split.accuracy * len(there), planned + len(there), stolen + split.stolen
        reason = "no pair fits the budget"
        if planned:
            reason = f"estimates {total / planned:.1%}" + (f" by {stolen} quanta stolen" if self._rounds else "")
        return Allocation(tuple(one for one in decided if one is not None), reason)

    def observe(self, record: Observation) -> None:
        self._streams[self._number[record.stream]].observe(record)

    def _prospects(self, slot: Slot, k: int, requests: float, budget_macs: float, errors: list[float]) -> Prospects:
        """Estimate a stream in a slot; shares and work are parts of the budget."""
        stream = self._streams[k]
        present, after = stream.accuracies(slot, requests)
        scale, gpu = requests / budget_macs, self.task.gpus.index(self.task.streams[k].gpu)
        known = self.task.devices and self.task.capacities_macs
        sustaining = stream.sustaining(
            requests,
            slot.backlogs[k] if slot.backlogs else 0.0,
            budget_macs,
            self.task.devices[gpu] if known else None,
            self.task.capacities_macs[gpu] if known else budget_macs,
        )
        self._sustained[k] = [j for _, _, j in sustaining]
        inference = tuple((share, factor) for share, factor, _ in sustaining)
        retraining = [(after[0], 0.0)]
        # Without requests there are no samples to retrain on.
        for index in range(1, len(after) if requests > 0 else 1):
            end = min(max(after[index] * errors[index], 0.0), 1.0)
            retraining.append((end, stream.retraining_macs[index] * scale))
        return Prospects(present, inference, tuple(retraining), inference[0][0])

    def _fitted(self, slot: Slot, gpu: int, window: RetrainingWindow, split: Split) -> list[StreamAllocation]:
        """Turn a split into configurations that fit the budget, and shares of the whole GPU where that is known."""
        there, budget_macs = self._there[gpu], slot.budgets_macs[gpu]
        given = window.released(list(split.retraining_shares), list(split.retraining))
        serving = [share + given for share in split.inference_shares]
        inference = [
            self._sustained[k][window.sustained(place, share)]
            for place, (k, share) in enumerate(zip(there, serving, strict=True))
        ]
        retraining = list(split.retraining)
        # What fits but for rounding is made to fit.
        requests = np.array([slot.requests[k] for k in there])
        for place in range(len(there)):
            while not self._fits(requests, there, retraining, inference, budget_macs):
                if not retraining[place] and not inference[place]:
                    break
                chosen = retraining if retraining[place] else inference
                chosen[place] -= 1
        part = None
        if self.task.capacities_macs:
            part = min(budget_macs / self.task.capacities_macs[gpu], 1.0) * _ROUNDED_DOWN
        return [
            self._allocation(
                k,
                retraining[place],
                inference[place],
                None if part is None else (split.retraining_shares[place] + given if retraining[place] else 0.0) * part,
                None if part is None else serving[place] * part,
            )
            for place, k in enumerate(there)
        ]

    def _fits(
        self, requests: Any, there: list[int], retraining: list[int], inference: list[int], budget_macs: float
    ) -> bool:
        streams = [self._streams[k] for k in there]
        labelling = np.array([one.retraining_macs[i] for one, i in zip(streams, retraining, strict=True)])
        serving = np.array([one.inference_macs[j] for one, j in zip(streams, inference, strict=True)])
        return feasible_together(requests, labelling, serving, budget_macs)

    def _allocation(
        self,
        k: int,
        retraining: int,
        inference: int,
        retraining_share: float | None = None,
        inference_share: float | None = None,
    ) -> StreamAllocation:
        stream = self._streams[k]
        return StreamAllocation(
            stream.retraining[retraining], stream.inference[inference], inference_share, retraining_share
        )


class FairShare(Thief):
    """Ekya's baseline of fair shares: an equal share for every job, and the configurations that are best by them.

    It is the thief before it steals.

    Args:
        noise: As of `Thief`.
        retraining: As of `Thief`.
    """

    name: ClassVar[str] = "fair-share"

    def __init__(self, noise: float = 0.058, retraining: str | None = None) -> None:
        super().__init__(noise=noise, retraining=retraining, steal=False)

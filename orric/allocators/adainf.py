"""AdaInf's split, as an allocator: inference gets what its deadline needs, and retraining the rest."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from orric.allocators.base import Array, Slot, StreamTask, Task
from orric.allocators.streams import MultiStreamAllocator
from orric.configuration import Allocation, StreamAllocation
from orric.devices import Device
from orric.exceptions import ScenarioError
from orric.objective import feasible_together
from orric.records import Observation
from orric.timeliness import Timeliness

# Shares are rounded down by this much, so that together they never exceed the budget.
_ROUNDED_DOWN = 1 - 1e-12
# An estimate that no label renews goes this part of the way back to the one from before any label.
_FORGOTTEN = 0.1
# How many splits are compared in a slot, and how often the range of a share is halved.
_SPLITS, _HALVINGS = 16, 20
# Next to no speed.
SLOWEST = 1e-9


@dataclass(frozen=True)
class _Split:
    """What the streams of a GPU are given: indices of configurations, parts of the GPU, and what that is worth."""

    retraining: list[int]
    inference: list[int]
    rest: float
    correct: float


class AdaInf(MultiStreamAllocator):
    """AdaInf's idea: inference gets what its deadline needs, retraining the rest, by the impact of drift.

    In every slot and on every GPU each inference configuration of a stream needs the least share at which no more than
    `late` of the requests that could be in time are not, and never less than what all cost. What is in time is told by
    the same `Timeliness` as everybody's, uncorrected. What those chosen leave of the budget is
    divided among the streams in proportion to the impact of drift on each, which is F - a: how far its last agreement
    with the teacher is below the best accuracy. A stream takes the dearest retraining configuration that its part
    pays; what it leaves goes to those of more impact. Cheaper inference, AdaInf's early exit, makes room for
    retraining: from the best configurations of all, those are lowered first that give up least profit for a share, and
    of at most 17 such splits the one is taken that is estimated to answer most requests correctly, where retraining
    brings a student nearer to F by the part A_i / A_max. All that inference does not need goes to the retraining under
    way, and to inference where there is none. Where the deadlines need more than there is, nobody retrains, and all is
    divided in proportion to the needs. Where who has work gets what others leave, shares are weights, and there is more
    for everybody than is counted on.

    Shares are given where the task knows the GPUs' capacities. A stream without a deadline, or whose service times are
    not told, needs what its requests cost. An agreement that is not renewed goes back to half of F by a tenth in each
    slot; a restart needs the records alone. O(K (M + N) + K log K) per slot.

    Source: Shubha and Shen, "AdaInf: Data Drift Adaptive Scheduling for Accurate and SLO-guaranteed Multiple-Model
    Inference Serving at Edge Servers", ACM SIGCOMM 2023; from its abstract and what others report of it: there is no
    public code. Taken from there: space on the GPU by the need for a latency objective, time that the objective leaves
    for retraining just before inference, its division by impact, early exits. What could not be known, or is otherwise
    here:

    - AdaInf fits the space that an objective needs to measurements, by a regression of unknown form. Here formulas of
      queues say it.
    - It finds drift by new samples unlike the old, on which it tests every model. Here agreements stand for that.
    - By which rule it picks early exits, and what it expects of retraining, is not known: the estimate above is ours.
    - Its applications are graphs of several models. Here each GPU's streams are the tasks of one application.
    - It retrains within the time of each job, in milliseconds. Here within a slot, as everybody. What it does about the
      GPU's memory has no counterpart.

    Args:
        late: The part of the requests that could be in time which may be late, in (0, 1).

    Raises:
        ScenarioError: `late` is out of its range.
    """

    name: ClassVar[str] = "adainf"

    def __init__(self, late: float = 0.01) -> None:
        if not 0 < late < 1:
            raise ScenarioError(f"allocator {self.name!r}", f"late is {late:g}", "give a part in (0, 1)")
        self.late = late

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        streams = task.streams
        self._retraining_parts = [
            [one.profit / (stream.retraining[-1].profit or 1.0) for one in stream.retraining] for stream in streams
        ]
        self._factors = [[one.profit for one in stream.inference] for stream in streams]
        self._untold = [stream.best_accuracy / 2 for stream in streams]
        self._accuracies = list(self._untold)
        self._timely = [
            _Timely([streams[k] for k in there], task.devices[gpu] if task.devices else Device())
            for gpu, there in enumerate(self.streams_on)
        ]

    def observe(self, record: Observation) -> None:
        k = self._numbers[record.stream]
        if record.agreement is None:
            self._accuracies[k] += (self._untold[k] - self._accuracies[k]) * _FORGOTTEN
        else:
            self._accuracies[k] = min(record.agreement, self.task.streams[k].best_accuracy)

    def decide(self, slot: Slot) -> Allocation:
        decided = [StreamAllocation(one.retraining[0].name, one.inference[0].name) for one in self.task.streams]
        backlogs = np.array(slot.backlogs) if slot.backlogs else np.zeros(len(decided))
        retraining = 0
        for gpu, there in enumerate(self.streams_on):
            budget_macs = slot.budgets_macs[gpu]
            cheapest = np.array([self._cheapest_macs[k] for k in there])
            requests = np.array([slot.requests[k] for k in there])
            if not there or budget_macs <= 0 or not feasible_together(requests, 0.0, cheapest, budget_macs):
                continue
            capacity = self.task.capacities_macs[gpu] if self.task.capacities_macs else None
            part = 1.0 if capacity is None else min(budget_macs / capacity, 1.0) * _ROUNDED_DOWN
            whole_macs = budget_macs if capacity is None else capacity
            needs = [
                [max(slot.requests[k], 1.0) * cost / whole_macs for cost in self.inference_costs_macs[k]] for k in there
            ]
            # Of a GPU whose capacity is not known, nor is what a share of it does in a second.
            if capacity is not None:
                timed = self._timely[gpu].needed_shares(np.maximum(requests, 1.0), backlogs[there], part, self.late)
                needs = [[max(pair) for pair in zip(*both, strict=True)] for both in zip(needs, timed, strict=True)]
            costs = [[slot.requests[k] * cost / whole_macs for cost in self.retraining_costs_macs[k]] for k in there]
            split = self._split(slot, there, needs, costs, part)
            self._made_to_fit(slot, there, split, budget_macs)
            retraining += sum(i > 0 for i in split.retraining)
            for k, one in zip(there, self._allocations(there, split, needs, costs, part, capacity), strict=True):
                decided[k] = one
        return Allocation(tuple(decided), f"{retraining} of {len(decided)} streams retrain in what deadlines leave")

    def _split(
        self, slot: Slot, there: list[int], needs: list[list[float]], costs: list[list[float]], part: float
    ) -> _Split:
        """Choose the configurations of a GPU's streams; needs and costs are parts of the GPU."""
        inference = [len(one) - 1 for one in needs]
        steps = self._steps(slot, there, needs)
        taken, rest = 0, part - sum(one[-1] for one in needs)
        while rest < 0 and taken < len(steps):
            rest += self._lowered(inference, needs, steps[taken])
            taken += 1
        if rest < 0:
            return _Split([0] * len(there), inference, 0.0, 0.0)
        # In the order of impact, so that what one stream leaves goes to those with more.
        impacts = [
            max(self.task.streams[k].best_accuracy - self._accuracies[k], 0.0) if slot.requests[k] > 0 else 0.0
            for k in there
        ]
        order = sorted((place for place in range(len(there)) if impacts[place] > 0), key=lambda place: impacts[place])
        best = self._estimated(slot, there, list(inference), rest, impacts, order, costs)
        # Of many streams not every step is looked at.
        stride = -(-(len(steps) - taken) // _SPLITS)
        while taken < len(steps):
            for place in steps[taken : taken + stride]:
                rest += self._lowered(inference, needs, place)
            taken += stride
            found = self._estimated(slot, there, list(inference), rest, impacts, order, costs)
            if found.correct > best.correct * (1 + 1e-12):
                best = found
        return best

    def _steps(self, slot: Slot, there: list[int], needs: list[list[float]]) -> list[int]:
        """Return whose inference is to be lowered, one after another, those first that lose least for a share."""
        steps = []
        for place, k in enumerate(there):
            dearest, weight = 0.0, slot.requests[k] * self._accuracies[k]
            for j in range(len(needs[place]) - 1, 0, -1):
                lost = weight * (self._factors[k][j] - self._factors[k][j - 1])
                saved = needs[place][j] - needs[place][j - 1]
                # The steps of one stream stay in their order.
                dearest = max(dearest, lost / saved if saved > 0 else np.inf)
                steps.append((dearest, place))
        return [place for _, place in sorted(steps)]

    def _lowered(self, inference: list[int], needs: list[list[float]], place: int) -> float:
        """Lower one stream's inference in place, and return the share that it gives up."""
        inference[place] -= 1
        return needs[place][inference[place] + 1] - needs[place][inference[place]]

    def _estimated(
        self,
        slot: Slot,
        there: list[int],
        inference: list[int],
        rest: float,
        impacts: list[float],
        order: list[int],
        costs: list[list[float]],
    ) -> _Split:
        """Divide what inference leaves, and estimate how many requests are then answered correctly."""
        retraining, left, weight = [0] * len(there), rest, sum(impacts)
        for place in order:
            share = left * min(impacts[place] / weight, 1.0) if weight > 0 else left
            retraining[place] = max(bisect_right(costs[place], share) - 1, 0)
            left, weight = left - costs[place][retraining[place]], weight - impacts[place]
        correct = 0.0
        for place, k in enumerate(there):
            risen = impacts[place] * self._retraining_parts[k][retraining[place]]
            correct += slot.requests[k] * self._factors[k][inference[place]] * (self._accuracies[k] + risen)
        return _Split(retraining, inference, rest, correct)

    def _made_to_fit(self, slot: Slot, there: list[int], split: _Split, budget_macs: float) -> None:
        """Lower what does not fit but for rounding."""
        requests = np.array([slot.requests[k] for k in there])
        for chosen in (split.retraining, split.inference):
            for place in range(len(there)):
                while True:
                    learning = np.array(
                        [self.retraining_costs_macs[k][i] for k, i in zip(there, split.retraining, strict=True)]
                    )
                    serving = np.array(
                        [self.inference_costs_macs[k][j] for k, j in zip(there, split.inference, strict=True)]
                    )
                    if feasible_together(requests, learning, serving, budget_macs):
                        return
                    if not chosen[place]:
                        break
                    chosen[place] -= 1

    def _allocations(
        self,
        there: list[int],
        split: _Split,
        needs: list[list[float]],
        costs: list[list[float]],
        part: float,
        capacity: float | None,
    ) -> list[StreamAllocation]:
        """Name what was chosen, with shares of the whole GPU where its capacity is known."""
        serving = [one[j] for one, j in zip(needs, split.inference, strict=True)]
        learning = [one[i] for one, i in zip(costs, split.retraining, strict=True)]
        needed = sum(serving)
        if sum(learning) > 0:
            scale = max(part - needed, 0.0) / sum(learning)
            learning = [share * scale * _ROUNDED_DOWN for share in learning]
        else:
            serving = [share * part / needed if needed else part / len(there) for share in serving]
        return [
            StreamAllocation(
                self.task.streams[k].retraining[i].name,
                self.task.streams[k].inference[j].name,
                None if capacity is None else serving[place],
                None if capacity is None else learning[place],
            )
            for place, (k, i, j) in enumerate(zip(there, split.retraining, split.inference, strict=True))
        ]


class _Timely:
    """The streams of a GPU that have a deadline, those alike together.

    Args:
        streams: Those on the GPU.
        device: How it is shared.
    """

    def __init__(self, streams: Sequence[StreamTask], device: Device) -> None:
        self._device, self._sizes = device, [len(stream.inference) for stream in streams]
        kinds: dict[Timeliness, list[int]] = {}
        for place, stream in enumerate(streams):
            told = stream.timeliness
            if told is not None and told.deadline_s < np.inf:
                kinds.setdefault(told, []).append(place)
        self._kinds = [(told, np.array(places)) for told, places in kinds.items()]

    def needed_shares(self, requests: Array, backlogs: Array, part: float, late: float) -> list[list[float]]:
        """Return the least share at which hardly more are late than at all of a part of the GPU.

        Args:
            requests: D(t), shape (n,).
            backlogs: Requests that wait, shape (n,).
            part: Of the GPU, above 0.
            late: How many more may be late, as a part of those that could be in time.

        Returns:
            By stream and inference configuration; 0 where there is no deadline.
        """
        found = [[0.0] * size for size in self._sizes]
        for told, places in self._kinds:
            size = self._sizes[int(places[0])]
            which, asked, waiting = np.arange(size)[:, None], requests[places], backlogs[places]
            target = told.part(which, self._speed(part), asked, waiting) * (1 - late)
            low, high = np.zeros(target.shape), np.full(target.shape, part)
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                meets = told.part(which, self._speed(middle), asked, waiting) >= target
                low, high = np.where(meets, low, middle), np.where(meets, middle, high)
            for place, shares in zip(places.tolist(), high.T.tolist(), strict=True):
                found[place] = shares
        return found

    def _speed(self, share: Any) -> Any:
        """Return how fast a share serves, above 0."""
        return np.maximum(self._device.speed(share), SLOWEST)

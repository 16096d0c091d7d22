"""AdaInf's split, as an allocator: inference gets what its deadline needs, and retraining the rest."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from orric.allocators.base import Array, Slot, Task
from orric.allocators.streams import MultiStreamAllocator
from orric.configuration import Allocation, StreamAllocation
from orric.exceptions import ScenarioError
from orric.objective import feasible_together
from orric.records import Observation

# Shares are rounded down by this much, so that together they never exceed the budget.
_ROUNDED_DOWN = 1 - 1e-12
# An estimate that no label renews goes this part of the way back to the one from before any label.
_FORGOTTEN = 0.1
# How many splits are compared in a slot, and how often the range of a service time is halved.
_SPLITS, _HALVINGS = 16, 40


@dataclass(frozen=True)
class _Split:
    """What the streams of a GPU are given: indices of configurations, parts of the GPU, and what that is worth."""

    retraining: list[int]
    inference: list[int]
    rest: float
    correct: float


class AdaInf(MultiStreamAllocator):
    """AdaInf's idea: inference gets what its deadline needs, retraining the rest, by the impact of drift.

    In every slot and on every GPU each inference configuration of a stream needs the least share by which no more than
    `late` of its requests are late, and never less than what they cost. What those chosen leave of the budget is
    divided among the streams in proportion to the impact of drift on each, which is F - a: how far its last agreement
    with the teacher is below the best accuracy. A stream takes the dearest retraining configuration that its part
    pays; what it leaves goes to those of more impact. Cheaper inference, AdaInf's early exit, makes room for
    retraining: from the best configurations of all, those are lowered first that give up least profit for a share, and
    of at most 17 such splits the one is taken that is estimated to answer most requests correctly, where retraining
    brings a student nearer to F by the part A_i / A_max. All that inference does not need goes to the retraining under
    way, and to inference where there is none. Where the deadlines need more than there is, nobody retrains, and all is
    divided in proportion to the needs.

    Shares are given where the task knows the GPUs' capacities. A stream without a deadline, or whose service times are
    not told, needs what its requests cost. An agreement that is not renewed goes back to half of F by a tenth in each
    slot; a restart needs the records alone. O(K (M + N) + K log K) per slot.

    Source: Shubha and Shen, "AdaInf: Data Drift Adaptive Scheduling for Accurate and SLO-guaranteed Multiple-Model
    Inference Serving at Edge Servers", ACM SIGCOMM 2023; from its abstract and what others report of it: there is no
    public code. Taken from there: space on the GPU by the need for a latency objective, time that the objective leaves
    for retraining just before inference, its division by impact, early exits. What could not be known, or is otherwise
    here:

    - AdaInf fits the space that an objective needs to measurements by a regression of unknown form. Here it is that of
      an M/D/1 queue whose waits have an exponential tail, alone or in full batches, whichever needs less.
    - It finds drift by new samples unlike the old, on which it tests every model. Here agreements stand for that.
    - By which rule it picks early exits, and what it expects of retraining, is not known: the estimate above is ours.
    - Its applications are graphs of several models. Here each GPU's streams are the tasks of one application.
    - It retrains within the time of each job, in milliseconds. Here within a slot, as everybody. What it does about the
      GPU's memory has no counterpart.

    Args:
        late: The part of the requests that may be late, in (0, 1).

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
        self._served = _Served(task)

    def observe(self, record: Observation) -> None:
        k = self._numbers[record.stream]
        if record.agreement is None:
            self._accuracies[k] += (self._untold[k] - self._accuracies[k]) * _FORGOTTEN
        else:
            self._accuracies[k] = min(record.agreement, self.task.streams[k].best_accuracy)

    def decide(self, slot: Slot) -> Allocation:
        decided = [StreamAllocation(one.retraining[0].name, one.inference[0].name) for one in self.task.streams]
        timed = self._served.needed_shares(slot.requests, self.late)
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
            # Of a GPU whose capacity is not known, nor is what a share of it does in a second.
            needs = [
                [
                    max(max(slot.requests[k], 1.0) * cost / whole_macs, timed[k][j] if capacity else 0.0)
                    for j, cost in enumerate(self.inference_costs_macs[k])
                ]
                for k in there
            ]
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


class _Served:
    """The service times and deadlines of a task's streams, those with deadlines end to end."""

    def __init__(self, task: Task) -> None:
        self._untimed = [[0.0] * len(stream.inference) for stream in task.streams]
        self._places: list[tuple[int, int]] = []
        rows: list[tuple[float, ...]] = []
        for k, stream in enumerate(task.streams):
            told = stream.timeliness
            if told is None or told.deadline_s == np.inf:
                continue
            for j in range(len(stream.inference)):
                self._places.append((k, j))
                rows.append((told.fixed_s[j], told.each_s[j], told.most, told.deadline_s, told.slot_s))
        self._fixed_s, self._each_s, self._most, self._deadline_s, self._slot_s = np.array(rows).reshape(-1, 5).T
        self._numbers = np.array([k for k, _ in self._places], np.intp)

    def needed_shares(self, requests: Sequence[float], late: float) -> list[list[float]]:
        """Return the share of a whole GPU that each inference configuration of each stream needs, 0 if no deadline."""
        if not self._places:
            return self._untimed
        rates = np.maximum(np.array(requests), 1.0)[self._numbers] / self._slot_s
        found = np.minimum(*(self._shares(rates, size, late) for size in (np.ones(len(rates)), self._most)))
        listed = [list(one) for one in self._untimed]
        for (k, j), share in zip(self._places, found.tolist(), strict=True):
            listed[k][j] = share
        return listed

    def _shares(self, rates: Array, size: Array, late: float) -> Array:
        return needed_share(self._fixed_s + self._each_s * size, rates / size, self._deadline_s, late)


def needed_share(service_s: Array, rate_per_s: Array, deadline_s: Array, late: float) -> Array:
    """Return the least share of a GPU at which most are served by the deadline; arrays of one shape.

    At service times u the wait of an M/D/1 queue of load r exceeds t with probability r exp(-2 (1 - r) t / u), by its
    mean and an exponential tail. All but `late` wait at most u log(r / late) / (2 (1 - r)), or not at all, and that and
    u together must not exceed the deadline. That is near at high loads, and on the safe side at low ones.

    Args:
        service_s: Of a request, or of a batch as one, at the whole GPU.
        rate_per_s: At which they come, above 0.
        deadline_s: Above 0, finite.
        late: The part that may be late, in (0, 1).

    Returns:
        Above 1 where the whole GPU is too slow.

    >>> needed_share(np.array([0.1]), np.array([1e-9]), np.array([0.5]), 0.01).round(6).tolist()
    [0.2]
    """
    low, high = np.zeros(len(service_s)), np.minimum(deadline_s, 1 / rate_per_s)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        load = np.minimum(rate_per_s * middle, 1 - 1e-12)
        taken_s = middle + middle * np.log(np.maximum(load / late, 1.0)) / (2 * (1 - load))
        meets = taken_s <= deadline_s
        low, high = np.where(meets, middle, low), np.where(meets, high, middle)
    shares: Array = service_s / high
    return shares

"""Many streams on several GPUs: the part of its GPU's budget that each stream gets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from orric.allocators.base import Allocator, Slot, Task
from orric.configuration import Allocation, StreamAllocation
from orric.objective import feasible

Pair = tuple[int, int]
# The rest of a budget is given away but for this part of it, for the rounding of its division.
_SPARED = (1e-12, 1e-6)


def divided(budget_macs: float, least_macs: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Divide a budget: to each stream its least, and of what then is left a part in proportion to its weight.

    Whatever pair of its own part each stream then takes, `feasible_together` admits them: parts add up to no more
    than the budget, rounded once, and so does what costs no more than them. Complexity O(K).

    Args:
        budget_macs: C(t) of the GPU.
        least_macs: What the cheapest pair of each stream of the GPU costs in the slot, shape (K,).
        weights: At least 0, shape (K,).

    Returns:
        Shape (K,). A stream alone gets the whole budget. Where the least of all is beyond it, each gets its least.

    >>> [round(part, 6) for part in divided(10.0, [2.0, 4.0], [3.0, 1.0])]
    [5.0, 5.0]
    """
    if len(least_macs) == 1:
        return [budget_macs]
    rest, total = math.fsum([budget_macs, *(-least for least in least_macs)]), sum(weights)
    if rest > 0 and total > 0:
        for spared in _SPARED:
            parts = [
                least + rest * (weight / total) * (1 - spared)
                for least, weight in zip(least_macs, weights, strict=True)
            ]
            if math.fsum(parts) <= budget_macs:
                return parts
    return list(least_macs)


class MultiStreamAllocator(Allocator):
    """An allocator that decides for many streams on several GPUs, by parts of each GPU's budget.

    Subclasses find here what every stream costs, as plain numbers, and divide budgets by `parts_by_demand` or
    `parts_evenly`. Where the cheapest pairs of a GPU's streams are beyond its budget, every part is what the cheapest
    pair costs.

    Attributes:
        retraining_costs_macs: Of every stream, C^T of its configurations, ascending.
        inference_costs_macs: Of every stream, C^I of its configurations, ascending.
        streams_on: Of every GPU, the numbers of its streams.
    """

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self.retraining_costs_macs = [[one.cost_macs for one in stream.retraining] for stream in task.streams]
        self.inference_costs_macs = [[one.cost_macs for one in stream.inference] for stream in task.streams]
        self.streams_on: list[list[int]] = [[] for _ in task.gpus]
        for k, stream in enumerate(task.streams):
            self.streams_on[task.gpus.index(stream.gpu)].append(k)
        self._numbers = {stream.name: k for k, stream in enumerate(task.streams)}
        self._cheapest_macs = [stream.cheapest_macs for stream in task.streams]

    def parts_by_demand(self, slot: Slot) -> list[float]:
        """Divide every GPU's budget: the cheapest pairs first, the rest by what the dearest inference would cost."""
        parts = [0.0] * len(slot.requests)
        for budget_macs, there in zip(slot.budgets_macs, self.streams_on, strict=True):
            demands = [slot.requests[k] * self.inference_costs_macs[k][-1] for k in there]
            for k, part in zip(there, divided(budget_macs, self._least_macs(slot, there), demands), strict=True):
                parts[k] = part
        return parts

    def parts_evenly(self, slot: Slot) -> list[float]:
        """Divide every GPU's budget into equal parts.

        Where such a part is less than what a stream's cheapest pair costs, every stream of that GPU gets its cheapest
        pair first, and the rest is divided equally.
        """
        parts = [0.0] * len(slot.requests)
        for budget_macs, there in zip(slot.budgets_macs, self.streams_on, strict=True):
            least, ones = self._least_macs(slot, there), [1.0] * len(there)
            found = divided(budget_macs, [0.0] * len(there), ones)
            if any(part < needed for part, needed in zip(found, least, strict=True)):
                found = divided(budget_macs, least, ones)
            for k, part in zip(there, found, strict=True):
                parts[k] = part
        return parts

    def _least_macs(self, slot: Slot, there: Sequence[int]) -> list[float]:
        return [slot.requests[k] * self._cheapest_macs[k] for k in there]

    def best_inference(self, k: int, retraining: int, requests: float, part_macs: float) -> int:
        """Return the best inference configuration that fits a part beside a retraining one; the cheapest if none."""
        costs, beside = self.inference_costs_macs[k], self.retraining_costs_macs[k][retraining]
        for j in range(len(costs) - 1, 0, -1):
            if feasible(requests, beside, costs[j], part_macs):
                return j
        return 0

    def allocation(self, pairs: Sequence[Pair], reason: str) -> Allocation:
        """Name the configurations of every stream, given by their indices."""
        return Allocation(
            tuple(
                StreamAllocation(stream.retraining[i].name, stream.inference[j].name)
                for stream, (i, j) in zip(self.task.streams, pairs, strict=True)
            ),
            reason,
        )

"""Several streams by an allocator that knows one: every stream gets its part of its GPU's budget."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np

from orric.allocators.base import Allocator, SingleStreamAllocator, Slot, Task
from orric.configuration import Allocation
from orric.records import Observation


class SplitBudget(Allocator):
    """Give every stream its part of its GPU's budget, and let one allocator decide each.

    That is what its requests cost at the cheapest pair, and of what then is left the part that it has of the demand:
    what its requests cost at its dearest inference configuration. Every stream is an
    instance of (P) of its own under the budgets it gets, and the allocator's competitive ratio holds for each; none is
    proved for all of them together.

    Args:
        each: Copied for every stream; it takes its name.
    """

    name = "split"

    def __init__(self, each: SingleStreamAllocator) -> None:
        self._each = each
        self.name = each.name  # type: ignore[misc]  # the name is the decision's, whoever splits the budget

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._deciders = [copy.deepcopy(self._each) for _ in task.streams]
        for decider, stream, child in zip(self._deciders, task.streams, rng.spawn(len(task.streams)), strict=True):
            decider.reset(Task(task.horizon, (stream,), (stream.gpu,)), child)
        self._numbers = {stream.name: k for k, stream in enumerate(task.streams)}
        self._costs = np.array([stream.inference[-1].cost_macs for stream in task.streams])
        self._cheapest = np.array([stream.cheapest_macs for stream in task.streams])
        self._places = np.array([task.gpus.index(stream.gpu) for stream in task.streams])
        self._gpus = len(task.gpus)
        self._alone = np.bincount(self._places, minlength=self._gpus)[self._places] == 1

    def decide(self, slot: Slot) -> Allocation:
        requests, budgets = np.array(slot.requests), np.array(slot.budgets_macs)
        least, demands = requests * self._cheapest, requests * self._costs
        rest = np.maximum(budgets - self._summed(least), 0.0)
        totals = self._summed(demands)[self._places]
        parts = np.divide(demands, totals, out=np.zeros(len(demands)), where=totals > 0)
        # A little less, so that rounding never makes the parts more than the whole.
        given = least + rest[self._places] * parts * (1 - 1e-12)
        given = np.where(self._alone, budgets[self._places], given).tolist()
        answers = [
            decider.decide(Slot(slot.index, (budget,), (number,)))
            for decider, budget, number in zip(self._deciders, given, slot.requests, strict=True)
        ]
        return Allocation(
            tuple(replace(answer.streams[0]) for answer in answers), "; ".join(answer.reason for answer in answers[:3])
        )

    def _summed(self, values: Any) -> Any:
        """Add up over the streams of each GPU."""
        return np.bincount(self._places, values, self._gpus)

    def observe(self, record: Observation) -> None:
        self._deciders[self._numbers[record.stream]].observe(record)

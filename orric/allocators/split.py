"""Several streams by an allocator that knows one: every stream gets its part of its GPU's budget."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from orric.allocators.base import Allocator, SingleStreamAllocator, Slot, Task
from orric.configuration import Allocation
from orric.records import Observation


class SplitBudget(Allocator):
    """Give every stream the part of its GPU's budget that it has of the demand, and let one allocator decide each.

    The demand of a stream is what its requests cost at its dearest inference configuration. Every stream is an
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
        self._places = np.array([task.gpus.index(stream.gpu) for stream in task.streams])

    def decide(self, slot: Slot) -> Allocation:
        demands = np.array(slot.requests) * self._costs
        totals = np.bincount(self._places, demands, len(slot.budgets_macs))[self._places]
        parts = np.divide(demands, totals, out=np.zeros(len(demands)), where=totals > 0)
        # A little less, so that rounding never makes the parts more than the whole.
        parts = np.where(parts < 1, parts * (1 - 1e-12), 1.0)
        budgets = (np.array(slot.budgets_macs)[self._places] * parts).tolist()
        answers = [
            decider.decide(Slot(slot.index, (budget,), (requests,)))
            for decider, budget, requests in zip(self._deciders, budgets, slot.requests, strict=True)
        ]
        return Allocation(
            tuple(replace(answer.streams[0]) for answer in answers), "; ".join(answer.reason for answer in answers[:3])
        )

    def observe(self, record: Observation) -> None:
        self._deciders[self._numbers[record.stream]].observe(record)

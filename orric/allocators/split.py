"""Several streams by an allocator that knows one: every stream gets its part of its GPU's budget."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from orric.allocators.base import Allocator, SingleStreamAllocator, Slot, Task
from orric.allocators.streams import MultiStreamAllocator
from orric.configuration import Allocation
from orric.records import Observation


class SplitBudget(MultiStreamAllocator):
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
            place = task.gpus.index(stream.gpu)
            devices, capacities = task.devices[place : place + 1], task.capacities_macs[place : place + 1]
            alone = Task(task.horizon, (stream,), (stream.gpu,), capacities_macs=capacities, devices=devices)
            decider.reset(alone, child)

    def decide(self, slot: Slot) -> Allocation:
        answers = [
            decider.decide(Slot(slot.index, (part,), (number,), slot.backlogs[k : k + 1]))
            for k, (decider, part, number) in enumerate(
                zip(self._deciders, self.parts_by_demand(slot), slot.requests, strict=True)
            )
        ]
        return Allocation(
            tuple(replace(answer.streams[0]) for answer in answers), "; ".join(answer.reason for answer in answers[:3])
        )

    def observe(self, record: Observation) -> None:
        self._deciders[self._numbers[record.stream]].observe(record)


def for_task(allocator: Allocator, task: Task) -> Allocator:
    """Return an allocator that can do a task: itself, or where it knows one stream only, one that splits budgets."""
    if isinstance(allocator, SingleStreamAllocator) and (len(task.streams) > 1 or len(task.gpus) > 1):
        return SplitBudget(allocator)
    return allocator

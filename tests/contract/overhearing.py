"""An allocator that writes down all that another one is told in a simulation, and what it decides."""

from __future__ import annotations

import numpy as np

import orric
from orric.allocators.split import for_task


class Overhearing(orric.Allocator):
    """Passes everything on.

    Args:
        inner: Who decides.
    """

    name = "overhearing"

    def __init__(self, inner: orric.Allocator) -> None:
        self._inner = inner

    def reset(self, task: orric.Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._asked = for_task(self._inner, task)
        self._asked.reset(task, rng)
        self.slots: list[orric.Slot] = []
        self.decided: list[orric.Allocation] = []
        self.told: list[orric.Observation] = []

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        self.slots.append(slot)
        self.decided.append(self._asked.decide(slot))
        return self.decided[-1]

    def observe(self, record: orric.Observation) -> None:
        self.told.append(record)
        self._asked.observe(record)

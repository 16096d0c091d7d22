"""The same allocations again: take down what an allocator decides, and let it be decided anew elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orric.allocators.base import Allocator as AnyAllocator
from orric.allocators.base import Slot, Task
from orric.allocators.split import for_task
from orric.allocators.streams import MultiStreamAllocator
from orric.configuration import Allocation
from orric.records import Observation


class Recorded(MultiStreamAllocator):
    """Decide as another allocator does, and take it down.

    Args:
        inner: The other allocator; it takes its name.

    Attributes:
        taken: Its allocations since the last reset, slot by slot.
    """

    name = "recorded"

    def __init__(self, inner: AnyAllocator) -> None:
        self._inner = inner
        self.name = str(getattr(inner, "name", "") or type(inner).__name__)  # type: ignore[misc]  # whoever is asked gives the name
        self.taken: list[Allocation] = []

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self.taken = []
        self._inner = for_task(self._inner, task)
        self._inner.reset(task, rng)

    def decide(self, slot: Slot) -> Allocation:
        self.taken.append(self._inner.decide(slot))
        return self.taken[-1]

    def observe(self, record: Observation) -> None:
        self._inner.observe(record)


class Replayed(MultiStreamAllocator):
    """Decide what was decided before, whatever is observed.

    Args:
        name: Whose decisions they are.
        allocations: One for each slot.
    """

    name = "replayed"

    def __init__(self, name: str, allocations: Sequence[Allocation]) -> None:
        self.name = name  # type: ignore[misc]  # as above
        self._allocations = allocations

    def decide(self, slot: Slot) -> Allocation:
        return self._allocations[slot.index - 1]

    def observe(self, record: Observation) -> None:
        """Nothing that is observed changes what was decided."""

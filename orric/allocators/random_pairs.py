"""Pairs drawn at random: what every allocator with a plan should beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from orric.allocators.base import Slot, Task
from orric.allocators.streams import MultiStreamAllocator, Pair
from orric.configuration import Allocation
from orric.objective import feasible


class RandomPairs(MultiStreamAllocator):
    """For every stream a pair drawn from those that fit its part of the budget by demand, all equally likely.

    A key is drawn once, at reset, and the draws of a slot follow from key and index alone, so a restarted episode goes
    on as it would have. O(K M N) per slot.
    """

    name: ClassVar[str] = "random"

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._key = int(rng.integers(2**64, dtype=np.uint64))

    def decide(self, slot: Slot) -> Allocation:
        chances = np.random.default_rng((self._key, slot.index)).random(len(slot.requests)).tolist()
        pairs = [
            self._pair(k, requests, part, chance)
            for k, (requests, part, chance) in enumerate(
                zip(slot.requests, self.parts_by_demand(slot), chances, strict=True)
            )
        ]
        return self.allocation(pairs, "drawn at random")

    def _pair(self, k: int, requests: float, part_macs: float, chance: float) -> Pair:
        fitting = [
            (i, j)
            for i, retraining in enumerate(self.retraining_costs_macs[k])
            for j, inference in enumerate(self.inference_costs_macs[k])
            if feasible(requests, retraining, inference, part_macs)
        ]
        return fitting[int(chance * len(fitting))] if fitting else (0, 0)

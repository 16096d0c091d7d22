"""Retraining somewhere else: the edge server only serves."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from orric.allocators.base import Allocator, Slot, Task
from orric.allocators.greedy import InferenceOnly
from orric.allocators.split import SplitBudget
from orric.configuration import Allocation


class CloudRetraining(Allocator):
    """Serve with the whole budget, and have every stream retrained in the cloud (a baseline of Ekya, NSDI 2022).

    Every stream sends all that its best retraining configuration samples, as soon as its last retraining is over, and
    serves as Inference-Only does on its part of its GPU's budget. Samples and weights travel over the scenario's
    link, whose bandwidth all streams share. Without a cloud in the task it is Inference-Only. O(K (M + N)) per slot.
    """

    name: ClassVar[str] = "cloud-retraining"
    needs: ClassVar[str] = "a [cloud]"

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._serving = SplitBudget(InferenceOnly())
        self._serving.reset(task, rng)

    def decide(self, slot: Slot) -> Allocation:
        served = self._serving.decide(slot)
        if not self.task.cloud:
            return replace(served, reason="there is no cloud")
        streams = tuple(
            replace(one, retraining=stream.retraining[-1].name, cloud=True)
            for one, stream in zip(served.streams, self.task.streams, strict=True)
        )
        return Allocation(streams, "retraining in the cloud")

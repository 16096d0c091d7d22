"""Joint ORRIC that follows estimates as far as its guarantee allows."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from orric.allocators.base import Array, Slot, Task
from orric.allocators.joint import JointOrric, StreamsTogether
from orric.allocators.knapsack import Selection
from orric.exceptions import ScenarioError
from orric.records import Observation

# How often the weight between estimates and guarantee is halved.
HALVINGS = 7


class GuidedOrric(JointOrric):
    """Joint ORRIC guided by how well each student does, within 95 % of what is proved.

    ORRIC's weights know of a learning curve only its least slope L, which is why they value retraining so little and
    give what there is of it to one stream. Students tell more: by its agreement a with the teacher a student is
    F - a short of the best accuracy F, and a concave curve rises at least as steeply as the straight line
    (F - a) / A^T_max up to it. With that for the slope, and h_t as in ORRIC, a unit of profit is worth
    (F - a) h_t / A^T_max. An allocation by these estimates is taken if by ORRIC's own weights it is worth at least
    1 - `give_up` of the best; else the nearest mixture of both weights whose allocation is. So joint ORRIC's guarantee
    holds, times (1 - `give_up`), whatever the estimates are (compare algorithms with predictions: consistency by the
    estimates, robustness by the guarantee).

    An agreement that is not renewed goes back to `unknown` by a tenth of the difference per slot, so that no student is
    forgotten. At most 9 knapsacks per slot and GPU.

    Args:
        give_up: Part of the guarantee that may be given up, in [0, 1).
        unknown: What is assumed of a student that nobody has compared with the teacher, as a part of F, in [0, 1].
        gap: As in `JointOrric`, for every knapsack.

    Attributes:
        gaps: Of the last decision how much of the best by ORRIC's own weights was given up at most on each GPU.

    Raises:
        ScenarioError: A part is not in its range.
    """

    name: ClassVar[str] = "orric-guided"

    def __init__(self, give_up: float = 0.05, unknown: float = 0.5, gap: float = 1e-6) -> None:
        super().__init__(gap)
        if not 0 <= unknown <= 1:
            raise ScenarioError(f"allocator {self.name!r}: unknown", f"found {unknown:g}", "give a part in [0, 1]")
        self.give_up, self.unknown = self._part("give_up", give_up), unknown

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._alone = None
        self._numbers = {stream.name: k for k, stream in enumerate(task.streams)}
        self._best = np.array([stream.best_accuracy for stream in task.streams])
        self._most = np.array([stream.retraining[-1].profit or 1.0 for stream in task.streams])
        self._agreements, self._told = self._best * self.unknown, np.zeros(len(task.streams))

    def observe(self, record: Observation) -> None:
        super().observe(record)
        if record.agreement is not None:
            k = self._numbers[record.stream]
            self._agreements[k], self._told[k] = min(record.agreement, self._best[k]), record.slot

    def slopes(self, slot: int) -> Array:
        """Return (F - a) / A^T_max of every stream by what is known at the start of a slot, shape (K,)."""
        age = np.maximum(slot - 1 - self._told, 0)
        unknown = self._best * self.unknown
        expected = unknown + (self._agreements - unknown) * 0.9**age
        slopes: Array = np.maximum(self._best - expected, 0.0) / self._most
        return slopes

    def solve(self, group: StreamsTogether, slot: Slot, requests: Array, budget_macs: float) -> Selection | None:
        proved = group.weights(slot.index, requests)
        best = group.select(proved, requests, budget_macs, self.gap)
        if best is None:
            return None
        half = len(group.streams)
        # At least what is proved: L is a floor under every slope.
        steep = np.maximum(self.slopes(slot.index)[group.streams] * group.future(slot.index), proved[:half])
        estimated = np.concatenate([steep, proved[half:]])
        # The share of ORRIC's own weights in the mixture: as little as the guarantee allows.
        share, low, high, taken = 0.0, 0.0, 1.0, best
        for _ in range(HALVINGS):
            mixture = estimated * (1 - share) + proved * share
            found = group.select(mixture, requests, budget_macs, self.gap)
            assert found is not None, "the cheapest pairs fit"
            value = group.value(found, proved, requests)
            if value >= best.bound * (1 - self.give_up):
                taken, high = Selection(found.items, value, max(best.bound, value), found.spent), share
            else:
                low = share
            if high == 0:
                break
            share = (low + high) / 2
        return taken

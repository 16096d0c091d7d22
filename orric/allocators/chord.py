"""ORRIC that weighs retraining by the chord of the learning curve, as far as its guarantee reaches."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from orric.allocators.base import Array, Indices, Slot, StreamTask, Task
from orric.allocators.joint import JointOrric
from orric.allocators.orric import Orric
from orric.allocators.timely import Choices, Plan
from orric.allocators.together import StreamsTogether


def chord_slope(task: StreamTask) -> float:
    """Return S, the slope of the chord between lower bounds of both ends of the curve; at least L."""
    most = task.retraining[-1].profit
    if task.start_accuracy is None or task.end_accuracy is None or most == 0:
        return task.slope_floor
    return max((task.end_accuracy - task.start_accuracy) / most, task.slope_floor)


def chord_factor(task: StreamTask) -> float:
    """Return V'_t / V_t: how many times as much as by ORRIC retraining may be worth with the guarantee in full.

    V'_t = (F / s) S c g_t with s a lower bound of f(0), and S = (e - s) / A^T_max the slope of the chord to a lower
    bound e of f(A^T_max), where V_t = L c g_t. At least 1, and 1 where nothing is known of f(0).

    >>> from orric import InferenceConfiguration, RetrainingConfiguration
    >>> stream = StreamTask(
    ...     "camera",
    ...     (RetrainingConfiguration(name="none", profit=0, cost_macs=0),
    ...      RetrainingConfiguration(name="all", profit=1, cost_macs=3e6)),
    ...     (InferenceConfiguration(name="32px", profit=1, cost_macs=8e6),),
    ...     best_accuracy=0.8, slope_floor=0.1, least_requests=1, most_requests=1, start_accuracy=0.4, end_accuracy=0.8)
    >>> round(chord_factor(stream), 6)
    8.0
    """
    if task.start_accuracy is None or task.retraining[-1].profit == 0:
        return 1.0
    return max(task.best_accuracy / task.start_accuracy * chord_slope(task) / task.slope_floor, 1.0)


class ChordOrric(Orric):
    """ORRIC with the chord of the learning curve in place of its least slope; proved competitive.

    A concave curve lies above its chord, f(x) >= f(0) + S x with S = (f(A^T_max) - f(0)) / A^T_max >= L. Where the
    profile tells lower bounds of both ends (`start_accuracy`, `end_accuracy`), V'_t = (F / f(0)) S c g_t takes the
    place of V_t = L c g_t, and CR >= (1 + alpha) `start_accuracy` / F still holds, by the same proof: it holds for any
    weight in [V_t, V'_t], chosen anew in every slot (background, competitive ratios). Without these bounds it is ORRIC.
    Where it is told which part is answered in time, V'_t is lowered as far as the floor of profits asks for.
    O(M + N) per slot.
    """

    name: ClassVar[str] = "orric-chord"

    def weights(self, task: Task) -> tuple[Array, Array]:
        retraining, inference = super().weights(task)
        return retraining * chord_factor(task.streams[0]), inference

    def choose_in_time(
        self, slots: Array, requests: Array, budgets_macs: Array, in_time: Array
    ) -> tuple[Indices, Indices]:
        """As ORRIC does, with no weight so large that a pair below the floor of profits would be worth choosing."""
        places = np.minimum(slots, self.task.horizon) - 1
        steep, stream = self.retraining_weights, self.task.streams[0]
        least = stream.inference[0].profit if stream.least_profit is None else stream.least_profit
        i, j = np.arange(len(self.retraining_profits))[:, None], np.arange(len(self.inference_profits))
        fits = self.affordable(requests[:, None, None], budgets_macs[:, None, None], i, j)
        by_retraining = np.where(fits, self.inference_profits * in_time, -np.inf).max(axis=2)
        dearest = np.maximum(np.isfinite(by_retraining).sum(axis=1) - 1, 0)
        beside = np.take_along_axis(by_retraining, dearest[:, None], axis=1)[:, 0]
        most = float(self.retraining_profits[-1]) or 1.0
        room = np.maximum(by_retraining.max(axis=1) - least, 0.0) * self.inference_weights[places] / most
        allowed = np.where(beside >= least, np.inf, np.maximum(room, steep[places] / chord_factor(stream)))
        lowered = steep.copy()
        lowered[places] = np.minimum(steep[places], allowed)
        try:
            self.retraining_weights = lowered
            return super().choose_in_time(slots, requests, budgets_macs, in_time)
        finally:
            self.retraining_weights = steep


class JointChordOrric(JointOrric):
    """Joint ORRIC with the chords of the streams' learning curves, as `ChordOrric` has them; proved competitive.

    The guarantee is that of `JointOrric` with every stream's `start_accuracy` for its f(0), where it is told. One
    knapsack per slot and GPU.

    Args:
        gap: As in `JointOrric`.
    """

    name: ClassVar[str] = "orric-chord-joint"

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._factors = np.array([chord_factor(stream) for stream in task.streams])
        if self._alone is not None:
            self._alone = ChordOrric()
            self._alone.reset(task, rng)

    def solve(self, group: StreamsTogether, choices: Choices, slot: Slot) -> Plan:
        weights = group.weights(slot.index, choices.requests)
        weights[: len(group.streams)] *= self._factors[group.streams]
        return choices.best(weights, self.gap)

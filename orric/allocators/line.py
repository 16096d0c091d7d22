"""Joint ORRIC that plans as if learning curves were straight lines: what comes nearest to the best in small games."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from orric.allocators.base import Array, Slot, StreamTask, Task
from orric.allocators.chord import chord_slope
from orric.allocators.joint import JointOrric
from orric.allocators.timely import Choices, Plan
from orric.allocators.together import StreamsTogether
from orric.learning import RunningExtent
from orric.records import Observation


class LineOrric(JointOrric):
    """Joint ORRIC by certainty equivalence: as if every learning curve were its chord.

    The chord s + S x, from a lower bound s of f(0) to one of f(A^T_max), is the lowest curve that there may be. Were it
    the curve, a unit of profit now would add S h_t A^I to every later slot that serves by A^I, and answers now would be
    right s + S x_t times their own A^I. These take the place of V_t and W_t, with sqrt(A^I_min A^I_max) for the A^I of
    later slots, which nobody knows. ORRIC proper is careful twice: it expects the least of later slots,
    A^I_min D_min / D_max, and takes answers now to be as good as they ever get, F.

    In small games that are solved exactly (`orric game`) it guarantees more than ORRIC and `orric-chord` do, often as
    much as any algorithm without chance can. Nothing is proved of it: its V_t may lie beyond what the proof of Theorem
    4 grants. Where a profile does not tell both ends of its curve (`start_accuracy`, `end_accuracy`), it weighs that
    stream as ORRIC does.

    One knapsack per slot and GPU.

    Args:
        gap: As in `JointOrric`.
    """

    name: ClassVar[str] = "orric-line"

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._alone = None
        self._extents = {stream.name: RunningExtent(stream.memory) for stream in task.streams}
        self._profits = [{one.name: one.profit for one in stream.retraining} for stream in task.streams]
        self._numbers = {stream.name: k for k, stream in enumerate(task.streams)}
        self._starts = np.array([_start(stream) for stream in task.streams])
        self._slopes = np.array([chord_slope(stream) for stream in task.streams])
        self._later = np.array([(one.inference[0].profit * one.inference[-1].profit) ** 0.5 for one in task.streams])

    def observe(self, record: Observation) -> None:
        super().observe(record)
        profits = self._profits[self._numbers[record.stream]]
        if record.retraining in profits:
            self._extents[record.stream].add(record.requests, profits[record.retraining] * record.retrained)

    def solve(self, group: StreamsTogether, choices: Choices, slot: Slot) -> Plan:
        weights = group.weights(slot.index, choices.requests)
        half, known = len(group.streams), ~np.isnan(self._starts[group.streams])
        mine = group.streams[known]
        extents = np.array([self._extents[self.task.streams[k].name].value for k in mine.tolist()])
        raised: Array = self._slopes[mine] * self._later[mine] * group.future(slot.index)[known]
        weights[:half][known] = np.maximum(raised, weights[:half][known])
        weights[half:][known] = self._starts[mine] + self._slopes[mine] * extents
        return choices.best(weights, self.gap)


def _start(stream: StreamTask) -> float:
    """Return a lower bound of f(0); NaN where none is known."""
    return float("nan") if stream.start_accuracy is None else stream.start_accuracy

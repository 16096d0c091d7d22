"""ORRIC for many streams under the budgets of one or several GPUs: one multiple-choice knapsack per slot and GPU."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from orric.allocators.base import Allocator, Array, Slot, Task
from orric.allocators.lessons import Lessons
from orric.allocators.orric import Orric
from orric.allocators.ranges import Ranges
from orric.allocators.timely import Choices, Demand, Plan
from orric.allocators.together import Answers, StreamsTogether
from orric.configuration import Allocation
from orric.exceptions import ScenarioError
from orric.objective import feasible
from orric.records import Observation


class JointOrric(Allocator):
    """Decide as ORRIC does for all streams of a GPU at once, by one knapsack per slot; proved competitive.

    In every slot and on every GPU it maximises sum_k D_k (V_t^k A^T_i(k) + W_t^k A^I_j(k)) under
    sum_k D_k (C^T_i(k) + C^I_j(k)) <= C(t): a multiple-choice knapsack of 2 K classes, solved to within `gap` of the
    best. ORRIC's guarantee holds for all streams together, times (1 - gap). One stream alone is decided as by `Orric`.
    Streams stay on their GPUs. Requests that leave a stream's range widen it, see `Ranges`.

    Where streams have deadlines and it is known how the GPU is shared, A^I_j counts only for the part of the requests
    that is answered in time, and shares are given with the configurations; see `orric.allocators.timely`. What is
    expected of that part is corrected by what was observed. The guarantee is then that of in-time profits, see the
    documentation (background, competitive ratios).

    O(K (M + N)) per slot, with a merge of slopes that are sorted once; see `Classes.select`.

    Args:
        gap: How near to the best is near enough, (bound - value) / bound, in [0, 1); 0 asks for the best, for up to
            some dozens of streams.

    Attributes:
        gaps: Of the last decision the gap reached on each GPU; NaN where not even the cheapest pairs fit.

    Raises:
        ScenarioError: The gap is not in [0, 1).
    """

    name: ClassVar[str] = "orric-joint"

    def __init__(self, gap: float = 1e-6) -> None:
        self.gap = self._part("gap", gap)
        self.gaps: tuple[float, ...] = ()

    def _part(self, option: str, value: float) -> float:
        """Refuse an option that is no part of something, 0 included and 1 not."""
        if not 0 <= value < 1:
            raise ScenarioError(f"allocator {self.name!r}: {option}", f"found {value:g}", f"give a {option} in [0, 1)")
        return value

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self.gaps = ()
        places = np.array([task.gpus.index(stream.gpu) for stream in task.streams])
        self._answers, self._ranges, self._lessons = Answers(task.streams), Ranges(task.streams), Lessons(task.streams)
        self._groups = self._grouped(places)
        # One stream alone without a deadline is ORRIC's own problem, solved by its staircase in microseconds.
        alone = len(task.streams) == 1 and len(task.gpus) == 1 and not self._groups[0][1].timely
        self._alone = Orric() if alone else None
        if self._alone is not None:
            self._alone.reset(task, rng)

    def _grouped(self, places: Array) -> list[tuple[int, StreamsTogether]]:
        """Return the streams of each GPU, whose places are given."""
        return [
            (gpu, StreamsTogether(self.task, np.flatnonzero(places == gpu), gpu, self._ranges))
            for gpu in sorted(set(places.tolist()))
        ]

    def observe(self, record: Observation) -> None:
        if self._lessons.slot not in (None, record.slot):
            # The slot before is whole, and nobody was asked since.
            self._learn()
        self._ranges.observe(record)
        self._lessons.observe(record)
        if self._lessons.whole:
            # Now, so that the next decision need not wait for it.
            self._learn()
        if self._alone is not None:
            self._alone.observe(record)

    def decide(self, slot: Slot) -> Allocation:
        if self._alone is not None:
            fits = feasible(slot.requests[0], 0.0, self.task.streams[0].cheapest_macs, slot.budgets_macs[0])
            self.gaps = (0.0 if fits else float("nan"),)
            return self._alone.decide(slot)
        self._learn()
        plans, unfit = [], []
        gaps = [0.0] * len(slot.budgets_macs)
        for gpu, group in self._groups:
            plan = self.planned(group, gpu, slot)
            plans.append((group.streams, plan))
            gaps[gpu] = float("nan") if plan is None else plan.gap
            if plan is None:
                unfit.append(self.task.gpus[gpu])
        self.gaps = tuple(gaps)
        if unfit:
            return Allocation(self._answers.of(plans), f"no pairs fit on {', '.join(unfit[:3])}")
        return Allocation(self._answers.of(plans), f"within {max(gaps):.2g} of the best")

    def _learn(self) -> None:
        """Learn from the slot before, now that all of its observations are there."""
        for _, group in self._groups:
            self._lessons.learn(group)

    def planned(self, group: StreamsTogether, gpu: int, slot: Slot) -> Plan | None:
        """Choose for the streams of one GPU; None where not even the cheapest pairs fit."""
        choices = group.choices(self.demand(group, slot, slot.budgets_macs[gpu]))
        return None if choices is None else self.solve(group, choices, slot)

    def demand(self, group: StreamsTogether, slot: Slot, budget_macs: float) -> Demand:
        """Return what is asked of a budget in a slot."""
        streams = group.streams
        backlogs = np.array(slot.backlogs)[streams] if slot.backlogs else np.zeros(len(streams))
        return Demand(np.array(slot.requests)[streams], budget_macs, backlogs, self._lessons.learnt.of(streams))

    def solve(self, group: StreamsTogether, choices: Choices, slot: Slot) -> Plan:
        """Choose by ORRIC's weights."""
        return choices.best(group.weights(slot.index, choices.requests), self.gap)


class ExactJointOrric(JointOrric):
    """Joint ORRIC that solves every slot to the best, for up to some dozens of streams.

    As `JointOrric` with gap 0. Its search may take seconds per slot where many streams have the same configurations
    and requests that differ a little.
    """

    name: ClassVar[str] = "orric-exact"

    def __init__(self) -> None:
        super().__init__(gap=0.0)

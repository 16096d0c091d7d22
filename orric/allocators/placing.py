"""Joint ORRIC that also says on which GPU every stream is served and retrained."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from orric.allocators.base import Array, Slot, Task
from orric.allocators.joint import JointOrric
from orric.allocators.timely import Plan
from orric.allocators.together import Answers, StreamsTogether
from orric.configuration import Allocation

Found = list[Plan | None]
# The part of the best accuracy that retraining is hoped to bring.
HOPED = 0.5
# Of a sum of values: what rounding may take.
_ROUNDING = 1e-9


class PlacingOrric(JointOrric):
    """Joint ORRIC that moves streams to other GPUs where that is worth it.

    Every stream has a home, the GPU that it is placed on. In every slot the budgets are pooled first, which bounds
    what any placement can reach. Streams that do not fit at home at their pooled choice go, dearest first, to the GPU
    with most room and memory enough; where all fit, those do that earn less at home than in the pool by more than
    `worth`, as answers are late. Every GPU's knapsack is solved, and they move if that gains more than `worth`.

    ORRIC's own weights know of retraining only what it brings at the least, and by them an idle GPU, however fast, is
    hardly worth a move to whoever is served well at home. So a move is weighed by what retraining may be hoped to
    bring, half of the best accuracy over all of its profit (what `GuidedOrric` assumes of a student unknown), as long
    as by ORRIC's own weights, by which pairs are chosen and which the guarantee is of, nothing is lost. Placements do
    not depend on earlier ones, so a restart loses nothing.

    O(K (M + N)) per slot and solution, K log K for the placement.

    Args:
        gap: As in `JointOrric`, for every GPU.
        worth: What a move must gain at least, as a part of the slot's value, in [0, 1): loading models takes time.

    Attributes:
        gaps: Of the last decision what every placement lacks at most to the pooled bound, the same for all GPUs.

    Raises:
        ScenarioError: The gap or the worth is not in [0, 1).
    """

    name: ClassVar[str] = "orric-placing"
    needs: ClassVar[str] = "several GPUs"

    def __init__(self, gap: float = 1e-6, worth: float = 0.01) -> None:
        super().__init__(gap)
        self.worth = self._part("worth", worth)

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._home = np.array([task.gpus.index(stream.gpu) for stream in task.streams])
        self._memory = np.array([stream.memory_bytes for stream in task.streams])
        self._answers = Answers(task.streams, task.gpus)
        self._pool = StreamsTogether(task, np.arange(len(task.streams)), None, self._ranges)
        most = max(len(stream.retraining) for stream in task.streams)
        self._profits = np.array(
            [
                [one.profit for one in stream.retraining] + [0.0] * (most - len(stream.retraining))
                for stream in task.streams
            ]
        )
        # What a unit of profit may be hoped to bring at once.
        best = np.array([stream.best_accuracy for stream in task.streams])
        self._hopes = HOPED * best / np.maximum(self._profits.max(axis=1), 1e-300)
        self._away: tuple[bytes, list[tuple[int, StreamsTogether]]] = (b"", [])

    def decide(self, slot: Slot) -> Allocation:
        if len(self.task.gpus) == 1:
            return super().decide(slot)
        self._learn()
        budgets = np.array(slot.budgets_macs)
        pool = self._pool.choices(self.demand(self._pool, slot, float(budgets.sum())))
        pooled = None if pool is None else self.solve(self._pool, pool, slot)
        places, groups, reason = self._home, self._groups, "all at home"
        chosen = self._planned(groups, slot)
        moved = self._home
        if pooled is not None:
            requests = np.array(slot.requests)
            moved = self._placed(requests, budgets, pooled, np.zeros(len(requests), bool))
            if not (moved != self._home).any():
                # All fit at home, and may yet be late there.
                moved = self._placed(requests, budgets, pooled, self._lacking(groups, chosen, pooled))
        if (moved != self._home).any():
            candidates = self._groups_of(moved)
            found = self._planned(candidates, slot)
            hosts = set(moved[moved != self._home].tolist())
            fits = all(one is not None for (gpu, _), one in zip(candidates, found, strict=True) if gpu in hosts)
            hoped, at_home = self._hoped(candidates, found, slot), self._hoped(groups, chosen, slot)
            kept = _worth(found) >= _worth(chosen) * (1 - max(self.gap, _ROUNDING))
            if fits and kept and hoped > at_home * (1 + self.worth):
                places, groups, chosen = moved, candidates, found
                reason = f"{int((moved != self._home).sum())} streams away from home"
        value = _worth(chosen)
        lacking = float("nan")
        if pooled is not None and pooled.bound > 0 and value > 0:
            lacking = max(1 - value / pooled.bound, 0.0)
        self.gaps = (lacking,) * len(budgets)
        plans = [(group.streams, plan) for (_, group), plan in zip(groups, chosen, strict=True)]
        return Allocation(self._answers.of(plans, places), f"{reason}; within {lacking:.2g} of any placement")

    def _planned(self, groups: list[tuple[int, StreamsTogether]], slot: Slot) -> Found:
        return [self.planned(group, gpu, slot) for gpu, group in groups]

    def _groups_of(self, places: Array) -> list[tuple[int, StreamsTogether]]:
        """Return the streams of each GPU; the last placement's are kept, because it often is the next one's."""
        key = places.tobytes()
        if self._away[0] != key:
            self._away = (key, self._grouped(places))
        return self._away[1]

    def _lacking(self, groups: list[tuple[int, StreamsTogether]], found: Found, pooled: Plan) -> Array:
        """Say who earns less at home than it would if only the pooled budget counted, shape (K,)."""
        earned = np.zeros(len(self._home))
        for (_, group), plan in zip(groups, found, strict=True):
            if plan is not None:
                earned[group.streams] = plan.earned
        lacking: Array = earned < pooled.earned * (1 - self.worth)
        return lacking

    def _hoped(self, groups: list[tuple[int, StreamsTogether]], found: Found, slot: Slot) -> float:
        """Return what plans are worth where retraining brings what may be hoped."""
        total = 0.0
        for (_, group), plan in zip(groups, found, strict=True):
            if plan is not None:
                requests = np.array(slot.requests)[group.streams]
                weights, half = group.weights(slot.index, requests), len(group.streams)
                hoped = np.maximum(self._hopes[group.streams] * group.future(slot.index), weights[:half])
                profits = self._profits[group.streams, plan.retraining]
                total += float((requests * (hoped * profits + weights[half:] * plan.earned)).sum())
        return total

    def _placed(self, requests: Array, budgets: Array, pooled: Plan, lacking: Array) -> Array:
        """Leave at home what fits and lacks nothing there, dearest first; let the rest go where most room is."""
        costs = requests * self._pool.costs(pooled)
        places, room = self._home.copy(), budgets.copy()
        memory = np.array(self.task.memories_bytes or [np.inf] * len(room))
        away = []
        for k in np.argsort(-costs, kind="stable").tolist():
            home = self._home[k]
            memory[home] -= self._memory[k]
            if costs[k] <= room[home] and not lacking[k]:
                room[home] -= costs[k]
            else:
                away.append(k)
        for k in away:
            fitting = np.where(memory >= self._memory[k], room, -np.inf)
            # Its own memory at home is its own to use.
            fitting[self._home[k]] = room[self._home[k]]
            there = int(fitting.argmax())
            memory[self._home[k]] += self._memory[k]
            memory[there] -= self._memory[k]
            places[k], room[there] = there, room[there] - costs[k]
        return places


def _worth(found: Found) -> float:
    """Sum the values up; a GPU on which not even the cheapest pairs fit is worth nothing."""
    return sum(one.value for one in found if one is not None)

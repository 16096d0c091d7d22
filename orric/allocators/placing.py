"""Joint ORRIC that also says on which GPU every stream is served and retrained."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from orric.allocators.base import Array, Slot, Task
from orric.allocators.joint import Answers, JointOrric, StreamsTogether
from orric.allocators.knapsack import Selection
from orric.configuration import Allocation

Found = list[Selection | None]


class PlacingOrric(JointOrric):
    """Joint ORRIC that moves streams to other GPUs where that is worth it.

    Every stream has a home, the GPU that it is placed on. In every slot the budgets are pooled first, which bounds
    what any placement can reach. Where the streams at home lack more than `worth` to that bound, those that do not fit
    at home at their pooled choice go, dearest first, to the GPU with most room and memory enough; every GPU's knapsack
    is solved, and they move if that gains more than `worth`. Decisions do not depend on earlier ones, so a restart
    loses nothing.

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
        self._pool = self._together(np.arange(len(task.streams)))
        self._away: tuple[bytes, list[tuple[int, StreamsTogether]]] = (b"", [])

    def decide(self, slot: Slot) -> Allocation:
        if len(self.task.gpus) == 1:
            return super().decide(slot)
        requests, budgets = np.array(slot.requests), np.array(slot.budgets_macs)
        pooled = self.solve(self._pool, slot, requests, float(budgets.sum()))
        places, groups, reason = self._home, self._groups, "all at home"
        chosen = self._solved(groups, slot, requests)
        if pooled is not None and _worth(chosen) < pooled.bound * (1 - self.worth):
            moved = self._placed(requests, budgets, pooled)
            candidates = self._grouped(moved)
            found = self._solved(candidates, slot, requests)
            hosts = set(moved[moved != self._home].tolist())
            fits = all(one is not None for (gpu, _), one in zip(candidates, found, strict=True) if gpu in hosts)
            if fits and _worth(found) > _worth(chosen) * (1 + self.worth):
                places, groups, chosen = moved, candidates, found
                reason = f"{int((moved != self._home).sum())} streams away from home"
        retraining, inference = np.zeros(len(requests), np.intp), np.zeros(len(requests), np.intp)
        for (_, group), one in zip(groups, chosen, strict=True):
            if one is not None:
                half = len(group.streams)
                retraining[group.streams], inference[group.streams] = one.items[:half], one.items[half:]
        value = _worth(chosen)
        lacking = float("nan")
        if pooled is not None and pooled.bound > 0 and value > 0:
            lacking = max(1 - value / pooled.bound, 0.0)
        self.gaps = (lacking,) * len(budgets)
        return Allocation(
            self._answers.of(retraining, inference, places), f"{reason}; within {lacking:.2g} of any placement"
        )

    def _solved(self, groups: list[tuple[int, StreamsTogether]], slot: Slot, requests: Array) -> Found:
        return [self.solve(group, slot, requests, slot.budgets_macs[gpu]) for gpu, group in groups]

    def _grouped(self, places: Array) -> list[tuple[int, StreamsTogether]]:
        """Return the streams of each GPU; the last placement's are kept, because it often is the next one's."""
        key = places.tobytes()
        if self._away[0] != key:
            self._away = (
                key,
                [(gpu, self._together(np.flatnonzero(places == gpu))) for gpu in sorted(set(places.tolist()))],
            )
        return self._away[1]

    def _placed(self, requests: Array, budgets: Array, pooled: Selection) -> Array:
        """Leave at home what fits there at its pooled choice, dearest first; let the rest go where most room is."""
        costs = requests * self._pool.costs(pooled)
        places, room = self._home.copy(), budgets.copy()
        memory = np.array(self.task.memories_bytes or [np.inf] * len(room))
        away = []
        for k in np.argsort(-costs, kind="stable").tolist():
            home = self._home[k]
            memory[home] -= self._memory[k]
            if costs[k] <= room[home]:
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

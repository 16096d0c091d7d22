"""One stream of each GPU retrains per slot, the others serve."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from orric.allocators.base import Slot, Task
from orric.allocators.streams import MultiStreamAllocator, Pair
from orric.configuration import Allocation
from orric.records import Observation


class TakingTurns(MultiStreamAllocator):
    """One stream of each GPU retrains in a slot; subclasses say which.

    The others serve as Inference-Only does on their part of the budget by demand. What they leave is the one's:
    the dearest retraining that fits beside its cheapest inference, then the best inference beside that. A stream alone
    on its GPU is therefore decided as Retraining-Greedy decides. O(K (M + N)) per slot.
    """

    @abstractmethod
    def turn(self, slot: Slot, there: Sequence[int]) -> int:
        """Say whose turn it is, of the streams of a GPU, given by their numbers."""

    def decide(self, slot: Slot) -> Allocation:
        parts = self.parts_by_demand(slot)
        pairs = [(0, self.best_inference(k, 0, slot.requests[k], part)) for k, part in enumerate(parts)]
        turns = []
        for budget_macs, there in zip(slot.budgets_macs, self.streams_on, strict=True):
            if there:
                k = self.turn(slot, there)
                pairs[k] = self._most(k, slot.requests[k], self._others_macs(slot, pairs, there, k), budget_macs)
                turns.append(self.task.streams[k].name)
        return self.allocation(pairs, f"turn of {', '.join(turns[:3])}")

    def _others_macs(self, slot: Slot, pairs: Sequence[Pair], there: Sequence[int], but: int) -> list[float]:
        """Return what the pairs of the other streams cost, one by one, so that their sum is rounded once."""
        return [
            slot.requests[k] * (self.retraining_costs_macs[k][pairs[k][0]] + self.inference_costs_macs[k][pairs[k][1]])
            for k in there
            if k != but
        ]

    def _most(self, k: int, requests: float, others_macs: Sequence[float], budget_macs: float) -> Pair:
        """Return the dearest retraining that fits beside the others, and then the best inference."""
        retraining, inference = self.retraining_costs_macs[k], self.inference_costs_macs[k]

        def fits(i: int, j: int) -> bool:
            # The test of `feasible_together`, without its arrays.
            return math.fsum([*others_macs, requests * (retraining[i] + inference[j])]) <= budget_macs

        i = next((i for i in range(len(retraining) - 1, 0, -1) if fits(i, 0)), 0)
        return i, next((j for j in range(len(inference) - 1, 0, -1) if fits(i, j)), 0)


class RoundRobin(TakingTurns):
    """One stream of each GPU retrains in a slot, in turns.

    In slot t it is the stream of number t, counted round; see `TakingTurns`.
    """

    name: ClassVar[str] = "round-robin"

    def turn(self, slot: Slot, there: Sequence[int]) -> int:
        return there[(slot.index - 1) % len(there)]


class WorstFirst(TakingTurns):
    """One stream of each GPU retrains in a slot: the one that agreed least with its teacher; see `TakingTurns`.

    Streams that were never labelled, or not for more than `stale_slots` slots, go first, as their figure says nothing:
    in turns. Then the lowest agreement; ties go to the stream named first. After as many slots as there are streams,
    every second slot is for the worst of those whose figure counts, so that a stream which never gets labels does not
    keep the others from theirs.

    Attributes:
        stale_slots: For how many slots an agreement counts.
    """

    name: ClassVar[str] = "worst-first"
    stale_slots: ClassVar[int] = 20

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._agreements = [math.nan] * len(task.streams)
        self._labelled = [-math.inf] * len(task.streams)

    def turn(self, slot: Slot, there: Sequence[int]) -> int:
        stale = [k for k in there if slot.index - self._labelled[k] > self.stale_slots]
        known = [k for k in there if k not in stale]
        if not known or (stale and slot.index <= len(there)):
            return stale[(slot.index - 1) % len(stale)]
        if stale and slot.index % 2:
            return stale[(slot.index // 2) % len(stale)]
        return min(known, key=lambda k: self._agreements[k])

    def observe(self, record: Observation) -> None:
        if record.agreement is not None:
            k = self._numbers[record.stream]
            self._agreements[k], self._labelled[k] = record.agreement, record.slot

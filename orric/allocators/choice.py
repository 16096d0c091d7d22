"""What an allocator chose, looked up and checked: both engines ask here, so that they refuse alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orric.allocators.base import Indices
from orric.configuration import InferenceConfiguration, RetrainingConfiguration, StreamAllocation
from orric.exceptions import AllocatorError, nearest
from orric.objective import feasible
from orric.profile import Profile

Pair = tuple[RetrainingConfiguration, InferenceConfiguration]


class Choice:
    """The configurations that an allocator may choose from.

    Args:
        profile: Holds them; dominated ones may be chosen, too.
        allocator: Name of the allocator, for messages.
    """

    def __init__(self, profile: Profile, allocator: str) -> None:
        self._retraining = {one.name: one for one in profile.retraining}
        self._inference = {one.name: one for one in profile.inference}
        self._allocator = allocator

    def pair(self, slot: int, decided: StreamAllocation) -> Pair:
        """Return the configurations that an allocation names.

        Raises:
            AllocatorError: One of them is unknown; the nearest known one is suggested.
        """
        try:
            return self._retraining[decided.retraining], self._inference[decided.inference]
        except KeyError:
            kind, name, known = "retraining", decided.retraining, [*self._retraining]
            if name in self._retraining:
                kind, name, known = "inference", decided.inference, [*self._inference]
            found = f"names the unknown {kind} configuration {name!r}"
            raise AllocatorError(self._allocator, slot, found, nearest(name, known)) from None

    def pairs(self, decided: Sequence[StreamAllocation]) -> tuple[list[Pair], Indices]:
        """Return the different pairs that the allocations of slots 1..T name, and which of them each slot has.

        Complexity O(T), in the order in which the pairs first come up.

        Raises:
            AllocatorError: As `pair` does.
        """
        places: dict[tuple[str, str], int] = {}
        which = [places.setdefault((one.retraining, one.inference), len(places)) for one in decided]
        firsts = [which.index(place) for place in range(len(places))]
        return [self.pair(slot + 1, decided[slot]) for slot in firsts], np.array(which)

    def check_budget(
        self, slots: Any, requests: Any, retraining_cost_macs: Any, inference_cost_macs: Any, budget_macs: Any
    ) -> None:
        """Refuse pairs that exceed the budgets of their slots; scalars or arrays of one shape.

        Raises:
            AllocatorError: Names the first such slot, its budget and what the pair costs.
        """
        over = np.flatnonzero(
            np.logical_not(feasible(requests, retraining_cost_macs, inference_cost_macs, budget_macs))
        )
        if over.size:
            spent = requests * (retraining_cost_macs + inference_cost_macs)
            slot, budget, spent = (np.atleast_1d(values)[over[0]] for values in (slots, budget_macs, spent))
            raise AllocatorError(
                self._allocator,
                int(slot),
                f"exceeds the budget of {budget:g} MACs by a pair that costs {spent:g}",
                "choose a pair that orric.objective.feasible admits",
            )

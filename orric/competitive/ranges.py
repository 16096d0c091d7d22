"""The traces among which worst cases are searched: a number of slots, a range of requests, a range of budgets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orric.configuration import undominated
from orric.exceptions import ScenarioError
from orric.profile import Profile
from orric.trace import Trace

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TraceRange:
    """All traces of some length whose requests and budgets lie within bounds.

    Attributes:
        slots: T.
        requests: Least and most requests per slot, whole numbers; whole numbers are drawn.
        budget_macs: Least and largest budget per slot, in MACs.
        levels: Draw requests and budgets from so many equally spaced values only; None for all values.
        runs: Draw so many runs of slots at most, each with one number of requests and one budget; the first is one
            slot, and the others grow geometrically. None for slots that differ freely.

    Raises:
        ScenarioError: A range is empty, or a number is not usable.

    >>> TraceRange(2, (10, 20), (1e9, 2e9)).trace(np.array([0.0, 1.0, 1.0, 0.5])).requests.tolist()
    [10.0, 20.0]
    """

    slots: int
    requests: tuple[float, float]
    budget_macs: tuple[float, float]
    levels: int | None = None
    runs: int | None = None

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ScenarioError("slots", f"found {self.slots}", "give 1 at least")
        for name, (low, high) in (("requests", self.requests), ("budget_macs", self.budget_macs)):
            if not (np.isfinite(low) and np.isfinite(high) and 0 <= low <= high):
                raise ScenarioError(name, f"found {low:g} to {high:g}", "give LOW:HIGH with 0 <= LOW <= HIGH, finite")
        if self.requests[0] < 1:
            raise ScenarioError("requests", f"found {self.requests[0]:g}", "give 1 at least; D_min is above 0")
        if not all(float(end).is_integer() for end in self.requests):
            found = f"found {self.requests[0]:g} to {self.requests[1]:g}"
            raise ScenarioError("requests", found, "give whole numbers; no slot has a part of a request")
        for name in ("levels", "runs"):
            number = getattr(self, name)
            if number is not None and number < 2:
                raise ScenarioError(name, f"found {number}", "give 2 at least")

    @classmethod
    def of(cls, trace: Trace) -> TraceRange:
        """Take the ranges of a trace, of its requests the whole numbers between the least and the most.

        Raises:
            ScenarioError: There is no whole number between them.
        """
        least, most = math.ceil(trace.least_requests), math.floor(trace.most_requests)
        if least > most:
            found = f"no whole number lies between {trace.least_requests:g} and {trace.most_requests:g} requests"
            raise ScenarioError(trace.source, found, "give a trace of whole numbers of requests, or ranges")
        budgets = float(trace.budget_macs.min()), float(trace.budget_macs.max())
        return cls(trace.slots, (least, most), budgets)

    def with_slots(self, slots: int) -> TraceRange:
        """Return the same ranges for another number of slots."""
        return replace(self, slots=slots)

    def check(self, profile: Profile) -> None:
        """Refuse ranges in which some slot would be overloaded.

        Raises:
            ScenarioError: The least budget is below what the most requests cost at least.
        """
        cheapest = self.requests[1] * (
            undominated(profile.retraining)[0].cost_macs + undominated(profile.inference)[0].cost_macs
        )
        if self.budget_macs[0] < cheapest:
            raise ScenarioError(
                "budget_macs",
                f"the least budget is {self.budget_macs[0]:g} MACs, and {self.requests[1]:g} requests cost "
                f"{cheapest:g} at the cheapest pair",
                "raise the least budget or lower the most requests, so that no slot is overloaded",
            )

    @property
    def size(self) -> int:
        """Number of coordinates of a point."""
        return 2 * len(self._lengths())

    def _lengths(self) -> Array:
        """Return how many slots share each pair of coordinates."""
        if self.runs is None or self.runs >= self.slots:
            return np.ones(self.slots, np.int64)
        ends = np.unique(np.rint(np.geomspace(1, self.slots, self.runs)).astype(np.int64))
        return np.diff(ends, prepend=0)

    def trace(self, point: Array) -> Trace:
        """Return the trace of a point in the unit cube: first the coordinates of requests, then those of budgets."""
        lengths = self._lengths()
        point = np.clip(np.asarray(point, float), 0, 1)
        if self.levels is not None:
            point = np.minimum(np.floor(point * self.levels), self.levels - 1) / (self.levels - 1)
        parts = (np.repeat(half, lengths) for half in np.split(point, 2))
        # Rounding may carry the upper end a hair beyond itself.
        requests, budgets = (
            np.minimum(low + (high - low) * part, high)
            for (low, high), part in zip((self.requests, self.budget_macs), parts, strict=True)
        )
        return Trace(requests=np.rint(requests), budget_macs=budgets)

    def extreme(self) -> Trace:
        """Return a trace of which all that holds that follows from the ranges of requests: its own span them."""
        requests = np.full(self.slots, self.requests[1])
        requests[0] = self.requests[0]
        return Trace(requests=requests, budget_macs=np.full(self.slots, self.budget_macs[1]))

    def contains(self, trace: Trace) -> bool:
        """Say whether a trace's requests and budgets lie within the ranges, whatever its length."""
        return all(
            bool(((low <= values) & (values <= high)).all())
            for values, (low, high) in (
                (trace.requests, self.requests),
                (trace.budget_macs, self.budget_macs),
            )
        )

    def constructions(self, profile: Profile) -> Array:
        """Return points after the proofs' constructions, shape (n, size).

        Ample budgets with equal requests are Theorem 3's; one small first slot before large ones is worse still
        for an allocator that does not retrain; budgets that tighten or loosen once are where an allocator regrets
        what it did before. Even budgets that just admit a pair, or just miss it, put the same choice in every
        slot, so that one wrong weight is wrong throughout.
        """
        half = self.size // 2
        ones, zeros = np.ones(half), np.zeros(half)
        first = (np.arange(half) > 0).astype(float)
        points = [(ones, ones), (first, ones), (zeros, ones), (ones, zeros), (first, zeros), (first, 1 - first)]
        low, high = self.budget_macs
        if high > low:
            costs = {i.cost_macs + j.cost_macs for i in profile.retraining for j in profile.inference}
            parts = [(self.requests[1] * cost * share - low) / (high - low) for cost in costs for share in (0.999, 1)]
            points += [(ones, part * ones) for part in sorted(parts) if 0 < part < 1]
        return np.array([np.concatenate(pair) for pair in points])

"""The offline problem: what remains of (P) once every slot's budget is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from orric.configuration import undominated
from orric.exceptions import BudgetError
from orric.learning import LearningCurve, LearningExtent
from orric.objective import feasible, long_term_accuracy, servable
from orric.profile import Profile
from orric.trace import Trace

Array = np.ndarray[Any, Any]
# How far a range of extents is widened from slot to slot, relative to its ends.
HAIR = 2.0**-40
Overload: TypeAlias = Literal["error", "shed"]


@dataclass(frozen=True, eq=False)
class OfflineProblem:
    """(P) as a longest path: in slot t choose an option, earn f_t(x_t) times its reward, and move x.

    For every retraining configuration only the best inference configuration that fits beside it matters, and of
    those only the ones to which no other is at least equal in both profit and reward: at most M per slot.

    Attributes:
        gains: A^T of each option, shape (T, M), ascending; entries past `counts` are padding.
        rewards: A^I D(t) of each option, shape (T, M), strictly descending; shed requests score 0.
        counts: Number of options of each slot, shape (T,).
        pairs: Index of the retraining and of the inference configuration in the profile, shape (T, M, 2).
        requests: D(t), shape (T,).
        memory: How profits add up to the learning extent.
        curves: f_t, one per slot.
        profile: Where the options come from.
        trace: Where requests and budgets come from.
    """

    gains: Array
    rewards: Array
    counts: Array
    pairs: Array
    requests: Array
    memory: LearningExtent
    curves: tuple[LearningCurve, ...]
    profile: Profile
    trace: Trace
    overload: Overload

    @classmethod
    def of(cls, profile: Profile, trace: Trace, overload: Overload = "error") -> OfflineProblem:
        """Set up the problem of a profile and a trace. O(T M N).

        Raises:
            BudgetError: No pair fits the budget of a slot, and `overload` is "error".
        """
        retraining, inference = undominated(profile.retraining), undominated(profile.inference)
        requests, budgets = trace.requests[:, None, None], trace.budget_macs[:, None, None]
        retraining_cost = np.array([one.cost_macs for one in retraining])[None, :, None]
        inference_cost = np.array([one.cost_macs for one in inference])[None, None, :]
        # Costs ascend, so what fits is a prefix in both directions.
        fitting = feasible(requests, retraining_cost, inference_cost, budgets).sum(axis=2)
        best = fitting - 1
        blocked = best[:, 0] < 0
        if blocked.any() and overload == "error":
            slot = int(np.flatnonzero(blocked)[0])
            cheapest = retraining[0].cost_macs + inference[0].cost_macs
            raise BudgetError(slot + 1, float(trace.budget_macs[slot]), float(trace.requests[slot] * cheapest))
        following = np.concatenate([best[:, 1:], np.full((trace.slots, 1), -1)], axis=1)
        kept = best > following
        # Where nobody asks, nothing is earned and the extent stays: one option is as good as another.
        kept[trace.requests == 0] = False
        kept[blocked | (trace.requests == 0), 0] = True
        best[blocked, 0] = 0
        counts = kept.sum(axis=1)
        order = np.argsort(~kept, axis=1, kind="stable")[:, : int(counts.max())]
        best = np.take_along_axis(best, order, axis=1)
        served = trace.requests.copy()
        served[blocked] = servable(trace.requests[blocked], inference[0].cost_macs, trace.budget_macs[blocked])
        profits = np.array([one.profit for one in inference])
        places = (
            np.array([profile.retraining.index(one) for one in retraining]),
            np.array([profile.inference.index(one) for one in inference]),
        )
        corruptions = trace.corruption or [None] * trace.slots
        severities = trace.severity or [None] * trace.slots
        return cls(
            gains=np.array([one.profit for one in retraining])[order],
            rewards=profits[best] * served[:, None],
            counts=counts,
            pairs=np.stack([places[0][order], places[1][best]], axis=2),
            requests=trace.requests,
            memory=profile.memory,
            curves=tuple(profile.curves_for(corruptions, severities)),
            profile=profile,
            trace=trace,
            overload=overload,
        )

    def correct(self, chosen: Array) -> Array:
        """Return what each slot earns when `chosen`, shape (T,), indexes the options; shape (T,)."""
        slots = np.arange(len(chosen))
        correct, _ = long_term_accuracy(
            self.requests, self.rewards[slots, chosen], self.gains[slots, chosen], np.ones(len(chosen)), self.curves,
            self.memory,
        )  # fmt: skip
        return correct

    def value(self, chosen: Array) -> float:
        """Return what the chosen options earn together, rounded down by more than another way to add differs."""
        slots = len(chosen)
        most = float(self.gains.max())
        # What rounding does to an accuracy is relative to the terms of its curve.
        magnitudes = {id(curve): curve.magnitude(most) for curve in self.curves}
        unsure = self.rewards[np.arange(slots), chosen] @ np.array([magnitudes[id(curve)] for curve in self.curves])
        return float(self.correct(chosen).sum() * (1 - 2.0**-44 - 8 * slots * 2.0**-53) - unsure * 2.0**-49)

    def allocations(self, chosen: Array) -> list[dict[str, Any]]:
        """Name the configurations of the chosen options, as `Result.allocations` does."""
        pairs = self.pairs[np.arange(len(chosen)), chosen].tolist()
        retraining = [one.name for one in self.profile.retraining]
        inference = [one.name for one in self.profile.inference]
        return [
            {"slot": slot, "stream": self.trace.stream, "retraining": retraining[i], "inference": inference[j]}
            for slot, (i, j) in enumerate(pairs, start=1)
        ]

    def transition(self) -> tuple[Array, Array]:
        """Return keep and weight of x_{t+1} = keep_t x_t + weight_t A_t, shape (T,) each; not for window memory."""
        slots = len(self.requests)
        if self.memory.kind == "decay":
            assert self.memory.factor is not None
            past = np.zeros(slots + 1)
            for slot, requests in enumerate(self.requests.tolist()):
                past[slot + 1] = self.memory.factor * past[slot] + requests
            before = self.memory.factor * past[:-1]
        else:
            before = np.concatenate([[0.0], np.cumsum(self.requests)[:-1]])
        keep, weight = np.ones(slots), np.zeros(slots)
        busy = self.requests > 0
        total = (before + self.requests)[busy]
        keep[busy], weight[busy] = before[busy] / total, self.requests[busy] / total
        return keep, weight

    def reach(self, keep: Array, weight: Array) -> tuple[Array, Array]:
        """Return the least and the largest extent before each slot that any allocations reach, shape (T,) each.

        A hair is added on both sides, for rounding.
        """
        slots = len(self.counts)
        most = self.gains[np.arange(slots), self.counts - 1]
        cap = float(most[self.requests > 0].max())
        low, high = np.zeros(slots), np.zeros(slots)
        for t in range(slots - 1):
            low[t + 1] = (keep[t] * low[t] + weight[t] * self.gains[t, 0]) * (1 - HAIR)
            high[t + 1] = min((keep[t] * high[t] + weight[t] * most[t]) * (1 + HAIR), cap)
        return low, np.maximum(high, low)

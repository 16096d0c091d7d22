"""The offline problem: what remains of (P) once every slot's budget is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from orric.allocators.base import StreamTask
from orric.configuration import undominated
from orric.exceptions import BudgetError
from orric.learning import LearningCurve, LearningExtent
from orric.objective import feasible, long_term_accuracy, servable
from orric.profile import Profile
from orric.slot_model import profits_in_time
from orric.trace import Trace

Array = np.ndarray[Any, Any]
# How far a range of extents is widened from slot to slot, relative to its ends.
HAIR = 2.0**-40
Overload: TypeAlias = Literal["error", "shed"]


@dataclass(frozen=True, eq=False)
class OfflineProblem:
    """(P) as a longest path: in slot t choose an option, earn f_t(x_t) times its reward, and move x.

    For every retraining configuration only the best inference configuration that fits beside it matters (where answers
    count by their deadline, the one by which most are right and in time), and of those only the ones to which no other
    is at least equal in both profit and reward: at most M per slot.

    Attributes:
        gains: A^T of each option, shape (T, M), ascending; entries past `counts` are padding.
        rewards: A^I D(t) of each option, shape (T, M), strictly descending; shed requests score 0, and late ones where
            in-time parts are given.
        counts: Number of options of each slot, shape (T,).
        pairs: Index of the retraining and of the inference configuration in the profile, shape (T, M, 2).
        requests: D(t), shape (T,).
        memory: How profits add up to the learning extent.
        curves: f_t, one per slot.
        profile: Where the options come from.
        trace: Where requests and budgets come from.
        overload: What becomes of a slot in which no pair fits.
        in_time: q_t(i, j) of the undominated configurations, shape (T, M, N), or None.
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
    in_time: Array | None = None

    @classmethod
    def of(cls, profile: Profile, trace: Trace, overload: Overload = "error", in_time: Any = None) -> OfflineProblem:
        """Set up the problem of a profile and a trace. O(T M N).

        Raises:
            BudgetError: No pair fits the budget of a slot, and `overload` is "error".
            ScenarioError: The in-time parts are of another shape, or not in [0, 1].
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
        profits = np.array([one.profit for one in inference])
        if in_time is None:
            served = trace.requests.copy()
            served[blocked] = servable(trace.requests[blocked], inference[0].cost_macs, trace.budget_macs[blocked])
            best[blocked, 0] = 0
            rewards = np.where(best >= 0, profits[best] * served[:, None], -np.inf)
        else:
            stream = StreamTask.of(profile, trace.least_requests, trace.most_requests)
            in_time, offered = profits_in_time(stream, trace, in_time)
            best = len(inference) - 1 - offered[:, :, ::-1].argmax(axis=2)
            rewards = offered.max(axis=2) * trace.requests[:, None]
            rewards[trace.requests == 0] = 0.0
        # More retraining never hurts later, so an option must earn more than every one that retrains more.
        following = np.maximum.accumulate(rewards[:, ::-1], axis=1)[:, ::-1]
        following = np.concatenate([following[:, 1:], np.full((trace.slots, 1), -np.inf)], axis=1)
        kept = rewards > following
        # Where nobody asks, nothing is earned and the extent stays: one option is as good as another.
        kept[trace.requests == 0] = False
        kept[blocked | (trace.requests == 0), 0] = True
        counts = kept.sum(axis=1)
        order = np.argsort(~kept, axis=1, kind="stable")[:, : int(counts.max())]
        best = np.take_along_axis(best, order, axis=1)
        places = (
            np.array([profile.retraining.index(one) for one in retraining]),
            np.array([profile.inference.index(one) for one in inference]),
        )
        corruptions = trace.corruption or [None] * trace.slots
        severities = trace.severity or [None] * trace.slots
        return cls(
            gains=np.array([one.profit for one in retraining])[order],
            rewards=np.take_along_axis(np.where(rewards > -np.inf, rewards, 0.0), order, axis=1),
            counts=counts,
            pairs=np.stack([places[0][order], places[1][best]], axis=2),
            requests=trace.requests,
            memory=profile.memory,
            curves=tuple(profile.curves_for(corruptions, severities)),
            profile=profile,
            trace=trace,
            overload=overload,
            in_time=in_time,
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

    def in_time_claim(self) -> dict[str, Any]:
        """Say for a certificate what the in-time parts are, and of which configurations."""
        assert self.in_time is not None
        return {
            "retraining": [one.name for one in undominated(self.profile.retraining)],
            "inference": [one.name for one in undominated(self.profile.inference)],
            "parts": self.in_time.tolist(),
        }

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

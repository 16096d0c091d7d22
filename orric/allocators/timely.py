"""The slot problem of streams with deadlines on one GPU: configurations, and the shares that they are served at.

What a pair earns is A^I times the part of the requests that is answered by the deadline, and that part depends on how
fast the stream is served. In a hard partition a choice of inference is a configuration and a share of the GPU; the
costs of all shares add up to the budget, and the slot problem is the same multiple-choice knapsack with more items.
Where who has work gets what others leave, inference has all of the budget before it and retraining what it leaves;
what slows a stream down is what the others are served. So a choice is a *level*, the part of the budget that inference
takes at most, and with it one configuration per stream: at a level every stream sees at least the speed that the others
leave, and each level is a multiple-choice knapsack of its own. The best level is found by the bounds of all.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orric.allocators.base import StreamTask
from orric.allocators.knapsack import ROUNDING, Classes, Rows, Selection
from orric.devices import Device
from orric.objective import feasible_together
from orric.timeliness import Timeliness, shifted

Array = np.ndarray[Any, Any]
# Parts of the budget that inference may take together.
LEVELS = (0.4, 0.6, 0.75, 0.88, 1.0)
# Choices that are tried one by one rather than searched; and complete ones, where rounding refuses the better ones.
FEW, TRIED = 20_000, 20
# Where a level is exceeded, by which power of ten retraining may weigh more, and how often that is halved.
MOST_HEAVIER, HALVINGS = 3.0, 4
# How near to the best is near enough at each of several levels, unless the best is asked for.
ROUGH = 1e-4
# Shares of a hard partition, as multiples of what the requests cost.
ROOM = (1.0, 1.1, 1.25, 1.5, 1.8, 2.2, 3.0, 4.5)
# What retraining weighs of all where who has work gets what others leave: little, and yet enough to begin.
LITTLE = 1e-3
# How much more of a hard partition retraining gets than it costs: switches may leave it a little late.
SLACK = 1.02
# By how many standard deviations what comes is taken to differ, and how likely that is (Gauss and Hermite).
NODES = ((-math.sqrt(3), 1 / 6), (0.0, 2 / 3), (math.sqrt(3), 1 / 6))
# A part in time that is all but for rounding.
ALL = 1 - 1e-6
# Shares are rounded down by this part, so that together they never exceed the budget.
ROUNDED_DOWN = 1 - 1e-9
# The least part of a GPU that a stream is taken to see, whatever the others do.
LEAST_SPEED = 0.02


@dataclass(frozen=True, eq=False)
class Plan:
    """What the streams of a GPU do in a slot.

    Attributes:
        retraining: Indices of configurations, shape (n,).
        inference: Likewise.
        earned: A^I times the part in time, as expected, shape (n,).
        value: What it is worth by the weights that chose it.
        bound: No plan is worth more by them.
        retraining_shares: Of the GPU, shape (n,); None for what the configurations cost.
        inference_shares: Likewise.
    """

    retraining: Array
    inference: Array
    earned: Array
    value: float
    bound: float
    retraining_shares: Array | None = None
    inference_shares: Array | None = None

    @property
    def gap(self) -> float:
        """(bound - value) / bound; 0 where it is the best."""
        return max(self.bound - self.value, 0.0) / self.bound if self.bound > 0 else 0.0

    def weighed(self, value: float, bound: float) -> Plan:
        """Return the plan with what it is worth by other weights, and what no plan is worth more than by them."""
        return replace(self, value=value, bound=max(value, bound))


@dataclass(frozen=True, eq=False)
class Demand:
    """What is asked of a GPU in a slot.

    Attributes:
        requests: D(t) of its streams, shape (n,).
        budget_macs: C(t).
        backlogs: Requests that wait at the slot's start, shape (n,).
        learnt: What observations taught of each stream.
    """

    requests: Array
    budget_macs: float
    backlogs: Array
    learnt: Learnt


@dataclass(frozen=True, eq=False)
class Learnt:
    """What observations taught of some streams; see `orric.timeliness.Correction` for the first two.

    Attributes:
        factors: By which they are served faster than they should be, shape (n,).
        shifts: Added to the log-odds of being in time, shape (n,).
        means: Mean of the logarithm of how many times as many requests come as slots tell, shape (n,).
        spreads: Its standard deviation, shape (n,).
    """

    factors: Array
    shifts: Array
    means: Array
    spreads: Array

    @classmethod
    def nothing(cls, count: int) -> Learnt:
        """Return what is known of so many streams before anything was observed."""
        return cls(np.ones(count), np.zeros(count), np.zeros(count), np.zeros(count))

    def of(self, streams: Array) -> Learnt:
        """Return what is known of some of them."""
        return Learnt(self.factors[streams], self.shifts[streams], self.means[streams], self.spreads[streams])


class TimelyStreams:
    """The streams of one GPU, of which some have a deadline.

    Args:
        streams: The streams, at least one, shape (n,).
        device: How the GPU is shared.
        capacity_macs: What the whole GPU does in a slot.
    """

    def __init__(self, streams: Sequence[StreamTask], device: Device, capacity_macs: float) -> None:
        self.device, self.capacity_macs = device, capacity_macs
        self.retraining_profits = _padded([[one.profit for one in stream.retraining] for stream in streams], 0.0)
        self.retraining_costs = _padded([[one.cost_macs for one in stream.retraining] for stream in streams], np.inf)
        self.profits = _padded([[one.profit for one in stream.inference] for stream in streams], 0.0)
        self.costs = _padded([[one.cost_macs for one in stream.inference] for stream in streams], np.inf)
        self.labelling = Rows.of(self.retraining_profits, self.retraining_costs)
        self.rows = np.arange(len(streams))
        self.least_requests = np.array([stream.least_requests for stream in streams])
        counts = [(len(stream.retraining), len(stream.inference)) for stream in streams]
        sizes = [math.prod(column) for column in zip(*counts, strict=True)]
        # All choices of retraining and all of inference, of streams that are few enough to try them. Arrays have not as
        # many axes as there may be streams with one choice each.
        self.few: tuple[Array, ...] = ()
        if len(streams) <= math.log2(FEW) and sum(sizes) <= FEW:
            self.few = tuple(np.indices(column).reshape(len(column), -1) for column in zip(*counts, strict=True))
        kinds: dict[Timeliness | None, list[int]] = {}
        for k, stream in enumerate(streams):
            kinds.setdefault(stream.timeliness, []).append(k)
        self._kinds = [(one, np.array(members)) for one, members in kinds.items() if one is not None]

    def parts_in_time(self, speeds: Array, demand: Demand) -> Array:
        """Return the part in time of every stream and inference configuration, as it is to be expected.

        Where requests are not what slots tell, it is the mean over what may come, weighed by how many then ask.

        Args:
            speeds: At which each would be served, shape (n, N) or (n, N, ...).
            demand: What is asked.

        Returns:
            In the shape of the speeds; 1 where there is no deadline.
        """
        found, count = np.ones(speeds.shape), speeds.shape[1]
        for one, members in self._kinds:
            count, learnt = len(one.each_s), demand.learnt.of(members)
            more = (1,) * (speeds.ndim - 2)
            which = np.arange(count).reshape(1, count, *more)
            mine = speeds[members, :count]
            asked, waiting, shifts = (
                values.reshape(-1, 1, *more)
                for values in (demand.requests[members], demand.backlogs[members], learnt.shifts)
            )
            if not learnt.spreads.any() and not learnt.means.any():
                parts = one.part(which, mine, asked, waiting)
            else:
                means, spreads = (values.reshape(-1, 1, *more) for values in (learnt.means, learnt.spreads))
                parts, weights = np.zeros(mine.shape), np.zeros(asked.shape)
                for node, weight in NODES:
                    times = np.exp(means + spreads * node)
                    parts += weight * times * one.part(which, mine, asked * times, waiting)
                    weights += weight * times
                parts /= weights
            found[members, :count] = shifted(parts, shifts) if shifts.any() else parts
        return found

    def part_in_time(self, inference: Array, speeds: Array, demand: Demand) -> Array:
        """Return the part in time of a choice, shape (n,), at speeds of shape (n, m), were exactly so many to come."""
        found = np.ones(speeds.shape)
        for one, members in self._kinds:
            given = (inference[members], demand.requests[members], demand.backlogs[members])
            which, asked, waiting = (values[:, None] for values in given)
            # Who is in time at the lowest speed is so at all.
            slowest = speeds[members].argmin(axis=1)[:, None]
            least = one.part(which, np.take_along_axis(speeds[members], slowest, axis=1), asked, waiting)[:, 0]
            late = least < ALL
            found[members[late]] = one.part(which[late], speeds[members[late]], asked[late], waiting[late])
        return found

    def speeds(self, inference: Array, shares: Array, demand: Demand) -> Array:
        """Return the speeds at which streams should be served by a choice, shape (n,)."""
        if not self.device.conserving:
            given: Array = self.device.speed(shares)
            return given
        pool = demand.budget_macs / self.capacity_macs
        loads = demand.requests * self.costs[self.rows, inference] / max(demand.budget_macs, 1e-300)
        free = np.maximum(1 - (loads.sum() - loads), LEAST_SPEED)
        found: Array = pool * free / self.device.slowdown
        return found

    def beside(self, retraining: Array) -> TimelyStreams:
        """Return the streams as they are served beside chosen retraining, given by indices, shape (n,)."""
        return self

    def choices(self, demand: Demand) -> Choices:
        """Return what there is to choose from where the cheapest pairs fit."""
        return (SharedChoices if self.device.conserving else PartitionedChoices)(self, demand)


class Choices(ABC):
    """What the streams of a GPU may choose from in one slot, whatever the weights.

    Args:
        demand: What is asked of them.
    """

    def __init__(self, demand: Demand) -> None:
        self.demand, self.requests = demand, demand.requests

    @abstractmethod
    def best(self, weights: Array, gap: float) -> Plan:
        """Return the best plan, as good as the gap asks.

        Args:
            weights: V_t of all streams and then W_t of all, shape (2 n,).
            gap: See `Classes.select`.
        """

    @abstractmethod
    def bound(self, weights: Array) -> float:
        """Return what no plan is worth more than."""

    @abstractmethod
    def plan(self, retraining: Array, inference: Array, shares: Array, weights: Array) -> Plan:
        """Return a choice of configurations and shares of inference as the plan that it is."""

    @abstractmethod
    def value(self, plan: Plan, weights: Array) -> float:
        """Return what a plan is worth by other weights."""


class TimelyChoices(Choices):
    """Choices that earn what is in time.

    Args:
        streams: The streams.
        demand: What is asked of them.
    """

    def __init__(self, streams: TimelyStreams, demand: Demand) -> None:
        super().__init__(demand)
        self.streams = streams
        # Whoever is not expected may come all the same, and is not to find nothing.
        self.possible = np.where(demand.requests > 0, demand.requests, streams.least_requests)

    def value(self, plan: Plan, weights: Array) -> float:
        half = len(self.requests)
        profits = self.streams.retraining_profits[self.streams.rows, plan.retraining]
        return float((self.requests * (weights[:half] * profits + weights[half:] * plan.earned)).sum())

    def fits(self, retraining: Array, inference: Array) -> bool:
        """Say whether configurations keep to the budget."""
        streams, rows = self.streams, self.streams.rows
        costs = streams.retraining_costs[rows, retraining], streams.costs[rows, inference]
        return feasible_together(self.requests, *costs, self.demand.budget_macs)


class SharedChoices(TimelyChoices):
    """On a GPU where who has work gets what others leave."""

    def __init__(self, streams: TimelyStreams, demand: Demand) -> None:
        super().__init__(streams, demand)
        self._sizes = np.concatenate([self.requests, self.requests])
        there = np.isfinite(streams.costs)
        self._costs = self.requests[:, None] * np.where(there, streams.costs, 0.0)
        loads, cheapest = self._costs / demand.budget_macs, float(self._costs[:, 0].sum()) / demand.budget_macs
        # A stream alone has nobody beside it.
        levels = np.array([level for level in LEVELS if level >= cheapest] if len(loads) > 1 else [1.0])
        self._levels = levels if len(levels) else np.array([1.0])
        others = np.maximum(self._levels - loads[:, :, None], 0.0) if len(loads) > 1 else 0.0
        pool = demand.budget_macs / streams.capacity_macs
        speeds = (
            pool * np.maximum(1 - others, LEAST_SPEED) * demand.learnt.factors[:, None, None] / streams.device.slowdown
        )
        speeds = np.broadcast_to(speeds, (*loads.shape, len(self._levels)))
        self._earned = streams.profits[:, :, None] * streams.parts_in_time(speeds, demand)
        self._made: dict[int, tuple[Classes, Classes]] = {}
        self._labelling = Classes(streams.labelling)

    def _classes(self, level: int) -> tuple[Classes, Classes]:
        """Return the classes of all choices at a level, and those of inference alone."""
        if level not in self._made:
            serving = Rows.of(self._earned[:, :, level], self.streams.costs)
            self._made[level] = Classes(self.streams.labelling.followed_by(serving)), Classes(serving)
        return self._made[level]

    def _bound(self, level: int, weights: Array) -> float:
        both, serving = self._classes(level)
        budget, half = self.demand.budget_macs, len(self.requests)
        bound = both.bound(weights, self._sizes, budget)
        if self._levels[level] < 1:
            alone = serving.bound(weights[half:], self.requests, budget * self._levels[level])
            bound = min(bound, alone + self._labelling.bound(weights[:half], self.requests, budget))
        return bound

    def bound(self, weights: Array) -> float:
        return max(self._bound(level, weights) for level in range(len(self._levels)))

    def best(self, weights: Array, gap: float) -> Plan:
        found = self._by_trying(weights) if self.streams.few else self._by_level(weights, gap)
        retraining_shares, inference_shares = self._shares(found)
        return replace(found, retraining_shares=retraining_shares, inference_shares=inference_shares)

    def _by_trying(self, weights: Array) -> Plan:
        """Return the best plan of few streams: of all choices of inference, each with the best retraining beside it."""
        streams, half, rows = self.streams, len(self.requests), self.streams.rows[:, None]
        (labelling, serving), budget = streams.few, self.demand.budget_macs
        spent, costs = (
            (self.requests[:, None] * costs[rows, which]).sum(axis=0)
            for costs, which in ((streams.costs, serving), (streams.retraining_costs, labelling))
        )
        levels = np.minimum(np.searchsorted(self._levels, spent / budget * ROUNDED_DOWN), len(self._levels) - 1)
        earned = ((self.requests * weights[half:])[:, None] * self._earned[rows, serving, levels]).sum(axis=0)
        gains = ((self.requests * weights[:half])[:, None] * streams.retraining_profits[rows, labelling]).sum(axis=0)
        order = np.argsort(costs, kind="stable")
        most = np.maximum.accumulate(gains[order])
        # The cheapest with which so much is gained.
        first = np.maximum.accumulate(np.where(np.r_[True, most[1:] > most[:-1]], np.arange(len(most)), 0))
        room = np.searchsorted(costs[order], (budget - spent) * (1 + ROUNDING), side="right") - 1
        total = np.where(room >= 0, earned + most[room], -np.inf)
        for best in np.argsort(-total, kind="stable")[:TRIED].tolist():
            retraining, inference = labelling[:, order[first[room[best]]]], serving[:, best]
            # What fits but for rounding does not fit.
            if total[best] > -np.inf and self.fits(retraining, inference):
                break
        else:
            retraining = inference = np.zeros(half, np.intp)
        plan = self.plan(retraining, inference, self.requests, weights)
        return plan.weighed(plan.value, plan.value)

    def _by_level(self, weights: Array, gap: float) -> Plan:
        """Return the best plan of many streams, level by level."""
        bounds = [self._bound(level, weights) for level in range(len(self._levels))]
        # What levels leave open is more than this, and to search for less takes most of the time.
        gap = max(gap, ROUGH) if gap else 0.0
        best: Plan | None = None
        for level in sorted(range(len(bounds)), key=lambda level: -bounds[level]):
            if best is not None and bounds[level] <= best.value * (1 + gap):
                break
            found = self._at(level, weights, gap, bounds[level])
            if best is None or found.value > best.value:
                best = found
        assert best is not None, "the cheapest pairs fit"
        return best.weighed(best.value, max(bounds))

    def _at(self, level: int, weights: Array, gap: float, bound: float) -> Plan:
        """Return the best plan that is found at a level."""
        both, serving = self._classes(level)
        half, budget = len(self.requests), self.demand.budget_macs
        rows, most = self.streams.rows, budget * self._levels[level]

        def together(heavier: float) -> Plan:
            """Choose for retraining that weighs so many times what it does."""
            changed = np.concatenate([weights[:half] * heavier, weights[half:]])
            found = both.select(
                changed, self._sizes, budget, gap, lambda one: self.fits(one.items[:half], one.items[half:])
            )
            items = np.zeros(2 * half, np.intp) if found is None else found.items
            return self.plan(items[:half], items[half:], self.requests, weights)

        def keeps(plan: Plan) -> bool:
            return bool(self._costs[rows, plan.inference].sum() <= most)

        found = together(1.0)
        if self._levels[level] == 1 or keeps(found):
            return replace(found, bound=bound)
        # Inference first, then retraining of what is left; or less inference than that, for more retraining.
        alone = serving.select(weights[half:], self.requests, most, gap)
        inference = np.zeros(half, np.intp) if alone is None else alone.items
        rest = budget - float(self._costs[rows, inference].sum())
        beside = self._labelling.select(
            weights[:half], self.requests, rest, gap, lambda one: self.fits(one.items, inference)
        )
        retraining = np.zeros(half, np.intp) if beside is None else beside.items
        found = max(found, self.plan(retraining, inference, self.requests, weights), key=lambda one: one.value)
        low, high = 0.0, MOST_HEAVIER
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            other = together(10**middle)
            low, high = (low, middle) if keeps(other) else (middle, high)
            found = max(found, other, key=lambda one: one.value)
        return replace(found, bound=bound)

    def plan(self, retraining: Array, inference: Array, shares: Array, weights: Array) -> Plan:
        # The lowest level that there is room in; shares follow from the configurations.
        load = float(self._costs[self.streams.rows, inference].sum()) / self.demand.budget_macs
        level = min(int(np.searchsorted(self._levels, load * ROUNDED_DOWN)), len(self._levels) - 1)
        plan = Plan(retraining, inference, self._earned[self.streams.rows, inference, level], 0.0, 0.0)
        return plan.weighed(self.value(plan, weights), 0.0)

    def _shares(self, plan: Plan) -> tuple[Array, Array]:
        """Let inference have what there is, in proportion to what it costs, and retraining what that leaves."""
        streams, rows, half = self.streams, self.streams.rows, len(self.requests)
        pool = self.demand.budget_macs / streams.capacity_macs * ROUNDED_DOWN
        labelling = self.requests * streams.retraining_costs[rows, plan.retraining]
        serving = self.possible * streams.costs[rows, plan.inference]
        little = LITTLE if labelling.any() else 0.0
        weights = [
            part * costs / costs.sum() if costs.any() else np.full(half, part / half)
            for part, costs in ((little, labelling), (1 - little, serving))
        ]
        return pool * weights[0], pool * weights[1]


class PartitionedChoices(TimelyChoices):
    """On a GPU of which everybody has a share of its own."""

    def __init__(self, streams: TimelyStreams, demand: Demand) -> None:
        super().__init__(streams, demand)
        device, half = streams.device, len(self.requests)
        self._pool = demand.budget_macs / streams.capacity_macs
        there, given = np.isfinite(streams.costs), np.isfinite(streams.retraining_costs)
        needed = (self.requests[:, None] * np.where(there, streams.costs, 0.0) / streams.capacity_macs)[:, :, None]
        # Never less than it costs: what keeps to the budget by its shares then does so by its cost.
        roomy = needed * np.array(ROOM[1:])
        shares = np.concatenate([needed, np.maximum(device.share(roomy), roomy)], axis=2)
        speeds = device.speed(np.minimum(shares, 1.0)) * demand.learnt.factors[:, None, None]
        self._earned_by_share = streams.profits[:, :, None] * streams.parts_in_time(speeds, demand)
        self._shares_of = shares
        flat = np.where(there[:, :, None], shares, np.inf).reshape(half, -1)
        self._order = np.argsort(flat, axis=1, kind="stable")
        costs = np.take_along_axis(flat, self._order, axis=1)
        profits = np.take_along_axis(self._earned_by_share.reshape(half, -1), self._order, axis=1)
        work = self.requests[:, None] * np.where(given, streams.retraining_costs, 0.0) / streams.capacity_macs
        share = np.maximum(device.share(np.where(work > 0, work, 1.0) * SLACK), work * SLACK)
        self._labelling = np.where(given, np.where(work > 0, share, 0.0), np.inf)
        labelling = Rows.of(self.requests[:, None] * streams.retraining_profits, self._labelling)
        self._classes = Classes(labelling.followed_by(Rows.of(self.requests[:, None] * profits, costs)))

    def bound(self, weights: Array) -> float:
        return max(self._classes.bound(weights, np.ones(len(weights)), self._pool), 0.0)

    def _chosen(self, items: Array) -> tuple[Array, Array, Array]:
        half, rows = len(self.requests), self.streams.rows
        picked = self._order[rows, items[half:]]
        return items[:half], picked // len(ROOM), picked % len(ROOM)

    def plan(self, retraining: Array, inference: Array, shares: Array, weights: Array) -> Plan:
        rows = self.streams.rows
        there = self._shares_of[rows, inference] <= shares[:, None] * (2 - ROUNDED_DOWN)
        room = np.maximum(there.sum(axis=1) - 1, 0)
        plan = Plan(retraining, inference, self._earned_by_share[rows, inference, room], 0.0, 0.0)
        return plan.weighed(self.value(plan, weights), 0.0)

    def best(self, weights: Array, gap: float) -> Plan:
        half, rows = len(self.requests), self.streams.rows

        def fits(one: Selection) -> bool:
            retraining, inference, _ = self._chosen(one.items)
            return self.fits(retraining, inference)

        found = self._classes.select(weights, np.ones(2 * half), self._pool, gap, fits)
        items = np.zeros(2 * half, np.intp) if found is None else found.items
        retraining, inference, room = self._chosen(items)
        earned = self._earned_by_share[rows, inference, room]
        labelling, serving = self._labelling[rows, retraining], self._shares_of[rows, inference, room]
        # Nothing of the budget is left over.
        left = max(self._pool * ROUNDED_DOWN - float(labelling.sum()), 0.0)
        spare = max(left - float(serving.sum()), 0.0)
        possible = self.possible * self.streams.costs[rows, inference] / self.streams.capacity_macs
        asking = np.where(serving > 0, serving, possible)
        serving = serving + spare * (asking / asking.sum() if asking.any() else np.full(half, 1 / half))
        serving *= min(left / float(serving.sum()), 1.0) if serving.any() else 1.0
        plan = Plan(retraining, inference, earned, 0.0, 0.0, labelling, serving)
        value = self.value(plan, weights)
        bound = max(value, value if found is None else found.bound)
        return Plan(retraining, inference, earned, value, bound, labelling, serving)


def _padded(rows: Sequence[Sequence[float]], filler: float) -> Array:
    found = np.full((len(rows), max(map(len, rows))), filler)
    for k, row in enumerate(rows):
        found[k, : len(row)] = row
    return found

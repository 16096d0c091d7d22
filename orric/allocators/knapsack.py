"""The multiple-choice knapsack: one item of every class, under one budget, with a bound on what more there could be.

Linear relaxation by upper hulls (Sinha and Zoltners, 1979), then an integral choice repaired by exchanges, then, where
that is not near enough, an exact search over the classes that matter (in the manner of Pisinger, 1995: states of cost
and value, dominated ones dropped, the rest bounded by the relaxation of what is still open).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
# Exchanges looked at in pairs, and how often.
PAIRS, ROUNDS = 400, 6
# States that the search keeps, where it need not be exact and where it must; what lies beyond widens the gap.
STATES, STATES_EXACT = 600, 1_000_000
# Complete selections tried in a step, where rounding refuses the better ones.
TRIED = 20
# Work of a search that need not be exact: classes branched on times segments.
WORK = 200_000
# Of the budget: what sums in another order may differ by.
ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class Selection:
    """One item of every class.

    Attributes:
        items: Index of the item within its class, shape (n,).
        value: Sum of the values.
        bound: No selection that fits is worth more.
        spent: Sum of the costs.
    """

    items: Array
    value: float
    bound: float
    spent: float

    @property
    def gap(self) -> float:
        """(bound - value) / bound; 0 where it is the best."""
        return max(self.bound - self.value, 0.0) / self.bound if self.bound > 0 else 0.0


def hull(profits: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Return the vertices of the upper hull of items, ascending in cost and profit.

    >>> hull([0.0, 0.1, 1.0], [0.0, 1.0, 2.0])
    [0, 2]
    """
    kept: list[int] = []
    for item in range(len(costs)):
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            rise, run = profits[b] - profits[a], costs[b] - costs[a]
            if rise * (costs[item] - costs[b]) > (profits[item] - profits[b]) * run:
                break
            kept.pop()
        kept.append(item)
    return kept


@dataclass(frozen=True, eq=False)
class Rows:
    """Items of classes, row by row, with the segments of their upper hulls: from a vertex to the next.

    Attributes:
        counts: Number of items of every class, shape (n,).
        profits: Of all items of all classes, end to end.
        costs: Likewise, per unit of size; ascending within a class.
        owners: Of every segment the class.
        lows: Of every segment the item in which it begins, counted within its class.
        highs: The item in which it ends.
    """

    counts: Array
    profits: Array
    costs: Array
    owners: Array
    lows: Array
    highs: Array

    @classmethod
    def of(cls, profits: Array, costs: Array) -> Rows:
        """Take items from arrays; O(n m h) for hulls of h vertices.

        Args:
            profits: Of every class and item, shape (n, m).
            costs: Likewise, ascending from the cheapest on; infinite where a class has fewer than m items.
        """
        there = np.isfinite(costs)
        owners, lows, highs = [], [], []
        left, at = np.arange(len(costs)), np.zeros(len(costs), np.intp)
        while len(left):
            rises = profits[left] - profits[left, at][:, None]
            runs = costs[left] - costs[left, at][:, None]
            possible = there[left] & (rises > 0) & (runs > 0)
            slopes = np.divide(rises, runs, out=np.full(rises.shape, -np.inf), where=possible)
            # Of vertices in one line the last.
            following = slopes.shape[1] - 1 - slopes[:, ::-1].argmax(axis=1)
            going = possible.any(axis=1)
            left, at, following = left[going], at[going], following[going]
            owners.append(left)
            lows.append(at)
            highs.append(following)
            at = following
        return cls(
            there.sum(axis=1), profits[there], costs[there],
            np.concatenate(owners), np.concatenate(lows), np.concatenate(highs),
        )  # fmt: skip

    @classmethod
    def of_kinds(cls, items: Sequence[tuple[tuple[float, ...], tuple[float, ...]]]) -> Rows:
        """Take the profits and the costs of every class from tuples, both strictly ascending; shared ones once."""
        kinds = {one: number for number, one in enumerate(dict.fromkeys(items))}
        hulls = [hull(profits, costs) for profits, costs in kinds]
        kind = np.array([kinds[one] for one in items], np.intp)
        edges = np.array([len(found) - 1 for found in hulls])
        return cls(
            counts=np.array([len(profits) for profits, _ in kinds])[kind],
            profits=_laid_out([np.array(profits) for profits, _ in kinds], kind),
            costs=_laid_out([np.array(costs) for _, costs in kinds], kind),
            owners=np.repeat(np.arange(len(items)), edges[kind]),
            lows=_laid_out([np.array(found[:-1], np.intp) for found in hulls], kind),
            highs=_laid_out([np.array(found[1:], np.intp) for found in hulls], kind),
        )

    def followed_by(self, other: Rows) -> Rows:
        """Return these classes and then others."""
        ours = len(self.counts)
        pairs = ((self.counts, other.counts), (self.profits, other.profits), (self.costs, other.costs))
        segments = ((self.owners, other.owners + ours), (self.lows, other.lows), (self.highs, other.highs))
        return Rows(*(np.concatenate(pair) for pair in (*pairs, *segments)))


class Classes:
    """Classes of items, with profits and costs per unit of size. Weights and sizes change from slot to slot.

    The value of an item is size x weight x profit, its cost size x cost. Hulls do not depend on either, and the order
    of the hulls' slopes is the same for all weights that are `scales` times one number per group.

    Args:
        rows: Their items and hulls.
        groups: Of every class the group, shape (n,); left out, none is known.
        scales: Of every class its weight but for the factor of its group, shape (n,).
    """

    def __init__(self, rows: Rows, groups: Array | None = None, scales: Array | None = None) -> None:
        self.starts = np.concatenate([[0], np.cumsum(rows.counts)])
        # All items of all classes in one row.
        self.owner = np.repeat(np.arange(len(rows.counts)), rows.counts)
        self.profits, self.costs, owner = rows.profits, rows.costs, rows.owners
        low, high = rows.lows + self.starts[owner], rows.highs + self.starts[owner]
        widths = self.costs[high] - self.costs[low]
        slopes = (self.profits[high] - self.profits[low]) / widths
        self._segment_owner, self._slopes, self._high, self._widths = owner, slopes, high, widths
        if groups is not None and scales is not None:
            order = np.lexsort((-slopes * scales[owner], groups[owner]))
            self._segment_owner, self._slopes, self._high = owner[order], slopes[order], high[order]
            self._widths = widths[order]

    def bound(self, weights: Array, sizes: Array, budget: float) -> float:
        """Return what no selection is worth more than; minus infinity where not even the cheapest items fit."""
        problem = _Problem(self, weights, sizes)
        rest = budget * (1 + ROUNDING) - problem.least_cost
        return problem.relaxed(rest).bound if rest >= 0 else -np.inf

    def select(
        self,
        weights: Array,
        sizes: Array,
        budget: float,
        gap: float = 0.0,
        fits: Callable[[Selection], bool] | None = None,
    ) -> Selection | None:
        """Choose an item of every class so that the values are as large as possible under the budget.

        Complexity O(n log n) at most, O(n) where the order of slopes is known; beyond that the search, of bounded work
        where `gap` is above 0. For `gap` 0 its states grow with the classes, exponentially at worst; some dozens of
        streams take milliseconds to seconds.

        Args:
            weights: Of every class, at least 0, shape (n,).
            sizes: Of every class, at least 0, shape (n,).
            budget: What the costs may add up to.
            gap: How near to the best is near enough, (bound - value) / bound; 0 asks for the best. What was reached
                stands in the selection.
            fits: Says whether a selection really keeps to the budget, where sums that are rounded in another order
                decide; left out, a budget may be exceeded by `ROUNDING`. A bound that only such selections reach stays.

        Returns:
            The selection, or None where not even the cheapest items fit.
        """
        budget = budget * (1 + ROUNDING)
        problem = _Problem(self, weights, sizes, fits)
        rest = budget - problem.least_cost
        if rest < 0:
            return None
        found = problem.relaxed(rest)
        if not problem.fits(found):
            found = problem.selection(self.starts[:-1], found.bound)
        if found.gap > gap:
            found = problem.repaired(found, budget, gap)
        if found.gap > gap:
            found = _Search(problem, budget, gap).run(found)
        return found

    def least(self, weights: Array, sizes: Array) -> Selection:
        """Return the cheapest item of every class, as if nothing else fitted."""
        return _Problem(self, weights, sizes).selection(self.starts[:-1], -np.inf)

    def chosen_profits(self, items: Array) -> Array:
        """Return the profits of chosen items, shape (n,)."""
        found: Array = self.profits[self.starts[:-1] + items]
        return found

    def chosen_costs(self, items: Array) -> Array:
        """Return the costs per unit of size of chosen items, shape (n,)."""
        found: Array = self.costs[self.starts[:-1] + items]
        return found


def _laid_out(rows: Sequence[Array], kind: Array) -> Array:
    """Concatenate rows[kind[0]], rows[kind[1]], ... without a loop over the kinds of every class."""
    lengths = np.array([len(row) for row in rows], np.intp)
    begins = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    counts = lengths[kind]
    ends = np.cumsum(counts)
    places = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    found: Array = np.concatenate(list(rows))[places + np.repeat(begins[kind], counts)]
    return found


class _Problem:
    """Classes with the weights and sizes of one slot."""

    def __init__(
        self,
        classes: Classes,
        weights: Array,
        sizes: Array,
        fits: Callable[[Selection], bool] | None = None,
    ) -> None:
        self.classes, self.fits = classes, fits or (lambda _: True)
        scale = sizes * weights
        self.values = scale[classes.owner] * classes.profits
        self.costs = sizes[classes.owner] * classes.costs
        first = classes.starts[:-1]
        self.least_value, self.least_cost = float(self.values[first].sum()), float(self.costs[first].sum())
        slopes = weights[classes._segment_owner] * classes._slopes
        order = np.argsort(-slopes, kind="stable")
        # What has no slope is worth nothing.
        order = order[: int(np.count_nonzero(slopes > 0))]
        self.segment_owner, self.slopes = classes._segment_owner[order], slopes[order]
        self.high = classes._high[order]
        self.widths = sizes[self.segment_owner] * classes._widths[order]
        self.rises = self.widths * self.slopes

    def relaxed(self, rest: float) -> Selection:
        """Take segments by slope until the first that does not fit; the bound takes the part of it that would."""
        spent = np.cumsum(self.widths)
        taken = int(np.searchsorted(spent, rest, side="right"))
        before = float(spent[taken - 1]) if taken else 0.0
        value = self.least_value + float(self.rises[:taken].sum())
        bound = value
        self.slope, self.open = 0.0, -1
        if taken < len(spent):
            self.slope, self.open = float(self.slopes[taken]), int(self.segment_owner[taken])
            bound += (rest - before) * self.slope
        items = self.classes.starts[:-1].copy()
        # Slopes fall within a class, so the last segment taken is the highest; assignment keeps the last.
        items[self.segment_owner[:taken]] = self.high[:taken]
        return self.selection(items, bound)

    def selection(self, chosen: Array, bound: float) -> Selection:
        """Sum up what chosen items, indices into the row of all items, are worth and cost."""
        value = float(self.values[chosen].sum())
        return Selection(chosen - self.classes.starts[:-1], value, max(bound, value), float(self.costs[chosen].sum()))

    def repaired(self, found: Selection, budget: float, gap: float) -> Selection:
        """Exchange items one or two at a time for ones that use the budget better.

        At the slope of the relaxation every exchange loses something, and so does budget that is left over; what a
        selection lacks to the bound is the sum of both, so exchanges that lose more than that are not looked at.
        """
        owner, slope = self.classes.owner, self.slope
        chosen = found.items + self.classes.starts[:-1]
        for _ in range(ROUNDS):
            left, lacking = budget - found.spent, found.bound - found.value
            now = chosen[owner]
            more = self.costs - self.costs[now]
            gains = self.values - self.values[now]
            losses = slope * more - gains
            near = np.flatnonzero((losses < lacking) & (now != np.arange(len(now))))
            if len(near) > PAIRS:
                near = near[np.argpartition(losses[near], PAIRS)[:PAIRS]]
            changed = self._exchanged(chosen, near, more[near], gains[near], left)
            if changed is None:
                break
            candidate = self.selection(changed, found.bound)
            if candidate.value <= found.value or candidate.spent > budget or not self.fits(candidate):
                break
            chosen, found = changed, candidate
            if found.gap <= gap:
                break
        return found

    def _exchanged(self, chosen: Array, near: Array, more: Array, gains: Array, left: float) -> Array | None:
        """Make the best exchange of one or two items that fits, if one gains anything."""
        if not len(near):
            return None
        order = np.argsort(more, kind="stable")
        near, more, gains = near[order], more[order], gains[order]
        owner = self.classes.owner[near]
        best = np.maximum.accumulate(gains)
        # Where the best gain so far was reached.
        where = np.maximum.accumulate(np.where(gains == best, np.arange(len(gains)), 0))
        alone = int(np.searchsorted(more, left, side="right")) - 1
        gain, places = 0.0, []
        if alone >= 0 and best[alone] > gain:
            gain, places = float(best[alone]), [int(where[alone])]
        partner = np.searchsorted(more, left - more, side="right") - 1
        possible = partner >= 0
        partner = where[partner]
        both = np.where(possible & (owner[partner] != owner), gains + gains[partner], -np.inf)
        first = int(both.argmax())
        if both[first] > gain:
            places = [first, int(partner[first])]
        if not places:
            return None
        changed = chosen.copy()
        for place in places:
            changed[owner[place]] = near[place]
        return changed


class _Search:
    """Branch on one class after another, keeping all partial selections that may lead to the best.

    States are pairs of cost and value over the classes branched on; the others are bounded by their relaxation and
    completed by its integral part. The next class is the one that the relaxation of the best state leaves open.
    """

    def __init__(self, problem: _Problem, budget: float, gap: float) -> None:
        self.problem, self.budget, self.gap = problem, budget, gap
        self.most = STATES if gap > 0 else STATES_EXACT
        self.steps: list[tuple[int, Array, Array]] = []

    def run(self, found: Selection) -> Selection:
        """Improve a selection until it is within the gap, or proved to be the best, or too much work."""
        problem, classes = self.problem, self.problem.classes
        costs, values = np.zeros(1), np.zeros(1)
        rest_cost, rest_value = problem.least_cost, problem.least_value
        closed = np.zeros(len(classes.starts) - 1, bool)
        # What was left out, or seemed to fit and did not, may hide something better than what was found.
        dropped, work = -np.inf, 0
        branch = problem.open
        while branch >= 0:
            begin, end = int(classes.starts[branch]), int(classes.starts[branch + 1])
            rest_cost -= float(problem.costs[begin])
            rest_value -= float(problem.values[begin])
            closed[branch] = True
            self._open(closed)
            parents = np.repeat(np.arange(len(costs)), end - begin)
            items = np.tile(np.arange(begin, end), len(costs))
            costs, values = costs[parents] + problem.costs[items], values[parents] + problem.values[items]
            room = self.budget - rest_cost - costs
            taken = np.searchsorted(self.spent, room, side="right") - 1
            # A state that does not fit has a place of -1 here, and is dropped below.
            whole = values + rest_value + self.gained[taken]
            bounds = whole + (room - self.spent[taken]) * self.slopes[taken]
            # What is better by rounding alone counts as no better.
            kept = np.flatnonzero((taken >= 0) & (bounds > found.value * (1 + ROUNDING)))
            kept = kept[np.lexsort((-values[kept], costs[kept]))]
            # A state that costs as much as another and is worth no more is dominated.
            before = np.concatenate([[-np.inf], np.maximum.accumulate(values[kept])])[:-1]
            kept = kept[values[kept] > before]
            if len(kept) > self.most:
                ranked = np.argsort(-bounds[kept], kind="stable")
                dropped = max(dropped, float(bounds[kept[ranked[self.most]]]))
                kept = kept[np.sort(ranked[: self.most])]
            self.steps.append((branch, parents[kept], items[kept]))
            costs, values, whole, bounds, taken = (row[kept] for row in (costs, values, whole, bounds, taken))
            if not len(kept):
                return self._bounded(found, dropped)
            for top in np.argsort(-whole, kind="stable")[:TRIED].tolist():
                if whole[top] <= found.value:
                    break
                candidate = self._completed(top, int(taken[top]), found.bound)
                if problem.fits(candidate):
                    found = candidate
                    break
                dropped = max(dropped, candidate.value)
            found = self._bounded(found, max(float(bounds.max()), dropped))
            work += len(self.spent)
            if found.gap <= self.gap or (self.gap > 0 and work > WORK):
                return found
            # States whose completion is whole leave nothing open.
            branch = int(self.owners[taken[np.where(self.owners[taken] >= 0, bounds, -np.inf).argmax()]])
        return self._bounded(found, dropped)

    def _bounded(self, found: Selection, bound: float) -> Selection:
        return replace(found, bound=max(min(found.bound, bound), found.value))

    def _open(self, closed: Array) -> None:
        """Lay out the relaxation of the other classes: what their first, two, three ... segments cost and gain."""
        problem = self.problem
        left = np.flatnonzero(~closed[problem.segment_owner])
        self.left = left
        self.spent = np.concatenate([[0.0], np.cumsum(problem.widths[left])])
        self.gained = np.concatenate([[0.0], np.cumsum(problem.rises[left])])
        self.slopes = np.concatenate([problem.slopes[left], [0.0]])
        self.owners = np.concatenate([problem.segment_owner[left], [-1]])

    def _completed(self, state: int, taken: int, bound: float) -> Selection:
        """Return the selection of a state whose open classes take the integral part of their relaxation."""
        problem, chosen = self.problem, self.problem.classes.starts[:-1].copy()
        segments = self.left[:taken]
        chosen[problem.segment_owner[segments]] = problem.high[segments]
        for branch, parents, items in reversed(self.steps):
            chosen[branch] = items[state]
            state = int(parents[state])
        return problem.selection(chosen, bound)

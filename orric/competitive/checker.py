"""The checker of certificates, which shares no code with the solver.

It derives every slot's options anew from all pairs of configurations, evaluates the learning curve by formulas of
its own, and rounds outwards: what the evidence must reach is rounded up, what the allocations earn is rounded down.
Where the claim holds in-time parts, an answer counts by its pair's part in its slot, and dominated configurations may
not be chosen.

Evidence "bounds" is one continuous, piecewise linear U_t per slot. It proves the upper end by induction: U_t lies
above reward x f_t + U_{t+1} for every option and every extent that any allocations reach, and the upper end above
U_1(0) (`induction`). Evidence "prices" is one price per slot, for which the Lagrangian bound of `window` is evaluated
anew. Evidence "states" is the width of the window, over all states of which the optimum is bounded anew by
`states_check`. What "verified" means is a theorem of the documentation (background, certificates).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.competitive.claims import ULP, Claim, accuracy, demand, place_of_slope, slope
from orric.competitive.induction import Induction
from orric.competitive.states_check import most_earned
from orric.exceptions import CertificateError

Array = np.ndarray[Any, Any]
# The claimed ends may differ from what the checker finds by rounding, not by more.
AGREEMENT = 1e-9
# A solver may evaluate the Lagrangian bound less sharply than the checker does.
PRICED_AGREEMENT = 1e-5
# Slots whose pairs are looked at in one go, by the number of pairs, and how many pairs of all slots are looked at.
PAIRS, MOST_PAIRS = 2**20, 2**30


@dataclass(frozen=True)
class Verified:
    """What the checker found.

    Attributes:
        lower: Value of the allocations, rounded down.
        upper: The proven upper end.
        slots: Number of slots.
        checks: Number of inequalities checked for the upper end.
    """

    lower: float
    upper: float
    slots: int
    checks: int

    @property
    def gap(self) -> float:
        """(upper - lower) / upper, and 0 where nothing can be earned."""
        return (self.upper - self.lower) / self.upper if self.upper > 0 else 0.0


class Options:
    """(profit, reward) of what every slot may choose, worked out some slots at a time, in order.

    Args:
        claim: What they follow from.
    """

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self._profits = np.array([one.profit for one in claim.retraining])
        costs = [np.array([one.cost_macs for one in kind]) for kind in (claim.retraining, claim.inference)]
        self._costs = np.add.outer(*costs)
        self._worth = np.array([one.profit for one in claim.inference])
        pairs = self._costs.size * len(claim.requests)
        demand(pairs <= MOST_PAIRS, "certificate", f"has {pairs:,} pairs of all slots", f"{MOST_PAIRS:,} are the most")
        self._each = max(PAIRS // self._costs.size, 1)
        self._kept: dict[int, list[list[tuple[float, float]]]] = {}

    def __len__(self) -> int:
        return len(self.claim.requests)

    def __iter__(self) -> Iterator[list[tuple[float, float]]]:
        return (self[slot] for slot in range(len(self)))

    def __getitem__(self, slot: int) -> list[tuple[float, float]]:
        block, place = divmod(slot, self._each)
        if block not in self._kept:
            # A window may look back beyond the block before.
            while len(self._kept) > 1:
                del self._kept[min(self._kept, key=lambda one: -abs(one - block))]
            begin = block * self._each
            self._kept[block] = self._of(begin, min(begin + self._each, len(self)))
        return self._kept[block][place]

    def part(self, slot: int, i: int, j: int) -> float:
        """Return which part of a slot's requests a pair answers by the deadline."""
        if self.claim.in_time is None:
            return 1.0
        kept = self.claim.timely
        names = self.claim.retraining[i].name, self.claim.inference[j].name
        demand(i in kept[0] and j in kept[1], f"slot {slot + 1}", f"{names} has no in-time part")
        return float(self.claim.in_time[slot, kept[0].index(i), kept[1].index(j)])

    def fits(self, begin: int, end: int) -> Array:
        """Say which pairs fit the budgets of some slots, shape (slots, M, N)."""
        return np.asarray(
            self.claim.requests[begin:end, None, None] * self._costs <= self.claim.budgets[begin:end, None, None]
        )

    def overloaded(self, slot: int) -> tuple[int, int, float]:
        """Return the pair of a slot in which none fits, and how many requests it answers, in time where that counts."""
        demand(self.claim.shed, f"slot {slot + 1}", "no pair of configurations fits the budget")
        i, j = (
            min(range(len(kind)), key=lambda n: (kind[n].cost_macs, -kind[n].profit))
            for kind in (self.claim.retraining, self.claim.inference)
        )
        cost, budget = self.claim.inference[j].cost_macs, float(self.claim.budgets[slot])
        requests = float(self.claim.requests[slot])
        if requests * cost <= budget:
            number = requests
        else:
            demand(budget / cost < 2**52, f"slot {slot + 1}", "serves more requests than can be counted")
            number = float(int(budget / cost) + 1)
            while number * cost > budget:
                number -= 1
        return i, j, min(self.part(slot, i, j) * requests, number)

    def _of(self, begin: int, end: int) -> list[list[tuple[float, float]]]:
        fits = self.fits(begin, end)
        offered = np.broadcast_to(self._worth, fits.shape)
        if self.claim.in_time is not None:
            worth = np.full(fits.shape, -np.inf)
            rows, columns = (np.array(one) for one in self.claim.timely)
            worth[:, rows[:, None], columns] = self._worth[columns] * self.claim.in_time[begin:end]
            offered = worth
        best = np.where(fits, offered, -np.inf).max(axis=2)
        rewards = np.where(best > -np.inf, best * self.claim.requests[begin:end, None], -np.inf)
        # More profit never hurts later, because every f_t rises; an option no better in either way is not needed.
        order = np.argsort(-self._profits, kind="stable")
        blocked = np.logical_not(fits.any(axis=(1, 2))).tolist()
        found: list[list[tuple[float, float]]] = []
        for n, row in enumerate(rewards[:, order].tolist()):
            slot, options, most = begin + n, [], -np.inf
            if blocked[n]:
                i, j, served = self.overloaded(slot)
                options = [(self.claim.retraining[i].profit, self.claim.inference[j].profit * served)]
            elif self.claim.requests[slot] == 0:
                options = [(0.0, 0.0)]  # nothing is earned and no extent moves
            else:
                for place, reward in zip(order.tolist(), row, strict=True):
                    profit = float(self._profits[place])
                    if reward > most:
                        if options and options[-1][0] == profit:
                            options.pop()
                        options.append((profit, reward))
                        most = reward
            demand(len(options) > 0, f"slot {slot + 1}", "none of its pairs that fit has an in-time part")
            found.append(options)
        return found


class Checker:
    """One verification: the claim parsed, and a method for each thing to check."""

    def __init__(self, claim: Any, evidence: dict[str, Array]) -> None:
        self.claim, self.evidence = Claim.parsed(claim), evidence
        self.requests, self.slots = self.claim.requests, len(self.claim.requests)
        self.curves, self.options = self.claim.curves, Options(self.claim)
        reach = np.array([[pick(profit for profit, _ in one) for pick in (min, max)] for one in self.options])
        self.gains = reach.T
        self.most = float(self.gains[1].max())

    def verified(self, progress: Callable[[float], object]) -> Verified:
        """Check everything."""
        lower, upper = self.claim.lower, self.claim.upper
        least, most = self.value()
        demand(
            least >= lower >= least - 8 * (most - least) - AGREEMENT * most,
            "lower",
            f"claimed {lower!r}, but the allocations earn between {least!r} and {most!r}",
        )
        demand(upper >= lower, "upper", f"{upper!r} is below the lower end {lower!r}")
        names = set(self.evidence)
        if names == {"starts", "extents", "bounds"}:
            proven, checks = self.bounds(progress)
            agreement = AGREEMENT
        elif names == {"prices"}:
            proven, checks = self.prices()
            agreement = PRICED_AGREEMENT
        elif names == {"states"}:
            proven, checks = self.states(progress)
            agreement = AGREEMENT
        else:
            raise CertificateError(
                "evidence", f"holds {str(sorted(names))[:80]}", "known are bounds, prices and states"
            )
        demand(
            proven <= upper * (1 + 4 * ULP) and upper <= max(proven, lower) * (1 + agreement),
            "upper",
            f"claimed {upper!r}, but the evidence proves {float(proven)!r}",
        )
        return Verified(lower, upper, self.slots, checks)

    def value(self) -> tuple[float, float]:
        """Check that every slot's allocation fits, and enclose what they earn together."""
        i, j = self.claim.chosen.T
        costs = [np.array([one.cost_macs for one in kind]) for kind in (self.claim.retraining, self.claim.inference)]
        profits = [np.array([one.profit for one in kind]) for kind in (self.claim.retraining, self.claim.inference)]
        rewards = profits[1][j] * self.requests
        for slot in np.flatnonzero(~(self.requests * (costs[0][i] + costs[1][j]) <= self.claim.budgets)).tolist():
            names = self.claim.retraining[i[slot]].name, self.claim.inference[j[slot]].name
            fitting = bool(self.options.fits(slot, slot + 1).any())
            cheapest = (None, None, 0.0) if fitting else self.options.overloaded(slot)
            demand((i[slot], j[slot]) == cheapest[:2], f"slot {slot + 1}", f"{names} does not fit the budget")
            rewards[slot] = profits[1][j[slot]] * cheapest[2]
        if self.claim.in_time is not None:
            for slot, pair in enumerate(self.claim.chosen.tolist()):
                part = self.options.part(slot, *pair)
                rewards[slot] = min(rewards[slot], profits[1][pair[1]] * part * self.requests[slot])
        low, high = self.extents(profits[0][i])
        least, most = np.empty(self.slots), np.empty(self.slots)
        for curve, slots in self.by_curve():
            least[slots] = accuracy(curve, low[slots])[0]
            most[slots] = accuracy(curve, high[slots])[1]
        size = (8 + self.slots) * ULP
        return float((rewards * least).sum()) * (1 - size), float((rewards * most).sum()) * (1 + size)

    def by_curve(self) -> list[tuple[dict[str, Any], Array]]:
        """Return every distinct curve and the slots in which it holds, counted from 0."""
        slots: dict[int, list[int]] = {}
        for slot, curve in enumerate(self.curves):
            slots.setdefault(id(curve), []).append(slot)
        return [(self.curves[some[0]], np.array(some)) for some in slots.values()]

    def windowed(self, values: Array) -> Array:
        """Return the sum of every slot and those before it in its window, by additions of numbers >= 0 alone."""
        width = min(self.claim.width, self.slots)
        padded = np.concatenate([values, np.zeros(-self.slots % width)]).reshape(-1, width)
        ahead = np.cumsum(padded, axis=1).ravel()[: self.slots]
        behind = np.cumsum(padded[:, ::-1], axis=1)[:, ::-1].ravel()
        begins = np.arange(self.slots) - width + 1
        return np.asarray(ahead + np.where((begins > 0) & (begins % width > 0), behind[np.maximum(begins, 0)], 0.0))

    def extents(self, profits: Array) -> tuple[Array, Array]:
        """Enclose x_t of every slot, following the definition, for the profits of all slots."""
        gained, total = self.requests * profits, self.requests
        if self.claim.memory == "window":
            gained, total = self.windowed(gained), self.windowed(total)
        else:
            gained, total = (_accumulated(one, self.claim.factor) for one in (gained, total))
        after = np.divide(gained, total, out=np.zeros(self.slots), where=self.requests > 0)
        # A slot without requests leaves the extent as it was.
        last = np.maximum.accumulate(np.where(self.requests > 0, np.arange(1, self.slots + 1), 0))[:-1]
        extents = np.concatenate([[0.0], after])[np.concatenate([[0], last])]
        hair = 4 * ULP * (np.arange(self.slots) + 2)
        return extents * (1 - hair), extents * (1 + hair)

    def bounds(self, progress: Callable[[float], object]) -> tuple[float, int]:
        """Check the induction over the slots, backwards; return U_1(0) and the number of inequalities."""
        demand(self.claim.memory != "window", "evidence", "bounds in one extent say nothing of window memory")
        kinds = [np.asarray(self.evidence[name]) for name in ("starts", "extents", "bounds")]
        demand(
            kinds[0].dtype.kind in "iu" and all(one.ndim == 1 for one in kinds), "evidence", "its arrays are no lists"
        )
        starts, extents, bounds = kinds[0], kinds[1].astype(float, copy=False), kinds[2].astype(float, copy=False)
        demand(
            len(starts) == self.slots + 1 and starts[0] == 0 and starts[-1] == len(extents) == len(bounds)
            and bool((starts[:-1] < starts[1:]).all())
            and bool(np.isfinite(extents).all() and (np.abs(bounds) < 1e300).all()),
            "evidence", "the points do not make up one function per slot",
        )  # fmt: skip
        keep, weight, total = np.ones(self.slots), np.zeros(self.slots), 0.0
        low, high = np.zeros(self.slots + 1), np.zeros(self.slots + 1)
        for slot, requests in enumerate(self.requests.tolist()):
            before = self.claim.factor * total
            total = before + requests
            if requests > 0:
                keep[slot], weight[slot] = before / total, requests / total
            low[slot + 1] = (keep[slot] * low[slot] + weight[slot] * self.gains[0, slot]) * (1 - 4 * ULP)
            reached = (keep[slot] * high[slot] + weight[slot] * self.gains[1, slot]) * (1 + 4 * ULP)
            high[slot + 1] = min(reached, self.most)
        reach = np.stack([low[:-1], high[:-1]], axis=1)
        steps = Induction(self.curves, self.options, keep, weight, reach, self.most)
        return steps.value(starts, extents, bounds, progress)

    def prices(self) -> tuple[float, int]:
        """Evaluate the Lagrangian bound anew; return it and the number of options looked at."""
        prices = np.asarray(self.evidence["prices"])
        demand(
            prices.shape == (self.slots,) and prices.dtype == np.float64 and bool((np.abs(prices) < 1e300).all()),
            "evidence", "prices are missing",
        )  # fmt: skip
        kind = self.claim.memory
        demand(kind in ("uniform", "window"), "evidence", f"prices do not fit {kind} memory")
        width = self.claim.width if kind == "window" else self.slots
        slots = np.arange(self.slots)
        # The window [begin, end) before each slot, which a slot without requests leaves as it is.
        last = np.concatenate([[0], np.maximum.accumulate(np.where(self.requests > 0, slots + 1, 0))[:-1]])
        begins = np.maximum(last - width, 0)
        work = int((last - begins).sum())
        demand(work <= MOST_PAIRS, "evidence", f"its prices reach {work:,} slots back", f"{MOST_PAIRS:,} are the most")
        later, low, high = np.zeros(self.slots), np.zeros(self.slots), np.zeros(self.slots)
        for slot, (begin, end) in enumerate(zip(begins.tolist(), last.tolist(), strict=True)):
            if end > begin:
                parts = self.requests[begin:end] / self.requests[begin:end].sum()
                later[begin:end] += prices[slot] * parts
                low[slot], high[slot] = (float(parts @ side[begin:end]) for side in self.gains)
        # What rounding takes from the reach of extents.
        hair = 4 * ULP * (last - begins + 4)
        low, high = low * (1 - hair), np.minimum(high * (1 + hair), self.most)
        best, count = np.full(self.slots, -np.inf), 0
        for curve, some in self.by_curve():
            # Options of many slots at once, as far as memory goes.
            for block in np.array_split(some, len(some) // 2**14 + 1):
                options = [(slot, *one) for slot in block.tolist() for one in self.options[slot]]
                at, (profits, rewards) = np.array([one[0] for one in options]), np.array(options).T[1:]
                work += len(options) * len(curve.get("x", "."))
                demand(work <= MOST_PAIRS, "evidence", "takes too many points to check")
                worth = _dearest(curve, rewards, prices[at], low[at], high[at])
                np.maximum.at(best, at, worth + profits * later[at])
                count += len(options)
        size = float((np.abs(best) + np.abs(prices) * self.most + self.most * np.abs(later)).sum())
        return float(best.sum()) + size * (self.slots + 4) * 4 * ULP, count

    def states(self, progress: Callable[[float], object]) -> tuple[float, int]:
        """Bound the optimum over every state of the window anew; return the bound and the number of transitions."""
        kind, claimed = self.claim.memory, np.asarray(self.evidence["states"])
        demand(kind == "window", "evidence", f"states do not fit {kind} memory")
        demand(
            claimed.shape == () and claimed.dtype.kind in "iu" and claimed == self.claim.width,
            "evidence", "its states are not those of the window",
        )  # fmt: skip
        return most_earned(
            self.requests.tolist(), list(self.options), self.claim.width,
            lambda slot, x: accuracy(self.curves[slot], x)[1], progress,
        )  # fmt: skip


def _accumulated(values: Array, factor: float) -> Array:
    """Return running sums of which what is older counts less by a factor per slot."""
    if factor == 1:
        return np.cumsum(values)
    sums, now = np.empty(len(values)), 0.0
    for slot, value in enumerate(values.tolist()):
        now = factor * now + value
        sums[slot] = now
    return sums


def _dearest(curve: dict[str, Any], rewards: Array, prices: Array, low: Array, high: Array) -> Array:
    """Bound max of reward f(x) - price x over [low, high] from above, of many options at once."""
    if curve["form"] == "tabulated":
        # Straight between its points: the largest value is at one of them, or at an end.
        ends = (rewards * accuracy(curve, end)[1] - prices * end for end in (low, high))
        worth = np.maximum(*ends)
        for x, y in zip(curve["x"].tolist(), accuracy(curve, curve["x"])[1].tolist(), strict=True):
            worth = np.where((low < x) & (x < high), np.maximum(worth, rewards * y - prices * x), worth)
        return np.asarray(worth)
    # A tangent anywhere is a bound; the best touches where the slope is what is paid for it.
    with np.errstate(all="ignore"):
        place = place_of_slope(curve, prices / rewards)
    place = np.clip(np.where(np.isnan(place), high, place), low, high)
    above = accuracy(curve, place)[1]
    before = rewards * (above + slope(curve, place, -1) * (low - place)) - prices * low
    after = rewards * (above + slope(curve, place, 1) * (high - place)) - prices * high
    return np.asarray(np.maximum(before, after))

"""The checker of certificates, which shares no code with the solver.

It derives every slot's options anew from all pairs of configurations, evaluates the learning curve by formulas of
its own, and rounds outwards: what the evidence must reach is rounded up, what the allocations earn is rounded down.
Where the claim holds in-time parts, an answer counts by its pair's part in its slot, and dominated configurations may
not be chosen.

Evidence "bounds" is one continuous, piecewise linear U_t per slot. It proves the upper end by induction: U_t lies
above reward x f_t + U_{t+1} for every option and every extent that any allocations reach, and the upper end above
U_1(0). Evidence "prices" is one price per slot, for which the Lagrangian bound of `window` is evaluated anew. Evidence
"states" is the width of the window, over all states of which the optimum is bounded anew by `states_check`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.competitive.states_check import most_earned
from orric.exceptions import CertificateError

Array = np.ndarray[Any, Any]
ULP = 2.0**-52
# The claimed ends may differ from what the checker finds by rounding, not by more.
AGREEMENT = 1e-9
# A solver may evaluate the Lagrangian bound less sharply than the checker does.
PRICED_AGREEMENT = 1e-5


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


class Checker:
    """One verification: the claim unpacked, and a method for each thing to check."""

    def __init__(self, claim: dict[str, Any], evidence: dict[str, Array]) -> None:
        self.claim, self.evidence = claim, evidence
        trace = claim["trace"]
        self.requests = np.array(trace["requests"], float)
        self.budgets = np.array(trace["budget_macs"], float)
        self.slots = len(self.requests)
        profile = claim["profile"]
        self.retraining, self.inference = profile["retraining"], profile["inference"]
        self.memory = profile["memory"]
        factor, width = self.memory.get("factor"), self.memory.get("slots")
        self.demand(
            (self.memory["kind"], factor is None, width is None)
            in {("uniform", True, True), ("decay", False, True), ("window", True, False)}
            and (factor is None or 0 < factor < 1) and (width is None or width >= 1),
            "memory", f"{self.memory} is not known",
        )  # fmt: skip
        for one in (*self.retraining, *self.inference):
            usable = all(np.isfinite(one[name]) and one[name] >= 0 for name in ("profit", "cost_macs"))
            self.demand(usable, f"configuration {one['name']!r}", "has a profit or a cost that is not a number >= 0")
        for name, numbers in (("requests", self.requests), ("budget_macs", self.budgets)):
            self.demand(
                numbers.shape == (self.slots,) and bool((np.isfinite(numbers) & (numbers >= 0)).all()),
                "trace", f"{name} are not one number >= 0 per slot",
            )  # fmt: skip
        self.in_time = self.in_time_parts()
        self.sound: set[int] = set()
        self.curves = [self.curve_of(slot) for slot in range(self.slots)]
        self.options = [self.options_of(slot) for slot in range(self.slots)]
        self.most = max(profit for options in self.options for profit, _ in options)

    @staticmethod
    def demand(holds: bool, where: str, found: str) -> None:
        if not holds:
            raise CertificateError(where, found, "the certificate proves nothing")

    def in_time_parts(self) -> Array | None:
        """Check the in-time parts; None where every answer counts."""
        given = self.claim.get("in_time")
        if given is None:
            return None
        kinds = {"retraining": self.retraining, "inference": self.inference}
        for kind, configurations in kinds.items():
            kept: list[str] = []
            best = -1.0
            # A configuration that costs no less than another and is no better may not be chosen.
            for one in sorted(configurations, key=lambda one: (one["cost_macs"], -one["profit"])):
                if one["profit"] > best:
                    kept.append(one["name"])
                    best = one["profit"]
            self.demand(given[kind] == kept, "in_time", f"its {kind} configurations are not the undominated ones")
        parts = np.array(given["parts"], float)
        self.demand(
            parts.shape == (self.slots, len(given["retraining"]), len(given["inference"]))
            and bool(((parts >= 0) & (parts <= 1)).all()),
            "in_time", "it is not one part from 0 to 1 per slot and pair",
        )  # fmt: skip
        return parts

    def part(self, slot: int, retraining: str, inference: str) -> float:
        """Return which part of a slot's requests a pair answers by the deadline."""
        if self.in_time is None:
            return 1.0
        names = self.claim["in_time"]
        allowed = retraining in names["retraining"] and inference in names["inference"]
        self.demand(allowed, f"slot {slot + 1}", f"{(retraining, inference)} has no in-time part")
        return float(self.in_time[slot, names["retraining"].index(retraining), names["inference"].index(inference)])

    def curve_of(self, slot: int) -> dict[str, Any]:
        """Return the table of the curve that holds in a slot, counted from 0."""
        profile, trace = self.claim["profile"], self.claim["trace"]
        chosen = profile["curve"]
        # Either of the two says of clean images that they are.
        corruption, severity = (
            None if trace[name] is None else trace[name][slot] for name in ("corruption", "severity")
        )
        drift = ("none", 0) if corruption == "none" or severity == 0 else (corruption, severity)
        for entry in profile.get("drift_curve", []):
            if (entry["corruption"], entry["severity"]) == drift:
                chosen = entry["curve"]
                break
        while chosen["form"] == "time-varying":
            piece = max(n for n, start in enumerate(chosen["starts"]) if start <= slot + 1)
            chosen = chosen["curves"][piece]
        if id(chosen) not in self.sound:
            self.demand(sound(chosen), f"slot {slot + 1}", "its curve is not positive, increasing and concave")
            self.sound.add(id(chosen))
        return dict(chosen)

    def options_of(self, slot: int) -> list[tuple[float, float]]:
        """Return (profit, reward) of every retraining configuration with its best inference that fits."""
        requests, budget = float(self.requests[slot]), float(self.budgets[slot])
        options = []
        named = self.claim["in_time"] if self.in_time is not None else None
        for retraining in self.retraining:
            if named is not None and retraining["name"] not in named["retraining"]:
                continue
            profits = [
                inference["profit"] * self.part(slot, retraining["name"], inference["name"])
                for inference in self.inference
                if (named is None or inference["name"] in named["inference"])
                and requests * (retraining["cost_macs"] + inference["cost_macs"]) <= budget
            ]
            if profits:
                options.append((retraining["profit"], max(profits) * requests))
        if not options:
            self.demand(
                self.claim["overload"] == "shed", f"slot {slot + 1}", "no pair of configurations fits the budget"
            )
            retraining, inference = self.cheapest()
            timely = min(self.part(slot, retraining["name"], inference["name"]) * requests, self.servable(slot))
            return [(retraining["profit"], inference["profit"] * timely)]
        if requests == 0:
            return [(0.0, 0.0)]  # nothing is earned and no extent moves
        # More profit never hurts later, because every f_t rises; an option no better in either way is not needed.
        return [
            one for n, one in enumerate(options)
            if not any(
                other[0] >= one[0] and other[1] >= one[1] and (other != one or m < n)
                for m, other in enumerate(options) if m != n
            )
        ]  # fmt: skip

    def cheapest(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the cheapest configurations, the better one where two cost the same."""
        return tuple(
            min(kind, key=lambda one: (one["cost_macs"], -one["profit"])) for kind in (self.retraining, self.inference)
        )

    def servable(self, slot: int) -> float:
        """Return how many requests the cheapest inference can serve within an overloaded slot's budget."""
        cost, budget = self.cheapest()[1]["cost_macs"], float(self.budgets[slot])
        self.demand(budget / cost < 2**52, f"slot {slot + 1}", "serves more requests than can be counted")
        number = int(budget / cost) + 1
        while number * cost > budget:
            number -= 1
        return float(number)

    def verified(self, progress: Callable[[float], object]) -> Verified:
        """Check everything."""
        lower, upper = float(self.claim["lower"]), float(self.claim["upper"])
        least, most = self.value()
        self.demand(
            least >= lower >= least - 8 * (most - least) - AGREEMENT * most,
            "lower",
            f"claimed {lower!r}, but the allocations earn between {least!r} and {most!r}",
        )
        self.demand(upper >= lower, "upper", f"{upper!r} is below the lower end {lower!r}")
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
            raise CertificateError("evidence", f"holds {sorted(names)}", "known are bounds, prices and states")
        self.demand(
            proven <= upper * (1 + 4 * ULP) and upper <= max(proven, lower) * (1 + agreement),
            "upper",
            f"claimed {upper!r}, but the evidence proves {float(proven)!r}",
        )
        return Verified(lower, upper, self.slots, checks)

    def value(self) -> tuple[float, float]:
        """Check that every slot's allocation fits, and enclose what they earn together."""
        retraining = {one["name"]: one for one in self.retraining}
        inference = {one["name"]: one for one in self.inference}
        least, most = [], []
        profits, rewards = np.zeros(self.slots), np.zeros(self.slots)
        numbers = {len(self.claim["retraining"]), len(self.claim["inference"]), self.slots}
        self.demand(len(numbers) == 1, "allocations", f"they are of {max(numbers)} slots and the trace is not")
        names = len(retraining) + len(inference), len(self.retraining) + len(self.inference)
        self.demand(names[0] == names[1], "profile", "a configuration stands twice")
        for slot in range(self.slots):
            where = f"slot {slot + 1}"
            names = self.claim["retraining"][slot], self.claim["inference"][slot]
            self.demand(names[0] in retraining and names[1] in inference, where, f"{names} is unknown")
            chosen, served_by = retraining[names[0]], inference[names[1]]
            requests, budget = float(self.requests[slot]), float(self.budgets[slot])
            served = requests
            if not requests * (chosen["cost_macs"] + served_by["cost_macs"]) <= budget:
                overloaded = not any(
                    requests * (i["cost_macs"] + j["cost_macs"]) <= budget
                    for i in self.retraining for j in self.inference
                )  # fmt: skip
                self.demand(
                    overloaded and (chosen, served_by) == self.cheapest(), where, f"{names} does not fit the budget"
                )
                served = self.servable(slot)
            profits[slot] = chosen["profit"]
            part = self.part(slot, chosen["name"], served_by["name"])
            rewards[slot] = served_by["profit"] * min(part * requests, served)
        for slot, (low, high) in enumerate(self.extents(profits)):
            below, _ = accuracy(self.curves[slot], np.array([low]))
            _, above = accuracy(self.curves[slot], np.array([high]))
            least.append(rewards[slot] * float(below[0]))
            most.append(rewards[slot] * float(above[0]))
        size = 4 * ULP + self.slots * ULP
        return float(sum(least)) * (1 - size), float(sum(most)) * (1 + size)

    def extents(self, profits: Array) -> list[tuple[float, float]]:
        """Enclose x_t of every slot, following the definition slot by slot."""
        answer = []
        now = 0.0
        gained = total = 0.0
        factor = self.memory.get("factor") if self.memory["kind"] == "decay" else 1.0
        for slot in range(self.slots):
            hair = 4 * ULP * (slot + 2)
            answer.append((now * (1 - hair), now * (1 + hair)))
            requests, profit = float(self.requests[slot]), float(profits[slot])
            gained, total = factor * gained + requests * profit, factor * total + requests
            if requests > 0:
                if self.memory["kind"] == "window":
                    past = slice(max(slot + 1 - self.memory["slots"], 0), slot + 1)
                    now = float((self.requests[past] * profits[past]).sum() / self.requests[past].sum())
                else:
                    now = gained / total
        return answer

    def bounds(self, progress: Callable[[float], object]) -> tuple[float, int]:
        """Check the induction over the slots, backwards; return U_1(0) and the number of inequalities."""
        self.demand(self.memory["kind"] != "window", "evidence", "bounds in one extent say nothing of window memory")
        starts = np.array(self.evidence["starts"], np.int64)
        extents, bounds = (np.array(self.evidence[name], float) for name in ("extents", "bounds"))
        self.demand(
            len(starts) == self.slots + 1 and starts[0] == 0 and starts[-1] == len(extents) == len(bounds)
            and bool((np.diff(starts) > 0).all()) and bool(np.isfinite(extents).all() and np.isfinite(bounds).all()),
            "evidence", "the points do not make up one function per slot",
        )  # fmt: skip
        factor = self.memory.get("factor") if self.memory["kind"] == "decay" else 1.0
        keep, weight, total = np.zeros(self.slots), np.zeros(self.slots), 0.0
        low, high = np.zeros(self.slots + 1), np.zeros(self.slots + 1)
        for slot in range(self.slots):
            before, requests = factor * total, float(self.requests[slot])
            total = before + requests
            keep[slot], weight[slot] = (before / total, requests / total) if requests > 0 else (1.0, 0.0)
            gains = [profit for profit, _ in self.options[slot]]
            low[slot + 1] = (keep[slot] * low[slot] + weight[slot] * min(gains)) * (1 - 4 * ULP)
            reached = (keep[slot] * high[slot] + weight[slot] * max(gains)) * (1 + 4 * ULP)
            high[slot + 1] = min(reached, self.most)
        ahead_x, ahead_u = np.array([0.0]), np.array([0.0])
        checks = 0
        for slot in range(self.slots - 1, -1, -1):
            x, u = extents[starts[slot] : starts[slot + 1]], bounds[starts[slot] : starts[slot + 1]]
            self.demand(
                bool((np.diff(x) > 0).all()) and 0 <= x[0] <= low[slot] and high[slot] <= x[-1] <= self.most,
                f"slot {slot + 1}", f"its points do not ascend from {low[slot]:g} to {high[slot]:g}, as far as it goes",
            )  # fmt: skip
            for profit, reward in self.options[slot]:
                checks += self.step(slot, x, u, ahead_x, ahead_u, keep[slot], weight[slot] * profit, reward)
            ahead_x, ahead_u = x, u
            if slot % 64 == 0:
                progress(1 - slot / self.slots)
        return float(np.interp(0.0, ahead_x, ahead_u)), checks

    def step(
        self, slot: int, x: Array, u: Array, ahead_x: Array, ahead_u: Array, keep: float, shift: float, reward: float
    ) -> int:
        """Check U_t(y) >= reward f(y) + U_{t+1}(keep y + shift) for all y from x[0] to x[-1]."""
        curve = self.curves[slot]
        images = (ahead_x - shift) / keep if keep > 0 else ahead_x[:0]
        kinks = np.concatenate([images, curve.get("x", [])])
        places = np.unique(np.concatenate([x, kinks[(kinks > x[0]) & (kinks < x[-1])]]))
        begins, ends = (places, places) if len(places) == 1 else (places[:-1], places[1:])
        # An image may lie beside where it is computed by some roundings of the largest profit.
        steepest = float(np.abs(np.diff(ahead_u) / np.diff(ahead_x)).max()) if len(ahead_x) > 1 else 0.0
        slack = 64 * ULP * self.most * steepest + 4 * ULP * float(np.abs(u).max())
        checks = 0
        for _ in range(40):
            # Between two places U_t and U_{t+1} are straight; f lies within `bow` of its chord.
            rise = slope(curve, begins, 1) - slope(curve, ends, -1)
            bow = np.maximum(rise, 0) * (ends - begins) / 4
            fails = np.zeros(len(begins), bool)
            for place in (begins, ends):
                room = np.interp(place, x, u) - np.interp(keep * place + shift, ahead_x, ahead_u) - slack
                above = reward * accuracy(curve, place)[1]
                short = room < above
                if short.any():
                    at = float(place[short][0])
                    self.demand(False, f"slot {slot + 1}", f"the bound at extent {at!r} is too low")
                fails |= room < above + reward * bow
            checks += 2 * len(begins)
            if not fails.any():
                return checks
            begins, ends = begins[fails], ends[fails]
            middles = (begins + ends) / 2
            begins, ends = np.concatenate([begins, middles]), np.concatenate([middles, ends])
        raise CertificateError(
            f"slot {slot + 1}", f"the bound near extent {float(begins[0])!r} cannot be shown to hold"
        )

    def prices(self) -> tuple[float, int]:
        """Evaluate the Lagrangian bound anew; return it and the number of options looked at."""
        prices = np.array(self.evidence["prices"], float)
        self.demand(prices.shape == (self.slots,) and bool(np.isfinite(prices).all()), "evidence", "prices are missing")
        kind = self.memory["kind"]
        self.demand(kind in ("uniform", "window"), "evidence", f"prices do not fit {kind} memory")
        width = self.memory["slots"] if kind == "window" else self.slots
        later = np.zeros(self.slots)
        begin = end = 0
        past: list[tuple[int, int]] = []
        for slot in range(self.slots):
            past.append((begin, end))
            inside = self.requests[begin:end]
            if end > begin:
                later[begin:end] += prices[slot] * inside / inside.sum()
            if self.requests[slot] > 0:
                begin, end = max(slot + 1 - width, 0), slot + 1
        total, size, count = 0.0, 0.0, 0
        reach = [np.array([pick(profit for profit, _ in one) for one in self.options]) for pick in (min, max)]
        for slot, (begin, end) in enumerate(past):
            low = high = 0.0
            inside = self.requests[begin:end]
            if end > begin:
                low, high = (float((inside * side[begin:end]).sum() / inside.sum()) for side in reach)
            best = -np.inf
            for profit, reward in self.options[slot]:
                worth = self.dearest(self.curves[slot], reward, float(prices[slot]), low, high)
                best = max(best, worth + profit * later[slot])
                count += 1
            total += best
            size += abs(best) + abs(prices[slot]) * self.most + self.most * abs(later[slot])
        return total + size * self.slots * 4 * ULP, count

    def states(self, progress: Callable[[float], object]) -> tuple[float, int]:
        """Bound the optimum over every state of the window anew; return the bound and the number of transitions."""
        width, claimed = self.memory.get("slots"), np.asarray(self.evidence["states"])
        self.demand(self.memory["kind"] == "window", "evidence", f"states do not fit {self.memory['kind']} memory")
        self.demand(claimed.shape == () and claimed == width, "evidence", "its states are not those of the window")
        return most_earned(
            self.requests.tolist(), self.options, width, lambda slot, x: accuracy(self.curves[slot], x)[1], progress
        )

    @staticmethod
    def dearest(curve: dict[str, Any], reward: float, price: float, low: float, high: float) -> float:
        """Bound max of reward f(x) - price x over [low, high] from above: bisect on the slope, then use tangents."""
        if curve["form"] == "tabulated":
            ends, bow = np.clip([low, *curve["x"], high], low, high), 0.0
        else:
            # The slope is known to 1e-12 of itself, so a bisection may turn where it is that much off the price.
            lost = 4e-12 * abs(price) * (high - low)
            for _ in range(50):
                middle = (low + high) / 2
                if reward * float(slope(curve, np.array([middle]), 1)[0]) > price:
                    low = middle
                else:
                    high = middle
            ends = np.array([low, high])
            bend = float(slope(curve, ends[:1], 1)[0] - slope(curve, ends[1:], -1)[0])
            bow = lost + reward * max(bend, 0.0) * (high - low) / 4
        return float((reward * accuracy(curve, ends)[1] + bow - price * ends).max())


def sound(curve: dict[str, Any]) -> bool:
    """Say whether a curve is positive, increasing and concave, which the proofs rest on."""
    if curve["form"] == "tabulated":
        x, y = np.array(curve["x"], float), np.array(curve["y"], float)
        slopes = np.diff(y) / np.diff(x)
        rising = x[0] == 0 and (np.diff(x) > 0).all() and (slopes >= 0).all()
        good = bool(rising and (np.diff(slopes) <= 1e-12 * slopes.max()).all())
    else:
        names = {"exponential": "a k", "power": "a b alpha", "logarithmic": "b k"}.get(curve["form"], "")
        good = all(curve[name] > 0 for name in names.split())
    return good and bool(accuracy(curve, np.zeros(1))[0][0] > 0)


def accuracy(curve: dict[str, Any], x: Array) -> tuple[Array, Array]:
    """Enclose f(x): below and above."""
    form = curve["form"]
    if form == "exponential":
        parts = np.array(curve["c"]), -curve["a"] * np.exp(-curve["k"] * x)
    elif form == "power":
        parts = np.array(curve["c"]), -curve["a"] * (x + curve["b"]) ** -curve["alpha"]
    elif form == "logarithmic":
        parts = np.array(curve["a"]), curve["b"] * np.log1p(curve["k"] * x)
    elif form == "tabulated":
        parts = np.array(0.0), np.interp(x, curve["x"], curve["y"])
    else:
        raise CertificateError("profile", f"the checker does not know curves of form {form!r}", "tabulate the curve")
    error = 2 * ULP * (np.abs(parts[0]) + np.abs(parts[1]) * (1 + curve.get("alpha", 0.0)))
    return parts[0] + parts[1] - error, parts[0] + parts[1] + error


def slope(curve: dict[str, Any], x: Array, side: int) -> Array:
    """Bound f'(x): from above as seen to the right (side 1), from below as seen to the left (side -1)."""
    form = curve["form"]
    if form == "exponential":
        exact = curve["a"] * curve["k"] * np.exp(-curve["k"] * x)
    elif form == "power":
        exact = curve["a"] * curve["alpha"] * (x + curve["b"]) ** (-curve["alpha"] - 1)
    elif form == "logarithmic":
        exact = curve["b"] * curve["k"] / (1 + curve["k"] * x)
    else:
        knots = np.array(curve["x"])
        slopes = np.concatenate([np.diff(curve["y"]) / np.diff(knots), [0.0]])
        place = np.searchsorted(knots, x, side="right" if side > 0 else "left") - 1
        exact = slopes[np.clip(place, 0, len(knots) - 1)]
    return np.asarray(exact * (1 + side * 1e-12))

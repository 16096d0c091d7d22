"""Certificates of the offline optimum, and their checker, which shares no code with the solver.

A certificate holds the profile, the trace, the allocations that attain the lower end, and the evidence for the
upper end. The checker derives every slot's options anew from all pairs of configurations, evaluates the learning
curve by formulas of its own, and rounds outwards: what the evidence must reach is rounded up, what the allocations
earn is rounded down.

Evidence "bounds" is one continuous, piecewise linear U_t per slot. It proves the upper end by induction: U_t lies
above reward x f_t + U_{t+1} for every option and every extent that any allocations reach, and the upper end above
U_1(0). Evidence "prices" is one price per slot, for which the Lagrangian bound of `window` is evaluated anew.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orric.exceptions import CertificateError

Array = np.ndarray[Any, Any]
FORMAT = 1
ULP = 2.0**-52
# The claimed ends may differ from what the checker finds by rounding, not by more.
AGREEMENT = 1e-9
# A solver may evaluate the Lagrangian bound less sharply than the checker does.
PRICED_AGREEMENT = 1e-6


@dataclass(frozen=True, eq=False)
class Certificate:
    """All that is needed to verify an interval around the offline optimum.

    Attributes:
        claim: What is claimed and about what: profile, trace, overload, allocations, lower, upper.
        evidence: Arrays that prove the upper end.
    """

    claim: dict[str, Any]
    evidence: dict[str, Array]

    @classmethod
    def of(
        cls, problem: Any, allocations: list[dict[str, Any]], lower: float, upper: float, evidence: dict[str, Array]
    ) -> Certificate:
        """Put together what a solver found for an `OfflineProblem`."""
        claim = {
            "format": FORMAT,
            "profile": profile_claim(problem.profile),
            "trace": trace_claim(problem.trace),
            "overload": problem.overload,
            "retraining": [one["retraining"] for one in allocations],
            "inference": [one["inference"] for one in allocations],
            "lower": lower,
            "upper": upper,
        }
        return cls(claim, dict(evidence))

    def digest(self) -> str:
        """Return a SHA-256 over everything in the certificate, in hexadecimal."""
        total = hashlib.sha256(json.dumps(self.claim, sort_keys=True).encode())
        for name in sorted(self.evidence):
            array = np.ascontiguousarray(self.evidence[name])
            total.update(f"{name} {array.dtype.str} {array.shape}".encode())
            total.update(array.tobytes())
        return total.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the certificate as a ZIP archive of one JSON text and NumPy arrays."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        text = json.dumps({**self.claim, "digest": self.digest()})
        try:
            with partial.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, claim=np.array(text), **self.evidence)
            partial.replace(target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise CertificateError(
                str(target), f"cannot be written ({error.strerror})", "choose another file"
            ) from None

    @classmethod
    def load(cls, path: str | Path) -> Certificate:
        """Read a certificate.

        Raises:
            CertificateError: The file is missing, is no certificate, or does not match its own digest.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                evidence = {name: archive[name] for name in archive.files if name != "claim"}
                claim = json.loads(str(archive["claim"]))
        except FileNotFoundError:
            raise CertificateError(
                str(path), "there is no such file", "write one with: orric optimum --certificate FILE"
            ) from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise CertificateError(
                str(path), f"is not a certificate ({error})", "write one with: orric optimum --certificate FILE"
            ) from None
        if not isinstance(claim, dict) or claim.get("format") != FORMAT:
            raise CertificateError(str(path), "is of another format", f"this version reads format {FORMAT}")
        stated = claim.pop("digest", None)
        certificate = cls(claim, evidence)
        if stated != certificate.digest():
            raise CertificateError(
                str(path), "its contents do not match its digest", "it was changed after it was made"
            )
        return certificate


def profile_claim(profile: Any) -> Any:
    """Return what a certificate says of a profile: all that the optimum depends on, as JSON has it."""
    return json.loads(json.dumps(profile.model_dump(mode="json", exclude_none=True, exclude={"provenance"})))


def trace_claim(trace: Any) -> Any:
    """Return what a certificate says of a trace."""
    return {
        "stream": trace.stream,
        "requests": trace.requests.tolist(),
        "budget_macs": trace.budget_macs.tolist(),
        "corruption": list(trace.corruption) if trace.corruption else None,
        "severity": list(trace.severity) if trace.severity else None,
    }


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
        """(upper - lower) / upper."""
        return (self.upper - self.lower) / self.upper


def verify(certificate: Certificate | str | Path, progress: Callable[[float], object] = lambda part: None) -> Verified:
    """Verify a certificate.

    Args:
        certificate: The certificate or its file.
        progress: Called with the share of the work done, from 0 to 1.

    Raises:
        CertificateError: Anything in it is not as claimed; says what and in which slot.
    """
    if not isinstance(certificate, Certificate):
        certificate = Certificate.load(certificate)
    try:
        return _Checker(certificate).verified(progress)
    except CertificateError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise CertificateError(
            "certificate", f"is malformed ({type(error).__name__}: {error})", "make it anew"
        ) from error


class _Checker:
    """One verification: the claim unpacked, and a method for each thing to check."""

    def __init__(self, certificate: Certificate) -> None:
        claim = certificate.claim
        self.claim, self.evidence = claim, certificate.evidence
        trace = claim["trace"]
        self.requests = np.array(trace["requests"], float)
        self.budgets = np.array(trace["budget_macs"], float)
        self.slots = len(self.requests)
        profile = claim["profile"]
        self.retraining, self.inference = profile["retraining"], profile["inference"]
        self.memory = profile["memory"]
        for name, numbers in (("requests", self.requests), ("budget_macs", self.budgets)):
            self.demand(
                numbers.shape == (self.slots,) and bool((np.isfinite(numbers) & (numbers >= 0)).all()),
                "trace", f"{name} are not one number >= 0 per slot",
            )  # fmt: skip
        self.curves = [self.curve_of(slot) for slot in range(self.slots)]
        self.options = [self.options_of(slot) for slot in range(self.slots)]
        self.most = max(profit for options in self.options for profit, _ in options)

    @staticmethod
    def demand(holds: bool, where: str, found: str) -> None:
        if not holds:
            raise CertificateError(where, found, "the certificate proves nothing")

    def curve_of(self, slot: int) -> dict[str, Any]:
        """Return the table of the curve that holds in a slot, counted from 0."""
        profile, trace = self.claim["profile"], self.claim["trace"]
        chosen = profile["curve"]
        if trace["corruption"] is not None and trace["severity"] is not None:
            drift = (trace["corruption"][slot], trace["severity"][slot])
            for entry in profile.get("drift_curve", []):
                if (entry["corruption"], entry["severity"]) == drift:
                    chosen = entry["curve"]
                    break
        while chosen["form"] == "time-varying":
            piece = max(n for n, start in enumerate(chosen["starts"]) if start <= slot + 1)
            chosen = chosen["curves"][piece]
        return dict(chosen)

    def options_of(self, slot: int) -> list[tuple[float, float]]:
        """Return (profit, reward) of every retraining configuration with its best inference that fits."""
        requests, budget = float(self.requests[slot]), float(self.budgets[slot])
        options = []
        for retraining in self.retraining:
            profits = [
                inference["profit"]
                for inference in self.inference
                if requests * (retraining["cost_macs"] + inference["cost_macs"]) <= budget
            ]
            if profits:
                options.append((retraining["profit"], max(profits) * requests))
        if not options:
            self.demand(
                self.claim["overload"] == "shed", f"slot {slot + 1}", "no pair of configurations fits the budget"
            )
            retraining, inference = self.cheapest()
            return [(retraining["profit"], inference["profit"] * self.servable(slot))]
        if requests == 0:
            return options[:1]  # nothing is earned and no extent moves
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
        number = int(budget / cost) + 1
        while number * cost > budget:
            number -= 1
        return float(number)

    def verified(self, progress: Callable[[float], object]) -> Verified:
        """Check everything."""
        lower, upper = float(self.claim["lower"]), float(self.claim["upper"])
        least, most = self.value()
        self.demand(
            least >= lower >= most * (1 - AGREEMENT),
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
        else:
            raise CertificateError("evidence", f"holds {sorted(names)}", "known are bounds and prices")
        self.demand(
            proven <= upper * (1 + 4 * ULP) and upper <= max(proven, lower) * (1 + agreement),
            "upper",
            f"claimed {upper!r}, but the evidence proves {proven!r}",
        )
        return Verified(lower, upper, self.slots, checks)

    def value(self) -> tuple[float, float]:
        """Check that every slot's allocation fits, and enclose what they earn together."""
        retraining = {one["name"]: one for one in self.retraining}
        inference = {one["name"]: one for one in self.inference}
        least, most = [], []
        profits = np.zeros(self.slots)
        rewards = np.zeros(self.slots)
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
            rewards[slot] = served_by["profit"] * served
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
            low[slot + 1] = keep[slot] * low[slot] + weight[slot] * min(gains)
            high[slot + 1] = keep[slot] * high[slot] + weight[slot] * max(gains)
        ahead_x, ahead_u = np.array([0.0]), np.array([0.0])
        checks = 0
        for slot in range(self.slots - 1, -1, -1):
            x, u = extents[starts[slot] : starts[slot + 1]], bounds[starts[slot] : starts[slot + 1]]
            where, hair = f"slot {slot + 1}", 1e-12 * self.most
            self.demand(
                bool((np.diff(x) > 0).all()) and x[0] <= low[slot] + hair and x[-1] >= high[slot] - hair,
                where, f"its points do not ascend over the reachable extents {low[slot]:g} to {high[slot]:g}",
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
        for slot, (begin, end) in enumerate(past):
            low = high = 0.0
            inside = self.requests[begin:end]
            if end > begin:
                sides = [[pick(p for p, _ in self.options[s]) for s in range(begin, end)] for pick in (min, max)]
                low, high = (float((inside * side).sum() / inside.sum()) for side in sides)
            best = -np.inf
            for profit, reward in self.options[slot]:
                worth = self.dearest(self.curves[slot], reward, float(prices[slot]), low, high)
                best = max(best, worth + profit * later[slot])
                count += 1
            total += best
            size += abs(best) + abs(prices[slot]) * self.most + self.most * abs(later[slot])
        return total + size * self.slots * 4 * ULP, count

    @staticmethod
    def dearest(curve: dict[str, Any], reward: float, price: float, low: float, high: float) -> float:
        """Bound max of reward f(x) - price x over [low, high] from above: bisect on the slope, then use tangents."""
        for _ in range(50):
            middle = (low + high) / 2
            if reward * float(slope(curve, np.array([middle]), 1)[0]) > price:
                low = middle
            else:
                high = middle
        ends = np.array([low, high])
        bow = max(float(slope(curve, ends[:1], 1)[0] - slope(curve, ends[1:], -1)[0]), 0.0) * (high - low) / 4
        return float((reward * (accuracy(curve, ends)[1] + bow) - price * ends).max())


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

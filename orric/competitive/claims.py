"""What a certificate claims, parsed into numbers that may be computed with: nothing in it is trusted.

Every table has a closed set of keys, every number is finite and in its range, every curve is known, positive,
increasing and concave, and accuracies are at most 1. The solver shares none of this.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.exceptions import CertificateError

Array = np.ndarray[Any, Any]
ULP = 2.0**-52
# Below it the errors of numbers are no longer relative to them.
TINIEST = 2.0**-1000
# The most that profits and accuracies, which are parts, may exceed 1 by rounding.
HAIR = 1e-9
# By how much a slope of measured points may exceed one before it, relative to the largest, and still count as concave.
ROUGH = 1e-12
FORMS = {
    "exponential": ("c", "a", "k"),
    "power": ("c", "a", "b", "alpha"),
    "logarithmic": ("a", "b", "k"),
    "tabulated": ("x", "y"),
    "time-varying": ("starts", "curves"),
}
MEMORIES = {"uniform": (), "window": ("slots",), "decay": ("factor",)}
# How deep curves that change with time may stand in one another.
MOST_NESTED = 16
Curve = dict[str, Any]


@dataclass(frozen=True)
class Configuration:
    """One that can be selected, of either kind."""

    name: str
    profit: float
    cost_macs: float


@dataclass(frozen=True)
class Claim:
    """A claim whose every part is usable; in the words of `Certificate`.

    Attributes:
        retraining: Configurations.
        inference: Likewise.
        memory: "uniform", "window" or "decay".
        width: Slots of a window.
        factor: Of decay, 1 elsewhere.
        curves: f_t of every slot, tables of known form; none changes with time.
        requests: D(t), shape (T,).
        budgets: C(t), shape (T,).
        shed: Whether a slot may be overloaded.
        chosen: Index of the retraining and of the inference configuration of every slot, shape (T, 2).
        in_time: q_t(i, j) of `timely` configurations, shape (T, M, N), or None where every answer counts.
        timely: Indices of the undominated retraining and inference configurations.
        lower: Claimed lower end.
        upper: Claimed upper end.
    """

    retraining: tuple[Configuration, ...]
    inference: tuple[Configuration, ...]
    memory: str
    width: int
    factor: float
    curves: list[Curve]
    requests: Array
    budgets: Array
    shed: bool
    chosen: Array
    in_time: Array | None
    timely: tuple[list[int], list[int]]
    lower: float
    upper: float

    @classmethod
    def parsed(cls, given: Any) -> Claim:
        """Parse a claim.

        Raises:
            CertificateError: Something in it is missing, unknown or out of its range; says what.
        """
        names = ("format", "profile", "trace", "overload", "retraining", "inference", "lower", "upper")
        claim = table("certificate", given, names, ("in_time",))
        lower, upper = number("lower: claimed", claim["lower"]), number("upper: claimed", claim["upper"])
        demand(lower >= 0, "lower", f"claimed {lower!r}")
        demand(claim["overload"] in ("error", "shed"), "overload", f"found {shown(claim['overload'])}")
        profile = table(
            "profile",
            claim["profile"],
            ("name", "best_accuracy", "slope_floor", "retraining", "inference", "curve", "memory"),
            ("drift_curve",),
        )
        word("profile", profile["name"])
        for name in ("best_accuracy", "slope_floor"):
            demand(number(f"profile: {name}", profile[name]) > 0, "profile", f"{name} is {profile[name]!r}")
        kinds = [_configurations(kind, profile[kind]) for kind in ("retraining", "inference")]
        most = max(one.profit for one in kinds[1])
        demand(most <= 1 + HAIR, "profile", f"an inference profit is {most!r}, above 1")
        demand(all(one.profit > 0 for one in kinds[1]), "profile", "an inference profit is 0")
        free = any(one.profit == one.cost_macs == 0 for one in kinds[0])
        demand(free, "profile", "no retraining configuration costs and gains nothing")
        trace = table("trace", claim["trace"], ("stream", "requests", "budget_macs", "corruption", "severity"))
        word("trace", trace["stream"])
        requests, budgets = (_amounts(name, trace[name]) for name in ("requests", "budget_macs"))
        demand(len(requests) == len(budgets) > 0, "trace", "requests and budget_macs are not one number >= 0 per slot")
        memory, width, factor = _memory(profile["memory"])
        chosen = [
            _chosen(kind, claim[kind], some, len(requests))
            for kind, some in zip(("retraining", "inference"), kinds, strict=True)
        ]
        parts, timely = _in_time(claim.get("in_time"), kinds, len(requests))
        return cls(
            kinds[0], kinds[1], memory, width, factor, _curves(profile, trace, len(requests), kinds[0]), requests,
            budgets,
            claim["overload"] == "shed", np.stack(chosen, axis=1), parts, timely, lower, upper,
        )  # fmt: skip


def demand(holds: bool, where: str, found: str, wanted: str = "the certificate proves nothing") -> None:
    """Refuse a certificate unless something holds."""
    if not holds:
        raise CertificateError(where, found, wanted)


def shown(value: Any) -> str:
    """Write a value from outside in a few characters of one line."""
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'table'} of {len(value)}"
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a number too large"
    return text if len(text) <= 40 else f"{text[:40]}..."


def table(where: str, given: Any, keys: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """Return a table that has all of some keys and no others but the optional ones."""
    demand(isinstance(given, dict), where, f"is malformed: found {shown(given)} in place of a table")
    wanted, allowed = set(keys), {*keys, *optional}
    odd = sorted(wanted - set(given)) or sorted(set(given) - allowed)
    demand(not odd, where, f"is malformed: the key {shown(odd[0]) if odd else ''} is missing or unknown")
    return dict(given)


def number(where: str, given: Any) -> float:
    """Return a finite number."""
    usable = isinstance(given, int | float) and not isinstance(given, bool) and abs(given) < 1e300
    demand(usable, where, f"{shown(given)} is not a finite number")
    return float(given)


def word(where: str, given: Any) -> str:
    """Return a text that is not empty."""
    demand(isinstance(given, str) and given != "", where, f"{shown(given)} is no name")
    return str(given)


def items(where: str, given: Any) -> list[Any]:
    """Return a list."""
    demand(isinstance(given, list), where, f"found {shown(given)} in place of a list")
    return list(given)


def numbers(where: str, given: Any) -> Array:
    """Return a list of finite numbers as an array."""
    return np.array([number(where, one) for one in items(where, given)], float)


def _amounts(name: str, given: Any) -> Array:
    values = items(f"trace: {name}", given)
    usable = all(type(one) in (int, float) and 0 <= one < 1e300 for one in values)
    demand(usable, "trace", f"{name} are not one number >= 0 per slot")
    return np.array(values, float)


def _configurations(kind: str, given: Any) -> tuple[Configuration, ...]:
    found = []
    for one in items(kind, given):
        one = table(f"{kind} configuration", one, ("name", "profit", "cost_macs"))
        where = f"configuration {shown(one['name'])}"
        for name in ("profit", "cost_macs"):
            usable = type(one[name]) in (int, float) and 0 <= one[name] < 1e300
            demand(usable, where, f"has a {name} that is not a number >= 0")
        found.append(Configuration(word(kind, one["name"]), float(one["profit"]), float(one["cost_macs"])))
    names = [one.name for one in found]
    demand(len(names) > 0, "profile", f"has no {kind} configuration")
    demand(len(set(names)) == len(names), "profile", f"a {kind} configuration stands twice")
    return tuple(found)


def _memory(given: Any) -> tuple[str, int, float]:
    demand(isinstance(given, dict) and given.get("kind") in MEMORIES, "memory", f"{shown(given)} is not known")
    memory = table("memory", given, ("kind", *MEMORIES[given["kind"]]))
    width, factor = memory.get("slots", 1), memory.get("factor", 1.0)
    demand(type(width) is int and 1 <= width < 2**53, "memory", f"a window of {shown(width)} slots")
    demand(memory["kind"] != "decay" or 0 < number("memory", factor) < 1, "memory", f"a factor of {shown(factor)}")
    return memory["kind"], width, float(factor)


def _chosen(kind: str, given: Any, configurations: tuple[Configuration, ...], slots: int) -> Array:
    """Return the indices of the configurations that every slot's allocation names."""
    names = items("allocations", given)
    demand(len(names) == slots, "allocations", f"they are of {len(names)} slots and the trace is of {slots}")
    places = {one.name: n for n, one in enumerate(configurations)}
    for slot, name in enumerate(names):
        known = isinstance(name, str) and name in places
        demand(known, f"slot {slot + 1}", f"the {kind} configuration {shown(name)} is unknown")
    return np.array([places[name] for name in names], np.int64)


def undominated(configurations: tuple[Configuration, ...]) -> list[int]:
    """Return the indices of the configurations that cost less than every one that is as good, cheapest first."""
    kept: list[int] = []
    for n in sorted(range(len(configurations)), key=lambda n: (configurations[n].cost_macs, -configurations[n].profit)):
        if not kept or configurations[n].profit > configurations[kept[-1]].profit:
            kept.append(n)
    return kept


def _in_time(given: Any, kinds: list[Any], slots: int) -> tuple[Array | None, tuple[list[int], list[int]]]:
    """Check the in-time parts, which are of the undominated configurations."""
    timely = undominated(kinds[0]), undominated(kinds[1])
    if given is None:
        return None, timely
    given = table("in_time", given, ("retraining", "inference", "parts"))
    for kind, places, configurations in zip(("retraining", "inference"), timely, kinds, strict=True):
        same = given[kind] == [configurations[n].name for n in places]
        demand(same, "in_time", f"its {kind} configurations are not the undominated ones")
    shape = slots, len(timely[0]), len(timely[1])
    rows = items("in_time", given["parts"])
    regular = len(rows) == shape[0] and all(
        isinstance(row, list) and len(row) == shape[1]
        and all(isinstance(cells, list) and len(cells) == shape[2] for cells in row)
        for row in rows
    )  # fmt: skip
    found = "it is not one part from 0 to 1 per slot and pair"
    demand(regular, "in_time", found)
    usable = all(type(one) in (int, float) and 0 <= one <= 1 for row in rows for cells in row for one in cells)
    demand(usable, "in_time", found)
    return np.array(rows, float).reshape(shape), timely


def _curves(profile: dict[str, Any], trace: dict[str, Any], slots: int, retraining: Any) -> list[Curve]:
    """Return the curve that holds in every slot."""
    most = max(one.profit for one in retraining)
    base = _curve("profile: curve", profile["curve"], most)
    drifting: dict[tuple[Any, Any], Curve] = {}
    for entry in items("profile: drift_curve", profile.get("drift_curve", [])):
        entry = table("drift_curve", entry, ("corruption", "severity", "curve"))
        demand(type(entry["severity"]) is int, "drift_curve", f"a severity of {shown(entry['severity'])}")
        named: tuple[Any, Any] = word("drift_curve", entry["corruption"]), entry["severity"]
        demand(named not in drifting, "drift_curve", f"the curve of {named[0][:40]!r} stands twice")
        drifting[named] = _curve("profile: drift_curve", entry["curve"], most)
    columns = [trace[name] for name in ("corruption", "severity")]
    for name, column, kind in zip(("corruption", "severity"), columns, (str, int), strict=True):
        usable = column is None or (
            isinstance(column, list)
            and len(column) == slots
            and all(one is None or type(one) is kind for one in column)
        )
        demand(usable, "trace", f"{name} is not one per slot")
    found = []
    for slot in range(slots):
        corruption, severity = (None if column is None else column[slot] for column in columns)
        # Either of the two says of clean images that they are.
        under: tuple[Any, Any] = ("none", 0) if corruption == "none" or severity == 0 else (corruption, severity)
        curve = drifting.get(under, base)
        while curve["form"] == "time-varying":
            curve = curve["curves"][bisect.bisect_right(curve["starts"], slot + 1) - 1]
        found.append(curve)
    return found


def _curve(where: str, given: Any, most: float, nested: int = 0) -> Curve:
    """Parse a curve: of known form, positive, increasing, concave, and at most 1 up to an extent."""
    form = given.get("form") if isinstance(given, dict) else None
    if not (isinstance(form, str) and form in FORMS):
        raise CertificateError(where, f"the checker does not know curves of form {shown(form)}", "tabulate the curve")
    curve: Curve = table(where, given, ("form", *FORMS[form]))
    if form == "time-varying":
        starts, pieces = items(where, curve["starts"]), items(where, curve["curves"])
        demand(nested < MOST_NESTED, where, "changes with time within one that does, and so on")
        demand(
            len(starts) == len(pieces) > 0 and all(type(one) is int and 0 < one < 2**53 for one in starts)
            and starts[0] == 1 and all(a < b for a, b in itertools.pairwise(starts)),
            where, "its pieces do not begin one after the other from slot 1 on",
        )  # fmt: skip
        return {"form": form, "starts": starts, "curves": [_curve(where, one, most, nested + 1) for one in pieces]}
    sound = "its curve is not positive, increasing and concave"
    if form == "tabulated":
        curve["x"], curve["y"] = (numbers(where, curve[name]) for name in ("x", "y"))
        x, y = curve["x"], curve["y"]
        demand(len(x) == len(y) >= 2 and x[0] == 0 and bool((np.diff(x) > 0).all()), where, sound)
        with np.errstate(over="ignore"):
            slopes = np.diff(y) / np.diff(x)
        rising = bool((slopes >= 0).all() and np.isfinite(slopes).all())
        demand(rising and bool((slopes - np.minimum.accumulate(slopes) <= ROUGH * slopes.max()).all()), where, sound)
        curve["slopes"] = np.append(slopes, 0.0)
    else:
        for name in FORMS[form]:
            curve[name] = number(where, curve[name])
            # c, and a of a logarithm, move the curve up and down.
            free = name == "c" or (form == "logarithmic" and name == "a")
            demand(free or curve[name] > 0, where, sound)
    with np.errstate(all="ignore"):
        lowest, highest = accuracy(curve, np.zeros(1))[0][0], accuracy(curve, np.array([most]))[1][0]
    demand(bool(lowest > 0), where, sound)
    demand(bool(highest <= 1 + 2 * HAIR), where, f"its curve reaches {float(highest)!r}, and accuracies end at 1")
    return curve


def accuracy(curve: Curve, x: Array) -> tuple[Array, Array]:
    """Enclose f(x) for extents from 0: below and above."""
    form = curve["form"]
    # The relative error of each part, in roundings.
    roundings = 2.0
    if form == "exponential":
        # A rounded exponent moves the part by as much of a, at most, which is less than c as f(0) > 0.
        parts = np.array(curve["c"]), -curve["a"] * np.exp(-curve["k"] * x)
    elif form == "power":
        # The power multiplies the relative error of its base.
        parts = np.array(curve["c"]), -curve["a"] * (x + curve["b"]) ** -curve["alpha"]
        roundings *= 1 + curve["alpha"]
    elif form == "logarithmic":
        parts = np.array(curve["a"]), curve["b"] * np.log1p(curve["k"] * x)
    else:
        parts = np.array(0.0), np.interp(x, curve["x"], curve["y"])
    error = ULP * (2 * np.abs(parts[0]) + roundings * np.abs(parts[1])) + TINIEST
    return parts[0] + parts[1] - error, parts[0] + parts[1] + error


def slope(curve: Curve, x: Array, side: int) -> Array:
    """Bound f'(x): from above as seen to the right (side 1), from below as seen to the left (side -1)."""
    form = curve["form"]
    roundings: Any = 16.0
    if form == "exponential":
        exact = curve["a"] * curve["k"] * np.exp(-curve["k"] * x)
        # Below the smallest number that has all its digits the slope counts as nothing, or as that.
        roundings = roundings + np.minimum(curve["k"] * x, 800.0)
    elif form == "power":
        exact = curve["a"] * curve["alpha"] * (x + curve["b"]) ** (-curve["alpha"] - 1)
        roundings += 4 * curve["alpha"]
    elif form == "logarithmic":
        exact = curve["b"] * curve["k"] / (1 + curve["k"] * x)
    else:
        knots = curve["x"]
        place = np.searchsorted(knots, x, side="right" if side > 0 else "left") - 1
        exact = curve["slopes"][np.clip(place, 0, len(knots) - 1)]
        # Slopes of rounded differences, which may rise by as much.
        return np.asarray(np.maximum(exact + side * 4 * ROUGH * curve["slopes"].max(), 0.0))
    return np.asarray(np.maximum(exact * (1 + side * ULP * roundings) + side * TINIEST, 0.0))


def place_of_slope(curve: Curve, wanted: Array) -> Array:
    """Return about where f, which is not one of measured points, has a slope; NaN or infinite where it nowhere has."""
    with np.errstate(all="ignore"):
        if curve["form"] == "exponential":
            return np.asarray(np.log(curve["a"] * curve["k"] / wanted) / curve["k"])
        if curve["form"] == "power":
            part = curve["a"] * curve["alpha"] / wanted
            return np.asarray(part ** (1 / (curve["alpha"] + 1)) - curve["b"])
        return np.asarray(curve["b"] / wanted - 1 / curve["k"])

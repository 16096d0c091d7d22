"""The theorems of the ORRIC paper for a profile and a trace (Cai, Zhou, Huang, INFOCOM 2024).

They hold for window and decay memory as well, with ORRIC's adapted weights, and Theorems 2 and 4 for curves that
change with time, and for answers that count by their deadline; the proofs are in the documentation (background,
competitive ratios).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orric.allocators.base import Array, StreamTask
from orric.allocators.orric import profit_floor
from orric.configuration import undominated
from orric.exceptions import ScenarioError
from orric.objective import feasible, servable
from orric.profile import Profile
from orric.slot_model import profits_in_time
from orric.trace import Trace


@dataclass(frozen=True)
class Bounds:
    """Proved bounds on competitive ratios, and what they were computed from.

    F is the accuracy that stands for f(A^T_max): the profile's `best_accuracy`. Minima and maxima of profits are
    taken after dominated configurations are removed.

    Where answers count by their deadline, A^I_min and A^I_max are those of a_t(i, j) = A^I_j q_t(i, j): the floor of
    `orric.allocators.orric.profit_floor`, and the most that any pair that fits is worth in any slot. All bounds are
    then those of the most right answers in time, Theorem 2 and the horizons of an Inference-Only that is told q, too.

    Attributes:
        theorem2: CR(Inference-Only) >= f(0) / F.
        theorem3: No tight CR of Inference-Only on T slots of equal requests exceeds
            T f(0) / (f(0) + (T - 1) f(A^T_max)).
        theorem4: CR(ORRIC) >= (1 + alpha) f(0) / F.
        theorem4_published: CR(ORRIC) >= 1 / (F / f(0) - alpha), which is never above `theorem4`.
        chord: CR(orric-chord) >= (1 + alpha) s / F, with s the profile's `start_accuracy`, or f(0) where none is told.
        corollary1_slots: ORRIC's tight CR is strictly above Inference-Only's for T above
            (F - f(0)) / (alpha f(0)), by the published form of Theorem 4.
        crossing_slots: The same for T above (1 + alpha) (F - f(0)) / (alpha F), by its better form.
        separated_slots: T above which `theorem4` is strictly above Theorem 3's ceiling for the curve's own
            f(A^T_max); infinite where it never is. Equals `crossing_slots` where F = f(A^T_max).
        alpha: L A^T_max D_min^2 A^I_min / (F D_max^2 A^I_max).
        start_accuracy: f(0), the least over all curves in use.
        best_accuracy: F.
        curve_accuracy: f(A^T_max) by the curve itself, the largest over all curves in use.
        slope_floor: L.
        curve_slope: f'(A^T_max), the least over all curves in use.
        most_retraining_profit: A^T_max.
        least_inference_profit: A^I_min.
        most_inference_profit: A^I_max.
        least_requests: D_min, over the slots that have requests.
        most_requests: D_max.
        slots: T.
        least_shared_profit: What stands for A^I_min where the stream shares its budget with others: the least of any
            pair that fits. Equal to A^I_min where every answer counts.
        error: By how much the profits by which pairs are chosen may be off the true ones.
        lost: e, what that costs of every bound: they hold times 1 - e.
        doubts: What in the theorems does not apply as it stands, a sentence each; empty when all does.
        unproved: Of every attribute above that is then no bound, by its name, why. Its number is what the theorem would
            give if it applied.
    """

    theorem2: float
    theorem3: float
    theorem4: float
    theorem4_published: float
    chord: float
    corollary1_slots: float
    crossing_slots: float
    separated_slots: float
    alpha: float
    start_accuracy: float
    best_accuracy: float
    curve_accuracy: float
    slope_floor: float
    curve_slope: float
    most_retraining_profit: float
    least_inference_profit: float
    most_inference_profit: float
    least_requests: float
    most_requests: float
    slots: int
    least_shared_profit: float
    error: float
    lost: float
    doubts: tuple[str, ...]
    unproved: Mapping[str, str] = field(hash=False)


def bounds(profile: Profile, trace: Trace, in_time: Any = None, error: float = 0.0) -> Bounds:
    """Compute the proved bounds for a profile and a trace's range of requests and number of slots.

    Args:
        profile: Configurations, learning curve and memory.
        trace: Requests and budgets.
        in_time: Which part of the requests each pair answers by the deadline, as in `orric.evaluate`: then the bounds
            are about right answers in time.
        error: By how much the true parts may be off these, by which pairs are chosen, in [0, 1).

    Raises:
        ScenarioError: The in-time parts or the error cannot be used.

    >>> import orric
    >>> profile = orric.Profile.load("traces/profiles/cifar10c-fog.toml")
    >>> trace = orric.Trace(requests=[1000] * 50, budget_macs=[5e10] * 50)
    >>> proved = bounds(profile, trace)
    >>> proved.theorem2 < proved.theorem4 < 1
    True
    """
    most = undominated(profile.retraining)[-1].profit
    given = profile.curves_for(trace.corruption or [None] * trace.slots, trace.severity or [None] * trace.slots)
    curves = list({id(curve): curve for curve in given}.values())
    start = min(float(curve(0.0)) for curve in curves)
    top = max(float(curve(most)) for curve in curves)
    # The theorems need a floor under every slope up to A^T_max; a measured curve is flat beyond its last point,
    # so the slope that counts is the one seen from the left.
    slope = min(float(curve.slope_before(most)) for curve in curves)
    best, floor, slots = profile.best_accuracy, profile.slope_floor, trace.slots
    least_requests, most_requests = trace.least_requests, trace.most_requests
    earned = _Earned.of(profile, trace, in_time, error)
    alpha = _alpha(floor, most, least_requests, earned.least, best, most_requests, earned.most)
    # What errors cost comes off what retraining is proved to add.
    gain = (1 - earned.lost) * (1 + alpha) - 1
    rising = gain > 0
    lead = (1 + gain) * top - best
    separated = (1 + gain) * (top - start) / lead if lead > 0 and rising else float("inf")
    doubts = [*earned.doubts]
    if in_time is not None:
        doubts.append(
            Doubt(
                "Theorem 3 is about answers that are all in time, and so are the numbers of slots from which ORRIC is "
                "ahead",
                (*CEILING, *HORIZONS),
            )
        )
    if most > 0 and floor > slope * (1 + 1e-9):
        doubts.append(
            Doubt(
                f"Theorem 4 and Corollary 1 are not proved here: slope_floor (L) is {floor:g}, above f'(A^T_max) = "
                f"{slope:g} of the curve; set slope_floor to {slope:g} at most",
                (*GUARANTEE, *HORIZONS),
            )
        )
    if not trace.requests.all():
        doubts.append(
            Doubt(
                "Theorem 4 does not hold here: some slots have no requests, and ORRIC retrains for them nevertheless",
                (*GUARANTEE, *HORIZONS),
            )
        )
    if len(curves) > 1:
        doubts.append(
            Doubt(
                "Theorem 3 is about one curve: here it changes with time, and extremes over all curves are used",
                (*CEILING, *HORIZONS),
            )
        )
    if best > top * (1 + 1e-9):
        doubts.append(
            Doubt(
                f"Corollary 1's horizons take F = {best:g} for f(A^T_max), which is {top:g} by the curve; with both as "
                "they are, Theorem 4 passes Theorem 3 "
                + ("at no T" if separated == float("inf") else f"above T = {separated:,.1f}"),
                ("corollary1_slots", "crossing_slots"),
            )
        )
    return Bounds(
        theorem2=(1 - earned.lost) * start / best,
        theorem3=slots * start / (start + (slots - 1) * top),
        theorem4=(1 + gain) * start / best,
        theorem4_published=min((1 + gain) * start / best, 1 / (best / start - gain)),
        chord=(1 + gain) * (profile.start_accuracy or start) / best,
        corollary1_slots=(best - start) / (gain * start) if rising else float("inf"),
        separated_slots=separated,
        crossing_slots=(1 + gain) * (best - start) / (gain * best) if rising else float("inf"),
        alpha=alpha,
        start_accuracy=start,
        best_accuracy=best,
        curve_accuracy=top,
        slope_floor=floor,
        curve_slope=slope,
        most_retraining_profit=most,
        least_inference_profit=earned.least,
        most_inference_profit=earned.most,
        least_requests=least_requests,
        most_requests=most_requests,
        slots=slots,
        least_shared_profit=earned.least_shared,
        error=earned.error,
        lost=earned.lost,
        doubts=tuple(doubt.reason for doubt in doubts),
        unproved=_unproved(doubts),
    )


# What stands or falls together, by the names of `Bounds`.
GUARANTEE, CEILING = ("theorem4", "theorem4_published", "chord"), ("theorem3",)
HORIZONS = ("corollary1_slots", "crossing_slots", "separated_slots")


@dataclass(frozen=True)
class Doubt:
    """A condition that does not hold, and the attributes of `Bounds` that are no bounds without it."""

    reason: str
    about: tuple[str, ...]


def _unproved(doubts: Sequence[Doubt]) -> dict[str, str]:
    """Collect of every attribute in doubt all the reasons."""
    names = dict.fromkeys(name for doubt in doubts for name in doubt.about)
    return {name: "; ".join(doubt.reason for doubt in doubts if name in doubt.about) for name in names}


@dataclass(frozen=True)
class _Earned:
    """What an answer is worth, in the words of `Bounds`."""

    least: float
    most: float
    least_shared: float
    error: float
    lost: float
    doubts: tuple[Doubt, ...]

    @classmethod
    def of(cls, profile: Profile, trace: Trace, in_time: Any, error: float) -> _Earned:
        """Take from the configurations, or from the in-time parts, what the bounds need."""
        if not 0 <= error < 1:
            raise ScenarioError("bounds: error", f"found {error:g}", "give the error of in-time parts, in [0, 1)")
        stream = StreamTask.of(profile, trace.least_requests, trace.most_requests)
        least, most = stream.inference[0].profit, stream.inference[-1].profit
        if in_time is None:
            if error:
                raise ScenarioError("bounds: error", f"found {error:g} without in-time parts", "give in_time as well")
            return cls(least, most, least, 0.0, 0.0, _overload(stream, trace))
        _, offered = profits_in_time(stream, trace, in_time)
        off, every = error * most, offered[np.isfinite(offered)]
        best = float(np.nanmin(offered.max(axis=(1, 2))))
        # A choice by parts that are off is worth 2 W (error) less than the best, which is worth W a_t at least.
        lost = min(2 * off / (best - off), 1.0) if best > off else float(off > 0)
        least, shared = profit_floor(stream, offered, off), max(float(every.min()) - off, 0.0)
        return cls(least, min(float(every.max()) + off, most), shared, off, lost, _beside(offered))


def _beside(offered: Array) -> tuple[Doubt, ...]:
    """Doubt Theorem 2 where more is right and in time beside some retraining than beside none."""
    best = np.nan_to_num(offered.max(axis=2))
    slots = np.flatnonzero(best.max(axis=1) > best[:, 0]) + 1
    if not slots.size:
        return ()
    reason = f"Theorem 2 is not proved here: in {_named(slots)} more is in time beside retraining than without any"
    return (Doubt(reason, ("theorem2", *HORIZONS)),)


def _named(slots: Array) -> str:
    """Name slots in a few words."""
    return f"slot {slots[0]}" if len(slots) == 1 else f"{len(slots)} slots, the first of them slot {slots[0]},"


def _overload(stream: StreamTask, trace: Trace) -> tuple[Doubt, ...]:
    """Doubt Theorem 4 where a slot serves less than the proof counts on, A^I_min D_min."""
    blocked = ~feasible(trace.requests, 0.0, stream.cheapest_macs, trace.budget_macs)
    served = servable(trace.requests[blocked], stream.inference[0].cost_macs, trace.budget_macs[blocked])
    slots = np.flatnonzero(blocked)[served < stream.least_requests] + 1
    if not slots.size:
        return ()
    reason = (
        f"Theorem 4 is not proved here: {_named(slots)} cannot serve D_min = {stream.least_requests:g} requests; give "
        "in-time parts, which count what is shed"
    )
    return (Doubt(reason, (*GUARANTEE, *HORIZONS)),)


def _alpha(
    floor: float, most: float, least_requests: float, least: float, best: float, most_requests: float, largest: float
) -> float:
    """Return L A^T_max D_min^2 A^I_min / (F D_max^2 A^I_max), and 0 where no answer is ever in time."""
    if largest == 0:
        return 0.0
    return (floor * most * least_requests**2 * least) / (best * most_requests**2 * largest)


def joint_bound(streams: Sequence[Bounds], gap: float = 0.0) -> float:
    """Return what joint ORRIC reaches at least of the optimum of K streams that share their budgets.

    (1 - gap - e) (1 + alpha) min_k f_k(0) / F_k, where alpha is the mean of the streams' alpha_k, weighted by
    F_k A^I_max D_max, and e is what errors of in-time parts cost. For one stream whose answers all count it is
    Theorem 4; where they count by their deadline, alpha_k takes the least of any pair that fits. The proof is in the
    documentation (background, competitive ratios); it needs that streams stay on their GPUs in the optimum, too,
    requests in every slot, and budgets for the cheapest inference of all streams together.

    Args:
        streams: The bounds of every stream, of traces of the same number of slots.
        gap: The largest gap of any slot's decision, in [0, 1): (bound - value) / bound.

    Returns:
        A lower bound of the competitive ratio, in (0, 1].

    Raises:
        ScenarioError: There are no streams, their numbers of slots differ, the gap is not in [0, 1), or Theorem 4 does
            not apply to a stream by itself.
    """
    if not streams or len({one.slots for one in streams}) > 1:
        found = f"found {len(streams)} streams of {sorted({one.slots for one in streams})} slots"
        raise ScenarioError("joint_bound", found, "give streams of one number of slots")
    if not 0 <= gap < 1:
        raise ScenarioError("joint_bound: gap", f"found {gap:g}", "give a gap in [0, 1)")
    for number, one in enumerate(streams, start=1):
        if "theorem4" in one.unproved:
            raise ScenarioError(
                f"joint_bound: stream {number}", one.unproved["theorem4"], "nothing is proved of them all"
            )
    weights = [one.best_accuracy * one.most_inference_profit * one.most_requests for one in streams]
    alphas = [
        _alpha(
            one.slope_floor, one.most_retraining_profit, one.least_requests, one.least_shared_profit,
            one.best_accuracy, one.most_requests, one.most_inference_profit,
        )
        for one in streams
    ]  # fmt: skip
    total = sum(weights)
    alpha = sum(one * weight for one, weight in zip(alphas, weights, strict=True)) / total if total > 0 else 0.0
    # Where nothing is known to be in time, an error of the least size may cost everything.
    off = [(one.error, one.least_shared_profit) for one in streams if one.error]
    lost = max((2 * error / least if least > 0 else 1.0 for error, least in off), default=0.0)
    return max(1 - gap - lost, 0.0) * (1 + alpha) * min(one.start_accuracy / one.best_accuracy for one in streams)

"""The theorems of the ORRIC paper for a profile and a trace (Cai, Zhou, Huang, INFOCOM 2024).

They hold for window and decay memory as well, with ORRIC's adapted weights, and Theorems 2 and 4 for curves that
change with time; the proof is in the documentation (background, competitive ratios).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orric.configuration import undominated
from orric.exceptions import ScenarioError
from orric.learning import TimeVarying
from orric.profile import Profile
from orric.trace import Trace


@dataclass(frozen=True)
class Bounds:
    """Proved bounds on competitive ratios, and what they were computed from.

    F is the accuracy that stands for f(A^T_max): the profile's `best_accuracy`. Minima and maxima of profits are
    taken after dominated configurations are removed.

    Attributes:
        theorem2: CR(Inference-Only) >= f(0) / F.
        theorem3: No tight CR of Inference-Only on T slots of equal requests exceeds
            T f(0) / (f(0) + (T - 1) f(A^T_max)).
        theorem4: CR(ORRIC) >= (1 + alpha) f(0) / F.
        theorem4_published: CR(ORRIC) >= 1 / (F / f(0) - alpha), which is never above `theorem4`.
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
        doubts: What in the theorems does not apply as it stands, a sentence each; empty when all does.
    """

    theorem2: float
    theorem3: float
    theorem4: float
    theorem4_published: float
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
    doubts: tuple[str, ...]


def bounds(profile: Profile, trace: Trace) -> Bounds:
    """Compute the proved bounds for a profile and a trace's range of requests and number of slots.

    >>> import orric
    >>> profile = orric.Profile.load("traces/profiles/cifar10c-fog.toml")
    >>> trace = orric.Trace(requests=[1000] * 50, budget_macs=[5e10] * 50)
    >>> proved = bounds(profile, trace)
    >>> proved.theorem2 < proved.theorem4 < 1
    True
    """
    retraining, inference = undominated(profile.retraining), undominated(profile.inference)
    most = retraining[-1].profit
    given = profile.curves_for(trace.corruption or [None] * trace.slots, trace.severity or [None] * trace.slots)
    curves = list({id(curve): curve for curve in given}.values())
    start = min(float(curve(0.0)) for curve in curves)
    top = max(float(curve(most)) for curve in curves)
    # The theorems need a floor under every slope up to A^T_max; a measured curve is flat beyond its last point,
    # so the slope that counts is the one seen from the left.
    slope = min(float(curve.slope_before(most)) for curve in curves)
    best, floor, slots = profile.best_accuracy, profile.slope_floor, trace.slots
    least_requests, most_requests = trace.least_requests, trace.most_requests
    alpha = (floor * most * least_requests**2 * inference[0].profit) / (best * most_requests**2 * inference[-1].profit)
    rising = alpha > 0
    lead = (1 + alpha) * top - best
    separated = (1 + alpha) * (top - start) / lead if lead > 0 and rising else float("inf")
    doubts = []
    if most > 0 and floor > slope * (1 + 1e-9):
        doubts.append(
            f"Theorem 4 and Corollary 1 are not proved here: slope_floor (L) is {floor:g}, above f'(A^T_max) = "
            f"{slope:g} of the curve; set slope_floor to {slope:g} at most"
        )
    if not trace.requests.all():
        doubts.append(
            "Theorem 4 does not hold here: some slots have no requests, and ORRIC retrains for them nevertheless"
        )
    if len(curves) > 1 or isinstance(profile.curve, TimeVarying):
        doubts.append("Theorem 3 is about one curve: here it changes with time, and extremes over all curves are used")
    if best > top * (1 + 1e-9):
        doubts.append(
            f"Corollary 1's horizons take F = {best:g} for f(A^T_max), which is {top:g} by the curve; with both as "
            "they are, Theorem 4 passes Theorem 3 "
            + ("at no T" if separated == float("inf") else f"above T = {separated:,.1f}")
        )
    return Bounds(
        theorem2=start / best,
        theorem3=slots * start / (start + (slots - 1) * top),
        theorem4=(1 + alpha) * start / best,
        theorem4_published=1 / (best / start - alpha),
        corollary1_slots=(best - start) / (alpha * start) if rising else float("inf"),
        separated_slots=separated,
        crossing_slots=(1 + alpha) * (best - start) / (alpha * best) if rising else float("inf"),
        alpha=alpha,
        start_accuracy=start,
        best_accuracy=best,
        curve_accuracy=top,
        slope_floor=floor,
        curve_slope=slope,
        most_retraining_profit=most,
        least_inference_profit=inference[0].profit,
        most_inference_profit=inference[-1].profit,
        least_requests=least_requests,
        most_requests=most_requests,
        slots=slots,
        doubts=tuple(doubts),
    )


def joint_bound(streams: Sequence[Bounds], gap: float = 0.0) -> float:
    """Return what joint ORRIC reaches at least of the optimum of K streams that share their budgets.

    (1 - gap) (1 + alpha) min_k f_k(0) / F_k, where alpha is the mean of the streams' alpha_k, weighted by
    F_k A^I_max D_max. For one stream it is Theorem 4. The proof is in the documentation (background, competitive
    ratios); it needs that streams stay on their GPUs in the optimum, too, and requests in every slot.

    Args:
        streams: The bounds of every stream, of traces of the same number of slots.
        gap: The largest gap of any slot's decision, in [0, 1): (bound - value) / bound.

    Returns:
        A lower bound of the competitive ratio, in (0, 1].

    Raises:
        ScenarioError: There are no streams, their numbers of slots differ, or the gap is not in [0, 1).
    """
    if not streams or len({one.slots for one in streams}) > 1:
        found = f"found {len(streams)} streams of {sorted({one.slots for one in streams})} slots"
        raise ScenarioError("joint_bound", found, "give streams of one number of slots")
    if not 0 <= gap < 1:
        raise ScenarioError("joint_bound: gap", f"found {gap:g}", "give a gap in [0, 1)")
    weights = [one.best_accuracy * one.most_inference_profit * one.most_requests for one in streams]
    alpha = sum(one.alpha * weight for one, weight in zip(streams, weights, strict=True)) / sum(weights)
    return (1 - gap) * (1 + alpha) * min(one.theorem2 for one in streams)

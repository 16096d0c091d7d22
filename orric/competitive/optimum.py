"""The offline optimum of (P) as an interval [lower, upper] that can be re-verified."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from orric.competitive.certificate import Certificate
from orric.competitive.problem import OfflineProblem, Overload
from orric.competitive.window import price_bound
from orric.exceptions import ScenarioError, extra
from orric.learning import Exponential, LearningCurve, LearningExtent, Tabulated
from orric.profile import Profile
from orric.trace import Trace

with extra("sim"):
    from orric.competitive import relaxation, states

Array = np.ndarray[Any, Any]

# Points of the upper bound kept at once, 16 bytes each and as much again while refining.
MOST_POINTS, MOST_POINTS_PER_SLOT = 2**24, 64
# No interval can be narrower than what rounding costs.
FINEST_GAP = 1e-10
# What the tolerances of the first level allow together, relative to the value.
COARSEST = 1e-2
# By how much they become smaller at most from level to level.
LARGEST_STEP = 1 / 8
# Pieces of a curve's upper bound: with how many to begin, and where to stop.
FEWEST_CELLS, MOST_NODES = 2**8, 2**20


@dataclass(frozen=True, eq=False)
class OfflineOptimum:
    """An interval around the optimum of (P), and the allocations that attain its lower end.

    Attributes:
        lower: Value of `allocations`, rounded down; in correct requests.
        upper: No allocations are worth more; rounded up.
        allocations: One {"slot", "stream", "retraining", "inference"} per slot.
        correct: What each slot of `allocations` earns, shape (T,).
        seconds: Time taken to solve, compilation excluded.
        reason: Why the asked gap was not met; empty when it was.
        certificate: All that is needed to verify the interval anew.
    """

    lower: float
    upper: float
    allocations: list[dict[str, Any]]
    correct: Array
    seconds: float
    reason: str
    certificate: Certificate

    @property
    def gap(self) -> float:
        """(upper - lower) / upper, and 0 where nothing can be earned."""
        return _relative(self.lower, self.upper)


def offline_optimum(
    profile: Profile, trace: Trace, gap: float = 1e-4, *, overload: Overload = "error", in_time: Any = None
) -> OfflineOptimum:
    """Enclose the optimum of (P) for a known learning curve.

    The lower end is attained by allocations found by a beam search along the upper bound; the upper end is a
    relaxation refined around the paths that still promise more than the lower end (see `relaxation`). Under
    window memory both ends are the optimum but for rounding, found over all states (see `states`), as long as there are
    few enough of them; for wider windows the upper end is a Lagrangian bound and may stay looser than asked, and
    `reason` then says so.

    Args:
        profile: Configurations, learning curve and memory.
        trace: Requests and budgets.
        gap: Relative width of the interval at which to stop.
        overload: What becomes of a slot in which no pair fits, as in `orric.evaluate`.
        in_time: Which part of the requests each pair answers by the deadline, as there: then late answers do not count.

    Raises:
        BudgetError: No pair fits the budget of a slot, and `overload` is "error".
        ScenarioError: The gap is not in [0, 1), or the in-time parts cannot be used.
        MissingExtraError: numba is not installed.

    >>> import orric
    >>> profile = orric.Profile.load("traces/profiles/cifar10c-fog.toml")
    >>> trace = orric.Trace(requests=[1000, 1000], budget_macs=[8.636e10, 7.94e9])
    >>> best = orric.offline_optimum(profile, trace, gap=1e-6)
    >>> best.lower <= orric.evaluate(profile, trace, orric.Orric()).value <= best.upper, best.gap < 1e-6
    (True, True)
    """
    if not 0 <= gap < 1:
        raise ScenarioError("gap", f"found {gap:g}", "give a relative width from 0 to below 1, say 1e-4")
    _warm_up()
    begun = time.perf_counter()
    problem = OfflineProblem.of(profile, trace, overload, in_time)
    if problem.memory.kind == "window" and states.affordable(problem):
        upper, chosen = states.best_of_states(problem)
        lower, evidence = problem.value(chosen), {"states": np.array(problem.memory.slots)}
        reason = "rounding is all that is left"
    elif problem.memory.kind == "window":
        # The checker evaluates the bound without tables, so theirs must be close to it.
        tables = curve_tables(problem.curves, float(problem.gains.max()), min(max(gap, 1e-8), 1e-6))
        lower, chosen, upper, evidence, reason = price_bound(problem, gap, tables)
    else:
        lower, chosen, upper, evidence, reason = _refined(problem, gap)
    upper = max(upper, lower)
    seconds = time.perf_counter() - begun
    allocations = problem.allocations(chosen)
    return OfflineOptimum(
        lower=lower,
        upper=upper,
        allocations=allocations,
        correct=problem.correct(chosen),
        seconds=seconds,
        reason=reason if _relative(lower, upper) > gap else "",
        certificate=Certificate.of(problem, allocations, lower, upper, evidence),
    )


def _relative(lower: float, upper: float) -> float:
    """Return the width of an interval relative to its upper end; where nothing can be earned it is 0."""
    return (upper - lower) / upper if upper > 0 else 0.0


def _refined(problem: OfflineProblem, gap: float) -> tuple[float, Array, float, dict[str, Array], str]:
    """Tighten a relaxation level by level until the gap is met."""
    slots = len(problem.counts)
    keep, weight = problem.transition()
    low, high = problem.reach(keep, weight)
    most = float(problem.gains.max())
    tables = curve_tables(problem.curves, most, gap)
    steps = (keep, weight, problem.gains, problem.rewards, problem.counts, *tables)
    lower, upper, chosen = -math.inf, math.inf, np.zeros(slots, np.int64)
    evidence: dict[str, Array] = {}
    # The first level is one piece per slot; tolerances are relative to the whole value, shared by the slots.
    starts, extents = np.arange(slots + 1) * 2, np.stack([low, high], axis=1).ravel()
    begins, _, accuracies, _, which = tables
    scale = float((problem.rewards[:, 0] * accuracies[begins[which + 1] - 1]).sum())
    capacity = max(MOST_POINTS, MOST_POINTS_PER_SLOT * slots)
    spread, met = max(gap, COARSEST), math.inf
    finest = max(gap, FINEST_GAP) / 64
    tolerance = np.full(2 * slots, spread * scale / slots)
    telling, width, step = True, math.inf, 1.0
    while True:
        finer = relaxation.bound_backward(low, high, *steps, most, starts, extents, tolerance, False, capacity)
        if finer[0][0] < 0:
            # Between what had too many points and the level before it, as long as that is worth another.
            spread = 4 * spread if met == math.inf else math.sqrt(spread * met)
            if met < math.inf and spread > 0.8 * met:
                return lower, chosen, upper, evidence, f"more than {capacity:,} points would be needed"
            np.maximum(tolerance, spread * (scale if met == math.inf else lower) / slots, out=tolerance)
            continue
        del tolerance  # as large as what is kept
        starts, extents, bounds = finer
        met, promised = spread, float(bounds[0])
        path = relaxation.best_path(*steps, starts, extents, bounds, 8)
        value = problem.value(path)
        if value > lower:
            lower, chosen = value, path
        if promised < upper:
            upper, evidence = promised, {"starts": starts, "extents": extents, "bounds": bounds}
        before, width = width, _relative(lower, upper)
        if width <= gap:
            return lower, chosen, upper, evidence, ""
        # What it is off by falls faster than the tolerances, except where it is something else.
        stalled = width > before * math.sqrt(step)
        if width <= FINEST_GAP or (not telling and spread <= finest) or (stalled and width < 10 * FINEST_GAP):
            return lower, chosen, upper, evidence, f"rounding and the best path found leave {width:.1e}"
        if telling and (stalled or spread <= finest):
            # Estimates of losses that tell too much leave the best paths loose: the same once more without them.
            telling, step = False, 1.0
            tolerance = np.full(len(extents), spread * max(lower, FINEST_GAP * scale) / slots)
            continue
        # The whole is off by some tenth of what the tolerances allow together, and the part falls as they do.
        step = LARGEST_STEP if stalled else min(max(0.8 * (gap / width) ** (2 / 3), LARGEST_STEP), 0.8)
        spread = max(spread * step, finest)
        if not telling:
            tolerance = np.full(len(extents), spread * max(lower, FINEST_GAP * scale) / slots)
            continue
        # A path that has already lost more than the gap can hide may be bounded that much more loosely.
        tolerance = relaxation.losses_forward(low, high, *steps, starts, extents, bounds)
        np.minimum(tolerance, scale, out=tolerance)
        tolerance -= max(promised - lower / (1 - gap), 0.0)
        np.maximum(tolerance, spread * max(lower, FINEST_GAP * scale), out=tolerance)
        tolerance /= slots


def curve_tables(curves: Sequence[LearningCurve], most: float, gap: float) -> relaxation.Tables:
    """Bound every distinct curve from above by a concave, piecewise linear function.

    Args:
        curves: One per slot.
        most: A^T_max, where the tables end.
        gap: Relative width of the interval they are meant for.

    Returns:
        Where each table begins, shape (curves + 1,), extents, accuracies and slopes (towards the next one) of the
        points, flat, and which table each slot uses, shape (T,).
    """
    distinct = {id(curve): curve for curve in curves}
    place = {key: n for n, key in enumerate(distinct)}
    tables = []
    for curve in distinct.values():
        hair = relaxation.ROUNDING / 4 * curve.magnitude(most)
        x, y, slopes = _table(curve, most, max(gap, FINEST_GAP) / 20, hair)
        tables.append((x, y * (1 + 2.0**-45) + hair, slopes))
    starts = np.cumsum([0, *(len(x) for x, _, _ in tables)])
    x, y, slopes = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    return starts, x, y, slopes, np.array([place[id(curve)] for curve in curves])


def _table(curve: LearningCurve, most: float, error: float, hair: float) -> tuple[Array, Array, Array]:
    """Return points whose lines run above a curve by a relative error at most: its own, or its tangents' crossings.

    Args:
        curve: A concave curve.
        most: Where the points end.
        error: How far they may be off, relative to the curve.
        hair: What rounding puts them off anyway.

    Returns:
        Extents, accuracies, and the slope from each point to the next.
    """
    if most == 0:
        return np.zeros(1), np.atleast_1d(np.asarray(curve(0.0), float)), np.zeros(1)
    if isinstance(curve, Tabulated):
        knots = np.array([x for x in curve.x if x < most] + [most])
        return knots, np.asarray(curve(knots), float), np.asarray(curve.slope(knots), float)
    # Learning curves bend most at the start.
    nodes = most * (np.arange(FEWEST_CELLS + 1) / FEWEST_CELLS) ** 2
    while True:
        values = np.asarray(curve(nodes), float)
        slopes = np.broadcast_to(np.asarray(curve.slope(nodes), float), nodes.shape)
        width, rise, bend = np.diff(nodes), np.diff(values), slopes[:-1] - slopes[1:]
        # Where rounding hides the bend, the middle serves: both tangents are above the curve there.
        visible = bend * width > np.maximum(1e-9 * slopes[:-1] * width, hair)
        part = np.divide(rise - slopes[1:] * width, bend * width, out=np.full(len(width), 0.5), where=visible)
        crossing = np.clip(part, 0.01, 0.99) * width
        above = np.maximum(values[:-1] + slopes[:-1] * crossing, values[1:] - slopes[1:] * (width - crossing))
        chord = values[:-1] + rise * crossing / width
        rough = above - chord > error * chord + hair
        if not rough.any() or len(nodes) > MOST_NODES:
            x = np.concatenate([[0.0], nodes[:-1] + crossing, [most]])
            return x, np.concatenate([values[:1], above, values[-1:]]), np.append(slopes, slopes[-1])
        nodes = np.sort(np.concatenate([nodes, (nodes[:-1] + width / 2)[rough]]))


@lru_cache(maxsize=1)
def _warm_up() -> None:
    """Compile on a small instance, so that no caller's time counts compilation."""
    from orric.configuration import InferenceConfiguration, RetrainingConfiguration

    profile = Profile(
        name="warm-up",
        best_accuracy=0.9,
        slope_floor=1e-3,
        retraining=(
            RetrainingConfiguration(name="none", profit=0.0, cost_macs=0.0),
            RetrainingConfiguration(name="all", profit=1.0, cost_macs=1.0),
        ),
        inference=(
            InferenceConfiguration(name="small", profit=0.5, cost_macs=1.0),
            InferenceConfiguration(name="large", profit=1.0, cost_macs=2.0),
        ),
        curve=Exponential(c=0.9, a=0.4, k=3.0),
        memory=LearningExtent(),
    )
    problem = OfflineProblem.of(profile, Trace(requests=np.ones(9), budget_macs=np.full(9, 2.0)))
    # So small a gap takes every one of the compiled functions.
    _refined(problem, 1e-9)
    price_bound(problem, 0.5, curve_tables(problem.curves, 1.0, 0.5))
    remembering = profile.model_copy(update={"memory": LearningExtent(kind="window", slots=1)})
    states.best_of_states(OfflineProblem.of(remembering, problem.trace))

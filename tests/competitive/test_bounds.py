"""The theorems' bounds and what they are computed from, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import orric
from orric.by_drift import DriftCurve
from orric.learning import LearningExtent, TimeVarying

from ..builders import build_profile

RETRAINING = ((0.0, 0.0), (0.5, 2.0))
# The second one is dearer than the first and worse.
INFERENCE = ((0.5, 1.0), (0.3, 2.0), (1.0, 3.0))
CURVE = orric.Tabulated(x=(0.0, 0.25, 0.5), y=(0.4, 0.6, 0.7))
OTHER = orric.Tabulated(x=(0.0, 0.5), y=(0.3, 0.75))


def profile_of(**changes: Any) -> orric.Profile:
    """Return a profile for which all bounds are short fractions."""
    values = {"curve": CURVE, "best_accuracy": 0.7, "slope_floor": 0.4, **changes}
    return build_profile(RETRAINING, INFERENCE, **values)


def trace_of(*requests: float, **columns: Any) -> orric.Trace:
    """Return a trace with ample budgets."""
    return orric.Trace(requests=requests, budget_macs=[1e4] * len(requests), **columns)


def test_every_field_by_hand() -> None:
    found = orric.bounds(profile_of(best_accuracy=0.8), trace_of(100, 200, 150))
    # alpha = 0.4 x 0.5 x 100^2 x 0.5 / (0.8 x 200^2 x 1)
    assert found.alpha == pytest.approx(1 / 32, rel=1e-14)
    assert found.theorem2 == pytest.approx(0.4 / 0.8, rel=1e-14)
    assert found.theorem3 == pytest.approx(3 * 0.4 / (0.4 + 2 * 0.7), rel=1e-14)
    assert found.theorem4 == pytest.approx(33 / 32 * 0.5, rel=1e-14)
    assert found.theorem4_published == pytest.approx(32 / 63, rel=1e-14)
    assert found.corollary1_slots == pytest.approx(32, rel=1e-14)
    assert found.crossing_slots == pytest.approx(16.5, rel=1e-14)
    assert found.separated_slots == float("inf")
    assert (found.start_accuracy, found.best_accuracy, found.curve_accuracy) == (0.4, 0.8, 0.7)
    assert found.slope_floor == 0.4
    assert found.curve_slope == pytest.approx(0.4, rel=1e-14)
    assert found.most_retraining_profit == 0.5
    assert (found.least_inference_profit, found.most_inference_profit) == (0.5, 1.0)
    assert (found.least_requests, found.most_requests, found.slots) == (100, 200, 3)


def test_a_dominated_configuration_does_not_lower_the_least_profit() -> None:
    with_dominated = orric.bounds(profile_of(), trace_of(100, 200))
    without = orric.bounds(build_profile(RETRAINING, INFERENCE[::2], **_figures()), trace_of(100, 200))
    assert with_dominated == without
    # As dear as the best and no better is dominated, too; dearer and better is not.
    other = orric.bounds(build_profile(RETRAINING, ((0.2, 3.0), (1.0, 3.0)), **_figures()), trace_of(100, 200))
    assert other.least_inference_profit == 1.0
    cheaper = orric.bounds(build_profile(RETRAINING, ((0.2, 2.9), (1.0, 3.0)), **_figures()), trace_of(100, 200))
    assert cheaper.least_inference_profit == 0.2


def _figures() -> dict[str, Any]:
    return {"curve": CURVE, "best_accuracy": 0.7, "slope_floor": 0.4}


def test_nothing_is_doubted_where_all_assumptions_hold() -> None:
    assert orric.bounds(profile_of(), trace_of(100, 200)).doubts == ()


def test_slots_without_requests_do_not_count_for_the_least_and_are_doubted() -> None:
    busy, idle = (orric.bounds(profile_of(), trace_of(100, *more, 200)) for more in ((150,), (0,)))
    assert idle.least_requests == 100
    assert (idle.alpha, idle.theorem4) == (busy.alpha, busy.theorem4)
    (doubt,) = idle.doubts
    assert "no requests" in doubt
    assert "Theorem 4 does not hold" in doubt


def test_a_floor_above_the_slope_is_doubted_with_both_numbers() -> None:
    (doubt,) = orric.bounds(profile_of(slope_floor=0.45), trace_of(100)).doubts
    assert "slope_floor (L) is 0.45" in doubt
    assert "f'(A^T_max) = 0.4 " in doubt
    assert "set slope_floor to 0.4 at most" in doubt
    assert "Theorem 4 and Corollary 1" in doubt


def test_a_floor_equal_to_the_slope_is_not_doubted() -> None:
    slope = float(CURVE.slope_before(0.5))
    assert orric.bounds(profile_of(slope_floor=slope), trace_of(100)).doubts == ()


def test_the_slope_of_measured_points_is_the_one_before_the_last() -> None:
    """Beyond its last point a measured curve is flat, which says nothing about learning up to there."""
    assert float(CURVE.slope(0.5)) == 0.0
    assert orric.bounds(profile_of(), trace_of(100)).curve_slope == pytest.approx(0.4, rel=1e-14)
    # Where the points end before A^T_max, f is flat there.
    short = profile_of(curve=orric.Tabulated(x=(0.0, 0.4), y=(0.4, 0.7)))
    found = orric.bounds(short, trace_of(100))
    assert found.curve_slope == 0.0
    assert "set slope_floor to 0 at most" in found.doubts[0]


@pytest.mark.parametrize(
    "curve",
    [
        orric.Exponential(c=0.75, a=0.35, k=3.0),
        orric.Logarithmic(a=0.4, b=0.1, k=8.0),
        orric.Power(c=0.9, a=0.3, b=0.6, alpha=1.0),
    ],
    ids=lambda curve: curve.form,
)
def test_every_form_gives_its_own_start_top_and_slope(curve: orric.LearningCurve) -> None:
    found = orric.bounds(profile_of(curve=curve, best_accuracy=0.9, slope_floor=0.01), trace_of(100))
    assert found.start_accuracy == float(curve(0.0))
    assert found.curve_accuracy == float(curve(0.5))
    assert found.curve_slope == pytest.approx((float(curve(0.5 + 1e-6)) - float(curve(0.5 - 1e-6))) / 2e-6, rel=1e-6)


def test_curves_that_change_with_time_give_their_extremes() -> None:
    profile = profile_of(curve=TimeVarying(starts=(1, 3), curves=(CURVE, OTHER)), best_accuracy=0.75)
    found = orric.bounds(profile, trace_of(100, 100, 100))
    assert (found.start_accuracy, found.curve_accuracy) == (0.3, 0.75)
    # The second one rises by 0.9 per profit.
    assert found.curve_slope == pytest.approx(0.4, rel=1e-14)
    (doubt,) = found.doubts
    assert "changes with time" in doubt
    assert "Theorem 3" in doubt
    # In two slots the second curve never holds.
    early = orric.bounds(profile, trace_of(100, 100))
    assert (early.start_accuracy, early.curve_accuracy) == (0.4, 0.7)


def test_curves_under_drift_are_those_of_the_trace() -> None:
    fog = DriftCurve(corruption="fog", severity=3, curve=OTHER)
    profile = profile_of(drift_curve=(fog,), best_accuracy=0.75)
    drifting = {"corruption": ("none", "fog"), "severity": (0, 3)}
    found = orric.bounds(profile, trace_of(100, 100, **drifting))
    assert (found.start_accuracy, found.curve_accuracy) == (0.3, 0.75)
    assert any("changes with time" in doubt for doubt in found.doubts)
    clean = orric.bounds(profile, trace_of(100, 100))
    assert (clean.start_accuracy, clean.curve_accuracy) == (0.4, 0.7)
    foggy = orric.bounds(profile, trace_of(100, corruption=("fog",), severity=(3,)))
    assert (foggy.start_accuracy, foggy.curve_accuracy) == (0.3, 0.75)
    assert foggy.curve_slope == pytest.approx(0.9, rel=1e-14)
    assert foggy.doubts == ()


@pytest.mark.parametrize(
    "memory", [LearningExtent(kind="window", slots=2), LearningExtent(kind="decay", factor=0.5)], ids=str
)
def test_bounds_are_the_same_for_every_memory(memory: LearningExtent) -> None:
    """ORRIC's adapted weights carry the proof over, so nothing is doubted."""
    trace = trace_of(100, 200, 150)
    assert orric.bounds(profile_of(memory=memory), trace) == orric.bounds(profile_of(), trace)


def test_without_anything_to_retrain_no_horizon_separates() -> None:
    profile = build_profile(((0.0, 0.0),), INFERENCE, curve=CURVE, best_accuracy=0.4, slope_floor=0.4)
    found = orric.bounds(profile, trace_of(100, 200))
    assert found.alpha == 0.0
    assert found.corollary1_slots == found.crossing_slots == found.separated_slots == float("inf")
    assert found.theorem2 == found.theorem3 == found.theorem4 == found.theorem4_published == 1.0
    assert found.doubts == ()


def test_horizons_coincide_where_the_best_accuracy_is_the_curves_own() -> None:
    found = orric.bounds(profile_of(), trace_of(100, 200))
    # alpha = 1 / 28: 29 / 28 x 0.3 / (1 / 28 x 0.7)
    assert found.crossing_slots == pytest.approx(29 * 0.3 / 0.7, rel=1e-12)
    assert found.separated_slots == pytest.approx(found.crossing_slots, rel=1e-12)


def test_a_best_accuracy_above_the_curves_own_moves_the_horizon() -> None:
    profile = profile_of(best_accuracy=0.71)
    found = orric.bounds(profile, trace_of(100, 200))
    # alpha = 1 / 28.4, so (1 + alpha) 0.7 - 0.71 = 0.416 / 28.4 and (29.4 / 28.4) 0.3 over it is 8.82 / 0.416.
    assert found.separated_slots == pytest.approx(8.82 / 0.416, rel=1e-12)
    assert found.separated_slots > found.crossing_slots
    (doubt,) = found.doubts
    assert "F = 0.71" in doubt
    assert "0.7 by the curve" in doubt
    assert "above T = 21.2" in doubt
    for slots in range(2, 60):
        longer = orric.bounds(profile, trace_of(100, *[200] * (slots - 1)))
        assert (longer.theorem4 > longer.theorem3) == (slots > found.separated_slots)


def test_a_best_accuracy_far_above_the_curves_own_never_separates() -> None:
    found = orric.bounds(profile_of(best_accuracy=0.8), trace_of(100, 200))
    assert found.separated_slots == float("inf")
    (doubt,) = found.doubts
    assert "at no T" in doubt
    longer = orric.bounds(profile_of(best_accuracy=0.8), trace_of(100, *[200] * 9999))
    assert longer.theorem4 < longer.theorem3


def test_every_doubt_is_said() -> None:
    profile = profile_of(curve=TimeVarying(starts=(1, 2), curves=(CURVE, OTHER)), best_accuracy=0.8, slope_floor=0.5)
    assert len(orric.bounds(profile, trace_of(100, 0)).doubts) == 4


GUARANTEE, HORIZONS = (
    {"theorem4", "theorem4_published", "chord"},
    {"corollary1_slots", "crossing_slots", "separated_slots"},
)


def overloaded() -> tuple[orric.Profile, orric.Trace]:
    """Return an instance on which ORRIC earns less than Theorem 4 would promise: slot 2 serves nobody."""
    line = orric.Tabulated(x=(0.0, 1.0), y=(0.45, 0.9))
    profile = build_profile(
        ((0.0, 0.0), (1.0, 1.0)), ((0.51, 1.0), (1.0, 2.0)), curve=line, best_accuracy=0.9, slope_floor=0.44999
    )
    return profile, orric.Trace(requests=[10, 10], budget_macs=[20, 0])


@pytest.mark.parametrize(
    ("profile", "trace", "unproved", "reason"),
    [
        (profile_of(), trace_of(100, 200), set(), ""),
        (profile_of(), trace_of(100, 0), GUARANTEE | HORIZONS, "no requests"),
        (*overloaded(), GUARANTEE | HORIZONS, "slot 2 cannot serve D_min = 10 requests"),
        (profile_of(slope_floor=0.45), trace_of(100), GUARANTEE | HORIZONS, "set slope_floor to 0.4 at most"),
        (profile_of(best_accuracy=0.8), trace_of(100), {"corollary1_slots", "crossing_slots"}, "at no T"),
        (
            profile_of(curve=TimeVarying(starts=(1, 2), curves=(CURVE, OTHER)), best_accuracy=0.75),
            trace_of(100, 100),
            {"theorem3"} | HORIZONS,
            "changes with time",
        ),
    ],
    ids=["all hold", "no requests", "overloaded", "floor too high", "best too high", "changes with time"],
)
def test_what_a_doubt_is_about_is_named(
    profile: orric.Profile, trace: orric.Trace, unproved: set[str], reason: str
) -> None:
    found = orric.bounds(profile, trace)
    assert set(found.unproved) == unproved
    assert all(reason in why for why in found.unproved.values())
    if "theorem4" in unproved:
        with pytest.raises(orric.ScenarioError, match="joint_bound: stream 2: Theorem 4"):
            orric.joint_bound([orric.bounds(profile_of(), trace_of(*[100] * trace.slots)), found])


def test_several_doubts_about_one_bound_are_all_given() -> None:
    found = orric.bounds(profile_of(slope_floor=0.45), trace_of(100, 0))
    assert found.unproved["theorem4"] == "; ".join(found.doubts)


def test_bounds_that_are_not_doubted_hold_where_requests_are_shed() -> None:
    """Overloaded and empty slots at random: what is not doubted holds, and some of what is doubted does not."""
    rng = np.random.default_rng(3)
    broken = held = 0
    for _ in range(400):
        profile = overloaded()[0].model_copy(update={"slope_floor": float(rng.choice([0.3, 0.44999]))})
        # From all alike to one or none, and from nothing to the dearest pair.
        requests = np.append(10, rng.choice([(10, 10), (5, 10), (0, 10)][rng.integers(3)], rng.integers(1, 4)))
        trace = orric.Trace(requests=requests, budget_macs=rng.choice([0, 5, 10, 20, 30], len(requests)))
        best = orric.exact_optimum(profile, trace, overload="shed")[0]
        for allocator, name in ((orric.Orric(), "theorem4"), (orric.InferenceOnly(), "theorem2")):
            value = orric.evaluate(profile, trace, allocator, overload="shed").value
            proved = orric.bounds(profile, trace)
            kept = value >= getattr(proved, name) * best * (1 - 1e-12)
            if name in proved.unproved:
                broken += not kept
            else:
                assert kept
                held += value < best
    assert broken > 0 < held

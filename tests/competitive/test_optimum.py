"""The offline optimum lies in the interval, the interval is as narrow as asked, and its lower end is attained."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import numpy as np
import pytest

import orric
from orric.by_drift import DriftCurve
from orric.competitive import exact, optimum, relaxation, states, window
from orric.competitive.optimum import curve_tables
from orric.competitive.problem import OfflineProblem
from orric.learning import LearningCurve, LearningExtent
from orric.section import Positive, Real

from ..builders import build_profile, random_trace
from .instances import FORMS, MEMORIES, Instance, brute_force, envelope_gap, random_curve, random_instance

GAPS = (1e-3, 1e-5, 1e-7)
CHUNK = 70
STEEP = orric.Exponential(c=0.9, a=0.8, k=4000.0)


class Scripted(orric.Allocator):
    """Follow allocations given beforehand."""

    name = "scripted"

    def __init__(self, allocations: list[dict[str, Any]]) -> None:
        self.allocations = allocations

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        chosen = self.allocations[slot.index - 1]
        return orric.Allocation((orric.StreamAllocation(chosen["retraining"], chosen["inference"]),))


def check_interval(
    instance: Instance, gap: float, *, overload: Literal["error", "shed"] = "error"
) -> orric.OfflineOptimum:
    """Solve; hold the interval against the exact optimum, and its lower end against the slot model."""
    value, _ = orric.exact_optimum(*instance, overload=overload)
    best = orric.offline_optimum(*instance, gap, overload=overload)
    assert best.lower <= value <= best.upper
    followed = orric.evaluate(*instance, Scripted(best.allocations), overload=overload)
    assert followed.value == pytest.approx(best.lower, rel=1e-9)
    np.testing.assert_allclose(best.correct, followed.columns["correct"], rtol=1e-12)
    assert bool(best.reason) == (best.gap > gap)
    return best


@pytest.mark.parametrize("memory", ["uniform", "decay"])
@pytest.mark.parametrize("first", range(0, 980, CHUNK))
def test_interval_holds_the_optimum_and_is_as_narrow_as_asked(first: int, memory: str) -> None:
    for seed in range(first, first + CHUNK):
        best = check_interval(random_instance(seed, memory, compete=seed % 2 == 0), GAPS[seed % 3])
        assert not best.reason, seed


@pytest.mark.parametrize("first", range(0, 210, CHUNK))
def test_interval_holds_the_optimum_under_window_memory(first: int) -> None:
    for seed in range(first, first + CHUNK):
        instance = random_instance(seed, "window", compete=seed % 2 == 0, slots=6, choices=4)
        assert not check_interval(instance, GAPS[seed % 3]).reason, seed


@pytest.mark.parametrize(("memory", "share"), [("uniform", 0.35), ("decay", 0.6)])
def test_competing_instances_are_beyond_a_plain_concave_envelope(memory: str, share: float) -> None:
    """Under uniform memory 42 % of them leave it more than 1e-3 loose, under decay 73 %; of the others none."""
    loose = [envelope_gap(*random_instance(seed, memory, compete=True)) > 1e-3 for seed in range(100)]
    assert np.mean(loose) >= share
    plain = [envelope_gap(*random_instance(seed, memory)) > 1e-3 for seed in range(100)]
    assert np.mean(plain) <= 0.02


def test_instances_are_of_every_kind() -> None:
    instances = [random_instance(seed, memory) for seed in range(50) for memory in MEMORIES]
    assert {profile.curve.form for profile, _ in instances} == set(FORMS)
    assert {len(profile.retraining) for profile, _ in instances} == {1, 2, 3, 4, 5}
    assert {len(profile.inference) for profile, _ in instances} == {1, 2, 3, 4, 5}
    assert {trace.slots for _, trace in instances} == set(range(1, 9))
    assert any(not trace.requests.all() for _, trace in instances)
    costs = [
        (profile.retraining[-1].cost_macs + profile.inference[-1].cost_macs, trace) for profile, trace in instances
    ]
    assert any((dearest * trace.requests > trace.budget_macs).any() for dearest, trace in costs)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("compete", [False, True])
@pytest.mark.parametrize("overload", ["error", "shed"])
def test_exact_optimum_is_the_best_of_all_sequences(
    memory: str, compete: bool, overload: Literal["error", "shed"]
) -> None:
    for seed in range(40):
        profile, trace = random_instance(seed, memory, compete=compete, slots=4, choices=3)
        if overload == "shed":
            scarce = np.random.default_rng(seed).choice([0.0, 0.2, 1.0], trace.slots)
            trace = orric.Trace(requests=trace.requests, budget_macs=trace.budget_macs * scarce)
        value, allocations = orric.exact_optimum(profile, trace, overload=overload)
        assert value == pytest.approx(brute_force(profile, trace), rel=1e-12), seed
        followed = orric.evaluate(profile, trace, Scripted(allocations), overload=overload)
        assert followed.value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("memory", MEMORIES)
def test_overloaded_slots_shed_in_the_optimum_too(memory: str) -> None:
    for seed in range(40):
        profile, trace = random_instance(seed, memory, compete=seed % 2 == 0, slots=6, choices=4)
        scarce = np.random.default_rng(seed).choice([0.02, 0.3, 1.0], trace.slots)
        trace = orric.Trace(requests=trace.requests, budget_macs=trace.budget_macs * scarce)
        best = check_interval((profile, trace), 1e-6, overload="shed")
        assert not best.reason, seed


def test_overloaded_slot_is_named_unless_it_sheds() -> None:
    profile, trace = build_profile(), orric.Trace(requests=[10, 10], budget_macs=[1e8, 1e6])
    with pytest.raises(orric.BudgetError, match="slot 2"):
        orric.offline_optimum(profile, trace)
    with pytest.raises(orric.BudgetError, match="slot 2"):
        orric.exact_optimum(profile, trace)


@pytest.mark.parametrize("memory", [LearningExtent(), LearningExtent(kind="window", slots=2)])
def test_nothing_served_is_worth_nothing(memory: LearningExtent) -> None:
    trace = orric.Trace(requests=[3, 4], budget_macs=[0, 0])
    best = orric.offline_optimum(build_profile(memory=memory), trace, overload="shed")
    assert (best.lower, best.upper, best.gap, best.reason) == (0.0, 0.0, 0.0, "")
    assert orric.verify(best.certificate).gap == 0.0


@pytest.mark.parametrize("memory", MEMORIES)
def test_one_slot_serves_as_well_as_it_can(memory: str) -> None:
    for seed in range(20):
        profile, trace = random_instance(seed, memory, slots=1)
        best = check_interval((profile, trace), 1e-9)
        fitting = [one.profit for one in profile.inference if trace.requests[0] * one.cost_macs <= trace.budget_macs[0]]
        assert best.lower == pytest.approx(float(profile.curve(0.0)) * max(fitting) * trace.requests[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("memory", MEMORIES)
def test_single_configuration_leaves_no_choice(form: str, memory: str) -> None:
    _, trace = random_instance(3, memory)
    curve = random_instance(FORMS.index(form), memory)[0].curve
    profile = build_profile(((0.0, 0.0),), ((1.0, 0.5),), curve=curve, best_accuracy=1.0, slope_floor=1e-4)
    best = check_interval((profile, trace), 1e-9)
    # Other curves of a time-varying one start elsewhere.
    starts = [float(profile.curve.at(slot)(0.0)) for slot in range(1, trace.slots + 1)]
    assert best.upper == pytest.approx(trace.requests @ np.array(starts))


@pytest.mark.parametrize("memory", MEMORIES)
def test_first_slots_without_requests_change_nothing(memory: str) -> None:
    for seed in range(20):
        profile, trace = random_instance(seed, memory, compete=True, slots=6, choices=3)
        if profile.curve.form == "time-varying":
            continue
        idle = orric.Trace(
            requests=np.concatenate([[0.0, 0.0], trace.requests]),
            budget_macs=np.concatenate([[0.0, 5.0], trace.budget_macs]),
        )
        best = check_interval((profile, idle), 1e-6)
        assert orric.exact_optimum(profile, trace)[0] == pytest.approx(orric.exact_optimum(profile, idle)[0], rel=1e-12)
        assert best.correct[:2].tolist() == [0.0, 0.0]


def test_budgets_that_are_exactly_a_cost_are_spent() -> None:
    """Costs and requests without exact binary fractions: only the product in the model's own form tells."""
    retraining, inference = ((0.0, 0.0), (1.0, 0.7)), ((0.5, 0.1), (1.0, 0.3))
    profile = build_profile(retraining, inference)
    requests = np.array([0.1, 0.3, 7.7, 1e-3])
    both = requests * (0.7 + 0.3)
    best = check_interval((profile, orric.Trace(requests=requests, budget_macs=both)), 1e-9)
    chosen = {(step["retraining"], step["inference"]) for step in best.allocations[:-1]}
    assert chosen == {("r1", "i1")}
    less = orric.Trace(requests=requests, budget_macs=np.nextafter(both, 0.0))
    assert check_interval((profile, less), 1e-9).upper < best.lower


@pytest.mark.parametrize("memory", MEMORIES)
def test_gap_of_zero_ends_with_a_reason(memory: str) -> None:
    for seed in range(6):
        best = check_interval(random_instance(seed, memory, compete=True, slots=5, choices=3), 0.0)
        assert best.reason
        assert best.gap < 1e-9


@pytest.mark.parametrize("gap", [-0.1, 1.0, 2.0, math.nan, math.inf])
def test_impossible_gap_is_one_line(gap: float) -> None:
    with pytest.raises(orric.ScenarioError, match=r"gap: found .*0 to below 1") as caught:
        orric.offline_optimum(build_profile(), random_trace(1), gap)
    assert "\n" not in str(caught.value)


class Hyperbolic(LearningCurve):
    """f(x) = c - a / (1 + k x), registered nowhere."""

    form: Literal["hyperbolic"] = "hyperbolic"
    c: Real
    a: Positive
    k: Positive

    def __call__(self, extent: Any) -> Any:
        return self.c - self.a / (1 + self.k * np.asarray(extent))

    def slope(self, extent: Any) -> Any:
        return self.a * self.k / (1 + self.k * np.asarray(extent)) ** 2


@pytest.mark.parametrize("memory", MEMORIES)
def test_curve_of_another_package_is_solved_and_not_verified(memory: str) -> None:
    for seed in range(10):
        profile, trace = random_instance(seed, memory, compete=True, slots=6, choices=4)
        profile = profile.model_copy(update={"curve": Hyperbolic(c=0.9, a=0.7, k=1.0 + seed)})
        best = check_interval((profile, trace), 1e-6)
        assert not best.reason
        with pytest.raises(orric.CertificateError, match=r"hyperbolic.*tabulate"):
            orric.verify(best.certificate)


def test_drift_in_the_trace_chooses_the_curve() -> None:
    foggy = {"corruption": "fog", "severity": 2, "curve": {"form": "logarithmic", "a": 0.2, "b": 0.1, "k": 30.0}}
    clean = {"corruption": "none", "severity": 0, "curve": {"form": "tabulated", "x": [0, 1], "y": [0.5, 0.6]}}
    for seed in range(20):
        profile, trace = random_instance(seed, "uniform", compete=True)
        curves = (foggy, clean)[: 1 + seed % 2]
        profile = profile.model_copy(update={"drift_curve": tuple(DriftCurve.model_validate(one) for one in curves)})
        drift = np.random.default_rng(seed).integers(2, size=trace.slots)
        trace = orric.Trace(
            requests=trace.requests,
            budget_macs=trace.budget_macs,
            # Fog of severity 0 is none.
            corruption=tuple("fog" if one or seed % 4 == 3 else "none" for one in drift),
            severity=tuple(2 if one else 0 for one in drift),
        )
        assert not orric.verify(check_interval((profile, trace), 1e-6).certificate).gap > 1e-6


@pytest.mark.parametrize("column", [{"corruption": ("none",) * 6}, {"severity": (0,) * 6}])
def test_one_column_that_says_clean_is_enough_for_the_checker(column: dict[str, Any]) -> None:
    """The solver took the curve of clean images and the checker the general one."""
    profile, trace = random_instance(1, "uniform", compete=True)
    clean = {"corruption": "none", "severity": 0, "curve": {"form": "tabulated", "x": [0, 1], "y": [0.5, 0.6]}}
    profile = profile.model_copy(update={"drift_curve": (DriftCurve.model_validate(clean),)})
    trace = orric.Trace(requests=trace.requests[:6], budget_macs=trace.budget_macs[:6], **column)
    assert not orric.verify(check_interval((profile, trace), 1e-6).certificate).gap > 1e-6


def forced(slots: int, seed: int = 0) -> Instance:
    """Return an instance in which every slot's budget pays for retraining or for inference."""
    profile = build_profile(
        ((0.0, 0.0), (0.1, 1.0), (0.2, 2.0), (0.3, 3.0), (0.5, 5.0), (1.0, 10.0)),
        ((0.6, 1.0), (0.75, 3.0), (0.9, 6.0), (1.0, 10.0)),
        curve=orric.Exponential(c=0.9, a=0.5, k=3.0),
    )
    rng = np.random.default_rng(seed)
    requests = rng.integers(200, 2001, slots).astype(float)
    return profile, orric.Trace(requests=requests, budget_macs=requests * rng.uniform(9.0, 12.0, slots))


def spread(slots: int, seed: int = 0) -> Instance:
    """Return an instance of the same profile with budgets from the cheapest pair to the dearest."""
    profile, trace = forced(slots, seed)
    each = np.random.default_rng(seed + 1).uniform(1.0, 20.0, slots)
    return profile, orric.Trace(requests=trace.requests, budget_macs=trace.requests * each)


@pytest.mark.parametrize("family", [forced, spread])
def test_hundreds_of_slots_are_enclosed_to_a_hundred_thousandth(family: Any) -> None:
    profile, trace = family(300)
    best = orric.offline_optimum(profile, trace, 1e-5)
    assert best.gap <= 1e-5
    assert best.reason == ""
    assert orric.evaluate(profile, trace, Scripted(best.allocations)).value == pytest.approx(best.lower, rel=1e-9)
    assert orric.evaluate(profile, trace, orric.Orric()).value <= best.upper
    assert len(best.certificate.evidence["extents"]) < 500_000


@pytest.mark.parametrize("slots", [100, 600])
def test_too_few_points_give_a_reason_and_an_interval_all_the_same(slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimum, "MOST_POINTS", 1)
    monkeypatch.setattr(optimum, "MOST_POINTS_PER_SLOT", 8)
    best = orric.offline_optimum(*forced(slots), 1e-6)
    assert f"more than {8 * slots:,} points would be needed" in best.reason
    assert 1e-6 < best.gap < 0.5
    monkeypatch.undo()
    close = orric.offline_optimum(*forced(slots), 1e-4)
    assert best.lower <= close.upper
    assert close.lower <= best.upper
    assert orric.verify(best.certificate).upper == best.upper


def test_too_many_points_are_backed_off_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The level after the last one that fits is not the end: one in between is."""
    fine = orric.offline_optimum(*forced(600), 1e-6)
    some = len(fine.certificate.evidence["extents"]) // 2
    monkeypatch.setattr(optimum, "MOST_POINTS", some)
    monkeypatch.setattr(optimum, "MOST_POINTS_PER_SLOT", 1)
    tried = []
    bound_backward = relaxation.bound_backward

    def counted(*given: Any) -> Any:
        found = bound_backward(*given)
        tried.append(len(found[1]) if found[0][0] >= 0 else 0)
        return found

    monkeypatch.setattr(relaxation, "bound_backward", counted)
    best = orric.offline_optimum(*forced(600), 1e-9)
    assert "points would be needed" in best.reason
    assert tried[-1] == 0
    # After the first one that had too many there was one that had not.
    assert any(tried[tried.index(0) :])
    assert best.gap < 1e-4


def test_no_piece_is_shorter_than_its_slope_can_be_told() -> None:
    """Short pieces that fall steeply raised the margin for rounding without any need, the more the finer the bound."""
    for family in (forced, spread):
        evidence = orric.offline_optimum(*family(2000), 1e-5).certificate.evidence
        starts, extents, bounds = (evidence[name] for name in ("starts", "extents", "bounds"))
        inside = np.ones(len(extents) - 1, bool)
        inside[starts[1:-1] - 1] = False
        # The last piece of a slot ends where its domain does.
        ends = starts[1:][np.diff(starts) > 1] - 2
        inside[ends] = False
        lengths, falls = np.diff(extents)[inside], np.diff(bounds)[inside] < 0
        assert (lengths >= relaxation.SHORTEST).all()
        assert (lengths[falls] >= relaxation.SHORTEST * relaxation.FALLING).all()
        assert falls.mean() < 0.1
        assert len(extents) < 1000 * 2000


def test_too_many_labels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MOST_LABELS", 10)
    with pytest.raises(orric.ScenarioError, match="labels are alive"):
        orric.exact_optimum(*forced(30))


def test_one_slots_function_may_be_larger_than_all_the_space_so_far() -> None:
    """A tolerance of nothing asks for thousands of points in one go."""
    problem = OfflineProblem.of(*forced(2))
    keep, weight = problem.transition()
    low, high = problem.reach(keep, weight)
    tables = curve_tables(problem.curves, 1.0, 1e-9)
    cuts = np.linspace(low[1], high[1], 9)
    starts, extents, bounds = relaxation.bound_backward(
        low, high, keep, weight, problem.gains, problem.rewards, problem.counts, *tables, 1.0,
        np.array([0, 1, 10]), np.concatenate([[0.0], cuts]), np.full(10, 1e-13), False, 2**24,
    )  # fmt: skip
    x, u = extents[starts[1] :], bounds[starts[1] :]
    assert len(x) > 8192
    places = np.random.default_rng(1).uniform(low[1], high[1], 20_000)
    earned = problem.rewards[1, 0] * problem.curves[1](places)
    above = np.interp(places, x, u) - earned
    assert (above >= 0).all()
    assert (above <= 1e-9 * earned).all()


@pytest.mark.parametrize(
    ("curve", "most"),
    [
        (STEEP, 11.0),  # flat to the last digit over most of its range
        (orric.Exponential(c=0.9, a=0.4, k=0.0138), 0.0055),  # straight but for rounding
        (orric.Power(c=0.95, a=0.9 * 7.6**16, b=7.6, alpha=16.0), 1.0),  # digits lost in the power
        (orric.Power(c=50.95, a=50.8, b=1.0, alpha=0.01), 1.0),  # digits lost in the difference
        (orric.Logarithmic(a=0.05, b=0.06, k=6.5e5), 0.14),  # steep at the start
        (orric.Tabulated(x=(0.0, 1e-6, 0.5), y=(0.1, 0.5, 0.9)), 1.0),  # a kink next to the start
    ],
)
@pytest.mark.parametrize("gap", [1e-6, 1e-9, 0.0])
@pytest.mark.parametrize("kind", MEMORIES)
def test_curves_at_the_edge_of_floating_point_numbers(curve: LearningCurve, most: float, gap: float, kind: str) -> None:
    memory = {"uniform": {}, "decay": {"factor": 1e-6}, "window": {"slots": 2}}[kind]
    retraining = [(0.0, 0.0), (most / 900, 3.4), (most / 100, 5.0), (most, 7.2)]
    inference = [(0.1, 0.5), (0.8, 4.0), (1.0, 7.0)]
    for seed in range(3):
        profile = build_profile(
            retraining, inference, curve=curve, best_accuracy=1.0, slope_floor=1e-12,
            memory=LearningExtent(kind=kind, **memory),
        )  # fmt: skip
        rng = np.random.default_rng(seed)
        requests = np.ceil(10 ** rng.uniform(0.0, 8.0, 5))
        trace = orric.Trace(requests=requests, budget_macs=requests * rng.uniform(4.0, 12.0, 5))
        best = check_interval((profile, trace), gap)
        assert gap < 1e-6 or not best.reason
        assert orric.verify(best.certificate).upper == best.upper


def test_bounds_of_nearly_straight_curves_are_above_them() -> None:
    """Where a curve bends less than rounding shows from point to point, it still bends over a slot's whole range."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        most = 10 ** rng.uniform(-3.0, -1.0)
        curve = orric.Exponential(c=0.9, a=0.4, k=10 ** rng.uniform(-2.0, 0.0))
        retraining = ((0.0, 0.0), (most / 20, 9.0), (most, 20.0))
        profile = build_profile(retraining, ((0.2, 1.0), (1.0, 9.5)), curve=curve, slope_floor=1e-9)
        requests = rng.integers(1, 5, 6).astype(float)
        trace = orric.Trace(requests=requests, budget_macs=requests * ([10.0] * 5 + [40.0]))
        evidence = orric.offline_optimum(profile, trace, 1e-9).certificate.evidence
        last = slice(evidence["starts"][5], None)
        places = np.linspace(0.0, evidence["extents"][-1], 1001)
        bounds = np.interp(places, evidence["extents"][last], evidence["bounds"][last])
        assert (bounds >= requests[5] * curve(places)).all(), seed


def test_tables_run_above_the_curve_closely() -> None:
    curves = [STEEP, *(random_instance(seed, "uniform")[0].curve.at(1) for seed in range(25))]
    for curve, gap in itertools.product(curves, (1e-2, 1e-5, 1e-8)):
        starts, x, y, slopes, which = curve_tables([curve, curve], 1.0, gap)
        assert starts.tolist() == [0, len(x)]
        assert which.tolist() == [0, 0]
        places = np.random.default_rng(1).uniform(0.0, 1.0, 1000) ** 3
        above = np.interp(places, x, y) / curve(places) - 1
        assert (above >= 0).all()
        assert (above <= gap / 20 + 1e-12).all()
        assert (np.diff(slopes) <= 1e-12 * slopes[0]).all()


@pytest.mark.parametrize("form", FORMS[:-1])
def test_a_curves_rounding_is_small_beside_its_magnitude(form: str) -> None:
    """The same formula with eleven bits more tells what an accuracy is off by."""
    for seed in range(50):
        curve = random_curve(np.random.default_rng(seed), form)
        if form == "power" and seed % 2:
            # Large terms of which most cancels, as fits of nearly logarithmic data give them.
            curve = orric.Power(c=100.5, a=100.0, b=0.9, alpha=1e-3 * (seed + 1))
        x = np.random.default_rng(seed).uniform(0.0, 1.0, 200)
        exact = np.interp(x, curve.x, curve.y) if isinstance(curve, orric.Tabulated) else curve(x.astype(np.longdouble))
        assert (np.abs(curve(x) - exact) <= 2.0**-50 * curve.magnitude(1.0)).all()


def test_compilation_is_over_before_the_clock_starts() -> None:
    """All kinds of memory and of curve run on what the warm-up compiled."""
    optimum._warm_up()
    functions = [relaxation.bound_backward, relaxation.losses_forward, relaxation.best_path]
    functions += [window._climb, states._gained, states._one_slot]
    ready = [len(one.signatures) for one in functions]
    assert all(ready)
    for memory in MEMORIES:
        for seed in range(10):
            orric.offline_optimum(*random_instance(seed, memory), 1e-4)
    assert [len(one.signatures) for one in functions] == ready

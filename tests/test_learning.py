"""Learning curves and learning extents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orric
from orric.by_drift import DriftCurve
from orric.learning import FORMS, LearningExtent, RunningExtent

from .builders import build_profile, write_profile

CURVES = {
    "exponential": orric.Exponential(c=0.8, a=0.3, k=3.0),
    "power": orric.Power(c=0.9, a=0.2, b=0.5, alpha=0.7),
    "logarithmic": orric.Logarithmic(a=0.4, b=0.1, k=8.0),
    "tabulated": orric.Tabulated(x=(0.0, 0.1, 0.5, 1.0), y=(0.3, 0.5, 0.7, 0.75)),
}
VARYING = orric.TimeVarying(starts=(1, 4), curves=(CURVES["exponential"], CURVES["tabulated"]))
every_curve = pytest.mark.parametrize("form", sorted(FORMS))
MEMORIES = [
    LearningExtent(),
    LearningExtent(kind="window", slots=1),
    LearningExtent(kind="window", slots=3),
    LearningExtent(kind="decay", factor=0.5),
    LearningExtent(kind="decay", factor=0.001),
]
every_memory = pytest.mark.parametrize(
    "memory", MEMORIES, ids=lambda memory: f"{memory.kind}-{memory.slots or memory.factor}"
)


def curve_of(form: str) -> orric.LearningCurve:
    """Return an example of every registered form; a new form must be added to `CURVES`."""
    return VARYING if form == "time-varying" else CURVES[form]


@every_curve
def test_curve_increases_and_is_concave(form: str) -> None:
    values = curve_of(form)(np.linspace(0.0, 1.0, 201))
    assert (np.diff(values) > 0).all()
    assert (np.diff(values, 2) <= 1e-12).all()


@every_curve
@pytest.mark.parametrize("extent", [0.0, 0.03, 0.1, 0.3, 0.9])
def test_slope_is_the_derivative(form: str, extent: float) -> None:
    curve, step = curve_of(form), 1e-7
    pieces = curve.curves if isinstance(curve, orric.TimeVarying) else (curve,)
    expected = min((float(piece(extent + step)) - float(piece(extent))) / step for piece in pieces)
    assert curve.slope(extent) == pytest.approx(expected, rel=1e-5)


@every_curve
def test_scalar_and_array_agree(form: str) -> None:
    extents = np.array([0.0, 0.2, 0.77])
    assert curve_of(form)(extents).tolist() == [float(curve_of(form)(extent)) for extent in extents]


def test_values_by_hand() -> None:
    assert float(CURVES["exponential"](1.0)) == pytest.approx(0.8 - 0.3 * np.exp(-3.0))
    assert float(CURVES["power"](0.5)) == pytest.approx(0.7)
    assert float(CURVES["logarithmic"](1.0)) == pytest.approx(0.4 + 0.1 * np.log(9.0))
    assert float(CURVES["tabulated"](0.3)) == pytest.approx(0.6)
    assert float(CURVES["tabulated"](7.0)) == 0.75
    assert CURVES["tabulated"].slope(7.0) == 0.0


def test_curve_that_does_not_change_holds_in_every_slot() -> None:
    assert CURVES["power"].at(17) is CURVES["power"]


def test_time_varying_curve_holds_from_its_start() -> None:
    assert [VARYING.at(slot).form for slot in (1, 3, 4, 99)] == ["exponential", "exponential", "tabulated", "tabulated"]


def test_time_varying_curve_is_used_slot_by_slot() -> None:
    profile = build_profile(curve=VARYING)
    trace = orric.Trace(requests=[10] * 5, budget_macs=[10 * 4e6] * 5)
    accuracy = orric.evaluate(profile, trace, orric.InferenceOnly()).accuracy
    np.testing.assert_allclose(accuracy, [0.5, 0.5, 0.5, 0.3, 0.3])


@pytest.mark.parametrize(
    ("starts", "count", "match"),
    [
        ((2, 4), 2, "first of them 1"),
        ((1, 1), 2, "ascending"),
        ((1, 9, 4), 3, "ascending"),
        ((), 0, "starts"),
        ((1,), 2, "one curve"),
    ],
)
def test_time_varying_curve_is_checked(starts: tuple[int, ...], count: int, match: str) -> None:
    with pytest.raises(orric.ProfileError, match=match):
        orric.TimeVarying(starts=starts, curves=(CURVES["power"],) * count)


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        ((0.0, 0.5, 1.0), (0.1, 0.2, 0.9), "x = 0.5.*not concave"),
        ((0.0, 0.5, 1.0), (0.5, 0.7, 0.6), "do not ascend"),
        ((0.0, 0.5, 0.5), (0.5, 0.7, 0.8), "do not ascend"),
        ((0.1, 0.5), (0.5, 0.7), "start at x = 0"),
        ((0.0, 0.5), (0.5,), "as many x as y"),
        ((0.0,), (0.5,), "two at least"),
        ((), (), "two at least"),
        ((0.0, 1.0), (0.5, float("nan")), "y.2"),
        ((0.0, float("inf")), (0.5, 0.6), "x.2"),
    ],
)
def test_tabulated_curve_is_checked(x: tuple[float, ...], y: tuple[float, ...], match: str) -> None:
    with pytest.raises(orric.ProfileError, match=match) as caught:
        orric.Tabulated(x=x, y=y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("form", "values"),
    [
        (orric.Exponential, {"c": 0.8, "a": -0.1, "k": 3.0}),
        (orric.Exponential, {"c": 0.8, "a": 0.1, "k": 0.0}),
        (orric.Exponential, {"c": float("nan"), "a": 0.1, "k": 1.0}),
        (orric.Power, {"c": 0.8, "a": 0.1, "b": 0.0, "alpha": 1.0}),
        (orric.Power, {"c": 0.8, "a": 0.1, "b": 1.0, "alpha": -1.0}),
        (orric.Logarithmic, {"a": 0.8, "b": 0.0, "k": 1.0}),
        (orric.Logarithmic, {"a": 0.8, "b": 0.1, "k": float("inf")}),
        (orric.Logarithmic, {"a": 0.8, "b": 0.1}),
    ],
)
def test_curves_that_would_not_increase_are_refused(form: type[orric.LearningCurve], values: dict[str, float]) -> None:
    with pytest.raises(orric.ProfileError):
        form(**values)


@every_curve
def test_curve_survives_a_profile_file(form: str, tmp_path: Path) -> None:
    path = write_profile(build_profile(curve=curve_of(form)), tmp_path / "profile.toml")
    assert orric.Profile.load(path).curve == curve_of(form)


@every_memory
def test_memory_survives_a_profile_file(memory: LearningExtent, tmp_path: Path) -> None:
    assert orric.Profile.load(write_profile(build_profile(memory=memory), tmp_path / "profile.toml")).memory == memory


def plain_extents(requests: list[float], profits: list[float], memory: LearningExtent) -> list[float]:
    """Follow model.md term by term: sums over s < t, and a slot without requests leaves x unchanged."""
    extents = [0.0]
    for t in range(2, len(requests) + 2):
        if requests[t - 2] == 0:
            extents.append(extents[-1])
            continue
        above = below = 0.0
        for s in range(1, t):
            weight = 1.0
            if memory.kind == "window":
                weight = float(t - s <= memory.slots)
            elif memory.kind == "decay":
                weight = memory.factor ** (t - 1 - s)
            above += weight * requests[s - 1] * profits[s - 1]
            below += weight * requests[s - 1]
        extents.append(above / below)
    return extents


def rows_of(least: int) -> st.SearchStrategy[list[tuple[int, float]]]:
    """Draw requests and retraining profits of up to a dozen slots."""
    return st.lists(st.tuples(st.integers(least, 9), st.sampled_from([0.0, 0.1, 0.5, 1.0])), min_size=1, max_size=12)


@every_memory
@settings(max_examples=100)
@given(rows=rows_of(1))
def test_extents_equal_the_plain_sums(memory: LearningExtent, rows: list[tuple[int, float]]) -> None:
    requests, profits = (list(map(float, column)) for column in zip(*rows, strict=True))
    found = memory.extents(np.array(requests), np.array(profits))
    np.testing.assert_allclose(found, plain_extents(requests, profits, memory), rtol=1e-12, atol=1e-15)


@every_memory
@settings(max_examples=100)
@given(rows=rows_of(0))
def test_extents_equal_the_plain_sums_with_idle_slots(memory: LearningExtent, rows: list[tuple[int, float]]) -> None:
    requests, profits = (list(map(float, column)) for column in zip(*rows, strict=True))
    found = memory.extents(np.array(requests), np.array(profits))
    np.testing.assert_allclose(found, plain_extents(requests, profits, memory), rtol=1e-12, atol=1e-15)


@every_memory
@pytest.mark.parametrize("idle", [1, 5, 400])
def test_slots_without_requests_leave_the_extent_unchanged(memory: LearningExtent, idle: int) -> None:
    requests, profits = np.array([7.0, 5.0] + [0.0] * idle), np.array([1.0, 0.5] + [1.0] * idle)
    extents = memory.extents(requests, profits)
    np.testing.assert_allclose(extents[2:], extents[2], rtol=1e-12)


@every_memory
@settings(max_examples=50)
@given(rows=rows_of(0))
def test_extent_kept_slot_by_slot_is_that_of_all_slots(memory: LearningExtent, rows: list[tuple[int, float]]) -> None:
    requests, profits = (list(map(float, column)) for column in zip(*rows, strict=True))
    running, found = RunningExtent(memory), [0.0]
    for number, profit in zip(requests, profits, strict=True):
        _, foreseen = running.after(number, [0.0, profit])
        running.add(number, profit)
        assert running.value == foreseen
        found.append(running.value)
    np.testing.assert_allclose(found, plain_extents(requests, profits, memory), rtol=1e-12, atol=1e-15)


@every_memory
def test_extent_starts_at_zero_even_before_any_requests(memory: LearningExtent) -> None:
    assert memory.extents(np.array([0.0, 0.0, 4.0]), np.array([1.0, 1.0, 0.5])).tolist() == [0.0, 0.0, 0.0, 0.5]
    assert memory.extents(np.array([]), np.array([])).tolist() == [0.0]


def test_window_longer_than_the_horizon_is_uniform() -> None:
    requests, profits = np.array([3.0, 5.0, 2.0]), np.array([0.1, 0.0, 1.0])
    long = LearningExtent(kind="window", slots=1_000).extents(requests, profits)
    np.testing.assert_allclose(long, LearningExtent().extents(requests, profits), rtol=1e-15)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "window"},
        {"kind": "decay"},
        {"kind": "window", "slots": 0},
        {"kind": "window", "factor": 0.5},
        {"kind": "decay", "factor": 1.0},
        {"kind": "decay", "factor": 0.0},
        {"kind": "uniform", "slots": 3},
        {"kind": "windo", "slots": 3},
    ],
)
def test_memory_is_checked(values: dict[str, object]) -> None:
    with pytest.raises(orric.ProfileError):
        LearningExtent(**values)


@pytest.mark.parametrize(
    "memory",
    [
        {"kind": "uniform"},
        {"kind": "window", "slots": 1},
        {"kind": "window", "slots": 4},
        {"kind": "decay", "factor": 0.7},
    ],
)
def test_late_gains_count_as_if_they_had_been_there(memory: dict[str, Any]) -> None:
    """Retraining of an earlier slot that is done later: the running extent is that of the whole past."""
    rng = np.random.default_rng(1)
    kind = LearningExtent(**memory)
    for _ in range(50):
        slots = 12
        requests = rng.integers(0, 3, slots) * rng.uniform(1, 9, slots)
        profits, late = rng.choice([0.0, 0.3, 1.0], slots), rng.integers(0, 6, slots)
        running, gained = RunningExtent(kind), np.zeros(slots)
        for slot in range(slots):
            on_time = profits[slot] if late[slot] == 0 else 0.0
            gained[slot] = on_time
            running.add(float(requests[slot]), float(on_time))
            for ago in range(1, slot + 1):
                if late[slot - ago] == ago:
                    gained[slot - ago] += profits[slot - ago]
                    running.revise(ago, float(requests[slot - ago]), float(profits[slot - ago]))
            wanted = kind.extents(requests[: slot + 1], gained[: slot + 1])[-1]
            assert running.value == pytest.approx(wanted, rel=1e-12, abs=1e-12)
            assert running.after(2.0, [0.5])[0] == pytest.approx(
                kind.extents(np.append(requests[: slot + 1], 2.0), np.append(gained[: slot + 1], 0.5))[-1]
            )


def test_a_curve_that_changes_within_one_that_does_holds_in_its_own_slots() -> None:
    first, second, third = (orric.Exponential(c=c, a=0.3, k=3.0) for c in (0.5, 0.6, 0.7))
    inner = orric.TimeVarying(starts=(1, 4), curves=(second, third))
    curve = orric.TimeVarying(starts=(1, 2), curves=(first, inner))
    assert [curve.at(slot) for slot in (1, 2, 3, 4, 9)] == [first, second, second, third, third]
    assert curve.pieces == (first, second, third)
    # What a profile is held to is held against every one of them, and so is what drift has.
    for changes in ({"curve": curve}, {"drift_curve": (DriftCurve(corruption="fog", severity=1, curve=curve),)}):
        changes = {"curve": first, **changes}
        with pytest.raises(orric.ProfileError, match=r"best_accuracy is 0.6 but the curve reaches 0.685"):
            build_profile(best_accuracy=0.6, **changes)
        profile = build_profile(best_accuracy=0.7, **changes)
        drift = {"corruption": ["fog"] * 5, "severity": [1] * 5} if "drift_curve" in changes else {}
        trace = orric.Trace(requests=[100] * 5, budget_macs=[1e10] * 5, **drift)
        plain = sum(float(one(0.0)) * 100 for one in (first, second, second, third, third))
        assert orric.evaluate(profile, trace, orric.InferenceOnly()).value == pytest.approx(plain)
        best = orric.offline_optimum(profile, trace, 1e-9)
        assert best.lower == pytest.approx(orric.exact_optimum(profile, trace)[0])
        assert orric.verify(best.certificate).upper == best.upper
        assert orric.bounds(profile, trace).start_accuracy == pytest.approx(0.2)

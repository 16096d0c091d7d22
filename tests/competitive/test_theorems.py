"""Theorems 2, 3, 4 and Corollary 1 on instances solved exactly, and a check that is known to be able to fail.

`tests/benchmarks/theorems.py` does the same on 100,000 instances.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orric
from orric.competitive.exact import exact_optimum
from orric.learning import LearningExtent

from ..benchmarks import planted, theorems
from ..benchmarks.theorems import BITING, FAMILIES, PROVED, Part, tallied
from ..builders import build_profile


def ratio(profile: orric.Profile, trace: orric.Trace, allocator: orric.Allocator) -> float:
    """Measure a competitive ratio by the exact optimum."""
    return orric.evaluate(profile, trace, allocator).value / exact_optimum(profile, trace)[0]


def straight(start: float, top: float, share: float = 1.0, **changes: Any) -> orric.Profile:
    """Return a profile with a straight curve, of whose slope allocators know a share."""
    return build_profile(
        curve=orric.Tabulated(x=(0.0, 1.0), y=(start, top)),
        best_accuracy=top,
        slope_floor=share * (top - start),
        **changes,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_theorems_2_and_4_hold(family: str) -> None:
    (found,) = tallied([Part(family, PROVED, 800)], seed=11, jobs=1)
    for name in PROVED:
        assert found[name].instances == 800
        assert found[name].violations == 0, theorems.described(found[name])
        # The instances are hard enough for the bounds to mean something; the chord in full is far from its worst there.
        assert found[name].room < 0.75 or name == "orric-chord"
    if FAMILIES[family].biting:
        assert found["orric"].biting == 800


@pytest.mark.parametrize(
    ("fault", "family", "instances"),
    [
        ("wrong-end", "wide", 600),
        ("wrong-end", "biting", 600),
        ("wrong-sign", "wide", 600),
        ("wrong-sign", "biting", 600),
        ("without-slope", "biting", 600),
        ("without-slope", "close", 600),
        ("doubled", "close", 2000),
        ("published-weights", "window, close", 2000),
        ("published-weights", "decay, close", 2000),
    ],
)
def test_a_planted_fault_is_noticed(fault: str, family: str, instances: int) -> None:
    (found,) = tallied([Part(family, (fault,), instances)], seed=1, jobs=1)
    assert found[fault].violations > 0


def test_the_published_weights_fail_under_a_window_by_hand() -> None:
    """With w = 1 retraining serves one slot, and the published h_1 of T = 10 counts it 2.83 times."""
    profile = straight(
        0.98,
        1.0,
        retraining=((0.0, 0.0), (1.0, 1.0)),
        inference=((0.946, 1.0), (1.0, 2.0)),
        memory=LearningExtent(kind="window", slots=1),
    )
    trace = orric.Trace(requests=[1] * 10, budget_macs=[2] * 10)
    bound = orric.bounds(profile, trace).theorem4
    assert bound == pytest.approx((1 + 0.02 * 0.946) * 0.98)
    # It retrains in slot 1 at the price of 0.98 x 0.054, for 0.02 in slot 2; the optimum never does.
    measured = ratio(profile, trace, planted.Published())
    assert measured == pytest.approx((0.98 * 0.946 + 1.0 + 8 * 0.98) / 9.8)
    assert measured < bound
    assert ratio(profile, trace, orric.Orric()) == 1.0


def test_the_report_fails_for_an_allocator_with_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [Part("biting", PROVED, 300)]
    assert theorems.report(parts, [], seed=1, jobs=1)
    assert "VIOLATED" not in capsys.readouterr().out
    monkeypatch.setitem(theorems.ALLOCATORS, "orric", (planted.WrongEnd, "theorem4"))
    assert not theorems.report(parts, [], seed=1, jobs=1)
    assert "VIOLATED by orric" in capsys.readouterr().out


def test_the_report_fails_when_a_planted_fault_goes_unnoticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [Part("biting", PROVED, 20)]
    monkeypatch.setitem(theorems.ALLOCATORS, "wrong-end", (orric.Orric, "theorem4"))
    assert not theorems.report(parts, [Part("biting", ("wrong-end",), 300)], seed=1, jobs=1)
    assert "wrong-end: NOT NOTICED" in capsys.readouterr().out


def test_an_optimum_that_is_beaten_stops_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theorems, "exact_optimum", lambda *instance: (0.5 * exact_optimum(*instance)[0], []))
    with pytest.raises(AssertionError, match="meant to be the optimum"):
        tallied([Part("wide", PROVED, 20)], seed=1, jobs=1)


def test_figures_depend_on_the_seed_and_not_on_the_number_of_workers() -> None:
    parts = [Part("wide", PROVED, 60), Part("biting", PROVED, 60), Part("close", ("doubled",), 60)]
    alone = tallied(parts, seed=3, jobs=1)
    assert alone == tallied(parts, seed=3, jobs=2)
    assert alone != tallied(parts, seed=4, jobs=1)


def test_the_plan_is_as_large_as_asked_and_half_of_it_bites() -> None:
    proved, faulty = theorems.planned(100_000)
    uniform = {part.family: part.instances for part in proved if FAMILIES[part.family].memory == "uniform"}
    assert sum(uniform.values()) == 100_000
    assert uniform["biting"] >= 50_000
    assert sum(part.instances for part in proved) == 120_000
    assert {name for part in faulty for name in part.names} == theorems.ALLOCATORS.keys() - set(PROVED)


def test_the_least_room_can_be_measured_again() -> None:
    (found,) = tallied([Part("biting", PROVED, 100)], seed=5, jobs=1)
    for name, tally in found.items():
        assert tally.worst is not None
        shape, point = tally.worst
        profile, trace = shape.instance(np.array(point))
        assert theorems.checked(profile, trace, [name])[name].room == tally.room
        assert orric.bounds(profile, trace).alpha >= BITING


@given(start=st.floats(0.05, 0.9), rise=st.floats(0.01, 0.9), slots=st.integers(1, 50))
def test_inference_only_attains_theorem_3_in_its_construction(start: float, rise: float, slots: int) -> None:
    profile, trace = theorems.construction(straight(start, start + (1 - start) * rise), slots)
    proved = orric.bounds(profile, trace)
    assert ratio(profile, trace, orric.InferenceOnly()) == pytest.approx(proved.theorem3, abs=1e-9)
    assert proved.theorem3 >= proved.theorem2 * (1 - 1e-12)


def test_theorem_3_and_corollary_1_over_random_profiles() -> None:
    found = theorems.separation(seed=2, profiles=8)
    assert found.attained < 1e-9
    assert found.horizons == 400
    assert 0 < found.above < 400
    assert found.wrong == 0


def test_unequal_requests_are_worse_than_theorem_3() -> None:
    profile, ample = theorems.construction(straight(0.5, 0.8), 10)
    trace = orric.Trace(requests=[50] + [400] * 9, budget_macs=4 * ample.budget_macs)
    measured, proved = ratio(profile, trace, orric.InferenceOnly()), orric.bounds(profile, trace)
    assert measured == pytest.approx(0.6282, abs=5e-5)
    assert proved.theorem3 == pytest.approx(0.6494, abs=5e-5)
    assert proved.theorem2 == pytest.approx(0.625, abs=1e-12)


@given(start=st.floats(0.05, 0.9), rise=st.floats(0.01, 0.9), share=st.floats(0.02, 1.0), excess=st.floats(0.0, 1.0))
def test_the_published_form_of_theorem_4_is_never_above_the_better_one(
    start: float, rise: float, share: float, excess: float
) -> None:
    top = start + (1 - start) * rise
    profile = straight(start, top, share).model_copy(update={"best_accuracy": top + (1 - top) * excess})
    proved = orric.bounds(*theorems.construction(profile, 3))
    assert proved.theorem4_published <= proved.theorem4 * (1 + 1e-12)
    assert proved.corollary1_slots >= proved.crossing_slots * (1 - 1e-12)
    assert proved.theorem2 < proved.theorem4 <= 1 + 1e-12


@given(start=st.floats(0.05, 0.9), rise=st.floats(0.05, 0.9), share=st.floats(0.05, 1.0))
def test_corollary_1_separates_the_proved_ratios(start: float, rise: float, share: float) -> None:
    profile = straight(start, start + (1 - start) * rise, share)
    crossing = orric.bounds(*theorems.construction(profile, 1)).crossing_slots
    published = orric.bounds(*theorems.construction(profile, 1)).corollary1_slots
    for slots in {1, int(crossing), int(crossing) + 1, int(published), int(published) + 1, 2 * int(published) + 2}:
        if slots < 1:
            continue
        proved = orric.bounds(*theorems.construction(profile, slots))
        # At the crossing itself both are equal but for rounding.
        if abs(slots - crossing) > 1e-9 * slots:
            assert (proved.theorem4 > proved.theorem3) == (slots > crossing)
        if abs(slots - published) > 1e-9 * slots:
            assert (proved.theorem4_published > proved.theorem3) == (slots > published)


@given(start=st.floats(0.1, 0.6), share=st.floats(0.3, 1.0))
def test_above_the_crossing_orric_is_measured_ahead_too(start: float, share: float) -> None:
    profile = straight(start, 0.9, share)
    slots = int(orric.bounds(*theorems.construction(profile, 1)).crossing_slots) + 1
    profile, trace = theorems.construction(profile, slots)
    proved = orric.bounds(profile, trace)
    assert ratio(profile, trace, orric.Orric()) >= proved.theorem4 > proved.theorem3 - 1e-12
    assert ratio(profile, trace, orric.InferenceOnly()) == pytest.approx(proved.theorem3, rel=1e-12)


def test_theorem_4_fails_where_a_slot_has_no_requests_as_the_bounds_say() -> None:
    """ORRIC retrains for a second slot in which nobody asks."""
    profile = straight(0.7, 0.9, retraining=((0.0, 0.0), (1.0, 1.0)), inference=((0.9, 1.0), (1.0, 2.0)))
    trace = orric.Trace(requests=[100, 0], budget_macs=[200, 200])
    proved = orric.bounds(profile, trace)
    assert ratio(profile, trace, orric.Orric()) == pytest.approx(0.9)
    assert proved.theorem4 > 0.93
    assert any("no requests" in doubt for doubt in proved.doubts)


def test_theorem_4_fails_where_the_floor_is_above_the_slope_as_the_bounds_say() -> None:
    """ORRIC retrains for a gain that it was promised and that is not there."""
    profile = straight(0.7, 0.75, share=4, retraining=((0.0, 0.0), (1.0, 1.0)), inference=((0.9, 1.0), (1.0, 2.0)))
    trace = orric.Trace(requests=[100, 100], budget_macs=[200, 200])
    proved = orric.bounds(profile, trace)
    assert ratio(profile, trace, orric.Orric()) < proved.theorem4
    assert any("slope_floor" in doubt for doubt in proved.doubts)

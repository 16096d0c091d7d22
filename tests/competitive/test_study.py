"""Ensembles and horizons: reproducible in any number of workers, and what they say of traces that can be drawn anew."""

from __future__ import annotations

import numpy as np
import pytest

import orric
from orric.competitive import study
from orric.competitive.study import ensemble, horizons, worst_ratio
from orric.randomness import generator

from ..builders import build_profile

PROFILE = build_profile()
RANGES = orric.TraceRange(6, (100, 400), (400e6, 5.6e9))
NAMES = ("orric", "inference-only")


class Failing(orric.InferenceOnly):
    """Raises in the third slot when few ask."""

    name = "failing"
    limit = 120.0

    def choose(self, slots, requests, budgets_macs):
        if ((slots == 3) & (requests < self.limit)).any():
            raise ZeroDivisionError(f"{requests[slots == 3][0]:g} are too few")
        return super().choose(slots, requests, budgets_macs)


def test_an_ensemble_is_the_same_again_and_in_any_number_of_workers(monkeypatch):
    told = []
    # Workers start afresh and take traces in batches of their own; how many is none of the answer's business.
    one = ensemble(PROFILE, RANGES, NAMES, 60, seed=4, jobs=1, progress=told.append)
    two = ensemble(PROFILE, RANGES, NAMES, 60, seed=4, jobs=2)
    monkeypatch.setattr(study, "BATCH", 7)
    three = ensemble(PROFILE, RANGES, NAMES, 60, seed=4, jobs=1)
    for name in NAMES:
        for end in ("low", "high"):
            for other in (two, three):
                np.testing.assert_array_equal(getattr(one, end)[name], getattr(other, end)[name])
        assert (one.low[name] > 0).all()
        assert (one.low[name] <= one.high[name]).all()
        assert (one.high[name] <= 1).all()
    assert told == [0.5, 1.0]
    other = ensemble(PROFILE, RANGES, NAMES, 60, seed=5, jobs=1)
    assert (other.high["orric"] != one.high["orric"]).any()


def test_a_trace_of_an_ensemble_depends_on_the_seed_and_its_number_alone():
    few, many = (ensemble(PROFILE, RANGES, ["orric"], count, seed=4, jobs=1) for count in (3, 9))
    np.testing.assert_array_equal(few.high["orric"], many.high["orric"][:3])
    both = ensemble(PROFILE, RANGES, NAMES, 3, seed=4, jobs=1)
    np.testing.assert_array_equal(few.high["orric"], both.high["orric"])
    for number in range(3):
        trace = RANGES.trace(generator(4, "ensemble", number).random(RANGES.size))
        best = orric.offline_optimum(PROFILE, trace, 1e-5)
        ratio = orric.competitive_ratio(orric.evaluate(PROFILE, trace, orric.Orric(), seed=4), best)
        assert (few.low["orric"][number], few.high["orric"][number]) == (ratio.low, ratio.high)


def test_an_allocator_that_fails_on_some_trace_is_told_of_and_the_others_go_on(monkeypatch):
    monkeypatch.setitem(orric.ALLOCATORS, "failing", Failing)
    monkeypatch.setattr(study, "BATCH", 5)
    found = ensemble(PROFILE, RANGES, ["failing", *NAMES], 40, seed=4, jobs=1)
    traces = [RANGES.trace(generator(4, "ensemble", number).random(RANGES.size)) for number in range(40)]
    few = [trace.requests[2] for trace in traces if trace.requests[2] < Failing.limit]
    assert 1 < len(few) < 40
    # Of several traces it is the first.
    assert str(found.failed["failing"]).startswith(
        f"allocator 'failing', slot 3: raised ZeroDivisionError: {few[0]:g} are too few"
    )
    assert set(found.high) == set(found.low) == set(NAMES)
    assert all(len(found.high[name]) == 40 for name in NAMES)
    alone = ensemble(PROFILE, RANGES, NAMES, 40, seed=4, jobs=1)
    np.testing.assert_array_equal(found.high["orric"], alone.high["orric"])


def test_horizons_come_as_asked_with_what_is_proved_and_found():
    slots, told = [5, 1, 40], []
    rows = horizons(PROFILE, RANGES, slots, evaluations=30, jobs=1, progress=told.append)
    assert [row.slots for row in rows] == slots
    assert told == [pytest.approx(part / 3) for part in (1, 2, 3)]
    for row in rows:
        assert row.proved.slots == row.slots
        assert set(row.worst) == set(NAMES)
        for low, high in row.worst.values():
            assert 0 < low <= high <= 1
        assert row.proved.theorem4 <= row.worst["orric"][1]
        assert row.proved.theorem2 <= row.worst["inference-only"][1]
        if row.slots > 1:
            assert (row.proved.least_requests, row.proved.most_requests) == RANGES.requests
    again = horizons(PROFILE, RANGES, slots, evaluations=30, jobs=2)
    assert again == rows


def test_the_worst_ratio_is_at_most_that_of_the_constructions_and_falls_with_the_horizon():
    points = RANGES.constructions(PROFILE)
    traces = [RANGES.trace(point) for point in points]
    worst = min(
        orric.evaluate(PROFILE, trace, orric.InferenceOnly()).value / orric.exact_optimum(PROFILE, trace)[0]
        for trace in traces
    )
    low, _ = worst_ratio(PROFILE, RANGES, "inference-only", 40)
    assert low <= worst * (1 + 1e-12)
    rows = horizons(PROFILE, RANGES, [2, 8, 64], ["inference-only"], evaluations=40, jobs=1)
    ratios = [row.worst["inference-only"][1] for row in rows]
    assert ratios == sorted(ratios, reverse=True)


def test_an_allocator_that_fails_on_a_horizon_is_told_of(monkeypatch):
    monkeypatch.setitem(orric.ALLOCATORS, "failing", Failing)
    with pytest.raises(orric.AllocatorError, match="'failing', slot 3"):
        horizons(PROFILE, RANGES, [2, 20], ["failing"], evaluations=60, jobs=1)


@pytest.mark.parametrize("measure", [ensemble, horizons])
def test_ranges_that_would_overload_a_slot_are_refused(measure):
    tight = orric.TraceRange(3, (100, 400), (1e6, 1e9))
    with pytest.raises(orric.ScenarioError, match="no slot is overloaded"):
        measure(PROFILE, tight, *((["orric"], 5) if measure is ensemble else ([3],)), jobs=1)

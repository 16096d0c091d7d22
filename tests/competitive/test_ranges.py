"""The traces that searches may try: within their bounds, in whole requests, in levels and runs as asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orric

from ..builders import build_profile

PROFILE = build_profile()
UNIT = st.floats(0.0, 1.0)


@st.composite
def ranges(draw):
    """Draw ranges of any kind, ends of which may be equal."""
    requests = sorted(draw(st.lists(st.integers(1, 10**6), min_size=2, max_size=2)))
    budgets = sorted(draw(st.lists(st.floats(0.0, 1e15), min_size=2, max_size=2)))
    levels, runs = (draw(st.none() | st.integers(2, 6)) for _ in range(2))
    return orric.TraceRange(draw(st.integers(1, 30)), tuple(requests), tuple(budgets), levels, runs)


def lengths_of_runs(trace: orric.Trace) -> list[int]:
    changes = (np.diff(trace.requests) != 0) | (np.diff(trace.budget_macs) != 0)
    return np.diff([0, *(np.flatnonzero(changes) + 1), trace.slots]).tolist()


@given(ranges(), st.data())
def test_every_point_is_a_trace_of_whole_requests_within_the_ranges(given_ranges, data):
    point = np.array(data.draw(st.lists(UNIT, min_size=given_ranges.size, max_size=given_ranges.size)))
    trace = given_ranges.trace(point)
    assert trace.slots == given_ranges.slots
    assert given_ranges.contains(trace)
    assert (trace.requests == np.rint(trace.requests)).all()
    if given_ranges.levels is not None:
        assert len(set(trace.requests)) <= given_ranges.levels
        assert len(set(trace.budget_macs)) <= given_ranges.levels
    if given_ranges.runs is not None and given_ranges.runs < given_ranges.slots:
        assert len(lengths_of_runs(trace)) <= given_ranges.runs


@given(ranges())
def test_the_ends_of_the_ranges_are_reached(given_ranges):
    least, most = (given_ranges.trace(np.full(given_ranges.size, end)) for end in (0.0, 1.0))
    for name in ("requests", "budget_macs"):
        low, high = getattr(given_ranges, name)
        assert (getattr(least, name) == low).all()
        assert getattr(most, name) == pytest.approx(np.full(given_ranges.slots, high))


def test_levels_are_equally_spaced_and_equally_often():
    grid = orric.TraceRange(1, (100, 200), (1e9, 3e9), levels=3)
    found = [grid.trace(np.array([part, part])) for part in (np.arange(300) + 0.5) / 300]
    for name, values in (("requests", [100, 150, 200]), ("budget_macs", [1e9, 2e9, 3e9])):
        seen, counts = np.unique([getattr(trace, name)[0] for trace in found], return_counts=True)
        assert (seen.tolist(), counts.tolist()) == (values, [100, 100, 100])


def test_runs_begin_with_one_slot_and_grow():
    coarse = orric.TraceRange(1000, (1, 1000), (0.0, 1e9), runs=5)
    assert coarse.size == 10
    lengths = lengths_of_runs(coarse.trace(np.linspace(0.05, 0.95, 10)))
    assert lengths[0] == 1
    assert lengths == sorted(lengths)
    assert sum(lengths) == 1000
    # More runs than slots are as many as there are slots.
    assert orric.TraceRange(4, (1, 9), (0.0, 1.0), runs=9).size == 8


def test_the_ranges_of_a_trace_hold_it():
    trace = orric.Trace(requests=[20, 0, 50], budget_macs=[3e9, 1e9, 2e9])
    taken = orric.TraceRange.of(trace)
    # Slots without requests are no D_min.
    assert (taken.slots, taken.requests, taken.budget_macs) == (3, (20, 50), (1e9, 3e9))
    assert taken.with_slots(7) == orric.TraceRange(7, (20, 50), (1e9, 3e9))
    parts = orric.TraceRange.of(orric.Trace(requests=[1.5, 7.5], budget_macs=[1.0, 1.0]))
    assert parts.requests == (2, 7)
    with pytest.raises(orric.ScenarioError, match=r"no whole number lies between 1\.2 and 1\.7 requests"):
        orric.TraceRange.of(orric.Trace(requests=[1.2, 1.7], budget_macs=[1.0, 1.0]))


def test_traces_outside_are_not_contained():
    given_ranges = orric.TraceRange(2, (10, 20), (1.0, 2.0))
    assert given_ranges.contains(orric.Trace(requests=[10, 20, 15], budget_macs=[1.0, 2.0, 1.5]))
    assert not given_ranges.contains(orric.Trace(requests=[9], budget_macs=[1.5]))
    assert not given_ranges.contains(orric.Trace(requests=[10], budget_macs=[2.1]))


@pytest.mark.parametrize("changes", [{}, {"runs": 4}, {"levels": 3}])
def test_the_constructions_are_points_and_hold_that_of_theorem_3(changes):
    given_ranges = orric.TraceRange(12, (100, 1000), (2e9, 1.4e10), **changes)
    points = given_ranges.constructions(PROFILE)
    assert points.shape[1] == given_ranges.size
    assert ((points >= 0) & (points <= 1)).all()
    traces = [given_ranges.trace(point) for point in points]
    assert any((trace.requests == 1000).all() and (trace.budget_macs == 1.4e10).all() for trace in traces)
    assert len(orric.TraceRange(1, (5, 5), (1e9, 1e9)).constructions(PROFILE)) >= 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((0, (1, 2), (1.0, 2.0)), "slots: found 0"),
        ((3, (2, 1), (1.0, 2.0)), "requests: found 2 to 1"),
        ((3, (1, 2), (2.0, 1.0)), "budget_macs: found 2 to 1"),
        ((3, (1, float("nan")), (1.0, 2.0)), "requests: found 1 to nan"),
        ((3, (1, 2), (1.0, float("inf"))), "budget_macs: found 1 to inf"),
        ((3, (1, 2), (-1.0, 2.0)), "budget_macs: found -1 to 2"),
        ((3, (0, 2), (1.0, 2.0)), "D_min is above 0"),
        ((3, (1.5, 2), (1.0, 2.0)), "give whole numbers"),
        ((3, (1, 2), (1.0, 2.0), 1), "levels: found 1"),
        ((3, (1, 2), (1.0, 2.0), None, 1), "runs: found 1"),
    ],
)
def test_unusable_ranges_are_refused(arguments, told):
    with pytest.raises(orric.ScenarioError, match=told):
        orric.TraceRange(*arguments)


def test_ranges_that_would_overload_a_slot_are_refused():
    cheapest = 1000 * 1e6
    orric.TraceRange(3, (100, 1000), (cheapest, 1e10)).check(PROFILE)
    with pytest.raises(orric.ScenarioError, match="no slot is overloaded"):
        orric.TraceRange(3, (100, 1000), (np.nextafter(cheapest, 0), 1e10)).check(PROFILE)

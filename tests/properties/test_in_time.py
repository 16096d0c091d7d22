"""Theorem 4 for answers that count by their deadline, whatever the in-time parts."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import orric
from orric.configuration import undominated
from orric.learning import LearningExtent

from ..builders import build_profile

PART = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]) | st.floats(0.0, 1.0)
MEMORIES = st.sampled_from(
    [LearningExtent(), LearningExtent(kind="window", slots=1), LearningExtent(kind="decay", factor=0.5)]
)


@settings(max_examples=300)
@given(
    slots=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 8)), min_size=2, max_size=4),
    parts=st.lists(PART, min_size=36, max_size=36),
    profits=st.tuples(st.floats(0.1, 1.0), st.floats(0.1, 1.0), st.floats(0.05, 1.0)),
    start=st.floats(0.05, 0.9),
    bend=st.floats(0.05, 3.0),
    share=st.floats(0.01, 1.0),
    memory=MEMORIES,
)
def test_orric_keeps_its_bound(
    slots: list[tuple[int, int]],
    parts: list[float],
    profits: tuple[float, float, float],
    start: float,
    bend: float,
    share: float,
    memory: LearningExtent,
) -> None:
    middle, full, least = profits
    a = (0.95 - start) / -np.expm1(-bend)
    curve = orric.Exponential(c=start + a, a=a, k=bend)
    top = max(middle, full)
    profile = build_profile(
        ((0.0, 0.0), (middle, 2.0), (full, 4.0)), ((least, 1.0), (1.0, 3.0)), curve=curve, memory=memory,
        best_accuracy=float(curve(top)), slope_floor=share * float(curve.slope_before(top)) * (1 - 1e-9),
    )  # fmt: skip
    requests = np.array([float(count) for count, _ in slots])
    trace = orric.Trace(requests=requests, budget_macs=requests * [1.0 + budget for _, budget in slots])
    size = (len(slots), len(undominated(profile.retraining)), len(undominated(profile.inference)))
    true = np.resize(parts, size)
    optimum, _ = orric.exact_optimum(profile, trace, in_time=true)
    earned = orric.evaluate(profile, trace, orric.Orric(), in_time=true).columns["correct_in_time"].sum()
    proved = orric.bounds(profile, trace, true)
    assert earned >= proved.theorem4 * optimum * (1 - 1e-12)
    assert earned <= optimum * (1 + 1e-12)

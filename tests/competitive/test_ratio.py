"""The measured ratio: an interval around the true one, refused across traces, whose losses add up to the regret."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orric
from orric.competitive import ratio as module
from orric.competitive.ratio import quick_ratio
from orric.learning import LearningExtent

from ..builders import build_profile, random_trace

PROFILE = build_profile()
MEMORIES = {
    "uniform": LearningExtent(),
    "decay": LearningExtent(kind="decay", factor=0.7),
    "window": LearningExtent(kind="window", slots=2),
}


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 7),
    st.sampled_from(sorted(orric.ALLOCATORS)),
    st.sampled_from(sorted(MEMORIES)),
)
def test_the_interval_holds_the_true_ratio_and_the_regret(seed, slots, name, memory):
    profile, trace = build_profile(memory=MEMORIES[memory]), random_trace(seed, slots)
    result = orric.evaluate(profile, trace, orric.make_allocator(name), seed=seed)
    best = orric.offline_optimum(profile, trace, 1e-6)
    found = orric.competitive_ratio(result, best)
    optimum, _ = orric.exact_optimum(profile, trace)
    assert 0 < found.low <= found.high <= 1
    assert found.low * (1 - 1e-12) <= result.value / optimum <= found.high * (1 + 1e-12)
    least, most = found.regret
    assert 0 <= least <= most
    assert least - 1e-9 * optimum <= optimum - result.value <= most + 1e-9 * optimum
    assert quick_ratio(profile, trace, orric.make_allocator(name), seeds=[seed]) == pytest.approx(
        result.value / optimum
    )


@pytest.mark.parametrize("name", sorted(orric.ALLOCATORS))
def test_losses_are_slot_by_slot_and_add_up(name):
    for seed in range(5):
        trace = random_trace(seed)
        result = orric.evaluate(PROFILE, trace, orric.make_allocator(name))
        best = orric.offline_optimum(PROFILE, trace, 1e-6)
        found = orric.competitive_ratio(result, best)
        assert found.losses.shape == (trace.slots,)
        np.testing.assert_allclose(found.losses, best.correct - result.columns["correct"])
        assert found.losses.sum() == pytest.approx(best.lower - result.value, abs=1e-9 * best.lower)
        assert found.losses.sum() <= found.regret[1] + 1e-9 * best.lower


def test_who_attains_the_optimum_has_ratio_1_and_loses_nothing():
    # One retraining configuration and room for the best inference: there is nothing to decide.
    profile = build_profile(((0.0, 0.0),))
    trace = orric.Trace(requests=[100, 200], budget_macs=[1e9, 2e9])
    best = orric.offline_optimum(profile, trace, 1e-6)
    found = orric.competitive_ratio(orric.evaluate(profile, trace, orric.Orric()), best)
    assert found.high == 1
    assert found.low == pytest.approx(1, abs=1e-6)
    assert found.regret[0] == 0
    assert not found.losses.any()


def test_shed_requests_count_on_both_sides():
    trace = orric.Trace(requests=[100, 100, 100], budget_macs=[5e7, 1e9, 1e9])
    result = orric.evaluate(PROFILE, trace, orric.Orric(), overload="shed")
    found = orric.competitive_ratio(result, orric.offline_optimum(PROFILE, trace, 1e-6, overload="shed"))
    assert 0 < found.low <= found.high <= 1
    assert found.losses[0] == 0


@pytest.mark.parametrize(
    "other",
    [
        orric.Trace(requests=[100, 300], budget_macs=[1e9, 2e9]),
        orric.Trace(requests=[100, 200], budget_macs=[1e9, 1e9]),
        orric.Trace(requests=[100, 200, 200], budget_macs=[1e9, 2e9, 2e9]),
    ],
    ids=["requests", "budgets", "slots"],
)
def test_the_optimum_of_another_trace_is_refused(other):
    trace = orric.Trace(requests=[100, 200], budget_macs=[1e9, 2e9])
    result, best = orric.evaluate(PROFILE, trace, orric.Orric()), orric.offline_optimum(PROFILE, other)
    with pytest.raises(orric.ScenarioError, match="different traces"):
        orric.competitive_ratio(result, best)


def test_the_quick_ratio_is_the_same_by_the_exact_optimum_and_by_the_interval(monkeypatch):
    trace = random_trace(3, 6)
    exact = quick_ratio(PROFILE, trace, orric.Orric())
    monkeypatch.setattr(module, "FEW_PATHS", 1)
    enclosed = quick_ratio(PROFILE, trace, orric.Orric(), gap=1e-7)
    assert exact <= enclosed * (1 + 1e-12)
    assert enclosed == pytest.approx(exact, rel=1e-7)

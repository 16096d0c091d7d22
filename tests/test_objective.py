"""The objective (P), the budget constraint, and the slot model around them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orric
from orric.learning import LearningExtent
from orric.objective import feasible, long_term_accuracy, servable

from .builders import build_profile, random_trace

CURVE = orric.Exponential(c=0.8, a=0.3, k=3.0)
OTHER = orric.Power(c=0.9, a=0.2, b=0.5, alpha=0.7)
FOGGY = {"corruption": "fog", "severity": 2, "curve": {"form": "exponential", "c": 0.5, "a": 0.3, "k": 1.0}}


@settings(max_examples=200)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 50), st.integers(0, 50), st.sampled_from([0.0, 0.1, 1.0]), st.floats(0.1, 1.0), st.booleans()
        ),
        min_size=1,
        max_size=10,
    )
)
def test_objective_equals_a_plain_loop(rows: list[tuple[int, int, float, float, bool]]) -> None:
    requests = np.array([row[0] for row in rows], float)
    served = np.minimum(requests, [row[1] for row in rows])
    curves = [OTHER if row[4] else CURVE for row in rows]
    correct, extents = long_term_accuracy(
        requests,
        served,
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows]),
        curves,
        LearningExtent(),
    )
    gained = uploaded = 0.0
    for t, (count, _, retraining, inference, _) in enumerate(rows):
        extent = gained / uploaded if uploaded else 0.0
        assert extents[t] == pytest.approx(extent)
        assert correct[t] == pytest.approx(float(curves[t](extent)) * inference * served[t])
        gained, uploaded = gained + count * retraining, uploaded + count


@settings(max_examples=300)
@given(
    requests=st.floats(1e-3, 1e6),
    retraining=st.floats(0.0, 1e9),
    inference=st.floats(1e-3, 1e9),
)
def test_feasible_admits_exactly_the_cost_and_nothing_below(
    requests: float, retraining: float, inference: float
) -> None:
    cost = requests * (retraining + inference)
    assert feasible(requests, retraining, inference, cost)
    assert not feasible(requests, retraining, inference, math.nextafter(cost, 0.0))


def test_feasible_takes_arrays() -> None:
    fits = feasible(np.array([10.0, 10.0, 0.0]), 1.0, np.array([2.0, 2.1, 9.0]), np.array([30.0, 30.0, 0.0]))
    assert fits.tolist() == [True, False, True]


@settings(max_examples=300)
@given(
    count=st.integers(0, 10**9),
    cost=st.floats(1e-3, 1e12) | st.integers(1, 10**9).map(float),
    side=st.sampled_from([0.0, math.inf, None]),
)
def test_servable_is_the_largest_number_that_fits(count: int, cost: float, side: float | None) -> None:
    budget = count * cost if side is None else math.nextafter(count * cost, side)
    served = float(servable(10**12, cost, budget))
    assert served.is_integer()
    assert feasible(served, 0.0, cost, budget)
    assert not feasible(served + 1, 0.0, cost, budget)
    assert served in ((count,) if side is None else (count - 1, count))


def test_servable_takes_arrays_and_never_serves_more_than_come() -> None:
    served = servable(np.array([5.0, 5.0, 2.5, 5.0]), 2.0, np.array([7.0, 10.0, 5.0, 0.0]))
    assert served.tolist() == [3.0, 5.0, 2.5, 0.0]
    assert servable(np.array([5.0, 3.0]), 0.0, np.array([1e300, 0.0])).tolist() == [5.0, 3.0]


def test_three_slots_by_hand() -> None:
    profile = build_profile(
        ((0.0, 0.0), (0.5, 3.0)),
        ((0.8, 1.0), (1.0, 2.0)),
        curve=orric.Tabulated(x=(0.0, 0.5), y=(0.4, 0.8)),
        slope_floor=0.5,
    )
    trace = orric.Trace(requests=[10, 30, 10], budget_macs=[40, 150, 20])
    result = orric.evaluate(profile, trace, orric.Orric())
    # V_1 = 0.5 x 10 x 0.8 / 30 x 1.5 = 0.2, V_2 = 0.2 / 3, V_3 = 0; W_1 = 0.9 - 0.25 = 0.65, later 0.9.
    # Slot 1 affords 4 per request: (r1, i0) 0.1 + 0.52 against (r0, i1) 0.65. Slot 2 affords 5: (r1, i1).
    pairs = [(step["retraining"], step["inference"]) for step in result.allocations]
    assert pairs == [("r0", "i1"), ("r1", "i1"), ("r0", "i1")]
    np.testing.assert_allclose(result.extent, [0.0, 0.0, 30 * 0.5 / 40])
    np.testing.assert_allclose(result.correct, [4.0, 12.0, 7.0])
    assert result.value == pytest.approx(23.0)
    assert result.mean_accuracy == pytest.approx(23.0 / 50)
    assert result.retraining_macs.tolist() == [0.0, 90.0, 0.0]
    assert result.inference_macs.tolist() == [20.0, 60.0, 20.0]


def test_overload_as_error_names_slot_budget_and_cheapest() -> None:
    trace = orric.Trace(requests=[1000, 1000, 1000], budget_macs=[5e9, 0.75e9, 0.5e9])
    with pytest.raises(orric.BudgetError) as caught:
        orric.evaluate(build_profile(), trace, orric.Orric())
    assert caught.value.args == (2, 0.75e9, 1e9)
    message = str(caught.value)
    assert "slot 2" in message
    assert "7.5e+08" in message
    assert "1e+09" in message
    assert "shed" in message
    assert isinstance(caught.value, ValueError)


def test_overload_as_shed_serves_what_fits_and_counts_the_rest() -> None:
    trace = orric.Trace(requests=[1000, 1000, 1000], budget_macs=[5e9, 0.7505e9, 0.0])
    result = orric.evaluate(build_profile(), trace, orric.Orric(), overload="shed")
    assert result.served.tolist() == [1000.0, 750.0, 0.0]
    assert result.shed.tolist() == [0.0, 250.0, 1000.0]
    assert result.retraining.tolist()[1:] == ["r0", "r0"]
    assert result.inference.tolist()[1:] == ["i0", "i0"]
    accuracy = float(build_profile().curve(result.extent[1]))
    assert result.correct[1] == pytest.approx(750 * 0.6 * accuracy)
    assert result.correct[2] == 0.0
    assert result.mean_accuracy == pytest.approx(result.correct.sum() / 3000)


@pytest.mark.parametrize("count", [1.0, 3.0, 999.0, 1000.0])
def test_shedding_stays_within_the_budget_to_the_last_digit(count: float) -> None:
    cost = 7.94e6 / 3
    profile = build_profile(inference=((1.0, cost),))
    trace = orric.Trace(requests=[count], budget_macs=[math.nextafter(count * cost, 0.0)])
    result = orric.evaluate(profile, trace, orric.InferenceOnly(), overload="shed")
    assert result.served[0] * cost <= trace.budget_macs[0]
    assert result.shed[0] >= 1.0


class _Fixed(orric.Allocator):
    """Answer the same pair whatever the slot."""

    name = "fixed"

    def __init__(self, retraining: str, inference: str) -> None:
        self.pair = orric.StreamAllocation(retraining, inference)
        self.seen: list[orric.Observation] = []

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        return orric.Allocation((self.pair,), "because")

    def observe(self, record: orric.Observation) -> None:
        self.seen.append(record)


def test_allocator_that_exceeds_a_budget_is_refused() -> None:
    trace = orric.Trace(requests=[1000, 1000], budget_macs=[14e9, 13.9e9])
    with pytest.raises(
        orric.AllocatorError, match=r"'fixed', slot 2: exceeds the budget of 1.39e\+10 .* costs 1.4e\+10"
    ):
        orric.evaluate(build_profile(), trace, _Fixed("r3", "i2"))


@pytest.mark.parametrize(
    ("pair", "unknown"),
    [
        (("r33", "i0"), "retraining configuration 'r33'; did you mean 'r3'"),
        (("r0", "r1"), "inference configuration 'r1'; known: i0, i1, i2"),
    ],
)
def test_allocator_that_names_an_unknown_configuration_is_refused(pair: tuple[str, str], unknown: str) -> None:
    with pytest.raises(orric.AllocatorError, match=unknown):
        orric.evaluate(build_profile(), random_trace(1), _Fixed(*pair))


def test_allocator_observes_every_slot() -> None:
    trace = orric.Trace(requests=[1000, 500], budget_macs=[0.75e9, 1e9])
    allocator = _Fixed("r0", "i0")
    result = orric.evaluate(build_profile(), trace, allocator, overload="shed")
    assert [(one.slot, one.requests, one.served, one.shed) for one in allocator.seen] == [
        (1, 1000.0, 750.0, 250.0),
        (2, 500.0, 500.0, 0.0),
    ]
    assert result.reason.tolist() == ["because", "because"]


def test_overloaded_slot_has_one_outcome_whatever_the_allocator_says() -> None:
    trace = orric.Trace(requests=[1000, 10], budget_macs=[0.75e9, 1e9])
    result = orric.evaluate(build_profile(), trace, _Fixed("r3", "i2"), overload="shed")
    assert (result.retraining[0], result.inference[0]) == ("r0", "i0")
    assert result.retraining_macs[0] + result.inference_macs[0] <= 0.75e9


def test_same_seed_same_result() -> None:
    first, second = (orric.evaluate(build_profile(), random_trace(3), orric.Orric(), seed=4) for _ in range(2))
    for name, column in first.columns.items():
        np.testing.assert_array_equal(column, second.columns[name], err_msg=name)


def test_drift_picks_the_curve_of_its_slot() -> None:
    trace = orric.Trace(
        requests=[10, 10, 10], budget_macs=[4e7] * 3, corruption=("fog", "fog", "none"), severity=(0, 2, 2)
    )
    profile = build_profile(drift_curve=(FOGGY,))
    np.testing.assert_allclose(orric.evaluate(profile, trace, orric.InferenceOnly()).accuracy, [0.5, 0.2, 0.5])


@pytest.mark.parametrize(
    ("drift", "message"),
    [
        ({"corruption": ("fog", "fgo"), "severity": (2, 2)}, "corruption 'fgo'; did you mean 'fog'"),
        ({"corruption": ("fog", "fog"), "severity": (2, 3)}, "'fog' of severity 3; known severities: 0, 2"),
        ({"corruption": ("none", "fog")}, "'fog' of unknown severity; known severities: 0, 2"),
    ],
)
def test_unknown_drift_does_not_pass_for_the_general_curve(drift: dict[str, Any], message: str) -> None:
    trace = orric.Trace(requests=[10, 10], budget_macs=[4e7] * 2, **drift)
    with pytest.raises(orric.ProfileError) as caught:
        orric.evaluate(build_profile(drift_curve=(FOGGY,)), trace, orric.InferenceOnly())
    assert str(caught.value).startswith("slot 2: profile 'small' has no curve for")
    assert message in str(caught.value)
    # Where nothing was measured under drift, there is one curve for all of it.
    general = orric.evaluate(build_profile(), trace, orric.InferenceOnly())
    np.testing.assert_allclose(general.accuracy, [0.5, 0.5])

"""ORRIC's theorem for answers that count by their deadline, and a check of it that is known to be able to fail.

`tests/benchmarks/theorems_in_time.py` does the same on 100,000 instances.
"""

from __future__ import annotations

import numpy as np
import pytest

import orric

from ..benchmarks import theorems_in_time
from ..benchmarks.theorems import FAMILIES, Part
from ..benchmarks.theorems_in_time import FAULTS, PROVED, UNIFORM, Stretched, together
from ..builders import build_profile


@pytest.mark.parametrize("family", FAMILIES)
def test_the_theorems_hold(family: str) -> None:
    (found,) = theorems_in_time.tallied([Part(family, tuple(PROVED), 240)], seed=11, jobs=1)
    for name in PROVED:
        assert found[name].instances == 240
        assert found[name].violations == 0


@pytest.mark.parametrize(
    ("fault", "family", "seed"),
    [
        ("alpha-by-most", "uneven, close", 1),
        ("unheeding", "wide", 1),
        ("stretched", "uneven, close", 2),
        ("most-for-least", "uneven, close", 1),
        ("error-ignored", "close", 1),
    ],
)
def test_a_planted_fault_is_noticed(fault: str, family: str, seed: int) -> None:
    (found,) = theorems_in_time.tallied([Part(family, (fault,), 600)], seed=seed, jobs=1)
    assert found[fault].violations > 0


def test_every_fault_is_looked_for() -> None:
    assert {"alpha-by-most", "unheeding", "stretched", "most-for-least", "error-ignored"} == set(FAULTS)
    parts = theorems_in_time.planned(100_000)
    assert {part.family for part in parts} == set(FAMILIES)
    assert sum(part.instances for part in parts) == pytest.approx(100_000, abs=10)
    assert sum(part.instances for part in parts if part.family in UNIFORM) > 66_000


def test_several_streams_keep_the_joint_bound() -> None:
    tally = together(seed=5, first=0, count=150)
    assert tally.instances == 150
    assert tally.violations == 0
    # Some come near to what is proved.
    assert tally.room < 0.7


def test_too_large_a_weight_by_hand() -> None:
    """Retraining in a busy first slot serves a second one with hardly any requests."""
    profile = build_profile(
        ((0.0, 0.0), (1.0, 1.0)), ((1.0, 1.0),), curve=orric.Tabulated(x=(0.0, 1.0), y=(0.9, 1.0)),
        best_accuracy=1.0, slope_floor=0.1,
    )  # fmt: skip
    trace, parts = orric.Trace(requests=[6, 1], budget_macs=[12, 2]), np.array([[[1.0], [0.5]], [[1.0], [1.0]]])
    proved, (optimum, _) = orric.bounds(profile, trace, parts), orric.exact_optimum(profile, trace, in_time=parts)
    # W_1 = 0.9 and V_1 = 0.1 / 6 b, so the floor of slot 1 is 1 / (1 + 0.1 / 6 / 0.9).
    assert proved.least_inference_profit == pytest.approx(1 / (1 + 0.1 / 6 / 0.9))
    earned = [
        orric.evaluate(profile, trace, allocator, in_time=parts).columns["correct_in_time"].sum() / optimum
        for allocator in (orric.Orric(), Stretched())
    ]
    assert earned[0] == 1.0
    assert earned[1] == pytest.approx((0.9 * 0.5 * 6 + 1.0) / (0.9 * 7))
    assert earned[1] < proved.theorem4


def test_the_first_weight_need_not_be_lowered() -> None:
    """With W_1 = F the second addition of the proof's step 4 is the optimum's instead of ORRIC's: the bound stands."""

    class AsLater(orric.Orric):
        def weights(self, task):
            retraining, inference = super().weights(task)
            return retraining, np.full_like(inference, inference[-1])

    held = (lambda case: AsLater(), lambda case, proved: proved.theorem4)
    rng, tried = np.random.default_rng(4), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(theorems_in_time.ALLOCATORS, "as-later", held)
        for number in range(600):
            shape = theorems_in_time.Shape.drawn(list(FAMILIES)[number % len(FAMILIES)], rng)
            case = shape.instance(rng.random(shape.size))
            proved = orric.bounds(case.profile, case.trace, case.in_time)
            tried += proved.alpha > 0
            assert not theorems_in_time.checked(case, proved, ["as-later"])["as-later"].violated
    assert tried > 300

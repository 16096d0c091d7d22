"""The published experiment: budgets hold exactly, for every corruption and every allocator."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import orric

from .builders import CIFAR

SLOTS, UPLOADS = 50, 1000
STUDENT_MACS, TEACHER_MACS = 7.94e6, 8.637e7


def spent(profile: orric.Profile, step: dict[str, str]) -> tuple[float, float]:
    """Return the costs per sample of a slot's pair."""
    retraining = {one.name: one.cost_macs for one in profile.retraining}
    inference = {one.name: one.cost_macs for one in profile.inference}
    return retraining[step["retraining"]], inference[step["inference"]]


def test_there_is_a_profile_for_every_published_corruption() -> None:
    assert len(CIFAR) == 19


@pytest.mark.parametrize("path", CIFAR, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", sorted(orric.ALLOCATORS))
def test_allocations_satisfy_every_budget_exactly(path: Path, name: str) -> None:
    profile = orric.Profile.load(path)
    rng = np.random.default_rng(20240521)
    budgets = rng.uniform(UPLOADS * STUDENT_MACS, UPLOADS * TEACHER_MACS, SLOTS)
    trace = orric.Trace(requests=[UPLOADS] * SLOTS, budget_macs=budgets)
    result = orric.evaluate(profile, trace, orric.make_allocator(name))
    assert len(result.allocations) == SLOTS
    for step, budget in zip(result.allocations, budgets.tolist(), strict=True):
        retraining, inference = spent(profile, step)
        assert UPLOADS * (retraining + inference) <= budget
        assert UPLOADS * (Fraction(retraining) + Fraction(inference)) <= Fraction(budget)
    assert 0 < result.mean_accuracy <= profile.best_accuracy


@pytest.mark.parametrize("path", CIFAR, ids=lambda path: path.stem)
def test_budget_equal_to_the_cost_of_a_pair_admits_it(path: Path) -> None:
    profile = orric.Profile.load(path)
    stream = orric.StreamTask.of(profile, UPLOADS, UPLOADS)
    pairs = [(one, other) for one in stream.retraining for other in stream.inference]
    trace = orric.Trace(
        requests=[UPLOADS] * len(pairs),
        budget_macs=[UPLOADS * (one.cost_macs + other.cost_macs) for one, other in pairs],
    )
    for name in sorted(orric.ALLOCATORS):
        result = orric.evaluate(profile, trace, orric.make_allocator(name))
        for step, budget in zip(result.allocations, trace.budget_macs.tolist(), strict=True):
            assert UPLOADS * sum(spent(profile, step)) <= budget
    frozen = orric.evaluate(profile, trace, orric.InferenceOnly()).allocations
    greedy = orric.evaluate(profile, trace, orric.InferenceGreedy()).allocations
    for (retraining, inference), alone, first in zip(pairs, frozen, greedy, strict=True):
        if retraining.cost_macs == 0:
            assert alone["inference"] == first["inference"] == inference.name
        if inference is stream.inference[-1]:
            assert (first["retraining"], first["inference"]) == (retraining.name, inference.name)


def test_noise_profiles_lose_their_32_px() -> None:
    for path in CIFAR:
        stream = orric.StreamTask.of(orric.Profile.load(path), UPLOADS, UPLOADS)
        kept = [one.name for one in stream.inference]
        noisy = path.stem.endswith("noise")
        assert ("32px" not in kept) == noisy, path.stem

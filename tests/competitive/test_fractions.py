"""Both ends of the interval against exact fractions, on instances as nasty as floating-point numbers allow."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import orric
from orric.learning import LearningExtent
from orric.objective import feasible

from ..builders import build_profile
from .instances import Instance, random_memory

COUNT, CHUNK = 2000, 250
Options = list[list[tuple[Fraction, Fraction]]]


def nasty(seed: int) -> Instance:
    """Draw an instance whose curve has a value in fractions: measured points, some of them on one line.

    Scales go from 1e-9 to 1e15, requests to a million to one, profits tie, and budgets are a cost or the number below.
    """
    rng = np.random.default_rng(seed)
    slots = int(rng.integers(1, 5))
    profit, cost, asked = 10.0 ** rng.uniform(-9, 3), 10.0 ** rng.uniform(-9, 15), 10.0 ** rng.uniform(0, 6)
    levels = np.sort(rng.choice([0.1, 0.2, 0.5, 0.5000000000000001, 0.7, 1.0], rng.integers(1, 3), replace=False))
    retraining = [(0.0, 0.0), *((float(level * profit), float(level * cost)) for level in levels)]
    serving = np.sort(rng.choice([0.1, 0.3, 0.6, 1.0], rng.integers(1, 4), replace=False))
    inference = [(float(level), float(cost * rng.choice([0.3, 0.9]) * level)) for level in serving / serving[-1]]
    rises = np.sort(rng.choice([0.0, 0.05, 0.1, 0.2], 3))[::-1]
    x = (0.0, *(float(part * retraining[-1][0]) for part in ((0.01, 0.3, 1.0), (0.3, 0.6, 2.0))[seed % 2]))
    slopes = rises / np.diff(x)
    y = 0.3 + np.concatenate([[0.0], np.cumsum(np.minimum.accumulate(slopes) * np.diff(x))])
    profile = build_profile(
        tuple(retraining), tuple(inference), best_accuracy=1.0, slope_floor=1e-300,
        curve=orric.Tabulated(x=x, y=tuple(y.tolist())),
        memory=random_memory(rng, ("uniform", "decay", "window")[seed % 3]),
    )  # fmt: skip
    requests = np.ceil(asked * rng.choice([1e-6, 0.3, 1.0], slots))
    pairs = [i[1] + j[1] for i in retraining for j in inference]
    least = retraining[0][1] + min(j[1] for j in inference)
    budgets = requests * rng.choice(pairs, slots)
    below = np.nextafter(budgets, 0.0)
    lowered = (rng.random(slots) < 0.3) & (below >= requests * least)
    return profile, orric.Trace(requests=requests, budget_macs=np.where(lowered, below, budgets))


def options_of(profile: orric.Profile, trace: orric.Trace) -> Options:
    """Return exact A^T and A^I D of the best inference beside each retraining configuration that fits."""
    slots = []
    for requests, budget in zip(trace.requests.tolist(), trace.budget_macs.tolist(), strict=True):
        some = []
        for i in profile.retraining:
            fits = [j.profit for j in profile.inference if feasible(requests, i.cost_macs, j.cost_macs, budget)]
            if fits:
                some.append((Fraction(i.profit), Fraction(max(fits)) * Fraction(requests)))
        slots.append(some)
    return slots


def accuracy(curve: Any, extent: Fraction) -> Fraction:
    """Evaluate a curve through measured points."""
    points = [(Fraction(x), Fraction(y)) for x, y in zip(curve.x, curve.y, strict=True)]
    for (x, y), (z, w) in itertools.pairwise(points):
        if extent <= z:
            return y + (w - y) * (extent - x) / (z - x)
    return points[-1][1]


def weights_of(memory: LearningExtent, requests: list[Fraction], slot: int) -> list[Fraction]:
    """Return what each of the slots before one weighs in its extent."""
    ages = [slot - 1 - s for s in range(slot)]
    if memory.kind == "window":
        weights = [requests[s] if age < memory.slots else Fraction(0) for s, age in enumerate(ages)]
    elif memory.kind == "decay":
        weights = [requests[s] * Fraction(memory.factor) ** age for s, age in enumerate(ages)]
    else:
        weights = requests[:slot]
    total = sum(weights)
    return [weight / total for weight in weights]


def best_of(profile: orric.Profile, trace: orric.Trace) -> Fraction:
    """Return the optimum, by trying everything."""
    requests = [Fraction(one) for one in trace.requests.tolist()]
    weights = [weights_of(profile.memory, requests, slot) for slot in range(trace.slots)]
    options = options_of(profile, trace)

    def following(slot: int, profits: list[Fraction]) -> Fraction:
        if slot == trace.slots:
            return Fraction(0)
        extent = sum((w * profit for w, profit in zip(weights[slot], profits, strict=True)), Fraction(0))
        now = accuracy(profile.curve, extent)
        return max(now * reward + following(slot + 1, [*profits, profit]) for profit, reward in options[slot])

    return following(0, [])


@pytest.mark.parametrize("first", range(0, COUNT, CHUNK))
def test_both_ends_hold_in_exact_fractions(first: int) -> None:
    for seed in range(first, first + CHUNK):
        instance = nasty(seed)
        exact = best_of(*instance)
        best = orric.offline_optimum(*instance, 1e-6)
        assert Fraction(best.lower) <= exact <= Fraction(best.upper), seed
        assert best.gap <= 1e-6, (seed, best.reason)
        # The checker proves no more than is true either.
        assert orric.verify(best.certificate).upper >= exact, seed


def test_instances_are_nasty() -> None:
    drawn = [nasty(seed) for seed in range(200)]
    assert {profile.memory.kind for profile, _ in drawn} == {"uniform", "decay", "window"}
    assert {trace.slots for _, trace in drawn} == {1, 2, 3, 4}
    assert max(trace.most_requests / trace.least_requests for _, trace in drawn) > 1e5
    costs = [profile.retraining[-1].cost_macs for profile, _ in drawn]
    assert min(costs) < 1e-7
    assert max(costs) > 1e13
    choices = [len(some) for profile, trace in drawn for some in options_of(profile, trace)]
    assert np.mean(np.array(choices) > 1) > 0.5

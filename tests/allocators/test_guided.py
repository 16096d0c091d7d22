"""Guided ORRIC: estimates decide, within what is proved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import orric
from orric.objective import feasible_together

from ..builders import build_profile, write_profile
from .instances import RNG, brute_force, costs_of, random_slot, random_task, two_gpus, value_of


def told(task, slot, agreements):
    """Return what is observed of every stream after a slot."""
    return [
        orric.Observation(slot, stream.name, 500.0, 500.0, 0.0, 0.0, 1.0, agreement)
        for stream, agreement in zip(task.streams, agreements, strict=True)
    ]


@pytest.mark.parametrize("give_up", [0.0, 0.01, 0.1, 0.4])
def test_no_more_is_given_up_than_allowed(give_up):
    rng, given = RNG(3), []
    for _ in range(12):
        task = random_task(rng, 3)
        allocator = orric.GuidedOrric(give_up=give_up, gap=0.0)
        allocator.reset(task, RNG(1))
        for index in range(1, 7):
            slot = random_slot(rng, task, index)
            decided = allocator.decide(slot).streams
            assert feasible_together(np.array(slot.requests), *costs_of(task, decided), slot.budgets_macs[0])
            part = value_of(task, slot, decided) / brute_force(task, slot)
            assert allocator.gaps[0] == pytest.approx(1 - part, abs=1e-9)
            # The first slot may borrow from later ones; of the others nobody tells what was chosen, and none may.
            if index > 1:
                assert part >= (1 - give_up) * (1 - 1e-9)
                given.append(1 - part)
            for record in told(task, index, rng.uniform(0.1, 0.9, 3)):
                allocator.observe(record)
    # It makes use of what it may give up, and not of nothing but that.
    assert max(given) <= give_up + 1e-9
    if give_up:
        assert max(given) > 0.3 * min(give_up, 0.2)


def test_the_student_that_does_worst_is_retrained_first():
    """Two streams alike, a budget for the retraining of one: who agrees less with the teacher gets it."""
    task = random_task(RNG(1), 1)
    first = task.streams[0]
    task = replace(task, streams=(first, replace(first, name="s1")))
    enough_macs = 2 * 500 * first.inference[-1].cost_macs + 500 * first.retraining[-1].cost_macs
    slot = orric.Slot(2, (enough_macs,), (500.0, 500.0))
    for worse in (0, 1):
        allocator = orric.GuidedOrric(give_up=0.05)
        allocator.reset(task, RNG(1))
        for record in told(task, 1, [0.3 if k == worse else 0.85 for k in (0, 1)]):
            allocator.observe(record)
        decided = allocator.decide(slot).streams
        profit = {one.name: one.profit for one in first.retraining}
        assert profit[decided[worse].retraining] > profit[decided[1 - worse].retraining]
        slopes = allocator.slopes(2)
        assert slopes[worse] == pytest.approx((first.best_accuracy - 0.3) / first.retraining[-1].profit)


def test_what_is_not_renewed_is_forgotten_by_a_tenth_per_slot():
    task = random_task(RNG(2), 2)
    allocator = orric.GuidedOrric(unknown=0.5)
    allocator.reset(task, RNG(1))
    best, most = task.streams[0].best_accuracy, task.streams[0].retraining[-1].profit
    assert allocator.slopes(1)[0] == pytest.approx(best / 2 / most)
    for record in told(task, 1, [0.8, None]):
        allocator.observe(record)
    for slot, left in ((2, 0.8), (3, best / 2 + (0.8 - best / 2) * 0.9), (4, best / 2 + (0.8 - best / 2) * 0.81)):
        assert allocator.slopes(slot)[0] == pytest.approx((best - left) / most)
    assert allocator.slopes(2)[1] == pytest.approx(best / 2 / task.streams[1].retraining[-1].profit)


def test_it_beats_joint_orric_where_streams_drift_unequally(tmp_path):
    paths = []
    for name, start in (("strong", 0.6), ("middle", 0.3), ("weak", 0.02)):
        curve = orric.Exponential(c=0.9, a=start, k=4.0)
        profile = build_profile(name=name, curve=curve, slope_floor=1e-3, best_accuracy=0.9)
        paths.append(write_profile(profile, tmp_path / f"{name}.toml"))
    scenario = two_gpus(tmp_path, paths, gpus=1, low=0.3, high=0.7, slots=30, requests=(200, 600))
    # Where L is far below all slopes, alpha is next to nothing, and so is what may be given up for nothing.
    joint, cautious, guided = (
        orric.simulate(scenario, one, 1)
        for one in (orric.JointOrric(), orric.GuidedOrric(), orric.GuidedOrric(give_up=0.05))
    )
    assert guided.mean_accuracy > cautious.mean_accuracy + 0.02 > joint.mean_accuracy + 0.02
    assert guided.summary()["worst_stream_accuracy"] > joint.summary()["worst_stream_accuracy"]


def test_one_stream_is_guided_too():
    trace = orric.Trace(requests=[100] * 20, budget_macs=[100 * 6e6] * 20)
    profile = build_profile(slope_floor=1e-4, curve=orric.Exponential(c=0.88, a=0.5, k=3.0))
    guided, plain = (orric.evaluate(profile, trace, one) for one in (orric.GuidedOrric(), orric.Orric()))
    assert guided.mean_accuracy >= plain.mean_accuracy


@pytest.mark.parametrize(("name", "value"), [("give_up", 1.0), ("give_up", -0.1), ("unknown", 1.1), ("gap", 1.0)])
def test_parts_out_of_range_are_refused(name, value):
    with pytest.raises(orric.ScenarioError, match=name):
        orric.GuidedOrric(**{name: value})

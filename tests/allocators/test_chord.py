"""Orric-chord: weights by hand, the guarantee where answers count by their deadline, joint decisions, and profiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import orric
from orric.allocators.chord import chord_factor
from orric.allocators.orric import slot_weights

from ..benchmarks.theorems import FAMILIES, Part, tallied
from ..builders import build_profile
from ..competitive.test_joint import Instance

CURVE = orric.Exponential(c=0.85, a=0.35, k=3.0)
ENDS: dict[str, Any] = {"start_accuracy": 0.5, "end_accuracy": 0.8}


def task_of(**changes: Any) -> orric.Task:
    """Return a task of the small profile, with some of its figures changed."""
    stream = orric.StreamTask.of(build_profile(curve=CURVE, **changes), 100, 400)
    return orric.Task(5, (stream,))


def test_the_weights_are_those_of_the_chord() -> None:
    task = task_of(**ENDS)
    # F / s = 1.8, S = 0.3, L = 0.01
    assert chord_factor(task.streams[0]) == pytest.approx(1.8 * 0.3 / 0.01)
    allocator = orric.ChordOrric()
    allocator.reset(task, np.random.default_rng(1))
    least, serving = slot_weights(task.streams[0], 5)
    assert allocator.retraining_weights == pytest.approx(54 * least)
    assert allocator.inference_weights == pytest.approx(serving)


def test_what_is_not_told_grants_nothing() -> None:
    assert chord_factor(task_of().streams[0]) == 1
    # Of f(A^T_max) nothing more than L says: only F / f(0) is left.
    assert chord_factor(task_of(start_accuracy=0.5).streams[0]) == pytest.approx(1.8)
    assert chord_factor(orric.StreamTask.of(build_profile(((0.0, 0.0),), start_accuracy=0.5), 1, 1)) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_the_guarantee_holds_with_any_weight_that_the_chord_grants(family: str) -> None:
    (found,) = tallied([Part(family, ("orric-chord", "any-chord"), 150)], seed=3, jobs=1)
    for name in ("orric-chord", "any-chord"):
        assert found[name].violations == 0
        assert found[name].instances == 150


def test_a_weight_beyond_the_chord_is_noticed() -> None:
    (found,) = tallied([Part("window, close", ("steep-chord",), 600)], seed=7, jobs=1)
    assert found["steep-chord"].violations > 0


def test_joint_chords_and_guided_choices_within_them_keep_the_joint_guarantee() -> None:
    differ = 0
    for seed in range(120):
        one: Any = Instance(seed)  # type: ignore[no-untyped-call]
        one.profiles = [
            profile.model_copy(
                update={
                    "start_accuracy": float(profile.curve(0.0)),
                    "end_accuracy": float(profile.curve(profile.most_profit)),
                }
            )
            for profile in one.profiles
        ]
        best = one.optimum()
        for allocator in (orric.JointChordOrric(gap=0.0), orric.GuidedOrric(give_up=0.0, gap=0.0)):
            value, _ = one.value(allocator)
            assert best * (1 + 1e-9) >= value >= one.bound(0.0)[0] * best * (1 - 1e-9), f"seed {seed}"
        differ += one.value(orric.GuidedOrric(give_up=0.0, gap=0.0)) != one.value(orric.JointOrric(gap=0.0))
    # Nothing is given up, and still it is free to follow its estimates.
    assert differ > 5


def test_one_stream_by_the_joint_allocator_is_decided_alike() -> None:
    profile = build_profile(curve=CURVE, **ENDS)
    rng = np.random.default_rng(2)
    trace = orric.Trace(requests=rng.uniform(390, 400, 30), budget_macs=rng.uniform(8e8, 3e9, 30))
    alone, joint = (orric.evaluate(profile, trace, one()).value for one in (orric.ChordOrric, orric.JointChordOrric))
    assert alone == joint != orric.evaluate(profile, trace, orric.Orric()).value


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"start_accuracy": 0.51}, "start_accuracy is 0.51 but a curve has 0.5 at x = 0"),
        ({**ENDS, "end_accuracy": 0.84}, "end_accuracy is 0.84 but a curve has 0.832575"),
        ({"end_accuracy": 0.8}, "end_accuracy is given without start_accuracy"),
        ({"start_accuracy": 0.0}, "start_accuracy"),
    ],
)
def test_profiles_refuse_what_is_above_their_curves(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(orric.ProfileError, match=told):
        build_profile(curve=CURVE, **changes)


def test_a_profile_keeps_what_it_tells(tmp_path: Any) -> None:
    profile = build_profile(curve=CURVE, **ENDS)
    profile.save(tmp_path / "p.toml")
    loaded = orric.Profile.load(tmp_path / "p.toml")
    assert (loaded.start_accuracy, loaded.end_accuracy) == (0.5, 0.8)
    trace = orric.Trace(requests=np.array([100.0, 400.0]), budget_macs=np.full(2, 1e10))
    proved = orric.bounds(loaded, trace)
    assert proved.chord == pytest.approx((1 + proved.alpha) * 0.5 / 0.9)


def test_the_line_weighs_by_the_chord_and_by_what_was_trained() -> None:
    """By hand: S = 0.3, answers now are right 0.5 + 0.3 x times A^I, later ones by sqrt(A^I_min A^I_max)."""
    profile = build_profile(
        ((0.0, 0.0), (1.0, 1.0)), ((0.64, 1.0), (1.0, 2.0)), best_accuracy=0.8, slope_floor=0.01,
        curve=orric.Tabulated(x=(0.0, 1.0), y=(0.5, 0.8)), **ENDS,
    )  # fmt: skip
    # Four slots: h = 11/6, 5/6, 1/3, 0. Retraining is worth 0.3 * 0.8 h = 0.44, 0.2, 0.08, 0; serving by the better
    # configuration is worth 0.36 (0.5 + 0.3 x) = 0.18 where nothing was trained, 0.288 where all was.
    for budgets, expected in (([2.0] * 4, "yes no no no"), ([1.0, 2.0, 2.0, 2.0], "no yes no no")):
        trace = orric.Trace(requests=[1.0] * 4, budget_macs=budgets)
        result = orric.evaluate(profile, trace, orric.make_allocator("orric-line"))
        retrained = ["yes" if macs else "no" for macs in result.columns["retraining_macs"].tolist()]
        assert " ".join(retrained) == expected
    plain = profile.model_copy(update={"start_accuracy": None, "end_accuracy": None})
    trace = orric.Trace(requests=[1.0] * 4, budget_macs=[2.0] * 4)
    by_line, by_orric = (
        orric.evaluate(plain, trace, orric.make_allocator(name)).allocations for name in ("orric-line", "orric")
    )
    assert by_line == by_orric

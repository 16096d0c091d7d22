"""Drift: every kind keeps its promises over any run, and bad tables are refused in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orric
from orric.drift import KINDS, Drift, LabelShift, Periodic, Ramp, RandomWalk, Steps
from orric.scenario import Stream

NAMES = st.sampled_from(["none", "fog", "contrast", "brightness"])
LEVELS = st.integers(0, 5)
SLOTS = st.integers(1, 60)
SEEDS = st.integers(0, 2**63 - 1)
BOUNDS = st.tuples(LEVELS, LEVELS).map(sorted)


@st.composite
def drifts(draw: Any) -> Drift:
    """Draw a drift of any kind, with one corruption or several."""
    common: dict[str, Any] = {}
    if draw(st.booleans()):
        common["corruption"] = draw(NAMES)
    else:
        common["corruptions"] = draw(st.lists(NAMES, min_size=1, max_size=3))
        common["corruption_slots"] = draw(st.none() | st.integers(1, 9))
    low, high = draw(BOUNDS)
    kind = draw(st.sampled_from(sorted(KINDS)))
    if kind == "steps":
        return Steps(**common, severities=draw(st.lists(LEVELS, min_size=1, max_size=6)))
    if kind == "ramp":
        return Ramp(**common, start=draw(LEVELS), end=draw(LEVELS))
    if kind == "periodic":
        shape = draw(st.sampled_from(["triangle", "sine"]))
        return Periodic(**common, low=low, high=high, period_slots=draw(st.integers(2, 20)), shape=shape)
    start = draw(st.none() | st.integers(low, high))
    return RandomWalk(**common, low=low, high=high, move=draw(st.floats(0, 1)), start=start)


def bounds(drift: Drift) -> tuple[int, int]:
    """Return the least and the largest severity that a drift may have, by its own description."""
    if isinstance(drift, Steps):
        return min(drift.severities), max(drift.severities)
    if isinstance(drift, Ramp):
        return min(drift.start, drift.end), max(drift.start, drift.end)
    assert isinstance(drift, Periodic | RandomWalk)
    return drift.low, drift.high


@given(drifts(), SLOTS, SEEDS)
def test_every_slot_has_a_corruption_and_a_severity_within_bounds(drift, slots, seed):
    found = drift.by_slot(slots, seed)
    assert len(found.corruptions) == slots
    assert found.severities.shape == (slots,)
    assert found.severities.dtype == np.int64
    assert found.label_mix is None
    low, high = bounds(drift)
    for corruption, severity in zip(found.corruptions, found.severities.tolist(), strict=True):
        assert type(corruption) is str
        assert severity == 0 if corruption == "none" else low <= severity <= high
    assert set(zip(found.corruptions, found.severities.tolist(), strict=True)) <= drift.pairs(slots)


@given(drifts(), SLOTS, SEEDS)
def test_the_same_seed_gives_the_same_drift(drift, slots, seed):
    first, again = drift.by_slot(slots, seed, 2), drift.by_slot(slots, seed, 2)
    assert first.corruptions == again.corruptions
    assert np.array_equal(first.severities, again.severities)


@given(drifts(), SLOTS)
def test_a_drift_comes_back_from_its_table(drift, slots):
    table = {"name": "s", "profile": "p", "requests": {"kind": "constant", "per_slot": 1}}
    stream = Stream.model_validate({**table, "drift": drift.model_dump(exclude_none=True)})
    assert stream.drift == drift
    assert Stream.model_validate(stream.model_dump(exclude_none=True)) == stream


@given(SLOTS, st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_a_run_is_parted_evenly_among_corruptions(slots, names):
    found = Steps(corruptions=names, severities=(1,)).by_slot(slots, 1).corruptions
    counts = [found.count(name) for name in names]
    assert max(counts) - min(counts) <= 1
    assert list(dict.fromkeys(found)) == names[:slots]


def test_corruptions_take_turns():
    drift = Steps(corruptions=("fog", "contrast"), corruption_slots=2, severities=(1, 2))
    found = drift.by_slot(7, 1)
    assert found.corruptions == ("fog", "fog", "contrast", "contrast", "fog", "fog", "contrast")
    assert found.severities.tolist() == [1, 1, 1, 1, 2, 2, 2]


def test_clean_slots_have_severity_0_whatever_the_others_have():
    found = Ramp(corruptions=("none", "fog"), start=3, end=5).by_slot(6, 1)
    assert found.severities.tolist() == [0, 0, 0, 4, 5, 5]


@pytest.mark.parametrize(
    ("drift", "slots", "expected"),
    [
        (Ramp(corruption="fog", start=1, end=5), 5, [1, 2, 3, 4, 5]),
        (Ramp(corruption="fog", start=5, end=1), 5, [5, 4, 3, 2, 1]),
        (Ramp(corruption="fog", start=0, end=1), 6, [0, 0, 0, 1, 1, 1]),
        (Ramp(corruption="fog", start=4, end=1), 1, [4]),
        (Periodic(corruption="fog", low=1, high=5, period_slots=8), 10, [1, 2, 3, 4, 5, 4, 3, 2, 1, 2]),
        (Periodic(corruption="fog", low=0, high=4, period_slots=8, shape="sine"), 9, [0, 1, 2, 3, 4, 3, 2, 1, 0]),
        (Periodic(corruption="fog", low=1, high=5, period_slots=8, shape="sine"), 4, [1, 2, 3, 4]),
        (Periodic(corruption="fog", low=2, high=4, period_slots=2), 5, [2, 4, 2, 4, 2]),
        (RandomWalk(corruption="fog", low=1, high=5, move=0.0, start=4), 3, [4, 4, 4]),
        (RandomWalk(corruption="fog", low=2, high=2, move=1.0), 3, [2, 2, 2]),
    ],
)
def test_severities_worked_by_hand(drift, slots, expected):
    assert drift.by_slot(slots, 1).severities.tolist() == expected


@given(BOUNDS, st.floats(0.1, 1.0), SEEDS)
def test_a_walk_goes_step_by_step_and_differs_between_seeds_and_streams(levels, move, seed):
    low, high = levels
    drift = RandomWalk(corruption="fog", low=low, high=high, move=move)
    walk = drift.by_slot(200, seed).severities
    assert walk[0] == low
    assert set(np.diff(walk).tolist()) <= {-1, 0, 1}
    if low < high:
        assert not np.array_equal(walk, drift.by_slot(200, seed + 1).severities)
        assert not np.array_equal(walk, drift.by_slot(200, seed, 1).severities)


def test_a_walk_moves_as_often_as_it_says_and_visits_all_levels_alike():
    """A walk that does not make the steps out of its bounds is symmetric, so every level is as likely in the end."""
    drift = RandomWalk(corruption="fog", low=1, high=5, move=0.4)
    walk = drift.by_slot(200_000, 1).severities
    inside = (walk[:-1] > 1) & (walk[:-1] < 5)
    assert (np.diff(walk)[inside] != 0).mean() == pytest.approx(0.4, abs=0.01)
    assert np.bincount(walk, minlength=6)[1:] / len(walk) == pytest.approx(0.2, abs=0.02)


def test_pairs_of_a_walk_are_those_that_it_can_reach():
    walk = RandomWalk(corruptions=("fog", "none"), low=0, high=5, move=0.5, start=3)
    assert walk.pairs(4) == {("fog", 2), ("fog", 3), ("fog", 4), ("none", 0)}
    assert walk.pairs(1) == {("fog", 3)}
    assert RandomWalk(corruption="fog", low=0, high=5, move=0.0).pairs(9) == {("fog", 0)}


def test_the_new_purpose_leaves_the_numbers_of_the_others_alone():
    from orric.randomness import PURPOSES

    assert PURPOSES[:7] == ("budget", "arrivals", "images", "retraining", "allocator", "adversary", "ensemble")


MIXES = st.integers(1, 5).flatmap(
    lambda classes: st.lists(
        st.lists(st.floats(0, 1e300), min_size=classes, max_size=classes).filter(lambda mix: max(mix) > 1e-300),
        min_size=1,
        max_size=4,
    )
)


@given(st.sampled_from(["steps", "ramp"]), MIXES, SLOTS)
def test_label_mixes_are_probabilities_from_the_first_mix_to_the_last(kind, mixes, slots):
    shift = LabelShift(kind=kind, mixes=mixes)
    found = Steps(corruption="fog", labels=shift).by_slot(slots, 1).label_mix
    assert found is not None
    assert found.shape == (slots, len(mixes[0]))
    assert (found >= 0).all()
    assert found.sum(axis=1) == pytest.approx(1.0)
    first, last = (np.array(mix) / max(mix) for mix in (mixes[0], mixes[-1]))
    assert found[0] == pytest.approx(first / first.sum())
    if slots >= len(mixes) > 1:
        assert found[-1] == pytest.approx(last / last.sum())


def test_label_mixes_step_or_ramp():
    mixes = ((4, 0), (1, 3), (0, 2))
    stepped = LabelShift(kind="steps", mixes=mixes).by_slot(5)
    assert stepped[:, 0].tolist() == [1.0, 1.0, 0.25, 0.25, 0.0]
    ramped = LabelShift(kind="ramp", mixes=mixes).by_slot(5)
    assert ramped[:, 0].tolist() == [1.0, 0.625, 0.25, 0.125, 0.0]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "rampp", "corruption": "fog"}, ["'rampp' is unknown", "did you mean 'ramp'"]),
        ({"kind": "random_walk", "corruption": "fog"}, ["did you mean 'random-walk'"]),
        ({"kind": ["steps"], "corruption": "fog"}, ["is unknown"]),
        ({"kind": "steps"}, ["neither corruption nor corruptions"]),
        ({"kind": "steps", "corruption": "fog", "corruptions": ["fog"]}, ["corruption and corruptions", "one of"]),
        ({"kind": "steps", "corruptions": []}, ["corruptions"]),
        ({"kind": "steps", "corruption": "fog", "corruption_slots": 3}, ["corruption_slots without corruptions"]),
        ({"kind": "steps", "corruptions": ["fog"], "corruption_slots": 0}, ["corruption_slots", "0"]),
        ({"kind": "steps", "corruption": "fog", "low": 1}, ["'low'", "for the kind 'steps'"]),
        ({"kind": "ramp", "corruption": "fog", "start": 1}, ["'end' is missing"]),
        ({"kind": "ramp", "corruption": "fog", "start": 1, "end": 6}, ["end", "6"]),
        ({"kind": "ramp", "corruption": "fog", "start": 1, "ends": 5}, ["'ends'", "did you mean 'end'"]),
        ({"kind": "periodic", "corruption": "fog", "low": 3, "high": 1, "period_slots": 4}, ["low is 3 and high 1"]),
        ({"kind": "periodic", "corruption": "fog", "low": 1, "high": 3, "period_slots": 1}, ["period_slots", "1"]),
        (
            {"kind": "periodic", "corruption": "fog", "low": 1, "high": 3, "period_slots": 4, "shape": "sinus"},
            ["'sinus'", "did you mean 'sine'"],
        ),
        ({"kind": "random-walk", "corruption": "fog", "low": 1, "high": 3}, ["'move' is missing"]),
        ({"kind": "random-walk", "corruption": "fog", "low": 1, "high": 3, "move": 1.5}, ["move", "1.5"]),
        ({"kind": "random-walk", "corruption": "fog", "low": 1, "high": 3, "move": 0.5, "start": 4}, ["start is 4"]),
        ({"corruption": "fog", "labels": {"kind": "stepps", "mixes": [[1, 1]]}}, ["'stepps'", "did you mean 'steps'"]),
        ({"corruption": "fog", "labels": {"kind": "steps", "mixes": []}}, ["mixes"]),
        ({"corruption": "fog", "labels": {"kind": "steps", "mixes": [[1, 1], [1]]}}, ["mix 2 has 1", "mix 1 has 2"]),
        ({"corruption": "fog", "labels": {"kind": "steps", "mixes": [[0, 0]]}}, ["mix 1 sum to 0"]),
        ({"corruption": "fog", "labels": {"kind": "steps", "mixes": [[]]}}, ["mix 1 sum to 0"]),
        ({"corruption": "fog", "labels": {"kind": "steps", "mixes": [[1, -1]]}}, ["mixes", "-1"]),
        ({"corruption": "fog", "labels": {"kind": "steps", "mix": [[1, 1]]}}, ["'mix'", "did you mean 'mixes'"]),
        ("fog", ["drift", "'fog'"]),
    ],
)
def test_bad_drift_is_refused_in_one_line(table, words):
    values = {"name": "s", "profile": "p", "requests": {"kind": "constant", "per_slot": 1}, "drift": table}
    with pytest.raises(orric.ScenarioError) as caught:
        Stream(**values)
    message = str(caught.value)
    assert "\n" not in message
    assert "drift" in message
    for word in words:
        assert word in message, message

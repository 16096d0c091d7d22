"""What a student that was retrained under one drift is worth under another."""

from __future__ import annotations

import numpy as np
import pytest

from orric.accuracy import TableAccuracy
from orric.exceptions import ProfileError
from orric.transfer import PRIOR_SAMPLES, RetrainedOn, Transfer, distance

from .builders import build_profile

CLEAN, FOG, SNOW = ("none", 0), ("fog", 2), ("snow", 2)
# Rows: retrained on; columns: served under.
MATRIX = [[0.80, 0.50, 0.55], [0.70, 0.70, 0.60], [0.75, 0.62, 0.66]]


def transfer(**changed: object) -> Transfer:
    """Make one of two inference configurations."""
    table = {"drifts": [CLEAN, FOG, SNOW], "accuracy": {"i0": MATRIX, "i1": MATRIX}, "samples_per_slot": 200}
    return Transfer.model_validate({**table, **changed})


def tabled(**changed: object):
    """Make a profile with a table of the three drifts and a transfer."""
    profile = build_profile()
    names = [one.name for one in profile.inference]
    table = [
        {"corruption": c, "severity": s, "inference": name, "accuracy": frozen, "retrained": retrained}
        for (c, s), frozen, retrained in ((CLEAN, 0.8, 0.8), (FOG, 0.4, 0.7), (SNOW, 0.5, 0.66))
        for name in names
    ]
    accuracy = dict.fromkeys(names, MATRIX)
    measured = {**transfer(**changed).model_dump(), "accuracy": accuracy}
    return build_profile(table=table, transfer=measured, training={"statistics": "received"})


def run(profile, drifts, count=200, retrained=(), mixes=None):
    """Return the predicted accuracy of each slot, retrained on the slots named."""
    corruptions, severities = zip(*drifts, strict=True)
    model = TableAccuracy(profile, corruptions, severities, label_mix=mixes)
    name, most = profile.inference[0].name, max(profile.retraining, key=lambda one: one.profit)
    found, done = [], False
    for slot in range(1, len(drifts) + 1):
        model.arrive(slot, count)
        found.append(model.serve(slot, most.profit if done else 0.0, name, 1))
        if slot in retrained:
            model.retrain(slot, most.name, 0.0)
            model.swap()
            done = True
    return np.array(found)


def test_statistics_are_a_mixture_in_proportion_to_the_samples() -> None:
    once = RetrainedOn().after(FOG, 3 * PRIOR_SAMPLES, usual=200)
    assert once.parts == {FOG: 0.75}
    assert once.variance == pytest.approx(0.75**2 / 48)
    twice = once.after(CLEAN, PRIOR_SAMPLES, usual=200, distance=0.4)
    assert twice.parts == {FOG: 0.375, CLEAN: 0.5}
    assert (twice.retrained, twice.distance) == (0.875, 0.2)
    # Without a prior the newest samples are all there is.
    alone = once.after(CLEAN, 5, usual=50, prior=0)
    assert alone.parts == {CLEAN: 1.0}
    assert (alone.variance, alone.usual_variance) == pytest.approx((1 / 5, 1 / 50))


def test_what_was_retrained_elsewhere_is_worth_what_was_measured_there() -> None:
    profile = tabled()
    newest = 200 / 216
    found = run(profile, [FOG, FOG, SNOW, CLEAN], retrained=(1,))
    assert found[0] == pytest.approx(0.4)
    assert found[1] == pytest.approx((1 - newest) * 0.4 + newest * 0.7)
    # Under snow it loses what the matrix says beside one that was retrained there.
    assert found[2] == pytest.approx((1 - newest) * 0.5 + newest * 0.66 - newest * (0.66 - 0.60))
    assert found[3] == pytest.approx(0.8 - newest * (0.80 - 0.70))


def test_few_samples_and_few_classes_cost_what_was_fitted() -> None:
    plain = run(tabled(), [FOG, FOG], count=10, retrained=(1,))[1]
    few = run(tabled(small_slots=2.0), [FOG, FOG], count=10, retrained=(1,))[1]
    newest = 10 / 26
    assert plain - few == pytest.approx(2.0 * (newest**2 / 10 - (200 / 216) ** 2 / 200))
    half = np.tile([0.2, 0.2, 0.2, 0.2, 0.2, 0, 0, 0, 0, 0], (2, 1))
    skewed = run(tabled(few_classes=0.1), [FOG, FOG], count=10, retrained=(1,), mixes=half)[1]
    assert plain - skewed == pytest.approx(0.1 * newest * distance(half[0]))


def test_slots_as_large_as_those_measured_cost_nothing_whatever_statistics_are_of() -> None:
    """What few samples cost is counted from what the table was measured with, at any sampling ratio."""
    for statistics in ("sampled", "received"):
        predicted = []
        for cost in (0.0, 2.0):
            profile = tabled(small_slots=cost)
            training = profile.training.model_copy(update={"statistics": statistics})
            changed = profile.model_copy(update={"training": training})
            predicted.append(run(changed, [FOG] * 4, count=200, retrained=(1, 2, 3)))
        assert predicted[0] == pytest.approx(predicted[1], abs=1e-12)


def test_weights_that_are_refused_or_wait_change_nothing() -> None:
    profile = tabled()
    most = max(profile.retraining, key=lambda one: one.profit)
    model = TableAccuracy(profile, ["fog"] * 2, [2] * 2)
    model.arrive(1, 200)
    model.retrain(1, most.name, 0.0)
    assert model.serve(1, 0.0, "i0", 1) == pytest.approx(0.4)
    model.refuse()
    assert model.serve(1, 0.0, "i0", 1) == pytest.approx(0.4)
    model.arrive(2, 200)
    model.retrain(2, most.name, 0.0)
    model.swap()
    # The student in training went on from what was refused.
    before = 200 / 216
    assert model._served.parts["fog", 2] == pytest.approx(1 - (1 - before) ** 2)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"drifts": [CLEAN, FOG, FOG]}, "a drift stands twice"),
        ({"accuracy": {"i0": MATRIX[:2]}}, "is not 3 rows of 3 numbers"),
        ({"accuracy": {"i0": [[1.2, 0, 0]] * 3}}, "1.2"),
    ],
)
def test_impossible_matrices_are_refused(changed: dict[str, object], says: str) -> None:
    with pytest.raises((ProfileError, ValueError), match=says):
        transfer(**changed)


def test_a_matrix_of_a_configuration_that_there_is_not_is_refused() -> None:
    measured = {**transfer().model_dump(), "accuracy": {"i7": MATRIX}}
    with pytest.raises(
        ProfileError, match=r"transfer.accuracy names the inference configuration 'i7'; known: i0, i1, i2"
    ):
        build_profile(transfer=measured)

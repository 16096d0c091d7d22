"""The given student serves where more is expected of it; and statistics of one drift do no harm under the next."""

from __future__ import annotations

import numpy as np
import pytest

from orric.drift import Steps
from orric.profile import Profile
from orric.retraining.accuracy import OnnxAccuracy
from orric.retraining.fallback import KEPT, LOOKED_AT, MARGIN, PRIOR, Fallback, confidence
from orric.retraining.loop import FULL_PX, Student
from orric.vision.datasets import to_input

from ..builders import ROOT


def profile(fallback: bool) -> Profile:
    """Return the digits profile, statistics of all received."""
    shipped = Profile.load(ROOT / "traces/profiles/digits.toml")
    training = shipped.training.model_copy(update={"statistics": "received", "fallback": fallback})
    return shipped.model_copy(update={"training": training})


def test_confidence_is_the_mean_probability_of_the_class_chosen() -> None:
    logits = np.log(np.float32([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]))
    assert confidence(logits + 5) == pytest.approx(0.75, rel=1e-6)


def logits_of(confidences: list[float], classes: list[int]) -> np.ndarray:
    """Return logits of two classes by which a network chooses these, so surely."""
    chosen = zip(confidences, classes, strict=True)
    return np.log([[1 - sure, sure] if one else [sure, 1 - sure] for sure, one in chosen]).astype(np.float32)


def test_the_given_student_serves_unless_the_newest_is_expected_to_be_right_of_more() -> None:
    fallback, logits = Fallback(), logits_of([0.7, 0.8], [0, 1])
    assert fallback.chooses(32, logits, logits)
    assert fallback.chooses(32, logits, logits_of([0.71, 0.82], [0, 1]))
    assert not fallback.chooses(32, logits, logits_of([0.73, 0.82], [0, 1]))
    assert MARGIN == 0.02


def test_labelled_samples_say_what_confidence_does_not_resolution_by_resolution() -> None:
    fallback, labels = Fallback(), np.arange(8) % 2
    # Sure and wrong, beside one that is unsure and right.
    given, newest = logits_of([0.9] * 8, (1 - labels).tolist()), logits_of([0.6] * 8, labels.tolist())
    assert fallback.lead(32, given, newest) == pytest.approx(0.3, rel=1e-5)
    fallback.learn(32, given, newest, labels)
    assert fallback.lead(32, given, newest) == pytest.approx(0.3 - 8 * 1.3 / (8 + PRIOR), rel=1e-5)
    assert not fallback.chooses(32, given, newest)
    assert fallback.chooses(24, given, newest), "at another resolution nothing was seen"
    # What was seen before counts less the longer ago it is.
    for _ in range(20):
        fallback.learn(32, given, newest, 1 - labels)
    many = 8 / (1 - KEPT)
    assert fallback.lead(32, given, newest) == pytest.approx(0.3 + many * 0.7 / (many + PRIOR), rel=1e-4)


def adapted(fallback: bool) -> Student:
    """Return a student that was retrained on strong noise."""
    student = Student(profile(fallback))
    rng = np.random.default_rng(1)
    for _ in range(3):
        images, _ = student.dataset.draw(100, rng, "streamed", None, "gaussian_noise", 5)
        student.retrain(images, rng, None, images)
        student.swap()
    return student


def test_a_student_that_returns_to_clean_images_is_not_worse_than_the_frozen_one() -> None:
    student = adapted(fallback=True)
    rng = np.random.default_rng(2)
    clean, truth = student.dataset.draw(300, rng, "streamed")
    noisy, noisy_truth = student.dataset.draw(300, rng, "streamed", None, "gaussian_noise", 5)

    def right(images, labels, given):
        return float((student.classify(images, FULL_PX, given) == labels).mean())

    assert student.falls_back(clean, FULL_PX)
    assert not student.falls_back(noisy, FULL_PX)
    assert right(clean, truth, True) > right(clean, truth, False) + 0.01
    assert right(noisy, noisy_truth, False) > right(noisy, noisy_truth, True) + 0.1
    # Agreement is that of the student that serves.
    labels = student.label(clean)
    assert student.agreement(clean, labels) == (student.classify(clean, FULL_PX, True) == labels).mean()


def test_a_student_learns_from_what_it_is_not_trained_on_yet() -> None:
    student, rng = adapted(fallback=True), np.random.default_rng(3)
    images, truth = student.dataset.draw(200, rng, "streamed", None, "contrast", 5)
    served = student.logits(to_input(images, FULL_PX)), student.logits(to_input(images, FULL_PX), given=True)
    before = student.fallback.lead(FULL_PX, served[1], served[0])
    student.compare(images, truth)
    looked = slice(LOOKED_AT)
    right = [(one[looked].argmax(axis=1) == truth[looked]).mean() for one in served]
    sure = [confidence(one[looked]) for one in served]
    beyond = (right[1] - right[0]) - (sure[1] - sure[0])
    after = student.fallback.lead(FULL_PX, served[1], served[0])
    assert after - before == pytest.approx(beyond * LOOKED_AT / (LOOKED_AT + PRIOR), abs=1e-6)
    # Before anything was retrained there is nothing to compare, and without the setting no need.
    for other in (Student(profile(fallback=True)), adapted(fallback=False)):
        other.compare(images, truth)
        assert not other.fallback._beyond


def test_without_the_setting_or_a_retraining_the_newest_serves() -> None:
    assert not adapted(fallback=False).falls_back(np.zeros((3, 32, 32, 3), np.uint8), FULL_PX)
    assert not Student(profile(fallback=True)).falls_back(np.zeros((3, 32, 32, 3), np.uint8), FULL_PX)


def test_the_loop_compares_before_it_trains() -> None:
    drift = Steps(corruption="contrast", severities=(5,)).by_slot(2, 1)
    model = OnnxAccuracy(profile(True), drift, 1)
    for slot in (1, 2):
        model.arrive(slot, 60)
        model.retrain(slot, "100%", 0.0)
        model.swap()
        # At the first retraining there is no other student than the given one.
        known = {px: count for px, (_, count) in model.student.fallback._beyond.items()}
        assert known == ({} if slot == 1 else dict.fromkeys(model.student.resolutions_px, LOOKED_AT))


@pytest.mark.parametrize("uploads", [True, False])
def test_who_comes_before_it_is_known_is_served_as_before(uploads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    drift = Steps(corruption="gaussian_noise", severities=(5, 0)).by_slot(2, 1)
    model = OnnxAccuracy(profile(True), drift, 1, uploads=uploads)
    name = max(model._models.resolution_px, key=model._models.resolution_px.get)
    model.arrive(1, 100)
    model.right(name, np.arange(100))
    model.retrain(1, "100%", 0.0)
    model.swap()
    model.arrive(2, 60)
    asked: dict[bool, int] = {}
    whole = model.student.classify

    def counted(images, px, given=False):
        asked[given] = len(images)
        return whole(images, px, given)

    monkeypatch.setattr(model.student, "classify", counted)
    model.right(name, np.arange(100, 160))
    assert asked == ({True: 60} if uploads else {False: LOOKED_AT, True: 60 - LOOKED_AT})

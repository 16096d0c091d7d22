"""Batch-norm statistics after a retraining: from which images, and how much those before count."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs orric[models]")
pytest.importorskip("onnx", reason="needs orric[models]")
pytest.importorskip("onnxruntime", reason="needs orric[models]")
pytest.importorskip("sklearn", reason="needs orric[models]")

import torch
from torch import nn

import orric
from orric.drift import Steps
from orric.retraining.accuracy import OnnxAccuracy
from orric.retraining.loop import Student
from orric.retraining.training import mix_statistics, refresh_statistics, statistics_of
from orric.transfer import PRIOR_SAMPLES
from orric.vision.arrays import Labels
from orric.vision.datasets import Pixels, to_input

from ..builders import PROFILES
from .test_loop import images_of

FEW, MANY = 2, 100


def trained_with(statistics: str) -> orric.Profile:
    """Return the profile of the digits, its student retrained with statistics from some samples."""
    profile = orric.Profile.load(PROFILES / "digits.toml")
    training = profile.training.model_copy(update={"statistics": statistics})
    return profile.model_copy(update={"training": training})


def student(statistics: str) -> Student:
    return Student(trained_with(statistics))


def accuracy_after(statistics: str, labelled: int) -> float:
    """Return the accuracy on a slot of fog after five slots of which few samples are labelled."""
    subject = student(statistics)
    for slot in range(1, 6):
        images, _ = images_of(slot, MANY, "fog", 3)
        subject.retrain(images[:labelled], np.random.default_rng(slot), received=images)
        subject.swap()
    images, truth = images_of(6, 400, "fog", 3)
    return float((subject.classify(images, 32) == truth).mean())


def test_mixed_statistics_are_those_of_all_images():
    """Of two equal parts, by the part of each, the same as of both at once."""
    network = nn.Sequential(nn.BatchNorm2d(3))
    images = torch.from_numpy(np.random.default_rng(1).normal(2.0, 3.0, (64, 3, 32, 32)).astype(np.float32))
    images[:32] += 5.0
    refresh_statistics(network, images)
    ((mean, variance),) = [(mean.clone(), variance.clone()) for mean, variance in statistics_of(network)]
    refresh_statistics(network, images[:32])
    first = [(mean.clone(), variance.clone()) for mean, variance in statistics_of(network)]
    refresh_statistics(network, images[32:])
    mix_statistics(network, first, 0.5)
    ((mixed_mean, mixed_variance),) = statistics_of(network)
    torch.testing.assert_close(mixed_mean, mean)
    # Variances are without bias, each by its own number of values.
    torch.testing.assert_close(mixed_variance, variance, rtol=1e-4, atol=0.0)


def test_two_labelled_samples_of_a_hundred_do_no_harm():
    """From two samples alone statistics come out so wrong that the student has forgotten most of what it knew."""
    images, truth = images_of(6, 400, "fog", 3)
    frozen = float((student("received").classify(images, 32) == truth).mean())
    received, sampled = accuracy_after("received", FEW), accuracy_after("sampled", FEW)
    assert received > frozen
    assert received > sampled + 0.1


def test_all_labelled_is_nearly_as_ever():
    assert accuracy_after("received", MANY) == pytest.approx(accuracy_after("sampled", MANY), abs=0.03)


def test_more_images_leave_less_of_the_statistics_before():
    """The part of those before is PRIOR_SAMPLES / (PRIOR_SAMPLES + n)."""
    kept = []
    for count in (4, 16, 400):
        subject = student("received")
        images, _ = images_of(1, 400, "fog", 5)
        (first, *_) = [mean.clone() for mean, _ in statistics_of(subject.network)]
        subject.retrain(images[:2], np.random.default_rng(1), received=images[:count])
        (after, *_) = [mean for mean, _ in statistics_of(subject.network)]
        # Of the first norm, whose inputs hardly change by two samples' steps.
        network = student("received").network
        refresh_statistics(network, torch.from_numpy(images[:count].transpose(0, 3, 1, 2) / np.float32(255)))
        (fresh, *_) = [mean for mean, _ in statistics_of(network)]
        kept.append(float(((after - fresh) * (first - fresh)).sum() / (first - fresh).square().sum()))
    assert all(more > less for more, less in pairwise(kept))
    assert kept[1] == pytest.approx(PRIOR_SAMPLES / (PRIOR_SAMPLES + 16), abs=0.1)


def noise(slot: int, count: int = MANY) -> tuple[Pixels, Labels]:
    return images_of(slot, count, "gaussian_noise", 5)


def test_statistics_at_the_resolution_that_serves_suit_it():
    """Scaling down smooths noise, so that what was taken at the full resolution misleads below it, and the reverse."""
    images, truth = noise(6, 400)
    accuracy = {}
    for taken_px in (32, 20):
        subject = student("received")
        for slot in range(1, 6):
            received, _ = noise(slot)
            subject.retrain(received[:20], np.random.default_rng(slot), received=received, served_px=(taken_px,))
            subject.swap()
        accuracy.update({(taken_px, px): (subject.classify(images, px) == truth).mean() for px in (32, 20)})
        assert subject.agreement(images, truth, 20) == accuracy[taken_px, 20]
    assert accuracy[20, 20] > accuracy[32, 20] + 0.02
    assert accuracy[32, 32] > accuracy[20, 32] + 0.02


def test_several_resolutions_at_once_are_each_as_alone():
    """The loop and a calibration serve at all of them after one training."""
    all_px = (32, 28, 20)
    together, alone = student("received"), {px: student("received") for px in all_px}
    images, _ = noise(9, 40)
    for slot in range(1, 4):
        received, _ = noise(slot)
        for subject, served_px in [(together, all_px), *((alone[px], (px,)) for px in all_px)]:
            subject.retrain(received[:30], np.random.default_rng(slot), received=received, served_px=served_px)
            subject.swap()
        for px in all_px:
            inputs = to_input(images, px)
            np.testing.assert_allclose(together.logits(inputs), alone[px].logits(inputs), atol=1e-4)
    # Which is not what statistics of one resolution do at another.
    inputs = to_input(images, 20)
    assert np.abs(alone[32].logits(inputs) - alone[20].logits(inputs)).max() > 0.1


def test_the_loop_serves_every_resolution_with_statistics_of_its_own():
    """Whichever it served at before: what an allocator chose in one slot does not show in the next one's answers."""
    drift = Steps(corruption="gaussian_noise", severities=(5,)).by_slot(3, 1)
    models = [OnnxAccuracy(trained_with("received"), drift, 1) for _ in range(2)]
    found = []
    for model, names in zip(models, (("20px", "28px"), ("28px", "20px")), strict=True):
        for slot, name in enumerate(names, 1):
            model.arrive(slot, 60)
            model.right(name, np.arange(60 * (slot - 1), 60 * slot))
            model.retrain(slot, "100%", 0.0)
            waiting = to_input(model._parts[0].images, 20)
            before = model.student.logits(waiting)
            # Not before they serve, however long the swap waits.
            model.arrive(slot + 1, 60)
            np.testing.assert_array_equal(model.student.logits(waiting), before)
            model.swap()
            assert not np.array_equal(model.student.logits(waiting), before)
        found.append({px: model.student.logits(to_input(noise(9, 40)[0], px)) for px in (32, 28, 20)})
    for px, logits in found[0].items():
        np.testing.assert_array_equal(logits, found[1][px])


def test_statistics_of_what_is_trained_on_are_of_the_resolution_that_is_trained_at():
    drift = Steps(corruption="gaussian_noise", severities=(5,)).by_slot(3, 1)
    model = OnnxAccuracy(trained_with("sampled"), drift, 1)
    model.arrive(1, 60)
    model.right("20px", np.arange(60))
    model.retrain(1, "100%", 0.0)
    model.swap()
    student = model.student
    inputs = to_input(noise(9, 40)[0], 20)
    with torch.no_grad():
        expected = student.network(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(student.logits(inputs), expected, atol=1e-4)

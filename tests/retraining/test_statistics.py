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
from orric.retraining.loop import Student
from orric.retraining.training import mix_statistics, refresh_statistics, statistics_of
from orric.transfer import PRIOR_SAMPLES

from ..builders import PROFILES
from .test_loop import images_of

FEW, MANY = 2, 100


def student(statistics: str) -> Student:
    """Return the shipped student of the digits, retrained with statistics from some samples."""
    profile = orric.Profile.load(PROFILES / "digits.toml")
    training = profile.training.model_copy(update={"statistics": statistics})
    return Student(profile.model_copy(update={"training": training}))


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

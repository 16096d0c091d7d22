"""Uploads that are meant to spoil the student, or are just few: what honest clients see of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orric.edge.page import status
from orric.retraining.accuracy import drifted
from orric.vision.datasets import digits, to_input

from .conftest import DIGITS

PER_SLOT = 100


def accuracy(daemon: Any, corruption: str = "none", severity: int = 0) -> float:
    """Return the accuracy of the student that serves, on images that nobody sends."""
    images, labels = drifted(digits(), 99, 1, 500, corruption, severity)
    return float((daemon.versions.model.logits(to_input(images, 32)).argmax(axis=1) == labels).mean())


def noise(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def pass_slot(daemon: Any, *uploads: np.ndarray) -> Any:
    """Let images come, and a slot learn from them; return its row."""
    for images in uploads:
        daemon.uploads.arrive(images)
    daemon.uploads.close_slot()
    daemon.loop.learner.prepare()
    daemon.loop.learner.wait()
    daemon.loop.begin()
    daemon.loop.learner.wait()
    daemon.loop.finish()
    return daemon.loop.rows[-1]


@pytest.fixture(scope="module")
def ample(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a profile whose only way to retrain is on all samples."""
    from orric.profile import Profile

    folder = tmp_path_factory.mktemp("ample")
    table = Profile.load(DIGITS).moved(folder).model_dump(exclude_none=True)
    table["retraining"] = [one for one in table["retraining"] if one["name"] in ("none", "100%")]
    table["models"]["sampling_ratio"] = {"none": 0.0, "100%": 1.0}
    Profile(**table).save(folder / "profile.toml")
    return folder / "profile.toml"


@pytest.fixture
def learner(open_daemon, ample) -> Any:
    return open_daemon(
        retrains=True, profile=ample, slot_s=600.0, budget__macs_per_s=1e9, allocator="inference-greedy", shadow=[]
    )  # fmt: skip


def test_too_few_images_teach_nothing(learner) -> None:
    """Four images of noise in a slot once cost 68 points, and two honest ones a slot 22 over four slots."""
    before = accuracy(learner)
    row = pass_slot(learner, noise(4, 1))
    assert row.outcome.version is None
    assert "16 are needed" in row.outcome.unlearnt
    for slot in range(4):
        row = pass_slot(learner, drifted(digits(), 1, slot + 1, 2, "none", 0)[0])
        assert row.outcome.version is None
    assert accuracy(learner) == before
    assert status(learner)["slots"][-1]["unlearnt"] == row.outcome.unlearnt, "the page says so"
    assert set(learner.loop.failures.values()) == {0}, "and it is no failure"


def test_noise_beside_honest_images(learner) -> None:
    """Once 96.7 to 66 %."""
    before = accuracy(learner)
    for slot in range(3):
        row = pass_slot(learner, drifted(digits(), 1, slot + 1, PER_SLOT, "none", 0)[0], noise(3 * PER_SLOT, slot))
        assert accuracy(learner) > before - 0.05
    assert row.outcome.version is not None, "it goes on learning"
    assert learner.loop.learner.outcomes["outlier"] > 3 * 3 * PER_SLOT * 0.95
    assert learner.loop.learner.anchor_accuracy > 0.9


def test_half_of_the_traffic_is_black(learner) -> None:
    """Once 79 to 84 % for good."""
    for slot in range(4):
        foggy, _ = drifted(digits(), 1, slot + 1, PER_SLOT, "fog", 2)
        row = pass_slot(learner, foggy, np.zeros_like(foggy))
    assert accuracy(learner, "fog", 2) > 0.93
    assert row.outcome.version is not None
    assert learner.uploads.outcomes["duplicate"] == 4 * (PER_SLOT - 1)


def test_a_student_that_forgets_is_refused(learner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the uploads say of it."""
    from orric.retraining.evidence import AnchorComparison, Comparison

    serving = learner.versions.current.serving
    retrain = learner.process.retrain

    def forgets(*given: Any) -> Any:
        from dataclasses import replace

        found = retrain(*given)
        return replace(found, anchors=AnchorComparison(Comparison(100, 60, 0), Comparison(100, 60, 0), 40))

    monkeypatch.setattr(learner.process, "retrain", forgets)
    row = pass_slot(learner, drifted(digits(), 1, 1, PER_SLOT, "none", 0)[0])
    assert row.outcome.version is None
    assert "anchor set" in row.outcome.failed
    assert learner.versions.current.serving == serving
    assert learner.loop.failures["validation"] == 1


def test_without_anchors_uploads_must_do(open_daemon, ample, tmp_path) -> None:
    from orric.profile import Profile

    profile = Profile.load(ample)
    bare = profile.models.model_copy(update={"anchors": None})
    profile.model_copy(update={"models": bare}).placed_in(ample.parent).moved(tmp_path).save(tmp_path / "bare.toml")
    daemon = open_daemon(
        retrains=True, profile=tmp_path / "bare.toml", slot_s=600.0, budget__macs_per_s=1e9,
        allocator="inference-greedy", shadow=[],
    )  # fmt: skip
    row = pass_slot(daemon, drifted(digits(), 1, 1, 60, "fog", 2)[0])
    assert row.outcome.version is None
    assert "without anchors 30 samples can be held out, 69 are needed" in row.outcome.unlearnt
    assert pass_slot(daemon, drifted(digits(), 1, 2, 150, "fog", 2)[0]).outcome.version is not None

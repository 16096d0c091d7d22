"""The daemon falls back on the student as it was given where more is expected of that, and not elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orric.profile import Profile
from orric.retraining.fallback import LOOKED_AT, Fallback
from orric.vision.datasets import digits, to_input

from ..builders import PROFILES
from .test_slots import send, slot


def sure(logits: np.ndarray) -> np.ndarray:
    """Return the probability of the class chosen, shape (n,)."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return 1 / shares.sum(axis=1)


@pytest.fixture
def falling_back(tmp_path: Path) -> Path:
    """Write the shipped profile, with fallback."""
    shipped = Profile.load(PROFILES / "digits.toml")
    changed = shipped.model_copy(update={"training": shipped.training.model_copy(update={"fallback": True})})
    path = tmp_path / "falling-back.toml"
    changed.moved(tmp_path).save(path)
    return path


def test_the_given_student_serves_what_it_is_surer_of(open_daemon, falling_back, fog) -> None:
    images, truth = fog
    daemon = open_daemon(retrains=True, slot_s=60.0, profile=falling_back, store__canary_slots=0, store__versions=2)
    versions = daemon.versions
    for _ in range(6):
        slot(daemon, images)
        if versions.store.versions() == [1, 3]:  # a candidate may be refused
            break
    newest = versions.current.serving
    assert versions.store.versions() == [1, newest], "the store keeps the given student besides"
    assert not versions.fallen_back
    # Labelled samples said that it is better here by far more than it is surer.
    inputs = to_input(images[:LOOKED_AT], 32)
    looks = versions._given.logits(inputs), versions.model.logits(inputs)
    assert versions.fallback.lead(32, *looks) < Fallback().lead(32, *looks)
    other = versions.fallback
    versions.take(newest)
    assert versions.fallback is not other, "who chooses a version begins anew"
    assert versions.fallback.lead(32, *looks) == Fallback().lead(32, *looks)
    right = (send(daemon, images) == truth).mean()
    # Images that the given student is surer of, which come last.
    clean, _ = digits().draw(300, np.random.default_rng(1), "streamed")
    inputs = to_input(clean, 32)
    surer = sure(versions._given.logits(inputs)) - sure(versions.model.logits(inputs))
    familiar = clean[np.argsort(-surer)[:LOOKED_AT]]
    daemon.uploads.close_slot()
    send(daemon, familiar)
    daemon.uploads.close_slot()
    daemon.loop.begin()
    assert versions.fallen_back
    assert daemon.figures()["fallback"] == 1.0
    assert daemon.batcher.model.version == 1, "the store keeps the given student"
    assert versions.current.serving == newest, "retraining goes on from the newest"
    given = (send(daemon, images) == truth).mean()
    assert right > given + 0.2
    daemon.loop.learner.wait()
    daemon.uploads.close_slot()
    strange = images[np.argsort(sure(versions._given.logits(to_input(images, 32))))[:LOOKED_AT]]
    send(daemon, strange)
    daemon.loop.finish()
    daemon.loop.begin()
    assert not versions.fallen_back
    assert daemon.batcher.model is versions.model
    daemon.loop.learner.wait()


def test_a_profile_without_it_never_falls_back(open_daemon, fog) -> None:
    daemon = open_daemon(retrains=True, slot_s=60.0)
    slot(daemon, fog[0])
    assert daemon.versions._given is None
    assert not daemon.versions.fall_back(np.zeros((4, 32, 32, 3), np.uint8), 32)
    assert daemon.batcher.model is daemon.versions.model


def test_what_takes_over_while_students_are_compared_is_not_undone(
    open_daemon, falling_back, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = open_daemon(retrains=True, profile=falling_back)
    versions = daemon.versions
    versions._swap(replace(versions.model, version=2))
    later = replace(versions.model, version=3)

    def meanwhile(px: int, given: np.ndarray, newest: np.ndarray) -> bool:
        versions._swap(later)
        return True

    monkeypatch.setattr(versions.fallback, "chooses", meanwhile)
    assert not versions.fall_back(np.zeros((4, 32, 32, 3), np.uint8), 32)
    assert daemon.batcher.model is later
    assert not versions.fallen_back
    monkeypatch.setattr(versions.fallback, "chooses", lambda px, given, newest: True)
    assert versions.fall_back(np.zeros((4, 32, 32, 3), np.uint8), 32)
    assert daemon.batcher.model is versions._given
    # Without images it stays as it is.
    assert not versions.fall_back(np.zeros((0, 32, 32, 3), np.uint8), 32)
    assert versions.fallen_back

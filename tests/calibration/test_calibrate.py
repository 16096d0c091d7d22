"""Calibration with the real models, in small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from orric.calibration.calibrate import Plan, calibrate
from orric.calibration.pretraining import pretrain, pretrain_pair
from orric.exceptions import ProfileError
from orric.profile import Profile
from orric.retraining.models import load_network, save_network, sha256
from orric.vision.datasets import digits
from orric.vision.macs import count_macs

MODELS = Path(__file__).resolve().parents[2] / "traces/models"
STUDENT, TEACHER = MODELS / "digits-student.safetensors", MODELS / "digits-teacher.safetensors"


def test_a_small_calibration_gives_a_profile_that_reads_back(tmp_path):
    told = []
    plan = Plan("digits", STUDENT, TEACHER, slots=10, per_slot=20, seeds=(1,), jobs=2)
    target = tmp_path / "digits.toml"
    profile = calibrate(plan, target, lambda what, part: told.append(part))
    profile.save(target)
    assert Profile.load(target) == profile
    assert told[-1] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["digits.toml"]
    assert profile.beside(profile.models.student).resolve() == STUDENT.resolve()
    student, teacher = load_network(STUDENT, "student", 10), load_network(TEACHER, "teacher", 10)
    by_name = {one.name: one for one in profile.inference}
    assert by_name["24px"].cost_macs == count_macs(student, 24)
    half = next(one for one in profile.retraining if one.profit == 0.5)
    assert half.cost_macs == pytest.approx(0.5 * (count_macs(teacher, 32) + 4 * count_macs(student, 32)))
    assert max(one.profit for one in profile.inference) == 1.0
    assert all(one.latency_s > 0 for one in profile.inference)
    assert len(profile.table) == (5 * 5 + 1) * 4
    assert all(one.retrained is not None for one in profile.table)
    facts = profile.provenance
    assert facts["table"]["samples"] == 40
    assert facts["student_sha256"] == sha256(STUDENT)
    assert {"processor", "date", "versions", "seeds", "curve_residual", "validation_error_mean"} <= set(facts)


def test_a_profile_that_cannot_be_put_in_its_place_leaves_nothing(tmp_path):
    target = tmp_path / "digits.toml"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        Profile.load(MODELS.parent / "profiles/digits.toml").save(target)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_the_shipped_profile_belongs_to_the_shipped_weights():
    facts = Profile.load(MODELS.parent / "profiles/digits.toml").provenance
    assert facts["student_sha256"] == sha256(STUDENT)
    assert facts["teacher_sha256"] == sha256(TEACHER)
    assert sum(path.stat().st_size for path in MODELS.iterdir()) <= 6e6


def test_pretraining_learns_and_repeats_itself():
    networks = [pretrain(digits(), "student", seed=3, epochs=1) for _ in range(2)]
    first, second = (network.state_dict() for network in networks)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(
        not np.array_equal(first[name], value)
        for name, value in load_network(STUDENT, "student", 10).state_dict().items()
    )


def test_training_the_pair_tells_how_far_both_together_are(tmp_path, monkeypatch):
    def pretrained(dataset, role, seed, epochs, progress):
        for part in (0.5, 1.0):
            progress(part)
        return load_network(MODELS / f"digits-{role}.safetensors", role, 10)

    monkeypatch.setattr("orric.calibration.pretraining.pretrain", pretrained)
    told = []
    pretrain_pair("digits", tmp_path, told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert {path.name for path in tmp_path.iterdir()} == {STUDENT.name, TEACHER.name}


def test_weights_of_another_network_are_refused(tmp_path):
    with pytest.raises(ProfileError, match="does not hold the student's weights"):
        load_network(TEACHER, "student", 10)
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    with pytest.raises(ProfileError, match="does not hold"):
        load_network(tmp_path / "noise.safetensors", "student", 10)
    save_network(load_network(STUDENT, "student", 10), tmp_path / "copy.safetensors")
    load_network(tmp_path / "copy.safetensors", "student", 10)

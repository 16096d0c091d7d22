"""The accuracy table: worked by hand from made-up runs, and measured from the real models in small."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import orric
from orric.by_drift import TableEntry
from orric.calibration.learning_run import CLEAN, SPELLS, Assignment, LearningRun, Plan, arriving, learning_runs
from orric.calibration.table import drifting_accuracies, fullest_ratio, table_of, with_table
from orric.drift import SEVERITIES
from orric.profile import Profile
from orric.retraining.loop import Student
from orric.vision.corruptions import CORRUPTIONS
from orric.vision.datasets import load_dataset

from ..builders import PROFILES, build_profile

DIGITS = PROFILES / "digits.toml"


def made_up(corruption: str, ratio: float, seed: int) -> LearningRun:
    """Return a run of two slots per severity, right in a part that tells where it belongs."""
    severities = np.repeat(SEVERITIES if corruption != CLEAN else (0,), 2)
    rank = [CLEAN, *CORRUPTIONS].index(corruption)
    parts = 0.1 + 0.02 * rank + 0.03 * severities + 0.1 * ratio + 0.01 * seed
    parts[0] = 1.0  # must be left out
    found = {"32px": parts, "20px": parts / 2}
    ratios = np.full(len(parts), ratio)
    plan, taught = Plan(ratio, everywhere=True), np.ones(len(ratios))
    return LearningRun(corruption, seed, plan, ratios, severities, found, "32px", taught)


def both_ends(*seeds: int) -> list[LearningRun]:
    """Return the runs of a table: frozen and fully retrained."""
    return [made_up(c, ratio, seed) for c in [CLEAN, *CORRUPTIONS] for ratio in (0.0, 1.0) for seed in seeds]


def test_table_of_made_up_runs():
    varied = replace(made_up("fog", 0.3, 1), plan=Plan(SPELLS))
    middle = [made_up(c, 0.5, seed) for c in [CLEAN, *CORRUPTIONS] for seed in (1, 3)]
    table = table_of([varied, *middle, *both_ends(1, 3)], ("32px", "20px"), tuple(CORRUPTIONS), 1.0)
    assert len(table) == (1 + 5 * len(CORRUPTIONS)) * 2
    found = {(one.corruption, one.severity, one.inference): (one.accuracy, one.retrained) for one in table}
    # The mean over seeds 1 and 3 is what seed 2 would give.
    assert found["none", 0, "32px"] == pytest.approx((0.12, 0.22))
    assert found["gaussian_noise", 1, "32px"] == pytest.approx((0.17, 0.27))
    assert found["fog", 5, "20px"] == pytest.approx((0.35 / 2, 0.45 / 2))
    entry = next(one for one in table if (one.corruption, one.severity, one.inference) == ("fog", 5, "20px"))
    ((extent, accuracy),) = entry.between
    assert (extent, accuracy) == pytest.approx((0.5, 0.40 / 2))


def test_never_right_is_no_accuracy_of_0():
    runs = both_ends(1)
    for run in runs:
        run.accuracies["32px"][:] = 0.0
    assert 0 < table_of(runs, ("32px",), ("fog",), 1.0)[0].accuracy < 1e-3


def test_the_frozen_part_is_what_the_student_gets_right():
    profile = Profile.load(DIGITS)
    (run,) = learning_runs(profile, Assignment("fog", 5, (Plan(0.0, everywhere=True),)), 10, 30)
    student = Student(profile)
    for slot in (1, 4, 10):
        severity = (slot + 1) // 2
        images, labels = arriving(student.dataset, "fog", 5, slot, 30, severity)
        assert run.severities[slot - 1] == severity
        for name, px in profile.models.resolution_px.items():
            assert run.accuracies[name][slot - 1] == pytest.approx((student.classify(images, px) == labels).mean())
    assert run.inference == "32px"
    assert not run.ratios.any()
    (clean,) = learning_runs(profile, Assignment(CLEAN, 5, (Plan(1.0, everywhere=True),)), 10, 30)
    assert clean.severities.tolist() == [0, 0]
    assert set(clean.accuracies) == set(profile.models.resolution_px)


def test_streams_show_every_image_once_before_any_again_and_each_corruption_in_its_own_order():
    dataset = load_dataset("digits")
    numbered = replace(dataset, images=np.arange(1797)[:, None, None, None], shift_px=0)
    shown = [arriving(numbered, CLEAN, 5, slot, 30, 0)[0].ravel() for slot in range(1, 61)]
    rounds = np.concatenate(shown).reshape(2, -1)
    assert all(np.array_equal(np.sort(one), np.sort(dataset.calibrated)) for one in rounds)
    labels = [arriving(dataset, name, 5, 1, 30, 3)[1] for name in ("fog", "fog", "contrast")]
    assert np.array_equal(labels[0], labels[1])
    assert not np.array_equal(labels[0], labels[2])


def test_the_teacher_is_judged_by_what_it_labelled():
    profile = Profile.load(DIGITS)
    frozen, retrained = learning_runs(profile, Assignment("fog", 5, (Plan(0.0), Plan(1.0))), 10, 30)
    student = Student(profile)
    for slot in (1, 10):
        images, labels = arriving(student.dataset, "fog", 5, slot, 30, (slot + 1) // 2)
        assert retrained.taught[slot - 1] == pytest.approx((student.label(images) == labels).mean())
    assert np.isnan(frozen.taught).all()
    assert np.array_equal(LearningRun.from_table(frozen.as_table()).taught, frozen.taught, equal_nan=True)


def test_adding_a_table_changes_nothing_else(tmp_path):
    profile, told = Profile.load(DIGITS), []
    target = tmp_path / "elsewhere" / "digits.toml"
    target.parent.mkdir()
    plain = profile.model_copy(update={"table": ()})
    found = with_table(plain, "digits", target, (1,), 10, 20, 2, lambda what, part: told.append(part))
    found.save(target)
    again = Profile.load(target)
    assert again == found
    assert len(again.table) == 26 * 4
    assert told[-1] == 1.0
    for role in ("student", "teacher"):
        assert (
            again.beside(getattr(again.models, role)).resolve()
            == profile.beside(getattr(profile.models, role)).resolve()
        )
    facts = again.provenance.pop("table")
    assert (facts["samples"], facts["seeds"], facts["slots"]) == (40, [1], 10)
    profile.provenance.pop("table")
    kept = {"models", "table"}
    assert again.model_dump(exclude=kept) == profile.model_dump(exclude=kept)
    assert fullest_ratio(profile) == 1.0


def test_models_that_were_not_measured_get_no_table(tmp_path):
    with pytest.raises(orric.ProfileError, match=r"small.toml: has no \[models\]"):
        with_table(build_profile(), "small.toml", tmp_path / "out.toml")
    shutil.copytree(PROFILES.parent, tmp_path / "traces")
    teacher = tmp_path / "traces/models/digits-teacher.safetensors"
    shutil.copy(tmp_path / "traces/models/digits-student.safetensors", teacher)
    path = tmp_path / "traces/profiles/digits.toml"
    with pytest.raises(orric.ProfileError, match=r"the teacher's weights in .* are not those") as caught:
        with_table(Profile.load(path), str(path), tmp_path / "out.toml")
    assert "\n" not in str(caught.value)


def test_an_inference_profit_is_half_of_the_frozen_student_and_half_of_retrained_ones() -> None:
    def entry(corruption, severity, inference, accuracy, retrained, between=()):
        return TableEntry(
            corruption=corruption, severity=severity, inference=inference, accuracy=accuracy, retrained=retrained,
            between=between,
        )  # fmt: skip

    table = (
        entry("none", 0, "32px", 0.99, 0.99),
        entry("fog", 3, "32px", 0.4, 0.9, ((0.1, 0.6), (0.3, 0.8))),
        entry("fog", 5, "32px", 0.2, 0.6),
        entry("fog", 3, "24px", 0.5, 0.6),
    )
    assert drifting_accuracies(table) == pytest.approx({"32px": ((0.4 + 0.7) / 2 + 0.4) / 2, "24px": 0.55})


@pytest.mark.parametrize("name", ["noise", "weather", "digital", "blur"])
def test_the_shipped_profits_are_those_of_the_shipped_tables(name: str) -> None:
    profile = orric.Profile.load(PROFILES / f"cifar10-{name}.toml")
    found = drifting_accuracies(profile.table)
    profits = {one.name: one.profit for one in profile.inference}
    assert profits == pytest.approx({name: value / max(found.values()) for name, value in found.items()}, abs=1e-5)

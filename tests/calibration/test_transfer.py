"""What retraining is worth elsewhere, as it is measured and fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orric.calibration.learning_run import CLEAN, Assignment, LearningRun, Plan, learning_runs
from orric.calibration.plan import Calibration
from orric.calibration.probes import PROBES, Probes, drifts_of
from orric.calibration.transfer import excess_agreements, fitted, kind_of, predicted, transfer_of, validation
from orric.drift import SEVERITIES
from orric.profile import Profile
from orric.retraining.loop import Student

from ..builders import ROOT

SHIPPED = Profile.load(ROOT / "traces/profiles/digits.toml")
PROFILE = SHIPPED.model_copy(
    update={"training": SHIPPED.training.model_copy(update={"statistics": "received", "fallback": True})}
)
CORRUPTIONS = ("gaussian_noise", "fog")


@pytest.fixture(scope="module")
def runs() -> list[LearningRun]:
    """Short learning runs of all kinds."""
    plans = (Plan(0.0, everywhere=True), Plan(0.2, everywhere=True, looked_at=True), Plan(1.0, everywhere=True))
    work = [Assignment(one, 1, plans, looked_at=CORRUPTIONS) for one in (*CORRUPTIONS, CLEAN)]
    work += [
        Assignment("fog", 1, (Plan(0.2),), per_slot=20),
        Assignment("fog", 1, (Plan(0.0), Plan(0.2)), few_classes=True),
        Assignment("fog", 2, (Plan(0.2),), "turns", ("gaussian_noise",)),
        Assignment("fog", 2, (Plan(0.2),), "returns"),
    ]
    return [run for one in work for run in learning_runs(PROFILE, one, 10, 60)]


def test_streams_of_every_kind_drift_as_they_are_called() -> None:
    turns = Assignment("fog", 1, (), "turns", ("snow",)).drift(18, 10)
    once = ("fog",) * 3 + ("none",) * 3 + ("snow",) * 3
    assert turns.corruptions == once + once
    returns = Assignment("fog", 1, (), "returns").drift(20, 10)
    assert set(returns.severities[2::4]) == {0}
    assert set(returns.severities[::4]) == set(SEVERITIES)
    few = Assignment("fog", 1, (), few_classes=True).drift(5, 10).label_mix
    assert few is not None
    assert (few[0] > 0).sum() == 5
    for seed in range(1, 6):
        of_two = Assignment("fog", seed, (), few_classes=True).drift(5, 2).label_mix
        assert of_two is not None
        assert of_two.sum(axis=1) == pytest.approx(1)
    assert Assignment("fog", 1, ()).usual
    assert not Assignment("fog", 1, (), per_slot=20).usual


def test_a_calibration_streams_every_kind_and_validates_on_a_seed_of_its_own() -> None:
    plan = Calibration("digits", ROOT, ROOT, corruptions=CORRUPTIONS)
    work = [*plan.fitted_streams(), *plan.other_streams("24px")]
    special = [one for one in work if not one.usual]
    assert {one.per_slot for one in special} == {None, *plan.few}
    assert {one.kind for one in special if one.seed == 2} == {"rise", "turns", "returns"}
    assert {one.seed for one in special} == {1, 2}
    assert sum(one.looked_at for made in work for one in made.plans if made.looked_at) == 3
    # What is known to be the best configuration then is what all but the first are measured in.
    assert {one.inference for one in plan.fitted_streams()} == {None}
    assert {one.inference for one in plan.other_streams("24px")} == {"24px"}
    # A second seed tells more of a curve than all of many ratios.
    assert plan.measured_ratios == plan.ratios
    assert replace(plan, seeds=(1, 2)).measured_ratios == (0.0, 0.05, 0.3, 1.0)
    assert replace(plan, seeds=(1, 2), ratios=(0.0, 1.0, 0.1)).measured_ratios == (0.0, 0.1, 1.0)
    # Slots as small as the usual ones are no kind of their own.
    assert replace(plan, per_slot=60).few == (20,)


def test_a_run_as_plain_values_is_the_same_again(runs: list[LearningRun]) -> None:
    for run in runs:
        again = LearningRun.from_table(run.as_table())
        assert again.as_table() == run.as_table()
        assert (again.stream, again.seen) == (run.stream, run.seen)


def test_the_matrix_is_what_the_students_were_right_of(runs: list[LearningRun]) -> None:
    found = transfer_of(runs, CORRUPTIONS, 60, "32px")
    assert found.drifts == tuple(drifts_of(CORRUPTIONS))
    assert set(found.accuracy) == set(PROFILE.models.resolution_px)
    looked_at = next(run for run in runs if run.corruption == "fog" and run.plan.looked_at)
    row = found.drifts.index(("fog", 5))
    assert found.accuracy["32px"][row] == pytest.approx(looked_at.seen[5]["32px"], abs=1e-4)
    assert sum(found.given_by_class) == pytest.approx(0.0, abs=1e-3)
    table = np.array(found.accuracy["32px"])
    # Who was retrained under fog is better there than who was retrained on clean images.
    assert table[row, row] > table[0, row]


def test_probes_see_the_student_that_would_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    student = Student(PROFILE)
    probes = Probes(student.dataset, ("fog",), {"32px": 32})
    frozen = probes.accuracies(student)["32px"]
    images, _ = student.dataset.draw(100, np.random.default_rng(1), "streamed", None, "fog", 5)
    student.retrain(images, np.random.default_rng(1), None, images)
    student.swap()
    monkeypatch.setattr(student.fallback, "chooses", lambda px, given, newest: len(given) == len(newest))
    assert probes.accuracies(student)["32px"] == frozen
    monkeypatch.setattr(student.fallback, "chooses", lambda px, given, newest: False)
    assert probes.accuracies(student)["32px"][5] > frozen[5]
    assert len(probes._truth) == PROBES


def test_costs_of_few_samples_and_few_classes_are_found_again(runs: list[LearningRun]) -> None:
    """Accuracies that were made up by known costs give those costs."""
    # Without gains of easy classes no accuracy is cut off at 1.
    costs = {"small_slots": 1.5, "few_classes": 0.08, "given_by_class": (), "retrained_by_class": ()}
    transfer = transfer_of(runs, CORRUPTIONS, 60, "32px").model_copy(update=costs)
    known = PROFILE.model_copy(update={"transfer": transfer})
    made = [replace(run, accuracies={run.inference: predicted(known, run)}) for run in runs if not run.stream.usual]
    unknown = transfer.model_copy(update={"small_slots": 0.0, "few_classes": 0.0})
    found = fitted(PROFILE.model_copy(update={"transfer": unknown}), made, [1])
    assert found.small_slots == pytest.approx(1.5, rel=1e-3)
    assert found.few_classes == pytest.approx(0.08, rel=1e-3)
    errors = validation(known, [run for run in made if run.seed == 2])
    assert set(errors) == {"turns", "returns"}
    assert max(one["worst"] for one in errors.values()) < 1e-9
    assert {kind_of(run) for run in made} == {"20 samples a slot", "few classes", "turns", "returns"}


def test_student_and_teacher_agree_more_than_by_chance(runs: list[LearningRun]) -> None:
    found = excess_agreements([run for run in runs if run.stream.usual], "32px")
    assert set(found) == set(drifts_of(CORRUPTIONS))
    before, after = (float(np.mean([pair[at] for pair in found.values()])) for at in (0, 1))
    assert before > 0.0
    assert -0.02 < after < 0.2

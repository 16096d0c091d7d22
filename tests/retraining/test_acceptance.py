"""Which newly trained student serves in a simulated loop: compared before it does, on probation then, taken back."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs orric[models]")
pytest.importorskip("onnx", reason="needs orric[models]")
pytest.importorskip("onnxruntime", reason="needs orric[models]")
pytest.importorskip("sklearn", reason="needs orric[models]")

import torch

import orric
from orric.drift import Steps
from orric.retraining.acceptance import CANARY_SLOTS, FEWEST, Acceptance, Version, compared
from orric.retraining.accuracy import OnnxAccuracy
from orric.retraining.evidence import Comparison, Probation
from orric.retraining.loop import Student
from orric.vision.datasets import to_input

from ..builders import PROFILES
from .test_loop import images_of

BAD, GOOD = Comparison(100, 40, 2), Comparison(FEWEST, 0, 3)


def guarded(**changed: object) -> orric.Profile:
    """Return the profile of the digits, whose student must prove itself."""
    profile = orric.Profile.load(PROFILES / "digits.toml")
    told = {"acceptance": True, "statistics": "received", **changed}
    return profile.model_copy(update={"training": profile.training.model_copy(update=told)})


def weights(student: Student) -> list[torch.Tensor]:
    return [value.clone() for value in student.network.state_dict().values()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def teach(student: Student, slot: int, wrong: bool = False) -> None:
    """Retrain on fog, with the teacher's labels or with wrong ones for all that is trained on."""
    images, _ = images_of(slot, 100, "fog", 3)
    labels = student.label(images)
    if wrong:
        labels[student.acceptance.held_out(100) :] = 3
    student.retrain(images, np.random.default_rng(slot), labels, images, (32, 20))


def test_what_loses_on_held_out_samples_never_serves() -> None:
    student = Student(guarded())
    teach(student, 1)
    student.swap()
    assert (student.swaps, student.acceptance.refused) == (1, 0)
    before, inputs = weights(student), to_input(images_of(9, 20, "fog", 3)[0], 20)
    answers = student.logits(inputs)
    for slot in (2, 3):
        teach(student, slot, wrong=True)
        student.swap()
    assert (student.swaps, student.acceptance.refused) == (1, 2)
    # Training goes on from what it was before, at every resolution.
    assert same(before, weights(student))
    np.testing.assert_array_equal(student.logits(inputs), answers)
    teach(student, 4)
    student.swap()
    assert student.swaps == 2


def test_what_turns_out_worse_on_probation_is_taken_back() -> None:
    student = Student(guarded())
    given, images = weights(student), images_of(9, 200, "fog", 3)[0]
    inputs = to_input(images, 32)
    answers = student.logits(inputs)
    teach(student, 1)
    student.swap()
    # Labels that only the given student gives: what it was retrained to loses against them.
    assert student.acceptance.on_probation
    teach(student, 2)
    waiting = student.unstaged()
    student.compare(images, answers.argmax(axis=1))
    assert student.acceptance.rollbacks == 1
    assert not student.acceptance.on_probation
    np.testing.assert_array_equal(student.logits(inputs), answers)
    assert same(given, weights(student))
    # Nor does what was trained from it meanwhile.
    assert waiting is not None
    student.stage(waiting)
    student.swap()
    assert student.swaps == 1


def test_evidence_and_time_make_a_version_the_one_to_go_back_to() -> None:
    versions = [Version(number, None, {}, {}) for number in range(4)]
    subject = Acceptance(versions[0])
    assert subject.judge(None) is None
    subject.serve(versions[1])
    for _ in range(CANARY_SLOTS):
        assert subject.good is versions[0]
        assert subject.judge(GOOD) is None
    assert (subject.good, subject.on_probation) == (versions[1], False)
    subject.serve(versions[2])
    # Few samples prove nothing, however long it takes.
    for _ in range(5):
        assert subject.judge(Comparison(2, 0, 1)) is None
    assert subject.good is versions[1]
    subject.serve(versions[3])
    assert subject.judge(BAD) is versions[1]
    assert (subject.serving, subject.rollbacks, subject.on_probation) == (versions[1], 1, False)


def test_a_loss_counts_for_those_before_too() -> None:
    """Each is trained from the one before, and what the newest has lost in bits adds up."""
    probation = Probation()
    for number in (1, 2):
        probation.begin(number, 0)
    lost = Comparison(40, 8, 1)
    assert probation.add(2, lost, 0.05) is None
    assert probation.add(2, lost, 0.05) is not None
    assert probation.oldest == 1
    assert compared(np.array([True, True, False]), np.array([False, True, True])) == Comparison(3, 1, 1)


@pytest.mark.parametrize("accepting", [True, False])
def test_the_loop_goes_by_it(accepting: bool) -> None:
    drift = Steps(corruption="fog", severities=(3,)).by_slot(4, 1)
    model = OnnxAccuracy(guarded(acceptance=accepting), drift, 1)
    judged = []
    if accepting:
        judge = model.student.acceptance.judge
        model.student.acceptance.judge = lambda found: (judged.append(found), judge(found))[1]
    for slot in (1, 2, 3):
        model.arrive(slot, 100)
        model.retrain(slot, "100%", 0.0)
        model.swap()
    assert model.student.swaps == 3
    assert (model.student.acceptance is not None) == accepting
    # The first has nothing beside it; of the others all labelled samples are looked at.
    assert [None if one is None else one.count for one in judged] == ([None, 100, 100] if accepting else [])

"""The real loop on the shipped models: serve by ONNX Runtime, label, retrain by torch, check, swap."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs orric[models]")
pytest.importorskip("onnx", reason="needs orric[models]")
pytest.importorskip("onnxruntime", reason="needs orric[models]")
pytest.importorskip("sklearn", reason="needs orric[models]")

import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

import orric
from orric.drift import DriftBySlot, LabelShift, Steps
from orric.retraining.accuracy import OnnxAccuracy, TeacherAccuracy, drifted
from orric.retraining.loop import Student
from orric.retraining.models import ServedNetwork, exported, load_network, save_network
from orric.vision.blocks import folded_weights, fused
from orric.vision.datasets import load_dataset, to_input
from orric.vision.macs import count_macs
from orric.vision.networks import NETWORKS
from orric.vision.onnx_export import TOLERANCE, check_equal, replace
from orric.vision.onnx_sessions import open_session, run

from ..builders import PROFILES

RESOLUTIONS = (20, 24, 28, 32)


@pytest.fixture(scope="module")
def profile() -> orric.Profile:
    """Return the shipped profile of the digits."""
    return orric.Profile.load(PROFILES / "digits.toml")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch to one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images_of(slot: int, count: int = 100, corruption: str = "contrast", severity: int = 5) -> tuple[Any, Any]:
    """Draw a slot's drifted images and their true labels."""
    return drifted(load_dataset("digits"), 1, slot, count, corruption, severity)


def steady(corruption: str, severity: int, slots: int) -> DriftBySlot:
    """Return a drift that stays what it is."""
    return DriftBySlot((corruption,) * slots, np.full(slots, severity))


def difference(student: Student, images: np.ndarray, resolution: int) -> float:
    """Compare the serving session with the network in torch, apart from the code's own check."""
    inputs = to_input(images, resolution)
    with torch.no_grad():
        expected = student._student.network(torch.from_numpy(inputs)).numpy()
    return float(abs(run(student._serving, inputs) - expected).max())


def test_onnx_equals_torch_before_and_after_every_swap(profile: orric.Profile) -> None:
    student, rng = Student(profile), np.random.default_rng(1)
    clean, _ = images_of(9, 40, "none", 0)
    outputs = [run(student._serving, to_input(clean, 32))]
    for slot in range(1, 4):
        assert max(difference(student, clean, resolution) for resolution in RESOLUTIONS) <= 1e-4
        student.retrain(images_of(slot, 40)[0], rng)
        student.swap()
        outputs.append(run(student._serving, to_input(clean, 32)))
        assert max(difference(student, images_of(slot, 40)[0], resolution) for resolution in RESOLUTIONS) <= 1e-4
        assert abs(outputs[-1] - outputs[-2]).max() > 0.01, "the swap must change what serves"
    assert student.swaps == 3
    assert 0 < student.largest_difference <= TOLERANCE


def test_retrained_weights_wait_for_the_swap(profile: orric.Profile) -> None:
    student = Student(profile)
    images, _ = images_of(1, 30)
    before = run(student._serving, to_input(images, 32))
    student.swap()
    assert student.swaps == 0
    student.retrain(images, np.random.default_rng(1))
    assert np.array_equal(run(student._serving, to_input(images, 32)), before)
    student.swap()
    assert student.swaps == 1
    assert not np.array_equal(run(student._serving, to_input(images, 32)), before)


def replaced_model(served: ServedNetwork) -> Any:
    """Return the model with the network's present weights."""
    replace(served.model, served.weights())
    return served.model


def perturbed(model: Any) -> Any:
    """Return a model with one of its weights a little off."""
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    initializer = max(wrong.graph.initializer, key=lambda one: int(np.prod(one.dims)))
    values = onnx.numpy_helper.to_array(initializer) + np.float32(0.01)
    initializer.CopyFrom(onnx.numpy_helper.from_array(values, initializer.name))
    return wrong


def test_swap_of_wrong_weights_is_an_error_before_it_serves(
    profile: orric.Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = Student(profile)
    monkeypatch.setattr(ServedNetwork, "replaced", lambda self: perturbed(replaced_model(self)).SerializeToString())
    with pytest.raises(orric.CalibrationError, match="differ") as caught:
        student.retrain(images_of(1, 20)[0], np.random.default_rng(1))
    assert "\n" not in str(caught.value)
    assert student.swaps == 0


def test_swap_of_stale_weights_is_an_error(profile: orric.Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The initializers of the state before the training."""
    student = Student(profile)
    monkeypatch.setattr(ServedNetwork, "replaced", lambda self: self.model.SerializeToString())
    with pytest.raises(orric.CalibrationError, match="differ"):
        student.retrain(images_of(1, 50)[0], np.random.default_rng(1))


def test_session_exchanged_behind_the_check_is_found_at_the_swap(profile: orric.Profile) -> None:
    student = Student(profile)
    images, _ = images_of(1, 20)
    student.retrain(images, np.random.default_rng(1))
    serving = student._serving
    other = open_session(perturbed(student._student.model).SerializeToString())
    student._staged = dataclasses.replace(student._staged, session=other)
    with pytest.raises(orric.CalibrationError, match="swap"):
        student.swap()
    assert student._serving is serving, "weights that failed the check must not serve"


def test_weights_of_another_architecture_are_refused(profile: orric.Profile) -> None:
    model = onnx.load_from_string(exported(profile.beside(profile.models.student), "student", 10))
    before = model.SerializeToString()
    with pytest.raises(orric.CalibrationError):
        replace(model, folded_weights(NETWORKS["small-student"](7)))
    with pytest.raises(orric.CalibrationError):
        replace(model, folded_weights(NETWORKS["small-teacher"](10)))
    assert model.SerializeToString() == before


def test_not_a_number_is_no_match(profile: orric.Profile) -> None:
    student = Student(profile)
    bad = to_input(images_of(1, 2)[0], 32) * np.float32("nan")
    with pytest.raises(orric.CalibrationError):
        check_equal(student._serving, student._student.network, bad, "here")


SLOTS = range(1, 6)


def run_loop(profile: orric.Profile, update: str | None, corruption: str = "contrast") -> tuple[list[float], list[Any]]:
    """Serve a few slots, retrain on half of each, and return accuracies and agreements."""
    model = OnnxAccuracy(profile, steady(corruption, 5, len(SLOTS)), 1, update or "weights")
    accuracies, agreements = [], []
    for slot in SLOTS:
        model.arrive(slot, 100)
        accuracies.append(model.right("32px", np.arange(100 * slot - 100, 100 * slot)).mean())
        if update:
            agreements.append(model.retrain(slot, "50%", 0.0))
            model.swap()
    return accuracies, agreements


@pytest.fixture(scope="module")
def frozen(profile: orric.Profile) -> list[float]:
    """Return the accuracies of the student that is never retrained."""
    return run_loop(profile, None)[0]


@pytest.fixture(scope="module")
def retrained(profile: orric.Profile) -> tuple[list[float], list[Any]]:
    """Return the accuracies and agreements of the student that is retrained in every slot."""
    return run_loop(profile, "weights")


def test_retraining_raises_accuracy_under_drift(frozen: list[float], retrained: tuple[list[float], list[Any]]) -> None:
    assert retrained[0][0] == frozen[0], "new weights serve from the next slot on"
    assert np.mean(retrained[0][1:]) > np.mean(frozen[1:]) + 0.1
    assert retrained[0][-1] > retrained[0][0] + 0.1


def test_refreshed_statistics_alone_are_another_thing(
    profile: orric.Profile, frozen: list[float], retrained: tuple[list[float], list[Any]]
) -> None:
    accuracies, agreements = run_loop(profile, "statistics")
    assert accuracies[0] == frozen[0]
    assert abs(np.mean(accuracies[1:]) - np.mean(frozen[1:])) > 0.02
    assert np.mean(retrained[0][1:]) > np.mean(accuracies[1:])
    assert agreements[0] == retrained[1][0]


def test_statistics_leave_the_weights_alone(profile: orric.Profile) -> None:
    student = Student(profile, "statistics")
    before = {name: value.clone() for name, value in student._student.network.named_parameters()}
    buffers = {name: value.clone() for name, value in student._student.network.named_buffers()}
    student.retrain(images_of(1, 40)[0], np.random.default_rng(1))
    assert all(torch.equal(value, before[name]) for name, value in student._student.network.named_parameters())
    assert any(not torch.equal(value, buffers[name]) for name, value in student._student.network.named_buffers())
    assert not student._student.network.training


def test_same_seed_same_accuracies(profile: orric.Profile, retrained: tuple[list[float], list[Any]]) -> None:
    assert run_loop(profile, "weights") == retrained


def test_teacher_labels_do_not_depend_on_the_student(profile: orric.Profile) -> None:
    student, untouched = Student(profile), Student(profile)
    images, labels = images_of(2, 60)
    first = student.label(images)
    student.retrain(images_of(1, 60)[0], np.random.default_rng(1))
    student.swap()
    assert np.array_equal(student.label(images), first)
    assert np.array_equal(untouched.label(images), first)
    assert (first == labels).mean() > 0.8
    assert np.array_equal(np.concatenate([student.label(images[:7]), student.label(images[7:])]), first)


def test_agreement_is_with_the_student_before_its_training(profile: orric.Profile) -> None:
    model, untouched = OnnxAccuracy(profile, steady("contrast", 5, 2), 1), Student(profile)
    images, _ = images_of(1, 50)
    expected = float((untouched.classify(images, 32) == untouched.label(images)).mean())
    model.arrive(1, 50)
    assert model.retrain(1, "100%", 0.0) == expected == untouched.agreement(images, untouched.label(images))
    assert model.retrain(1, "none", 0.0) is None
    model.swap()
    assert model.retrain(1, "100%", 0.0) != expected


def test_images_of_a_slot_are_the_same_for_everyone() -> None:
    (first, labels), (again, _), (other, _) = images_of(3), images_of(3), images_of(4)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(labels) == 100


def test_classes_of_a_slot_follow_its_mix(profile: orric.Profile) -> None:
    """Real digits, slot by slot, within five standard errors; the corruption of each slot is its own."""
    shift = LabelShift(kind="ramp", mixes=((5, 3, 2, 0, 0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 0, 2, 3, 5)))
    drift = Steps(corruptions=("fog", "contrast"), severities=(4,), labels=shift).by_slot(5, 1)
    model, count = OnnxAccuracy(profile, drift, 1), 2000
    assert drift.label_mix is not None
    for slot, mix in enumerate(drift.label_mix, start=1):
        model.arrive(slot, count)
        images, labels = model._parts[-1].images, model._parts[-1].labels
        found = np.bincount(labels, minlength=10)
        assert (abs(found - count * mix) <= 5 * np.sqrt(count * mix * (1 - mix))).all()
        expected = drifted(load_dataset("digits"), 1, slot, count, "fog" if slot <= 3 else "contrast", 4, mix)
        assert np.array_equal(images, expected[0])
        assert np.array_equal(labels, expected[1])


def test_every_request_is_the_sample_that_arrived_with_its_number(profile: orric.Profile) -> None:
    """Asked for in any order, over slots: each is what one pass says of it, and those that ended are let go."""
    model = OnnxAccuracy(profile, steady("contrast", 5, 3), 1)
    for slot, count in ((1, 30), (2, 0), (3, 40)):
        model.arrive(slot, count)
    (first, first_labels), (last, last_labels) = images_of(1, 30), images_of(3, 40)
    right = model.student.classify(np.concatenate([first, last]), 32) == np.concatenate([first_labels, last_labels])
    assert 0 < right.sum() < 70
    numbers = np.random.default_rng(1).permutation(70)
    assert np.array_equal(model.right("32px", numbers), right[numbers])
    assert len(model.right("32px", numbers[:0])) == 0
    model.forget(np.arange(29))
    assert np.array_equal(model.right("32px", np.array([69, 29])), right[[69, 29]])
    model.forget(np.array([29]))
    assert [part.first for part in model._parts] == [30]


def test_a_slot_that_comes_in_parts_shows_every_part_anew(profile: orric.Profile) -> None:
    model = OnnxAccuracy(profile, steady("none", 0, 2), 1)
    model.arrive(1, 30)
    model.arrive(1, 30)
    first, second = (part.images for part in model._parts)
    assert not np.array_equal(first, second)
    assert np.array_equal(model._collected[1][0], np.concatenate([first, second]))


def test_weights_wait_for_their_turn(profile: orric.Profile) -> None:
    """Two retrainings are done before either serves; the first serves, the second is refused, a third is lost."""
    model, alone = (OnnxAccuracy(profile, steady("contrast", 5, 3), 1) for _ in range(2))
    for one in (model, alone):
        one.arrive(1, 100)
        one.retrain(1, "100%", 0.0)
    alone.swap()
    images, _ = images_of(2, 100)
    frozen, wanted = Student(profile).classify(images, 32), alone.student.classify(images, 32)
    assert not np.array_equal(frozen, wanted)
    model.retrain(1, "100%", 0.0)
    model.collect(1)
    model.discard()
    assert np.array_equal(model.student.classify(images, 32), frozen)
    model.swap()
    model.refuse()
    assert np.array_equal(model.student.classify(images, 32), wanted)
    assert model.student.swaps == 1


def test_the_teacher_serves_in_its_place(profile: orric.Profile) -> None:
    model = TeacherAccuracy(profile, steady("none", 0, 2), 1)
    model.arrive(1, 20)
    model.arrive(2, 20)
    assert model.right("32px", np.arange(5, 40)).sum() > 25


def test_higher_resolution_is_no_other_model(profile: orric.Profile) -> None:
    student = Student(profile)
    images, labels = images_of(1, 200, "none", 0)
    accuracies = [float((student.classify(images, resolution) == labels).mean()) for resolution in RESOLUTIONS]
    assert min(accuracies) > 0.5
    assert accuracies[-1] > 0.9


@pytest.mark.parametrize("architecture", sorted(NETWORKS))
@pytest.mark.parametrize("resolution", [20, 24, 32])
def test_macs_are_half_of_the_operations_that_torch_counts(architecture: str, resolution: int) -> None:
    network = NETWORKS[architecture](10).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, resolution, resolution))
    assert count_macs(network, resolution) * 2 == counter.get_total_flops()


def test_counting_leaves_the_network_as_it_was() -> None:
    network = NETWORKS["small-student"](10).train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    assert count_macs(network, 20) == count_macs(network, 20) > 0
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_profile_states_the_costs_of_its_models(profile: orric.Profile) -> None:
    assert profile.models is not None
    assert profile.teacher is not None
    student = load_network(profile.beside(profile.models.student), "student", 10)
    teacher = load_network(profile.beside(profile.models.teacher), "teacher", 10)
    for one in profile.inference:
        assert one.cost_macs == count_macs(student, profile.models.resolution_px[one.name])
    assert profile.teacher.cost_macs == count_macs(teacher, 32)
    # Three forward passes for the training step, as the provenance says, and one to refresh the statistics.
    sample = count_macs(teacher, 32) + 4 * count_macs(student, 32)
    for one in profile.retraining:
        assert one.cost_macs == pytest.approx(profile.models.sampling_ratio[one.name] * sample)


def test_folded_network_computes_the_same() -> None:
    network = NETWORKS["small-teacher"](10)
    network(torch.rand(8, 3, 32, 32))
    network.eval()
    images = torch.rand(4, 3, 24, 24)
    with torch.no_grad():
        assert torch.allclose(network(images), fused(network)(images), atol=1e-5)


def test_weights_on_disk_come_back(tmp_path: Path) -> None:
    network = NETWORKS["small-student"](10)
    save_network(network, tmp_path / "student.safetensors")
    again = load_network(tmp_path / "student.safetensors", "student", 10)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())
    assert not again.training


def test_unusable_weights_are_refused_in_one_line(tmp_path: Path, profile: orric.Profile) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not weights at all")
    student = profile.beside(profile.models.student)
    for path, role in (
        (tmp_path / "none.safetensors", "student"),
        (tmp_path / "broken.safetensors", "student"),
        (student, "teacher"),
    ):
        with pytest.raises(orric.ProfileError, match=path.name) as caught:
            load_network(path, role, 10)
        assert "\n" not in str(caught.value)


def test_new_weights_do_not_pile_up_in_the_model(profile):
    """What is overwritten in an ONNX message stays in memory as long as the message lives."""
    student = Student(profile)._student
    before = student.model.SerializeToString()
    with torch.no_grad():
        for values in student.network.parameters():
            values += 0.01
    changed = student.replaced()
    assert changed != before
    assert student.model.SerializeToString() == before, "weights are written into messages of their own"

"""The real loop with a user's own ONNX models, and with the published networks."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs orric[models]")
pytest.importorskip("onnx", reason="needs orric[models]")
pytest.importorskip("onnxruntime", reason="needs orric[models]")
pytest.importorskip("sklearn", reason="needs orric[models]")

import onnx
import torch

import orric
from orric.retraining.accuracy import drifted
from orric.retraining.loop import Student
from orric.retraining.models import ServedNetwork, exported, load_network, save_network
from orric.vision.datasets import load_dataset, to_input
from orric.vision.macs import count_macs
from orric.vision.networks import NETWORKS
from orric.vision.onnx_export import TOLERANCE
from orric.vision.onnx_sessions import open_session, run

from ..builders import PROFILES, ROOT
from ..vision.own_models import built, exported_whole, saved

RESOLUTIONS = (20, 24, 28, 32)
WEIGHTS = ROOT / "traces/models/digits-student.safetensors"


def profile_with(**models):
    profile = orric.Profile.load(PROFILES / "digits.toml")
    paths = {role: str(path) for role, path in models.items()}
    return profile.model_copy(update={"models": profile.models.model_copy(update=paths)})


def images_of(slot, count=40):
    return drifted(load_dataset("digits"), 1, slot, count, "contrast", 5)[0]


def difference(student, images, px):
    inputs = to_input(images, px)
    with torch.no_grad():
        expected = student._student.network(torch.from_numpy(inputs)).numpy()
    return float(abs(run(student._serving, inputs) - expected).max())


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Return a user's student as torch's exporter writes it when told not to fold batch norms."""
    model = exported_whole(built("inverted residual"), name="camera", dynamo=True)
    return saved(model, tmp_path_factory.mktemp("own") / "student.onnx")


@pytest.mark.parametrize("update", ["weights", "statistics"])
def test_an_own_student_is_served_retrained_and_swapped(own, update):
    student, rng = Student(profile_with(student=own), update), np.random.default_rng(1)
    assert student._student.network.has_batch_norm
    clean = images_of(9)
    outputs = [run(student._serving, to_input(clean, 32))]
    for slot in range(1, 4):
        student.retrain(images_of(slot), rng)
        assert np.array_equal(run(student._serving, to_input(clean, 32)), outputs[-1]), "staged is not yet served"
        student.swap()
        assert max(difference(student, images_of(slot), px) for px in RESOLUTIONS) <= TOLERANCE
        outputs.append(run(student._serving, to_input(clean, 32)))
        assert abs(outputs[-1] - outputs[-2]).max() > 1e-3
    assert student.swaps == 3
    assert 0 < student.largest_difference <= TOLERANCE


def test_an_own_model_trains_as_the_projects_network_does(tmp_path):
    """The same architecture, seed and batches: the same weights and outputs, after every swap."""
    original = load_network(WEIGHTS, "student", 10)
    path = saved(exported_whole(original, dynamo=True), tmp_path / "student.onnx")
    ours, own = Student(profile_with()), Student(profile_with(student=path))
    rngs = np.random.default_rng(3), np.random.default_rng(3)
    assert len(list(own._student.network.parameters())) == len(list(original.parameters()))
    for slot in (1, 2):
        images = images_of(slot)
        assert ours.agreement(images, ours.label(images)) == own.agreement(images, own.label(images))
        ours.retrain(images, rngs[0])
        own.retrain(images, rngs[1])
        ours.swap()
        own.swap()
        trained = ours._student.network.state_dict()
        found = own._student.network.initializers()
        for name, value in trained.items():
            if not name.endswith("num_batches_tracked"):
                assert torch.allclose(value, found[name], atol=1e-4), name
        for px in RESOLUTIONS:
            inputs = to_input(images, px)
            assert run(own._serving, inputs) == pytest.approx(run(ours._serving, inputs), abs=1e-3)


def test_an_own_student_whose_batch_norms_are_folded_is_retrained_too(tmp_path):
    path = tmp_path / "folded.onnx"
    path.write_bytes(exported(WEIGHTS, "student", 10))
    student, folded = Student(profile_with(student=path)), Student(profile_with(student=path), "statistics")
    assert not student._student.network.has_batch_norm
    images = images_of(1)
    before = run(student._serving, to_input(images, 32))
    for one in (student, folded):
        one.retrain(images, np.random.default_rng(1))
        one.swap()
        assert max(difference(one, images, px) for px in RESOLUTIONS) <= TOLERANCE
    assert abs(run(student._serving, to_input(images, 32)) - before).max() > 1e-3
    assert np.array_equal(run(folded._serving, to_input(images, 32)), before), "there are no statistics to refresh"


def test_an_own_teacher_labels(tmp_path):
    teacher = load_network(ROOT / "traces/models/digits-teacher.safetensors", "teacher", 10)
    path = saved(exported_whole(teacher), tmp_path / "teacher.onnx")
    images = images_of(1)
    assert np.array_equal(Student(profile_with(teacher=path)).label(images), Student(profile_with()).label(images))


def test_costs_of_an_own_model(own):
    assert count_macs(load_network(own, "student", 10), 24) == count_macs(built("inverted residual"), 24)


def test_what_is_exported_of_an_own_model_is_the_file_itself(own):
    assert exported(own, "student", 10) == onnx.load(own).SerializeToString()


def test_wrong_weights_of_an_own_model_never_serve(own, monkeypatch):
    student = Student(profile_with(student=own))
    serving = student._serving
    monkeypatch.setattr(ServedNetwork, "replaced", lambda self: self.model.SerializeToString())
    with pytest.raises(orric.CalibrationError, match=r"before the swap: .* differ"):
        student.retrain(images_of(1), np.random.default_rng(1))
    student.swap()
    assert student.swaps == 0
    assert student._serving is serving


def test_a_session_exchanged_behind_the_check_is_found_at_the_swap(own):
    student = Student(profile_with(student=own))
    student.retrain(images_of(1), np.random.default_rng(1))
    other = copy.deepcopy(student._student.model)
    first = next(one for one in other.graph.initializer if len(one.dims) == 4)
    first.raw_data = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(first) * np.float32(1.1)).raw_data
    student._staged = dataclasses.replace(student._staged, session=open_session(other.SerializeToString()))
    with pytest.raises(orric.CalibrationError, match="at the swap"):
        student.swap()
    assert student.swaps == 0


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_missing_own_model_is_told_in_one_line(role, tmp_path):
    with pytest.raises(orric.ProfileError, match=rf"gone\.onnx: no such file; it should hold the {role}") as caught:
        Student(profile_with(**{role: tmp_path / "gone.onnx"}))
    assert "\n" not in str(caught.value)


def test_an_own_student_must_take_the_resolutions_of_its_profile(tmp_path):
    path = saved(exported_whole(built("inverted residual"), axes={0: "batch"}), tmp_path / "fixed.onnx")
    profile = profile_with(student=path)
    models = profile.models.model_copy(update={"resolution_px": {"small": 16, "large": 40}})
    with pytest.raises(orric.ProfileError, match=r"32 x 32 pixels only, and 16, 32, 40 are wanted"):
        Student(profile.model_copy(update={"models": models}))


def test_the_published_student_runs_the_loop(tmp_path, monkeypatch):
    monkeypatch.setenv("ORRIC_CACHE", str(tmp_path))
    torch.manual_seed(2)
    network = NETWORKS["mobilenetv2"](10)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
        network(torch.rand(8, 3, 32, 32))
    save_network(network, tmp_path / "student.safetensors", "mobilenetv2")
    student = Student(profile_with(student=tmp_path / "student.safetensors"))
    # Statistics of a handful of images would leave a network of random weights so ill-conditioned that rounding alone,
    # which differs from processor to processor, comes near the tolerance.
    student.retrain(images_of(1, 64), np.random.default_rng(1))
    student.swap()
    assert student.swaps == 1
    assert max(difference(student, images_of(2, 8), px) for px in RESOLUTIONS) <= TOLERANCE
    # Its last maps are single values at this size: one image has no variance, and nothing is trained on it.
    before = {name: value.clone() for name, value in student._student.network.state_dict().items()}
    student.retrain(images_of(3, 1), np.random.default_rng(1))
    assert all(torch.equal(value, before[name]) for name, value in student._student.network.state_dict().items())
    student.swap()
    assert student.swaps == 1

"""What is read off networks: equal to autograd's, and nothing is left behind."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs orric[models]")
pytest.importorskip("onnx", reason="needs orric[models]")
pytest.importorskip("sklearn", reason="needs orric[models]")

import onnx
import torch
from torch import nn

import orric
from orric.retraining.models import ServedNetwork, exported, load_network
from orric.selection.candidates import Candidates
from orric.selection.network_gradients import last_layer, per_sample_gradients
from orric.vision.datasets import digits, to_input

from ..builders import ROOT


@pytest.fixture(scope="module")
def student() -> nn.Module:
    return load_network(ROOT / "traces/models/digits-student.safetensors", "student", 10)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(to_input(digits().images[:130], 32))


def test_outer_products_are_what_autograd_gives(student, images) -> None:
    labels = digits().labels[:130]
    features, logits = last_layer(student, images)
    np.testing.assert_allclose(logits, student(images).detach().numpy(), rtol=1e-4, atol=1e-4)
    made = Candidates(features, logits, labels)
    each = per_sample_gradients(student, images, torch.from_numpy(labels), ["head.weight", "head.bias"])
    scale = float(each.squared_norms().max())
    np.testing.assert_allclose(made.gradients.products(), each.products(), atol=1e-4 * scale)
    # And one of them by the ordinary way.
    loss = nn.functional.cross_entropy(student(images[:1]), torch.from_numpy(labels[:1]))
    weight, bias = torch.autograd.grad(loss, [student.head.weight, student.head.bias])
    told = float((weight**2).sum() + (bias**2).sum())
    assert made.gradients.squared_norms()[0] == pytest.approx(told, rel=1e-3)


def test_all_parameters_where_asked(student, images) -> None:
    labels = torch.from_numpy(digits().labels[:3])
    each = per_sample_gradients(student, images[:3], labels)
    for place in range(3):
        loss = nn.functional.cross_entropy(student(images[place : place + 1]), labels[place : place + 1])
        found = torch.autograd.grad(loss, list(student.parameters()))
        assert each.squared_norms()[place] == pytest.approx(sum(float((one**2).sum()) for one in found), rel=1e-3)


def test_the_network_is_left_as_it_was(student, images) -> None:
    student.train()
    student.features[0].eval()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    modes = [module.training for module in student.modules()]
    last_layer(student, images[:5])
    per_sample_gradients(student, images[:5], torch.zeros(5, dtype=torch.int64), ["head.bias"])
    assert [module.training for module in student.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert not any(module._forward_hooks for module in student.modules())
    assert all(value.grad is None for value in student.parameters())
    student.eval()


def test_a_users_onnx_student_gives_the_same(tmp_path) -> None:
    weights = ROOT / "traces/models/digits-student.safetensors"
    plain = onnx.load_from_string(exported(weights, "student", 10))
    ended = onnx.ModelProto.FromString(plain.SerializeToString())
    # The same with a softmax at its end: candidates are judged by logits, whatever is served.
    ended.graph.node.append(onnx.helper.make_node("Softmax", [ended.graph.output[0].name], ["parts"], axis=1))
    ended.graph.output[0].name = "parts"
    inputs = torch.from_numpy(to_input(digits().images[:20], 32))
    expected = last_layer(load_network(weights, "student", 10), inputs)
    for name, model in (("plain", plain), ("ended", ended)):
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        features, logits = last_layer(ServedNetwork.load(path, "student", 10).network, inputs)
        np.testing.assert_allclose(features, expected[0], atol=1e-4)
        np.testing.assert_allclose(logits, expected[1], atol=1e-4)


def test_what_ends_otherwise_is_refused(images) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(orric.SelectionError, match="does not end in a linear layer"):
        last_layer(network, images[:2])
    scaled = nn.Sequential(nn.Flatten(), nn.Linear(3072, 7), nn.ReLU(), nn.Unflatten(1, (7, 1)))
    with pytest.raises(orric.SelectionError, match="does not end in a linear layer"):
        last_layer(scaled, images[:2])
    with pytest.raises(orric.SelectionError, match="no image"):
        last_layer(network, images[:0])


def test_unknown_parameters_are_named(student, images) -> None:
    with pytest.raises(orric.SelectionError, match=r"'head\.wight' is unknown; known: features"):
        per_sample_gradients(student, images[:1], torch.zeros(1, dtype=torch.int64), ["head.wight"])

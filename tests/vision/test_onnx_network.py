"""Whole ONNX models as torch networks: same outputs, same training, same costs, and clear refusals."""

from __future__ import annotations

import copy

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs orric[models]")
pytest.importorskip("onnx", reason="needs orric[models]")
pytest.importorskip("onnxruntime", reason="needs orric[models]")

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from orric.exceptions import CalibrationError, ProfileError
from orric.retraining.training import refresh_statistics, too_few
from orric.vision import onnx_models
from orric.vision.macs import count_macs
from orric.vision.onnx_export import check_equal, check_outputs, replace
from orric.vision.onnx_models import load_onnx, load_onnx_network
from orric.vision.onnx_network import OnnxNetwork
from orric.vision.onnx_sessions import open_session, run

from .own_models import KINDS, block, built, exported_whole, head, saved

RESOLUTIONS = (20, 24, 28, 32)


def images(px, count=6, seed=0):
    return np.random.default_rng(seed).random((count, 3, px, px), np.float32)


def norms(network):
    return [one for one in network.modules() if isinstance(one, (nn.BatchNorm1d, nn.BatchNorm2d))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_another_kind_serves_trains_and_is_written_back(kind, tmp_path):
    original = built(kind)
    path = saved(exported_whole(original), tmp_path / "own.onnx")
    network, model = load_onnx_network(path, "student", 10)
    assert network.has_batch_norm == bool(norms(original))
    for px in RESOLUTIONS:
        inputs = images(px)
        assert network(torch.from_numpy(inputs)).detach().numpy() == pytest.approx(
            original(torch.from_numpy(inputs)).detach().numpy(), abs=2e-5
        )
        assert count_macs(network, px) == count_macs(original, px) > 0
    # One step and fresh statistics, on both; dropout is off, as a model that is served has none.
    for one in original.modules():
        if isinstance(one, nn.Dropout):
            one.p = 0.0
    inputs, labels = torch.from_numpy(images(32, 8)), torch.arange(8)
    logits = original[:-1] if isinstance(original[-1], nn.Softmax) else original
    for trained in (network, logits):
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.05)
        trained.train()
        functional.cross_entropy(trained(inputs), labels).backward()
        optimizer.step()
    assert len(norms(network)) == len(norms(original))
    for one, other in zip(norms(network), norms(original), strict=True):
        assert torch.allclose(one.running_mean, other.running_mean, atol=1e-5)
        assert torch.allclose(one.running_var, other.running_var, atol=1e-5)
    refresh_statistics(network, inputs)
    session = open_session(model.SerializeToString())
    with pytest.raises(CalibrationError, match="differ"):
        check_equal(session, network, images(32), "before")
    replace(model, network.initializers())
    session = open_session(model.SerializeToString())
    original.eval()
    if not norms(original):
        assert run(session, images(24)) == pytest.approx(outputs(original, images(24)), abs=2e-5)
    for px in RESOLUTIONS:
        assert check_equal(session, network, images(px), "after") <= 2e-5


def outputs(network, inputs):
    with torch.no_grad():
        return network(torch.from_numpy(inputs)).numpy()


def test_either_exporter_gives_the_same_network(tmp_path):
    original = built("squeeze and excitation, hard")
    found = []
    for dynamo in (False, True):
        path = saved(exported_whole(original, dynamo=dynamo), tmp_path / f"{dynamo}.onnx")
        network, _ = load_onnx_network(path, "student", 10)
        assert network.has_batch_norm
        found.append((outputs(network, images(20)), sorted(tuple(one.shape) for one in network.parameters())))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    assert found[0][1] == found[1][1] == sorted(tuple(one.shape) for one in original.parameters())


def test_folded_batch_norms_are_told(tmp_path):
    original = built("residual")
    folded = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), head(8)).eval()
    assert OnnxNetwork(exported_whole(original)).has_batch_norm
    network = OnnxNetwork(exported_whole(folded)).eval()
    assert not network.has_batch_norm
    before = copy.deepcopy(network.initializers())
    refresh_statistics(network, torch.from_numpy(images(32)))
    assert all(torch.equal(value, before[name]) for name, value in network.initializers().items())
    assert not network.training


def keras_like(softmax=True):
    """Return what converters from Keras write: same padding, a dense layer in two operators, a softmax."""
    random = np.random.default_rng(3).standard_normal
    weights = {
        "kernel": random((6, 3, 3, 3)),
        **{name: random(6) for name in ("gamma", "beta", "mean")},
        "variance": abs(random(6)) + 0.5,
        "low": 0.0,
        "high": 6.0,
        "dense": random((6, 10)),
        "bias": random(10),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["a"], "conv", strides=[2, 2], auto_pad="SAME_UPPER"),
        helper.make_node("BatchNormalization", ["a", "gamma", "beta", "mean", "variance"], ["b"], "bn", momentum=0.99),
        helper.make_node("Clip", ["b", "low", "high"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Squeeze", ["d", "axes"], ["e"]),
        helper.make_node("MatMul", ["e", "dense"], ["f"]),
        helper.make_node("Add", ["f", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    stored = [numpy_helper.from_array(np.float32(value), name) for name, value in weights.items()]
    stored.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])
    last = "probabilities" if softmax else "logits"
    wanted = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes if softmax else nodes[:-1], "keras", [given], [wanted], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_training_sees_logits_where_probabilities_are_served(tmp_path):
    path = saved(keras_like(), tmp_path / "keras.onnx")
    network, _ = load_onnx_network(path, "student", 10)
    inputs = torch.from_numpy(images(32))
    assert network(inputs).sum(dim=1).detach().numpy() == pytest.approx(1, abs=1e-5)
    logits = OnnxNetwork(keras_like(softmax=False)).train()
    assert torch.equal(network.train()(inputs), logits(inputs))
    assert {tuple(one.shape) for one in network.parameters()} == {(6, 3, 3, 3), (6,), (6, 10), (10,)}


def test_momentum_of_statistics_is_turned_round():
    (norm,) = norms(OnnxNetwork(keras_like()))
    assert norm.momentum == pytest.approx(0.01)


def shared_weights():
    """Return a model in which two convolutions share one kernel, and two batch norms all they have."""
    random = np.random.default_rng(4).standard_normal
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["b"], "first"),
        helper.make_node("Identity", ["kernel"], ["again"]),
        helper.make_node("Conv", ["b", "again"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["d"], "second"),
        helper.make_node("ReduceMean", ["d"], ["y"], axes=[2, 3], keepdims=0),
    ]
    weights = {"kernel": random((3, 3, 3, 3)), "scale": random(3) + 2, "shift": random(3), "mean": random(3)}
    weights["variance"] = abs(random(3)) + 0.5
    stored = [numpy_helper.from_array(np.float32(value), name) for name, value in weights.items()]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    graph = helper.make_graph(
        nodes, "shared", [given], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])], stored
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_nodes_that_share_an_initializer_share_one_parameter(tmp_path):
    network, model = load_onnx_network(saved(shared_weights(), tmp_path / "shared.onnx"), "student", 3)
    assert len(list(network.parameters())) == 3
    network.train()
    network(torch.from_numpy(images(32))).square().sum().backward()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    optimizer.step()
    refresh_statistics(network, torch.from_numpy(images(32)))
    first, second = norms(network)
    assert first.weight is second.weight
    assert not torch.equal(first.running_mean, second.running_mean), "statistics are of one layer each"
    replace(model, network.initializers())
    assert check_equal(open_session(model.SerializeToString()), network, images(28), "here", relative=True) < 1e-4


def test_a_copy_trains_by_itself(tmp_path):
    network, _ = load_onnx_network(saved(shared_weights(), tmp_path / "shared.onnx"), "student", 3)
    twin = copy.deepcopy(network)
    before = {name: value.clone() for name, value in network.initializers().items()}
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter += 1
    refresh_statistics(twin, torch.from_numpy(images(32)))
    assert all(torch.equal(value, before[name]) for name, value in network.initializers().items())
    assert not any(torch.equal(value, before[name]) for name, value in twin.initializers().items())


def test_published_rule_counts_batch_norms_of_a_model(tmp_path):
    original = built("residual")
    network = OnnxNetwork(exported_whole(original))
    assert count_macs(network, 32, rule="published") == count_macs(original, 32, rule="published")
    assert count_macs(network, 32, rule="published") > count_macs(network, 32)


def test_one_image_is_too_few_where_a_batch_norm_sees_one_value():
    deep = nn.Sequential(block(3, 4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4)).eval()
    one, two = torch.rand(1, 3, 32, 32), torch.rand(2, 3, 32, 32)
    assert too_few(deep, one)
    assert not too_few(deep, two)
    assert not too_few(deep[0], one)
    assert not too_few(deep[1], one)


# Refusals: what is wrong, what the message must say.


def refused(path, found, role="student", classes=10):
    with pytest.raises(ProfileError, match=found) as caught:
        load_onnx(path, role, classes)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert caught.value.args[2], "says what to do"


@pytest.fixture(scope="module")
def good():
    return exported_whole(built("residual"))


def test_a_good_model_is_read_whatever_its_input_is_called(good, tmp_path):
    model = load_onnx(saved(good, tmp_path / "good.onnx"), "student", 10)
    assert model.graph.input[0].name == "pixels"
    assert load_onnx(tmp_path / "good.onnx", "teacher").graph.output == model.graph.output


def test_a_file_that_is_no_model(good, tmp_path):
    refused(tmp_path / "none.onnx", "no such file")
    (tmp_path / "noise.onnx").write_bytes(b"not a model at all")
    refused(tmp_path / "noise.onnx", "no ONNX model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    refused(tmp_path / "empty.onnx", "no ONNX model")
    (tmp_path / "cut.onnx").write_bytes(good.SerializeToString()[:-500])
    refused(tmp_path / "cut.onnx", "no ONNX model, or cut short")
    (tmp_path / "folder.onnx").mkdir()
    refused(tmp_path / "folder.onnx", "no ONNX model")


def test_a_model_that_does_not_load(good, tmp_path):
    broken = copy.deepcopy(good)
    broken.graph.node[1].input[0] = "nowhere"
    refused(saved(broken, tmp_path / "broken.onnx"), "ONNX Runtime does not load it")


def test_weights_beside_the_model(good, tmp_path):
    path = tmp_path / "apart.onnx"
    onnx.save(copy.deepcopy(good), path, save_as_external_data=True, location="apart.data", size_threshold=0)
    assert load_onnx(path, "student", 10)
    whole = (tmp_path / "apart.data").read_bytes()
    (tmp_path / "apart.data").write_bytes(whole[:20])
    refused(path, "weights beside it cannot be read")
    (tmp_path / "apart.data").unlink()
    refused(path, "its weights lie in 'apart.data'")


class Reshaped(nn.Module):
    def __init__(self, function, inner=None):
        super().__init__()
        self.inner = built("plain") if inner is None else inner
        self.function = function

    def forward(self, inputs):
        return self.function(self.inner, inputs)


def test_a_model_of_one_size_only(tmp_path):
    network = built("residual")
    fixed = exported_whole(network, axes={0: "batch"})
    refused(saved(fixed, tmp_path / "fixed.onnx"), "images of 32 x 32 pixels only, and 20, 24, 28, 32 are wanted")
    narrow = exported_whole(network, axes={0: "batch", 2: "height"})
    refused(saved(narrow, tmp_path / "narrow.onnx"), "images of height x 32 pixels only")
    single = exported_whole(network, axes={2: "height", 3: "width"})
    refused(saved(single, tmp_path / "single.onnx"), r"takes 2 image\(s\) at a time only")


def test_a_model_that_claims_any_size_and_takes_one(tmp_path):
    flat = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Flatten(), nn.Linear(4 * 15 * 15, 10))
    refused(saved(exported_whole(flat), tmp_path / "flat.onnx"), "does not run on images of 20 x 20 pixels")


def test_a_model_that_takes_no_image(good, tmp_path):
    path = tmp_path / "odd.onnx"
    gray = exported_whole(nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 8, 3), head(8)))
    gray.graph.input[0].CopyFrom(helper.make_tensor_value_info("conv", TensorProto.FLOAT, ["n", 1, "h", "w"]))
    del gray.graph.node[0]
    gray.graph.node[0].input[0] = "conv"
    refused(
        saved(gray, path), r"not an image classifier: its input 'conv' is a tensor\(float\) of shape \(n, 1, h, w\)"
    )
    relu = helper.make_node("Flatten", ["v"], ["y"])
    for kind, shape in ((TensorProto.FLOAT, ["n", 8]), (TensorProto.FLOAT16, ["n", 3, "h", "w"])):
        given = helper.make_tensor_value_info("v", kind, shape)
        wanted = helper.make_tensor_value_info("y", kind, None)
        graph = helper.make_graph([relu], "g", [given], [wanted])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        refused(saved(made, path), "not an image classifier: its input 'v'")
    two = copy.deepcopy(good)
    two.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n"]))
    refused(saved(two, path), r"it has 2 inputs \('pixels', 'mask'\)")


def test_a_model_that_gives_no_classes(good, tmp_path):
    path = tmp_path / "odd.onnx"
    maps = exported_whole(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    refused(saved(maps, path), r"is not a classifier: for 3 images it gives \(3, 4, 18, 18\)")
    follows = exported_whole(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()))
    refused(saved(follows, path), "follows the resolution")
    refused(saved(good, path), "tells 10 classes apart and the data set has 7", classes=7)


def test_the_first_output_of_classes_is_taken(tmp_path):
    model = keras_like()
    model.graph.output.insert(0, helper.make_tensor_value_info("d", TensorProto.FLOAT, ["n", 6, 1, 1]))
    model.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10]))
    network, read = load_onnx_network(saved(model, tmp_path / "many.onnx"), "student", 10)
    assert [one.name for one in read.graph.output] == ["probabilities"]
    assert network(torch.from_numpy(images(20))).shape == (6, 10)


def test_what_cannot_be_retrained_can_still_be_served(tmp_path):
    model = keras_like()
    model.graph.node[2].CopyFrom(helper.make_node("Sinh", ["b"], ["c"], "odd one"))
    path = saved(model, tmp_path / "odd.onnx")
    assert load_onnx(path, "teacher", 10)
    with pytest.raises(ProfileError, match=r"odd.onnx: operator 'Sinh' of node 'odd one'.*supported: "):
        load_onnx_network(path, "student", 10)


def test_a_network_that_differs_from_the_model_is_not_trusted(good, tmp_path, monkeypatch):
    class Wrong(OnnxNetwork):
        def forward(self, images):
            return super().forward(images) * 1.01

    monkeypatch.setattr(onnx_models, "OnnxNetwork", Wrong)
    with pytest.raises(CalibrationError, match=r"own.onnx at 20 px: ONNX Runtime and torch differ by") as caught:
        load_onnx_network(saved(good, tmp_path / "own.onnx"), "student", 10)
    assert "\n" not in str(caught.value)


def test_tolerance_follows_large_outputs_only_when_asked_to():
    small, large = np.full((2, 3), 0.5, np.float32), np.full((2, 3), 50, np.float32)
    off = np.float32(5e-4)
    assert check_outputs(large + off, large, "here", relative=True) > 1e-4
    for found, expected, relative in (
        (small + off, small, True),
        (small + off, small, False),
        (large + off, large, False),
        (large + np.float32("nan"), large, True),
    ):
        with pytest.raises(CalibrationError, match="here: ONNX Runtime and torch differ"):
            check_outputs(found, expected, "here", relative)
    with pytest.raises(
        CalibrationError, match="here: the network's outputs are no numbers, as after a training that diverged"
    ):
        check_outputs(large, large + np.float32("inf"), "here", relative=True)

"""The networks by name: shapes, costs beside the published ones, folding, files."""

from __future__ import annotations

import csv

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs orric[models]")
pytest.importorskip("onnx", reason="needs orric[models]")
pytest.importorskip("onnxruntime", reason="needs orric[models]")

import onnx
import torch
from torch import nn

import orric
from orric.retraining.models import architecture_of, load_network, save_network
from orric.vision.blocks import folded_weights, fused
from orric.vision.macs import count_macs
from orric.vision.networks import NETWORKS, ROLES
from orric.vision.onnx_export import check_equal, export, replace
from orric.vision.onnx_sessions import open_session

from ..builders import ROOT

# Convolutions and the linear layer: 1000 classes, as published, and 10.
PRODUCTS = {
    "mobilenetv2": {
        1000: {20: 6_033_920, 24: 6_337_872, 28: 6_977_648, 32: 7_392_128},
        10: {20: 4_766_720, 24: 5_070_672, 28: 5_710_448, 32: 6_124_928},
    },
    "resnet50": {
        1000: {20: 65_231_616, 24: 68_348_928, 28: 81_208_064, 32: 85_458_944},
        10: {20: 63_204_096, 24: 66_321_408, 28: 79_180_544, 32: 83_431_424},
    },
}
PUBLISHED = {
    "mobilenetv2": {20: 6_348_352, 24: 6_708_624, 28: 7_448_560, 32: 7_939_840},
    "resnet50": {20: 65_759_488, 24: 68_955_648, 28: 82_011_904, 32: 86_370_304},
}
TABLE = {"MobileNetV2": "mobilenetv2", "ResNet50": "resnet50"}


def settled(architecture, classes=10):
    """Build a network with statistics and weights that no two layers have in common, as training leaves it."""
    torch.manual_seed(1)
    network = NETWORKS[architecture](classes)
    with torch.no_grad():
        network(torch.rand(8, 3, 32, 32))
        for parameter in network.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    return network.eval()


@pytest.fixture(scope="module", params=["mobilenetv2", "resnet50"])
def published(request):
    return settled(request.param)


@pytest.mark.parametrize("architecture", TABLE.values())
@pytest.mark.parametrize("classes", [10, 1000])
def test_costs_by_products(architecture, classes):
    network = NETWORKS[architecture](classes)
    assert {px: count_macs(network, px) for px in (20, 24, 28, 32)} == PRODUCTS[architecture][classes]


@pytest.mark.parametrize("architecture", TABLE.values())
def test_costs_by_the_published_rule_are_the_published_costs(architecture):
    network = NETWORKS[architecture](1000)
    found = {px: count_macs(network, px, rule="published") for px in (20, 24, 28, 32)}
    assert found == PUBLISHED[architecture]
    with (ROOT / "traces/published/orric_table3.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if TABLE[row["model"]] == architecture]
    assert {int(row["resolution_px"]): row["mmacs_per_sample"] for row in rows} == {
        px: f"{macs / 1e6:.2f}" for px, macs in found.items()
    }


def test_number_of_weights_is_that_of_the_papers():
    assert sum(one.numel() for one in NETWORKS["mobilenetv2"](1000).parameters()) == 3_504_872
    assert sum(one.numel() for one in NETWORKS["resnet50"](1000).parameters()) == 25_557_032


@pytest.mark.parametrize("architecture", sorted(NETWORKS))
def test_any_size_from_16_pixels_up(architecture):
    network = NETWORKS[architecture](7).eval()
    for px in (16, 17, 20, 33):
        assert network(torch.rand(2, 3, px, px)).shape == (2, 7)
    assert network(torch.rand(2, 3, 16, 24)).shape == (2, 7)


def test_published_networks_are_exported_and_their_weights_replaced(published):
    model = export(published)
    session = open_session(model)
    for px in (16, 20, 24, 28, 32):
        images = np.random.default_rng(px).random((3, 3, px, px), np.float32)
        assert check_equal(session, published, images, "exported") < 1e-5
    before = {name: value.clone() for name, value in published.state_dict().items()}
    with torch.no_grad():
        for parameter in published.parameters():
            parameter *= 1.05
    loaded = onnx.load_from_string(model)
    images = np.random.default_rng(1).random((3, 3, 32, 32), np.float32)
    with pytest.raises(orric.CalibrationError):
        check_equal(session, published, images, "stale")
    replace(loaded, folded_weights(published))
    assert check_equal(open_session(loaded.SerializeToString()), published, images, "replaced") < 1e-4
    published.load_state_dict(before)


@pytest.mark.parametrize("architecture", ["small-student", "small-teacher", "mobilenetv2"])
def test_folded_weights_are_those_of_the_folded_copy(architecture):
    network = settled(architecture)
    twin = fused(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in twin.modules())
    expected, found = dict(twin.named_parameters()), folded_weights(network)
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_any_sequence_of_a_convolution_and_a_batch_norm_is_folded():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    network[1].running_mean += 0.3
    twin = fused(network)
    assert isinstance(twin[1], nn.Identity)
    assert isinstance(twin[3], nn.BatchNorm2d), "no convolution comes right before it"
    images = torch.rand(2, 3, 8, 8)
    assert torch.allclose(network(images), twin(images), atol=1e-6)
    assert {"0.weight", "0.bias", "3.weight", "3.bias"} == set(folded_weights(network))


def test_a_weights_file_names_its_architecture(tmp_path):
    path = tmp_path / "weights.safetensors"
    network = settled("small-teacher", 7)
    save_network(network, path, "small-teacher")
    assert architecture_of(path, "student") == architecture_of(path, "teacher") == "small-teacher"
    again = load_network(path, "student", 7)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())
    with pytest.raises(orric.ProfileError, match=r"weights\.safetensors: holds other weights .* for 10 classes"):
        load_network(path, "student", 10)


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_file_without_a_name_is_of_the_roles_own_architecture(role):
    path = ROOT / f"traces/models/digits-{role}.safetensors"
    assert architecture_of(path, role) == ROLES[role]
    assert type(load_network(path, role, 10)) is type(NETWORKS[ROLES[role]](10))


def test_an_unknown_architecture_is_refused_in_one_line(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_network(NETWORKS["small-student"](10), path, "mobilenetv3")
    with pytest.raises(orric.ProfileError, match=r"'mobilenetv3' is unknown; did you mean 'mobilenetv2'\?") as caught:
        load_network(path, "student", 10)
    assert "\n" not in str(caught.value)

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from orric.explanation.activation_maps import expand
from orric.explanation.evaluation import evaluating
from orric.explanation.explain import explain
from orric.explanation.games import position_game
from orric.explanation.layers import default_layer
from orric.explanation.probe import Probe
from orric.explanation.shapley import exact_shapley
from orric.explanation.utility import UTILITIES

from .networks import Pooled, Transformer, convolutional, noise, pictures, seeded, shipped


def expanded(network, layer, images, classes, utility):
    with evaluating(network):
        probe = Probe(network, layer, images)
        return probe, expand(probe, images, classes, UTILITIES[utility])


def product_by_differences(probe, images, classes, utility, step=1e-5):
    """Return H A by central differences of the gradient along A, which has nothing of a second backward pass."""

    def gradient(activation):
        leaf = activation.clone().requires_grad_()
        value = UTILITIES[utility](probe.continued(images, leaf), classes).sum()
        return torch.autograd.grad(value, leaf)[0]

    with evaluating(probe.network):
        with torch.no_grad():
            activation, _ = probe.opened(images)
        players = activation.clone()
        if probe.layout.class_token:
            players[:, 0] = 0
        found = (gradient(activation + step * players) - gradient(activation - step * players)) / (2 * step)
    return probe.layout.over_image(found)


@pytest.mark.parametrize("utility", ["rest", "post-softmax"])
@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (lambda: convolutional(nn.ReLU), "1"),
        (lambda: convolutional(nn.GELU), "1"),
        (lambda: convolutional(nn.SiLU), "4"),
        (lambda: Transformer(class_token=True), "blocks.0"),
        (lambda: Transformer(class_token=False), "blocks.0"),
    ],
    ids=["relu", "gelu", "silu, last layer", "class token", "mean of tokens"],
)
def test_hessian_vector_product_equals_finite_differences(build, layer, utility):
    network = seeded(build).double()
    images = torch.from_numpy(noise(3, 16 if layer[0] != "b" else 32, dtype=float))
    classes = torch.tensor([0, 3, 4])
    probe, found = expanded(network, layer, images, classes, utility)
    expected = product_by_differences(probe, images, classes, utility)
    scale = float(expected.abs().max())
    assert scale > 1e-6, "a product of zero would prove nothing"
    assert (expected.flatten(1).abs().amax(dim=1) > 0).all()
    assert float((found.curvature - expected).abs().max()) < 1e-6 * scale


def test_shipped_student_has_curvature_under_rest():
    network = shipped().double()
    images, classes = torch.from_numpy(pictures(3)).double(), torch.tensor([1, 2, 3])
    probe, found = expanded(network, "features.4", images, classes, "rest")
    expected = product_by_differences(probe, images, classes, "rest")
    assert float(expected.abs().max()) > 1e-9
    assert torch.allclose(found.curvature, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("layer", ["1", "4"])
def test_relu_network_has_no_curvature_before_the_softmax(layer):
    network = seeded(convolutional).double()
    images = torch.from_numpy(noise(3, 16, dtype=float))
    _, found = expanded(network, layer, images, torch.tensor([0, 1, 2]), "pre-softmax")
    assert float(found.gradient.abs().max()) > 0
    assert not found.curvature.any()


def test_curvature_moves_every_shapley_map_under_rest():
    network, images = seeded(convolutional).double(), noise(3, 16, dtype=float)
    flat = explain(network, images, 1, "hires-cam", "1", "rest").values
    curved = explain(network, images, 1, "shapley-cam-h", "1", "rest").values
    assert np.abs(flat - curved).max() > 1e-6 * np.abs(flat).max()


def test_a_quadratic_utility_has_its_shapley_values_for_maps():
    """What the second-order weight is made for: there ShapleyCAM-H is exact, and HiResCAM is not."""

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(3, 1, 4, 4)
            self.pairs = nn.Parameter(torch.randn(2, 9, 9))

        def forward(self, images):
            players = self.embed(images).flatten(1)
            return torch.einsum("np,cpq,nq->nc", players, self.pairs, players)

    network, images = seeded(Quadratic).double(), noise(3, 12, dtype=float)
    curved = explain(network, images, 1, "shapley-cam-h", "embed", "pre-softmax").values
    flat = explain(network, images, 1, "hires-cam", "embed", "pre-softmax").values
    for image, map_ in zip(images, curved, strict=True):
        with position_game(network, image[None], 1, "embed") as (game, _):
            values = exact_shapley(game, 9).reshape(3, 3)
        assert np.abs(np.maximum(values, 0) - map_).max() < 1e-10
    assert np.abs(flat - curved).max() > 0.1 * curved.max()


@pytest.mark.parametrize(
    ("build", "layer", "px"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.SiLU(), Pooled(), nn.Linear(6, 5)), "1", 12),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 6, 2), nn.Flatten(), nn.Linear(24, 5)), "0", 12),
    ],
    ids=["average", "convolution"],
)
def test_maps_are_exact_shapley_values_where_all_behind_the_layer_is_linear(build, layer, px):
    network, images = seeded(build).double(), 8 * noise(3, px, dtype=float) - 4
    hires = explain(network, images, 2, "hires-cam", layer, "pre-softmax").values
    curved = explain(network, images, 2, "shapley-cam-h", layer, "pre-softmax").values
    assert np.abs(hires - curved).max() < 1e-10
    for image, map_ in zip(images, hires, strict=True):
        with position_game(network, image[None], 2, layer) as (game, (rows, columns)):
            values = exact_shapley(game, rows * columns).reshape(rows, columns)
        assert values.min() < 0 < values.max(), "the positive part is to be more than the whole or nothing"
        assert np.abs(np.maximum(values, 0) - map_).max() < 1e-10


def test_shipped_student_is_linear_behind_its_last_layer():
    network, images = shipped().double(), pictures(2, 16)
    maps = explain(network, images, method="shapley-cam-h", utility="pre-softmax")
    assert maps.layer == "features"
    with position_game(network, images[:1]) as (game, shape):
        assert shape == (2, 2)
        values = exact_shapley(game, 4)
    assert np.abs(np.maximum(values, 0) - maps.values[0].ravel()).max() < 1e-10


def test_maps_equal_their_formulas():
    network, images = seeded(lambda: convolutional(nn.GELU)).double(), torch.from_numpy(noise(2, 16, dtype=float))
    classes = torch.tensor([1, 4])
    _, found = expanded(network, "1", images, classes, "rest")
    a, g, ha = (one.numpy() for one in (found.activation, found.gradient, found.curvature))
    weight = g - 0.5 * ha
    assert np.abs(ha).max() > 1e-3 * np.abs(g).max()
    expected = {
        "grad-cam": np.maximum((g.mean(axis=(2, 3), keepdims=True) * a).sum(axis=1), 0),
        "hires-cam": np.maximum((g * a).sum(axis=1), 0),
        "shapley-cam": np.maximum((weight.mean(axis=(2, 3), keepdims=True) * a).sum(axis=1), 0),
        "shapley-cam-h": np.maximum((weight * a).sum(axis=1), 0),
        "shapley-cam-e": np.maximum(weight * a, 0).sum(axis=1),
    }
    for method, map_ in expected.items():
        assert np.allclose(explain(network, images, classes, method, "1", "rest").values, map_, atol=1e-14), method


def test_gradient_is_that_of_the_network_taken_apart():
    network, images = seeded(convolutional).double(), torch.from_numpy(noise(2, 16, dtype=float))
    classes = torch.tensor([1, 4])
    _, found = expanded(network, "1", images, classes, "rest")
    middle = network[:2](images).detach().requires_grad_()
    logits = network[2:](middle)
    value = logits.gather(1, classes[:, None]) + logits.log_softmax(1).gather(1, classes[:, None])
    assert torch.allclose(found.activation, middle.detach())
    assert torch.allclose(found.gradient, torch.autograd.grad(value.sum(), middle)[0])


def test_tokens_lie_row_by_row_and_the_class_token_is_left_out():
    network = seeded(Transformer)
    maps = explain(network, noise(2), method="hires-cam", layer="blocks.0")
    assert maps.values.shape == (2, 4, 4)
    images = torch.from_numpy(noise(2))
    _, found = expanded(network, "blocks.0", images, torch.from_numpy(maps.classes), "pre-softmax")
    tokens = torch.cat([network.token.expand(2, -1, -1), network.embed(images).flatten(2).transpose(1, 2)], dim=1)
    second = network.blocks[0](tokens)
    for position in range(16):
        row, column = divmod(position, 4)
        assert torch.allclose(found.activation[:, :, row, column], second[:, 1 + position], atol=1e-6)


def test_default_layer_is_one_whose_positions_matter():
    # Behind the last attention nothing but the class token is looked at.
    assert default_layer(seeded(Transformer), noise(1)) == "blocks.1.qkv"
    assert explain(seeded(Transformer), noise(2)).values.any()
    assert not explain(seeded(Transformer), noise(2), layer="blocks.1").values.any()
    assert default_layer(seeded(lambda: Transformer(class_token=False)), noise(1)) == "blocks"
    assert default_layer(shipped(), pictures(1)) == "features"
    assert default_layer(shipped("teacher"), pictures(1)) == "features"


def test_upsampled_maps_are_bilinear_and_keep_their_range():
    maps = explain(shipped(), pictures(3))
    assert maps.upsampled.shape == (3, 32, 32)
    assert maps.upsampled.max() <= maps.values.max()
    assert maps.upsampled.min() >= maps.values.min() >= 0
    assert np.allclose(maps.upsampled[:, :4, :4], maps.values[:, :1, :1])  # beyond the centres of the outermost
    # The centres of the first two positions lie at pixels 3.5 and 11.5.
    expected = maps.values[:, 0, 0] + (8 - 3.5) / 8 * (maps.values[:, 0, 1] - maps.values[:, 0, 0])
    assert np.allclose(maps.upsampled[:, 0, 8], expected, rtol=1e-5)


def test_classes_default_to_predictions():
    network, images = shipped(), pictures(20)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).argmax(dim=1).numpy()
    assert len(set(expected.tolist())) > 3
    for method in ("hires-cam", "lift-cam"):
        assert (explain(network, images, method=method).classes == expected).all()
    assert (explain(network, images, np.full(20, 7)).classes == 7).all()
    assert np.abs(explain(network, images, 7).values - explain(network, images).values).max() > 0

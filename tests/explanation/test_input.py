"""Bad input: one line that says where, what was found, and what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from orric.exceptions import ExplanationError
from orric.explanation.explain import METHODS, explain
from orric.explanation.layers import spatial_layers
from orric.explanation.moxi import moxi
from orric.retraining.models import load_network
from tests.vision.own_models import built, exported_whole, saved

from .networks import Pooled, Transformer, convolutional, noise, pictures, seeded, shipped

ONE, FEW = pictures(1), pictures(3)


def refused(match, *args, **settings):
    with pytest.raises(ExplanationError, match=match) as caught:
        explain(*args, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_layer_lists_the_candidates_the_nearest_first():
    network = shipped()
    for method in METHODS:
        if not method.startswith("moxi"):
            found = refused(
                r"layer 'feature\.8': is unknown; choose one of ", network, ONE, method=method, layer="feature.8"
            )
    names = found.partition("choose one of ")[2].split(", ")
    assert set(names) == set(spatial_layers(network, ONE))
    assert names[0] == "features.8"
    assert "head" not in names


def test_a_layer_without_positions_lists_the_candidates():
    assert "choose one of" in refused(r"layer 'head': gives \(10,\) for an image", shipped(), ONE, layer="head")
    refused("layer '': is unknown", shipped(), ONE, layer="")


def test_a_layer_of_one_position_is_none():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    assert spatial_layers(network, ONE) == ["0"]
    refused(r"layer '1': gives \(4, 1, 1\) for an image", network, ONE, layer="1")


def test_a_layer_that_does_not_run_once_is_told():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.never, self.twice, self.pool, self.head = nn.ReLU(), nn.Conv2d(3, 3, 3), Pooled(), nn.Linear(3, 4)

        def forward(self, images):
            return self.head(self.pool(self.twice(self.twice(images))))

    refused("layer 'twice': runs 2 times", Odd(), ONE, layer="twice")
    refused("layer 'never': does not run", Odd(), ONE, layer="never")
    refused("network: has no layer", Odd(), ONE)


def test_a_network_without_spatial_layers_is_told():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    refused("network: has no layer with a map of positions", network, ONE)
    refused("layer '1': .*no layer that could be", network, ONE, layer="1")
    assert explain(network, ONE, method="moxi", patch_px=16).values.shape == (1, 2, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["hires-cam", "shapley-cam", "lift-cam"])
def test_activations_that_are_not_finite_are_told(method, value):
    class Bad(nn.Module):
        def forward(self, maps):
            return maps.index_fill(1, torch.tensor([0]), value)

    class Deaf(nn.Module):
        """Looks at one channel alone, so that the outputs are finite."""

        def forward(self, maps):
            return maps[:, 1:]

    network = nn.Sequential(nn.Conv2d(3, 4, 3), Bad(), Deaf(), Pooled(), nn.Linear(3, 5))
    refused(r"layer '1': 2700 of 10800 activations are not finite", network, FEW, 1, method, "1")


def test_outputs_that_are_not_finite_are_told():
    network = shipped()
    with torch.no_grad():
        network.head.bias[0] = float("nan")
    for method in METHODS:
        refused("network: gives outputs that are not finite", network, ONE, method=method)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("classes", [10, -1, np.array([0, 10, 3]), np.array([0, -1, 3]), torch.tensor([1, 2, 99])])
def test_a_class_out_of_range_is_told(classes, method):
    found = refused("classes: index -?[0-9]+ is out of range", shipped(), FEW, classes, method)
    assert "the network tells 10 classes apart, 0 to 9" in found


@pytest.mark.parametrize(
    "classes", [1.0, np.array([1.0, 2.0, 3.0]), np.array([1, 2]), np.array([[1, 2, 3]]), "cat", True]
)
def test_classes_of_another_kind_are_told(classes):
    refused("classes: of shape .*give one whole number, or one for each of the 3 images", shipped(), FEW, classes)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize(
    ("images", "found"),
    [
        (FEW[:0], "images: the batch is empty"),
        (FEW[0], r"images: of shape \(3, 32, 32\)"),
        (FEW[:, :, :0], r"images: of shape \(3, 3, 0, 32\)"),
        ((255 * FEW).astype(np.uint8), "images: of type torch.uint8"),
        (np.array([["a"]]), "images: of type <U1"),
        (np.where(np.arange(3)[:, None, None, None] == 1, np.float32("nan"), FEW), "1 of 3 hold NaN .* image 1;"),
        (FEW[:, :2], r"network: fails on images of shape \([0-9]+, 2, 32, 32\)"),
    ],
    ids=["empty", "one", "no rows", "bytes", "words", "nan", "channels"],
)
def test_unusable_images_are_told(images, found, method):
    refused(found, shipped(), images, method=method)


def test_unknown_words_are_told():
    refused("method: 'shapleycam' is unknown; did you mean 'shapley-cam'", shipped(), ONE, method="shapleycam")
    refused("utility: 'logit' is unknown; known: pre-softmax", shipped(), ONE, utility="logit")
    refused("batch: 0; give at least 1", shipped(), ONE, batch=0)
    refused("batch: 0; give at least 1", shipped(), ONE, batch=0, method="moxi")


def test_outputs_of_another_kind_are_told():
    conv = nn.Conv2d(3, 4, 3)
    refused("network: gives outputs of shape", conv, ONE)
    refused("network: gives outputs of shape", nn.Sequential(conv, Pooled(), nn.Linear(4, 1)), ONE)
    refused("network: gives probabilities", nn.Sequential(conv, Pooled(), nn.Linear(4, 3), nn.Softmax(1)), ONE)
    refused("network: grad-cam of a function", lambda images: images, ONE, method="grad-cam")


def test_batch_norms_that_mix_images_are_told():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), Pooled(), nn.Linear(4, 3))
    refused("layer '1': normalises by the batch", network, FEW)


def test_unusable_patches_are_told():
    refused("patch_px: 5; images of 32x32 px take 1, 2, 4, 8, 16", shipped(), ONE, method="moxi", patch_px=5)
    refused("patch_px: 32", shipped(), ONE, method="moxi", patch_px=32)
    refused("patch_px: 0", shipped(), ONE, method="moxi", patch_px=0)
    refused("baseline: 'black'", shipped(), ONE, method="moxi", baseline="black")
    refused("baseline: nan", shipped(), ONE, method="moxi", baseline=float("nan"))
    with pytest.raises(ExplanationError, match="direction: 'sideways' is unknown"):
        moxi(shipped(), ONE, direction="sideways")
    with pytest.raises(ExplanationError, match="steps: 5; there are 4 patches"):
        moxi(shipped(), ONE, patch_px=16, steps=5)


@pytest.mark.parametrize(
    ("black_box", "found"),
    [
        (lambda images: np.full((len(images), 4), 3.0), "black box: gives no probabilities"),
        (lambda images: np.full((len(images), 4), np.nan), "black box: gives no probabilities"),
        (lambda images: np.full(len(images), 0.5), r"black box: gives shape \(1,\) for 1 images"),
    ],
)
def test_black_boxes_that_give_no_probabilities_are_told(black_box, found):
    refused(found, black_box, ONE, method="moxi", patch_px=16)


def test_a_black_box_has_probabilities_alone():
    refused("utility: 'rest' of a function", lambda images: images, ONE, method="moxi", utility="rest")


@pytest.mark.parametrize("kind", ["residual", "plain", "squeeze and excitation, smooth", "probabilities"])
def test_a_users_own_onnx_student_is_explained(kind, tmp_path):
    original = built(kind)
    path = saved(exported_whole(original), tmp_path / "student.onnx")
    network = load_network(path, "student", 10)
    images = noise(3)
    for method in METHODS:
        maps = explain(network, images, method=method, patch_px=16)
        assert maps.values.shape[0] == 3
        assert np.isfinite(maps.values).all()
    # The same maps as of the network that was exported, its softmax left out.
    logits = nn.Sequential(*original[:-1]) if kind == "probabilities" else original
    found, expected = explain(network, images, 4), explain(logits, images, 4)
    assert found.values.any()
    assert found.values.shape == expected.values.shape
    assert np.allclose(found.values, expected.values, rtol=1e-3, atol=1e-4 * expected.values.max())


def test_images_may_be_read_only_or_backwards():
    images = np.broadcast_to(ONE, (2, 3, 32, 32))[:, :, ::-1]
    for method in ("hires-cam", "moxi"):
        maps = explain(shipped(), images, method=method, patch_px=16).values
        assert np.allclose(maps[0], maps[1])


def test_a_transformer_needs_a_square_of_tokens():
    class Uneven(Transformer):
        def forward(self, images):
            return super().forward(images[:, :, :24])

    refused("layer 'blocks.0': gives \\(13, 8\\) for an image", seeded(Uneven), ONE, layer="blocks.0")
    assert spatial_layers(seeded(Uneven), ONE) == ["embed"]
    assert "blocks.0" in spatial_layers(seeded(Transformer), ONE)
    assert "0" in spatial_layers(seeded(convolutional), ONE)

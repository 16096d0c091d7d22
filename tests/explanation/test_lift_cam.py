from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from orric.exceptions import ExplanationError
from orric.explanation.evaluation import evaluating
from orric.explanation.explain import explain
from orric.explanation.lift_cam import TOLERANCE, _contributions, lift_cam
from orric.explanation.probe import Probe
from orric.explanation.utility import UTILITIES

from .networks import Functional, Pooled, Transformer, convolutional, noise, pictures, seeded, shipped


@pytest.mark.parametrize(
    ("role", "layer"),
    [("student", "features"), ("student", "features.2"), ("student", "features.6.1"), ("teacher", "features.1"),
     ("teacher", "features.2.body.0"), ("teacher", "features.3")],
)  # fmt: skip
def test_contributions_of_relu_networks_are_complete(role, layer):
    network, images = shipped(role), torch.from_numpy(pictures(6))
    classes = torch.arange(6)
    with evaluating(network):
        probe = Probe(network, layer, images)
        activation, contributions, misses = _contributions(probe, images, classes, UTILITIES["pre-softmax"])
        with torch.no_grad():
            blank = torch.zeros_like(activation)
            difference = (network(images) - probe.continued(images, blank)).gather(1, classes[:, None])[:, 0]
    assert float(difference.abs().min()) > 0.1
    assert torch.allclose(contributions.sum(dim=(1, 2, 3)), difference, rtol=TOLERANCE, atol=1e-3)
    assert float(misses.max()) < TOLERANCE
    # The network must be curved behind the layer, or a gradient would do.
    expected = (contributions.sum(dim=(2, 3), keepdim=True) * activation).sum(dim=1).relu()
    assert np.allclose(explain(network, images, classes, "lift-cam", layer).values, expected, rtol=1e-3, atol=1e-4)


def test_contributions_differ_from_gradient_times_activation_behind_a_relu():
    network, images = shipped(), pictures(6)
    lift = explain(network, images, method="lift-cam", layer="features.2")
    assert lift.misses is not None
    assert lift.misses.max() < TOLERANCE
    hires = explain(network, images, method="hires-cam", layer="features.2")
    assert np.abs(lift.values / lift.values.max() - hires.values / hires.values.max()).max() > 0.05


@pytest.mark.parametrize(
    "build",
    [
        lambda: convolutional(nn.GELU),
        lambda: convolutional(nn.SiLU),
        lambda: convolutional(nn.Hardswish),
        lambda: Functional(torch.relu),
        lambda: Functional(nn.functional.gelu),
    ],
    ids=["gelu", "silu", "hardswish", "functional relu", "functional gelu"],
)
def test_incomplete_contributions_are_refused_with_the_figure(build):
    network, images = seeded(build), noise(4, 16)
    layer = "first" if isinstance(network, Functional) else "1"
    with pytest.raises(ExplanationError, match=r"lift-cam: contributions miss .* by [\d.e+]+ % \(image \d\)") as caught:
        explain(network, images, 0, "lift-cam", layer)
    assert "\n" not in str(caught.value)
    with pytest.warns(RuntimeWarning, match=r"miss the difference in utility by [\d.e+]+ %"):
        maps = explain(network, images, 0, "lift-cam", layer, incomplete="warn")
    worst = int(maps.misses.argmax())
    assert maps.misses[worst] > TOLERANCE
    percent, image = re.search(r"by ([\d.e+]+) % \(image (\d)\)", str(caught.value)).groups()
    assert float(percent) == pytest.approx(100 * maps.misses[worst], rel=0.06)
    assert int(image) == worst


def test_the_image_told_is_counted_over_all_batches():
    network, images = seeded(lambda: convolutional(nn.GELU)), noise(5, 16)
    images[:4] = 0.0  # all of them equal, and not the worst
    with pytest.warns(RuntimeWarning) as caught:
        maps = explain(network, images, 0, "lift-cam", "1", incomplete="warn", batch=2)
    assert f"(image {int(maps.misses.argmax())})" in str(caught[0].message)
    assert len(caught) == 1


def test_softmax_is_refused_too():
    with pytest.raises(ExplanationError, match="pre-softmax"):
        explain(shipped(), pictures(3), method="lift-cam", utility="post-softmax")


def test_a_module_that_runs_twice_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
            self.activation, self.head = nn.ReLU(), nn.Linear(4, 5)

        def forward(self, images):
            maps = self.activation(self.second(self.first(images)))
            return self.head(self.activation(self.third(maps)).mean(dim=(2, 3)))

    with pytest.raises(ExplanationError, match="lift-cam"):
        explain(seeded(Twice), noise(2, 12), 0, "lift-cam", "first")


def test_max_pooling_mixes_no_images():
    """Two channels cancel each other out in front of the pooling, where Captum takes the first image's gradient."""

    def build():
        return nn.Sequential(
            *(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 2, 1, bias=False), nn.MaxPool2d(2), nn.Conv2d(2, 4, 1), nn.ReLU()),
            *(Pooled(), nn.Linear(4, 5)),
        )

    network, images = seeded(build), 4 * noise(5, 10) - 2
    with torch.no_grad():
        network[0].weight[1], network[0].bias[1] = network[0].weight[0] / 2, network[0].bias[0] / 2
        network[1].weight[:, :, 0, 0] = torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.0, 1.0]])
    whole = explain(network, images, 0, "lift-cam", "0")
    alone = np.concatenate([explain(network, image[None], 0, "lift-cam", "0").values for image in images])
    assert whole.values.max() > 0
    assert np.abs(whole.values - alone).max() <= 1e-6 * whole.values.max()
    assert whole.misses.max() < TOLERANCE


def test_captum_tells_nobody_of_its_hooks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain(shipped(), pictures(2), method="lift-cam", layer="features.3")


def test_a_wrong_word_for_what_to_do_is_told():
    with pytest.raises(ExplanationError, match="incomplete: 'ignore'; choose 'refuse' or 'warn'"):
        explain(shipped(), pictures(1), method="lift-cam", incomplete="ignore")


def test_tokens_are_contributed_for_against_tokens_of_zeros():
    network = seeded(Transformer)
    images, classes = torch.from_numpy(noise(3)), torch.tensor([0, 1, 2])
    with evaluating(network):
        probe = Probe(network, "blocks.0", images)
        maps, misses = lift_cam(probe, images, classes, UTILITIES["pre-softmax"])
    assert maps.shape == (3, 4, 4)
    assert misses.shape == (3,)

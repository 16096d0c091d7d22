"""Every method leaves the network as it was, and explains every image by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from orric.exceptions import ExplanationError
from orric.explanation.explain import METHODS, explain
from orric.explanation.faithfulness import faithfulness
from orric.explanation.games import position_game
from orric.explanation.layers import default_layer, spatial_layers
from orric.explanation.sanity import randomised_cascade

from .networks import (
    Transformer,
    assert_unchanged,
    convolutional,
    disturbed,
    noise,
    pictures,
    seeded,
    shipped,
    state_of,
)

LAYERS = {"student": "features.4", "transformer": "blocks.0"}


def network_of(kind):
    return shipped() if kind == "student" else seeded(Transformer)


def images_of(kind, count):
    return pictures(count) if kind == "student" else noise(count)


def explained(network, images, kind, method, **settings):
    layer = LAYERS[kind]
    return explain(network, images, method=method, layer=layer, incomplete="warn", patch_px=16, **settings)


@pytest.mark.filterwarnings("ignore:lift-cam:RuntimeWarning")
@pytest.mark.parametrize("kind", list(LAYERS))
@pytest.mark.parametrize("method", list(METHODS))
def test_maps_do_not_depend_on_the_batch(method, kind):
    # In double precision, as a layer norm leaves differences of numbers a million times their size.
    network, images = network_of(kind).double(), images_of(kind, 17)
    whole = explained(network, images, kind, method, batch=17).values
    assert np.ptp(whole, axis=(1, 2)).max() > 0
    for batch in (1, 7):
        parts = explained(network, images, kind, method, batch=batch).values
        assert np.abs(parts - whole).max() < 1e-8 * whole.max(), batch
    # And an image's map does not depend on which others there are.
    alone = explained(network, images[3:4], kind, method).values
    assert np.abs(alone[0] - whole[3]).max() < 1e-8 * whole.max()


@pytest.mark.filterwarnings("ignore:lift-cam:RuntimeWarning")
@pytest.mark.parametrize("kind", list(LAYERS))
@pytest.mark.parametrize("method", list(METHODS))
def test_the_network_is_left_as_it_was(method, kind):
    # In double precision, for the reason given above.
    network = disturbed(network_of(kind).double())
    before = state_of(network)
    maps = explained(network, images_of(kind, 5), kind, method, batch=2)
    assert_unchanged(network, before)
    # Modes, frozen weights and gradients at hand change nothing either.
    expected = explained(network_of(kind).double(), images_of(kind, 5), kind, method).values
    assert np.abs(maps.values - expected).max() < 1e-8 * expected.max()


class Failing(nn.Module):
    """Fails, or gives NaN, after a number of passes."""

    def __init__(self, passes, error):
        super().__init__()
        self.left, self.error = passes, error

    def forward(self, inputs):
        if self.left == 0:
            if self.error is None:
                return inputs * float("nan")
            raise self.error
        self.left -= 1
        return inputs


@pytest.mark.parametrize("passes", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("error", [RuntimeError("no luck"), KeyError("other"), None], ids=["ours", "other", "nan"])
@pytest.mark.parametrize("method", ["shapley-cam", "lift-cam", "moxi"])
def test_the_network_is_left_as_it_was_after_an_error(method, error, passes):
    network = disturbed(seeded(lambda: convolutional(middle=Failing(passes, error))))
    before = state_of(network)
    kind = KeyError if isinstance(error, KeyError) else ExplanationError
    with pytest.raises(kind) as caught:
        explain(network, noise(6, 16), method=method, layer="1" if passes % 2 else None, batch=1)
    assert_unchanged(network, before)
    assert "\n" not in str(caught.value)


def test_captum_leaves_nothing_on_modules_that_ran_before_an_error():
    last = [*seeded(convolutional)]
    last[5] = nn.Sequential(last[5], Failing(-1, KeyError("late")))
    network = disturbed(nn.Sequential(*last))
    failures = 0
    for passes in range(20):
        network[5][1].left = passes
        before = state_of(network)
        try:
            explain(network, noise(2, 16), 0, "lift-cam", "1")
        except KeyError:
            failures += 1
        assert_unchanged(network, before)
    assert 5 < failures < 20


def test_the_network_is_left_as_it_was_when_the_backward_pass_fails():
    class NoWayBack(torch.autograd.Function):
        @staticmethod
        def forward(context, inputs):
            return inputs.clone()

        @staticmethod
        def backward(context, gradient):
            raise RuntimeError("no way back")

    class Wall(nn.Module):
        def forward(self, inputs):
            return NoWayBack.apply(inputs)

    network = disturbed(seeded(lambda: convolutional(middle=Wall())))
    before = state_of(network)
    for method in ("grad-cam", "shapley-cam", "lift-cam"):
        with pytest.raises(ExplanationError, match="no way back"):
            explain(network, noise(2, 16), 0, method, "1")
        assert_unchanged(network, before)


def test_everything_else_leaves_the_network_as_it_was():
    network = disturbed(shipped())
    before, images = state_of(network), pictures(2, 16)
    spatial_layers(network, images)
    default_layer(network, images)
    with position_game(network, images[:1]) as (game, (rows, columns)):
        game(np.ones((3, rows * columns), bool))
    faithfulness(network, images, explain(network, images), patch_px=8)
    randomised_cascade(network, images, np.random.default_rng(1), "hires-cam")
    with pytest.raises(ZeroDivisionError), position_game(network, images[:1]):
        _ = 1 / 0
    assert_unchanged(network, before)


def test_buffers_that_move_in_evaluation_mode_are_put_back():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("passes", torch.zeros(()))

        def forward(self, inputs):
            self.passes += 1
            return inputs

    network = seeded(lambda: convolutional(middle=Counting()))
    before = state_of(network)
    for method in METHODS:
        explain(network, noise(2, 16), 0, method)
    assert_unchanged(network, before)


def test_a_layer_followed_by_one_in_place_is_explained():
    plain = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)))
    in_place = seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 5))
    )
    for method in ("hires-cam", "shapley-cam", "lift-cam"):
        maps = [explain(network, noise(3, 8), 1, method, "0").values for network in (plain, in_place)]
        assert np.array_equal(*maps), method


def test_images_are_left_as_they_were():
    class InPlace(nn.Module):
        def forward(self, images):
            return images.sub_(0.5).mul_(4)

    network = nn.Sequential(InPlace(), *seeded(convolutional))
    apart = nn.Sequential(*seeded(convolutional))
    images = noise(3, 16)
    before, tensor = images.copy(), torch.from_numpy(images.copy())
    for method in METHODS:
        maps = explain(network, images, 1, method, "2").values
        assert np.array_equal(images, before), method
        assert np.array_equal(explain(network, tensor, 1, method, "2").values, maps)
        assert np.array_equal(tensor.numpy(), before), method
        assert not tensor.requires_grad
        if not method.startswith("moxi"):  # which masks the images, not what becomes of them
            assert np.array_equal(maps, explain(apart, (images - np.float32(0.5)) * 4, 1, method, "1").values), method


def test_a_layer_that_leads_nowhere_speaks_for_nothing():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = seeded(convolutional), nn.Conv2d(3, 4, 3)

        def forward(self, images):
            self.unused(images)
            return self.used(images)

    network = Aside()
    assert not explain(network, noise(2, 16), 1, "shapley-cam", "unused").values.any()
    assert not explain(network.requires_grad_(False), noise(2, 16), 1, "shapley-cam", "unused").values.any()


def test_a_callers_modes_of_gradients_change_nothing():
    network, images = shipped(), pictures(2)
    expected = explain(network, images).values
    with torch.no_grad():
        assert np.array_equal(explain(network, images).values, expected)
    assert torch.is_grad_enabled()

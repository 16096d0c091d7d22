from __future__ import annotations

import numpy as np
import pytest
import torch

from orric.explanation.explain import explain
from orric.explanation.moxi import moxi
from orric.explanation.patches import PatchGrid, blank
from orric.retraining.models import exported
from orric.vision.onnx_sessions import open_session, run
from tests.builders import ROOT

from .networks import convolutional, noise, pictures, seeded, shipped


def by_definition(network, image, class_, direction, patch_px, baseline):
    """Follow the definition word by word, one image and one patch at a time."""
    _, height, width = image.shape
    patches = [(top, left) for top in range(0, height, patch_px) for left in range(0, width, patch_px)]

    def confidence(present):
        shown = np.empty_like(image)
        for channel in range(len(image)):
            value = image[channel].mean() if baseline == "mean" else baseline
            shown[channel] = value
            for at in present:
                top, left = patches[at]
                part = slice(top, top + patch_px), slice(left, left + patch_px)
                shown[channel][part] = image[channel][part]
        with torch.no_grad():
            logits = network(torch.from_numpy(shown[None])).double()[0]
        return float(logits.softmax(dim=0)[class_])

    group, order, everyone = [], [], list(range(len(patches)))
    confidences = [confidence([] if direction == "insertion" else everyone)]
    while len(order) < len(patches):
        best, value = None, None
        for candidate in everyone:
            if candidate in group:
                continue
            together = [*group, candidate]
            found = confidence(together if direction == "insertion" else [p for p in everyone if p not in together])
            if value is None or (found > value if direction == "insertion" else found < value):
                best, value = candidate, found
        group.append(best)
        order.append(best)
        confidences.append(value)
    return order, confidences


@pytest.mark.parametrize("baseline", ["mean", 0.0, 0.5])
@pytest.mark.parametrize("direction", ["insertion", "deletion"])
def test_order_is_that_of_the_definition(direction, baseline):
    network, images = shipped(), pictures(4, 16)
    classes = np.array([0, 3, 6, 9])
    found = moxi(network, images, classes, direction, patch_px=4, baseline=baseline)
    assert found.patches.shape == (4, 16)
    for image, class_, order, confidences in zip(images, classes, found.patches, found.confidences, strict=True):
        expected, values = by_definition(network, image, class_, direction, 4, baseline)
        assert order.tolist() == expected
        assert np.allclose(confidences, values, rtol=1e-5, atol=1e-9)


def test_interaction_matters_to_the_order():
    """The greedy order is not that of patches by themselves."""
    found = moxi(shipped(), pictures(4), patch_px=8)
    alone = moxi(shipped(), pictures(4), patch_px=8, steps=1)
    assert (alone.patches[:, 0] == found.patches[:, 0]).all()
    grid = found.grid
    pixels, masked = pictures(4), blank(pictures(4))
    differs = False
    for at in range(4):
        shown = np.where(grid.pixels(np.eye(16, dtype=bool))[:, None], pixels[at], masked[at])
        with torch.no_grad():
            single = shipped()(torch.from_numpy(shown)).softmax(dim=1)[:, found.classes[at]].numpy()
        differs = differs or np.argsort(-single, kind="stable").tolist() != found.patches[at].tolist()
    assert differs


def test_black_box_gives_what_the_network_gives():
    path = ROOT / "traces" / "models" / "digits-student.safetensors"
    session = open_session(exported(path, "student", 10))

    def black_box(images):
        scores = run(session, images).astype(float)
        parts = np.exp(scores - scores.max(axis=1, keepdims=True))
        return parts / parts.sum(axis=1, keepdims=True)

    images = pictures(5)
    for direction in ("insertion", "deletion"):
        ours = moxi(shipped(), images, direction=direction, patch_px=8)
        theirs = moxi(black_box, images, direction=direction, patch_px=8)
        assert (ours.classes == theirs.classes).all()
        assert np.allclose(ours.confidences, theirs.confidences, atol=1e-4)
        assert (ours.patches == theirs.patches).all()
    assert (
        explain(black_box, images, method="moxi", patch_px=8).values == moxi(black_box, images, patch_px=8).maps
    ).all()


def test_ranks_fall_evenly_and_the_rest_has_none():
    found = moxi(shipped(), pictures(2), patch_px=8, steps=3)
    assert found.patches.shape == (2, 3)
    assert found.confidences.shape == (2, 4)
    maps = found.maps.reshape(2, 16)
    for ranks, order in zip(maps, found.patches, strict=True):
        assert ranks[order].tolist() == [1.0, 15 / 16, 14 / 16]
        assert np.count_nonzero(ranks) == 3
    whole = moxi(shipped(), pictures(2), patch_px=8)
    assert (whole.patches[:, :3] == found.patches).all()
    assert (np.argsort(-whole.maps.reshape(2, 16), axis=1) == whole.patches).all()


@pytest.mark.parametrize("direction", ["insertion", "deletion"])
def test_ends_are_the_image_and_nothing_of_it(direction):
    network, images = shipped(), pictures(3)
    found = moxi(network, images, direction=direction, patch_px=8)
    with torch.no_grad():
        shown = network(torch.from_numpy(images)).softmax(dim=1).numpy()
        nothing = network(torch.from_numpy(np.broadcast_to(blank(images), images.shape).copy())).softmax(dim=1).numpy()
    ends = [nothing, shown] if direction == "insertion" else [shown, nothing]
    each = np.arange(3)
    assert np.allclose(found.confidences[:, 0], ends[0][each, found.classes], atol=1e-6)
    assert np.allclose(found.confidences[:, -1], ends[1][each, found.classes], atol=1e-6)


def test_other_utilities_give_their_own_numbers():
    network, images = seeded(convolutional), noise(2, 16)
    found = moxi(network, images, 1, patch_px=8, utility="pre-softmax")
    with torch.no_grad():
        assert np.allclose(found.confidences[:, -1], network(torch.from_numpy(images))[:, 1].numpy(), atol=1e-6)


def test_images_need_not_be_square():
    grid = PatchGrid.over(8, 12, 4)
    assert (grid.rows, grid.columns, grid.players) == (2, 3, 6)
    seen = grid.pixels(np.eye(6, dtype=bool))
    assert seen.shape == (6, 8, 12)
    assert seen.sum(axis=0).min() == seen.sum(axis=0).max() == 1
    assert seen[4, 4:, 4:8].all()
    assert seen[4].sum() == 16
    assert grid.means(seen.astype(float)).tolist() == np.eye(6).tolist()

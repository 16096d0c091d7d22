from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from orric.exceptions import ExplanationError
from orric.explanation import faithfulness as module
from orric.explanation.explain import Maps, explain
from orric.explanation.faithfulness import (
    adcc,
    area,
    average_drop,
    coherency,
    faithfulness,
    increase,
    normalised,
    patch_scores,
)
from orric.explanation.patches import PatchGrid
from orric.explanation.sanity import randomised_cascade, rank_correlation

from .networks import Pooled, noise, pictures, shipped


def maps_of(values, size_px, classes=None):
    values = np.asarray(values, float)
    classes = np.zeros(len(values), np.int64) if classes is None else classes
    return Maps(values, classes, "hires-cam", "features", "rest", size_px)


def brightness(images):
    """A black box of two classes: the first one's probability is the mean of the image."""
    light = images.astype(float).mean(axis=(1, 2, 3))
    return np.stack([light, 1 - light], axis=1)


# Two by two patches of one pixel.
IMAGE = np.array([[[[0.8, 0.4], [0.0, 0.4]]]])


def test_measures_of_a_black_box_by_hand():
    # The map points at the brightest pixel, half at the next; the third and the fourth are equal.
    found = faithfulness(brightness, IMAGE, maps_of([[[1.0, 0.5], [0.0, 0.0]]], (2, 2)), patch_px=1, baseline=0.0)
    # Insertion: 0, .8/4, 1.2/4, 1.2/4 (ties in their order: the dark pixel comes third), 1.6/4.
    assert found.insertion_auc.tolist() == pytest.approx([(0 / 2 + 0.2 + 0.3 + 0.3 + 0.4 / 2) / 4])
    assert found.deletion_auc.tolist() == pytest.approx([(0.4 / 2 + 0.2 + 0.1 + 0.1 + 0 / 2) / 4])
    # What the map leaves: .8 and .2, so (.4 - .25)/.4.
    assert found.average_drop.tolist() == pytest.approx([0.375])
    assert found.increase.tolist() == [0.0]
    assert found.complexity.tolist() == pytest.approx([1.5 / 4])
    assert found.coherency is None
    assert found.adcc is None
    assert set(found.means) == {"average_drop", "increase", "insertion_auc", "deletion_auc", "complexity"}


def test_baseline_takes_the_place_of_what_is_absent():
    # With white instead of black, less of the map is more light.
    found = faithfulness(brightness, IMAGE, maps_of([[[1.0, 0.5], [0.0, 0.0]]], (2, 2)), patch_px=1, baseline=1.0)
    assert found.increase.tolist() == [1.0]
    assert found.average_drop.tolist() == [0.0]
    assert found.deletion_auc.tolist() == pytest.approx([(0.4 / 2 + 0.45 + 0.6 + 0.85 + 1 / 2) / 4])
    mean = faithfulness(brightness, IMAGE, maps_of([[[1.0, 0.5], [0.0, 0.0]]], (2, 2)), patch_px=1)
    assert mean.insertion_auc.tolist() == pytest.approx([(0.4 / 2 + 0.5 + 0.5 + 0.4 + 0.4 / 2) / 4])


def test_adcc_by_hand():
    maps = maps_of([[[1.0, 0.5], [0.0, 0.0]]], (2, 2))
    asked = []

    def again(images, classes):
        asked.append((images.copy(), classes))
        return maps_of([[[0.0, 0.0], [0.0, 3.0]]], (2, 2))

    found = faithfulness(brightness, IMAGE, maps, again, patch_px=1, baseline=0.0)
    [(images, classes)] = asked
    assert images.ravel().tolist() == pytest.approx([0.8, 0.2, 0.0, 0.0])
    assert classes.tolist() == [0]
    a, b = np.array([1.0, 0.5, 0, 0]), np.array([0.0, 0, 0, 1])
    agreed = (1 + np.corrcoef(a, b)[0, 1]) / 2
    assert found.coherency.tolist() == pytest.approx([agreed])
    expected = 3 / (1 / agreed + 1 / (1 - 0.375) + 1 / (1 - 0.375))
    assert found.adcc.tolist() == pytest.approx([expected])


def test_better_maps_score_better():
    best, worst = ([[[1.0, 0.6], [0.1, 0.4]]], [[[0.0, 0.4], [1.0, 0.6]]])
    good, bad = (faithfulness(brightness, IMAGE, maps_of(one, (2, 2)), None, 1, 0.0) for one in (best, worst))
    assert good.insertion_auc > bad.insertion_auc
    assert good.deletion_auc < bad.deletion_auc
    assert good.average_drop < bad.average_drop


def test_arithmetic_of_single_measures():
    assert average_drop(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.75, 0.3])).tolist() == [0.5, 0.0, 0.0]
    assert increase(np.array([0.5, 0.5, 0.5]), np.array([0.25, 0.75, 0.5])).tolist() == [0.0, 1.0, 0.0]
    assert area(np.array([[1.0, 1.0, 1.0], [0.0, 0.5, 1.0], [0.0, 0.0, 1.0]])).tolist() == [1.0, 0.5, 0.25]
    assert normalised(np.array([[[2.0, 4.0], [3.0, 2.0]], [[5.0, 5.0], [5.0, 5.0]]])).tolist() == [
        [[0.0, 1.0], [0.5, 0.0]],
        [[0.0, 0.0], [0.0, 0.0]],
    ]
    map_ = noise(1, 4)[:, 0]
    assert coherency(map_, 3 * map_ + 1).tolist() == pytest.approx([1.0])
    assert coherency(map_, -map_).tolist() == pytest.approx([0.0])
    assert coherency(map_, np.ones_like(map_)).tolist() == [0.5]
    means = adcc(np.array([1.0, 0.0, 0.9]), np.array([0.0, 0.1, 1.0]), np.array([0.0, 0.1, 0.2]))
    assert means.tolist() == [1.0, 0.0, 0.0]


def test_patches_take_the_mean_of_the_map_or_its_own_values():
    grid = PatchGrid.over(4, 4, 2)
    exact = maps_of([[[1.0, 2.0], [3.0, 4.0]]], (4, 4))
    assert patch_scores(exact, grid).tolist() == [[1.0, 2.0, 3.0, 4.0]]
    fine = maps_of(np.arange(16.0).reshape(1, 4, 4), (4, 4))
    assert patch_scores(fine, grid).tolist() == [[2.5, 4.5, 10.5, 12.5]]


def test_curves_of_a_network_are_those_of_its_masked_images():
    network, images = shipped(), pictures(2)
    maps = explain(network, images)
    found = faithfulness(network, images, maps, patch_px=8, baseline=0.5)
    scores = patch_scores(maps, PatchGrid.over(32, 32, 8))
    for at, image in enumerate(images):
        shown, curve = np.full_like(image, 0.5), []
        for patch in [None, *np.argsort(-scores[at], kind="stable")]:
            if patch is not None:
                part = (slice(None), *(slice(8 * one, 8 * one + 8) for one in divmod(int(patch), 4)))
                shown[part] = image[part]
            with torch.no_grad():
                curve.append(float(network(torch.from_numpy(shown[None])).softmax(1)[0, maps.classes[at]]))
        assert found.insertion_auc[at] == pytest.approx(np.trapezoid(curve, dx=1 / 16), abs=1e-6)


def test_maps_of_other_images_are_refused():
    maps = explain(shipped(), pictures(2))
    with pytest.raises(ExplanationError, match=r"maps: explain 2 images of \(32, 32\) px; given: 3"):
        faithfulness(shipped(), pictures(3), maps)
    with pytest.raises(ExplanationError, match="maps: explain 2 images"):
        faithfulness(shipped(), pictures(2, 16), maps)


def test_every_measure_is_described():
    for name in module.Faithfulness.__dataclass_fields__:
        assert name.replace("_", " ").split()[0] in module.__doc__.lower()


def test_rank_correlation_is_spearmans():
    from scipy.stats import spearmanr

    one, other = np.round(noise(2, 5), 1)[:, 0]
    expected = spearmanr(one.ravel(), other.ravel()).statistic
    assert rank_correlation(one[None], other[None]).tolist() == pytest.approx([expected])
    assert rank_correlation(one[None], np.zeros_like(one)[None]).tolist() == [0.0]


@pytest.mark.parametrize("method", ["grad-cam", "hires-cam", "shapley-cam", "shapley-cam-e"])
def test_maps_change_when_weights_are_randomised(method):
    network, images = shipped(), pictures(24)
    found = randomised_cascade(network, images, np.random.default_rng(1), method, "features.4")
    assert found.layers[0] == "head"
    assert found.layers[-1] == "features.0.0"
    assert found.correlations.shape == (len(found.layers), 24)
    assert np.abs(found.correlations).max() <= 1 + 1e-12
    # What is left is the digit on its background, which shines through random weights, too.
    assert found.correlations[-1].mean() < 0.6
    again = randomised_cascade(network, images, np.random.default_rng(1), method, "features.4")
    assert (again.correlations == found.correlations).all()


def test_maps_that_do_not_look_at_the_head_stay():
    """The check can fail: where the utility does not depend on what is randomised, maps stay what they were."""

    class Deaf(nn.Module):
        """Its outputs depend on the image through two fixed channels alone."""

        def __init__(self):
            super().__init__()
            self.features, self.pool, self.unused = nn.Identity(), Pooled(), nn.Linear(3, 3)

        def forward(self, images):
            maps = self.features(images)
            return self.pool(maps) + 0 * self.unused(self.pool(maps)).detach()

    found = randomised_cascade(Deaf(), pictures(3), np.random.default_rng(1), "hires-cam", "features")
    assert found.layers == ("unused",)
    assert np.allclose(found.correlations, 1)


def test_weights_are_needed_to_randomise():
    network = nn.Sequential(nn.AvgPool2d(8), Pooled())
    with pytest.raises(ExplanationError, match="network: has no weights"):
        randomised_cascade(network, pictures(1), np.random.default_rng(1))

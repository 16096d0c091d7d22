"""Corruptions: stronger with severity, seeded, and as their definitions say."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

import orric
from orric.vision.corruptions import CORRUPTIONS, corrupt, plasma_fractal

every_corruption = pytest.mark.parametrize("name", sorted(CORRUPTIONS))
DETERMINISTIC = ("gaussian_blur", "contrast", "brightness")


def pictures(count: int = 24, seed: int = 1) -> np.ndarray:
    """Draw smooth colour images with some detail, dark and bright."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 8, 3)).astype(float)
    smooth = coarse.repeat(4, axis=1).repeat(4, axis=2) * 0.7
    return np.clip(smooth + rng.normal(0, 10, smooth.shape), 0, 255).astype(np.uint8)


def distortion(images: np.ndarray, corrupted: np.ndarray) -> float:
    """Return the root of the mean squared difference in grey levels."""
    return float(np.sqrt(((images.astype(float) - corrupted) ** 2).mean()))


@every_corruption
def test_distortion_grows_with_severity(name: str) -> None:
    images = pictures()
    grown = [distortion(images, corrupt(images, name, severity, np.random.default_rng(3))) for severity in range(6)]
    assert grown[0] == 0.0
    assert (np.diff(grown) > 0.2).all(), grown


@every_corruption
def test_severity_0_leaves_images_alone(name: str) -> None:
    images = pictures(3)
    untouched = corrupt(images, name, 0, np.random.default_rng(1))
    assert np.array_equal(untouched, images)
    assert untouched is not images
    assert np.array_equal(corrupt(images, "none", 5, np.random.default_rng(1)), images)


@every_corruption
def test_input_is_not_changed_and_shape_and_type_are_kept(name: str) -> None:
    images = pictures(4)
    before = images.copy()
    corrupted = corrupt(images, name, 3, np.random.default_rng(1))
    assert np.array_equal(images, before)
    assert corrupted.shape == images.shape
    assert corrupted.dtype == np.uint8
    assert corrupt(images[:0], name, 3, np.random.default_rng(1)).shape == (0, 32, 32, 3)


@every_corruption
def test_same_seed_same_images(name: str) -> None:
    images = pictures(5)
    first, again, other = (corrupt(images, name, 4, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("severity", [1, 5])
def test_batch_is_its_images_one_by_one(name: str, severity: int) -> None:
    images, rng = pictures(6), np.random.default_rng(1)
    singly = np.concatenate([corrupt(images[k : k + 1], name, severity, rng) for k in range(6)])
    difference = abs(corrupt(images, name, severity, rng).astype(int) - singly)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_brightness_raises_the_value_of_hsv(severity: int) -> None:
    image = pictures(1)
    image[0, 0, 0] = 0
    image[0, 0, 1] = 255
    raised = corrupt(image, "brightness", severity, np.random.default_rng(1))
    level = CORRUPTIONS["brightness"].levels[severity - 1]
    for pixel, found in zip(image.reshape(-1, 3), raised.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
        expected = np.array(colorsys.hsv_to_rgb(hue, saturation, min(value + level, 1.0))) * 255
        # Whole grey levels are cut off, not rounded.
        assert (found >= np.floor(expected - 1e-3)).all()
        assert (found <= expected + 1e-3).all()


@pytest.mark.parametrize("severity", [1, 5])
def test_contrast_by_its_formula(severity: int) -> None:
    image = pictures(1)[0] / 255
    level = CORRUPTIONS["contrast"].levels[severity - 1]
    expected = np.clip((image - image.mean(axis=(0, 1))) * level + image.mean(axis=(0, 1)), 0, 1) * 255
    found = corrupt((image * 255).round().astype(np.uint8)[None], "contrast", severity, np.random.default_rng(1))[0]
    assert abs(found + 0.5 - expected).max() <= 0.5 + 1e-3


def test_noise_has_its_standard_deviation_in_every_channel() -> None:
    grey = np.full((64, 32, 32, 3), 128, np.uint8)
    for severity, level in enumerate(CORRUPTIONS["gaussian_noise"].levels, start=1):
        noisy = corrupt(grey, "gaussian_noise", severity, np.random.default_rng(1)).astype(float)
        np.testing.assert_allclose(noisy.std(axis=(0, 1, 2)), level * 255, rtol=0.02)


def test_blur_keeps_the_mean_and_spreads_a_point_as_a_gaussian() -> None:
    point = np.zeros((1, 32, 32, 3), np.uint8)
    point[0, 16, 16] = 255
    blurred = corrupt(point, "gaussian_blur", 5, np.random.default_rng(1))[0, :, :, 0].astype(float)
    assert blurred[16, 16] == pytest.approx(255 / (2 * np.pi), abs=1.0)
    assert blurred[16, 17] / blurred[16, 16] == pytest.approx(np.exp(-0.5), abs=0.03)


def test_fog_differs_from_image_to_image_and_is_the_same_in_all_channels() -> None:
    grey = np.full((2, 32, 32, 3), 100, np.uint8)
    foggy = corrupt(grey, "fog", 5, np.random.default_rng(1))
    assert not np.array_equal(foggy[0], foggy[1])
    assert np.array_equal(foggy[..., 0], foggy[..., 1])
    assert np.array_equal(foggy[..., 0], foggy[..., 2])


def test_fractal_fills_its_range_and_grows_rougher_as_decay_falls() -> None:
    smooth, rough = (plasma_fractal(16, 32, decay, np.random.default_rng(1)) for decay in (3.0, 1.75))
    for maps in (smooth, rough):
        assert maps.shape == (16, 32, 32)
        assert (maps.min(axis=(1, 2)) == 0).all()
        assert (maps.max(axis=(1, 2)) == 1).all()
    assert abs(np.diff(rough, axis=2)).mean() > 1.2 * abs(np.diff(smooth, axis=2)).mean()


@pytest.mark.parametrize(("name", "near"), [("fogg", "fog"), ("gausian_blur", "gaussian_blur"), ("non", "none")])
def test_unknown_corruption_suggests_the_nearest(name: str, near: str) -> None:
    with pytest.raises(orric.ScenarioError, match=f"did you mean '{near}'"):
        corrupt(pictures(1), name, 1, np.random.default_rng(1))


@pytest.mark.parametrize("severity", [-1, 6, 2.5])
def test_unknown_severity_is_refused(severity: float) -> None:
    with pytest.raises(orric.ScenarioError, match="severity"):
        corrupt(pictures(1), "fog", severity, np.random.default_rng(1))

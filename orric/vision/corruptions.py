"""Corrupt 32x32 images the way CIFAR-10-C does: five severities, seeded, vectorised over a batch.

The definitions and constants are those of Hendrycks and Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations" (ICLR 2019), in the variant published for CIFAR:

================  =====================================================  =============================
corruption        definition on an image x in [0, 1]                     constant by severity 1..5
================  =====================================================  =============================
gaussian_noise    x + N(0, c)                                            .04, .06, .08, .09, .10
gaussian_blur     Gaussian filter of standard deviation c pixels         .4, .6, .7, .8, 1
contrast          (x - mean) c + mean, mean per image and channel        .75, .5, .4, .3, .15
fog               (x + c fractal(w)) max(x) / (max(x) + c)               (c, w) = (.2, 3), (.5, 3),
                                                                         (.75, 2.5), (1, 2), (1.5, 1.75)
brightness        HSV value + c                                          .05, .1, .15, .2, .3
================  =====================================================  =============================

To add a corruption, write a function `(images, level, rng) -> images` and register it in `CORRUPTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from orric.drift import SEVERITIES
from orric.exceptions import ScenarioError, nearest

Images = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Corruption:
    """One corruption: the function and its constant for each of the five severities."""

    apply: Callable[[Images, Any, np.random.Generator], Images]
    levels: tuple[Any, ...]


def _gaussian_noise(images: Images, level: float, rng: np.random.Generator) -> Images:
    return images + np.float32(level) * rng.standard_normal(images.shape, dtype=np.float32)


def _gaussian_blur(images: Images, level: float, rng: np.random.Generator) -> Images:
    blurred: Images = ndimage.gaussian_filter(images, sigma=(0, level, level, 0), mode="nearest", truncate=4.0)
    return blurred


def _contrast(images: Images, level: float, rng: np.random.Generator) -> Images:
    mean = images.mean(axis=(1, 2), keepdims=True)
    flattened: Images = (images - mean) * np.float32(level) + mean
    return flattened


def _brightness(images: Images, level: float, rng: np.random.Generator) -> Images:
    # Hue and saturation are kept when R, G and B are scaled alike, so the conversion to HSV and back
    # is a multiplication by the ratio of the values; a black pixel has no hue and becomes grey.
    value = images.max(axis=3, keepdims=True)
    raised = np.minimum(value + np.float32(level), 1.0)
    brightened: Images = np.where(value > 0, images * (raised / np.maximum(value, 1e-6)), raised)
    return brightened


def _fog(images: Images, level: tuple[float, float], rng: np.random.Generator) -> Images:
    amount, decay = level
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    mist = plasma_fractal(len(images), images.shape[1], decay, rng)[..., None]
    fogged: Images = (images + np.float32(amount) * mist) * brightest / (brightest + np.float32(amount))
    return fogged


def plasma_fractal(count: int, size: int, decay: float, rng: np.random.Generator) -> Images:
    """Draw cloud-like height maps by the diamond-square algorithm on a torus.

    Args:
        count: Number of maps.
        size: Side in pixels; the maps are made at the next power of two and cut.
        decay: Factor by which the random displacement shrinks from one scale to the next, above 1.
        rng: Source of randomness.

    Returns:
        Array of shape (count, size, size), each map scaled to [0, 1].
    """
    side = 1 << (size - 1).bit_length()
    maps = np.zeros((count, side, side))
    displacement = 100.0
    step = side
    while step >= 2:
        half = step // 2

        def displaced(total: np.ndarray[Any, Any], reach: float = displacement) -> np.ndarray[Any, Any]:
            # The published definition scales the draw by the displacement once more.
            moved: np.ndarray[Any, Any] = total / 4 + reach * rng.uniform(-reach, reach, total.shape)
            return moved

        corners = maps[:, ::step, ::step]
        rows = corners + np.roll(corners, -1, axis=1)
        maps[:, half::step, half::step] = displaced(rows + np.roll(rows, -1, axis=2))
        centres = maps[:, half::step, half::step]
        beside = centres + np.roll(centres, 1, axis=1)
        maps[:, ::step, half::step] = displaced(beside + corners + np.roll(corners, -1, axis=2))
        above = centres + np.roll(centres, 1, axis=2)
        maps[:, half::step, ::step] = displaced(above + corners + np.roll(corners, -1, axis=1))
        step = half
        displacement /= decay
    maps -= maps.min(axis=(1, 2), keepdims=True)
    maps /= maps.max(axis=(1, 2), keepdims=True)
    cut: Images = maps[:, :size, :size].astype(np.float32)
    return cut


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "gaussian_blur": Corruption(_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "contrast": Corruption(_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "fog": Corruption(_fog, ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))),
    "brightness": Corruption(_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
}


def corrupt(
    images: np.ndarray[Any, np.dtype[np.uint8]], corruption: str, severity: int, rng: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Corrupt a batch of images.

    Args:
        images: Shape (n, height, width, 3), 0 to 255.
        corruption: A name in `CORRUPTIONS`, or "none".
        severity: 0 (leave the images as they are) to 5.
        rng: Source of randomness; the same state gives the same images.

    Returns:
        A new array of the same shape and type.

    Raises:
        ScenarioError: The corruption or the severity is unknown.

    >>> import numpy as np
    >>> grey = np.full((1, 32, 32, 3), 128, np.uint8); grey[0, :16] = 64
    >>> corrupted = corrupt(grey, "contrast", 5, np.random.default_rng(1))
    >>> int(grey.max()) - int(grey.min()), int(corrupted.max()) - int(corrupted.min())
    (64, 9)
    """
    if corruption != "none" and corruption not in CORRUPTIONS:
        raise ScenarioError("corruption", f"{corruption!r} is unknown", nearest(corruption, ["none", *CORRUPTIONS]))
    if severity not in (0, *SEVERITIES):
        raise ScenarioError("severity", f"{severity!r}", "give 0 (clean) or 1 to 5")
    if severity == 0 or corruption == "none":
        return images.copy()
    chosen = CORRUPTIONS[corruption]
    scaled = images.astype(np.float32) / np.float32(255)
    corrupted = chosen.apply(scaled, chosen.levels[severity - 1], rng)
    # CIFAR-10-C truncates rather than rounds to whole grey levels.
    return (np.clip(corrupted, 0.0, 1.0) * 255).astype(np.uint8)

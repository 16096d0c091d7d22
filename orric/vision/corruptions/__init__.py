"""Corrupt 32x32 images the way CIFAR-10-C does: five severities, seeded, vectorised over a batch.

The definitions and constants are those of Hendrycks and Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations" (ICLR 2019), in the variant published for CIFAR:

=================  =================================================  ==================================
corruption         definition on an image x in [0, 1]                 constant by severity 1..5
=================  =================================================  ==================================
gaussian_noise     x + N(0, c)                                        .04, .06, .08, .09, .10
gaussian_blur      Gaussian filter of standard deviation c pixels     .4, .6, .7, .8, 1
contrast           (x - mean) c + mean, mean per image and channel    .75, .5, .4, .3, .15
fog                (x + c fractal(w)) max(x) / (max(x) + c)           (c, w) = (.2, 3), (.5, 3),
                                                                      (.75, 2.5), (1, 2), (1.5, 1.75)
brightness         HSV value + c                                      .05, .1, .15, .2, .3
shot_noise         Poisson(c x) / c                                   500, 250, 100, 75, 50
impulse_noise      0 or 1 in a part c of the values                   .01, .02, .03, .05, .07
speckle_noise      x + x N(0, c)                                      .06, .1, .12, .16, .2
defocus_blur       disk of radius r, softened by a Gaussian of s      (r, s) = (.3, .4), (.4, .5),
                                                                      (.5, .6), (1, .2), (1.5, .1)
glass_blur         Gaussian of s, n times a neighbour's pixel from    (s, d, n) = (.05, 1, 1),
                   up to d away in place of one's own, Gaussian       (.25, 1, 1), (.4, 1, 1),
                   of s again                                         (.25, 1, 2), (.4, 1, 2)
motion_blur        half a Gaussian of s, cut at 2 r, along a          (r, s) = (6, 1), (6, 1.5),
                   direction within 45 degrees of the horizontal      (6, 2), (8, 2), (9, 2.5)
zoom_blur          mean of x and of x zoomed by arange(1, c, .01)     1.06, 1.11, 1.16, 1.21, 1.26
snow               k x + (1 - k) max(x, 1.5 grey + .5) + flakes +     (m, d, z, t, r, s, k) =
                   flakes turned upside down; flakes: N(m, d)         (.1, .2, 1, .6, 8, 3, .95),
                   zoomed by z, 0 below t, smeared as by              (.1, .2, 1, .5, 10, 4, .9),
                   motion_blur within 45 degrees of upright           (.15, .3, 1.75, .55, 10, 4, .9),
                                                                      (.25, .3, 2.25, .6, 12, 6, .85),
                                                                      (.3, .3, 1.25, .65, 14, 12, .8)
frost              a x + b ice                                        (a, b) = (1, .2), (1, .3),
                                                                      (.9, .4), (.85, .4), (.75, .45)
spatter            drops where N(m, d), smoothed by s, is above t:    (m, d, s, t, k) =
                   at 1 to 3 water of strength k is added, at 4       (.62, .1, .7, .7, .5),
                   and 5 mud covers x, its rim smoothed by k          (.65, .1, .8, .7, .5),
                                                                      (.65, .3, 1, .69, .5),
                                                                      (.65, .1, .7, .69, .6),
                                                                      (.65, .1, .5, .68, .6)
elastic_transform  three corners moved by up to r each way, then      (a, s, r), in parts of 32 px, =
                   every pixel by a U(-1, 1) smoothed by s            (0, 0, .08), (.05, .2, .07),
                                                                      (.08, .06, .06), (.1, .04, .05),
                                                                      (.1, .03, .03)
pixelate           reduced to int(32 c) pixels and enlarged again     .95, .9, .85, .75, .65
jpeg_compression   JPEG of quality c                                  80, 65, 58, 50, 40
saturate           HSV saturation a s + b                             (a, b) = (.3, 0), (.1, 0),
                                                                      (1.5, 0), (2, .1), (2.5, .2)
=================  =================================================  ==================================

Frost needs photographs that are not part of this package, so textures stand in for them: see `frost`. `spatter` and
`elastic_transform` tell of two small differences more. The published order of severities is not one of distortion
everywhere: `saturate` takes colour away at 1 and 2 and adds it at 3 to 5, `glass_blur` blurs from 1 to 3 what it
scatters alike and begins anew at 4, `spatter` changes from water to mud, `motion_blur` at 3 and 4 is the same in whole
grey levels, and `elastic_transform` moves the whole image less and its parts more from one severity to the next.

To add a corruption, write a function `(images, level, rng) -> images` and register it at the end of `CORRUPTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.drift import SEVERITIES
from orric.exceptions import ScenarioError, nearest
from orric.vision.arrays import Images, Pixels
from orric.vision.corruptions.blur import defocus_blur, gaussian_blur, glass_blur, motion_blur, zoom_blur
from orric.vision.corruptions.digital import contrast, elastic_transform, jpeg_compression, pixelate, saturate
from orric.vision.corruptions.liquid import spatter
from orric.vision.corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from orric.vision.corruptions.weather import brightness, fog, frost, snow


@dataclass(frozen=True)
class Corruption:
    """One corruption: the function and its constant for each of the five severities."""

    apply: Callable[[Images, Any, np.random.Generator], Images]
    levels: tuple[Any, ...]


# Seeds are derived from places in this order, so what is new goes to the end.
CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "gaussian_blur": Corruption(gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "contrast": Corruption(contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "fog": Corruption(fog, ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))),
    "brightness": Corruption(brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "shot_noise": Corruption(shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": Corruption(impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": Corruption(speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "defocus_blur": Corruption(defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))),
    "glass_blur": Corruption(glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))),
    "motion_blur": Corruption(motion_blur, ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))),
    "zoom_blur": Corruption(zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": Corruption(
        snow,
        (
            (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
            (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
        ),
    ),
    "frost": Corruption(frost, ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "spatter": Corruption(
        spatter,
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1.0, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
    ),
    "elastic_transform": Corruption(
        elastic_transform,
        ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": Corruption(pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Corruption(jpeg_compression, (80, 65, 58, 50, 40)),
    "saturate": Corruption(saturate, ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))),
}


def corrupt(images: Pixels, corruption: str, severity: int, rng: np.random.Generator) -> Pixels:
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

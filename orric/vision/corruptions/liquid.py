"""Spatter: drops of water or of mud on the lens."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from orric.vision.arrays import Images
from orric.vision.corruptions.resampling import correlated, smoothed, smoothing

WATER = np.array([175, 238, 238], np.float32) / np.float32(255)
MUD = np.array([63, 42, 20], np.float32) / np.float32(255)
# Raised from the upper left to the lower right, so that drops look lit from one side.
EMBOSSING = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
MEAN_OF_9 = np.full((3, 3), 1 / 9)
FARTHEST_PX = 20.0
WEAK, STRONG = 50, 150

Flags = np.ndarray[Any, np.dtype[np.bool_]]


def spatter(images: Images, level: tuple[float, ...], rng: np.random.Generator) -> Images:
    """Spatter the images with water at the severities 1 to 3 and with mud at 4 and 5.

    The published procedure calls OpenCV. Its steps are written out here; they differ in that distances to the rim of a
    drop are Euclidean, where OpenCV's are up to 2 % off, and that an image that no drop falls on stays as it is, where
    the published one would be divided by zero.

    Args:
        images: Shape (n, size, size, 3).
        level: Mean and standard deviation of the liquid's noise, standard deviation in pixels of the Gaussian that
            draws it together, depth below which there is none, strength of water or softness of mud in pixels, and
            0 for water or 1 for mud.
        rng: Draws the drops, each image's own.
    """
    mean, deviation, sigma, least, strength, muddy = level
    count, size = images.shape[:2]
    drawn = np.float32(mean) + np.float32(deviation) * rng.standard_normal((count, size, size), dtype=np.float32)
    liquid = smoothed(drawn, smoothing(size, sigma))
    liquid[liquid < least] = 0
    if muddy:
        mud = smoothed((liquid > least).astype(np.float32), smoothing(size, strength))
        mud[mud < 0.8] = 0
        covered: Images = images * (1 - mud[..., None]) + MUD * mud[..., None]
        return covered
    depth = np.minimum(np.floor(liquid * 255), 255)
    drops = depth * _lit(depth)
    deepest = drops.max(axis=(1, 2), keepdims=True)
    drops *= np.float32(strength) / np.maximum(deepest, 1)
    wet: Images = images + drops[..., None] * WATER
    return wet


def _lit(depth: Images) -> Images:
    """Return how bright the water stands out, from the distance to the rims of the drops, shape (n, size, size)."""
    distance = np.minimum(distances(rims(depth)), np.float32(FARTHEST_PX))
    even = equalized(np.floor(correlated(distance, MEAN_OF_9)))
    raised = np.clip(correlated(even, EMBOSSING), 0, 255)
    return np.rint(correlated(raised, MEAN_OF_9))


def rims(depth: Images) -> Flags:
    """Find edges as Canny (1986) does, with Sobel's gradients and thresholds of 50 and 150 on their L1 norm.

    Args:
        depth: Whole grey levels, shape (n, size, size).
    """
    size = depth.shape[1]
    padded = np.pad(depth, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    columns = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    right, down = rows[:, :, 2:] - rows[:, :, :-2], columns[:, 2:] - columns[:, :-2]
    across, along = abs(right), abs(down)
    steepness = across + along
    around = np.pad(steepness, ((0, 0), (1, 1), (1, 1)))

    def beside(dy: int, dx: int) -> Images:
        return around[:, 1 + dy : 1 + dy + size, 1 + dx : 1 + dx + size]

    # An edge pixel is steeper than its two neighbours up and down the slope.
    slope = np.float32(np.tan(np.pi / 8))
    flat, upright = along < slope * across, along > (2 + slope) * across
    falling = right * down < 0
    peak = np.where(
        flat,
        (steepness > beside(0, -1)) & (steepness >= beside(0, 1)),
        np.where(
            upright,
            (steepness > beside(-1, 0)) & (steepness >= beside(1, 0)),
            np.where(
                falling,
                (steepness > beside(-1, 1)) & (steepness > beside(1, -1)),
                (steepness > beside(-1, -1)) & (steepness > beside(1, 1)),
            ),
        ),
    )
    weak, strong = peak & (steepness > WEAK), peak & (steepness > STRONG)
    # Weak edges count where they touch strong ones, within one image.
    touching = np.zeros((3, 3, 3), bool)
    touching[1] = True
    return np.asarray(ndimage.binary_propagation(strong, structure=touching, mask=weak))


def distances(marked: Flags) -> Images:
    """Return the Euclidean distance in pixels to the nearest marked pixel, shape (n, size, size).

    Where an image has none, every distance is larger than the image.
    """
    size = marked.shape[1]
    far = np.float32(4 * size)
    # First along the rows, then over all rows of each column: O(size^3) for an image, but all of them at once.
    places = np.arange(size, dtype=np.float32)
    before = np.maximum.accumulate(np.where(marked, places, -far), axis=2)
    after = np.minimum.accumulate(np.where(marked, places, 2 * far)[:, :, ::-1], axis=2)[:, :, ::-1]
    along = np.minimum(places - before, after - places) ** 2
    nearest = np.full(marked.shape, np.inf, np.float32)
    for row in range(size):
        away = ((places - row) ** 2)[:, None]
        np.minimum(nearest, along[:, row, None, :] + away, out=nearest)
    return np.sqrt(nearest)


def equalized(grey: Images) -> Images:
    """Spread the grey levels of every image so that each is as common, the darkest becoming 0.

    Args:
        grey: Whole levels from 0 to `FARTHEST_PX`, shape (n, size, size). Images of one level stay as they are.
    """
    count, levels = len(grey), int(FARTHEST_PX) + 1
    level = grey.astype(np.intp)
    own = (level + levels * np.arange(count)[:, None, None]).reshape(-1)
    histogram = np.bincount(own, minlength=count * levels).reshape(count, levels)
    pixels = grey[0].size if count else 0
    darkest = histogram[np.arange(count), (histogram > 0).argmax(axis=1)][:, None]
    rising = (histogram.cumsum(axis=1) - darkest) * (255 / np.maximum(pixels - darkest, 1))
    table = np.where(darkest == pixels, np.arange(levels), np.rint(rising)).astype(np.float32)
    return np.asarray(table.reshape(-1)[own].reshape(grey.shape))

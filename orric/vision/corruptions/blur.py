"""Blur: a lens out of focus, frosted glass, and a camera that moves."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from orric.vision.arrays import Images
from orric.vision.corruptions.resampling import correlated, streaked, zooming

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def gaussian_blur(images: Images, level: float, rng: np.random.Generator) -> Images:
    """Smooth by a Gaussian of standard deviation `level` pixels."""
    blurred: Images = ndimage.gaussian_filter(images, sigma=(0, level, level, 0), mode="nearest", truncate=4.0)
    return blurred


def defocus_blur(images: Images, level: tuple[float, float], rng: np.random.Generator) -> Images:
    """Spread every pixel over a disk.

    Args:
        images: Shape (n, size, size, 3).
        level: Radius of the disk, and standard deviation of the Gaussian that softens its rim, in pixels.
        rng: Not drawn from.
    """
    return correlated(images, defocus_kernel(*level))


@lru_cache(maxsize=8)
def defocus_kernel(radius: float, softening: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a disk whose rim is softened by a Gaussian cut to 3x3 pixels; its weights sum to one."""
    reach = int(radius) + 1
    away = np.arange(-reach, reach + 1) ** 2
    disk = (away[:, None] + away <= radius**2).astype(np.float64)
    rim = np.exp(-np.array([1.0, 0.0, 1.0]) / (2 * softening**2))
    rim /= rim.sum()
    return np.asarray(ndimage.convolve(disk / disk.sum(), np.outer(rim, rim), mode="constant"))


def glass_blur(images: Images, level: tuple[float, int, int], rng: np.random.Generator) -> Images:
    """Look through frosted glass: smooth, let pixels take the place of their neighbours, smooth again.

    The published procedure means to swap each pixel with a random neighbour, from the last row and column to the
    first. What it does is to copy the neighbour, for its swap overwrites one of the two before it is read. The copies
    are made here, since the published images are of them. With a reach of one pixel the neighbour lies above, to the
    left or both, so it has not been overwritten yet and all copies can be made at once.

    Args:
        images: Shape (n, size, size, 3).
        level: Standard deviation of both Gaussians, reach of a copy, both in pixels, and rounds of copies.
        rng: Draws the neighbours, each image's own.
    """
    sigma, reach, rounds = level
    count, size = images.shape[:2]
    # Whole grey levels in between, as published.
    pixels = (np.clip(gaussian_blur(images, sigma, rng), 0, 1) * 255).astype(np.uint8)
    inside = np.arange(reach + 1, size - reach + 1)
    grid = (np.arange(count)[:, None, None] * size + inside[:, None]) * size + inside
    for _ in range(rounds):
        down, right = rng.integers(-reach, reach, (2, count, len(inside), len(inside)), dtype=np.int8)
        copied = pixels.reshape(-1, 3).take(grid + down * np.intp(size) + right, axis=0)
        pixels = pixels.copy()
        pixels[:, reach + 1 : size - reach + 1, reach + 1 : size - reach + 1] = copied
    return gaussian_blur(pixels.astype(np.float32) / np.float32(255), sigma, rng)


def motion_blur(images: Images, level: tuple[int, float], rng: np.random.Generator) -> Images:
    """Smear every image along its own direction, within 45 degrees of the horizontal.

    Args:
        images: Shape (n, size, size, 3).
        level: Radius and standard deviation of the smear, in pixels; see `streaked`.
        rng: Draws the directions.
    """
    radius, sigma = level
    smeared = streaked(images, radius, sigma, rng.uniform(-45, 45, len(images)))
    # Rounded to whole grey levels, where `corrupt` would cut them off, because ImageMagick wrote them so.
    rounded: Images = np.rint(smeared * np.float32(255)) / np.float32(255)
    return rounded


def zoom_blur(images: Images, level: float, rng: np.random.Generator) -> Images:
    """Average the image with itself zoomed by 1, 1.01, 1.02, ... up to `level`."""
    count, size = images.shape[:2]
    pixels = np.ascontiguousarray(images.transpose(1, 2, 0, 3)).reshape(size * size, count * 3)
    blurred: Images = (_zoom_blurring(size, level) @ pixels).reshape(size, size, count, 3).transpose(2, 0, 1, 3)
    return blurred


@lru_cache(maxsize=8)
def _zoom_blurring(size: int, limit: float) -> csr_array:
    """Return the whole blur as one sparse matrix from pixels to pixels, shape (size^2, size^2)."""
    from scipy.sparse import csr_array, eye_array, kron

    # `arange` may or may not reach its limit; the published factors are those that it gives.
    factors = np.arange(1, limit, 0.01)
    total = eye_array(size * size, format="csr")
    for factor in factors:
        along = csr_array(zooming(size, float(factor)))
        total = total + kron(along, along, format="csr")
    return csr_array((total / (len(factors) + 1)).astype(np.float32))

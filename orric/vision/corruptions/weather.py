"""Weather: snow, frost, fog, and a sun that is too bright."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from orric.vision.arrays import Images
from orric.vision.corruptions.resampling import smoothed, streaked, zooming

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
SHEETS = 5
SHEET_PX = 200
# Red, green and blue of frost against its brightness.
TINT = np.array([0.92, 1.0, 1.08], np.float32)


def brightness(images: Images, level: float, rng: np.random.Generator) -> Images:
    """Raise the value of HSV by `level`."""
    # Hue and saturation are kept when R, G and B are scaled alike, so the conversion to HSV and back
    # is a multiplication by the ratio of the values; a black pixel has no hue and becomes grey.
    value = images.max(axis=3, keepdims=True)
    raised = np.minimum(value + np.float32(level), 1.0)
    brightened: Images = np.where(value > 0, images * (raised / np.maximum(value, 1e-6)), raised)
    return brightened


def fog(images: Images, level: tuple[float, float], rng: np.random.Generator) -> Images:
    """Lay clouds over the images.

    Args:
        images: Shape (n, size, size, 3).
        level: Amount of fog, and decay of `plasma_fractal`.
        rng: Draws the clouds, each image's own.
    """
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


def snow(images: Images, level: tuple[float, ...], rng: np.random.Generator) -> Images:
    """Bleach the images and let streaks of snow fall over them, each layer once more turned upside down.

    The streaks are those of `streaked` in place of a call of ImageMagick; the rest is as published.

    Args:
        images: Shape (n, size, size, 3).
        level: Mean and standard deviation of the flakes' brightness, zoom of the flakes, brightness below which
            there is none, radius and standard deviation of the streaks in pixels, part of the image left unbleached.
        rng: Draws the flakes and their direction, within 45 degrees of upright.
    """
    mean, deviation, zoom, least, radius, sigma, kept = level
    count, size = images.shape[:2]
    flakes = np.float32(mean) + np.float32(deviation) * rng.standard_normal((count, size, size), dtype=np.float32)
    flakes = smoothed(flakes, zooming(size, zoom))
    flakes[flakes < least] = 0
    # Whole grey levels before the streaks and after them, as the published procedure passes them through PNG files.
    flakes = np.floor(np.clip(flakes, 0, 1) * 255)
    angles = rng.uniform(-135, -45, count)
    fallen = np.rint(streaked(flakes[..., None], round(radius), sigma, angles)) / np.float32(255)
    bleached = np.maximum(images, (images @ LUMINANCE)[..., None] * np.float32(1.5) + np.float32(0.5))
    mixed = np.float32(kept) * images + np.float32(1 - kept) * bleached
    snowy: Images = mixed + fallen + fallen[:, ::-1, ::-1]
    return snowy


def frost(images: Images, level: tuple[float, float], rng: np.random.Generator) -> Images:
    """Dim the images and lay a random cut of a sheet of frost over each.

    The published procedure cuts from five photographs of frost, reduced to a fifth, that are not part of this package.
    Their place is taken by the five sheets of `frost_sheets`. Their brightness is a choice and no measurement of the
    photographs.

    Args:
        images: Shape (n, size, size, 3).
        level: Factors of the image and of the frost.
        rng: Draws the sheet and the cut of each image.
    """
    count, size = images.shape[:2]
    kept, laid = level
    windows = sliding_window_view(frost_sheets(), (size, size), axis=(1, 2))
    sheet = rng.integers(0, SHEETS, count)
    row, column = rng.integers(0, SHEET_PX - size, (2, count))
    ice = windows[sheet, row, column][..., None] * TINT
    frosted: Images = np.float32(kept) * images + np.float32(laid) * ice
    return frosted


@lru_cache(maxsize=1)
def frost_sheets() -> Images:
    """Grow the sheets of frost: needles in three directions 60 degrees apart, large and small, under thin cloud.

    The sheets are always the same, as photographs would be.

    Returns:
        Brightness, shape (`SHEETS`, `SHEET_PX`, `SHEET_PX`), 0 to 0.92, with means from 0.4 to 0.6 and standard
        deviations about 0.2.
    """
    sheets = []
    for number in range(SHEETS):
        rng = np.random.default_rng([1907, number])
        height = _standard(ndimage.gaussian_filter(rng.standard_normal((SHEET_PX, SHEET_PX)), 9, mode="wrap"))
        turn = rng.uniform(0, 60)
        for length, density, share in ((30, 0.004, 1.0), (9, 0.03, 0.8)):
            seeds = rng.random((SHEET_PX, SHEET_PX)) * (rng.random((SHEET_PX, SHEET_PX)) < density)
            needles = [_needles(seeds, length, turn + 60 * way) for way in range(3)]
            height += share * _standard(np.maximum.reduce(needles))
        height += 0.2 * rng.standard_normal((SHEET_PX, SHEET_PX))
        mean = 0.4 + 0.2 * number / (SHEETS - 1)
        sheets.append(np.clip(mean + 0.2 * _standard(height), 0, 0.92))
    return np.stack(sheets).astype(np.float32)


def _needles(seeds: np.ndarray[Any, Any], length: int, angle_deg: float) -> np.ndarray[Any, Any]:
    """Grow a needle that thins out to both ends from every seed, on a torus."""
    along = np.arange(-length, length + 1)
    down = np.rint(along * np.sin(np.deg2rad(angle_deg))).astype(int)
    right = np.rint(along * np.cos(np.deg2rad(angle_deg))).astype(int)
    grown = np.zeros_like(seeds)
    for place, dy, dx in zip(along, down, right, strict=True):
        np.maximum(grown, (1 - abs(place) / (length + 1)) * np.roll(seeds, (dy, dx), axis=(0, 1)), out=grown)
    return grown


def _standard(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    standard: np.ndarray[Any, Any] = (values - values.mean()) / values.std()
    return standard

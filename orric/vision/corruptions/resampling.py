"""Move pixels about: smoothing, zooming, streaking and warping, each over a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from orric.vision.arrays import Images

Integers = np.ndarray[Any, np.dtype[np.intp]]
# Taps of a streak that add less than this to a pixel, of 1, are not worth their time: a 40th of a grey level.
NEGLIGIBLE = 1e-4
# Images that are warped together: what that takes stays in the processor's cache, which is four times as fast.
TOGETHER = 32


@lru_cache(maxsize=32)
def smoothing(
    size: int, sigma: float, mode: Literal["nearest", "reflect"] = "nearest", truncate: float = 4.0
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the matrix that smooths along one axis by a Gaussian, shape (size, size).

    Args:
        size: Pixels along the axis.
        sigma: Standard deviation in pixels; 0 smooths nothing.
        mode: What lies beyond the edges, in SciPy's words.
        truncate: Where the filter ends, in standard deviations.
    """
    smooth = ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode=mode, truncate=truncate) if sigma else None
    return np.asarray(np.eye(size) if smooth is None else smooth, dtype=np.float32)


def smoothed(layers: Images, matrix: np.ndarray[Any, np.dtype[np.float32]]) -> Images:
    """Smooth layers of shape (n, size, size) along both axes by a matrix of `smoothing`."""
    both: Images = matrix @ layers @ matrix.T
    return both


@lru_cache(maxsize=64)
def zooming(size: int, factor: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the matrix that zooms into the middle along one axis, shape (size, size).

    The middle ceil(size / factor) pixels are spread linearly over round(factor times as many), end upon end, and
    what is too much is cut off on both sides, as the published `clipped_zoom` does.

    Args:
        size: Pixels along the axis.
        factor: At least 1.
    """
    kept = int(np.ceil(size / factor))
    spread = round(kept * factor)
    first, cut = (size - kept) // 2, (spread - size) // 2
    places = (cut + np.arange(size)) * (kept - 1) / (spread - 1)
    below = np.minimum(places.astype(int), kept - 2)
    matrix = np.zeros((size, size))
    matrix[np.arange(size), first + below] = 1 - (places - below)
    matrix[np.arange(size), first + below + 1] = places - below
    return matrix.astype(np.float32)


def streaked(images: Images, radius: int, sigma: float, angles_deg: np.ndarray[Any, np.dtype[np.float64]]) -> Images:
    """Smear every image along its own direction, as ImageMagick's motion blur does.

    A pixel becomes the mean of itself and of those that follow in the direction, whole pixels i = 0, 1, ... away with
    weights exp(-i^2 / 2 sigma^2), up to 2 radius; the edge is repeated outwards.

    Args:
        images: Shape (n, height, width, channels).
        radius: Half the reach, in pixels.
        sigma: Standard deviation of the weights, in pixels.
        angles_deg: Direction of each image, shape (n,); 0 looks to the right and 90 downwards.
    """
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    weights = weights[weights > NEGLIGIBLE * weights.sum()].astype(np.float32)
    weights /= weights.sum()
    count, height, width, channels = images.shape
    reach = len(weights) - 1
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    # A window is one long run for each row of pixels, which copies faster than pixel by pixel.
    rows = padded.reshape(count, height + 2 * reach, (width + 2 * reach) * channels)
    windows = sliding_window_view(rows, (height, width * channels), axis=(1, 2))
    turn, every = np.deg2rad(angles_deg), np.arange(count)
    total = np.zeros((count, height, width * channels), np.float32)
    for i, weight in enumerate(weights):
        right = np.ceil(i * np.cos(turn) - 0.5).astype(np.intp)
        down = np.ceil(i * np.sin(turn) - 0.5).astype(np.intp)
        total += weight * windows[every, reach + down, channels * (reach + right)]
    return total.reshape(images.shape)


def warped(images: Images, y: Images, x: Images, mode: Literal["mirror", "reflect"]) -> Images:
    """Sample images linearly between pixels.

    Args:
        images: Shape (n, size, size, channels).
        y: Rows to sample at, shape (n, size, size), at most twice the size outside.
        x: Columns to sample at, likewise.
        mode: What lies beyond the edges, in SciPy's words: "mirror" does not repeat the edge, "reflect" does.
    """
    parts = [slice(first, first + TOGETHER) for first in range(0, len(images), TOGETHER)]
    sampled = np.empty(images.shape, np.float32)
    for part in parts:
        sampled[part] = _sampled(images[part], y[part], x[part], mode)
    return sampled


def _sampled(images: Images, y: Images, x: Images, mode: str) -> Images:
    count, size = images.shape[:2]
    # Looked up rather than reckoned, because the remainder of a division is slow.
    folded = _folded(size, mode)
    top, left = np.floor(y), np.floor(x)
    down, right = y - top, x - left
    row, column = top.astype(np.intp) + 2 * size, left.astype(np.intp) + 2 * size
    start = (np.arange(count) * size * size)[:, None, None]
    upper, lower = folded[row] * size + start, folded[row + 1] * size + start
    first, second = folded[column], folded[column + 1]
    corners = (upper + first, upper + second, lower + first, lower + second)
    sampled = np.empty(images.shape, np.float32)
    # Channel by channel, because NumPy is slow where the last axis is short.
    for channel in range(images.shape[3]):
        plane = images[..., channel].ravel()
        one, two, three, four = (plane.take(corner) for corner in corners)
        above, below = one + right * (two - one), three + right * (four - three)
        sampled[..., channel] = above + down * (below - above)
    return sampled


@lru_cache(maxsize=4)
def _folded(size: int, mode: str) -> Integers:
    """Return the pixel that stands for each place from -2 size to 3 size, shape (5 size + 1,)."""
    places = np.arange(-2 * size, 3 * size + 1)
    period = 2 * size - 2 if mode == "mirror" else 2 * size
    within = places % period
    return np.minimum(within, period - within if mode == "mirror" else period - 1 - within)


def correlated(images: Images, kernel: np.ndarray[Any, Any] | Sequence[Sequence[float]]) -> Images:
    """Correlate images with a small kernel of odd sides; edges are mirrored and not repeated.

    Args:
        images: Shape (n, height, width) or (n, height, width, channels).
        kernel: Weights, shape (rows, columns).
    """
    weights = np.asarray(kernel, np.float32)
    rows, columns = weights.shape
    height, width = images.shape[1:3]
    margins = [(0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)][: images.ndim]
    padded = np.pad(images, margins, mode="reflect")
    total = np.zeros(images.shape, np.float32)
    for (row, column), weight in np.ndenumerate(weights):
        if weight:
            total += weight * padded[:, row : row + height, column : column + width]
    return total

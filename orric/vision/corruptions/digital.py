"""Digital: what cameras and their files do to a picture."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from orric.exceptions import extra
from orric.vision.arrays import Images
from orric.vision.corruptions.resampling import smoothed, smoothing, warped


def contrast(images: Images, level: float, rng: np.random.Generator) -> Images:
    """Shrink the differences from the mean of each image and channel to the part `level`."""
    mean = images.mean(axis=(1, 2), keepdims=True)
    flattened: Images = (images - mean) * np.float32(level) + mean
    return flattened


def saturate(images: Images, level: tuple[float, float], rng: np.random.Generator) -> Images:
    """Change the saturation s of HSV to a s + b, within 0 and 1.

    Args:
        images: Shape (n, size, size, 3).
        level: a and b.
        rng: Not drawn from.
    """
    factor, offset = level
    # Channel by channel, because NumPy is slow where the last axis is short.
    channels = [images[..., channel] for channel in range(3)]
    value, least = np.maximum.reduce(channels), np.minimum.reduce(channels)
    span = value - least
    coloured = span > 0
    saturation = span / np.maximum(value, 1e-6)
    wanted = np.clip(saturation * np.float32(factor) + np.float32(offset), 0, 1)
    # Value and hue are kept when the distances of R, G and B from the value are scaled alike.
    stretch = wanted / np.where(coloured, saturation, 1)
    saturated = np.empty_like(images)
    for index, channel in enumerate(channels):
        # A grey pixel has no hue and is taken for a red one.
        reddened = value if index == 0 else value * (1 - wanted)
        saturated[..., index] = np.where(coloured, value - (value - channel) * stretch, reddened)
    return saturated


def jpeg_compression(images: Images, level: int, rng: np.random.Generator) -> Images:
    """Write the images as JPEG files of quality `level` by Pillow and read them again."""
    with extra("models"):
        from PIL import Image
    size = images.shape[2], images.shape[1]

    def compressed(image: Any) -> Any:
        file = BytesIO()
        image.save(file, "JPEG", quality=level)
        # The decoder by itself: opening the file would spend as long again on its header, which is known.
        return Image.frombytes("RGB", size, file.getvalue(), "jpeg", "RGB", "")

    return _by_pillow(images, compressed)


def pixelate(images: Images, level: float, rng: np.random.Generator) -> Images:
    """Reduce the images to the part `level` of their side and enlarge them again, both by Pillow's box filter."""
    side = images.shape[1]
    small = int(side * level)
    with extra("models"):
        from PIL import Image
    box = Image.Resampling.BOX
    return _by_pillow(images, lambda image: image.resize((small, small), box).resize((side, side), box))


def _by_pillow(images: Images, change: Callable[[Any], Any]) -> Images:
    """Pass every image, in whole grey levels, through Pillow."""
    with extra("models"):
        from PIL import Image
    changed = np.empty(images.shape, np.uint8)
    for index, pixels in enumerate(np.rint(images * 255).astype(np.uint8)):
        changed[index] = change(Image.fromarray(pixels))
    return changed.astype(np.float32) / np.float32(255)


def elastic_transform(images: Images, level: tuple[float, float, float], rng: np.random.Generator) -> Images:
    """Warp every image: at random but straight as a whole, then by a smooth field of small displacements.

    The published procedure calls OpenCV for the former, which samples at whole 32nds of a pixel; here it is sampled
    where it falls.

    Args:
        images: Shape (n, size, size, 3).
        level: In parts of the side, the displacement where the field has not been smoothed, the standard deviation of
            the Gaussian that smooths it, and how far three corners are moved each way.
        rng: Draws corners and displacements, each image's own.
    """
    count, size = images.shape[:2]
    amount, sigma, reach = (part * size for part in level)
    corners = size // 2 + size // 3 * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    moved = corners + rng.uniform(-reach, reach, (count, 3, 2))
    # Where a pixel of the result comes from: the straight map that takes the moved corners back.
    back = np.linalg.solve(np.concatenate([moved, np.ones((count, 3, 1))], axis=2), corners).astype(np.float32)
    x = np.arange(size, dtype=np.float32)
    y = x[:, None]
    source = [
        back[:, 0, axis, None, None] * x + back[:, 1, axis, None, None] * y + back[:, 2, axis, None, None]
        for axis in (0, 1)
    ]
    straight = warped(images, source[1], source[0], "mirror")
    if not amount:
        return straight
    drawn = rng.uniform(-1, 1, (2, count, size, size)).astype(np.float32)
    right, down = np.float32(amount) * smoothed(drawn, smoothing(size, sigma, "reflect", 3.0))
    return warped(straight, y + down, x + right, "reflect")

"""Labelled images behind one interface.

To add a data set, write a function that returns a `Dataset` and register it in `DATASETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from orric.drift import Array
from orric.exceptions import ScenarioError, extra, nearest

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Dataset:
    """Images with labels, parted once and for all into pretraining, held-out and streamed images.

    Attributes:
        name: Name in `DATASETS`.
        images: Shape (n, 32, 32, 3), 0 to 255.
        labels: Shape (n,), indices into `classes`.
        classes: Names of the classes.
        pretraining: Indices of the images that the student and the teacher were trained on.
        held_out: Indices of the images that calibration measures accuracy on.
        streamed: Indices of the images that the drifting streams are drawn from.
    """

    name: str
    images: Pixels
    labels: np.ndarray[Any, np.dtype[np.int64]]
    classes: tuple[str, ...]
    pretraining: np.ndarray[Any, np.dtype[np.intp]]
    held_out: np.ndarray[Any, np.dtype[np.intp]]
    streamed: np.ndarray[Any, np.dtype[np.intp]]

    def draw(
        self, count: int, rng: np.random.Generator, part: str = "streamed", label_mix: Array | None = None
    ) -> tuple[Pixels, np.ndarray[Any, np.dtype[np.int64]]]:
        """Draw images of one part with replacement, each shifted by up to two pixels each way.

        The shifts keep a long stream from showing the same picture twice.

        Args:
            count: How many.
            rng: Source of randomness.
            part: "pretraining", "held_out" or "streamed".
            label_mix: Probability of each class, shape (classes,), on any scale; within a class every image is as
                likely. Left out, every image is as likely as any other.

        Returns:
            Images of shape (count, 32, 32, 3) and labels of shape (count,).

        Raises:
            ScenarioError: No image of the part is of a class with a weight.
        """
        indices = getattr(self, part)
        odds = None if label_mix is None else self._odds(indices, np.asarray(label_mix, float))
        chosen = rng.choice(indices, size=count, p=odds)
        return shifted(self.images[chosen], rng), self.labels[chosen]

    def _odds(self, indices: np.ndarray[Any, np.dtype[np.intp]], label_mix: Array) -> Array:
        """Return the probability of each image, so that the classes come in the proportions of the mix."""
        labels = self.labels[indices]
        images = np.bincount(labels, minlength=len(self.classes))
        missing = np.flatnonzero((images == 0) & (label_mix > 0))
        if missing.size:
            found = f"{self.name} has no image of the class {self.classes[missing[0]]!r} to draw"
            raise ScenarioError("labels", found, "give that class the weight 0")
        odds = label_mix[labels] / images[labels]
        return np.asarray(odds / odds.sum())


def shifted(images: Pixels, rng: np.random.Generator, reach: int = 2) -> Pixels:
    """Shift every image by its own random number of pixels; edges are repeated outwards."""
    height, width = images.shape[1:3]
    dy, dx = rng.integers(-reach, reach + 1, size=(2, len(images)))
    rows = np.clip(np.arange(height) + dy[:, None], 0, height - 1)
    columns = np.clip(np.arange(width) + dx[:, None], 0, width - 1)
    moved: Pixels = images[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved


@lru_cache(maxsize=32)
def _resampling(source: int, target: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the matrix of Pillow's anti-aliased bilinear resize along one axis, shape (target, source)."""
    from PIL import Image

    unit = Image.fromarray(np.eye(source, dtype=np.float32))
    return np.asarray(unit.resize((source, target), Image.Resampling.BILINEAR), dtype=np.float32)


def to_input(images: Pixels, resolution_px: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Turn images into a network's input at a resolution, as the server does before inference.

    Args:
        images: Shape (n, height, width, 3), 0 to 255.
        resolution_px: Side of the square that the network sees, in pixels.

    Returns:
        Shape (n, 3, resolution_px, resolution_px), 0 to 1.
    """
    scaled = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    height, width = images.shape[1:3]
    if (height, width) != (resolution_px, resolution_px):
        scaled = _resampling(height, resolution_px) @ scaled @ _resampling(width, resolution_px).T
    return np.ascontiguousarray(scaled)


@lru_cache(maxsize=1)
def digits() -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits (8x8, UCI, CC BY 4.0) as 32x32 images.

    600 images are for pretraining, 297 held out, 900 streamed; the parting is fixed.

    Raises:
        MissingExtraError: scikit-learn or Pillow is not installed.
    """
    with extra("models"):
        from PIL import Image
        from sklearn.datasets import load_digits
    raw = load_digits()
    small = (raw.images * (255 / 16)).round().astype(np.uint8)
    large = np.stack([np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)) for image in small])
    order = np.random.default_rng(20240521).permutation(len(large))
    return Dataset(
        name="digits",
        images=np.repeat(large[..., None], 3, axis=3),
        labels=raw.target.astype(np.int64),
        classes=tuple(str(name) for name in raw.target_names),
        pretraining=np.sort(order[:600]),
        held_out=np.sort(order[600:897]),
        streamed=np.sort(order[897:]),
    )


DATASETS: dict[str, Callable[[], Dataset]] = {"digits": digits}


def load_dataset(name: str) -> Dataset:
    """Return a data set by name.

    Raises:
        ScenarioError: The name is unknown.
    """
    if name not in DATASETS:
        raise ScenarioError("dataset", f"{name!r} is unknown", nearest(name, list(DATASETS)))
    return DATASETS[name]()

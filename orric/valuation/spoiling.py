"""Images that are valued, and what is spoiled of them on purpose to see whether it is found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from orric.exceptions import SelectionError
from orric.randomness import generator
from orric.valuation.training import LEAST_IMAGES
from orric.vision.arrays import Labels, Pixels
from orric.vision.corruptions import corrupt
from orric.vision.datasets import Dataset, Indices, load_dataset

Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Subject:
    """What is valued: images of a data set, all but the held-out ones or some of them, spoiled or as they are.

    Attributes:
        dataset: Name of the data set.
        data: Where its files lie, None for an embedded one.
        count: How many images are drawn; None for all.
        flip: Part of the labels that are replaced by one of the other classes, each as likely; 0 to 1.
        corrupt: Part of the images that are corrupted, drawn apart from the labels; 0 to 1.
        corruption: By what.
        severity: Of the corruption, 1 to 5.
        seed: Of all draws.
    """

    dataset: str
    data: Path | None = None
    count: int | None = None
    flip: float = 0.0
    corrupt: float = 0.0
    corruption: str = "gaussian_noise"
    severity: int = 5
    seed: int = 1


@dataclass(frozen=True)
class Samples:
    """Images with labels, in random order.

    Attributes:
        source: The data set that they come from.
        index: Of each image in the data set, shape (n,).
        images: Shape (n, 32, 32, 3), 0 to 255, some of them corrupted.
        labels: Shape (n,), some of them flipped.
        flipped: Whether a label was, shape (n,).
        corrupted: Whether an image was, shape (n,).
    """

    source: Dataset
    index: Indices
    images: Pixels
    labels: Labels
    flipped: Mask
    corrupted: Mask

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def true_labels(self) -> Labels:
        """What the data set says, shape (n,)."""
        return self.source.labels[self.index]

    @property
    def held_out(self) -> tuple[Pixels, Labels]:
        """Clean images that are not valued, and their labels."""
        return self.source.images[self.source.held_out], self.source.labels[self.source.held_out]


@lru_cache(maxsize=2)
def samples_of(subject: Subject) -> Samples:
    """Draw and spoil; the same subject gives the same samples, in any process.

    Raises:
        ScenarioError: The data set or the corruption is unknown, or its files are unusable.
        SelectionError: A part is not within 0 to 1, there are too few images, or one class alone.
    """
    for what, part in (("flip", subject.flip), ("corrupt", subject.corrupt)):
        if not 0.0 <= part <= 1.0:
            raise SelectionError(what, f"found {part:g}", "give a part from 0 to 1")
    source = load_dataset(subject.dataset, subject.data)
    classes = len(source.classes)
    if classes < 2:
        raise SelectionError(f"data set {subject.dataset!r}", "has one class", "give at least two")
    rng = generator(subject.seed, "images", 0)
    index = rng.permutation(np.setdiff1d(np.arange(len(source.images)), source.held_out))
    if subject.count is not None:
        if not LEAST_IMAGES <= subject.count <= len(index):
            remedy = f"give {LEAST_IMAGES} to {len(index)}, or leave it out for all"
            raise SelectionError("images", f"asked for {subject.count} of {len(index)}", remedy)
        index = index[: subject.count]
    if len(index) < LEAST_IMAGES:
        raise SelectionError("images", f"there are {len(index)} to value", f"give at least {LEAST_IMAGES}")
    labels = source.labels[index]
    # What is flipped does not depend on whether anything is corrupted, nor the other way round.
    flips, corruptions = generator(subject.seed, "images", 1), generator(subject.seed, "images", 2)
    flipped, corrupted = _drawn(len(index), subject.flip, flips), _drawn(len(index), subject.corrupt, corruptions)
    labels[flipped] = (labels[flipped] + flips.integers(1, classes, int(flipped.sum()))) % classes
    images = source.images[index]
    images[corrupted] = corrupt(images[corrupted], subject.corruption, subject.severity, corruptions)
    return Samples(source, index, images, labels, flipped, corrupted)


def _drawn(count: int, part: float, rng: np.random.Generator) -> Mask:
    mask = np.zeros(count, bool)
    mask[rng.permutation(count)[: round(part * count)]] = True
    return mask

"""Labelled images behind one interface.

To add a data set, write a function that returns a `Dataset` and register it in `DATASETS`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from orric.drift import SEVERITIES, Array
from orric.exceptions import ScenarioError, extra, nearest
from orric.vision.arrays import Labels
from orric.vision.arrays import Pixels as Pixels
from orric.vision.cifar import Cifar10, read_cifar10, read_cifar10_c
from orric.vision.corruptions import CORRUPTIONS, corrupt
from orric.vision.own_images import read_own_images

Indices = np.ndarray[Any, np.dtype[np.intp]]
DATA_VARIABLE = "ORRIC_DATA"
# Side of the images of every data set.
FULL_PX = 32


@dataclass(frozen=True)
class Dataset:
    """Images with labels, parted once and for all by what they are used for.

    Attributes:
        name: Name in `DATASETS`.
        images: Shape (n, 32, 32, 3), 0 to 255.
        labels: Shape (n,), indices into `classes`.
        classes: Names of the classes.
        pretraining: Indices of the images that the student and the teacher were trained on.
        held_out: Indices of the images that calibration measures clean accuracy on.
        calibrated: Indices of the images that calibration measures learning curves on; the digits are so few that they
            are those of `streamed`.
        streamed: Indices of the images that the drifting streams are drawn from.
        shift_px: How far a drawn image may be shifted each way, so that a long stream from few images does not show the
            same picture twice.
        published: For each corruption its images as they were published, shape (5 m, 32, 32, 3): the last m of `images`
            at severity 1, then all of them at severity 2, and so on. None where corruptions are computed.
    """

    name: str
    images: Pixels
    labels: Labels
    classes: tuple[str, ...]
    pretraining: Indices
    held_out: Indices
    calibrated: Indices
    streamed: Indices
    shift_px: int = 0
    published: Mapping[str, Pixels] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that is drawn from: images, labels, parts, and samples of what was published."""
        found = hashlib.sha256(repr((self.name, self.classes, self.shift_px)).encode())
        for array in (self.images, self.labels, self.pretraining, self.held_out, self.calibrated, self.streamed):
            found.update(np.ascontiguousarray(array).data)
        for name, array in (self.published or {}).items():
            found.update(
                repr((name, array.shape)).encode() + np.ascontiguousarray(array[:: len(array) // 50 or 1]).data
            )
        return found.hexdigest()

    def draw(
        self,
        count: int,
        rng: np.random.Generator,
        part: str = "streamed",
        label_mix: Array | None = None,
        corruption: str = "none",
        severity: int = 0,
    ) -> tuple[Pixels, Labels]:
        """Draw images of one part with replacement, shift each by up to `shift_px` pixels each way, and corrupt them.

        Published corruptions are looked up. Where there are none, as of training images, they are computed.

        Args:
            count: How many.
            rng: Source of randomness.
            part: "pretraining", "held_out", "calibrated" or "streamed".
            label_mix: Probability of each class, shape (classes,), on any scale; within a class every image is as
                likely. Left out, every image is as likely as any other.
            corruption: Name of a corruption, or "none".
            severity: 0 (clean) to 5.

        Returns:
            Images of shape (count, 32, 32, 3) and labels of shape (count,).

        Raises:
            ScenarioError: No image of the part is of a class with a weight, or the corruption or the severity is
                unknown.
        """
        indices = getattr(self, part)
        odds = None if label_mix is None else self._odds(indices, np.asarray(label_mix, float))
        return self.corrupted(rng.choice(indices, size=count, p=odds), rng, corruption, severity)

    def corrupted(
        self, indices: Indices, rng: np.random.Generator, corruption: str, severity: int
    ) -> tuple[Pixels, Labels]:
        """Return chosen images, each shifted by up to `shift_px` pixels each way and corrupted, and their labels.

        Args:
            indices: Shape (count,).
            rng: Source of randomness.
            corruption: Name of a corruption, or "none".
            severity: 0 (clean) to 5.
        """
        # Of training images nothing was published.
        if corruption != "none" and self.published and np.all(indices >= len(self.images) - self._tested):
            return self.looked_up(indices, corruption, severity), self.labels[indices]
        images = self.images[indices]
        if self.shift_px > 0:
            images = shifted(images, rng, self.shift_px)
        return corrupt(images, corruption, severity, rng), self.labels[indices]

    def looked_up(self, indices: Indices, corruption: str, severity: int) -> Pixels:
        """Return images as they were published under a corruption.

        Args:
            indices: Of images in `calibrated` or `streamed`, of a data set with `published`.
            corruption: Name of a corruption.
            severity: 0 (clean) to 5.

        Raises:
            ScenarioError: The corruption was not published, or the severity is unknown.
        """
        published = self.published or {}
        if corruption not in published:
            if corruption in CORRUPTIONS:
                found, remedy = f"there is no {corruption}.npy", "add the file, or drift by another corruption"
                raise ScenarioError(f"data set {self.name!r}", found, remedy)
            raise ScenarioError("corruption", f"{corruption!r} is unknown", nearest(corruption, ["none", *published]))
        if severity not in (0, *SEVERITIES):
            raise ScenarioError("severity", f"{severity!r}", "give 0 (clean) or 1 to 5")
        if severity == 0:
            return self.images[indices]
        rows = (severity - 1) * self._tested + indices - (len(self.images) - self._tested)
        return np.asarray(published[corruption][rows])

    @property
    def _tested(self) -> int:
        """How many images, the last ones, were published under every corruption."""
        return min(len(array) for array in (self.published or {}).values()) // len(SEVERITIES)

    def _odds(self, indices: Indices, label_mix: Array) -> Array:
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
    # Bytes are moved before they become numbers four times their size: eight times as fast.
    scaled = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    scaled /= np.float32(255)
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
    streamed = np.sort(order[897:])
    return Dataset(
        name="digits",
        images=np.repeat(large[..., None], 3, axis=3),
        labels=raw.target.astype(np.int64),
        classes=tuple(str(name) for name in raw.target_names),
        pretraining=np.sort(order[:600]),
        held_out=np.sort(order[600:897]),
        calibrated=streamed,
        streamed=streamed,
        shift_px=2,
    )


def cifar10(path: Path) -> Dataset:
    """Return CIFAR-10: of the training images 40 % pretrain, 50 % calibrate, 10 % are held out; the test images stream.

    Args:
        path: The folder cifar-10-batches-bin or cifar-10-batches-py, or one that holds it.

    Raises:
        ScenarioError: A file is missing or unusable.
    """
    clean = read_cifar10(path)
    pretraining, calibrated, held_out = _training_parts(clean, path)
    return Dataset(
        name="cifar10",
        images=clean.images,
        labels=clean.labels,
        classes=clean.classes,
        pretraining=pretraining,
        held_out=held_out,
        calibrated=calibrated,
        streamed=np.arange(clean.training, len(clean.images)),
    )


def cifar10_c(path: Path) -> Dataset:
    """Return CIFAR-10-C: pretraining and held-out images are CIFAR-10's, the others halves of the test images.

    Args:
        path: The folder CIFAR-10-C or one that holds it; the clean CIFAR-10 lies beside it.

    Raises:
        ScenarioError: A file is missing or unusable.
    """
    clean, published = read_cifar10_c(path)
    pretraining, _, held_out = _training_parts(clean, path)
    middle = (clean.training + len(clean.images)) // 2
    if middle == clean.training:
        raise ScenarioError(f"CIFAR-10-C in {path}", "one test image", "give at least 2")
    return Dataset(
        name="cifar10-c",
        images=clean.images,
        labels=clean.labels,
        classes=clean.classes,
        pretraining=pretraining,
        held_out=held_out,
        calibrated=np.arange(clean.training, middle),
        streamed=np.arange(middle, len(clean.images)),
        published=published,
    )


def _training_parts(clean: Cifar10, path: Path) -> list[Indices]:
    """Return 40, 50 and 10 % of the training images, in their order."""
    if len(clean.classes) < 2:
        raise ScenarioError(f"CIFAR-10 in {path}", f"{len(clean.classes)} class names", "give at least 2")
    if clean.training < 10:
        raise ScenarioError(f"CIFAR-10 in {path}", f"{clean.training} training images", "give at least 10")
    ends = [clean.training * percent // 100 for percent in (40, 90)]
    return np.split(np.arange(clean.training), ends)


def own_images(path: Path) -> Dataset:
    """Return a user's own images, of each class 40 % to pretrain, 10 % held out, 25 % to calibrate and 25 % to stream.

    Which image belongs to which part is drawn from a fixed seed.

    Args:
        path: See `read_own_images`.

    Raises:
        ScenarioError: The images are unusable, or a class has fewer than four.
    """
    images, labels, classes = read_own_images(path)
    parts: list[list[Indices]] = [[], [], [], []]
    rng = np.random.default_rng(20240521)
    for label, name in enumerate(classes):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < len(parts):
            found = f"the class {name!r} has {len(members)} images"
            raise ScenarioError(f"images in {path}", found, f"give each class at least {len(parts)}, one for each part")
        small, large = max(len(members) // 10, 1), max(len(members) // 4, 1)
        ends = np.cumsum([small, large, large])
        for part, chosen in zip(parts, np.split(members, ends), strict=True):
            part.append(chosen)
    held_out, calibrated, streamed, pretraining = (np.sort(np.concatenate(part)) for part in parts)
    return Dataset(
        name="images",
        images=images,
        labels=labels,
        classes=classes,
        pretraining=pretraining,
        held_out=held_out,
        calibrated=calibrated,
        streamed=streamed,
    )


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        load: Reads it from a path.
        on_disk: False for a data set that comes with a package and ignores the path.
        classes: Names of the classes, where they are known without the files.
    """

    load: Callable[[Path], Dataset]
    on_disk: bool = True
    classes: tuple[str, ...] = ()


CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
DATASETS: dict[str, Source] = {
    "digits": Source(lambda path: digits(), on_disk=False, classes=tuple("0123456789")),
    "cifar10": Source(cifar10, classes=CIFAR10_CLASSES),
    "cifar10-c": Source(cifar10_c, classes=CIFAR10_CLASSES),
    "images": Source(own_images),
}


def load_dataset(name: str, path: Path | None = None) -> Dataset:
    """Return a data set by name, read once for each path.

    Args:
        name: A name in `DATASETS`.
        path: Where it lies: the folder or file itself, or a folder that holds it. Left out, it is what the environment
            variable ORRIC_DATA names. Data sets that need no path ignore it.

    Raises:
        ScenarioError: The name is unknown, the data set needs a path and there is none, or its files are unusable.
    """
    if name not in DATASETS:
        raise ScenarioError("dataset", f"{name!r} is unknown", nearest(name, list(DATASETS)))
    if not DATASETS[name].on_disk:
        return DATASETS[name].load(Path())
    where = f"data set {name!r}"
    given = path or os.environ.get(DATA_VARIABLE)
    if not given:
        raise ScenarioError(where, "needs its files", f"give --data FOLDER or set {DATA_VARIABLE}")
    if not Path(given).exists():
        raise ScenarioError(where, f"{given} does not exist", f"give --data FOLDER or set {DATA_VARIABLE}")
    return _loaded(name, Path(given).resolve())


@lru_cache(maxsize=4)
def _loaded(name: str, path: Path) -> Dataset:
    return DATASETS[name].load(path)

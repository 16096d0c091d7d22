"""Which of the labelled samples a student is trained on: no outliers, and no class that crowds out the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from orric.exceptions import extra
from orric.retraining.anchors import Anchors
from orric.vision.arrays import Labels, Pixels
from orric.vision.corruptions import CORRUPTIONS, corrupt

Features = np.ndarray[Any, np.dtype[np.float32]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Indices = np.ndarray[Any, np.dtype[np.intp]]
Distances = np.ndarray[Any, np.dtype[np.float64]]
# Of the corruptions that are known: two drifts between which there is a third are not far apart.
SEVERITIES = (1, 3, 5)
# Variance of a description within a kind of picture, as a part of that over all kinds, at least; and of an octave.
WIDTH, FAINTEST = 0.1, 1e-5
# How many times as often as the usual class one may stand in a training set.
CROWDING = 2.0
# Part of the samples that a class must have more of, to say what is usual.
RARE = 0.02


class Screen:
    """Sets aside what looks like nothing that is known; what has drifted stays.

    Args:
        anchors: Trusted images. One half says what is usual, the other how far from it one may be.
        features: The teacher's, of images.
        set_aside: Part of the anchors under every known corruption that each of the two views may set aside.
        rng: Of the corruptions.
    """

    def __init__(
        self, anchors: Anchors, features: Callable[[Pixels], Features], set_aside: float, rng: np.random.Generator
    ) -> None:
        # Each corruption sees every other image, and the teacher the severest ones alone: this takes a second.
        usual, further = anchors.halves()
        drifts = [("none", 0), *((name, severity) for name in CORRUPTIONS for severity in SEVERITIES)]

        def drifted(half: Anchors) -> list[Anchors]:
            return [
                Anchors(corrupt(half.images[n % 2 :: 2], name, severity, rng), half.labels[n % 2 :: 2])
                for n, (name, severity) in enumerate(drifts)
            ]

        ours, theirs = drifted(usual), drifted(further)
        severest = [n for n, (_, severity) in enumerate(drifts) if severity in (0, SEVERITIES[-1])]
        images = np.concatenate([ours[n].images for n in severest])
        self._by_features = FeatureView(features(images), np.concatenate([ours[n].labels for n in severest]))
        self._by_picture = PictureView([described(one.images) for one in ours])
        beyond = features(np.concatenate([theirs[n].images for n in severest]))
        self._most_apart = float(np.quantile(self._by_features.distances(beyond), 1 - set_aside))
        pictures = np.concatenate([described(one.images) for one in theirs])
        self._most_odd = float(np.quantile(self._by_picture.distances(pictures), 1 - set_aside))

    def outliers(self, images: Pixels, features: Features) -> Mask:
        """Say which samples are beyond what is known, in either view.

        Args:
            images: Shape (n, height, width, 3).
            features: The teacher's of them, shape (n, d).
        """
        # What is no number is an outlier, which is why the comparison is this way round.
        near = self._by_features.distances(features) <= self._most_apart
        found: Mask = ~(near & (self._by_picture.distances(described(images)) <= self._most_odd))
        return found


class FeatureView:
    """How far a sample is from the nearest class, as the teacher sees it.

    The Mahalanobis distance of its features from the class's mean, with the covariance within classes (Lee et al.,
    NeurIPS 2018), shrunk (Ledoit and Wolf, J. Multivariate Analysis 88, 2004). The features are the teacher's, which
    does not learn: whoever moves the student does not move the ruler.

    Args:
        features: Shape (n, d).
        labels: Shape (n,).
    """

    def __init__(self, features: Features, labels: Labels) -> None:
        with extra("models"):
            from sklearn.covariance import LedoitWolf
        _, which = np.unique(labels, return_inverse=True)
        self._means = np.stack([features[which == number].mean(axis=0) for number in range(which.max() + 1)])
        self._precision = LedoitWolf(assume_centered=True).fit(features - self._means[which]).precision_

    def distances(self, features: Features) -> Distances:
        """Return the squared distance to the nearest class, shape (n,)."""
        return np.asarray(np.min([_squared(features - mean, self._precision) for mean in self._means], axis=0))


class PictureView:
    """How far a picture is from the nearest kind of picture: clean, or under one corruption at one severity.

    By what every photograph has: brightness, colour, and how much of each is in details of every size. A deep network
    may take noise for an object; here it is noise.

    Args:
        kinds: Descriptions of pictures of each kind, shape (n, d).
    """

    def __init__(self, kinds: list[Features]) -> None:
        # A kind of which all pictures are alike in something must not refuse all others for it.
        least = WIDTH * np.diag(np.concatenate(kinds).var(axis=0))
        self._kinds = [(kind.mean(axis=0), np.linalg.inv(np.cov(kind.T) + least)) for kind in kinds]

    def distances(self, described: Features) -> Distances:
        """Return the squared distance to the nearest kind, shape (n,)."""
        found = [_squared(described - mean, precision) for mean, precision in self._kinds]
        return np.asarray(np.min(found, axis=0))


def described(images: Pixels) -> Features:
    """Describe pictures by brightness and two contrasts of colour: the mean, and the deviation within every octave.

    Args:
        images: Shape (n, height, width, 3).

    Returns:
        Shape (n, 3 + 3 octaves): the deviations as logarithms.
    """
    red, green, blue = np.moveaxis(images.astype(np.float32) / 255, -1, 0)
    planes = np.stack([(red + green + blue) / 3, red - blue, green - (red + blue) / 2], axis=-1)
    found = [planes.mean(axis=(1, 2))]
    while min(planes.shape[1:3]) >= 4:
        height, width = (size // 2 * 2 for size in planes.shape[1:3])
        fours = planes[:, :height, :width].reshape(len(planes), height // 2, 2, width // 2, 2, 3)
        planes = fours.mean(axis=(2, 4))
        found.append(0.5 * np.log(((fours - planes[:, :, None, :, None]) ** 2).mean(axis=(1, 2, 3, 4)) + FAINTEST))
    return np.concatenate(found, axis=1)


def _squared(apart: Features, precision: Any) -> Distances:
    found: Distances = np.einsum("nd,nd->n", apart @ precision, apart, dtype=np.float64)
    return found


def evenly(labels: Labels, fewest: int = 0) -> Indices:
    """Return samples so that no class stands there more than twice as often as the usual one.

    The usual one is the median of the classes that have more than a fiftieth of the samples: single ones are as likely
    the teacher's errors.

    Args:
        labels: Shape (n,).
        fewest: Samples that this must not keep the student below, where there are so many.

    Returns:
        Indices, ascending; of classes that are too frequent the first samples.
    """
    if not len(labels):
        return np.empty(0, np.intp)
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    most = int(np.ceil(CROWDING * np.median(counts[counts > RARE * len(labels)])))
    while np.minimum(counts, most).sum() < min(fewest, len(labels)):
        most += 1
    kept = [np.flatnonzero(which == number)[:most] for number in range(len(counts))]
    return np.sort(np.concatenate(kept))

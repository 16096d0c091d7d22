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
SEVEREST = 5
# How many times as often as the usual class one may stand in a training set.
CROWDING = 2.0


class Screen:
    """Tells samples that look like nothing that is known from those that have drifted.

    A sample is as far away as the nearest class: the Mahalanobis distance of its features from the class's mean, with
    the covariance within classes (Lee et al., NeurIPS 2018), shrunk (Ledoit and Wolf, J. Multivariate Analysis 88,
    2004). The features are the teacher's, which does not learn: whoever moves the student does not move the ruler.
    Means, covariance and limit come from anchors under every known corruption at its severest.

    Args:
        features: Of reference samples, shape (n, d).
        labels: Of these, shape (n,).
        further: Of other reference samples, shape (m, d): the limit is a quantile of their distances.
        set_aside: Part of those that lies beyond the limit.
    """

    def __init__(self, features: Features, labels: Labels, further: Features, set_aside: float) -> None:
        with extra("models"):
            from sklearn.covariance import LedoitWolf
        self._means = np.stack([features[labels == k].mean(axis=0) for k in np.unique(labels)])
        centred = features - self._means[np.searchsorted(np.unique(labels), labels)]
        self._precision = LedoitWolf(assume_centered=True).fit(centred).precision_
        self._limit = float(np.quantile(self.distances(further), 1 - set_aside))

    @classmethod
    def of(
        cls, anchors: Anchors, features: Callable[[Pixels], Features], set_aside: float, rng: np.random.Generator
    ) -> Screen:
        """Make one from anchors.

        Args:
            anchors: Trusted images.
            features: The teacher's, of images.
            set_aside: See `Screen`.
            rng: Of the corruptions.
        """
        one, other = anchors.halves()
        seen, labels = [features(one.images)], [one.labels]
        beyond = [features(other.images)]
        for number, name in enumerate(CORRUPTIONS):
            # Every corruption sees other images, and half of them, so that this takes no longer than a second.
            part = slice(number % 2, None, 2)
            seen.append(features(corrupt(one.images[part], name, SEVEREST, rng)))
            labels.append(one.labels[part])
            beyond.append(features(corrupt(other.images[part], name, SEVEREST, rng)))
        return cls(np.concatenate(seen), np.concatenate(labels), np.concatenate(beyond), set_aside)

    def distances(self, features: Features) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the squared distance to the nearest class, shape (n,)."""
        # Expanded, so that memory grows with samples times classes and not with features besides.
        ahead = features @ self._precision
        of_means = self._means @ self._precision
        own = np.einsum("nd,nd->n", ahead, features)
        means = np.einsum("kd,kd->k", of_means, self._means)
        squares = own[:, None] - 2 * ahead @ self._means.T + means[None, :]
        return np.asarray(squares.min(axis=1), dtype=np.float64)

    def outliers(self, features: Features) -> Mask:
        """Say which samples are beyond the limit, shape (n,)."""
        found: Mask = ~(self.distances(features) <= self._limit)  # what is no number is one
        return found


def evenly(labels: Labels) -> Indices:
    """Return samples so that no class stands there more than twice as often as the usual one, the median.

    Args:
        labels: Shape (n,).

    Returns:
        Indices, ascending; of classes that are too frequent the first samples.
    """
    if not len(labels):
        return np.empty(0, np.intp)
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    most = int(np.ceil(CROWDING * np.median(counts)))
    kept = [np.flatnonzero(which == number)[:most] for number in range(len(counts))]
    return np.sort(np.concatenate(kept))

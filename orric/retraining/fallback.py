"""Whether the student as it was given serves, or the retrained one: whichever is expected to be right more often.

A student that was retrained under one drift may be far worse under the next, until it is retrained again, and nobody
has labels of that to tell by. Of a network's answers the mean confidence falls as its accuracy does, and the difference
of two confidences foretells that of two accuracies (Guillory et al., "Predicting with confidence on unseen
distributions", ICCV 2021). It does so up to what a network is surer than right, which another resolution or another
retraining changes: that is seen on the samples that are labelled for retraining, before they are trained on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from orric.vision.arrays import Labels

Array = np.ndarray[Any, np.dtype[np.float32]]
# Images of a slot that both students look at, at most; and of the labelled ones of a retraining.
LOOKED_AT = 16
# Part of the images of which the retrained student is to be right beyond the given one, to serve: what is learnt from
# few labels may be chance, and an error either way costs the same.
MARGIN = 0.02
# What labelled samples say counts half as much after the next retraining, and begins as so many that say nothing.
KEPT, PRIOR = 0.5, 16.0


def confidence(logits: Array) -> float:
    """Return the mean probability that a network gives to the class that it chooses.

    Args:
        logits: Shape (n, classes), n at least 1.

    >>> confidence(np.zeros((3, 4), np.float32))
    0.25
    """
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return float((1.0 / shares.sum(axis=1)).mean())


class Fallback:
    """What is known of a given student beside the newest one, resolution by resolution."""

    def __init__(self) -> None:
        # By which part of labelled samples the given student was right beyond what confidences said, times their
        # number, and that number.
        self._beyond: dict[int, tuple[float, float]] = {}

    def learn(self, resolution_px: int, given: Array, newest: Array, labels: Labels) -> None:
        """Take note of what two students made of labelled samples that neither was trained on.

        Args:
            resolution_px: At which.
            given: Logits of the given student, shape (n, classes), n at least 1.
            newest: Of the newest one.
            labels: The teacher's, or true ones, shape (n,).
        """
        right = float((given.argmax(axis=1) == labels).mean() - (newest.argmax(axis=1) == labels).mean())
        beyond, count = self._beyond.get(resolution_px, (0.0, 0.0))
        found = right - (confidence(given) - confidence(newest))
        self._beyond[resolution_px] = KEPT * beyond + len(labels) * found, KEPT * count + len(labels)

    def lead(self, resolution_px: int, given: Array, newest: Array) -> float:
        """Return by which part of images the given student is expected to be right beyond the newest.

        Args:
            resolution_px: At which both looked at them.
            given: Logits of the given student, shape (n, classes), n at least 1.
            newest: Of the newest one.

        >>> fallback, sure, unsure = Fallback(), np.float32([[2, 0]]), np.float32([[0, 1]])
        >>> round(fallback.lead(32, sure, unsure), 3)
        0.15
        >>> fallback.learn(32, sure, unsure, np.array([1]))
        >>> round(fallback.lead(32, sure, unsure), 3)
        0.082
        """
        beyond, count = self._beyond.get(resolution_px, (0.0, 0.0))
        return confidence(given) - confidence(newest) + beyond / (count + PRIOR)

    def chooses(self, resolution_px: int, given: Array, newest: Array) -> bool:
        """Say whether the given student is to serve; see `lead`."""
        return self.lead(resolution_px, given, newest) > -MARGIN

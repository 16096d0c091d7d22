"""What a selector sees of the samples that it may choose from."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import log_softmax

from orric.exceptions import SelectionError
from orric.selection.gradients import Array, OuterGradients, checked
from orric.vision.arrays import Labels


class Candidates:
    """What a student makes of samples, and their labels: the teacher's, or its own guess before any label is paid.

    Args:
        features: What goes into the student's last layer, shape (n, d), finite.
        logits: What comes out, shape (n, classes), finite.
        labels: Shape (n,), indices of classes; left out, the student's own predictions.

    Raises:
        SelectionError: There is no sample, the shapes do not match, a number is not finite, or a label is no class.
    """

    def __init__(
        self, features: np.ndarray[Any, Any], logits: np.ndarray[Any, Any], labels: Labels | None = None
    ) -> None:
        self.features, self.logits = checked("features", features, 2), checked("logits", logits, 2)
        if len(features) != len(logits):
            found = f"there are {len(features)} rows of features and {len(logits)} of logits"
            raise SelectionError("candidates", found, "give one of each per sample")
        self.labels: Labels = np.asarray(self.logits.argmax(axis=1) if labels is None else labels)
        if self.labels.shape != (len(logits),) or self.labels.dtype.kind not in "iu":
            found = f"has the shape {self.labels.shape} and holds {self.labels.dtype}"
            raise SelectionError("labels", found, f"give {len(logits)} whole numbers, one per sample")
        if self.labels.min() < 0 or self.labels.max() >= self.classes:
            place = int(np.flatnonzero((self.labels < 0) | (self.labels >= self.classes))[0])
            found = f"is {int(self.labels[place])} for sample {place}"
            raise SelectionError("labels", found, f"give indices of classes, 0 to {self.classes - 1}")

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def classes(self) -> int:
        """How many classes the student tells apart."""
        return int(self.logits.shape[1])

    @cached_property
    def log_probabilities(self) -> Array:
        """Of every class, shape (n, classes), at most 0."""
        return np.asarray(log_softmax(np.asarray(self.logits, np.float64), axis=1))

    @cached_property
    def losses(self) -> Array:
        """Cross-entropy of every sample, shape (n,), at least 0: its hardness."""
        return np.asarray(-self.log_probabilities[np.arange(len(self)), self.labels])

    @cached_property
    def gradients(self) -> OuterGradients:
        """Gradients of the losses with respect to the last layer."""
        residuals = np.exp(self.log_probabilities)
        residuals[np.arange(len(self)), self.labels] -= 1.0
        return OuterGradients(residuals, self.features)

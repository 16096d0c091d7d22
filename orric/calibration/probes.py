"""What a student is worth under every drift at a moment: the same images, corrupted in every way."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from orric.drift import SEVERITIES
from orric.randomness import generator
from orric.retraining.fallback import LOOKED_AT
from orric.retraining.loop import Student
from orric.vision.datasets import Dataset, to_input

Array = np.ndarray[Any, np.dtype[np.float32]]
CLEAN = "none"
# Images under each drift.
PROBES = 12 * LOOKED_AT


class Probes:
    """Images under every drift.

    Args:
        dataset: Drawn from, of the part that learning is measured on.
        corruptions: Each comes at every severity, and clean images once.
        resolution_px: Side of the input by inference configuration.

    Attributes:
        drifts: Corruption and severity, in the order of what `accuracies` returns; clean images first.
    """

    def __init__(self, dataset: Dataset, corruptions: tuple[str, ...], resolution_px: Mapping[str, int]) -> None:
        self.drifts = drifts_of(corruptions)
        self._resolution_px = dict(resolution_px)
        chosen = generator(0, "probes").permutation(dataset.calibrated).take(np.arange(PROBES), mode="wrap")
        # The same images, shifted alike, under every drift, so that what differs is the drift.
        drawn = [dataset.corrupted(chosen, generator(0, "probes", 1), *drift) for drift in self.drifts]
        self._images, self._truth = [images for images, _ in drawn], drawn[0][1]
        # What the given student says, which never changes.
        self._given: dict[tuple[int, int], Array] = {}

    def accuracies(self, student: Student) -> dict[str, list[float]]:
        """Return a student's accuracy under each drift, by inference configuration.

        Where the student falls back on the given one, it does so for as many images at a time as it looks at, and what
        counts is the mean over that.
        """
        found: dict[str, list[float]] = {}
        for name, px in self._resolution_px.items():
            found[name] = [self._accuracy(student, place, px) for place in range(len(self.drifts))]
        return found

    def _accuracy(self, student: Student, place: int, resolution_px: int) -> float:
        inputs = to_input(self._images[place], resolution_px)
        key = place, resolution_px
        if key not in self._given:
            self._given[key] = student.logits(inputs, given=True)
        given, newest = self._given[key], student.logits(inputs)
        right = [float((logits.argmax(axis=1) == self._truth).mean()) for logits in (newest, given)]
        if not student.guarded:
            return right[0]
        parts = range(0, PROBES, LOOKED_AT)
        looks = [(given[at : at + LOOKED_AT], newest[at : at + LOOKED_AT]) for at in parts]
        back = np.mean([student.fallback.chooses(resolution_px, *look) for look in looks])
        return float((1 - back) * right[0] + back * right[1])


def drifts_of(corruptions: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return clean images and every severity of every corruption."""
    return [(CLEAN, 0), *product(corruptions, SEVERITIES)]

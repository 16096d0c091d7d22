"""A student that is served by ONNX Runtime while it is retrained by torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
import torch

from orric.profile import Profile
from orric.retraining.models import exported, load_network
from orric.retraining.training import optimizer_for, refresh_statistics, single_threaded, train
from orric.vision.datasets import Dataset, Pixels, load_dataset, to_input
from orric.vision.networks import fused
from orric.vision.onnx_export import check_equal, open_session, replaced, run

Labels = np.ndarray[Any, np.dtype[np.int64]]
Update = Literal["weights", "statistics"]
FULL_PX = 32
PROBES = 8


class Student:
    """The student of one stream: serve, label, retrain, check, swap.

    Args:
        profile: Names the weights, the data set and the resolutions.
        update: "weights" retrains; "statistics" only refreshes the batch norms, the ablation.

    Attributes:
        dataset: The data set that the profile names.
        swaps: Number of swaps so far.
        largest_difference: Largest difference between ONNX Runtime and torch seen at any swap.
    """

    def __init__(self, profile: Profile, update: Update = "weights") -> None:
        assert profile.models is not None, "the scenario or the calibration checks this"
        models = profile.models
        self.dataset: Dataset = load_dataset(models.dataset, profile.data)
        self.resolutions_px: Sequence[int] = sorted(set(models.resolution_px.values()) | {FULL_PX})
        self.update: Update = update
        self.swaps, self.largest_difference = 0, 0.0
        classes = len(self.dataset.classes)
        student, teacher = profile.beside(models.student), profile.beside(models.teacher)
        self._network = load_network(student, "student", classes)
        self._training = profile.training
        self._optimizer = optimizer_for(self._network, profile.training)
        self._model = onnx.load_from_string(exported(student, "student", classes))
        self._serving = open_session(self._model.SerializeToString())
        self._teacher = open_session(exported(teacher, "teacher", classes))
        self._staged = None
        self._probes = self.dataset.images[self.dataset.held_out[:PROBES]]
        self._check(self._serving, "loading the student")

    def classify(self, images: Pixels, resolution_px: int) -> Labels:
        """Classify images of shape (n, height, width, 3) with the weights that serve now."""
        labels: Labels = run(self._serving, to_input(images, resolution_px)).argmax(axis=1)
        return labels

    def label(self, images: Pixels) -> Labels:
        """Return the teacher's pseudo-labels for images of shape (n, height, width, 3)."""
        labels: Labels = run(self._teacher, to_input(images, FULL_PX)).argmax(axis=1)
        return labels

    def retrain(self, images: Pixels, rng: np.random.Generator, labels: Labels | None = None) -> float | None:
        """Label images, train on them, and stage the new weights for `swap`.

        Args:
            images: The sampled images, shape (n, height, width, 3).
            rng: Orders them.
            labels: The teacher's labels of them, where they are known already.

        Returns:
            The part of them on which the serving student agreed with the teacher, None for no image.

        Raises:
            CalibrationError: The exported weights do not give torch's outputs.
        """
        if not len(images):
            return None
        if labels is None:
            labels = self.label(images)
        agreement = float((self.classify(images, FULL_PX) == labels).mean())
        inputs = torch.from_numpy(to_input(images, FULL_PX))
        with single_threaded():
            if self.update == "weights":
                train(self._network, self._optimizer, inputs, torch.from_numpy(labels), rng, self._training)
            else:
                refresh_statistics(self._network, inputs)
            self._model = replaced(self._model, fused(self._network))
            self._staged = open_session(self._model.SerializeToString())
            self._probes = images[:PROBES]
            self._check(self._staged, "before the swap")
        return agreement

    def discard(self) -> None:
        """Refuse staged weights; training goes on from them, as the student that trains is another copy."""
        self._staged = None

    def swap(self) -> None:
        """Let staged weights serve from now on; do nothing when none are staged."""
        if self._staged is None:
            return
        self._check(self._staged, "at the swap")
        self._serving, self._staged = self._staged, None
        self.swaps += 1

    def _check(self, session: Any, where: str) -> None:
        with single_threaded():
            for resolution in self.resolutions_px:
                difference = check_equal(session, self._network, to_input(self._probes, resolution), where)
                self.largest_difference = max(self.largest_difference, difference)

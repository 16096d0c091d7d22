"""Whether a student looks where its teacher looks: a sign of drift that needs no true label."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from torch import nn

from orric.explanation.evaluation import Array, Classes
from orric.explanation.explain import Maps, explain
from orric.profile import Profile
from orric.retraining.models import classes_of, is_onnx, load_network
from orric.retraining.training import single_threaded
from orric.vision.arrays import Labels
from orric.vision.datasets import FULL_PX, Pixels, to_input
from orric.vision.onnx_models import load_onnx_network


def alike(one: Maps, other: Maps) -> Array:
    """Return how alike two maps of each image are: the cosine of the angle between them, at the image's size.

    1 where they are proportional, 0 where they share no place, or one of them is empty.

    Args:
        one: Of n images.
        other: Of the same images, from another network or layer.

    Returns:
        Shape (n,), within 0 and 1.
    """
    first, second = (np.asarray(maps.upsampled, np.float64).reshape(len(maps.values), -1) for maps in (one, other))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products = np.einsum("np,np->n", first, second)
    return np.asarray(np.divide(products, lengths, out=np.zeros(len(first)), where=lengths > 0))


class Attention:
    """Compares where a student and its teacher look, both for the class that the teacher sees.

    Where both end in an average over positions and a linear layer, as the project's networks do, the gradient behind
    the last map is that layer's weights, and a map costs hardly more than the passes that label and compare anyway.

    Args:
        profile: With [models]; its teacher is compared with. Only a teacher whose operators torch knows can be
            explained.
        method: Of `orric.explanation.explain.METHODS`.
        most: Images that are looked at of those given, the first ones.

    Raises:
        ProfileError: The teacher cannot be loaded into torch.
    """

    def __init__(self, profile: Profile, method: str = "hires-cam", most: int = 64) -> None:
        assert profile.models is not None, "the scenario or the calibration checks this"
        self._path, self.method, self._most = profile.beside(profile.models.teacher), method, most

    @cached_property
    def teacher(self) -> nn.Module:
        """The teacher as a torch network."""
        classes = classes_of(self._path, "teacher")
        if is_onnx(self._path):
            return load_onnx_network(self._path, "teacher", classes, (FULL_PX,))[0]
        return load_network(self._path, "teacher", classes)

    def maps(self, network: nn.Module, images: Pixels, classes: Classes, layer: str | None = None) -> Maps:
        """Map what a network looks at.

        Args:
            network: A student or the teacher.
            images: Shape (n, height, width, 3), n at least 1.
            classes: What it looks for, shape (n,).
            layer: Dotted name; left out, the last one with positions.
        """
        with single_threaded():
            return explain(network, to_input(images, FULL_PX), classes, self.method, layer)

    def __call__(self, student: nn.Module, images: Pixels, labels: Labels) -> float | None:
        """Return how alike the two are on average, within 0 and 1; None without images.

        Args:
            student: Before it is trained on the images.
            images: Shape (n, height, width, 3).
            labels: The teacher's, shape (n,).
        """
        images, labels = images[: self._most], labels[: self._most]
        if not len(images):
            return None
        return float(alike(self.maps(student, images, labels), self.maps(self.teacher, images, labels)).mean())

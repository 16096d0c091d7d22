"""Values of samples over training: taken at the end of every epoch, for all samples at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from orric.randomness import generator
from orric.selection.candidates import Candidates
from orric.selection.gradients import Array
from orric.selection.network_gradients import last_layer
from orric.valuation.methods import METHODS, known_methods
from orric.valuation.training import Recipe, fit, inputs_of, network_of
from orric.vision.arrays import Labels, Pixels
from orric.vision.datasets import Indices

# Images that are numbers of four times their size at a time.
PART = 2000


@dataclass(frozen=True)
class Values:
    """What samples are worth.

    Attributes:
        by_epoch: Every method's values, shape (epochs, n). Shapley values of a class add up to its utility |a|^2 in
            every epoch.
        places: Every method's mean place over the epochs, shape (n,), 0 (least worth, most suspicious) to 1; see
            `orric.valuation.methods`.
    """

    by_epoch: Mapping[str, Array]
    places: Mapping[str, Array]

    def mean(self, method: str) -> Array:
        """Return the mean value over the epochs, shape (n,)."""
        return np.asarray(self.by_epoch[method].mean(axis=0))

    def least_first(self, method: str) -> Indices:
        """Return the samples' indices, the least worth first, shape (n,)."""
        return np.argsort(self.places[method], kind="stable")


def value_samples(
    images: Pixels,
    labels: Labels,
    classes: int,
    model: str = "small-student",
    methods: Sequence[str] = tuple(METHODS),
    recipe: Recipe | None = None,
    seed: int = 1,
    progress: Callable[[float], Any] = lambda part: None,
) -> Values:
    """Train a classifier on images and value them at the end of every epoch.

    Costs one pass over all images an epoch beside the training, and O(n (d + classes)) for the values of n samples
    with d features.

    Args:
        images: Shape (n, 32, 32, 3), 0 to 255, in random order, n at least 20.
        labels: Shape (n,), as they are given, some of them wrong perhaps.
        classes: How many there are.
        model: A network's name, or a file of weights from which training goes on. Values by one that was trained on
            the same images before tell what it remembers, not what it is learning.
        methods: Names in `METHODS`.
        recipe: How the classifier is trained.
        seed: Of its weights and the order of the images; the same seed gives the same values on one machine.
        progress: Called with the part that is done.

    Raises:
        SelectionError: A name is unknown, there are too few images, or the network does not end in a linear layer.
        ProfileError: The file of weights cannot be used.
    """
    chosen, how = known_methods(methods), recipe or Recipe()
    network = network_of(model, classes, seed)
    found: dict[str, list[Array]] = {one.name: [] for one in chosen}

    def look(epoch: int) -> None:
        seen = _seen(network, images, labels)
        for one in chosen:
            found[one.name].append(one.values(seen))
        progress(epoch / how.epochs)

    fit(network, images, labels, how, generator(seed, "retraining", 0), look)
    by_epoch = {name: np.stack(values) for name, values in found.items()}
    places = {
        one.name: np.mean([one.places(values, labels) for values in by_epoch[one.name]], axis=0) for one in chosen
    }
    return Values(by_epoch, places)


def _seen(network: nn.Module, images: Pixels, labels: Labels) -> Candidates:
    """Return what the network makes of all images as they are, neither shifted nor mirrored."""
    parts = [last_layer(network, inputs_of(images[at : at + PART])) for at in range(0, len(images), PART)]
    return Candidates(np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts]), labels)

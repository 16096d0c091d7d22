"""Train a classifier on labels as they are given, so that wrong ones show while it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from orric.exceptions import SelectionError, nearest
from orric.retraining.models import load_network
from orric.retraining.training import LAYOUT, refresh_statistics, single_threaded
from orric.selection.network_gradients import BATCH
from orric.vision.arrays import Labels, Pixels
from orric.vision.datasets import FULL_PX, shifted, to_input
from orric.vision.evaluation import evaluating
from orric.vision.networks import NETWORKS

FILES = (".safetensors", ".onnx")
# Images that statistics are taken from after an epoch.
REFRESHED = 1200
# Below, a class has hardly a second sample to be compared with, and batch norms see next to nothing.
LEAST_IMAGES = 20


@dataclass(frozen=True)
class Recipe:
    """How the classifier is trained.

    What the values need is a network that knows the rule and does not remember the exceptions yet. So there are few
    epochs; images are shifted, and mirrored where that makes sense, which puts remembering off; and labels are not
    smoothed: smoothing pulls the residual of a right label away from 0 and makes it look like a wrong one's.

    Attributes:
        epochs: Passes over the images, at least 1.
        batch: Images of a step. Steps are many and noisy where there are few images, or nothing is learnt at all.
        learning_rate: The largest of a one-cycle schedule, of AdamW.
        shift_px: How far images are shifted at most, each way.
        mirrored: Whether half of the images are mirrored.
    """

    epochs: int = 8
    batch: int = 64
    learning_rate: float = 1e-2
    shift_px: int = 3
    mirrored: bool = True


# Digits must not be mirrored, and there are few of them.
RECIPES = {"digits": Recipe(batch=32, shift_px=2, mirrored=False)}


def recipe_for(dataset: str) -> Recipe:
    """Return the recipe of a data set."""
    return RECIPES.get(dataset, Recipe())


def demand_model(model: str) -> None:
    """Refuse a model that is neither a network's name nor a file of weights.

    Raises:
        SelectionError: It is neither.
    """
    if model not in NETWORKS and not model.lower().endswith(FILES):
        remedy = f"{nearest(model, NETWORKS)} Or give a file ending in {' or '.join(FILES)}"
        raise SelectionError("model", f"{model!r} is unknown", remedy)


def network_of(model: str, classes: int, seed: int) -> nn.Module:
    """Return the classifier as it is before training.

    Args:
        model: A name in `orric.vision.networks.NETWORKS`, whose weights are drawn, or a file of weights
            (.safetensors, .onnx) from which training goes on.
        classes: How many there are.
        seed: Of the weights drawn.

    Raises:
        SelectionError: The name is unknown.
        ProfileError: The file cannot be used.
    """
    demand_model(model)
    if model not in NETWORKS:
        return load_network(Path(model), "student", classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[model](classes)


def fit(
    network: nn.Module,
    images: Pixels,
    labels: Labels,
    recipe: Recipe,
    rng: np.random.Generator,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> None:
    """Train a network, deterministically, on one thread.

    After every epoch the batch-norm statistics are taken anew: those averaged over the steps lag so far behind the
    weights while the learning rate is high that a network which has learnt much seems to know nothing.

    Args:
        network: Left in evaluation mode.
        images: Shape (n, 32, 32, 3), 0 to 255, n at least `LEAST_IMAGES`.
        labels: Shape (n,).
        recipe: How.
        rng: Orders, shifts and mirrors the images.
        after_epoch: Called with the number of the epoch, from 1, the network in evaluation mode.

    Raises:
        SelectionError: There are too few images.
    """
    if len(images) < LEAST_IMAGES:
        raise SelectionError("images", f"there are {len(images)} to train on", f"give at least {LEAST_IMAGES}")
    steps = -(-len(images) // recipe.batch)
    with single_threaded():
        network.to(memory_format=LAYOUT)  # type: ignore[call-overload]  # torch leaves it out of its annotations
        optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=recipe.learning_rate, total_steps=recipe.epochs * steps
        )
        for epoch in range(1, recipe.epochs + 1):
            network.train()
            for chunk in np.array_split(rng.permutation(len(images)), steps):
                outputs = network(inputs_of(_varied(images[chunk], recipe, rng)))
                loss = functional.cross_entropy(outputs, torch.from_numpy(labels[chunk]))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
                optimizer.step()
                schedule.step()
            # Images are in random order, so that the first ones stand for all.
            refresh_statistics(network, inputs_of(images[:REFRESHED]))
            after_epoch(epoch)


def accuracy(network: nn.Module, images: Pixels, labels: Labels) -> float:
    """Return the part of images that a network classifies as labelled.

    Args:
        network: Left as it was.
        images: Shape (n, 32, 32, 3), n at least 1.
        labels: Shape (n,).
    """
    right = 0
    with single_threaded(), torch.no_grad(), evaluating(network):
        for at in range(0, len(images), BATCH):
            found = network(inputs_of(images[at : at + BATCH])).argmax(dim=1).numpy()
            right += int((found == labels[at : at + BATCH]).sum())
    return right / len(images)


def _varied(images: Pixels, recipe: Recipe, rng: np.random.Generator) -> Pixels:
    if recipe.shift_px:
        images = shifted(images, rng, recipe.shift_px)
    if recipe.mirrored:
        mirrored = rng.random(len(images)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
    return images


def inputs_of(images: Pixels) -> torch.Tensor:
    """Return images as networks take them, shape (n, 3, 32, 32), 0 to 1."""
    return torch.from_numpy(to_input(images, FULL_PX)).contiguous(memory_format=LAYOUT)

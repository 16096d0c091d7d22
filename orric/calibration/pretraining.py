"""Train the student and the teacher that a first run finds ready-made in traces/models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from orric.retraining.models import save_network
from orric.retraining.training import refresh_statistics, single_threaded
from orric.vision.corruptions import CORRUPTIONS, corrupt
from orric.vision.datasets import Dataset, Pixels, load_dataset, shifted, to_input
from orric.vision.networks import NETWORKS, ROLES

RESOLUTIONS_PX = (32, 28, 24, 20)
RESOLUTION_ODDS = (0.45, 0.25, 0.15, 0.15)
SEED = 1
EPOCHS = 100


def pretrain_pair(dataset: str, folder: Path, progress: Callable[[float], None] = lambda part: None) -> None:
    """Train a data set's student and teacher and write their weights.

    Args:
        dataset: Name of the data set.
        folder: Where DATASET-student.safetensors and DATASET-teacher.safetensors are written.
        progress: Called with the part that is done.
    """
    loaded = load_dataset(dataset)

    def advance(before: int, part: float) -> None:
        progress((before + part) / len(ROLES))

    for index, role in enumerate(ROLES):
        network = pretrain(loaded, role, SEED, EPOCHS, partial(advance, index))
        save_network(network, folder / f"{dataset}-{role}.safetensors", ROLES[role])


def pretrain(
    dataset: Dataset, role: str, seed: int, epochs: int, progress: Callable[[float], None] = lambda part: None
) -> nn.Module:
    """Train a network on the pretraining images.

    The student sees clean images at every resolution; the teacher sees half of them under a random
    corruption and severity, which is what makes its pseudo-labels good under drift.

    Args:
        dataset: Where the pretraining images come from.
        role: "student" or "teacher".
        seed: The same seed gives the same weights on one machine.
        epochs: Passes over the pretraining images.
        progress: Called with the part that is done.

    Returns:
        The trained network in evaluation mode.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    with single_threaded():
        network = NETWORKS[ROLES[role]](len(dataset.classes))
        optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
        steps = epochs * -(-len(dataset.pretraining) // 64)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
        network.train()
        for epoch in range(epochs):
            order = rng.permutation(dataset.pretraining)
            for chunk in np.array_split(order, -(-len(order) // 64)):
                images = _distorted(shifted(dataset.images[chunk], rng), rng)
                if role == "teacher":
                    images = _corrupted(images, rng)
                resolution = int(rng.choice(RESOLUTIONS_PX, p=RESOLUTION_ODDS)) if role == "student" else 32
                loss = functional.cross_entropy(
                    network(torch.from_numpy(to_input(images, resolution))),
                    torch.from_numpy(dataset.labels[chunk]),
                    label_smoothing=0.05,
                )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
                optimizer.step()
                schedule.step()
            progress((epoch + 1) / epochs)
        # Statistics averaged over all resolutions fit none of them; retraining refreshes them at the full one.
        refresh_statistics(network, torch.from_numpy(to_input(dataset.draw(1200, rng, "pretraining")[0], 32)))
    return network.eval()


def _distorted(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Rotate by up to 15 degrees and scale by up to 15 %, each image by its own draw."""
    count = len(images)
    angle = np.deg2rad(rng.uniform(-15, 15, count))
    scale = rng.uniform(0.85, 1.15, count)
    matrix = np.zeros((count, 2, 3), np.float32)
    matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(angle) * scale
    matrix[:, 0, 1] = -np.sin(angle) * scale
    matrix[:, 1, 0] = np.sin(angle) * scale
    grid = functional.affine_grid(torch.from_numpy(matrix), [count, 3, *images.shape[1:3]], align_corners=False)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))
    warped: Any = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return warped.round().clamp(0, 255).to(torch.uint8).numpy().transpose(0, 2, 3, 1)  # type: ignore[no-any-return]  # torch.Tensor.numpy is unannotated


def _corrupted(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Corrupt half of the images, each by one corruption at one severity."""
    corrupted = images.copy()
    kind = rng.integers(0, 2 * len(CORRUPTIONS), len(images))
    severity = rng.integers(1, 6, len(images))
    for index, name in enumerate(CORRUPTIONS):
        for level in range(1, 6):
            chosen = (kind == index) & (severity == level)
            if chosen.any():
                corrupted[chosen] = corrupt(images[chosen], name, level, rng)
    return corrupted

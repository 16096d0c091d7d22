"""Train the student and the teacher that calibration measures: those in traces/models were made so."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from orric.retraining.models import save_network
from orric.retraining.training import LAYOUT, refresh_statistics, single_threaded
from orric.vision.corruptions import CORRUPTIONS, corrupt
from orric.vision.datasets import Dataset, Pixels, load_dataset, shifted, to_input
from orric.vision.networks import NETWORKS, ROLES
from orric.workers import in_parallel

RESOLUTIONS_PX = (32, 28, 24, 20)
RESOLUTION_ODDS = (0.45, 0.25, 0.15, 0.15)
SEED = 1
BATCH = 64
REFRESHED = 1200
KEPT = ".training"


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: Passes over the pretraining images.
        learning_rate: The largest of a one-cycle schedule, of AdamW.
        distorted: Whether images are rotated and scaled.
        mirrored: Whether half of the images are mirrored.
        shift_px: How far images are shifted at most.
        corruptions: What half of a teacher's images are corrupted by, at random severities; () for a clean teacher.
        resolutions_px: What a student sees images at, one resolution a step; a teacher sees the first.
    """

    epochs: int
    learning_rate: float
    distorted: bool = False
    mirrored: bool = False
    shift_px: int = 2
    corruptions: tuple[str, ...] = tuple(CORRUPTIONS)
    resolutions_px: tuple[int, ...] = RESOLUTIONS_PX


# Digits must not be mirrored, and there are few of them.
RECIPES = {"digits": Recipe(100, 3e-3, distorted=True, corruptions=tuple(CORRUPTIONS)[:5])}
PHOTOGRAPHS = Recipe(24, 1e-2, mirrored=True, shift_px=3)


def recipe_for(dataset: str) -> Recipe:
    """Return the recipe of a data set."""
    return RECIPES.get(dataset, PHOTOGRAPHS)


@dataclass(frozen=True)
class Pretraining:
    """A network to be trained.

    Attributes:
        dataset: Name of the data set.
        data: Where its files lie, None for an embedded one.
        role: "student" or "teacher".
        path: Where the weights are written.
        recipe: How.
        architecture: Name of the network; the role's own when left out.
        images: How many of the pretraining images are used, drawn at random; all when left out.
        device: "cpu" or "cuda".
    """

    dataset: str
    data: Path | None
    role: str
    path: Path
    recipe: Recipe
    architecture: str | None = None
    images: int | None = None
    device: str = "cpu"


def pretrain_pair(
    dataset: str,
    data: Path | None,
    folder: Path,
    jobs: int = 1,
    recipe: Recipe | None = None,
    images: int | None = None,
    progress: Callable[[float], None] = lambda part: None,
) -> None:
    """Train a data set's student and teacher and write their weights.

    Interrupted training goes on from the last whole epoch when the same is asked again.

    Args:
        dataset: Name of the data set.
        data: Where its files lie, None for an embedded one.
        folder: Where DATASET-student.safetensors and DATASET-teacher.safetensors are written.
        jobs: With 2 or more both are trained at the same time.
        recipe: How; the data set's own when left out.
        images: How many of the pretraining images are used.
        progress: Called with the part that is done, the smaller network's epochs counting as much as the larger's.
    """
    chosen = recipe or recipe_for(dataset)
    work = [
        Pretraining(dataset, data, role, folder / f"{dataset}-{role}.safetensors", chosen, images=images)
        for role in ROLES
    ]
    pretrain_all(work, jobs, progress)


def pretrain_all(
    work: Sequence[Pretraining], jobs: int = 1, progress: Callable[[float], None] = lambda part: None
) -> None:
    """Train several networks, on several cores; see `pretrain_pair`."""

    def told() -> None:
        # Workers cannot call back, but the epochs that they have kept say how far they are.
        parts = [1.0 if index in done else _epochs_kept(one) / one.recipe.epochs for index, one in enumerate(work)]
        progress(float(np.mean(parts)))

    done: set[int] = set()
    for index, _ in in_parallel(_trained, [(one,) for one in work], jobs, told):
        done.add(index)
        told()


def forget(weights: Sequence[Path]) -> None:
    """Forget the states of training of some files of weights, now that these are no longer needed to go on."""
    for path in weights:
        path.with_name(f".{path.name}{KEPT}").unlink(missing_ok=True)


def _kept(work: Pretraining) -> Path:
    return work.path.with_name(f".{work.path.name}{KEPT}")


def _epochs_kept(work: Pretraining) -> int:
    with suppress(OSError, ValueError), _kept(work).open("rb") as file:
        return int(file.readline())
    return 0


def _trained(work: Pretraining) -> None:
    """Train a network as a worker does."""
    dataset = load_dataset(work.dataset, work.data)
    if work.images is not None:
        # Drawn, because files of one class may follow one another.
        chosen = np.random.default_rng(SEED).permutation(dataset.pretraining)[: work.images]
        dataset = replace(dataset, pretraining=np.sort(chosen))
    network = pretrain(dataset, work.role, SEED, work.recipe, work.architecture, work.device, _kept(work))
    save_network(network, work.path, work.architecture or ROLES[work.role])


def pretrain(
    dataset: Dataset,
    role: str,
    seed: int,
    recipe: Recipe,
    architecture: str | None = None,
    device: str = "cpu",
    kept: Path | None = None,
) -> nn.Module:
    """Train a network on the pretraining images.

    The student sees clean images at every resolution; the teacher sees half of them under a random
    corruption and severity, which is what makes its pseudo-labels good under drift.

    Args:
        dataset: Where the pretraining images come from.
        role: "student" or "teacher".
        seed: The same seed gives the same weights on one machine.
        recipe: How.
        architecture: Name of the network; the role's own when left out.
        device: "cpu" (on one thread) or "cuda".
        kept: A file for the state after every epoch; training goes on from it where it is of the same recipe.

    Returns:
        The trained network in evaluation mode, on the processor.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    with single_threaded():
        # On a processor, channels first would take half as long again.
        network = NETWORKS[architecture or ROLES[role]](len(dataset.classes))
        network.to(device=device, memory_format=LAYOUT)  # type: ignore[call-overload]  # torch's annotation lacks this form
        optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
        steps = recipe.epochs * -(-len(dataset.pretraining) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.learning_rate, total_steps=steps)
        parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "schedule": schedule}
        conditions = repr((dataset.fingerprint, len(dataset.pretraining), role, seed, recipe, architecture))
        begun = _resumed(kept, conditions, parts, rng)
        for epoch in range(begun, recipe.epochs):
            network.train()
            order = rng.permutation(dataset.pretraining)
            for chunk in np.array_split(order, -(-len(order) // BATCH)):
                inputs = torch.from_numpy(_seen(dataset.images[chunk], role, recipe, rng))
                outputs = network(inputs.to(device=device, memory_format=LAYOUT))
                labels = torch.from_numpy(dataset.labels[chunk]).to(device)
                loss = functional.cross_entropy(outputs, labels, label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
                optimizer.step()
                schedule.step()
            if kept is not None:
                _keep(kept, conditions, epoch + 1, parts, rng)
        network.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as above
        # Statistics averaged over all resolutions fit none of them; retraining refreshes them at the full one.
        images, _ = dataset.draw(REFRESHED, rng, "pretraining")
        refresh_statistics(network, torch.from_numpy(to_input(images, recipe.resolutions_px[0])))
    return network.eval()


def _seen(images: Pixels, role: str, recipe: Recipe, rng: np.random.Generator) -> Any:
    """Return a batch as the network sees it in training, shape (n, 3, height, width)."""
    images = shifted(images, rng, recipe.shift_px)
    if recipe.mirrored:
        mirrored = rng.random(len(images)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
    if recipe.distorted:
        images = _distorted(images, rng)
    resolution = recipe.resolutions_px[0]
    if role == "teacher":
        images = _corrupted(images, recipe.corruptions, rng)
    else:
        odds = np.array(RESOLUTION_ODDS[: len(recipe.resolutions_px)])
        resolution = int(rng.choice(recipe.resolutions_px, p=odds / odds.sum()))
    return to_input(images, resolution)


def _keep(path: Path, conditions: str, epochs: int, parts: dict[str, Any], rng: np.random.Generator) -> None:
    """Keep the state of training: its number of epochs in the first line, then all else."""
    buffer = io.BytesIO()
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"conditions": conditions, "rng": rng.bit_generator.state, **states}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(f"{epochs}\n".encode() + buffer.getvalue())
    partial.replace(path)


def _resumed(path: Path | None, conditions: str, parts: dict[str, Any], rng: np.random.Generator) -> int:
    """Take up the state of training from a file, and return how many epochs it has; 0 where there is none."""
    if path is None or not path.exists():
        return 0
    line, _, rest = path.read_bytes().partition(b"\n")
    try:
        state = torch.load(io.BytesIO(rest), weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError):
        return 0  # cut short or written by another version: training begins anew
    if state["conditions"] != conditions:
        return 0
    for name, part in parts.items():
        part.load_state_dict(state[name])
    rng.bit_generator.state = state["rng"]
    return int(line)


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


def _corrupted(images: Pixels, corruptions: Sequence[str], rng: np.random.Generator) -> Pixels:
    """Corrupt half of the images, each by one corruption at one severity."""
    if not corruptions:
        return images
    corrupted = images.copy()
    kind = rng.integers(0, 2 * len(corruptions), len(images))
    severity = rng.integers(1, 6, len(images))
    for index, name in enumerate(corruptions):
        for level in range(1, 6):
            chosen = (kind == index) & (severity == level)
            if chosen.any():
                corrupted[chosen] = corrupt(images[chosen], name, level, rng)
    return corrupted

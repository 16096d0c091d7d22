"""Train a student on pseudo-labels, deterministically."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from orric.real_models import Training
from orric.transfer import PRIOR_SAMPLES

# Channels next to one another let convolutions of a few channels train a quarter to a third faster on a processor.
LAYOUT = torch.channels_last
# Images that a pass takes at most to refresh statistics: what fits into a processor's cache.
REFRESHED = 100


@contextmanager
def single_threaded() -> Iterator[None]:
    """Use one torch thread inside the block, so that sums do not depend on the number of cores or workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def optimizer_for(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Lay a student out for training and make the optimizer of its whole life; its state lasts from slot to slot."""
    network.to(memory_format=LAYOUT)  # type: ignore[call-overload]  # torch leaves it out of its annotations
    if training.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), lr=training.learning_rate)
    momentum = training.momentum
    return torch.optim.SGD(
        network.parameters(), lr=training.learning_rate, momentum=momentum, nesterov=momentum > 0
    )  # fmt: skip


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    rng: np.random.Generator,
    training: Training,
    received: Tensor | None = None,
) -> None:
    """Take one or several epochs of steps on labelled images, then refresh the batch-norm statistics.

    Batch norm is in train mode throughout: stepping with frozen statistics collapses a drifting student.
    The statistics are taken anew at the end because the steps move the weights that they belong to.

    Args:
        network: The student; left in evaluation mode.
        optimizer: From `optimizer_for`.
        images: Shape (n, 3, height, width), n at least 1.
        labels: Shape (n,).
        rng: Orders the images.
        training: Batch, epochs, and whether the statistics are refreshed.
        received: Images that the statistics are taken from, beside those before, of any resolution; left out, they are
            taken from the labelled ones alone. See `take_statistics`.
    """
    images = images.contiguous(memory_format=LAYOUT)
    before = copied_statistics(network)
    network.train()
    for _ in range(training.epochs):
        order = rng.permutation(len(images))
        # No image is left alone in a batch: a batch norm in front of a single position cannot learn from one.
        batches = min(-(-len(order) // training.batch), max(len(order) // 2, 1))
        for chunk in np.array_split(order, batches):
            loss = functional.cross_entropy(network(images[chunk]), labels[chunk])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
    if training.refresh:
        if received is None:
            refresh_statistics(network, images)
        else:
            take_statistics(network, received, before)
    network.eval()


def statistics_of(network: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return the mean and the variance of every channel, batch norm by batch norm, as they stand in the network."""
    found = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            found.append((module.running_mean, module.running_var))
    return found


def copied_statistics(network: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return what `statistics_of` returns, as copies that stay as they are."""
    return [(mean.clone(), variance.clone()) for mean, variance in statistics_of(network)]


def put_statistics(network: nn.Module, statistics: list[tuple[Tensor, Tensor]]) -> None:
    """Put statistics that were copied into a network."""
    mix_statistics(network, statistics, 1.0)


def take_statistics(network: nn.Module, images: Tensor, before: list[tuple[Tensor, Tensor]]) -> None:
    """Take the batch-norm statistics from images and from those before, which count as `PRIOR_SAMPLES` images.

    Args:
        network: Left in evaluation mode.
        images: Shape (n, 3, height, width), n at least 1.
        before: In the order of `statistics_of`.
    """
    refresh_statistics(network, images.contiguous(memory_format=LAYOUT))
    mix_statistics(network, before, PRIOR_SAMPLES / (PRIOR_SAMPLES + len(images)))


def mix_statistics(network: nn.Module, others: list[tuple[Tensor, Tensor]], part: float) -> None:
    """Let the batch-norm statistics be those of a mixture of images.

    Args:
        network: Changed.
        others: Statistics of the other images, in the order of `statistics_of`.
        part: Of those among the images, in [0, 1].
    """
    for (mean, variance), (other_mean, other_variance) in zip(statistics_of(network), others, strict=True):
        # The means lie apart, which adds to the variance of the mixture.
        apart = part * (1 - part) * (mean - other_mean).square()
        variance.mul_(1 - part).add_(part * other_variance).add_(apart)
        mean.mul_(1 - part).add_(part * other_mean)


def refresh_statistics(network: nn.Module, images: Tensor) -> None:
    """Take the batch-norm statistics anew from images alone, without labels or steps.

    They are means over parts of equal size, of at least half of `REFRESHED` images each: within a thousandth of what
    all images at once would give, and in less than half of the time.

    Args:
        network: Left in evaluation mode.
        images: Shape (n, 3, height, width), n at least 1.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average over what follows
    network.train()
    with torch.no_grad():
        for part in images.tensor_split(-(-len(images) // REFRESHED)):
            network(part)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    network.eval()


def too_few(network: nn.Module, images: Tensor) -> bool:
    """Say whether images are too few to take statistics from: one, where a batch norm sees one value of it.

    Args:
        network: Left as it was.
        images: Shape (n, 3, height, width).
    """
    if len(images) > 1:
        return False
    fewest = 2

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal fewest
        fewest = min(fewest, inputs[0].numel() // inputs[0].shape[1])

    handles = [
        module.register_forward_pre_hook(look) for module in network.modules() if isinstance(module, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    return fewest < 2

"""What a network makes of a part of an image, as games whose players are patches or positions of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from orric.exceptions import ExplanationError
from orric.explanation.evaluation import (
    Array,
    Classes,
    checked_classes,
    checked_images,
    evaluating,
    fitted_to,
)
from orric.explanation.layers import default_layer
from orric.explanation.patches import (
    Baseline,
    BlackBox,
    Confidence,
    PatchGrid,
    Present,
    as_array,
    blank,
    masked_confidences,
)
from orric.explanation.probe import Probe
from orric.explanation.shapley import Game
from orric.explanation.utility import utility_of


def patch_game(
    model: nn.Module | BlackBox,
    image: Array | Tensor,
    class_: int | None = None,
    patch_px: int = 8,
    baseline: Baseline = "mean",
    utility: str = "post-softmax",
    batch: int = 64,
) -> tuple[Game, PatchGrid]:
    """Return the game in which patches of an image are present or masked, and the grid of its players.

    Args:
        model: A torch classifier, left as it was, or a function from images to probabilities.
        image: Shape (1, channels, height, width).
        class_: Index of the class; left out, what the model predicts.
        patch_px: Side of a patch, in pixels.
        baseline: What masked pixels become; see `orric.explanation.patches.blank`.
        utility: A name in `UTILITIES`; functions give "post-softmax" alone.
        batch: Images of a pass.

    Raises:
        ExplanationError: Something given is unusable.
    """
    pixels, confidence = as_array(image), Confidence(model, utility, batch)
    _one(len(pixels))
    grid = PatchGrid.over(pixels.shape[2], pixels.shape[3], patch_px)
    masked, known = blank(pixels, baseline), confidence.chosen(pixels, class_)

    def game(present: Present) -> Array:
        return np.asarray(masked_confidences(confidence, pixels, known, grid, present[None], masked)[0])

    return game, grid


@contextmanager
def position_game(
    network: nn.Module,
    image: Array | Tensor,
    class_: int | None = None,
    layer: str | None = None,
    utility: str = "pre-softmax",
    batch: int = 64,
) -> Iterator[tuple[Game, tuple[int, int]]]:
    """Open the game in which positions of a layer's output are present, with all their channels, or zero.

    It is what class activation maps approximate: its Shapley values are their reference. A class token is no player
    and always present. The network is left as it was once the block ends.

    Args:
        network: Any classifier that gives scores before the softmax.
        image: Shape (1, channels, height, width).
        class_: Index of the class; left out, what the network predicts.
        layer: Dotted name; left out, the last whose positions the outputs depend on.
        utility: A name in `UTILITIES`.
        batch: Images of a pass.

    Returns:
        The game, and rows and columns of its players, counted row by row.

    Raises:
        ExplanationError: Something given is unusable.
    """
    measured, inputs = utility_of(utility), fitted_to(network, checked_images(image))
    _one(len(inputs))
    name = default_layer(network, inputs) if layer is None else layer
    with evaluating(network):
        probe = Probe(network, name, inputs)
        with torch.no_grad():
            activation, logits = probe.opened(inputs)
        known: Classes = (
            logits.argmax(dim=1).cpu().numpy() if class_ is None else checked_classes(class_, 1, logits.shape[1])
        )
        target = torch.from_numpy(known).to(inputs.device)

        def game(present: Present) -> Array:
            found = []
            with torch.no_grad():
                for rows in torch.split(torch.from_numpy(present).to(inputs.device), batch):
                    kept = probe.layout.kept(activation, rows)
                    logits = probe.continued(inputs.expand(len(rows), -1, -1, -1), kept)
                    found.append(measured(logits, target.expand(len(rows))).cpu().numpy())
            return np.concatenate(found)

        yield game, (probe.layout.height, probe.layout.width)


def _one(images: int) -> None:
    if images != 1:
        raise ExplanationError("image", f"{images} images", "a game is of one: give shape (1, channels, height, width)")

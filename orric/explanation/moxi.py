"""MoXI: the group of patches that a decision rests on, found greedily (Sumiyasu et al., CVPR 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from orric.exceptions import ExplanationError
from orric.explanation.evaluation import Array, Classes
from orric.explanation.patches import (
    Baseline,
    BlackBox,
    Confidence,
    PatchGrid,
    as_array,
    blank,
    masked_confidences,
)

Direction = Literal["insertion", "deletion"]
DIRECTIONS = ("insertion", "deletion")
Patches = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class PatchOrder:
    """The patches of every image in the order in which they were chosen.

    Attributes:
        patches: Indices of patches, row by row from the top left, shape (n, steps).
        confidences: Before the first step and after each, shape (n, steps + 1).
        classes: What was explained, shape (n,).
        grid: Of patches.
    """

    patches: Patches
    confidences: Array
    classes: Classes
    grid: PatchGrid

    @property
    def maps(self) -> Array:
        """Ranks as maps, shape (n, rows, columns): 1 for the first patch, falling evenly to 0 for those not chosen."""
        count, players = len(self.patches), self.grid.players
        ranks = np.zeros((count, players))
        falling = 1 - np.arange(self.patches.shape[1]) / players
        np.put_along_axis(ranks, self.patches, np.broadcast_to(falling, self.patches.shape), axis=1)
        return ranks.reshape(count, self.grid.rows, self.grid.columns)


def moxi(
    model: nn.Module | BlackBox,
    images: Array | Tensor,
    classes: int | Classes | Tensor | None = None,
    direction: Direction = "insertion",
    patch_px: int = 4,
    baseline: Baseline = "mean",
    utility: str = "post-softmax",
    steps: int | None = None,
    batch: int = 64,
) -> PatchOrder:
    """Order patches greedily by what they do to the confidence together with those chosen before.

    Insertion begins with every patch masked and always uncovers the one that gives the highest confidence; deletion
    begins with the image and always masks the one that leaves the lowest. Of equals the first in the image is taken.
    That is how the paper makes Shapley values and interactions of pixels affordable: they are not taken over all
    groups, but over the one that grows.

    Complexity: for P patches P (P + 1) / 2 passes of every image for all steps, all variants of a step batched.

    Args:
        model: A torch classifier, left as it was, or a function from images to probabilities.
        images: Shape (n, channels, height, width).
        classes: One for all or one for each; left out, what the model predicts for the whole image.
        direction: "insertion" or "deletion".
        patch_px: Side of a patch, in pixels.
        baseline: What masked pixels become; see `orric.explanation.patches.blank`.
        utility: A name in `UTILITIES`; functions give "post-softmax" alone.
        steps: Patches to choose; left out, all.
        batch: Images of a pass.

    Raises:
        ExplanationError: Images, classes or patches are unusable.

    >>> from orric.vision.networks import student
    >>> order = moxi(student().eval(), np.zeros((1, 3, 32, 32), np.float32), 3, patch_px=16)
    >>> order.patches.tolist(), order.confidences.shape  # all patches of a black image are equal
    ([[0, 1, 2, 3]], (1, 5))
    """
    if direction not in DIRECTIONS:
        raise ExplanationError("direction", f"{direction!r} is unknown", "known: " + ", ".join(DIRECTIONS))
    pixels, confidence = as_array(images), Confidence(model, utility, batch)
    grid = PatchGrid.over(pixels.shape[2], pixels.shape[3], patch_px)
    if steps is not None and not 1 <= steps <= grid.players:
        raise ExplanationError("steps", f"{steps}", f"there are {grid.players} patches: give 1 to {grid.players}")
    masked, known = blank(pixels, baseline), confidence.chosen(pixels, classes)
    inserting = direction == "insertion"
    count = len(pixels)
    present = np.full((count, grid.players), not inserting)
    rest = np.tile(np.arange(grid.players), (count, 1))
    order = np.empty((count, steps or grid.players), np.int64)
    confidences = np.empty((count, order.shape[1] + 1))
    confidences[:, 0] = masked_confidences(confidence, pixels, known, grid, present[:, None], masked)[:, 0]
    each = np.arange(count)
    for step in range(order.shape[1]):
        tried = np.repeat(present[:, None], rest.shape[1], axis=1)
        np.put_along_axis(tried, rest[:, :, None], inserting, axis=2)
        found = masked_confidences(confidence, pixels, known, grid, tried, masked)
        best = found.argmax(axis=1) if inserting else found.argmin(axis=1)
        order[:, step], confidences[:, step + 1] = rest[each, best], found[each, best]
        present[each, order[:, step]] = inserting
        rest = rest[rest != order[:, step, None]].reshape(count, -1)
    return PatchOrder(order, confidences, known, grid)

"""Patches of an image as players: masking them, and asking a black box what it makes of the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

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
    logits_of,
)
from orric.explanation.utility import utility_of

# From images of shape (n, channels, height, width) to probabilities of shape (n, classes).
BlackBox = Callable[[Array], Array]
Present = np.ndarray[Any, np.dtype[np.bool_]]
# What a masked pixel becomes: the mean of its channel over the image, or one number everywhere.
Baseline = Literal["mean"] | float
# Masked images that are made at once.
MADE = 512


@dataclass(frozen=True)
class PatchGrid:
    """Square patches that cover an image, counted row by row.

    Attributes:
        patch_px: Side of a patch, in pixels.
        rows: Patches from top to bottom.
        columns: Patches from left to right.
    """

    patch_px: int
    rows: int
    columns: int

    @classmethod
    def over(cls, height: int, width: int, patch_px: int) -> PatchGrid:
        """Cover images of a size.

        Args:
            height: In pixels.
            width: In pixels.
            patch_px: Side of a patch, in pixels.

        Raises:
            ExplanationError: The patches do not cover the image exactly, or one alone does.

        >>> PatchGrid.over(32, 32, 4).players
        64
        """
        if patch_px < 1 or height % patch_px or width % patch_px or height * width <= patch_px**2:
            known = [side for side in range(1, max(height, width)) if not height % side and not width % side]
            remedy = f"images of {height}x{width} px take " + ", ".join(map(str, known))
            raise ExplanationError("patch_px", f"{patch_px}", remedy)
        return cls(patch_px, height // patch_px, width // patch_px)

    @property
    def players(self) -> int:
        """Number of patches."""
        return self.rows * self.columns

    def pixels(self, present: Present) -> Present:
        """Return which pixels belong to present patches, shape (n, height, width), of shape (n, players)."""
        laid = present.reshape(-1, self.rows, self.columns)
        return np.repeat(np.repeat(laid, self.patch_px, axis=1), self.patch_px, axis=2)

    def means(self, maps: Array) -> Array:
        """Average maps of shape (n, height, width) over every patch, shape (n, players)."""
        blocks = maps.reshape(-1, self.rows, self.patch_px, self.columns, self.patch_px)
        return np.asarray(blocks.mean(axis=(2, 4)).reshape(-1, self.players))


def blank(images: Array, baseline: Baseline = "mean") -> Array:
    """Return images with everything masked.

    Args:
        images: Shape (n, channels, height, width).
        baseline: "mean" is each channel's mean over the image, so that what a network sees without any patch is the
            image's colour and nothing else; a number is the same for all, such as 0 (black) or 0.5 (grey).

    Returns:
        Shape (n, channels, 1, 1).

    Raises:
        ExplanationError: The baseline is something else.
    """
    if baseline == "mean":
        return np.asarray(images.mean(axis=(2, 3), keepdims=True))
    if isinstance(baseline, str) or not np.isfinite(baseline):
        raise ExplanationError("baseline", f"{baseline!r}", "give 'mean' or a finite number")
    return np.full((*images.shape[:2], 1, 1), baseline, images.dtype)


class Confidence:
    """What a model makes of images, as a black box.

    Args:
        model: A torch classifier, left as it was, or a function from images to probabilities, such as one around an
            ONNX Runtime session.
        utility: A name in `UTILITIES`; a function gives probabilities and takes "post-softmax" alone.
        batch: Images of a pass.

    Raises:
        ExplanationError: The utility is unknown, or does not go with a function.
    """

    def __init__(self, model: nn.Module | BlackBox, utility: str = "post-softmax", batch: int = 64) -> None:
        self._utility = utility_of(utility)
        if not isinstance(model, nn.Module) and utility != "post-softmax":
            found = f"{utility!r} of a function from images to probabilities"
            raise ExplanationError("utility", found, "choose 'post-softmax', or give a torch network")
        if batch < 1:
            raise ExplanationError("batch", f"{batch}", "give at least 1")
        self._model, self._batch = model, batch

    def __call__(self, images: Array, classes: Classes) -> Array:
        """Return the utility of every image for its class, shape (n,).

        Args:
            images: Shape (n, channels, height, width).
            classes: Shape (n,).
        """
        outputs = self._outputs(images)
        if not isinstance(self._model, nn.Module):
            return np.asarray(outputs.gather(1, torch.from_numpy(classes)[:, None])[:, 0].numpy())
        return np.asarray(self._utility(outputs, torch.from_numpy(classes)).numpy())

    def chosen(self, images: Array, classes: int | Classes | Tensor | None) -> Classes:
        """Check classes, or take the model's own predictions where there are none; shape (n,)."""
        outputs = self._outputs(images if classes is None else images[:1])
        if classes is None:
            return np.asarray(outputs.argmax(dim=1).numpy())
        return checked_classes(classes, len(images), outputs.shape[1])

    def _outputs(self, images: Array) -> Tensor:
        """Return logits of a network, in doubles so that sure probabilities still differ, or probabilities."""
        parts = [images[at : at + self._batch] for at in range(0, len(images), self._batch)]
        model = self._model
        if not isinstance(model, nn.Module):
            return torch.cat([_probabilities(model, part) for part in parts])
        with evaluating(model), torch.no_grad():
            return torch.cat(
                [logits_of(model, fitted_to(model, torch.from_numpy(part))).cpu() for part in parts]
            ).double()


def _probabilities(model: BlackBox, images: Array) -> Tensor:
    found = np.asarray(model(images))
    if found.ndim != 2 or len(found) != len(images) or found.dtype.kind != "f":
        raise ExplanationError("black box", f"gives shape {found.shape} for {len(images)} images", "give (n, classes)")
    # Which NaN fails, too.
    if not (found.min() >= 0 and np.abs(found.sum(axis=1) - 1).max() < 1e-3):
        raise ExplanationError("black box", "gives no probabilities", "apply a softmax to its scores")
    return torch.from_numpy(found.astype(np.float64))


def masked_confidences(
    confidence: Confidence, images: Array, classes: Classes, grid: PatchGrid, present: Present, masked: Array
) -> Array:
    """Ask for variants of images in which only some patches are present.

    Args:
        confidence: What is asked.
        images: Shape (n, channels, height, width).
        classes: Shape (n,).
        grid: Of patches.
        present: Of m variants of each image, shape (n, m, players).
        masked: What absent pixels are, from `blank`, shape (n, channels, 1, 1) or that of the images.

    Returns:
        Shape (n, m).
    """
    variants = present.shape[1]
    rows = present.reshape(-1, grid.players)
    found = np.empty(len(rows))
    for at in range(0, len(rows), MADE):
        part = slice(at, at + MADE)
        of = np.arange(len(rows))[part] // variants
        made = np.where(grid.pixels(rows[part])[:, None], images[of], masked[of])
        found[part] = confidence(made, classes[of])
    return found.reshape(-1, variants)


def as_array(images: Array | Tensor) -> Array:
    """Check images and return them as an array."""
    return np.asarray(checked_images(images).cpu().numpy())

"""How faithful maps are: whether what they point at is what the model's confidence rests on.

Confidences are probabilities of the explained class: Y of the image, O of the image in which only what the map points
at is left. All measures are for each image; means over images are what papers report.

========================  ===========================================  ==========================================
measure                   definition, and what is better               source
========================  ===========================================  ==========================================
average drop              max(0, Y - O) / Y, low                       Chattopadhay et al., WACV 2018
increase in confidence    1 if Y < O, else 0, high                     the same
insertion AUC             area under the confidence while the patches  Petsiuk et al., RISE, BMVC 2018
                          that matter most come first, high
deletion AUC              the same while they go first, low            the same
coherency                 (1 + Pearson's r)/2 of the map with that of  Poppi et al., CVPR workshops 2021
                          what it leaves, high
complexity                mean of the map in [0, 1], low               the same
ADCC                      harmonic mean of coherency, 1 - complexity   the same
                          and 1 - average drop, high
========================  ===========================================  ==========================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor, nn

from orric.exceptions import ExplanationError
from orric.explanation.evaluation import Array, Classes
from orric.explanation.explain import Maps
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

# Maps of images for given classes, as they would be drawn again.
Explainer = Callable[[Array, Classes], Maps]


@dataclass(frozen=True)
class Faithfulness:
    """Measures of every image, each of shape (n,); see the module.

    Attributes:
        average_drop: 0 to 1.
        increase: 0 or 1.
        insertion_auc: 0 to 1.
        deletion_auc: 0 to 1.
        coherency: 0 to 1; None where maps were not drawn again.
        complexity: 0 to 1.
        adcc: 0 to 1; None where maps were not drawn again.
    """

    average_drop: Array
    increase: Array
    insertion_auc: Array
    deletion_auc: Array
    coherency: Array | None
    complexity: Array
    adcc: Array | None

    @property
    def means(self) -> dict[str, float]:
        """Mean of every measure that there is."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: float(values.mean()) for name, values in found.items() if values is not None}


def faithfulness(
    model: nn.Module | BlackBox,
    images: Array | Tensor,
    maps: Maps,
    explainer: Explainer | None = None,
    patch_px: int = 4,
    baseline: Baseline = "mean",
    batch: int = 64,
) -> Faithfulness:
    """Measure how faithful maps are to a model.

    Complexity: 2 P + 4 passes for each image with P patches, and drawing the maps once more.

    Args:
        model: What was explained: a torch classifier, left as it was, or a function from images to probabilities.
        images: Which were explained, shape (n, channels, height, width).
        maps: Of them.
        explainer: Draws maps as those were drawn, for coherency and ADCC; left out, there is neither.
        patch_px: Side of the patches that come and go, in pixels.
        baseline: What takes the place of what is absent; see `orric.explanation.patches.blank`. The measures were
            published with 0.
        batch: Images of a pass.

    Raises:
        ExplanationError: Images are unusable, or the maps are those of others.
    """
    pixels, confidence = as_array(images), Confidence(model, batch=batch)
    if len(pixels) != len(maps.values) or pixels.shape[2:] != maps.size_px:
        found = f"explain {len(maps.values)} images of {maps.size_px} px; given: {len(pixels)} of {pixels.shape[2:]}"
        raise ExplanationError("maps", found, "give the images that were explained")
    grid = PatchGrid.over(pixels.shape[2], pixels.shape[3], patch_px)
    masked, classes = blank(pixels, baseline), maps.classes
    scaled = normalised(maps.upsampled)
    left = explained_part(pixels, scaled, masked)
    before, after = confidence(pixels, classes), confidence(left, classes)
    drop, complexity = average_drop(before, after), scaled.mean(axis=(1, 2))
    # The order of the patches' scores; ties go to the first in the image.
    order = np.argsort(-patch_scores(maps, grid), axis=1, kind="stable")
    insertion = _curve(confidence, pixels, classes, grid, order, masked, inserting=True)
    deletion = _curve(confidence, pixels, classes, grid, order, masked, inserting=False)
    agreed = None if explainer is None else coherency(scaled, normalised(explainer(left, classes).upsampled))
    return Faithfulness(
        average_drop=drop,
        increase=increase(before, after),
        insertion_auc=area(insertion),
        deletion_auc=area(deletion),
        coherency=agreed,
        complexity=complexity,
        adcc=None if agreed is None else adcc(agreed, complexity, drop),
    )


def normalised(maps: Array) -> Array:
    """Stretch every map of shape (n, height, width) to [0, 1]; one that is the same everywhere becomes zero."""
    low = maps.min(axis=(1, 2), keepdims=True)
    span = maps.max(axis=(1, 2), keepdims=True) - low
    return np.asarray(np.divide(maps - low, span, out=np.zeros_like(maps), where=span > 0))


def explained_part(images: Array, maps: Array, masked: Array) -> Array:
    """Fade images out to the baseline where maps in [0, 1] are low.

    Args:
        images: Shape (n, channels, height, width).
        maps: Shape (n, height, width).
        masked: The baseline, shape (n, channels, 1, 1).
    """
    return np.asarray((masked + maps[:, None] * (images - masked)).astype(images.dtype))


def average_drop(before: Array, after: Array) -> Array:
    """Return max(0, Y - O) / Y of every image.

    >>> average_drop(np.array([1.0, 0.5]), np.array([0.75, 0.9])).tolist()
    [0.25, 0.0]
    """
    return np.asarray(np.divide(np.maximum(before - after, 0), before, out=np.zeros_like(before), where=before > 0))


def increase(before: Array, after: Array) -> Array:
    """Return 1 for every image with Y < O, else 0.

    >>> increase(np.array([0.8, 0.5]), np.array([0.6, 0.9])).tolist()
    [0.0, 1.0]
    """
    return np.asarray(before < after, float)


def coherency(first: Array, second: Array) -> Array:
    """Return (1 + r)/2 for pairs of maps of shape (n, height, width), r Pearson's correlation, 0 if one is constant."""
    one, other = (maps.reshape(len(maps), -1).astype(float) for maps in (first, second))
    one, other = (maps - maps.mean(axis=1, keepdims=True) for maps in (one, other))
    norms = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    correlation = np.divide((one * other).sum(axis=1), norms, out=np.zeros(len(one)), where=norms > 0)
    return np.asarray((1 + correlation) / 2)


def adcc(coherency: Array, complexity: Array, drop: Array) -> Array:
    """Return the harmonic mean of coherency, 1 - complexity and 1 - average drop; 0 if one of them is.

    >>> adcc(np.array([1.0]), np.array([0.5]), np.array([0.5])).tolist()
    [0.6]
    """
    parts = np.stack([coherency, 1 - complexity, 1 - drop])
    # Rounding may take a part below zero by a hair.
    positive = (parts > 0).all(axis=0)
    return np.where(positive, 3 / (1 / np.where(parts > 0, parts, 1)).sum(axis=0), 0.0)


def area(curve: Array) -> Array:
    """Return the area under curves of shape (n, steps + 1) over [0, 1], by trapezoids.

    >>> area(np.array([[0.0, 1.0, 1.0]])).tolist()
    [0.75]
    """
    return np.asarray((curve[:, 1:] + curve[:, :-1]).mean(axis=1) / 2)


def patch_scores(maps: Maps, grid: PatchGrid) -> Array:
    """Return maps averaged over patches, shape (n, players); a map that has one value for each patch is taken as is."""
    if maps.values.shape[1:] == (grid.rows, grid.columns):
        return np.asarray(maps.values.reshape(-1, grid.players))
    return grid.means(maps.upsampled)


def _curve(
    confidence: Confidence,
    images: Array,
    classes: Classes,
    grid: PatchGrid,
    order: np.ndarray[Any, np.dtype[np.int64]],
    masked: Array,
    inserting: bool,
) -> Array:
    """Return confidences while patches come, or go, in an order, shape (n, players + 1)."""
    ranks = np.argsort(order, axis=1)
    came: Present = ranks[:, None, :] < np.arange(grid.players + 1)[:, None]
    return masked_confidences(confidence, images, classes, grid, came if inserting else ~came, masked)

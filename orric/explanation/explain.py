"""One call for every method: which parts of images speak for a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from orric.exceptions import ExplanationError, nearest
from orric.explanation.activation_maps import ACTIVATION_MAPS, expand
from orric.explanation.evaluation import (
    Array,
    Classes,
    checked_classes,
    checked_images,
    evaluating,
    fitted_to,
    logits_of,
)
from orric.explanation.layers import default_layer
from orric.explanation.lift_cam import Incomplete, check_completeness, lift_cam
from orric.explanation.moxi import Direction, moxi
from orric.explanation.patches import Baseline, BlackBox
from orric.explanation.probe import Probe
from orric.explanation.utility import utility_of


@dataclass(frozen=True)
class Method:
    """What distinguishes one way to explain from another.

    Attributes:
        utility: What it explains unless told otherwise, as its authors do.
        direction: Of patches of the image as a black box; None for what looks at a layer.
    """

    utility: str
    direction: Direction | None = None


METHODS: dict[str, Method] = {
    "grad-cam": Method("pre-softmax"),
    "hires-cam": Method("pre-softmax"),
    "shapley-cam": Method("rest"),
    "shapley-cam-h": Method("rest"),
    "shapley-cam-e": Method("rest"),
    "lift-cam": Method("pre-softmax"),
    "moxi": Method("post-softmax", "insertion"),
    "moxi-deletion": Method("post-softmax", "deletion"),
}


@dataclass(frozen=True)
class Maps:
    """What speaks for the class, image by image; on no common scale, and nowhere below zero.

    Attributes:
        values: At the resolution of the layer, or of the patches, shape (n, height, width).
        classes: What was explained, shape (n,).
        method: Name in `METHODS`.
        layer: Dotted name of the layer; empty for methods that look at patches.
        utility: Name in `UTILITIES`.
        size_px: Height and width of the images.
        misses: By which part DeepLIFT's contributions miss the difference in utility, shape (n,); None for others.
    """

    values: Array
    classes: Classes
    method: str
    layer: str
    utility: str
    size_px: tuple[int, int]
    misses: Array | None = None

    @property
    def upsampled(self) -> Array:
        """The maps at the size of the images, shape (n, height, width).

        Bilinear between the centres of positions (`align_corners=False`), constant outside the outermost: values stay
        within the map's range.
        """
        known = torch.from_numpy(self.values)[:, None]
        return np.asarray(
            functional.interpolate(known, self.size_px, mode="bilinear", align_corners=False)[:, 0].numpy()
        )


def known_method(name: str) -> Method:
    """Return a method by its name.

    Raises:
        ExplanationError: The name is unknown.
    """
    if name not in METHODS:
        raise ExplanationError("method", f"{name!r} is unknown", nearest(name, METHODS))
    return METHODS[name]


def explain(
    network: nn.Module | BlackBox,
    images: Array | Tensor,
    classes: int | Classes | Tensor | None = None,
    method: str = "shapley-cam",
    layer: str | None = None,
    utility: str | None = None,
    batch: int = 64,
    incomplete: Incomplete = "refuse",
    patch_px: int = 4,
    baseline: Baseline = "mean",
) -> Maps:
    """Map which parts of images speak for a class.

    The network is explained in evaluation mode and is left as it was, bit for bit, whatever happens: weights, buffers,
    gradients, modes and hooks. Maps of one image do not depend on the others.

    Args:
        network: Any classifier that gives scores before the softmax, on any device; a user's ONNX model as an
            `orric.vision.onnx_network.OnnxNetwork`, with or without a softmax. Methods of patches also take a function
            from images to probabilities.
        images: Shape (n, channels, height, width), floats on the network's own scale, as
            `orric.vision.datasets.to_input` makes them.
        classes: One for all images, or one for each, shape (n,); left out, what the network predicts.
        method: Name in `METHODS`.
        layer: Dotted name of a layer in `orric.explanation.layers.spatial_layers`; left out, the last one whose
            positions the outputs depend on. Methods of patches ignore it.
        utility: Name in `UTILITIES`; left out, the method's own.
        batch: Images that are explained at once, or for methods of patches: masked images of a pass.
        incomplete: What "lift-cam" does where DeepLIFT's contributions are incomplete: "refuse" or "warn".
        patch_px: Side of a patch in pixels, for methods of patches.
        baseline: What masked pixels become, for methods of patches; see `orric.explanation.patches.blank`.

    Raises:
        ExplanationError: Something given is unusable, the network has no layer that can be explained, activations are
            not finite, or contributions are incomplete.

    >>> from orric.vision.datasets import digits, to_input
    >>> from orric.vision.networks import student
    >>> maps = explain(student().eval(), to_input(digits().images[:2], 32), method="hires-cam")
    >>> maps.layer, maps.values.shape, maps.upsampled.shape
    ('features', (2, 4, 4), (2, 32, 32))
    """
    known_method(method)
    if incomplete not in get_args(Incomplete):
        raise ExplanationError("incomplete", f"{incomplete!r}", "choose 'refuse' or 'warn'")
    if batch < 1:
        raise ExplanationError("batch", f"{batch}", "give at least 1")
    chosen = utility or METHODS[method].utility
    measured = utility_of(chosen)
    inputs = checked_images(images)
    size_px = (inputs.shape[2], inputs.shape[3])
    direction = METHODS[method].direction
    if direction is not None:
        order = moxi(network, inputs, classes, direction, patch_px, baseline, chosen, batch=batch)
        return Maps(order.maps, order.classes, method, "", chosen, size_px)
    if not isinstance(network, nn.Module):
        raise ExplanationError(
            "network", f"{method} of a {type(network).__name__}", "give a torch network, or choose moxi"
        )
    inputs = fitted_to(network, inputs)
    name = default_layer(network, inputs) if layer is None else layer
    values, misses = [], []
    with evaluating(network):
        known = _classes(network, inputs, classes, batch)
        probe = Probe(network, name, inputs)
        for at in range(0, len(inputs), batch):
            part = inputs[at : at + batch]
            targets = torch.from_numpy(known[at : at + batch]).to(part.device)
            if method in ACTIVATION_MAPS:
                draw, curved = ACTIVATION_MAPS[method]
                maps = draw(expand(probe, part, targets, measured, curved))
            else:
                maps, missed = lift_cam(probe, part, targets, measured)
                misses.append(missed.cpu().numpy())
                if incomplete == "refuse":
                    check_completeness(misses[-1], first=at)
            values.append(maps.cpu().numpy())
    if misses:
        check_completeness(np.concatenate(misses), "warn")
    total = np.concatenate(misses) if misses else None
    return Maps(np.concatenate(values), known, method, name, chosen, size_px, total)


def _classes(network: nn.Module, images: Tensor, classes: int | Classes | Tensor | None, batch: int) -> Classes:
    """Check classes, or return what the network predicts, shape (n,)."""
    with torch.no_grad():
        if classes is not None:
            return checked_classes(classes, len(images), logits_of(network, images[:1]).shape[1])
        return np.concatenate(
            [logits_of(network, part).argmax(dim=1).cpu().numpy() for part in torch.split(images, batch)]
        )

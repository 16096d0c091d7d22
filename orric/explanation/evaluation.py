"""Holding a network still while it is explained, and running it with errors that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from orric.exceptions import ExplanationError
from orric.vision import evaluation

# Of 32 or of 64 bits.
Array = np.ndarray[Any, np.dtype[np.floating[Any]]]
Classes = np.ndarray[Any, np.dtype[np.int64]]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode inside the block; afterwards modes and buffers are what they were.

    Args:
        network: Whose parameters, their gradients and `requires_grad` nobody touches here.

    Raises:
        ExplanationError: A batch norm takes its statistics from the batch even in evaluation mode, so that an image's
            outputs depend on the others.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            found = "normalises by the batch, so that no image is explained by itself"
            raise ExplanationError(f"layer {name!r}", found, "use track_running_stats=True")
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        # Other implementations of attention have no second derivative.
        with evaluation.evaluating(network), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def checked_images(images: Array | Tensor) -> Tensor:
    """Return images as a tensor.

    Args:
        images: Shape (n, channels, height, width), floats on the network's own scale, as
            `orric.vision.datasets.to_input` makes them.

    Raises:
        ExplanationError: There are none, or they are of another shape or kind, or not finite.
    """
    found = images.detach() if isinstance(images, Tensor) else _tensor(images)
    shape = tuple(found.shape)
    remedy = "give floats of shape (n, channels, height, width), as orric.vision.datasets.to_input makes them"
    if len(shape) != 4 or 0 in shape[1:]:
        raise ExplanationError("images", f"of shape {shape}", remedy)
    if not shape[0]:
        raise ExplanationError("images", "the batch is empty", "give at least one image")
    if not found.is_floating_point():
        raise ExplanationError("images", f"of type {found.dtype}", remedy)
    finite = found.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        first = int((~finite).nonzero()[0])
        found_ = f"{int((~finite).sum())} of {shape[0]} hold NaN or infinity, the first is image {first}"
        raise ExplanationError("images", found_, "give finite numbers")
    return found


def _tensor(images: Array) -> Tensor:
    array = np.asarray(images)
    if array.dtype.kind not in "fiub":
        raise ExplanationError("images", f"of type {array.dtype}", "give an array of floats")
    # torch takes memory as it is, but neither backwards nor without the right to write to it.
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def fitted_to(network: nn.Module, images: Tensor) -> Tensor:
    """Return images on the device and of the type of a network's parameters."""
    first = next((one for one in network.parameters() if one.is_floating_point()), None)
    return images if first is None else images.to(device=first.device, dtype=first.dtype)


def checked_classes(classes: int | Classes | Tensor, images: int, known: int) -> Classes:
    """Return the class that every image is explained for.

    Args:
        classes: One for all images, or one for each, shape (n,).
        images: n.
        known: How many classes the network tells apart.

    Raises:
        ExplanationError: Not one for each image, no whole numbers, or out of range.
    """
    raw = classes.detach().cpu().numpy() if isinstance(classes, Tensor) else np.asarray(classes)
    if raw.dtype.kind not in "iu" or raw.shape not in ((), (images,)):
        found = f"of shape {raw.shape} and type {raw.dtype}"
        raise ExplanationError("classes", found, f"give one whole number, or one for each of the {images} images")
    outside = np.flatnonzero((raw < 0) | (raw >= known))
    if outside.size:
        found = f"index {int(raw.flat[outside[0]])} is out of range"
        raise ExplanationError("classes", found, f"the network tells {known} classes apart, 0 to {known - 1}")
    return np.array(np.broadcast_to(raw, (images,)), dtype=np.int64)


def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    """Run a network that `evaluating` holds.

    Args:
        network: A classifier.
        images: Shape (n, channels, height, width).

    Returns:
        Scores before the softmax, shape (n, classes).

    Raises:
        ExplanationError: The network fails on the images, gives something else than scores, or scores that are not
            finite.
    """
    try:
        # A copy, since a network may change its input in place.
        outputs = network(images.clone())
    except ExplanationError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        found = f"fails on images of shape {tuple(images.shape)} ({line})"
        raise ExplanationError("network", found, "give images of the shape that it was trained on") from error
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or outputs.shape[1] < 2 or len(outputs) != len(images):
        shape = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"type {type(outputs).__name__}"
        found = f"gives outputs of {shape} for {len(images)} images"
        raise ExplanationError("network", found, "give a classifier: one score for each image and class")
    values = outputs.detach()
    if not values.isfinite().all():
        raise ExplanationError("network", "gives outputs that are not finite", "look for weights that diverged")
    if (values >= 0).all() and ((values.sum(dim=1) - 1).abs() < 1e-4).all():
        raise ExplanationError("network", "gives probabilities", "leave out the softmax at its end: give scores")
    return outputs

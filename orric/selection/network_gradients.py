"""What torch gives of a network: the last layer's inputs and outputs, or the whole gradient of every sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from orric.exceptions import SelectionError
from orric.selection.gradients import DenseGradients
from orric.vision.blocks import MatrixProduct
from orric.vision.evaluation import evaluating
from orric.vision.onnx_operators import Product

# Images of a pass: what fits into a processor's cache.
BATCH = 100
Floats = np.ndarray[Any, np.dtype[np.float32]]


def last_layer(network: nn.Module, images: Tensor) -> tuple[Floats, Floats]:
    """Run images through a network in evaluation mode; return what goes into its last, linear layer and what comes out.

    Args:
        network: A classifier; left as it was.
        images: Shape (n, 3, height, width), n at least 1.

    Returns:
        Features of shape (n, d), and logits of shape (n, classes).

    Raises:
        SelectionError: There is no image, or the network does not end in a linear layer.
    """
    if not len(images):
        raise SelectionError("candidates", "there is no image", "give at least one")
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        seen[:] = [(module, inputs[0], output)]

    linear = [one for one in network.modules() if isinstance(one, (nn.Linear, Product, MatrixProduct))]
    handles = [module.register_forward_hook(look) for module in linear]
    features, logits = [], []
    try:
        with torch.no_grad(), evaluating(network):
            for part in torch.split(images, BATCH):
                seen.clear()
                outputs = network(part)
                if not seen or seen[0][1].ndim != 2 or seen[0][2].shape != outputs.shape:
                    found = "does not end in a linear layer, whose gradients the selector needs"
                    raise SelectionError("student", found, "select uniformly, or give a network that does")
                features.append(seen[0][1].float().cpu().numpy())
                logits.append(outputs.float().cpu().numpy())
    finally:
        for handle in handles:
            handle.remove()
    return np.concatenate(features), np.concatenate(logits)


def per_sample_gradients(
    network: nn.Module, images: Tensor, labels: Tensor, parameters: Sequence[str] | None = None
) -> DenseGradients:
    """Return the gradient of every sample's cross-entropy with respect to a network's parameters.

    By `torch.func`, all samples of a part at once; the network is in evaluation mode meanwhile and is left as it was.

    Args:
        network: A classifier.
        images: Shape (n, 3, height, width), n at least 1.
        labels: Shape (n,).
        parameters: Their names; left out, all of them. n vectors of as many numbers are held in memory.

    Returns:
        n vectors of as many numbers as the parameters have.

    Raises:
        SelectionError: There is no image, or a parameter is unknown.
    """
    if not len(images):
        raise SelectionError("candidates", "there is no image", "give at least one")
    known = {name: value.detach() for name, value in network.named_parameters()}
    names = list(known) if parameters is None else list(parameters)
    for name in names:
        if name not in known:
            raise SelectionError("parameters", f"{name!r} is unknown", "known: " + ", ".join(known))
    chosen, others = {name: known.pop(name) for name in names}, known
    buffers = {name: value.detach() for name, value in network.named_buffers()}

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        outputs = functional_call(network, {**others, **buffers, **weights}, (image[None],))
        return functional.cross_entropy(outputs, label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    parts = []
    with evaluating(network):
        for some, told in zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True):
            found = each(chosen, some, told)
            parts.append(torch.cat([found[name].flatten(1) for name in names], dim=1).cpu().numpy())
    return DenseGradients(np.concatenate(parts))

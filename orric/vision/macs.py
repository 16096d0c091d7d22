"""Count multiply-accumulate operations of one forward pass analytically."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from orric.vision.blocks import MatrixProduct

Rule = Literal["products", "published"]


def count_macs(network: nn.Module, resolution_px: int, channels: int = 3, rule: Rule = "products") -> int:
    """Count the MACs of one image.

    The rule "products" counts the convolutions, linear layers and matrix products. Batch norm, activations, pooling
    and additions are left out, as most published counts do, and so are biases. The count equals half the
    floating-point operations that torch's FlopCounterMode reports.

    The rule "published" is the one behind the figures of ORRIC's Table III, that of the counter thop, version 0.1: to
    the products come four operations for each value that a batch norm takes in, one for each value that an average
    over all positions takes in and one for each that it gives, and one for each value that a windowed average gives.

    Args:
        network: A torch module that takes an image batch.
        resolution_px: Side of the square input, in pixels.
        channels: Input channels.
        rule: What is counted.

    Returns:
        MACs per image.
    """
    total = 0

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        total += _macs_of(module, inputs, output, rule)

    handles = [module.register_forward_hook(count) for module in network.modules()]
    training = [module for module in network.modules() if module.training]
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, channels, resolution_px, resolution_px))
    finally:
        for module in training:
            module.training = True
        for handle in handles:
            handle.remove()
    return total


def _macs_of(module: nn.Module, inputs: tuple[Any, ...], output: Tensor, rule: Rule) -> int:
    """Return what one module adds, apart from the modules in it."""
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        return output.numel() * (module.in_channels // module.groups) * height * width
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    if isinstance(module, MatrixProduct):
        return output.numel() * int(inputs[0].shape[-1])
    if rule == "published":
        if isinstance(module, nn.BatchNorm2d):
            return 4 * output.numel()
        if isinstance(module, nn.AdaptiveAvgPool2d):
            return int(inputs[0].numel()) + output.numel()
        if isinstance(module, nn.AvgPool2d):
            return output.numel()
    return 0

"""Count multiply-accumulate operations of one forward pass analytically."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def count_macs(network: nn.Module, resolution_px: int, channels: int = 3) -> int:
    """Count the MACs of one image through the convolutions and linear layers.

    Batch norm, activations, pooling and additions are left out, as published counts do. The count equals
    half the floating-point operations that torch's FlopCounterMode reports.

    Args:
        network: A torch module that takes an image batch.
        resolution_px: Side of the square input, in pixels.
        channels: Input channels.

    Returns:
        MACs per image.
    """
    total = 0

    def convolution(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        height, width = module.kernel_size
        total += output.numel() * (module.in_channels // module.groups) * height * width

    def linear(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Linear)
        total += output.numel() * module.in_features

    handles = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(convolution))
        elif isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(linear))
    training = network.training
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, channels, resolution_px, resolution_px))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return total

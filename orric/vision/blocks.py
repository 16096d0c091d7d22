"""What the networks are built of, and folding batch norms into the convolutions before them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn


class ConvolutionBlock(nn.Sequential):
    """Convolution without bias, batch norm and, unless it is None, an activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None = nn.ReLU,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([activation()] if activation else []))


class MatrixProduct(nn.Module):
    """A product of two matrices, a module of its own so that its cost can be counted."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left @ right


def centred(images: Tensor) -> Tensor:
    """Move values from [0, 1] to [-2, 2], what the networks' first convolution sees."""
    return (images - 0.5) * 4.0


def _folding(network: nn.Module) -> Iterator[tuple[str, nn.Sequential, int]]:
    """Yield every sequence in which a batch norm follows a convolution: its name, itself, and where."""
    for name, sequence in network.named_modules():
        if isinstance(sequence, nn.Sequential):
            for at, (first, second) in enumerate(pairwise(sequence)):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    yield name, sequence, at


def fused(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode with every batch norm folded into its convolution.

    The copy computes the same function with one weight and one bias per convolution, so that its state
    maps one to one onto the initializers of the exported model.
    """
    twin = copy.deepcopy(network).eval()
    for _, sequence, at in list(_folding(twin)):
        convolution, norm = sequence[at], sequence[at + 1]
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        sequence[at] = torch.nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
        sequence[at + 1] = nn.Identity()
    return twin


def folded_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of `fused(network)` by name, without making that copy."""
    weights: dict[str, Tensor] = {name: value.detach() for name, value in network.named_parameters()}
    for name, sequence, at in _folding(network):
        convolution, norm = sequence[at], sequence[at + 1]
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        inside = f"{name}." if name else ""
        for gone in ("weight", "bias"):
            weights.pop(f"{inside}{at + 1}.{gone}", None)
        weight, bias = torch.nn.utils.fusion.fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        weights[f"{inside}{at}.weight"], weights[f"{inside}{at}.bias"] = weight.detach(), bias.detach()
    return weights

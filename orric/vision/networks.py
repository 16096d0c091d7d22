"""The small student and teacher: convolutional classifiers that take any input size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvolutionBlock(nn.Sequential):
    """Convolution without bias, batch norm and, if asked, a ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activate: bool = True
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([nn.ReLU()] if activate else []))


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., CVPR 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvolutionBlock(inputs, outputs, 3, stride), ConvolutionBlock(outputs, outputs, 3, activate=False)
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else ConvolutionBlock(inputs, outputs, 1, stride, activate=False)
        self.activation = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.activation(self.body(inputs) + self.shortcut(inputs))  # type: ignore[no-any-return]  # nn.Module calls return Any


class Classifier(nn.Module):
    """Centre the input, extract features, average over positions, classify.

    Input of shape (n, 3, height, width) with values in [0, 1]; output logits of shape (n, classes).
    """

    def __init__(self, features: nn.Sequential, channels: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.features((images - 0.5) * 4.0)
        return self.head(features.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # nn.Module calls return Any


def student(classes: int = 10) -> Classifier:
    """Build the student: depthwise separable convolutions (Howard et al., MobileNets, 2017)."""
    plan = [(16, 32, 1), (32, 64, 2), (64, 128, 2), (128, 256, 2)]
    layers: list[nn.Module] = [ConvolutionBlock(3, 16, 3)]
    for inputs, outputs, stride in plan:
        layers += [ConvolutionBlock(inputs, inputs, 3, stride, groups=inputs), ConvolutionBlock(inputs, outputs, 1)]
    return Classifier(nn.Sequential(*layers), 256, classes)


def teacher(classes: int = 10) -> Classifier:
    """Build the teacher: a residual network of three stages."""
    layers = [ConvolutionBlock(3, 24, 3), Residual(24, 24, 1), Residual(24, 48, 2), Residual(48, 96, 2)]
    return Classifier(nn.Sequential(*layers), 96, classes)


NETWORKS = {"student": student, "teacher": teacher}


def fused(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode with every batch norm folded into its convolution.

    The copy computes the same function with one weight and one bias per convolution, so that its state
    maps one to one onto the initializers of the exported model.
    """
    import copy

    twin = copy.deepcopy(network).eval()
    for module in list(twin.modules()):
        if isinstance(module, ConvolutionBlock):
            convolution, norm = module[0], module[1]
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            module[0] = torch.nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
            module[1] = nn.Identity()
    return twin

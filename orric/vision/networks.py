"""The networks by name, all convolutional classifiers that take any input size from 16 pixels up."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from orric.vision.blocks import ConvolutionBlock, centred
from orric.vision.published_networks import mobilenetv2, resnet50


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., CVPR 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvolutionBlock(inputs, outputs, 3, stride), ConvolutionBlock(outputs, outputs, 3, activation=None)
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else ConvolutionBlock(inputs, outputs, 1, stride, activation=None)
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
        features = self.features(centred(images))
        return self.head(features.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # nn.Module calls return Any


def student(classes: int = 10) -> Classifier:
    """Build the small student: depthwise separable convolutions (Howard et al., MobileNets, 2017)."""
    plan = [(16, 32, 1), (32, 64, 2), (64, 128, 2), (128, 256, 2)]
    layers: list[nn.Module] = [ConvolutionBlock(3, 16, 3)]
    for inputs, outputs, stride in plan:
        layers += [ConvolutionBlock(inputs, inputs, 3, stride, groups=inputs), ConvolutionBlock(inputs, outputs, 1)]
    return Classifier(nn.Sequential(*layers), 256, classes)


def teacher(classes: int = 10) -> Classifier:
    """Build the small teacher: a residual network of three stages."""
    layers = [ConvolutionBlock(3, 24, 3), Residual(24, 24, 1), Residual(24, 48, 2), Residual(48, 96, 2)]
    return Classifier(nn.Sequential(*layers), 96, classes)


# Architectures by the name that weights files carry; each is called with the number of classes.
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "small-student": student,
    "small-teacher": teacher,
    "mobilenetv2": mobilenetv2,
    "resnet50": resnet50,
}
# The architecture of a role whose weights file names none.
ROLES = {"student": "small-student", "teacher": "small-teacher"}

"""The student and teacher of ORRIC's published experiment: MobileNetV2 and ResNet50 (Cai et al., INFOCOM 2024).

Both as they were defined for ImageNet, strides included, and run on images of 32x32 pixels. What the experiment
takes from its library is left as it is there, but for dropout before the head: it would make retraining random.
"""

from __future__ import annotations

from torch import Tensor, nn

from orric.vision.blocks import ConvolutionBlock, centred


class PublishedClassifier(nn.Module):
    """Centre the input, extract features, average over positions, classify.

    Input of shape (n, 3, height, width) with values in [0, 1], 16 pixels or more; output logits of shape (n, classes).
    """

    def __init__(self, features: nn.Sequential, channels: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.features(centred(images))).flatten(1))  # type: ignore[no-any-return]  # nn.Module calls return Any


class InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, narrow; around it a shortcut where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = inputs * expansion
        widen = [] if expansion == 1 else [ConvolutionBlock(inputs, inside, 1, activation=nn.ReLU6)]
        self.body = nn.Sequential(
            *widen,
            ConvolutionBlock(inside, inside, 3, stride, groups=inside, activation=nn.ReLU6),
            ConvolutionBlock(inside, outputs, 1, activation=None),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.body(inputs)
        return inputs + outputs if self.adds else outputs


class Bottleneck(nn.Module):
    """Narrow, convolve, widen, around a shortcut; the stride lies in the middle convolution."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            ConvolutionBlock(inputs, width, 1),
            ConvolutionBlock(width, width, 3, stride),
            ConvolutionBlock(width, outputs, 1, activation=None),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else ConvolutionBlock(inputs, outputs, 1, stride, activation=None)
        self.activation = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.activation(self.body(inputs) + self.shortcut(inputs))  # type: ignore[no-any-return]  # nn.Module calls return Any


def mobilenetv2(classes: int = 10) -> PublishedClassifier:
    """Build MobileNetV2 of width 1 (Sandler et al., CVPR 2018, table 2)."""
    plan = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    layers: list[nn.Module] = [ConvolutionBlock(3, 32, 3, 2, activation=nn.ReLU6)]
    channels = 32
    for expansion, outputs, repeats, stride in plan:
        for repeat in range(repeats):
            layers.append(InvertedResidual(channels, outputs, 1 if repeat else stride, expansion))
            channels = outputs
    layers.append(ConvolutionBlock(channels, 1280, 1, activation=nn.ReLU6))
    return PublishedClassifier(nn.Sequential(*layers), 1280, classes)


def resnet50(classes: int = 10) -> PublishedClassifier:
    """Build ResNet50 (He et al., CVPR 2016, table 1)."""
    layers: list[nn.Module] = [ConvolutionBlock(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, repeats, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for repeat in range(repeats):
            layers.append(Bottleneck(channels, width, 1 if repeat else stride))
            channels = 4 * width
    return PublishedClassifier(nn.Sequential(*layers), channels, classes)

"""Networks as a user might bring them, and their export without folding batch norms."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

AXES = {0: "batch", 2: "height", 3: "width"}


class Gate(nn.Module):
    """Squeeze and excitation, as in MobileNetV3 and EfficientNet."""

    def __init__(self, channels, gate):
        super().__init__()
        self.body = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 4, 1), nn.ReLU(), nn.Conv2d(4, channels, 1), gate()
        )

    def forward(self, inputs):
        return inputs * self.body(inputs)


class Shortcut(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, inputs):
        return inputs + self.body(inputs)


class Dense(nn.Module):
    """Put what a layer gives beside what it takes, as in DenseNet."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, inputs):
        return torch.cat([inputs, self.body(inputs)], 1)


class Shuffle(nn.Module):
    """Part the channels, work on half of them, shuffle, as in ShuffleNet."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, inputs):
        left, right = inputs.chunk(2, dim=1)
        n, channels, height, width = inputs.shape
        both = torch.cat([left, self.body(right)], 1).view(n, 2, channels // 2, height, width)
        return both.transpose(1, 2).reshape(n, channels, height, width)


class Layered(nn.Module):
    """Layer norm over channels, as in ConvNeXt."""

    def __init__(self, channels):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.mix = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, inputs):
        mixed = self.mix(self.norm(self.depthwise(inputs).permute(0, 2, 3, 1)))
        return inputs + mixed.permute(0, 3, 1, 2)


def block(inputs, outputs, activation=nn.ReLU, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(outputs), activation()
    )


def head(channels, classes=10):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels, classes))


KINDS = {
    "residual": lambda: nn.Sequential(
        block(3, 8, stride=2), nn.MaxPool2d(3, 2, 1), Shortcut(block(8, 8, nn.Identity)), nn.ReLU(), head(8)
    ),
    "inverted residual": lambda: nn.Sequential(
        block(3, 8, nn.ReLU6, 2), Shortcut(block(8, 8, nn.ReLU6, groups=8)), head(8)
    ),
    "squeeze and excitation, hard": lambda: nn.Sequential(
        block(3, 8, nn.Hardswish, 2), Gate(8, nn.Hardsigmoid), block(8, 8, nn.Hardswish), head(8)
    ),
    "squeeze and excitation, smooth": lambda: nn.Sequential(
        block(3, 8, nn.SiLU, 2), Shortcut(nn.Sequential(block(8, 8, nn.SiLU), Gate(8, nn.Sigmoid))), head(8)
    ),
    "plain": lambda: nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(8, 8, 3), nn.PReLU(8)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.LeakyReLU(), nn.Linear(6, 10)),
    ),
    "dense": lambda: nn.Sequential(Dense(block(3, 5, nn.ELU)), nn.AvgPool2d(2), Dense(block(8, 8)), head(16)),
    "shuffled": lambda: nn.Sequential(block(3, 8, stride=2), Shuffle(block(4, 4)), head(8)),
    "layer norm": lambda: nn.Sequential(nn.Conv2d(3, 8, 4, 4), Layered(8), head(8)),
    "probabilities": lambda: nn.Sequential(block(3, 8, nn.Tanh, 2), head(8), nn.Softmax(dim=1)),
}


def built(kind, seed=0):
    """Build a network with weights and statistics as if it had been trained."""
    torch.manual_seed(seed)
    network = KINDS[kind]()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(16, 3, 32, 32))
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network.eval()


def exported_whole(network, name="pixels", dynamo=False, axes=AXES):
    """Export a copy with its batch norms as they are."""
    network, image = copy.deepcopy(network).eval(), (torch.zeros(2, 3, 32, 32),)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if dynamo:
                settings = {"dynamo": True, "optimize": False, "verbose": False, "input_names": [name]}
                return torch.onnx.export(network, image, dynamic_shapes=(axes,), **settings).model_proto
            file = io.BytesIO()
            torch.onnx.export(
                network,
                image,
                file,
                dynamo=False,
                input_names=[name],
                dynamic_axes={name: axes},
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
            )
            return onnx.load_from_string(file.getvalue())
    finally:
        logging.disable(before)


def saved(model, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path

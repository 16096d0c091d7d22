"""Convolution and pooling as ONNX means them: padding that differs from side to side or follows from the size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Window:
    """How a window slides over an image.

    Attributes:
        kernel: Its height and width.
        stride: Steps along both axes.
        dilation: Distance between its cells along both axes.
        pads: What is added to the image: above, left, below, right.
        auto: "NOTSET" takes `pads`; "VALID" adds nothing; "SAME_UPPER" and "SAME_LOWER" add what keeps the size, an
            odd row below or above.
        ceil: Whether a window may reach beyond the image to take in its last cells.
    """

    kernel: tuple[int, int]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]
    auto: str
    ceil: bool

    def padding(self, inputs: Tensor) -> tuple[int, int, int, int]:
        """Return what is added above, left, below and right of an image of a size."""
        if self.auto == "VALID":
            return 0, 0, 0, 0
        if self.auto == "NOTSET":
            above, left, below, right = self.pads
            return above, left, below, right
        first, last = [], []
        for size, kernel, stride, dilation in zip(
            inputs.shape[2:], self.kernel, self.stride, self.dilation, strict=True
        ):
            needed = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
            small, large = needed // 2, needed - needed // 2
            first.append(small if self.auto == "SAME_UPPER" else large)
            last.append(large if self.auto == "SAME_UPPER" else small)
        return first[0], first[1], last[0], last[1]

    def padded(self, inputs: Tensor, fill: float, most: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """Pad by hand what torch cannot.

        Args:
            inputs: Shape (n, channels, height, width).
            fill: What to pad with.
            most: The largest padding along both axes that torch takes.

        Returns:
            The images, and what torch still has to pad on both sides.
        """
        above, left, below, right = self.padding(inputs)
        if (above, left) == (below, right) and above <= most[0] and left <= most[1]:
            return inputs, (above, left)
        return functional.pad(inputs, (left, right, above, below), value=fill), (0, 0)


class Convolution(nn.Conv2d):
    """A convolution whose weights may be shared with other nodes."""

    def __init__(self, window: Window, weight: nn.Parameter, bias: nn.Parameter | None, groups: int) -> None:
        outputs, inputs = weight.shape[:2]
        settings: dict[str, Any] = {"stride": window.stride, "dilation": window.dilation, "groups": groups}
        super().__init__(inputs * groups, outputs, window.kernel, bias=bias is not None, device="meta", **settings)
        self.weight, self.bias, self.window = weight, bias, window

    def forward(self, input: Tensor) -> Tensor:
        images, padding = self.window.padded(input, 0.0, (1 << 30, 1 << 30))
        return functional.conv2d(images, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class MaxPooling(nn.Module):
    """The largest value in every window."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window

    def forward(self, inputs: Tensor) -> Tensor:
        window = self.window
        images, padding = window.padded(inputs, -torch.inf, (window.kernel[0] // 2, window.kernel[1] // 2))
        return functional.max_pool2d(
            images, window.kernel, window.stride, padding, window.dilation, ceil_mode=window.ceil
        )


class AveragePooling(nn.AvgPool2d):
    """The mean of every window, of what lies inside the image or of the padding as well."""

    def __init__(self, window: Window, count_include_pad: bool) -> None:
        settings: dict[str, Any] = {"stride": window.stride, "ceil_mode": window.ceil}
        super().__init__(window.kernel, count_include_pad=count_include_pad, **settings)
        self.window = window

    def forward(self, input: Tensor) -> Tensor:
        window, stride = self.window, self.window.stride
        images, padding = window.padded(input, 0.0, (window.kernel[0] // 2, window.kernel[1] // 2))
        means = functional.avg_pool2d(
            images,
            window.kernel,
            stride,
            padding,
            window.ceil,
            self.count_include_pad,
        )
        if self.count_include_pad or images is input:
            return means
        inside, _ = window.padded(torch.ones_like(input[:1, :1]), 0.0, (-1, -1))
        return means / functional.avg_pool2d(inside, window.kernel, stride, 0, window.ceil)

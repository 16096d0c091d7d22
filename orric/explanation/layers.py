"""Which layers of a network can be explained, and how their outputs lie over the image."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from orric.exceptions import ExplanationError
from orric.explanation.evaluation import Array, checked_images, evaluating, fitted_to, logits_of

Hook = Callable[[nn.Module, Any, Any], Any]
# Names that an error lists at most; deep networks have hundreds of layers.
LISTED = 40
# Images that are enough to see which layer the outputs depend on.
TRIED = 4


@dataclass(frozen=True)
class Layout:
    """How a layer's output lies over the image.

    Attributes:
        height: Rows of positions.
        width: Columns of positions.
        tokens: Whether the output is that of a transformer, (n, tokens, channels); else it is (n, channels, height,
            width).
        class_token: Whether the first token is the class's and stands for no position.
    """

    height: int
    width: int
    tokens: bool = False
    class_token: bool = False

    @classmethod
    def of(cls, output: Any) -> Layout | None:
        """Return the layout of a layer's output; None where it has no positions, or one alone.

        >>> Layout.of(torch.zeros(2, 8, 4, 6))
        Layout(height=4, width=6, tokens=False, class_token=False)
        >>> Layout.of(torch.zeros(2, 17, 8))
        Layout(height=4, width=4, tokens=True, class_token=True)
        """
        if not isinstance(output, Tensor) or not output.is_floating_point() or not output.numel():
            return None
        if output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            return cls(output.shape[2], output.shape[3])
        if output.ndim == 3:
            for class_token in (False, True):
                positions = output.shape[1] - class_token
                side = math.isqrt(max(positions, 0))
                if positions > 1 and side * side == positions:
                    return cls(side, side, tokens=True, class_token=class_token)
        return None

    @property
    def positions(self) -> int:
        """Number of positions."""
        return self.height * self.width

    def over_image(self, values: Tensor) -> Tensor:
        """Lay values of the layer's shape out as (n, channels, height, width), the class token left out."""
        if not self.tokens:
            return values
        placed = values[:, 1:] if self.class_token else values
        return placed.transpose(1, 2).reshape(len(placed), -1, self.height, self.width)

    def kept(self, activation: Tensor, present: Tensor) -> Tensor:
        """Return activations with all channels of absent positions set to zero; a class token always stays.

        Args:
            activation: Of the layer's shape.
            present: Which positions stay, row by row, shape (n, positions) or (1, positions).
        """
        held = present.to(activation.dtype)
        if not self.tokens:
            return activation * held.reshape(-1, 1, self.height, self.width)
        if self.class_token:
            held = torch.cat([held.new_ones(len(held), 1), held], dim=1)
        return activation * held[:, :, None]


@contextmanager
def hooked(*hooks: tuple[nn.Module, Hook]) -> Iterator[None]:
    """Hook modules inside the block, and leave none behind."""
    handles = []
    try:
        for module, hook in hooks:
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _outputs(network: nn.Module, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return what layers with positions give, in the order in which they finish, and the logits.

    Layers that run more than once are left out: there is no one output to explain.
    """
    found: dict[str, Tensor] = {}
    runs: Counter[str] = Counter()

    def watch(name: str) -> Hook:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            runs[name] += 1
            if Layout.of(output) is not None:
                found[name] = output

        return hook

    with hooked(*[(module, watch(name)) for name, module in network.named_modules() if name]):
        logits = logits_of(network, images)
    return {name: output for name, output in found.items() if runs[name] == 1}, logits


def spatial_layers(network: nn.Module, images: Array | Tensor) -> list[str]:
    """Name the layers that can be explained, in the order in which they finish.

    They are the modules that run once and whose output is a map (n, channels, height, width), or tokens of a
    transformer (n, tokens, channels) where the number of tokens, or that number less one class token, is a square;
    in both cases with more than one position. The shape is all that tells: a module that gives (n, height, width,
    channels) is listed, and is not what it seems.

    Args:
        network: Any classifier; left as it was.
        images: Shape (n, channels, height, width); the first one is run.

    Raises:
        ExplanationError: The images are unusable, or the network fails on them.

    >>> from orric.vision.networks import student
    >>> spatial_layers(student(), torch.zeros(1, 3, 32, 32))[-3:]
    ['features.8.2', 'features.8', 'features']
    """
    inputs = fitted_to(network, checked_images(images)[:1])
    with evaluating(network), torch.no_grad():
        return list(_outputs(network, inputs)[0])


def default_layer(network: nn.Module, images: Array | Tensor) -> str:
    """Name the last layer whose positions the outputs depend on.

    In a transformer that classifies by its class token, the last block's other tokens lead nowhere.

    Args:
        network: Any classifier; left as it was.
        images: Shape (n, channels, height, width); the first few are run.

    Raises:
        ExplanationError: See `spatial_layers`; or the network has no layer that could be explained.
    """
    inputs = fitted_to(network, checked_images(images)[:TRIED])
    with evaluating(network), torch.enable_grad():
        outputs, logits = _outputs(network, inputs.requires_grad_())
        if not outputs:
            found = "has no layer with a map of positions, (n, channels, height, width) or square tokens"
            raise ExplanationError("network", found, "explain it by patches of the image: moxi")
        slopes = torch.autograd.grad(logits.amax(dim=1).sum(), list(outputs.values()), allow_unused=True)
    for (name, output), slope in reversed(list(zip(outputs.items(), slopes, strict=True))):
        layout = Layout.of(output)
        assert layout is not None, "which is why it was kept"
        if slope is not None and layout.over_image(slope).any():
            return name
    return next(reversed(outputs))


def module_of(network: nn.Module, layer: str, images: Tensor) -> nn.Module:
    """Return a layer by its dotted name.

    Args:
        network: That `evaluating` holds.
        layer: As in `network.named_modules()`.
        images: Run to say which layers there are, if there is none of that name.

    Raises:
        ExplanationError: There is none; the message lists those that there are, the nearest first.
    """
    modules: dict[str, nn.Module] = dict(network.named_modules(remove_duplicate=False))
    if layer and layer in modules:
        return modules[layer]
    raise unusable(network, layer, "is unknown", images)


def unusable(network: nn.Module, layer: str, found: str, images: Tensor) -> ExplanationError:
    """Return the error for a layer that cannot be explained, with those that can, the nearest first."""
    with torch.no_grad():
        names = list(_outputs(network, images[:1])[0])
    names.sort(key=lambda name: -difflib.SequenceMatcher(None, layer, name).ratio())
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    remedy = "choose one of " + ", ".join(names[:LISTED]) + more if names else "the network has no layer that could be"
    return ExplanationError(f"layer {layer!r}", found, remedy)

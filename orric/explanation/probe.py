"""Looking into a network at one layer: what comes out of it, and what the network makes of something else there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from orric.exceptions import ExplanationError
from orric.explanation.evaluation import logits_of
from orric.explanation.layers import Layout, hooked, module_of, unusable


class Probe:
    """One layer of a network that `orric.explanation.evaluation.evaluating` holds.

    The network is never taken apart: a hook hands the rest of it whatever is to stand in the layer's place, so that
    shortcuts around the layer and code between modules run as they are. The hook is gone after every call.

    Args:
        network: The classifier.
        layer: Dotted name of the layer.
        images: A few, to see the layer run, shape (n, channels, height, width).

    Attributes:
        layout: How the layer's output lies over the image.

    Raises:
        ExplanationError: The layer is unknown, has no positions, does not run, or runs more than once.
    """

    def __init__(self, network: nn.Module, layer: str, images: Tensor) -> None:
        self.network, self.layer = network, layer
        self._module = module_of(network, layer, images)
        outputs: list[Any] = []
        with hooked((self._module, lambda module, inputs, output: outputs.append(output))), torch.no_grad():
            logits_of(network, images[:1])
        if len(outputs) != 1:
            found = f"runs {len(outputs)} times for an image, not once" if outputs else "does not run"
            raise unusable(network, layer, found, images)
        layout = Layout.of(outputs[0])
        if layout is None:
            shape = tuple(outputs[0].shape[1:]) if isinstance(outputs[0], Tensor) else type(outputs[0]).__name__
            raise unusable(network, layer, f"gives {shape} for an image, which is no map of positions", images)
        self.layout = layout

    def opened(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Run images and part the network at the layer.

        Returns:
            The layer's output as a leaf of the graph, and the logits as a function of it; with gradients enabled, the
            one can be differentiated by the other as often as wanted.

        Raises:
            ExplanationError: The layer gives something that is not finite.
        """
        leaves: list[Tensor] = []

        def part(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            leaf = output.detach().clone()
            bad = int((~leaf.isfinite()).sum())
            if bad:
                found = f"{bad} of {leaf.numel()} activations are not finite"
                raise ExplanationError(f"layer {self.layer!r}", found, "look for weights that diverged")
            leaves.append(leaf.requires_grad_(torch.is_grad_enabled()))
            # A copy, since the next module may work in place, which no leaf allows.
            return leaf.clone()

        with hooked((self._module, part)):
            logits = logits_of(self.network, images)
        return leaves[0], logits

    def continued(self, images: Tensor, activation: Tensor) -> Tensor:
        """Return the logits of images whose activation at the layer is another.

        Args:
            images: Shape (n, channels, height, width): what lies beside the layer is computed from them.
            activation: Of the layer's shape for n images.
        """
        with hooked((self._module, lambda module, inputs, output: activation.clone())):
            return logits_of(self.network, images)

    def behind(self, images: Tensor) -> list[nn.Module]:
        """Return the modules that finish after the layer does, in that order, each once."""
        found: dict[nn.Module, None] = {}
        reached = False

        def watch(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal reached
            if reached:
                found[module] = None
            reached = reached or module is self._module

        with hooked(*[(module, watch) for module in self.network.modules()]), torch.no_grad():
            logits_of(self.network, images[:1])
        return list(found)

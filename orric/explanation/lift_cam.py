"""LIFT-CAM: activation maps weighted by DeepLIFT's contributions (Jung & Oh, ICCV 2021), complete or refused."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from captum.attr import DeepLift
from torch import Tensor, nn

from orric.exceptions import ExplanationError
from orric.explanation.evaluation import Array
from orric.explanation.probe import Probe
from orric.explanation.utility import Utility

Incomplete = Literal["refuse", "warn"]
INCOMPLETE = ("refuse", "warn")
# Part of the difference in utility that contributions may miss.
TOLERANCE = 1e-3
# Contributions that cancel each other out leave rounding errors on their own scale, not on that of their sum.
CANCELLED = 0.05
# What Captum writes on the modules that it hooks, and leaves there when something fails.
LEFT_BEHIND = ("input", "output")


class Continuation(nn.Module):
    """The part of a network behind a layer, as a module of the layer's output.

    Args:
        probe: At the layer.
        images: What the activations are of, shape (n, channels, height, width).
        classes: Shape (n,).
        utility: Of the class.
    """

    def __init__(self, probe: Probe, images: Tensor, classes: Tensor, utility: Utility) -> None:
        super().__init__()
        # Captum hooks whatever module it finds in here. What stands in front of the layer must not be among it, nor
        # what holds such modules.
        self.behind = nn.ModuleList(module for module in probe.behind(images) if not any(module.children()))
        self._rest = (probe, images, classes, utility)

    def forward(self, activation: Tensor) -> Tensor:
        """Return the utility, shape (m,).

        Args:
            activation: Of the layer's shape, for all images, once or several times over.
        """
        probe, images, classes, utility = self._rest
        times = len(activation) // len(images)
        # A module behind the layer may also run in front of it, where hooks want something that has a gradient.
        repeated = images.repeat(times, 1, 1, 1).requires_grad_()
        return utility(probe.continued(repeated, activation), classes.repeat(times))


def lift_cam(probe: Probe, images: Tensor, classes: Tensor, utility: Utility) -> tuple[Tensor, Tensor]:
    """Return LIFT-CAM: ReLU(sum_c a_c A_c), a_c the DeepLIFT contribution of channel c against a map of zeros.

    Contributions are complete if they add up to u(A) - u(0). Captum's rules achieve that for modules of ReLU, sigmoid
    and the like that run once each, and for the score before the softmax; not for SiLU, GELU, Hardswish, for
    activations that are no modules, for windows that overlap in a max pooling, nor for the softmax. Whoever calls
    decides what is done about it: `check_completeness`.

    Complexity: three forward passes and one backward pass for each image.

    Args:
        probe: At the layer.
        images: Shape (n, channels, height, width).
        classes: Shape (n,).
        utility: Of the class.

    Returns:
        Maps of shape (n, height, width), and by which part of it the contributions of each image miss the difference,
        shape (n,).

    Raises:
        ExplanationError: Captum cannot take the network.
    """
    # Captum's rule of max pooling gives units that did not change the gradient of the batch's first image.
    one_by_one = any(isinstance(module, nn.MaxPool2d) for module in probe.behind(images))
    size = 1 if one_by_one else len(images)
    pairs = zip(torch.split(images, size), torch.split(classes, size), strict=True)
    found = [_contributions(probe, *pair, utility) for pair in pairs]
    activation, contributions, misses = (torch.cat(part) for part in zip(*found, strict=True))
    coefficients = contributions.sum(dim=(2, 3), keepdim=True)
    return (coefficients * activation).sum(dim=1).relu(), misses


def check_completeness(misses: Array, incomplete: Incomplete = "refuse", first: int = 0) -> None:
    """Refuse contributions that miss more of the difference in utility than `TOLERANCE`, or warn of them.

    Args:
        misses: As `lift_cam` gives them, shape (n,).
        incomplete: "refuse" or "warn".
        first: Number of the first image, for the message.

    Raises:
        ExplanationError: They miss more, and that is to be refused.
    """
    worst = int(misses.argmax())
    if misses[worst] <= TOLERANCE:
        return
    found = (
        f"contributions miss the difference in utility by {100 * float(misses[worst]):.2g} % "
        f"(image {first + worst}), where {100 * TOLERANCE:g} % is allowed"
    )
    if incomplete == "warn":
        warnings.warn(f"lift-cam: {found}", RuntimeWarning, stacklevel=3)
        return
    remedy = (
        "DeepLIFT's rules hold for ReLU and sigmoid modules that run once each and utility='pre-softmax': "
        "choose shapley-cam, a later layer, or incomplete='warn'"
    )
    raise ExplanationError("lift-cam", found, remedy)


def _contributions(probe: Probe, images: Tensor, classes: Tensor, utility: Utility) -> tuple[Tensor, Tensor, Tensor]:
    """Return activations and contributions, laid out over the image, and what the contributions miss."""
    with torch.no_grad():
        activation, logits = probe.opened(images)
        blank = probe.layout.kept(activation, activation.new_zeros(1, probe.layout.positions))
        difference = utility(logits, classes) - utility(probe.continued(images, blank), classes)
    continuation = Continuation(probe, images, classes, utility)
    with _hooked_by_captum(continuation), torch.enable_grad():
        try:
            found = DeepLift(continuation).attribute(activation.clone().requires_grad_(), baselines=blank)
        except (RuntimeError, AssertionError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            remedy = "give every activation a module of its own, or choose shapley-cam"
            raise ExplanationError("lift-cam", f"DeepLIFT cannot take the network ({line})", remedy) from error
    contributions = found.detach().flatten(1)
    scale = torch.maximum(difference.abs(), CANCELLED * contributions.abs().sum(dim=1))
    missed = (contributions.sum(dim=1) - difference).abs()
    misses = torch.where(missed > 0, missed / scale.clamp_min(torch.finfo(scale.dtype).tiny), 0.0)
    return probe.layout.over_image(activation), probe.layout.over_image(found.detach()), misses


@contextmanager
def _hooked_by_captum(continuation: Continuation) -> Iterator[None]:
    """Let Captum hook modules without a word, and take away what it leaves on them."""
    modules = list(continuation.behind.modules())
    before: list[dict[str, Any]] = [dict(module.__dict__) for module in modules]
    try:
        with warnings.catch_warnings():
            # It tells at every call that it will set hooks and take them away again.
            warnings.filterwarnings("ignore", "(?s).*forward, backward hooks and attributes", UserWarning)
            yield
    finally:
        for module, known in zip(modules, before, strict=True):
            for name in LEFT_BEHIND:
                if name not in known:
                    module.__dict__.pop(name, None)

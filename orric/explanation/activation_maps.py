"""Class activation maps: how much the activations at every position of a layer speak for a class.

A is the layer's output (channels c, positions p), u the utility of a class, G = du/dA, H the second derivative.

=============  ====================================================  ==========================================
map            formula                                               source
=============  ====================================================  ==========================================
Grad-CAM       ReLU(sum_c mean_p(G_c) A_c)                           Selvaraju et al., ICCV 2017, eq. 1, 2
HiResCAM       ReLU(sum_c G_c * A_c)                                 Draelos & Carin, arXiv 2011.08891, eq. 3
ShapleyCAM     ReLU(sum_c mean_p(W_c) A_c), W = G - 0.5 H A          Cai, arXiv 2501.06261
ShapleyCAM-H   ReLU(sum_c W_c * A_c)                                 the same
ShapleyCAM-E   sum_c ReLU(W_c * A_c)                                 the same
=============  ====================================================  ==========================================

W * A is the Shapley value of every activation in the game whose absent players are zero, for a utility that is
quadratic in the activations; for one that is linear H A = 0 and ShapleyCAM-H is HiResCAM. Complexity: one forward and
one backward pass for each image, and a second backward pass for W, whatever the number of channels and positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from orric.exceptions import ExplanationError
from orric.explanation.probe import Probe
from orric.explanation.utility import Utility


@dataclass(frozen=True)
class Expansion:
    """A utility around the layer's output, to the second order.

    Attributes:
        activation: A laid out over the image, shape (n, channels, height, width).
        gradient: G, of the same shape.
        curvature: H A, of the same shape: the Hessian of each image's utility times its own activations. A class token
            is no player, so that A is zero there.
    """

    activation: Tensor
    gradient: Tensor
    curvature: Tensor

    @property
    def weight(self) -> Tensor:
        """G - 0.5 H A."""
        return self.gradient - 0.5 * self.curvature


def expand(probe: Probe, images: Tensor, classes: Tensor, utility: Utility, curved: bool = True) -> Expansion:
    """Differentiate the utility by the layer's output, once and twice.

    Images are summed over before differentiating: in evaluation mode none depends on another, so each has its own
    gradient and its own product.

    Args:
        probe: At the layer.
        images: Shape (n, channels, height, width).
        classes: Shape (n,).
        utility: Of the class.
        curved: Whether H A is wanted; it is zero otherwise.

    Raises:
        ExplanationError: See `Probe.opened`; or something behind the layer cannot be differentiated.
    """
    with torch.enable_grad():
        activation, logits = probe.opened(images)
        total = utility(logits, classes).sum()
        gradient = _gradient(total, activation, curved)
        curvature = torch.zeros_like(activation)
        # Behind the layer a linear network leaves a gradient that depends on nothing.
        if curved and gradient.requires_grad:
            players = probe.layout.kept(activation.detach(), activation.new_ones(1, probe.layout.positions))
            if probe.layout.class_token:
                players[:, 0] = 0
            curvature = _gradient((gradient * players).sum(), activation)
    parts = (activation, gradient, curvature)
    return Expansion(*[probe.layout.over_image(part.detach()) for part in parts])


def _gradient(value: Tensor, activation: Tensor, again: bool = False) -> Tensor:
    """Return a gradient, zero where nothing depends on the activation.

    Args:
        value: A number.
        activation: A leaf.
        again: Whether the gradient is to be differentiated in its turn.

    Raises:
        ExplanationError: Something behind the layer has no derivative, or none of the gradient.
    """
    if not value.requires_grad:
        return torch.zeros_like(activation)
    try:
        [found] = torch.autograd.grad(value, activation, create_graph=again, materialize_grads=True)
    except RuntimeError as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        remedy = "choose hires-cam, which needs one derivative alone, or moxi, which needs none"
        raise ExplanationError("network", f"cannot be differentiated behind the layer ({line})", remedy) from error
    return found


def grad_cam(found: Expansion) -> Tensor:
    """Return Grad-CAM, shape (n, height, width)."""
    return _pooled(found.gradient, found.activation)


def hires_cam(found: Expansion) -> Tensor:
    """Return HiResCAM, shape (n, height, width)."""
    return (found.gradient * found.activation).sum(dim=1).relu()


def shapley_cam(found: Expansion) -> Tensor:
    """Return ShapleyCAM in its default form, shape (n, height, width)."""
    return _pooled(found.weight, found.activation)


def shapley_cam_h(found: Expansion) -> Tensor:
    """Return ShapleyCAM-H, element by element as HiResCAM, shape (n, height, width)."""
    return (found.weight * found.activation).sum(dim=1).relu()


def shapley_cam_e(found: Expansion) -> Tensor:
    """Return ShapleyCAM-E, positive parts element by element, shape (n, height, width)."""
    return (found.weight * found.activation).relu().sum(dim=1)


def _pooled(weight: Tensor, activation: Tensor) -> Tensor:
    return (weight.mean(dim=(2, 3), keepdim=True) * activation).sum(dim=1).relu()


# By name: the map, and whether it needs H A.
ACTIVATION_MAPS: dict[str, tuple[Callable[[Expansion], Tensor], bool]] = {
    "grad-cam": (grad_cam, False),
    "hires-cam": (hires_cam, False),
    "shapley-cam": (shapley_cam, True),
    "shapley-cam-h": (shapley_cam_h, True),
    "shapley-cam-e": (shapley_cam_e, True),
}

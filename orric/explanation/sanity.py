"""Sanity check: maps must change when the weights that they claim to explain are randomised."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from orric.exceptions import ExplanationError
from orric.explanation.evaluation import Array, checked_images, fitted_to
from orric.explanation.explain import explain
from orric.explanation.layers import default_layer


@dataclass(frozen=True)
class Cascade:
    """What became of maps while weights were randomised from the head down.

    Attributes:
        layers: Names of the layers, in the order in which they were randomised.
        correlations: Spearman's rank correlation of every image's map with the one before anything was randomised,
            after each layer, shape (layers, n).
    """

    layers: tuple[str, ...]
    correlations: Array


def randomised_cascade(
    network: nn.Module,
    images: Array | Tensor,
    rng: np.random.Generator,
    method: str = "shapley-cam",
    layer: str | None = None,
    **settings: Any,
) -> Cascade:
    """Randomise a copy's weights layer by layer from the head down, and see the maps change.

    That is the cascading randomisation of Adebayo et al., NeurIPS 2018, section 3.1; layers go in the reverse of the
    order in which the network defines them.

    A method whose maps stay what they were explains the image, not the model. Every weight is drawn anew from a normal
    distribution of its tensor's mean and deviation, so that activations keep their scale; statistics of batch norms
    stay. The classes stay those that the network predicts before.

    Complexity: one set of maps for each layer with weights.

    Args:
        network: Any classifier; left as it was.
        images: Shape (n, channels, height, width).
        rng: Draws the weights.
        method: Name in `METHODS`.
        layer: As for `explain`; chosen once, before anything is randomised.
        **settings: Of `explain`.

    Raises:
        ExplanationError: See `explain`; or the network has no weights.
    """
    twin = copy.deepcopy(network)
    groups = _weights_by_layer(twin)
    if not groups:
        raise ExplanationError("network", "has no weights", "there is nothing to randomise")
    inputs = fitted_to(twin, checked_images(images))
    if layer is None and not method.startswith("moxi"):
        layer = default_layer(twin, inputs)
    before = explain(twin, inputs, method=method, layer=layer, **settings)
    names, correlations = list(reversed(groups)), []
    settings = {**settings, "classes": before.classes}
    for name in names:
        with torch.no_grad():
            for weight in groups[name]:
                _randomise(weight, rng)
        after = explain(twin, inputs, method=method, layer=layer, **settings)
        correlations.append(rank_correlation(before.values, after.values))
    return Cascade(tuple(names), np.stack(correlations))


def rank_correlation(first: Array, second: Array) -> Array:
    """Return Spearman's rank correlation of pairs of maps of shape (n, height, width); 0 where one is constant.

    >>> rank_correlation(np.array([[[1.0, 2.0, 3.0]]]), np.array([[[9.0, 4.0, 1.0]]])).tolist()
    [-1.0]
    """
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    one, other = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    norms = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.asarray(np.divide((one * other).sum(axis=1), norms, out=np.zeros(len(one)), where=norms > 0))


def _weights_by_layer(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the weights of every layer in the order of definition, each once; those of lists stand by themselves."""
    groups: dict[str, list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for name, module in network.named_modules():
        for weight, parameter in module.named_parameters(recurse=False):
            if parameter in seen:
                continue
            seen.add(parameter)
            apart = isinstance(module, (nn.ParameterList, nn.ParameterDict))
            groups.setdefault(f"{name}.{weight}" if apart else name, []).append(parameter)
    return groups


def _randomise(weight: Tensor, rng: np.random.Generator) -> None:
    values = weight.detach().cpu().double()
    deviation = float(values.std(unbiased=False))
    # A tensor of equal values, such as a bias of zeros, has no scale of its own to draw from.
    drawn = rng.normal(float(values.mean()), deviation or 0.1, size=tuple(weight.shape))
    weight.copy_(torch.from_numpy(np.asarray(drawn)))

"""What each sample adds to the gradient of all: exact Shapley values in closed form (CHG Shapley)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.selection.gradients import Array, Gradients
from orric.vision.arrays import Labels


@dataclass(frozen=True)
class _Coefficients:
    """What the closed form multiplies its five terms by, for n samples.

    Attributes:
        norm: Of q_j = |x_j|^2.
        along: Of <x_j, s>, where s is the sum of all x_i.
        norms: Of the sum of all q_i.
        whole: Of |s|^2.
    """

    norm: float
    along: float
    norms: float
    whole: float

    @classmethod
    def of(cls, n: int) -> _Coefficients:
        if n == 1:
            return cls(1.0, 0.0, 0.0, 0.0)
        if n == 2:
            # U(j) = <x_j, s> - q_j and U(all) = |s|^2 / 4, so phi_j = (U(all) + U(j) - U(other)) / 2.
            return cls(-1.0, 1.0, 0.5, -0.375)
        inverse = 1.0 / np.arange(1, n + 1, dtype=np.float64)
        # Smallest first: the sums keep their last digits.
        h1, h2 = float(inverse[::-1].sum()), float((inverse * inverse)[::-1].sum())
        b = 2 * h1 - 2 * h2 - 1 + 1 / n
        pairs, triples = n * (n - 1.0), n * (n - 1.0) * (n - 2.0)
        # With the mean a = s / n the terms in <x_j, a> and <s, a> join those in <x_j, s> and |s|^2.
        return cls(
            norm=-h2 / n + (2 * h1 - 3 * h2 + 1 / n) / pairs + 2 * b / triples,
            along=-2 * (h1 - h2 - 1 / n + 1 / n**2) / ((n - 1.0) * (n - 2.0)) + 2 * (h1 - 1 / n) / pairs,
            norms=(h2 - 1 / n) / pairs - b / triples,
            whole=b / triples - 2 * (h1 - 1) / (n * pairs),
        )


def shapley_values(gradients: Gradients) -> Array:
    """Return the Shapley value of every sample in the game of standing for the mean of all.

    The utility of a set S is U(S) = |a|^2 - |mean_{i in S} x_i - a|^2, where a is the mean of all x_i, and U of the
    empty set is 0 (Cai, arXiv 2406.11730): how far a step along the mean gradient of S goes the way of the step along
    that of all. The values add up to U(all) = |a|^2. Exact, in O(n) products.

    Args:
        gradients: x_1..x_n, at least one: weighted by each sample's loss for CHG Shapley, as they are for Gradient
            Shapley.

    Returns:
        Shape (n,), larger is better; they may be negative.

    >>> from orric.selection.gradients import DenseGradients
    >>> values = shapley_values(DenseGradients(np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])))
    >>> values.round(4).tolist(), round(float(values.sum()), 4)
    ([0.2037, 0.2037, -0.2963], 0.1111)
    """
    found, total, norms = _Coefficients.of(len(gradients)), gradients.total(), gradients.squared_norms()
    common = found.norms * norms.sum() + found.whole * float((total * total).sum())
    return np.asarray(found.norm * norms + found.along * gradients.along(total) + common)


def shapley_values_by_class(gradients: Gradients, labels: Labels) -> Array:
    """Return every sample's Shapley value among those of its own class.

    Args:
        gradients: x_1..x_n.
        labels: Shape (n,).

    Returns:
        Shape (n,). Values of different classes have different scales: compare them within a class.
    """
    values: np.ndarray[Any, np.dtype[np.float64]] = np.empty(len(gradients))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        values[members] = shapley_values(gradients.rows(members))
    return values

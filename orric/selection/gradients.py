"""Gradients of many samples, kept so that sums and products of them cost no more than reading them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from orric.exceptions import SelectionError

Array = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.intp]]
# Rows that are taken into double precision at a time: a few megabytes whatever the number of samples.
BLOCK = 2048


class Gradients(ABC):
    """One vector per sample, x_1..x_n, of which only sums and scalar products are asked."""

    @abstractmethod
    def __len__(self) -> int:
        """Return n."""

    @abstractmethod
    def rows(self, chosen: Indices) -> Gradients:
        """Return those of chosen samples, indices of shape (m,), in that order."""

    @abstractmethod
    def scaled(self, weights: Array) -> Gradients:
        """Return w_i x_i.

        Args:
            weights: Shape (n,).
        """

    @abstractmethod
    def squared_norms(self) -> Array:
        """Return |x_i|^2, shape (n,)."""

    @abstractmethod
    def total(self) -> Array:
        """Return the sum of all x_i, in the shape of a vector."""

    @abstractmethod
    def along(self, vector: Array) -> Array:
        """Return <x_i, v>, shape (n,).

        Args:
            vector: v, in the shape of `total`.
        """

    @abstractmethod
    def products(self) -> Array:
        """Return <x_i, x_j> of all pairs, shape (n, n), in O(n^2) memory."""


class DenseGradients(Gradients):
    """Vectors as they are.

    Args:
        vectors: Shape (n, m), finite.

    Raises:
        SelectionError: The shape is another, or a number is not finite.
    """

    def __init__(self, vectors: np.ndarray[Any, Any]) -> None:
        self._vectors = checked("gradients", vectors, 2)

    def __len__(self) -> int:
        return len(self._vectors)

    def rows(self, chosen: Indices) -> DenseGradients:
        return self._of(self._vectors[chosen])

    def scaled(self, weights: Array) -> DenseGradients:
        return self._of(np.asarray(self._vectors, np.float64) * weights[:, None])

    @classmethod
    def _of(cls, vectors: np.ndarray[Any, Any]) -> DenseGradients:
        """Return gradients that are made of checked ones, without checking them again."""
        made = cls.__new__(cls)
        made._vectors = vectors
        return made

    def squared_norms(self) -> Array:
        return np.concatenate([(part * part).sum(axis=1) for part in _blocks(self._vectors)])

    def total(self) -> Array:
        return np.asarray(sum(part.sum(axis=0) for part in _blocks(self._vectors)))

    def along(self, vector: Array) -> Array:
        return np.concatenate([part @ vector for part in _blocks(self._vectors)])

    def products(self) -> Array:
        vectors = np.asarray(self._vectors, np.float64)
        return vectors @ vectors.T


class OuterGradients(Gradients):
    """Gradients of the last, linear layer: x_i = r_i (f_i, 1)^T, never written out.

    The gradient of the cross-entropy with respect to the layer's weights and bias is the outer product of the residual
    r_i = softmax(z_i) - y_i with what goes into the layer, f_i, and a 1 for the bias. A product of two such is the
    product of two small ones, <x_i, x_j> = <r_i, r_j> (<f_i, f_j> + 1), so n samples of c classes and d features take
    O(n (c + d)) memory instead of O(n c d).

    Args:
        residuals: r, shape (n, classes), finite.
        features: f, shape (n, d), finite.

    Raises:
        SelectionError: The shapes are others, or a number is not finite.
    """

    def __init__(self, residuals: np.ndarray[Any, Any], features: np.ndarray[Any, Any]) -> None:
        self._residuals = checked("residuals", residuals, 2)
        self._features = checked("features", features, 2)
        if len(self._residuals) != len(self._features):
            found = f"there are {len(self._features)} rows of features and {len(self._residuals)} of residuals"
            raise SelectionError("gradients", found, "give one of each per sample")

    def __len__(self) -> int:
        return len(self._residuals)

    def rows(self, chosen: Indices) -> OuterGradients:
        return self._of(self._residuals[chosen], self._features[chosen])

    def scaled(self, weights: Array) -> OuterGradients:
        return self._of(np.asarray(self._residuals, np.float64) * weights[:, None], self._features)

    @classmethod
    def _of(cls, residuals: np.ndarray[Any, Any], features: np.ndarray[Any, Any]) -> OuterGradients:
        """Return gradients that are made of checked ones, without checking them again."""
        made = cls.__new__(cls)
        made._residuals, made._features = residuals, features
        return made

    def squared_norms(self) -> Array:
        return np.concatenate([(r * r).sum(axis=1) * ((f * f).sum(axis=1) + 1) for r, f in self._parts()])

    def total(self) -> Array:
        weights = sum(r.T @ f for r, f in self._parts())
        bias = sum(r.sum(axis=0) for r, _ in self._parts())
        return np.column_stack([np.asarray(weights), np.asarray(bias)])

    def along(self, vector: Array) -> Array:
        return np.concatenate(
            [((r @ vector[:, :-1]) * f).sum(axis=1) + r @ vector[:, -1] for r, f in self._parts()]
        )  # fmt: skip

    def products(self) -> Array:
        residuals, features = np.asarray(self._residuals, np.float64), np.asarray(self._features, np.float64)
        return (residuals @ residuals.T) * (features @ features.T + 1)

    def _parts(self) -> Iterator[tuple[Array, Array]]:
        return zip(_blocks(self._residuals), _blocks(self._features), strict=True)


def _blocks(array: np.ndarray[Any, Any]) -> Iterator[Array]:
    """Yield the rows in double precision, some thousands at a time."""
    for at in range(0, len(array), BLOCK):
        yield np.asarray(array[at : at + BLOCK], np.float64)


def checked(what: str, array: np.ndarray[Any, Any], dimensions: int) -> np.ndarray[Any, Any]:
    """Return an array of numbers that can be calculated with.

    Args:
        what: It is, for messages.
        array: Of floats.
        dimensions: That it must have.

    Raises:
        SelectionError: It is empty, has another number of dimensions, or holds a number that is not finite.
    """
    array = np.asarray(array)
    if array.ndim != dimensions or not array.size:
        remedy = f"give {dimensions} dimensions and at least one sample"
        raise SelectionError(what, f"has the shape {array.shape}", remedy)
    if array.dtype.kind not in "fiu":
        raise SelectionError(what, f"holds {array.dtype}", "give real numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = tuple(int(one) for one in np.argwhere(~np.isfinite(array))[0])
        raise SelectionError(what, f"is {array[place]} for sample {place[0]}", "give finite numbers")
    return array

"""Closed forms against the definition of the Shapley value."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orric.selection.gradients import DenseGradients, OuterGradients
from orric.selection.shapley import shapley_values, shapley_values_by_class


def utility(vectors: np.ndarray, members: tuple[int, ...]) -> float:
    """U(S) = |a|^2 - |mean_S x - a|^2, and 0 for nobody."""
    if not members:
        return 0.0
    mean = vectors.mean(axis=0)
    return float((mean**2).sum() - ((vectors[list(members)].mean(axis=0) - mean) ** 2).sum())


def by_definition(vectors: np.ndarray) -> np.ndarray:
    """Weigh what each sample adds to every set of others."""
    count = len(vectors)
    known = {
        members: utility(vectors, members)
        for size in range(count + 1)
        for members in itertools.combinations(range(count), size)
    }
    values = np.zeros(count)
    for members, worth in known.items():
        inside = set(members)
        for j in range(count):
            if j in inside:
                values[j] += worth / (count * math.comb(count - 1, len(members) - 1))
            else:
                values[j] -= worth / (count * math.comb(count - 1, len(members)))
    return values


def random_vectors(rng: np.random.Generator, count: int) -> np.ndarray:
    """Vectors of one of several kinds: spread, heavy-tailed, far from the middle, duplicates, zeros among them."""
    vectors = rng.normal(size=(count, int(rng.integers(1, 7))))
    kind = rng.integers(5)
    if kind == 1:
        vectors *= np.exp(2 * rng.normal(size=(count, 1)))
    elif kind == 2:
        vectors += 10 * rng.normal(size=vectors.shape[1])
    elif kind == 3:
        vectors[rng.integers(count, size=count)] = vectors[0]
    elif kind == 4:
        vectors[rng.random(count) < 0.4] = 0.0
    return vectors


def test_values_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(20240617)
    for case in range(1000):
        vectors = random_vectors(rng, 1 + case % 10)
        expected, found = by_definition(vectors), shapley_values(DenseGradients(vectors))
        scale = np.abs(expected).max()
        assert np.abs(found - expected).max() <= 1e-10 * scale, case
        # Efficiency: what all achieve together is parted among them.
        mean = vectors.mean(axis=0)
        assert found.sum() == pytest.approx((mean**2).sum(), rel=1e-10, abs=1e-10 * scale)


@given(
    arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 5)), elements=st.floats(-1e3, 1e3)),
    st.randoms(use_true_random=False),
)
def test_properties_of_every_set(vectors: np.ndarray, random) -> None:
    values = shapley_values(DenseGradients(vectors))
    scale = max(float((vectors**2).sum()), 1e-300)
    mean = vectors.mean(axis=0)
    assert abs(values.sum() - (mean**2).sum()) <= 1e-9 * scale
    # Symmetry: a sample's value does not depend on its place, and equal samples have equal ones.
    order = list(range(len(vectors)))
    random.shuffle(order)
    assert np.abs(shapley_values(DenseGradients(vectors[order])) - values[order]).max() <= 1e-9 * scale
    twice = shapley_values(DenseGradients(np.concatenate([vectors, vectors])))
    assert np.abs(twice[: len(vectors)] - twice[len(vectors) :]).max() <= 1e-9 * scale
    # Twice the gradients are worth four times as much.
    assert np.abs(shapley_values(DenseGradients(2 * vectors)) - 4 * values).max() <= 1e-9 * scale


def test_outer_products_are_never_written_out_and_give_the_same() -> None:
    rng = np.random.default_rng(1)
    residuals, features = rng.normal(size=(5000, 4)), rng.normal(size=(5000, 7))
    inputs = np.column_stack([features, np.ones(5000)])
    dense = DenseGradients((residuals[:, :, None] * inputs[:, None, :]).reshape(5000, -1))
    outer, weights = OuterGradients(residuals, features), rng.random(5000)
    for one, other in ((outer, dense), (outer.scaled(weights), dense.scaled(weights))):
        np.testing.assert_allclose(shapley_values(one), shapley_values(other), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(one.total().ravel(), other.total(), rtol=1e-9, atol=1e-9)
        some = np.array([3, 1, 4, 1])
        np.testing.assert_allclose(one.rows(some).products(), other.rows(some).products(), rtol=1e-9)
        np.testing.assert_allclose(one.squared_norms(), other.squared_norms(), rtol=1e-9)


def test_classes_play_games_of_their_own() -> None:
    rng = np.random.default_rng(2)
    vectors, labels = rng.normal(size=(40, 3)), rng.integers(0, 4, 40)
    labels[labels == 3] = 2
    labels[7] = 3  # alone in its class
    values = shapley_values_by_class(DenseGradients(vectors), labels)
    for label in range(4):
        mine = labels == label
        np.testing.assert_array_equal(values[mine], shapley_values(DenseGradients(vectors[mine])))
    assert values[7] == pytest.approx((vectors[7] ** 2).sum())


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_nothing_is_worth_nothing(count: int) -> None:
    values = shapley_values(DenseGradients(np.zeros((count, 2))))
    assert np.array_equal(values, np.zeros(count))


def test_many_samples_lose_no_digits() -> None:
    rng = np.random.default_rng(3)
    gradients = DenseGradients(rng.normal(size=(200_000, 2)) + 0.1)
    values, total = shapley_values(gradients), gradients.total()
    assert values.sum() == pytest.approx((total**2).sum() / len(gradients) ** 2, rel=1e-9)

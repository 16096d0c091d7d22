"""Every selector keeps its word, whatever the candidates; and each does what it says."""

from __future__ import annotations

import itertools
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orric
from orric.real_models import SelectorFigures
from orric.selection import SELECTORS, selector
from orric.selection.base import Selector, apportioned, best_first, interleaved
from orric.selection.candidates import Candidates
from orric.selection.sampling import Sampling
from orric.selection.shapley import shapley_values
from orric.selection.valued import hardened

every_selector = pytest.mark.parametrize("name", list(SELECTORS))


def candidates_of(count: int, classes: int = 4, seed: int = 0, labels: bool = True) -> Candidates:
    rng = np.random.default_rng(seed)
    features, logits = rng.normal(size=(count, 6)), 2 * rng.normal(size=(count, classes))
    told = rng.integers(0, classes, count) if labels else None
    return Candidates(features.astype(np.float32), logits.astype(np.float32), told)


@every_selector
@given(st.integers(1, 40), st.floats(0, 1), st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_it_chooses_as_many_as_asked_each_once(name, count, part, classes, kind, labelled) -> None:
    made = candidates_of(count, classes, count, labelled)
    if kind == 1:  # all the same
        made = Candidates(np.ones((count, 3)), np.zeros((count, classes)), np.zeros(count, np.int64))
    elif kind == 2:  # sure beyond doubt: gradients of zero
        logits = np.full((count, classes), -1e4)
        logits[:, 0] = 0
        made = Candidates(np.zeros((count, 3)), logits, np.zeros(count, np.int64))
    elif kind == 3:  # sure and wrong: gradients as large as they become
        logits = np.full((count, classes), -1e30)
        logits[:, -1] = 1e30
        made = Candidates(1e8 * np.ones((count, 3)), logits, np.zeros(count, np.int64))
    wanted = round(part * count)
    chosen = SELECTORS[name].select(made, wanted, np.random.default_rng(1))
    assert chosen.shape == (wanted,)
    assert len(np.unique(chosen)) == wanted
    assert wanted == 0 or (chosen.min() >= 0 and chosen.max() < count)


@every_selector
def test_the_same_generator_gives_the_same_choice_and_nothing_is_changed(name) -> None:
    made = candidates_of(50)
    before = [array.copy() for array in (made.features, made.logits, made.labels)]
    first = SELECTORS[name].select(made, 20, np.random.default_rng(3))
    np.testing.assert_array_equal(first, SELECTORS[name].select(made, 20, np.random.default_rng(3)))
    for array, kept in zip((made.features, made.logits, made.labels), before, strict=True):
        np.testing.assert_array_equal(array, kept)


@every_selector
def test_every_sample_is_as_likely_among_equals(name) -> None:
    count, draws, wanted = 12, 300, 6
    made = Candidates(np.ones((count, 3)), np.zeros((count, 2)), np.zeros(count, np.int64))
    rng = np.random.default_rng(4)
    found = np.bincount(np.concatenate([SELECTORS[name].select(made, wanted, rng) for _ in range(draws)]))
    assert found.min() > draws * wanted / count * 0.75


@every_selector
@pytest.mark.parametrize("count", [-1, 11])
def test_more_than_there_are_is_refused(name, count) -> None:
    with pytest.raises(orric.SelectionError, match=r"asked for .* of 10 samples"):
        SELECTORS[name].select(candidates_of(10), count, np.random.default_rng(0))


def test_the_best_of_each_class_come_first() -> None:
    made = candidates_of(60)
    for name, scores in (
        ("hardness-shapley", made.losses),
        ("gradient-shapley", None),
        ("chg-shapley", None),
    ):
        chosen = SELECTORS[name].select(made, 20, np.random.default_rng(0))
        for label in range(4):
            members = np.flatnonzero(made.labels == label)
            if scores is None:
                gradients = made.gradients if name == "gradient-shapley" else hardened(made)
                values = shapley_values(gradients.rows(members))
            else:
                values = scores[members]
            mine = chosen[made.labels[chosen] == label]
            assert abs(len(mine) - len(members) / 3) < 1
            np.testing.assert_array_equal(mine, members[np.argsort(-values)][: len(mine)])


def test_the_unsure_come_first() -> None:
    logits = np.array([[9.0, 0.0, 0.0], [0.1, 0.0, -9.0], [0.4, 0.3, 0.2], [2.0, 1.0, 0.0]])
    made = Candidates(np.ones((4, 2)), logits, np.array([0, 0, 0, 2]))
    rng = np.random.default_rng(0)
    assert SELECTORS["margin"].select(made, 2, rng).tolist() == [2, 1]
    assert SELECTORS["entropy"].select(made, 1, rng).tolist() == [2]
    assert SELECTORS["loss"].select(made, 2, rng).tolist() == [3, 2]


def test_without_labels_the_student_judges_by_its_own_predictions() -> None:
    made = candidates_of(30, labels=False)
    np.testing.assert_array_equal(made.labels, made.logits.argmax(axis=1))
    np.testing.assert_allclose(made.losses, -made.log_probabilities.max(axis=1))


def test_classes_are_balanced_as_far_as_there_are_samples() -> None:
    labels = np.repeat([0, 1, 2], [2, 30, 30])
    made = Candidates(np.ones((62, 2)), np.zeros((62, 3)), labels)
    chosen = SELECTORS["class-balanced"].select(made, 22, np.random.default_rng(0))
    assert np.bincount(labels[chosen]).tolist() == [2, 10, 10]


def test_uniform_is_what_the_loop_always_drew() -> None:
    chosen = SELECTORS["uniform"].select(candidates_of(20), 7, np.random.default_rng(5))
    np.testing.assert_array_equal(chosen, np.random.default_rng(5).permutation(20)[:7])


def test_k_center_is_within_twice_the_best_radius() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        made = Candidates(rng.normal(size=(9, 2)), np.zeros((9, 2)), np.zeros(9, np.int64))

        def radius(centres, points=made.features) -> float:
            return float(np.sqrt(((points[:, None] - points[list(centres)]) ** 2).sum(axis=2)).min(axis=1).max())

        best = min(radius(centres) for centres in itertools.combinations(range(9), 3))
        assert radius(SELECTORS["k-center"].select(made, 3, rng)) <= 2 * best + 1e-12


def test_craig_covers_nearly_as_much_as_can_be() -> None:
    for seed in range(20):
        made = candidates_of(9, classes=2, seed=seed)
        made = Candidates(made.features, made.logits, np.zeros(9, np.int64))
        products = made.gradients.products()
        norms = np.diag(products)
        distances = np.sqrt(np.maximum(norms[:, None] + norms - 2 * products, 0))
        nearness = distances.max() - distances

        def covered(chosen, nearness=nearness) -> float:
            return float(nearness[:, list(chosen)].max(axis=1).sum())

        best = max(covered(chosen) for chosen in itertools.combinations(range(9), 3))
        assert covered(SELECTORS["craig"].select(made, 3, np.random.default_rng(0))) >= (1 - 1 / np.e) * best


def test_grad_match_matches_better_than_chance() -> None:
    better = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        made = candidates_of(60, classes=3, seed=seed)
        made = Candidates(made.features, made.logits, np.zeros(60, np.int64))
        mean = made.gradients.total() / 60

        def missed(chosen, made=made, mean=mean) -> float:
            """How far the mean gradient is from the span of the chosen ones."""
            rows = np.array([made.gradients.rows(np.array([one])).total().ravel() for one in chosen])
            fit = np.linalg.lstsq(rows.T, mean.ravel(), rcond=None)[0]
            return float(((fit @ rows - mean.ravel()) ** 2).sum())

        matched = SELECTORS["grad-match"].select(made, 6, rng)
        better += missed(matched) < np.median([missed(rng.permutation(60)[:6]) for _ in range(9)])
    assert better >= 18


def test_parts_add_up() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = [int(size) for size in rng.integers(1, 20, rng.integers(1, 8))]
        count = int(rng.integers(0, sum(sizes) + 1))
        parts = apportioned(sizes, count)
        assert sum(parts) == count
        assert all(abs(part - size * count / sum(sizes)) < 1 for part, size in zip(parts, sizes, strict=True))


def test_orders_keep_their_order() -> None:
    assert interleaved([np.array([4, 2, 9, 7]), np.array([1, 3])]).tolist() == [4, 1, 2, 9, 3, 7]
    assert interleaved([]).tolist() == []
    assert best_first(np.array([1.0, 3.0, 2.0]), np.random.default_rng(0)).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("features", "logits", "labels", "words"),
    [
        (np.ones((0, 2)), np.ones((0, 2)), None, "at least one sample"),
        (np.ones(4), np.ones((4, 2)), None, "shape"),
        (np.ones((4, 2)), np.ones((3, 2)), None, "3 of logits"),
        (np.array([[1.0, np.nan]]), np.ones((1, 2)), None, "features: is nan for sample 0"),
        (np.ones((2, 1)), np.array([[0.0, 1.0], [np.inf, 0.0]]), None, "logits: is inf for sample 1"),
        (np.ones((2, 1)), np.ones((2, 2)), np.array([0, 2]), "is 2 for sample 1; give indices of classes, 0 to 1"),
        (np.ones((2, 1)), np.ones((2, 2)), np.array([0.0, 1.0]), "whole numbers"),
        (np.array([["a"]]), np.ones((1, 2)), None, "real numbers"),
    ],
)
def test_unusable_candidates_are_refused(features, logits, labels, words) -> None:
    with pytest.raises(orric.SelectionError, match=words):
        Candidates(features, logits, labels)


def test_an_unknown_selector_is_told_the_nearest() -> None:
    with pytest.raises(orric.SelectionError, match="did you mean 'chg-shapley'"):
        selector("chg-shaply")
    assert selector("loss") is SELECTORS["loss"]


class Last(Selector):
    name = "last"

    def _select(self, candidates, count, rng):
        return np.arange(len(candidates))[::-1][:count]


@pytest.mark.parametrize(
    ("value", "words"),
    [("Last", None), ("SELECTORS", "cannot be loaded"), ("np", "cannot be loaded"), ("Candidates", "cannot be loaded")],
)
def test_other_packages_register_theirs(monkeypatch, value, words) -> None:
    point = EntryPoint("last", f"{__name__}:{value}", "orric.selectors")
    monkeypatch.setattr("orric.selection._installed", lambda: {"last": point})
    figures = SelectorFigures(method="last")
    if words is None:
        assert selector("last").select(candidates_of(5), 2, np.random.default_rng(0)).tolist() == [4, 3]
        assert isinstance(Sampling.by(0.1, figures).selector, Last)
    else:
        with pytest.raises(orric.SelectionError, match=words):
            selector("last")
        with pytest.raises(orric.ProfileError, match=words):
            Sampling.by(0.1, figures)


def test_what_is_registered_must_be_a_selector(monkeypatch) -> None:
    point = EntryPoint("odd", "collections:OrderedDict", "orric.selectors")
    monkeypatch.setattr("orric.selection._installed", lambda: {"odd": point})
    with pytest.raises(orric.SelectionError, match="is of the type OrderedDict; inherit from"):
        selector("odd")

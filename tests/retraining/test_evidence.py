"""What a comparison finds, how many samples that takes, and what speaks against a new student."""

from __future__ import annotations

import numpy as np
import pytest

from orric.retraining.evidence import (
    AnchorComparison,
    Comparison,
    beyond_chance,
    fewest_compared,
    fewest_trained,
    objection,
)

FEWEST = 50


@pytest.mark.parametrize(("loss", "power"), [(0.1, 0.8), (0.2, 0.9), (0.3, 0.95), (0.5, 0.9)])
def test_as_many_samples_find_a_loss_as_often_as_wished(loss: float, power: float) -> None:
    count = fewest_compared(loss, power)
    lost = np.random.default_rng(1).binomial(count, loss, 20_000)
    found = np.mean([beyond_chance(int(one), 0, count) > 0 for one in lost])
    assert found >= power - 0.01
    fewer = np.random.default_rng(1).binomial(count - 2, loss, 20_000)
    assert np.mean([beyond_chance(int(one), 0, count - 2) > 0 for one in fewer]) < power, "and no more than that"


def test_a_difference_within_chance_counts_for_nothing() -> None:
    assert beyond_chance(0, 0, 0) == 0
    assert beyond_chance(4, 1, 100) < 0
    assert beyond_chance(30, 2, 100) == pytest.approx(0.28 - 0.02 * 32**0.5)
    assert Comparison(10, 3, 1) + Comparison(5, 0, 2) == Comparison(15, 3, 3)


@pytest.mark.parametrize(("error", "count"), [(0.25, 16), (0.5, 4), (1.0, 1), (0.1, 100)])
def test_statistics_need_as_many_samples_as_their_error_says(error: float, count: int) -> None:
    assert fewest_trained(error) == count


def of_anchors(given: Comparison, serving: Comparison) -> AnchorComparison:
    return AnchorComparison(given, serving, given.count - given.lost)


def test_what_speaks_against_a_new_student() -> None:
    good = of_anchors(Comparison(100, 3, 0), Comparison(100, 1, 1))
    forgetful = of_anchors(Comparison(100, 40, 0), Comparison(100, 30, 0))
    recovering = of_anchors(Comparison(100, 40, 0), Comparison(100, 2, 20))
    assert objection(Comparison(4), good, FEWEST, 0.05, 0.1) is None, "anchors are evidence"
    assert "4 samples and 50 are needed" in str(objection(Comparison(4), None, FEWEST, 0.05, 0.1))
    assert objection(Comparison(50), None, FEWEST, 0.05, 0.1) is None
    assert "held-out" in str(objection(Comparison(50, 20, 1), good, FEWEST, 0.05, 0.1))
    assert "anchor set" in str(objection(Comparison(50, 0, 30), forgetful, FEWEST, 0.05, 0.1))
    assert objection(Comparison(50, 0, 30), recovering, FEWEST, 0.05, 0.1) is None, "it is better than what serves"

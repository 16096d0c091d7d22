"""Intervals keep their word, also where the number of runs was chosen by looking at the first of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import bootstrap, ttest_rel

from orric.statistics import bootstrap_interval, difference_p, holm, in_words, mean_interval, over_seeds
from orric.sweep.precision import most_needed

REPETITIONS = 1000
DRAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, count: rng.normal(1.0, 0.5, count),
    # Skewness 1, as of accuracies that a rare bad slot spoils.
    "skewed": lambda rng, count: rng.gamma(4.0, 0.25, count),
}


def covered(inside: int) -> bool:
    """Say whether a count of hits is one of 93 to 97 %."""
    return 0.93 <= inside / REPETITIONS <= 0.97


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_intervals_hold_the_true_mean_as_often_as_they_say(draw) -> None:
    rng = np.random.default_rng(2)
    found = [mean_interval(draw(rng, 30)) for _ in range(REPETITIONS)]
    assert covered(sum(one.low <= 1.0 <= one.high for one in found))


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("half_width", [0.08, 0.15])
def test_so_they_do_where_the_spread_chose_the_number(draw, half_width: float) -> None:
    rng, inside, within, counts = np.random.default_rng(3), 0, 0, []
    for _ in range(REPETITIONS):
        pilot = draw(rng, 30)
        count = most_needed(pilot[None], half_width, 10_000)
        values = np.concatenate([pilot, draw(rng, count - 30)])
        interval = mean_interval(values, pilot=30)
        inside += interval.low <= 1.0 <= interval.high
        within += interval.half_width <= half_width * (1 + 1e-9)
        counts.append(count)
    assert covered(inside)
    assert within == REPETITIONS, "as exact as was asked for"
    assert min(counts) >= 30
    assert max(counts) > 30


def test_the_naive_stop_would_not_keep_its_word() -> None:
    """Adding runs until the interval looks narrow enough stops where the spread is small by chance."""
    rng, inside = np.random.default_rng(4), 0
    for _ in range(REPETITIONS):
        values = rng.normal(1.0, 0.5, 3)
        while mean_interval(values).half_width > 0.4 and len(values) < 1000:
            values = np.append(values, rng.normal(1.0, 0.5))
        interval = mean_interval(values)
        inside += interval.low <= 1.0 <= interval.high
    assert inside / REPETITIONS < 0.93


def test_bootstrap_and_paired_test_are_scipys() -> None:
    rng = np.random.default_rng(5)
    one, other = rng.normal(0, 1, 25), rng.normal(0.3, 1, 25)
    found = bootstrap_interval(one - other, np.random.default_rng(6))
    expected = bootstrap((one - other,), np.mean, n_resamples=2000, rng=np.random.default_rng(6)).confidence_interval
    assert (found.low, found.high) == (expected.low, expected.high)
    assert difference_p(one - other) == pytest.approx(ttest_rel(one, other).pvalue)


def test_failed_runs_and_too_few_of_them() -> None:
    assert mean_interval([1.0, np.nan, 3.0]).mean == 2.0
    one = mean_interval([4.0])
    assert (one.mean, one.count) == (4.0, 1)
    assert np.isnan(one.low)
    assert not one.beyond_chance
    assert mean_interval([np.nan]).count == 0
    assert np.isnan(difference_p([1.0]))
    assert difference_p([0.0, 0.0]) == 1.0
    assert np.isnan(difference_p([0.1, 0.1, 0.1])), "though their mean rounds to another number"
    assert np.isnan(over_seeds([0.1, 0.1, 0.1]).low)
    assert over_seeds([0.1, 0.1, 0.2]) == mean_interval([0.1, 0.1, 0.2])
    assert bootstrap_interval([2.0, 2.0], np.random.default_rng(1)).low == 2.0


def test_holm_and_words() -> None:
    assert holm([0.01, float("nan"), 0.02]) == [0.02, pytest.approx(float("nan"), nan_ok=True), 0.02]
    assert "23%" in in_words(5)

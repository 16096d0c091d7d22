"""Latencies in buckets: the stated error, merging, and what lies outside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orric.latency import BUCKETS, LEAST, MOST, RELATIVE_ERROR, LatencyHistogram, bucket_of

latencies = st.lists(st.floats(LEAST, MOST, exclude_max=True), min_size=1, max_size=200)


@given(values=latencies, part=st.floats(0, 1))
def test_quantiles_are_right_to_the_stated_error(values: list[float], part: float) -> None:
    exact = np.quantile(values, part, method="inverted_cdf")
    assert LatencyHistogram.of(values).quantile(part) == pytest.approx(exact, rel=RELATIVE_ERROR)


def test_the_stated_error_is_below_one_percent() -> None:
    assert RELATIVE_ERROR < 0.01


@given(one=latencies, other=latencies)
def test_merged_is_as_counted_together(one: list[float], other: list[float]) -> None:
    merged = LatencyHistogram.merged([LatencyHistogram.of(one), LatencyHistogram.of(other)])
    together = LatencyHistogram.of(one + other)
    assert merged.counts.tolist() == together.counts.tolist()
    assert merged.mean_s == pytest.approx(np.mean(one + other))


@given(values=latencies)
def test_buckets_ascend_with_the_latency(values: list[float]) -> None:
    assert (np.diff(bucket_of(np.sort(values))) >= 0).all()


def test_what_lies_outside_falls_into_the_outermost_buckets() -> None:
    assert bucket_of(np.array([0.0, 1e-12, LEAST, MOST, 1e12])).tolist() == [0, 0, 1, BUCKETS - 1, BUCKETS - 1]
    assert LatencyHistogram.of([0.0]).quantile(1.0) == 0.0


def test_nothing_has_no_quantile_and_no_mean() -> None:
    assert np.isnan(LatencyHistogram().quantile(0.5))
    assert np.isnan(LatencyHistogram().mean_s)
    assert [len(part) for part in LatencyHistogram().distribution()] == [0, 0]


def test_the_distribution_ends_at_one() -> None:
    x, part = LatencyHistogram.of([0.1, 0.1, 3.0]).distribution()
    assert x == pytest.approx([0.1, 3.0], rel=RELATIVE_ERROR)
    assert part.tolist() == [2 / 3, 1.0]

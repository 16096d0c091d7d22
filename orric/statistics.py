"""Intervals and comparisons over seeds: what a sweep may claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
DRAWS = 2000
TIE = 0.0005 + 1e-12  # mean accuracies this close count as equal: 0.05 points

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Interval:
    """A mean and where the true one lies.

    Attributes:
        mean: Of the values.
        low: Lower end, NaN for fewer than two values.
        high: Upper end.
        count: How many independent values there are.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval leaves 0 out."""
        return bool(self.low > 0 or self.high < 0)


def mean_interval(values: Sequence[float] | Array, level: float = LEVEL, pilot: int | None = None) -> Interval:
    """Return the mean with Student's interval.

    Args:
        values: Independent values; NaN, a run that failed, is left out.
        level: Probability that the interval holds the true mean.
        pilot: Where the number of values was chosen by the spread of the first of them: how many these are. The spread
            and its degrees of freedom are then those of the pilot alone (Stein 1945).

    >>> one = mean_interval([1.0, 2.0, 3.0])
    >>> one.mean, round(one.low, 3), round(one.high, 3)
    (2.0, -0.484, 4.484)
    """
    from scipy.stats import t

    known = np.asarray(values, float)
    first = known[:pilot] if pilot is not None else known
    known, first = known[np.isfinite(known)], first[np.isfinite(first)]
    if not len(known):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(known.mean())
    if len(first) < 2:
        return Interval(mean, float("nan"), float("nan"), len(known))
    reach = float(t.ppf((1 + level) / 2, len(first) - 1) * _spread(first) / np.sqrt(len(known)))
    return Interval(mean, mean - reach, mean + reach, len(known))


def _spread(values: Array) -> float:
    """Return the standard deviation: what is equal but for the rounding of its mean does not spread."""
    return 0.0 if np.ptp(values) == 0 else float(values.std(ddof=1))


def over_seeds(values: Sequence[float] | Array, pilot: int | None = None) -> Interval:
    """Return what `mean_interval` does; of equal values, which seeds did not change and which are one run, no ends.

    Zeros keep theirs: that nothing was late, or that two decided the same, holds under every seed.

    Args:
        values: One for each seed; NaN is left out.
        pilot: As in `mean_interval`.

    >>> over_seeds([0.7, 0.7]), over_seeds([0.0, 0.0])
    (Interval(mean=0.7, low=nan, high=nan, count=2), Interval(mean=0.0, low=0.0, high=0.0, count=2))
    """
    found = mean_interval(values, pilot=pilot)
    return Interval(found.mean, np.nan, np.nan, found.count) if found.low == found.high != 0 else found


def rows_over_seeds(values: Array, pilot: int | None = None) -> tuple[Array, Array, Array, Array]:
    """Return what `over_seeds` returns of every row of an array at once, as `mean_intervals` does."""
    mean, low, high, count = mean_intervals(values, pilot)
    alike = (low == high) & (mean != 0)
    return mean, np.where(alike, np.nan, low), np.where(alike, np.nan, high), count


def mean_intervals(values: Array, pilot: int | None = None) -> tuple[Array, Array, Array, Array]:
    """Return what `mean_interval` returns of every row of an array at once.

    Args:
        values: Independent values along the last axis; NaN is left out.
        pilot: As in `mean_interval`.

    Returns:
        Means, lower and upper ends, and numbers of values, each of the shape of `values` without its last axis.

    >>> mean, low, high, count = mean_intervals(np.array([[1.0, 2.0, 3.0], [5.0, np.nan, np.nan]]))
    >>> mean.tolist(), low.round(3).tolist(), count.tolist()
    ([2.0, 5.0], [-0.484, nan], [3.0, 1.0])
    """
    from scipy.stats import t

    mean, error, count, freedom = _means_and_errors(values, pilot)
    quantiles = np.asarray(t.ppf((1 + LEVEL) / 2, np.arange(values.shape[-1])))
    reach = np.where(freedom > 0, quantiles[freedom.astype(int)] * error, np.nan)
    return mean, mean - reach, mean + reach, count


def difference_ps(differences: Array, pilot: int | None = None) -> Array:
    """Return what `difference_p` returns of every row of an array at once.

    >>> difference_ps(np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])).round(4).tolist()
    [0.0742, 1.0, nan]
    """
    from scipy.stats import t

    mean, error, _, freedom = _means_and_errors(differences, pilot)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = 2 * t.sf(np.abs(mean) / error, np.maximum(freedom, 1))
    found = np.where(error > 0, drawn, np.where(mean == 0, 1.0, np.nan))
    return np.asarray(np.where(freedom > 0, found, np.nan))


def _means_and_errors(values: Array, pilot: int | None) -> tuple[Array, Array, Array, Array]:
    """Return means, their standard errors, numbers of values and degrees of freedom along the last axis."""
    first = values[..., :pilot] if pilot is not None else values
    count, begun = (np.isfinite(some).sum(axis=-1).astype(float) for some in (values, first))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(np.isfinite(values), values, 0.0).sum(axis=-1) / count
        centre = np.where(np.isfinite(first), first, 0.0).sum(axis=-1) / begun
        apart = np.where(np.isfinite(first), first - centre[..., None], 0.0)
        # What is equal but for the rounding of its mean does not spread.
        alike = np.nanmax(np.where(np.isfinite(first), first, -np.inf), axis=-1, initial=-np.inf) == np.nanmin(
            np.where(np.isfinite(first), first, np.inf), axis=-1, initial=np.inf
        )
        error = np.where(alike, 0.0, np.sqrt((apart**2).sum(axis=-1) / (begun - 1) / count))
    return mean, error, count, np.maximum(begun - 1, 0.0)


def foremost(means: Mapping[str, float], preferred: str, aside: Iterable[str] = ()) -> str | None:
    """Return who has the largest mean: the preferred one where it ties with the largest, within `TIE`.

    Args:
        means: By name; NaN is passed over.
        preferred: Who comes first of those that tie.
        aside: Who is passed over.

    >>> foremost({"orric": 0.9, "other": 0.9002, "reference": 1.0}, "orric", ["reference"])
    'orric'
    """
    known = {name: mean for name, mean in means.items() if name not in {*aside} and np.isfinite(mean)}
    if not known:
        return None
    best = max(known, key=lambda name: known[name])
    return preferred if known.get(preferred, -np.inf) >= known[best] - TIE else best


def bootstrap_interval(
    values: Sequence[float] | Array, rng: np.random.Generator, level: float = LEVEL, draws: int = DRAWS
) -> Interval:
    """Return the mean with the bias-corrected and accelerated bootstrap interval (Efron 1987), for skewed values.

    Args:
        values: Independent values; NaN is left out.
        rng: Draws.
        level: Probability that the interval holds the true mean.
        draws: How many samples are drawn.
    """
    from scipy.stats import bootstrap

    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    mean = float(known.mean()) if len(known) else float("nan")
    if len(known) < 2:
        return Interval(mean, float("nan"), float("nan"), len(known))
    if np.ptp(known) == 0:
        return Interval(mean, mean, mean, len(known))
    found = bootstrap((known,), np.mean, confidence_level=level, n_resamples=draws, method="BCa", rng=rng)
    low, high = found.confidence_interval
    return Interval(mean, float(low), float(high), len(known))


def difference_p(differences: Sequence[float] | Array, pilot: int | None = None) -> float:
    """Return the probability of a paired difference as large as this by chance (Student's test).

    It is NaN below two values, and where all of them are the same: seeds that change nothing say nothing of chance.

    Args:
        differences: Independent values; NaN is left out.
        pilot: As in `mean_interval`, so that a difference is beyond chance where its interval leaves 0 out.

    >>> round(difference_p([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    from scipy.stats import t

    known = np.asarray(differences, float)
    first = known[:pilot] if pilot is not None else known
    known, first = known[np.isfinite(known)], first[np.isfinite(first)]
    if len(first) < 2:
        return float("nan")
    spread = _spread(first) / np.sqrt(len(known))
    if spread == 0:
        return 1.0 if known.mean() == 0 else float("nan")
    return float(2 * t.sf(abs(known.mean()) / spread, len(first) - 1))


def holm(probabilities: Sequence[float]) -> list[float]:
    """Return probabilities adjusted for being several (Holm 1979); NaN stays.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    known = [index for index, one in enumerate(probabilities) if np.isfinite(one)]
    found, largest = [float("nan")] * len(probabilities), 0.0
    for rank, index in enumerate(sorted(known, key=lambda index: probabilities[index])):
        largest = max(largest, min((len(known) - rank) * probabilities[index], 1.0))
        found[index] = largest
    return found


def in_words(comparisons: int, level: float = LEVEL) -> str:
    """Say what several comparisons do to a claim of chance.

    >>> in_words(1)
    ''
    """
    if comparisons < 2:
        return ""
    chance = 1 - level**comparisons
    return (
        f"Of {comparisons} comparisons at {level:.0%} each, one or more would show a difference by chance alone with a "
        f"probability of up to {chance:.0%}; those called beyond chance stay so after Holm's correction."
    )

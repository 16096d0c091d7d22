"""Latencies counted in buckets: mergeable, of constant size, and right to half a percent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

Array = np.ndarray[Any, Any]
# A bucket holds the floating-point numbers that agree in the exponent and the leading bits of the fraction, so that
# its number is cut from a number's own bits. 2^-7 of relative width makes the middle of a bucket right to 2^-8.
FRACTION_BITS = 7
SHIFT = 52 - FRACTION_BITS
# From a nanosecond to half a year; the first bucket takes all below, the last all above.
LEAST, MOST = 2.0**-30, 2.0**24
FIRST = int(np.float64(LEAST).view(np.int64) >> SHIFT) - 1
BUCKETS = int(np.float64(MOST).view(np.int64) >> SHIFT) - FIRST + 1
RELATIVE_ERROR = 2.0 ** -(FRACTION_BITS + 1)


def bucket_of(latencies_s: Array) -> Array:
    """Return the bucket of every latency (at least 0), same shape."""
    numbers = np.ascontiguousarray(latencies_s, np.float64).view(np.int64) >> SHIFT
    buckets: Array = np.clip(numbers - FIRST, 0, BUCKETS - 1)
    return buckets


def _middles() -> Array:
    """Return the latency that stands for each bucket, in seconds, shape (BUCKETS,)."""
    edges = (np.arange(FIRST + 1, FIRST + BUCKETS + 1) << SHIFT).view(np.float64)
    return np.concatenate([[0.0], (edges[:-1] + edges[1:]) / 2])


MIDDLES_S = _middles()


@dataclass(eq=False)
class LatencyHistogram:
    """How many latencies fell into each of several thousand buckets.

    Quantiles are those of the counted latencies with a relative error of at most 0.4 % (`RELATIVE_ERROR`) from a
    nanosecond to half a year; means are exact. Histograms of streams, slots or processes are added by `merged`.

    Attributes:
        counts: Number of latencies per bucket, shape (BUCKETS,).
        total_s: Sum of the latencies.

    >>> histogram = LatencyHistogram.of([0.1] * 98 + [1.0, 2.0])
    >>> len(histogram), round(histogram.quantile(0.5), 2), round(histogram.quantile(0.99), 1)
    (100, 0.1, 1.0)
    """

    counts: Array = field(default_factory=lambda: np.zeros(BUCKETS, np.int64))
    total_s: float = 0.0

    @classmethod
    def of(cls, latencies_s: Any) -> Self:
        """Count latencies, in seconds, shape (n,)."""
        values = np.asarray(latencies_s, np.float64)
        return cls(np.bincount(bucket_of(values), minlength=BUCKETS), float(values.sum()))

    @classmethod
    def merged(cls, parts: Iterable[LatencyHistogram]) -> Self:
        """Add histograms up."""
        whole = cls()
        for part in parts:
            whole.counts = whole.counts + part.counts
            whole.total_s += part.total_s
        return whole

    def __len__(self) -> int:
        """Return how many latencies were counted."""
        return int(self.counts.sum())

    @property
    def mean_s(self) -> float:
        """Their mean, NaN of none."""
        return self.total_s / len(self) if len(self) else float("nan")

    def quantile(self, part: float) -> float:
        """Return the least latency that at least `part` (in [0, 1]) of all do not exceed, in seconds; NaN of none."""
        found: float = self.quantiles([part])[0]
        return found

    def quantiles(self, parts: Any) -> list[float]:
        """Return several quantiles at once."""
        upto = np.cumsum(self.counts)
        if not upto[-1]:
            return [float("nan")] * len(parts)
        ranks = np.maximum(np.ceil(np.asarray(parts) * upto[-1]), 1)
        found: list[float] = MIDDLES_S[np.searchsorted(upto, ranks)].tolist()
        return found

    def distribution(self) -> tuple[Array, Array]:
        """Return latencies, ascending, and which part of all does not exceed each; shape (buckets in use,) both."""
        used = np.flatnonzero(self.counts)
        return MIDDLES_S[used], np.cumsum(self.counts[used]) / max(len(self), 1)

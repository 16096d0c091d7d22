"""Requests counted over intervals of equal length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from orric.csv_rows import MOST_WHOLE
from orric.exceptions import TraceError
from orric.timestamps import Timestamps, demand_part, demand_positive, demand_slots

Counts = np.ndarray[Any, np.dtype[np.int64]]
# Timestamps take memory, 8 bytes each and some times that while they are made.
MOST_TIMESTAMPS = 100_000_000


@dataclass(frozen=True, eq=False)
class IntervalCounts:
    """How many requests arrive in each interval of a public trace that holds no single times.

    Attributes:
        requests: Whole numbers at least 0, shape (intervals,); some interval has requests.
        interval_s: Length of an interval in seconds.
        source: Where the counts came from, for error messages.
        facts: What else is to be told of the file.

    Raises:
        TraceError: There is no interval or no request, or a number cannot be used.

    >>> minutes = IntervalCounts(requests=[3, 0, 1, 4], interval_s=60.0)
    >>> minutes.counts(slot_s=120.0).tolist()
    [3, 5]
    >>> minutes.timestamps().arrival_s.tolist()
    [10.0, 30.0, 50.0, 150.0, 187.5, 202.5, 217.5, 232.5]
    """

    requests: Counts
    interval_s: float
    source: str = "counts"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        demand_positive(self.interval_s, f"{self.source}: interval_s")
        try:
            given = np.array(self.requests, dtype=np.float64)
        except (TypeError, ValueError):
            raise TraceError(self.source, "requests is not an array of numbers", "give one per interval") from None
        if given.ndim != 1 or not given.size:
            raise TraceError(self.source, f"requests has shape {given.shape}", "give one number per interval")
        bad = np.flatnonzero(~((given >= 0) & (given <= MOST_WHOLE) & (given == np.floor(given))))
        if bad.size:
            where = f"{self.source}: interval {bad[0] + 1}: requests"
            raise TraceError(where, f"found {given[bad[0]]:g}", "give a whole number >= 0")
        if not 0 < given.sum() <= MOST_WHOLE:
            found = "holds no request" if not given.any() else f"holds {given.sum():g} requests"
            raise TraceError(self.source, found, f"give intervals with 1 to {MOST_WHOLE:,} requests in all")
        demand_positive(len(given) * float(self.interval_s), f"{self.source}: length of all intervals")
        array = given.astype(np.int64)
        array.setflags(write=False)
        object.__setattr__(self, "requests", array)

    def counts(self, slot_s: float, slots: int | None = None) -> Counts:
        """Return the number of requests in each slot.

        Args:
            slot_s: Length of a slot in seconds, a whole number of intervals.
            slots: Number of slots; later requests are not counted. [default: until the last interval]

        Returns:
            Whole numbers, shape (slots,).

        Raises:
            TraceError: A slot is no whole number of intervals, or `slots` cannot be used.
        """
        demand_positive(slot_s, f"{self.source}: slot_s")
        ratio = slot_s / self.interval_s
        # Speeding up divides the interval, which leaves rounding errors.
        if ratio > MOST_WHOLE or round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-9 * ratio:
            raise TraceError(
                f"{self.source}: slot_s",
                f"{slot_s:g} s is no whole number of intervals of {self.interval_s:g} s",
                "give a multiple, or spread the requests over their intervals first",
            )
        together = min(round(ratio), len(self.requests))
        starts = np.arange(0, len(self.requests), together)
        counted = np.add.reduceat(self.requests, starts)
        if slots is None:
            slots = len(counted)
        demand_slots(slots, self.source)
        kept = counted[:slots]
        return np.concatenate([kept, np.zeros(slots - len(kept), dtype=np.int64)])

    def compressed(self, factor: float) -> IntervalCounts:
        """Return the same requests in 1/factor of the time.

        Raises:
            TraceError: `factor` is not a finite number > 0.
        """
        demand_positive(factor, f"{self.source}: factor")
        return replace(self, interval_s=self.interval_s / factor)

    def share(self, part: int, parts: int) -> IntervalCounts:
        """Return the counts of every `parts`-th request from request `part` on; see `Timestamps.share`."""
        demand_part(part, parts, self.source)
        ends = np.concatenate([[0], np.cumsum(self.requests)])
        kept = np.diff((ends - part + parts) // parts)
        if not kept.any():
            found = f"part {part} of {parts} has no request, there being {ends[-1]}"
            raise TraceError(self.source, found, "give fewer parts")
        return replace(self, requests=kept)

    def timestamps(self, rng: np.random.Generator | None = None) -> Timestamps:
        """Spread the requests over their intervals.

        Args:
            rng: Draws the times uniformly, which is a Poisson process given its counts. [default: evenly, at equal
                distances]

        Returns:
            Timestamps that give the same counts again.

        Raises:
            TraceError: There are more than 100,000,000 requests.
        """
        total = int(self.requests.sum())
        if total > MOST_TIMESTAMPS:
            found = f"holds {total:,} requests, more than the {MOST_TIMESTAMPS:,} that are given single times"
            raise TraceError(self.source, found, "take a part of them, or count them by slots")
        interval = np.repeat(np.arange(len(self.requests)), self.requests)
        if rng is None:
            first = np.repeat(np.cumsum(self.requests) - self.requests, self.requests)
            within = (np.arange(total) - first + 0.5) / self.requests[interval]
        else:
            within = rng.random(total)
        edges = np.arange(len(self.requests) + 1) * self.interval_s
        # Rounding may carry a time over the edge of its interval, and so into another slot.
        last = np.nextafter(edges[1:], 0.0)
        arrival_s = np.clip((interval + within) * self.interval_s, edges[interval], last[interval])
        return Timestamps(np.sort(arrival_s), source=self.source)

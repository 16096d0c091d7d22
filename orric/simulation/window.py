"""What a queue did in one window of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class Window:
    """What happened in one window.

    Attributes:
        counts: Latencies of the requests served, by the phase of the stretch in which their service began, in the
            buckets of a `LatencyHistogram`; shape (PHASES, BUCKETS).
        latencies_s: Sums of these latencies, shape (PHASES,).
        served_by: How many of them were begun under each version.
        late_by: How many of them missed the deadline, version by version.
        shed: Requests turned away because the queue was full.
        batches: Batches begun.
        busy_s: Time that workers were in service.
        used_s: The same in seconds at the whole GPU.
        present_s: Integral over the window of the number of requests present, from arrivals and completions.
        numbers: Number, version (-1 without one) and fate (see `fates`) of every request that came to its end, shape
            (n, 3); None unless recorded.
        times_s: Its arrival, start (NaN without one) and end, shape (n, 3).
    """

    counts: Array
    latencies_s: Array
    served_by: dict[int, int]
    late_by: dict[int, int]
    shed: int
    batches: int
    busy_s: float
    used_s: float
    present_s: float
    numbers: Array | None = None
    times_s: Array | None = None

    @property
    def served(self) -> int:
        """Requests served."""
        return sum(self.served_by.values())

    @property
    def late(self) -> int:
        """How many of them missed the deadline."""
        return sum(self.late_by.values())

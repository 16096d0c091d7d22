"""Requests of a file that is read chunk by chunk: they become timestamps, or counts in memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orric.exceptions import TraceError
from orric.timestamps import (
    Array,
    Counts,
    Timestamps,
    demand_few_slots,
    demand_part,
    demand_positive,
    gathered,
)


@dataclass(frozen=True, eq=False)
class Arrivals:
    """When the requests of a file arrive.

    Attributes:
        read: Reads the file anew and yields the seconds of its requests from the start of the first slot, float64.
        source: The file, for error messages.
        ascending: Whether they come sorted; otherwise they are sorted where their order counts.
        facts: What else is to be told of the file; complete once it was read.
    """

    read: Callable[[], Iterator[Array]]
    source: str
    ascending: bool = True
    facts: dict[str, Any] = field(default_factory=dict)

    def timestamps(self, part: int = 1, parts: int = 1, speedup: float = 1.0) -> Timestamps:
        """Return single times, 8 bytes each.

        Args:
            part: Which of `parts` to take, as `Timestamps.share`.
            parts: Number of parts.
            speedup: Divides time, as `Timestamps.compressed`.

        Raises:
            TraceError: With file and line of the first thing that is wrong.
        """
        if self.ascending:
            return Timestamps(gathered(self._taken(part, parts, speedup)), source=self.source)
        arrival_s = gathered(self.read())
        arrival_s.sort()
        whole = Timestamps(arrival_s, source=self.source)
        return (whole.share(part, parts) if parts > 1 else whole).compressed(speedup)

    def counts(self, slot_s: float, part: int = 1, parts: int = 1, speedup: float = 1.0) -> Counts:
        """Return the number of requests in each slot, as `Timestamps.counts` of the same; none is kept.

        Raises:
            TraceError: With file and line of the first thing that is wrong, or there would be too many slots.
        """
        demand_positive(slot_s, f"{self.source}: slot_s")
        if parts > 1 and not self.ascending:
            return self.timestamps(part, parts, speedup).counts(slot_s)
        total = np.zeros(0, dtype=np.int64)
        for arrival_s in self._taken(part, parts, speedup):
            if not len(arrival_s):
                continue
            last_s = float(arrival_s.max())
            if not np.isfinite(last_s):
                raise TraceError(f"{self.source}: speedup", f"found {speedup:g}: times become {last_s:g}", "give more")
            demand_few_slots(last_s, slot_s, self.source)
            slot = (arrival_s / slot_s).astype(np.int64)
            # The quotient is rounded, the slots' edges are not allowed to be.
            slot += arrival_s >= (slot + 1) * slot_s
            slot -= arrival_s < slot * slot_s
            # Chunks of a sorted file lie in few slots, however late.
            first = int(slot.min())
            counted = np.bincount(slot - first)
            if first + len(counted) > len(total):
                total = np.concatenate([total, np.zeros(first + len(counted) - len(total), dtype=np.int64)])
            total[first : first + len(counted)] += counted
        return total

    def _taken(self, part: int, parts: int, speedup: float) -> Iterator[Array]:
        """Yield the times of one part, sped up, in the order of the file."""
        demand_part(part, parts, self.source)
        demand_positive(speedup, f"{self.source}: factor")
        seen = 0
        for arrival_s in self.read():
            taken = arrival_s[(part - 1 - seen) % parts :: parts] if parts > 1 else arrival_s
            seen += len(arrival_s)
            with np.errstate(over="ignore"):
                yield taken / speedup if speedup != 1.0 else taken
        if seen < part:
            found = f"part {part} of {parts} has no request, there being {seen}" if seen else "holds no request"
            raise TraceError(self.source, found, "give fewer parts" if seen else "give a file with requests")

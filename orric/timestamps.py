"""Times at which requests arrive."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from orric.csv_chunks import CHUNK_ROWS, Numbers, read_chunks
from orric.csv_rows import shown
from orric.exceptions import TraceError
from orric.section import write_text

Array = np.ndarray[Any, np.dtype[np.float64]]
Counts = np.ndarray[Any, np.dtype[np.int64]]
COLUMN = "arrival_s"
# As many as a scenario may have.
MOST_SLOTS = 10_000_000


@dataclass(frozen=True, eq=False)
class Timestamps:
    """When each request arrives, in seconds from the start of the first slot.

    Attributes:
        arrival_s: Shape (requests,), finite, at least 0, ascending; equal times are allowed.
        source: Where the times came from, for error messages.

    Raises:
        TraceError: There is none, or a time is NaN, infinite, negative or before the one ahead of it.

    >>> times = Timestamps(arrival_s=[0.0, 0.5, 0.5, 2.0])
    >>> times.counts(slot_s=1.0).tolist()
    [3, 0, 1]
    >>> times.compressed(2.0).counts(slot_s=1.0).tolist()
    [3, 1]
    """

    arrival_s: Array
    source: str = "timestamps"

    def __post_init__(self) -> None:
        try:
            # Adding zero leaves no negative zero, which would be written as one, and makes the array its own.
            times = np.asarray(self.arrival_s, dtype=np.float64) + 0.0
        except (TypeError, ValueError):
            raise TraceError(self.source, "arrival_s is not an array of numbers", "give one per request") from None
        if times.ndim != 1 or not times.size:
            raise TraceError(
                self.source, f"arrival_s has shape {times.shape}", "give one time per request, one at least"
            )
        bad = _first_bad(times)
        if bad is not None:
            index, found, remedy = bad
            raise TraceError(f"{self.source}: request {index + 1}: arrival_s", found, remedy)
        times.setflags(write=False)
        object.__setattr__(self, "arrival_s", times)

    @property
    def requests(self) -> int:
        """Number of requests."""
        return len(self.arrival_s)

    @classmethod
    def load(cls, path: str | Path) -> Timestamps:
        """Read timestamps from CSV with the single column arrival_s.

        Raises:
            TraceError: With file and line of the first thing that is wrong.
        """
        return cls(gathered(ascending_seconds(path, COLUMN)), source=str(path))

    def save(self, path: str | Path) -> None:
        """Write the timestamps as CSV, numbers in full precision; the file appears whole or not at all."""
        parts = (self.arrival_s[start : start + CHUNK_ROWS] for start in range(0, self.requests, CHUNK_ROWS))
        lines = ("".join(f"{value!r}\n" for value in part.tolist()) for part in parts)
        write_text(path, chain([f"{COLUMN}\n"], lines), TraceError)

    def slots(self, slot_s: float) -> int:
        """Return how many slots of `slot_s` seconds are needed until the last request has arrived.

        Raises:
            TraceError: `slot_s` is not a finite number > 0, or there would be more than 10,000,000 slots.
        """
        demand_positive(slot_s, f"{self.source}: slot_s")
        last = float(self.arrival_s[-1])
        demand_few_slots(last, slot_s, self.source)
        slots = int(last / slot_s) + 1
        # The quotient is rounded, the slots' edges are not allowed to be.
        while last >= slots * slot_s:
            slots += 1
        while slots > 1 and last < (slots - 1) * slot_s:
            slots -= 1
        return slots

    def counts(self, slot_s: float, slots: int | None = None) -> Counts:
        """Return the number of requests in each slot.

        Slot t holds what arrives from (t - 1) slot_s on and before t slot_s.

        Args:
            slot_s: Length of a slot in seconds.
            slots: Number of slots; requests after the last are not counted. [default: as many as are needed]

        Returns:
            Whole numbers, shape (slots,).

        Raises:
            TraceError: `slot_s` or `slots` cannot be used.
        """
        if slots is None:
            slots = self.slots(slot_s)
        demand_positive(slot_s, f"{self.source}: slot_s")
        demand_slots(slots, self.source)
        edges = np.arange(slots + 1) * slot_s
        return np.diff(np.searchsorted(self.arrival_s, edges, side="left")).astype(np.int64)

    def compressed(self, factor: float) -> Timestamps:
        """Return the same requests in 1/factor of the time: at 2 they come twice as fast, at 0.5 half as fast.

        Raises:
            TraceError: `factor` is not a finite number > 0.
        """
        demand_positive(factor, f"{self.source}: factor")
        with np.errstate(over="ignore"):
            return replace(self, arrival_s=self.arrival_s / factor)

    def share(self, part: int, parts: int) -> Timestamps:
        """Return every `parts`-th request from request `part` on, so that one trace serves several streams.

        Args:
            part: From 1 to `parts`.
            parts: Number of shares, which together are the whole.

        Raises:
            TraceError: There is no such part, or it has no request.
        """
        demand_part(part, parts, self.source)
        if part > self.requests:
            found = f"part {part} of {parts} has no request, there being {self.requests}"
            raise TraceError(self.source, found, "give fewer parts")
        return replace(self, arrival_s=self.arrival_s[part - 1 :: parts])


def gathered(chunks: Iterable[Array]) -> Array:
    """Return the times of all chunks in one array, 8 bytes each."""
    together = array("d")
    for chunk in chunks:
        together.frombytes(np.ascontiguousarray(chunk, dtype=np.float64).tobytes())
    return np.frombuffer(together, dtype=np.float64)


def ascending_seconds(path: str | Path, column: str, start_s: float | None = 0.0, origin: str = "") -> Iterator[Array]:
    """Yield a column of seconds, chunk by chunk.

    Args:
        path: File to read.
        column: Its name in the header.
        start_s: Second of the file from which time counts. [None: the first]
        origin: What the start is called where times before it are refused.

    Raises:
        TraceError: With the line of the first time that is no number, negative or before the one ahead of it.
    """
    before = -np.inf
    for chunk in read_chunks(path, {column: Numbers()}):
        seconds = chunk.columns[column]
        if start_s is None:
            start_s = float(seconds[0])
        arrival_s = seconds - start_s if start_s else seconds
        bad = _first_bad(arrival_s, before)
        if bad is not None:
            index, found, remedy = bad
            line, cell = chunk.place(index, column)
            if origin and arrival_s[index] < 0:
                found, remedy = f"{shown(cell)} is before {origin}", "give an earlier one"
            raise TraceError(f"{path}:{line}: column {column!r}", found, remedy)
        before = float(arrival_s[-1])
        yield arrival_s


def demand_positive(value: float, where: str) -> None:
    """Refuse what is not a finite number > 0."""
    if not (np.isfinite(value) and value > 0):
        raise TraceError(where, f"found {value:g}", "give a finite number > 0")


def demand_slots(slots: int, where: str) -> None:
    """Refuse a number of slots that there cannot be."""
    if not 1 <= slots <= MOST_SLOTS:
        raise TraceError(f"{where}: slots", f"found {slots:,}", f"give 1 to {MOST_SLOTS:,}")


def demand_few_slots(last_s: float, slot_s: float, where: str) -> None:
    """Refuse slots of which there would be too many until a request."""
    if last_s / slot_s >= MOST_SLOTS:
        found = f"slots of {slot_s:g} s until the last request at {last_s:g} s are more than {MOST_SLOTS:,}"
        raise TraceError(f"{where}: slot_s", found, "give longer slots, or count time from the first request")


def demand_part(part: int, parts: int, where: str) -> None:
    """Refuse a part that is none of so many."""
    if not 1 <= part <= parts:
        raise TraceError(f"{where}: part", f"found {part} of {parts}", "give a part from 1 to the number of parts")


def _first_bad(arrival_s: Array, before: float = -np.inf) -> tuple[int, str, str] | None:
    """Return index, what was found and the remedy of the first time that cannot be, `before` being ahead of all."""
    outside = np.flatnonzero(~(np.isfinite(arrival_s) & (arrival_s >= 0)))
    backwards = np.flatnonzero(arrival_s[1:] < arrival_s[:-1]) + 1
    if arrival_s[0] < before:
        backwards = np.zeros(1, dtype=np.int64)
    if outside.size and not (backwards.size and backwards[0] < outside[0]):
        index = int(outside[0])
        return index, f"found {float(arrival_s[index])!r}", "give a finite number of seconds >= 0"
    if backwards.size:
        index = int(backwards[0])
        last, now = float(arrival_s[index - 1]) if index else before, float(arrival_s[index])
        return index, f"time goes backwards, from {last!r} to {now!r}", "sort the requests by time"
    return None

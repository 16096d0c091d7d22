"""A column of times in any CSV file: seconds, or ISO 8601."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from orric.arrivals import Arrivals
from orric.csv_rows import DATE, leading_numbers, position, shown
from orric.exceptions import TraceError
from orric.importers.columns import ascending_instants, first_row
from orric.importers.format import Format
from orric.instants import INSTANT, fault, instant, text_of
from orric.timestamps import Timestamps, ascending_seconds

# Seconds since 1970 reach it in the year 5138; what is larger counts parts of a second.
MOST_SECONDS = 1e11
UNITS = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}


def arrivals(path: str | Path, *, column: str, from_first: bool = False, origin: str | float | None = None) -> Arrivals:
    """Open a file with a column of times to be read in chunks; see `timestamps`."""
    if from_first and origin is not None:
        raise TraceError("origin", "is given together with from_first", "give one of them")
    header_line, header, line, row = first_row(path)
    cell = row[position(header, column, f"{path}:{header_line}")].strip()
    where = f"{path}:{line}: column {column!r}"
    if INSTANT.fullmatch(cell):
        first, zoned = instant(cell, where)
        facts = {"first": text_of(first, zoned)}
        start = None
        if origin is not None:
            nanoseconds, origin_zoned = instant(str(origin), "origin")
            if origin_zoned != zoned:
                found = f"{shown(str(origin))} has {'a' if origin_zoned else 'no'} time zone, other than the file"
                raise TraceError("origin", found, f"give it {'a' if zoned else 'no'} time zone")
            facts["origin"] = text_of(nanoseconds, zoned)
            start = (nanoseconds, f"the origin {facts['origin']}")
        return Arrivals(partial(ascending_instants, path, column, zoned, start), str(path), facts=facts)
    if DATE.fullmatch(cell):
        raise fault(cell, where)
    values = leading_numbers([cell])
    if values.size and abs(values[0]) >= MOST_SECONDS:
        factor = next((one for one in UNITS if abs(values[0]) < MOST_SECONDS * one), 1e9)
        found = f"found {shown(cell)}, which are {UNITS[factor]} since 1970 rather than seconds"
        raise TraceError(where, found, f"divide by {factor:g}, or write them as ISO 8601")
    start_s = None if from_first else _seconds(origin)
    named = "" if origin is None else f"the origin {start_s:g}"
    return Arrivals(partial(ascending_seconds, path, column, start_s, named), str(path))


def timestamps(
    path: str | Path, *, column: str, from_first: bool = False, origin: str | float | None = None
) -> Timestamps:
    """Read a column of times: seconds, or ISO 8601 with up to nine digits behind the second.

    Args:
        path: File to read, compressed where its name ends in .gz.
        column: Its name in the header.
        from_first: Count seconds from the first request. ISO 8601 times always are, unless there is an origin.
        origin: Time from which seconds are counted, so that several files share one; of the column's own kind, and with
            a time zone where its times have one. No request may be before it.

    Raises:
        TraceError: With file and line of the first thing that is wrong.
    """
    return arrivals(path, column=column, from_first=from_first, origin=origin).timestamps()


TIMESTAMPS = Format("timestamps", timestamps, arrivals)


def _seconds(origin: str | float | None) -> float:
    try:
        seconds = float(origin or 0.0)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise TraceError("origin", f"found {origin!r}", "give seconds, as the file has them")
    return seconds

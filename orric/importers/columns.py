"""What several formats read alike: the header, and a column of times that ascend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from orric.csv_chunks import Chunk, Instants, read_chunks
from orric.csv_rows import read_rows, shown
from orric.exceptions import TraceError
from orric.timestamps import Array


def first_row(path: str | Path) -> tuple[int, list[str], int, list[str]]:
    """Return line and cells of the header and of the first row under it."""
    rows = read_rows(path)
    return (*next(rows), *next(rows))


def demand_header(path: str | Path, wanted: Sequence[str]) -> None:
    """Refuse a file that has other columns."""
    line, header = next(read_rows(path))
    if header != list(wanted):
        found = f"the header begins with {shown(','.join(header))}"
        raise TraceError(f"{path}:{line}", found, f"the format is {','.join(wanted)}")


def ascending_instants(
    path: str | Path, column: str, zoned: bool | None = None, origin: tuple[int, str] | None = None
) -> Iterator[Array]:
    """Yield the seconds of a column of ISO 8601 times, chunk by chunk.

    Args:
        path: File to read.
        column: Its name in the header.
        zoned: Whether the times must have a time zone. [default: as the first]
        origin: Nanoseconds since 1970 from which time counts, and what that is called. [default: the first time]

    Raises:
        TraceError: With the line of the first that is no time, before the origin or before the one ahead of it.
    """
    start = None if origin is None else origin[0]
    last: tuple[Chunk, int] | None = None
    for chunk in read_chunks(path, {column: Instants(zoned)}):
        nanoseconds = chunk.columns[column]
        if start is None:
            start = int(nanoseconds[0])
        # Whole nanoseconds are compared: seconds since the first are rounded.
        backwards = np.flatnonzero(nanoseconds[1:] < nanoseconds[:-1]) + 1
        if last is not None and nanoseconds[0] < last[1]:
            backwards = np.zeros(1, dtype=np.int64)
        if nanoseconds[0] < start:
            line, cell = chunk.place(0, column)
            assert origin is not None
            where = f"{path}:{line}: column {column!r}"
            raise TraceError(where, f"{shown(cell)} is before {origin[1]}", "give an earlier one")
        if backwards.size:
            index = int(backwards[0])
            line, cell = chunk.place(index, column)
            before = chunk.place(index - 1, column)[1] if index else last[0].place(len(last[0]) - 1, column)[1]  # type: ignore[index]
            found = f"time goes backwards, from {shown(before)} to {shown(cell)}"
            raise TraceError(f"{path}:{line}: column {column!r}", found, "sort the requests by time")
        last = (chunk, int(nanoseconds[-1]))
        yield (nanoseconds - start) / 1e9

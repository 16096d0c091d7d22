"""A column of request counts in any CSV file, one for each interval, checked against its column of times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orric.csv_chunks import Instants, Kind, Numbers, WholeNumbers, read_chunks
from orric.csv_rows import position, shown
from orric.exceptions import TraceError
from orric.importers.columns import first_row
from orric.importers.format import Format
from orric.instants import INSTANT, SECOND, text_of
from orric.interval_counts import IntervalCounts
from orric.timestamps import demand_positive

Whole = np.ndarray[Any, np.dtype[np.int64]]
GAPS = ("refuse", "zero")
# Intervals after gaps are filled: as many minutes are longer than any file of times.
MOST_INTERVALS = 100_000_000
HOUR = 3600 * SECOND


def counts(
    path: str | Path,
    *,
    column: str,
    interval_s: float | None = None,
    time_column: str | None = None,
    gaps: str = "refuse",
) -> IntervalCounts:
    """Read a column of request counts, one for each interval.

    Args:
        path: File to read, compressed where its name ends in .gz.
        column: Its name in the header.
        interval_s: Length of every interval in seconds. [default: what most times are apart]
        time_column: Column of the intervals' starts, ISO 8601 or seconds. [default: the only one of ISO 8601, if any]
        gaps: What to do where rows are missing: "refuse" the file, or take "zero" requests.

    Raises:
        TraceError: With file and line of the first thing that is wrong: a gap, a time that stands twice or goes
            backwards, or intervals of another length.
    """
    if gaps not in GAPS:
        raise TraceError("gaps", f"found {gaps!r}", f"give one of {', '.join(GAPS)}")
    if interval_s is not None:
        demand_positive(interval_s, f"{path}: interval_s")
    header_line, header, _, row = first_row(path)
    position(header, column, f"{path}:{header_line}")
    iso = [name for name, cell in zip(header, row, strict=True) if name != column and INSTANT.fullmatch(cell.strip())]
    if time_column is None and len(iso) > 1:
        found = f"{len(iso)} columns hold times: {', '.join(iso[:5])}"
        raise TraceError(f"{path}:{header_line}", found, "name the intervals' starts with --time-column")
    time = iso[0] if time_column is None and iso else time_column
    if time is None:
        if interval_s is None:
            found = "no column of times tells how long an interval is"
            raise TraceError(f"{path}:{header_line}", found, "give --interval-s, or name a column with --time-column")
        read = [chunk.columns[column] for chunk in read_chunks(path, {column: WholeNumbers()})]
        return IntervalCounts(np.concatenate(read), interval_s=interval_s, source=str(path))
    position(header, time, f"{path}:{header_line}")
    given = _Given(path, column, time, time in iso or bool(INSTANT.fullmatch(row[header.index(time)].strip())))
    step = given.step(interval_s)
    requests, missing = given.filled(step, gaps)
    facts: dict[str, Any] = {"time_column": time, "interval_s": step / SECOND, "first": given.told(0)}
    if missing:
        facts |= {"filled": missing, "gaps": given.gaps(step)}
    return IntervalCounts(requests, interval_s=step / SECOND, source=str(path), facts=facts)


COUNTS = Format("counts", counts)


class _Given:
    """The columns of a file of counts and times, in nanoseconds."""

    def __init__(self, path: str | Path, column: str, time: str, iso: bool) -> None:
        self.path, self.time, self.iso = path, time, iso
        instants, requests, starts = Instants(), [], []
        kinds: dict[str, Kind] = {time: instants if iso else Numbers(), column: WholeNumbers()}
        for chunk in read_chunks(path, kinds):
            values = chunk.columns[time]
            if not iso and np.abs(values).max() > 1e9 * 9:
                index = int(np.argmax(np.abs(values) > 1e9 * 9))
                line, cell = chunk.place(index, time)
                raise TraceError(f"{path}:{line}: column {time!r}", f"found {shown(cell)}", "give seconds, or ISO 8601")
            starts.append(values if iso else np.round(values * SECOND).astype(np.int64))
            requests.append(chunk.columns[column])
        self.zoned = bool(instants.zoned)
        self.starts: Whole = np.concatenate(starts)
        self.requests: Whole = np.concatenate(requests)
        self.apart = np.diff(self.starts)

    def step(self, interval_s: float | None) -> int:
        """Return the length of an interval, which times must agree with."""
        back = np.flatnonzero(self.apart <= 0)
        if back.size:
            self._refuse_back(int(back[0]))
        if interval_s is None and not self.apart.size:
            found = "one row does not tell how long an interval is"
            raise TraceError(self._where(0), found, "give --interval-s")
        if not self.apart.size:
            assert interval_s is not None
            return round(interval_s * SECOND)
        lengths, often = np.unique(self.apart, return_counts=True)
        usual = int(lengths[np.argmax(often)])
        step = usual if interval_s is None else round(interval_s * SECOND)
        if interval_s is not None and (step < 1 or (usual != step and lengths[0] > step)):
            found = f"rows are {_seconds(usual)} s apart, not {interval_s:g} s"
            raise TraceError(self._where(1), found, f"leave --interval-s out, or give --interval-s {_seconds(usual)}")
        odd = np.flatnonzero(self.apart % step)
        if odd.size:
            index = int(odd[0])
            found = (
                f"{self.told(index + 1)} is {_seconds(int(self.apart[index]))} s after the row before, no whole number "
                f"of intervals of {_seconds(step)} s"
            )
            remedy = (
                "mend that row" if interval_s is None else "give the true length with --interval-s, or leave it out"
            )
            raise TraceError(self._where(index + 1), found, remedy)
        return step

    def filled(self, step: int, gaps: str) -> tuple[Whole, int]:
        """Return the counts of all intervals, and how many of them had no row."""
        wide = np.flatnonzero(self.apart > step)
        if not wide.size:
            return self.requests, 0
        index = int(wide[0])
        missing = int(self.apart[index]) // step - 1
        more = f", and {wide.size - 1:,} more gaps" if wide.size > 1 else ""
        total = int(self.starts[-1] - self.starts[0]) // step + 1
        found = (
            f"no rows from {text_of(int(self.starts[index]) + step, self.zoned)} until {self.told(index + 1)}, "
            if self.iso
            else f"no rows from {_seconds(int(self.starts[index]) + step)} s until {self.told(index + 1)}, "
        ) + f"{missing:,} interval{'s' * (missing > 1)} of {_seconds(step)} s{more}"
        remedy = "give --gaps zero if there were no requests, or mend the file"
        if self.iso and not self.zoned and missing * step == HOUR:
            found += "; an hour, as where clocks are put forward"
            remedy = "give times with their zone, or --gaps zero if there were no requests"
        if gaps == "refuse":
            raise TraceError(self._where(index + 1), found, remedy)
        if total > MOST_INTERVALS:
            found += f": {total:,} intervals in all"
            raise TraceError(self._where(index + 1), found, f"give times with at most {MOST_INTERVALS:,}")
        requests = np.zeros(total, dtype=np.int64)
        requests[(self.starts - self.starts[0]) // step] = self.requests
        return requests, total - len(self.requests)

    def gaps(self, step: int) -> list[dict[str, Any]]:
        """Return from when until when rows are missing, and how many, of the first hundred gaps."""
        wide = np.flatnonzero(self.apart > step)[:100]
        starts = [int(self.starts[index]) + step for index in wide]
        return [
            {
                "from": text_of(start, self.zoned) if self.iso else start / SECOND,
                "until": self.told(int(index) + 1),
                "intervals": int(self.apart[index]) // step - 1,
            }
            for index, start in zip(wide, starts, strict=True)
        ]

    def told(self, index: int) -> Any:
        """Return a time as it is told: ISO 8601, or seconds."""
        start = int(self.starts[index])
        return text_of(start, self.zoned) if self.iso else start / SECOND

    def _refuse_back(self, index: int) -> None:
        before, now = self.told(index), self.told(index + 1)
        if before == now:
            raise TraceError(self._where(index + 1), f"{now} stands twice", "give one row per interval")
        found, remedy = f"time goes backwards, from {before} to {now}", "sort the rows by time"
        back = int(self.starts[index] - self.starts[index + 1])
        lengths: Sequence[int] = np.unique(self.apart[self.apart > 0]).tolist()
        if self.iso and not self.zoned and any(back + length == HOUR for length in [0, *lengths[:3]]):
            found += ", an hour, as where clocks are put back"
            remedy = "give times with their zone"
        raise TraceError(self._where(index + 1), found, remedy)

    def _where(self, index: int) -> str:
        """Return file, line and column of a row, which is looked for anew."""
        kinds: dict[str, Kind] = {self.time: Instants() if self.iso else Numbers()}
        for chunk in read_chunks(self.path, kinds):
            if index < len(chunk):
                return f"{self.path}:{chunk.place(index, self.time)[0]}: column {self.time!r}"
            index -= len(chunk)
        return f"{self.path}: column {self.time!r}"


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / SECOND:g}"

"""Requests of cameras from ragged CSV files: one file each, of any length, with gaps, in local times or others.

Every file has a column of times and either a row per request, or a column that counts the requests of an interval that
begins at the time. What is odd about a file is told; nothing is mended unasked.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import tzinfo
from pathlib import Path
from typing import Any, Literal

import numpy as np

from orric.csv_chunks import Kind, WholeNumbers, read_chunks
from orric.csv_rows import MOST_WHOLE, position, read_rows, shown, whole_number
from orric.exceptions import TraceError, nearest
from orric.instants import SECOND, Nanoseconds
from orric.interval_counts import MOST_TIMESTAMPS
from orric.local_times import Jump, Times, Twice, is_time, jumps_between, newest_first, told
from orric.timestamps import MOST_SLOTS, Timestamps

Whole = np.ndarray[Any, np.dtype[np.int64]]
Gaps = Literal["refuse", "zero", "repeat"]
Duplicates = Literal["keep", "drop", "refuse"]
# Names of columns that need not be told, in lower case.
TIMES = ("time", "timestamp", "datetime", "date_time", "arrival", "when", "date")
COUNTS = ("requests", "count", "counts")
# A silence is a gap when it is so many times as long as 19 in 20 silences of the camera are, and a minute at least.
UNUSUAL, SHORTEST_GAP_S = 20.0, 60.0
# So often what precedes a gap is repeated in it, at most.
MOST_REPEATS = 1000
# Cells that say that a count is not known.
UNKNOWN = ("", "nan", "null", "none", "na", "n/a", "-")


@dataclass(frozen=True)
class Reading:
    """How the files are to be read.

    Attributes:
        zone: Of times without one; None refuses them.
        column: Name of the column of times. [default: one of `TIMES`, or the only column]
        count_column: Name of the column of counts. [default: one of `COUNTS`, if there is any]
        interval_s: How long each count is for. [default: the median distance of a file's rows]
        gap_s: Silences of more seconds are gaps. [default: more than 20 times what 19 in 20 silences of the file stay
            below, and a minute at least; of counts: half an interval more than one]
        twice: Which a local time is that comes twice in a night; see `orric.local_times.Times.instants`.
        duplicates: What becomes of rows that repeat another cell by cell, and of counts of the same interval: "keep"
            (counts are added up), "drop" or "refuse". [default: keep requests, refuse counts]
    """

    zone: tzinfo | None = None
    column: str | None = None
    count_column: str | None = None
    interval_s: float | None = None
    gap_s: float | None = None
    twice: Twice = "order"
    duplicates: Duplicates | None = None


@dataclass(frozen=True)
class Gap:
    """A time of which a file holds nothing, in instants, and the line of the row after it."""

    start: int
    end: int
    line: int

    @property
    def length_s(self) -> float:
        """How long it is."""
        return (self.end - self.start) / SECOND


@dataclass(frozen=True, eq=False)
class Camera:
    """What a file says, and what is odd about it.

    Attributes:
        name: The file's, without its ending.
        file: The file.
        columns: Names of the column of times and of that of counts, if any.
        instants: Of the requests, or begins of the intervals, ascending.
        ends: Ends of the intervals; of requests the instants themselves.
        counts: Of the intervals; of requests ones.
        lines: The line of each.
        gap_s: Silences above this are gaps.
        gaps: In order.
        jumps: Changes of the clocks between the first and the last row, if it has local times.
        duplicates: Rows that repeat another.
        fate_of_duplicates: What became of them, in a word or two.
        disordered: Rows that stand below a later one; they were sorted.
        unknown: Rows whose count is not known; they were left out.
    """

    name: str
    file: Path
    columns: tuple[str, str | None]
    instants: Nanoseconds
    ends: Nanoseconds
    counts: Whole
    lines: Whole
    gap_s: float
    gaps: tuple[Gap, ...] = ()
    jumps: tuple[Jump, ...] = ()
    duplicates: int = 0
    fate_of_duplicates: str = ""
    disordered: int = 0
    unknown: int = 0

    @property
    def requests(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    @property
    def first(self) -> int:
        """The instant of the first request, or the begin of the first interval."""
        return int(self.instants[0])

    @property
    def last(self) -> int:
        """The instant of the last request, or the end of the last interval."""
        return int(self.ends[-1])

    @property
    def whole_seconds(self) -> bool:
        """Whether no time has a fraction of a second: then rows that repeat another are nothing odd."""
        return not (self.instants % SECOND).any()

    @property
    def where(self) -> str:
        """File and column, for messages."""
        return f"{self.file}: column {self.columns[0]!r}"

    def demand_no_gap(self, zone: tzinfo) -> None:
        """Refuse a camera with a gap, in one line that names the first and says what can be done."""
        if not self.gaps:
            return
        first, more = self.gaps[0], len(self.gaps) - 1
        also = f" (and {more} more {'gap' if more == 1 else 'gaps'})" if more else ""
        raise TraceError(
            f"{self.file}:{first.line}: column {self.columns[0]!r}",
            f"nothing for {length(first.length_s)} before it, from {told(first.start, zone)} on{also}",
            "say what there was: --gaps zero (no requests), --gaps repeat (as just before); or raise --gap-s",
        )

    def filled(self) -> Camera:
        """Return the camera with each gap filled by what came just before it, over and over where that was shorter."""
        instants, ends, counts = self.instants, self.ends, self.counts
        for gap in self.gaps:
            period = min(gap.end - gap.start, gap.start - self.first)
            if MOST_REPEATS * period < gap.end - gap.start:
                found = f"only {length(period / SECOND)} stand before this gap of {length(gap.length_s)}"
                raise TraceError(f"{self.file}:{gap.line}", found, "there is too little to repeat: give --gaps zero")
            # A gap begins after a request, and with the end of an interval.
            later = self.columns[1] is None
            # What came before may have filled another gap: that is repeated, too, and not its silence.
            inside = (instants >= gap.start - period + later) & (instants < gap.start + later)
            parts = [(instants, ends, counts)]
            for shift in range(period, gap.end - gap.start + period, period):
                starts = instants[inside] + shift
                kept = starts < gap.end
                parts.append((starts[kept], np.minimum(ends[inside] + shift, gap.end)[kept], counts[inside][kept]))
            instants, ends, counts = (np.concatenate(one) for one in zip(*parts, strict=True))
        order = np.argsort(instants, kind="stable")
        lines = np.zeros(len(order), np.int64)
        return replace(self, instants=instants[order], ends=ends[order], counts=counts[order], lines=lines, gaps=())

    def timestamps(self, origin: int, rng: np.random.Generator | None = None) -> Timestamps:
        """Return when each request comes, in seconds after an instant, down to the microsecond.

        Args:
            origin: The instant; none is before it.
            rng: Draws the times of counted requests within their interval. [default: evenly]

        Raises:
            TraceError: There is no request, or there are more than 100,000,000.
        """
        total = self.requests
        if total > MOST_TIMESTAMPS:
            found = f"holds {total:,} requests, more than {MOST_TIMESTAMPS:,}"
            raise TraceError(str(self.file), found, "take a part of the time")
        if self.columns[1] is None:
            times = self.instants - origin
        else:
            number = np.repeat(np.arange(len(self.counts)), self.counts)
            within = np.arange(total) - np.repeat(np.cumsum(self.counts) - self.counts, self.counts) + 0.5
            part = within / self.counts[number] if rng is None else rng.random(total)
            lengths = (self.ends - self.instants)[number]
            times = np.sort(self.instants[number] - origin + np.minimum(lengths * part, lengths - 1).astype(np.int64))
        # Rounded down, a request stays in its slot; numbers of microseconds divide into the nearest float64.
        return Timestamps(times // 1000 / 1e6, source=str(self.file))


def read_cameras(folder: Path, reading: Reading) -> list[Camera]:
    """Read every CSV file of a folder, in the order of their names; hidden ones and folders are passed over.

    Raises:
        TraceError: There is none, or something is wrong with one: file, line, what was found and what to do.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "no such folder"
        raise TraceError(str(folder), found, "give the folder that holds one CSV file per camera")
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv" and path.name[0] != ".")
    except OSError as error:
        raise TraceError(str(folder), f"cannot be read ({error.strerror})", "check its permissions") from None
    if not files:
        raise TraceError(str(folder), "holds no CSV file", "give the folder that holds one .csv file per camera")
    names: dict[str, Path] = {}
    for path in files:
        name = unicodedata.normalize("NFC", path.stem)
        if not name.strip() or not name.isprintable():
            # Whatever is in it shall not reach a terminal.
            where = f"{folder}/{path.name!a}"
            raise TraceError(where, "the file's name, which names the camera, cannot be printed", "rename it")
        if name in names:
            raise TraceError(str(path), f"names the same camera as {names[name].name}", "rename one of them")
        names[name] = path
    return [read_camera(path, name, reading) for name, path in names.items()]


def read_camera(path: Path, name: str, reading: Reading) -> Camera:
    """Read one camera's file.

    Raises:
        TraceError: File, line, what was found and what to do.
    """
    line, header = next(read_rows(path))
    here = f"{path}:{line}"
    for cell in filter(is_time, header):
        raise TraceError(here, f"the first row is no header, it holds the time {shown(cell)}", "name the columns above")
    time_at = _column(header, reading.column, TIMES, here, "--column")
    count_at = _count_column(header, reading, time_at, here)
    column, count_column = header[time_at], None if count_at is None else header[count_at]
    times = Times(reading.zone)
    lines, values, counts, keys = _read(path, times, column, count_column)
    known = counts >= 0
    if not known.any():
        raise TraceError(str(path), f"no row has a count in column {count_column!r}", "give counts, or take it out")
    lines, values, counts, keys = lines[known], values[known], counts[known], keys[known]
    instants = times.instants(
        values, lines, lambda at: f"{path}:{at}: column {column!r}", reading.twice, counted=count_column is not None
    )
    step = -1 if newest_first(instants) else 1
    disordered = int((instants[::step] < np.maximum.accumulate(instants[::step])).sum())
    order = np.argsort(instants, kind="stable")
    camera = Camera(
        name,
        path,
        (column, count_column),
        instants[order],
        instants[order],
        counts[order],
        lines[order],
        0.0,
        disordered=disordered,
        unknown=len(known) - len(lines),
    )
    camera = _without_duplicates(camera, keys[order], reading)
    if not camera.requests:
        raise TraceError(str(path), "holds no request", "take the file out of the folder")
    camera = _laid_out(camera, reading)
    if times.local and reading.zone is not None:
        camera = replace(camera, jumps=tuple(jumps_between(camera.first, camera.last, reading.zone)))
    return camera


def origin_of(cameras: Sequence[Camera], slot_s: float) -> int:
    """Return the instant at which slot 1 begins: the first of all cameras, down to a whole number of slots."""
    slot = max(1, round(slot_s * SECOND))
    return min(camera.first for camera in cameras) // slot * slot


def slots_of(cameras: Sequence[Camera], origin: int, slot_s: float) -> int:
    """Return how many slots it takes from the origin until all cameras have ended.

    Raises:
        TraceError: There would be more than 10,000,000.
    """
    # Slots and intervals end before their ends, a request is at its instant.
    last = max(camera.last - (camera.columns[1] is not None) for camera in cameras)
    slots = (last - origin) // max(1, round(slot_s * SECOND)) + 1
    if slots > MOST_SLOTS:
        raise TraceError("--slot-s", f"{slots:,} slots are more than {MOST_SLOTS:,}", "give longer ones")
    return slots


def length(seconds: float) -> str:
    """Return a length of time in the two largest units that it has.

    >>> length(7500.0), length(59.0), length(0.25)
    ('2 h 5 min', '59 s', '0.25 s')
    """
    rest, parts = round(seconds), []
    if rest < 1:
        return f"{seconds:.3g} s"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if rest >= size:
            parts.append(f"{rest // size:,} {unit}")
            rest %= size
    return " ".join(parts[:2])


def _column(header: Sequence[str], given: str | None, usual: Sequence[str], where: str, option: str) -> int:
    if given is not None:
        return position(header, given, where)
    lower = [name.lower() for name in header]
    for name in usual:
        if name in lower:
            return position(header, header[lower.index(name)], where)
    if len(header) == 1:
        return 0
    known = ", ".join(map(shown, header[:12]))
    raise TraceError(where, f"none of the columns {known} is known to hold times", f"name one with {option}")


def _count_column(header: Sequence[str], reading: Reading, time_at: int, where: str) -> int | None:
    if reading.count_column is not None:
        found = position(header, reading.count_column, where)
    else:
        places = [k for k, name in enumerate(header) if name.lower() in COUNTS]
        if not places:
            if reading.interval_s is not None:
                remedy = f"name the column of counts with --count-column; {nearest('requests', header)}"
                raise TraceError(where, "--interval-s is for counts, and no column holds any", remedy)
            return None
        found = places[0]
    if found == time_at:
        raise TraceError(where, f"column {header[found]!r} cannot be times and counts", "give --column")
    return found


class _Counts(WholeNumbers):
    """Whole numbers at least 0, and -1 where the count is not known."""

    def leading(self, cells: Sequence[str]) -> Whole:
        """Return the values of the cells before the first that has none."""
        found: list[int] = []
        with suppress(TraceError):
            for cell in map(str.strip, cells):
                found.append(-1 if cell.lower() in UNKNOWN else whole_number(cell, ""))
        return np.array(found, dtype=np.int64)


def _read(path: Path, times: Times, column: str, count_column: str | None) -> tuple[Whole, Nanoseconds, Whole, Whole]:
    """Return line, time and count of every row, and its key; without a column of counts, these are ones."""
    kinds: dict[str, Kind] = {column: times}
    if count_column is not None:
        kinds[count_column] = _Counts()
    parts = [(chunk.lines, chunk.keys, *chunk.columns.values()) for chunk in read_chunks(path, kinds)]
    lines, keys, values, *counted = (np.concatenate(one) for one in zip(*parts, strict=True))
    counts = counted[0] if counted else np.ones(len(lines), dtype=np.int64)
    if (total := float(counts.sum(dtype=np.float64))) > MOST_WHOLE:
        raise TraceError(str(path), f"holds {total:g} requests", f"give {MOST_WHOLE:,} at most")
    return lines, values, counts, keys


def _repeated(instants: Nanoseconds, keys: Whole) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Say of rows in the order of their instants which repeat one above cell by cell."""
    same = np.diff(instants) == 0
    shared = np.flatnonzero(np.append(same, False) | np.append(False, same))
    order = shared[np.lexsort((keys[shared], instants[shared]))]
    repeated = np.zeros(len(instants), dtype=bool)
    repeated[order[1:]] = (np.diff(instants[order]) == 0) & (np.diff(keys[order]) == 0)
    return repeated


def _without_duplicates(camera: Camera, keys: Whole, reading: Reading) -> Camera:
    """Count the rows that repeat another, and do with them what was asked for."""
    counted = camera.columns[1] is not None
    repeated = np.append(False, np.diff(camera.instants) == 0) if counted else _repeated(camera.instants, keys)
    found = np.flatnonzero(repeated)
    choice = reading.duplicates or ("refuse" if counted else "keep")
    if not found.size:
        return camera
    fate = "dropped" if choice == "drop" else "added up" if counted else "kept"
    camera = replace(camera, duplicates=len(found), fate_of_duplicates=fate)
    if choice == "keep" and not counted:
        return camera
    index = int(found[0])
    where = f"{camera.file}:{camera.lines[index]}"
    if choice == "refuse":
        what = f"a second count of the interval of line {camera.lines[index - 1]}" if counted else "repeats a row above"
        raise TraceError(where, what, f"give --duplicates drop, or keep to {'add them up' if counted else 'have both'}")
    kept = np.flatnonzero(~repeated)
    counts = camera.counts[kept]
    if choice == "keep":
        counts = np.add.reduceat(camera.counts, kept)
    elif counted and (camera.counts[found] != camera.counts[found - 1]).any():
        index = int(found[camera.counts[found] != camera.counts[found - 1]][0])
        raise TraceError(
            f"{camera.file}:{camera.lines[index]}",
            f"counts {camera.counts[index]} where line {camera.lines[index - 1]} counts {camera.counts[index - 1]}",
            "mend one of them, or add them up by --duplicates keep",
        )
    parts = {name: getattr(camera, name)[kept] for name in ("instants", "ends", "lines")}
    return replace(camera, counts=counts, **parts)


def _laid_out(camera: Camera, reading: Reading) -> Camera:
    """Give counts their intervals, and find the gaps."""
    steps = np.diff(camera.instants)
    if camera.columns[1] is None:
        rises = np.sort(steps[steps > 0]) / SECOND
        usual = float(rises[int(0.95 * (len(rises) - 1))]) if rises.size else 0.0
        gap_s = max(SHORTEST_GAP_S, UNUSUAL * usual) if reading.gap_s is None else reading.gap_s
        ends = camera.instants
    else:
        if reading.interval_s is None and not steps.size:
            remedy = "say how long it is for by --interval-s"
            raise TraceError(f"{camera.file}:{camera.lines[0]}", "is the only count", remedy)
        interval_s = (
            float(np.sort(steps)[len(steps) // 2]) / SECOND if reading.interval_s is None else reading.interval_s
        )
        interval = round(interval_s * SECOND)
        gap_s = 1.5 * interval_s if reading.gap_s is None else reading.gap_s
        # Clocks that are a little off do not make gaps or have intervals overlap.
        ends = camera.instants + interval
        near = steps <= 1.5 * interval
        ends[:-1][near] = camera.instants[1:][near]
        short = np.flatnonzero(steps < interval // 2)
        if short.size:
            index = int(short[0]) + 1
            found = f"begins {length(steps[index - 1] / SECOND)} after the interval of line {camera.lines[index - 1]}"
            remedy = f"intervals last {length(interval_s)}; give --interval-s if that is wrong"
            raise TraceError(f"{camera.file}:{camera.lines[index]}", found, remedy)
    wide = np.flatnonzero(steps > gap_s * SECOND)
    gaps = tuple(
        Gap(int(ends[k]), int(camera.instants[k + 1]), int(camera.lines[k + 1]))
        for k in wide.tolist()
        if camera.instants[k + 1] > ends[k]
    )
    return replace(camera, ends=ends, gap_s=gap_s, gaps=gaps)

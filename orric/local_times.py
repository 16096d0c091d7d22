"""Times as cameras and loggers write them, as instants: with a zone, as seconds since 1970, or in local time.

An instant is a whole number of nanoseconds since 1970-01-01 00:00 UTC. Local times have two faults that instants have
not: in autumn an hour comes twice, and in spring one is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from orric.csv_chunks import Instants
from orric.csv_rows import shown
from orric.exceptions import ScenarioError, TraceError
from orric.instants import CALENDAR, ISO, SECOND, Bytes, Flags, Form, Nanoseconds, digits, fault, parsed

Array = np.ndarray[Any, Any]
Twice = Literal["order", "first", "second"]
_MINUTE, _DAY = 60 * SECOND, 86_400 * SECOND
# Seconds have 9 or 10 digits from 1973 to the year 2199, milliseconds 12 or 13.
_EPOCH = re.compile(r"(?P<whole>\d{9,14})(?:\.(?P<fraction>\d{0,9})\d*)?", re.ASCII)
_LAST_S = np.datetime64("2200-01-01", "s").astype(np.int64)
_REMEDY = f"{ISO}, the same with Z or +02:00 behind it, or seconds since 1970"
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)


@dataclass(frozen=True)
class Jump:
    """A change of the clocks.

    Attributes:
        instant: When.
        shift_s: By how much they were put forward; below 0: back.
    """

    instant: int
    shift_s: int


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name in the IANA list, "UTC", or a fixed distance from it, such as "+01:00".

    Raises:
        ScenarioError: There is no such zone.

    >>> str(zone_of("Europe/Berlin")), str(zone_of("+01:00"))
    ('Europe/Berlin', 'UTC+01:00')
    """
    if match := _OFFSET.fullmatch(name):
        minutes = 60 * int(match[2]) + int(match[3])
        if minutes < 24 * 60:
            return timezone(timedelta(minutes=minutes if match[1] == "+" else -minutes))
    try:
        return UTC if name.upper() == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        remedy = "give a name such as Europe/Berlin or UTC, or a fixed distance such as +01:00"
        raise ScenarioError("--zone", f"{shown(name)} is unknown", remedy) from None


def _epoch_values(places: Bytes, match: re.Match[str]) -> tuple[Nanoseconds, Flags]:
    """Return nanoseconds of seconds or milliseconds since 1970, and whether each is before the year 2200."""
    whole, fraction = match.span("whole"), match.span("fraction")
    decimals = 6 if whole[1] >= 12 else 9
    values = digits(places, whole, np.int64)
    good = values < _LAST_S * 10 ** (9 - decimals)
    nanoseconds = np.where(good, values, 0) * 10**decimals
    if match["fraction"]:
        start, end = fraction[0], min(fraction[1], fraction[0] + decimals)
        nanoseconds += digits(places, (start, end)) * np.int64(10 ** (decimals - (end - start)))
    return nanoseconds, good


class Times(Instants):
    """A column of times: all local, or all with a zone or as seconds since 1970; milliseconds are told by digits.

    Its values are instants, or of local times what a clock of UTC would show; `instants` turns these.

    Attributes:
        zone: Of times without one; None where they are to be refused.
    """

    forms = (CALENDAR, Form(_EPOCH, _epoch_values, lambda match: True))

    def __init__(self, zone: tzinfo | None) -> None:
        super().__init__()
        self.zone = zone

    @property
    def local(self) -> bool:
        """Whether the times are local."""
        return self.zoned is False

    def fault(self, cell: str, where: str) -> TraceError:
        """Return the error of a cell that has no value."""
        if self.local and self.zone is None and is_time(cell):
            return TraceError(where, f"{shown(cell)} has no zone", "say where the clock hung: --zone Europe/Berlin")
        return fault(cell, where, self.forms, _REMEDY)

    def instants(
        self,
        values: Nanoseconds,
        lines: Array,
        where: Callable[[int], str],
        twice: Twice = "order",
        *,
        counted: bool = False,
    ) -> Nanoseconds:
        """Return the instants of values in the order of the file's rows.

        Args:
            values: As they were read.
            lines: The line of each.
            where: Return file, line and column of a line, for the message.
            twice: Which a local time is that comes twice in a night: told by the "order" of rows, always the "first"
                or always the "second".
            counted: Whether a row tells of an interval, of which there is one row: a time that is no later than the
                one above it then begins the second pass, where no larger step back does.

        Raises:
            TraceError: With the line of the first value that stands for no instant or two.
        """
        if not self.local:
            return values
        assert self.zone is not None
        # Of a log with the newest row first, time goes on upwards.
        step = -1 if newest_first(values) else 1
        return _instants(values[::step], self.zone, lines[::step], where, twice, counted)[::step]

    def _leading(self, nanoseconds: Array, zones: Array, good: Array) -> Array:
        found = super()._leading(nanoseconds, zones, good)
        return found[:0] if self.local and self.zone is None else found


def is_time(text: str) -> bool:
    """Say whether a text can be read as a time."""
    return bool(parsed([text], Times.forms)[2][0])


def newest_first(times: Nanoseconds) -> bool:
    """Say whether times fall from the first to the last, and more often than they rise from row to row."""
    return bool(times[-1] < times[0] and np.sign(np.diff(times)).sum() < 0)


def jumps_between(first: int, last: int, zone: tzinfo) -> list[Jump]:
    """Return every change of the clocks of a zone after one instant and until another, to the second."""
    found = []
    known = range(first // SECOND, last // SECOND + 1, 86_400)
    for low, high in zip(known, [*known[1:], last // SECOND], strict=True):
        before, after = _offset_s(low, zone), _offset_s(high, zone)
        if before == after:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _offset_s(middle, zone) == before else (low, middle)
        found.append(Jump(high * SECOND, after - before))
    return found


def told(instant: int, zone: tzinfo) -> str:
    """Return an instant as people read it, to the second, with the zone's abbreviation."""
    return _moment(instant // SECOND, zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def iso(instant: int) -> str:
    """Return an instant in UTC as ISO 8601 has it, down to the second.

    >>> iso(0)
    '1970-01-01T00:00:00Z'
    """
    return _moment(instant // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(second: int, zone: tzinfo) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)).astimezone(zone)


def _offset_s(second: int, zone: tzinfo) -> int:
    return round((_moment(second, zone).utcoffset() or timedelta()).total_seconds())


def _instants(
    walls: Nanoseconds, zone: tzinfo, lines: Array, where: Callable[[int], str], twice: Twice, counted: bool
) -> Nanoseconds:
    """Return the instants at which a zone's clocks showed what they did, in the order of the file's rows."""
    first, second = _offsets(walls, zone)
    left_out = np.flatnonzero(first < second)
    if left_out.size:
        index = int(left_out[0])
        raise TraceError(
            where(int(lines[index])),
            f"there was no {_clock(walls[index])} in {zone}, whose clocks were put forward past it",
            "give the zone that the clock kept, e.g. --zone +01:00 where it knows of no summer time",
        )
    chosen = first.copy()
    doubtful = np.flatnonzero(first > second)
    if doubtful.size:
        # The hours that come twice lie half a year apart.
        hours = np.unique(walls[doubtful])
        nights = np.searchsorted(hours[1:][np.diff(hours) > _DAY], walls[doubtful], side="right")
        for night in np.unique(nights):
            rows = doubtful[nights == night]
            shift = int(first[rows[0]] - second[rows[0]])
            later = _later(walls[rows], shift, twice, where(int(lines[rows[0]])), zone, counted)
            chosen[rows[later:]] = second[rows[0]]
    found: Nanoseconds = walls - chosen
    return found


def _later(walls: Nanoseconds, shift: int, twice: Twice, where: str, zone: tzinfo, counted: bool) -> int:
    """Return from which row on the times of one night are those of the second pass."""
    if twice != "order":
        return len(walls) if twice == "first" else 0
    # Rows a little out of order are not the clocks' doing.
    back = np.flatnonzero(np.diff(walls) < -shift // 2) + 1
    if counted and not len(back):
        back = np.flatnonzero(np.diff(walls) <= 0) + 1  # of half hours and of hours
    if len(back) == 1:
        return int(back[0])
    found = f"{_clock(walls[0])} came twice in {zone}, and the order of the rows does not tell which is meant"
    raise TraceError(where, found, "say so by --twice first or --twice second, or write times with a zone")


def _offsets(walls: Nanoseconds, zone: tzinfo) -> tuple[Nanoseconds, Nanoseconds]:
    """Return the offsets from UTC, in nanoseconds, of the first time that the clocks show each, and of the second."""
    days, places = np.unique(walls // _DAY, return_inverse=True)
    of_days = np.array([_offsets_of(day * 1440, zone) + _offsets_of((day + 1) * 1440, zone) for day in days.tolist()])
    first, second = of_days[places, 0], of_days[places, 1]
    # Only days in which the clocks are changed need a closer look.
    changed = np.flatnonzero((of_days != of_days[:, :1]).any(axis=1)[places])
    if changed.size:
        minutes, places = np.unique(walls[changed] // _MINUTE, return_inverse=True)
        of_minutes = np.array([_offsets_of(minute, zone) for minute in minutes.tolist()])
        first[changed], second[changed] = of_minutes[places].T
    return first, second


def _offsets_of(minute: int, zone: tzinfo) -> tuple[int, int]:
    """Return the offsets from UTC, in nanoseconds, of a minute that the clocks show, for its first and second time."""
    wall = datetime(1970, 1, 1, tzinfo=zone) + timedelta(minutes=minute)
    found = [wall.replace(fold=fold).utcoffset() or timedelta() for fold in (0, 1)]
    return round(found[0].total_seconds()) * SECOND, round(found[1].total_seconds()) * SECOND


def _clock(wall: int) -> str:
    return _moment(int(wall) // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")

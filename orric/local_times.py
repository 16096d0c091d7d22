"""Times as cameras and loggers write them, as instants: with a zone, as seconds since 1970, or in local time.

An instant is a whole number of nanoseconds since 1970-01-01 00:00 UTC. Local times have two faults that instants have
not: in autumn an hour comes twice, and in spring one is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from orric.csv_rows import shown
from orric.exceptions import ScenarioError, TraceError

Instants = np.ndarray[Any, np.dtype[np.int64]]
Twice = Literal["order", "first", "second"]
SECOND = 1_000_000_000
_MINUTE = 60 * SECOND
_CALENDAR = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)? ?(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII | re.I
)
# Seconds have 9 to 11 digits from 1973 to the year 5138, milliseconds 12 to 14.
_EPOCH = re.compile(r"(\d{9,14})(?:\.(\d*))?", re.ASCII)
_REMEDY = "write 2026-10-25T14:30:00, the same with Z or +02:00 behind it, or seconds since 1970"
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


def read_times(
    lines: Sequence[int], cells: Sequence[str], where: str, column: str, zone: tzinfo | None, twice: Twice = "order"
) -> tuple[Instants, bool]:
    """Return the instants that the cells of a column stand for, and whether they are local times.

    Args:
        lines: The line of every cell.
        cells: All with a zone or as seconds since 1970 (milliseconds are told by their digits), or all without.
        where: The file.
        column: Name of the column.
        zone: Of times without one; None where they are to be refused.
        twice: Which a local time is that comes twice in a night: told by the "order" of rows, always the "first" or
            always the "second".

    Raises:
        TraceError: With the line of the first cell that cannot be read, has no zone, or stands for no instant or two.
    """
    values = np.empty(len(cells), np.int64)
    days: dict[str, int] = {}
    first_local: bool | None = None
    for index, cell in enumerate(cells):
        here = f"{where}:{lines[index]}: column {column!r}"
        found = _read(cell.strip(), days)
        if found is None:
            raise TraceError(here, f"found {shown(cell)}", _REMEDY)
        values[index], local = found
        if first_local is None:
            first_local = local
        if local != first_local:
            other = "no zone, unlike" if local else "a zone, unlike"
            raise TraceError(here, f"{shown(cell)} has {other} the times above it", "write all times of a file alike")
        if local and zone is None:
            raise TraceError(here, f"{shown(cell)} has no zone", "say where the clock hung: --zone Europe/Berlin")
    if not first_local:
        return values, False
    assert zone is not None
    # Of a log with the newest row first, time goes on upwards.
    step = -1 if newest_first(values) else 1
    return _instants(values[::step], zone, lines[::step], where, column, twice)[::step], True


def is_time(text: str) -> bool:
    """Say whether a text can be read as a time."""
    return _read(text.strip(), {}) is not None


def newest_first(times: Instants) -> bool:
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


def _read(text: str, days: dict[str, int]) -> tuple[int, bool] | None:
    """Return nanoseconds since 1970, and whether they are local; None for what is no time."""
    if match := _EPOCH.fullmatch(text):
        digits = 3 if len(match[1]) >= 12 else 0
        fraction = ((match[2] or "") + "0" * 9)[: 9 - digits]
        return int(match[1]) * 10 ** (9 - digits) + int(fraction), False
    match = _CALENDAR.fullmatch(text)
    if match is None:
        return None
    day, hour, minute, second, fraction, zone = match.groups()
    if day not in days:
        try:
            days[day] = date.fromisoformat(day).toordinal() - date(1970, 1, 1).toordinal()
        except ValueError:
            return None
        # What does not fit into 64 bits, and what no camera saw.
        if not 0 <= days[day] < 100_000:
            return None
    if int(hour) > 23 or int(minute) > 59 or int(second or 0) > 59:
        return None
    value = days[day] * 86_400 + int(hour) * 3600 + int(minute) * 60 + int(second or 0)
    if zone and zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
        if hours > 23 or minutes > 59:
            return None
        value -= (1 if zone[0] == "+" else -1) * (hours * 3600 + minutes * 60)
    return value * SECOND + int((fraction or "").ljust(9, "0")), zone is None


def _instants(walls: Instants, zone: tzinfo, lines: Sequence[int], where: str, column: str, twice: Twice) -> Instants:
    """Return the instants at which a zone's clocks showed what they did, in the order of the file's rows."""
    minutes, places = np.unique(walls // _MINUTE, return_inverse=True)
    offsets = np.array([_offsets_of(int(minute), zone) for minute in minutes], np.int64)
    # As of the first time that the clocks show it, and of the second.
    first, second = offsets[places, 0], offsets[places, 1]
    left_out = np.flatnonzero(first < second)
    if left_out.size:
        index = int(left_out[0])
        raise TraceError(
            f"{where}:{lines[index]}: column {column!r}",
            f"there was no {_clock(walls[index])} in {zone}, whose clocks were put forward past it",
            "give the zone that the clock kept, e.g. --zone +01:00 where it knows of no summer time",
        )
    chosen = first.copy()
    doubtful = np.flatnonzero(first > second)
    if doubtful.size:
        # The hours that come twice lie half a year apart.
        hours = np.unique(walls[doubtful])
        nights = np.searchsorted(hours[1:][np.diff(hours) > 86_400 * SECOND], walls[doubtful], side="right")
        for night in np.unique(nights):
            rows = doubtful[nights == night]
            shift = int(first[rows[0]] - second[rows[0]])
            chosen[rows[_later(walls[rows], shift, twice, f"{where}:{lines[rows[0]]}: column {column!r}", zone) :]] = (
                second[rows[0]]
            )
    found: Instants = walls - chosen
    return found


def _later(walls: Instants, shift: int, twice: Twice, where: str, zone: tzinfo) -> int:
    """Return from which row on the times of one night are those of the second pass."""
    if twice != "order":
        return len(walls) if twice == "first" else 0
    # Rows a little out of order are not the clocks' doing.
    back = np.flatnonzero(np.diff(walls) < -shift // 2) + 1
    if len(back) == 1:
        return int(back[0])
    found = f"{_clock(walls[0])} came twice in {zone}, and the order of the rows does not tell which is meant"
    raise TraceError(where, found, "say so by --twice first or --twice second, or write times with a zone")


def _offsets_of(minute: int, zone: tzinfo) -> tuple[int, int]:
    """Return the offsets from UTC, in nanoseconds, of a minute that the clocks show, for its first and second time."""
    wall = datetime(1970, 1, 1, tzinfo=zone) + timedelta(minutes=minute)
    found = [wall.replace(fold=fold).utcoffset() or timedelta() for fold in (0, 1)]
    return round(found[0].total_seconds()) * SECOND, round(found[1].total_seconds()) * SECOND


def _clock(wall: int) -> str:
    return _moment(int(wall) // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")

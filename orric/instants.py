"""Times as whole nanoseconds, a column at a time: as ISO 8601 writes them, and in other forms that are given."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.csv_rows import DATE, shown
from orric.exceptions import TraceError

Nanoseconds = np.ndarray[Any, np.dtype[np.int64]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
SECOND = 1_000_000_000
# Nanoseconds since 1970 end in 2262; numpy wraps round without a word.
INSTANT = re.compile(
    r"(?P<year>19[7-9]\d|2[01]\d\d)-(?P<month>\d\d)-(?P<day>\d\d)[T ]"
    r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9})\d*)?)? ?"
    r"(?P<zone>Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?",
    re.ASCII | re.IGNORECASE,
)
ISO = "give ISO 8601 such as 2023-11-16 18:17:03.9799600, 1970 to 2199"
DAYS_OF_MONTH = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


@dataclass(frozen=True)
class Form:
    """A way to write times.

    Attributes:
        pattern: Of one time. Others of its layout have digits where it has digits, and else the same signs; a group
            "zone" may begin with + or -.
        values: Return nanoseconds since 1970 and whether each is a time, of texts of one layout: a row of bytes for
            each of their places, and a match of the pattern.
        zoned: Say by a match whether there is a time zone.
    """

    pattern: re.Pattern[str]
    values: Callable[[Bytes, re.Match[str]], tuple[Nanoseconds, Flags]]
    zoned: Callable[[re.Match[str]], bool]


def digits(places: Bytes, span: tuple[int, int], dtype: type[np.signedinteger[Any]] = np.int32) -> Any:
    """Return the numbers that texts of one layout have in their places from one until another."""
    value = np.zeros(places.shape[1], dtype=dtype)
    for place in range(*span):
        value *= 10
        value += places[place] - np.uint8(48)
    return value


def _values(places: Bytes, match: re.Match[str]) -> tuple[Nanoseconds, Flags]:
    """Return nanoseconds of texts of one layout, and whether each is a time."""
    year, month, day, hour, minute = (
        digits(places, match.span(part)) for part in ("year", "month", "day", "hour", "minute")
    )
    second = digits(places, match.span("second")) if match["second"] else np.zeros_like(minute)
    good = (year >= 1970) & (year <= 2199) & (month >= 1) & (month <= 12) & (day >= 1)
    good &= (hour < 24) & (minute < 60) & (second < 60)
    month, year = np.clip(month, 1, 12), np.clip(year, 1970, 2199)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    good &= day <= DAYS_OF_MONTH[month] + (leap & (month == 2))
    days = ((year - 1970) * 12 + month - 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + day - 1
    seconds = days * 86400 + (hour * 3600 + minute * 60 + second)
    zone = match["zone"]
    if zone and zone not in "Zz":
        start, end = match.span("zone")
        hours = digits(places, (start + 1, start + 3))
        minutes = digits(places, (end - 2, end)) if end - start > 3 else np.zeros_like(hours)
        good &= (hours < 24) & (minutes < 60)
        ahead = hours * 3600 + minutes * 60
        seconds -= np.where(places[start] == 45, -ahead, ahead)
    nanoseconds = seconds * SECOND
    if match["fraction"]:
        start, end = match.span("fraction")
        nanoseconds += digits(places, (start, end)) * np.int64(10 ** (9 - (end - start)))
    return nanoseconds, good


CALENDAR = Form(INSTANT, _values, lambda match: match["zone"] is not None)


def instants(
    cells: Sequence[str], lines: Sequence[int], where: str, column: str, zoned: bool | None = None
) -> tuple[Nanoseconds, bool]:
    """Return the times that the cells of a column hold, and whether they have a time zone.

    Args:
        cells: ISO 8601 times, one at least.
        lines: The line of each cell, for the message.
        where: The file, for the message.
        column: Its name, for the message.
        zoned: Whether the times must have a time zone. [default: as the first]

    Returns:
        Nanoseconds since 1970, UTC, shape (cells,); where there is no time zone, as though the clock showed UTC.

    Raises:
        TraceError: With the line of the first cell that is no such time, or has a time zone where others have none.

    >>> instants(["1970-01-01 00:00:01.5", "1970-01-02T00:00"], [2, 3], "log.csv", "when")
    (array([    1500000000, 86400000000000]), False)
    """
    nanoseconds, zones, good = parsed(cells)
    if zoned is None:
        zoned = bool(zones[0])
    wrong = np.flatnonzero(~good | (zones != zoned))
    if wrong.size:
        index = int(wrong[0])
        raise fault(cells[index], f"{where}:{lines[index]}: column {column!r}")
    return nanoseconds, zoned


def instant(text: str, where: str) -> tuple[int, bool]:
    """Return one time in nanoseconds since 1970, and whether it has a time zone.

    Raises:
        TraceError: It is no ISO 8601 time.
    """
    (nanoseconds,), (zoned,), (good,) = parsed([text])
    if not good:
        raise fault(text, where)
    return int(nanoseconds), bool(zoned)


def text_of(nanoseconds: int, zoned: bool) -> str:
    """Return a time as ISO 8601, without zeros behind the second.

    >>> text_of(1_500_000_000, True)
    '1970-01-01T00:00:01.5Z'
    """
    text = str(np.datetime64(nanoseconds, "ns")).rstrip("0").rstrip(".")
    whole = str(np.datetime64(nanoseconds // SECOND, "s"))
    return (text if len(text) > len(whole) else whole) + "Z" * zoned


def fault(cell: str, where: str, forms: Sequence[Form] = (CALENDAR,), remedy: str = ISO) -> TraceError:
    """Return the error of a cell that is no time, or one whose time zone is not as that of others.

    Args:
        cell: As in the file.
        where: File, line and column.
        forms: How times may be written.
        remedy: What to write in its place.
    """
    text = cell.strip()
    _, (zoned,), (good,) = parsed([text], forms)
    if good:
        found = f"{shown(cell)} has {'a' if zoned else 'no'} time zone, other than the first"
        return TraceError(where, found, "give all times a time zone, or none")
    if any(form.pattern.fullmatch(text) for form in forms):
        return TraceError(where, f"{shown(cell)} is no time", remedy)
    kind = ", a date of another form" if DATE.fullmatch(text) else ""
    return TraceError(where, f"found {shown(cell)}{kind}", remedy)


def parsed(cells: Sequence[str], forms: Sequence[Form] = (CALENDAR,)) -> tuple[Nanoseconds, Flags, Flags]:
    """Return nanoseconds, whether there is a time zone, and whether it is a time, up to the first that is none."""
    # A letter beyond ASCII makes no time; its cell is emptied, so that the others keep their places.
    texts = [cell if cell.isascii() else "" for cell in map(str.strip, cells)]
    data = np.frombuffer("".join(texts).encode(), dtype=np.uint8)
    return parsed_bytes(data, np.cumsum([0, *map(len, texts)]), forms)


def parsed_bytes(data: Bytes, ends: Any, forms: Sequence[Form] = (CALENDAR,)) -> tuple[Nanoseconds, Flags, Flags]:
    """Return what `parsed` does of texts that lie one behind another.

    Args:
        data: The texts in UTF-8, without a space before or after them.
        ends: Where the first begins and each ends, shape (texts + 1,).
        forms: How times may be written.

    Complexity: O(len(data)) for each layout of a time; nearly every file has but one or two.
    """
    count = len(ends) - 1
    nanoseconds = np.zeros(count, dtype=np.int64)
    zones, good, seen = np.zeros((3, count), dtype=bool)
    lengths = np.diff(ends)
    while not seen.all():
        first = int(np.argmin(seen))
        length = int(lengths[first])
        text = data[ends[first] : ends[first + 1]].tobytes().decode(errors="replace")
        matches = ((form, form.pattern.fullmatch(text)) for form in forms)
        form, match = next((one for one in matches if one[1]), (None, None))
        if form is None or match is None:
            break
        if not first and (lengths == length).all():
            rows = np.arange(count)
            block = data[ends[0] : ends[-1]].reshape(count, length)
        else:
            rows = np.flatnonzero(~seen & (lengths == length))
            block = data[ends[rows][:, None] + np.arange(length)]
        # A row for each place of the text: what follows goes through memory in order.
        places = np.ascontiguousarray(block.T)
        fits = _fits(places, match)
        if not fits.all():
            rows, places = rows[fits], places[:, fits]
        seen[rows] = True
        nanoseconds[rows], good[rows] = form.values(places, match)
        zones[rows] = form.zoned(match)
    return nanoseconds, zones, good


def _fits(places: Bytes, match: re.Match[str]) -> Flags:
    """Say which texts have digits and signs where the pattern's match has them."""
    fits = np.ones(places.shape[1], dtype=bool)
    sign = match.start("zone") if "zone" in match.re.groupindex else -1
    for place, character in enumerate(match[0]):
        column = places[place]
        if character.isdigit():
            fits &= (column - np.uint8(48)) <= 9
        elif character in "+-" and place == sign:
            fits &= (column == 43) | (column == 45)
        else:
            fits &= column == ord(character)
    return fits

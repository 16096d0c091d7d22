"""Rows of a CSV file, each with its line, so that whatever is wrong in it can be named."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from orric.exceptions import TraceError, nearest
from orric.section import readable

Array = np.ndarray[Any, np.dtype[np.float64]]
# Beyond it a float64 no longer holds every whole number.
MOST_WHOLE = 2**53
# Columns and characters that a message shows.
MOST_SHOWN, MOST_CHARACTERS = 12, 40
# Longer than any row of a trace; what has no line ends is not read into memory.
LONGEST_LINE = 2**24
# Dates that people write: 29.03.2025, 03/29/2025, 2025-3-29, 20250329T220000, 29 Mar 2025, 12:30.
DATE = re.compile(
    r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(?:[ T,].*)?|\d{8}T\d{4,6}Z?|.*\d{1,2}:\d\d.*|"
    r".*\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b.*\d.*",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)


def read_rows(path: str | Path, wanted: str = "", unit: str = "") -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) row by row, the header first. Blank rows are passed over; lines count from 1.

    Args:
        path: File to read, compressed where its name ends in .gz.
        wanted: The header that an empty file should have had, for the message.
        unit: What a row stands for, for the message.

    Raises:
        TraceError: The file cannot be read, is empty, is not CSV, has a header without rows, or a row has another
            number of cells than the header.
    """
    with opened(path) as file:
        rows = rows_of(text_lines(file, path), path)
        first, header = next(rows, (0, []))
        each = f"one row per {unit}" if unit else "its rows"
        if not header:
            remedy = f"write {f'the header {wanted}' if wanted else 'a header'} and {each}"
            raise TraceError(str(path), "the file is empty", remedy)
        if len(header) == 1 and set(";\t") & set(header[0]):
            found = f"the header is one column, {shown(header[0])}"
            raise TraceError(f"{path}:{first}", found, "separate columns with commas")
        # A quoted name may hold a line end, which would tear a message apart.
        yield first, [" ".join(cell.split()) for cell in header]
        number = 0
        for number, (line, row) in enumerate(rows, start=1):  # noqa: B007 (told after the loop)
            if len(row) != len(header):
                raise of_other_width(row, len(header), f"{path}:{line}")
            yield line, row
        if not number:
            raise TraceError(f"{path}:{first}", f"no {unit or 'row'}s follow the header", f"write {each}")


@contextmanager
def opened(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file to read, uncompressed; whatever fails in the block gets one line."""
    packed = str(path).endswith(".gz")
    with readable(path, TraceError):
        try:
            with cast(IO[bytes], gzip.open(path)) if packed else Path(path).open("rb") as file:
                yield file
        except (gzip.BadGzipFile, zlib.error, EOFError):
            raise TraceError(str(path), "is no whole gzip file", "compress it with gzip, or take .gz away") from None


def text_lines(file: IO[bytes], path: str | Path) -> Iterator[str]:
    """Yield the lines of a file in UTF-8, with their ends; one without an end in sight is refused."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        for number, line in enumerate(iter(partial(text.readline, LONGEST_LINE), ""), start=1):
            if len(line) == LONGEST_LINE:
                found = f"a line of more than {LONGEST_LINE:,} characters"
                raise TraceError(f"{path}:{number}", found, "give a text file with one row a line")
            yield line
    finally:
        # Whoever opened the file closes it.
        with suppress(ValueError):
            text.detach()


def rows_of(lines: Iterable[str], path: str | Path, before: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of lines of which so many stand before; blank rows are passed over."""
    reader = csv.reader(lines)
    try:
        for row in reader:
            if row and (row[0].strip() or any(cell.strip() for cell in row)):
                yield before + reader.line_num, row
    except csv.Error as error:
        raise TraceError(f"{path}:{before + reader.line_num}", f"is not CSV: {error}", "mend the line named") from None


def of_other_width(row: Sequence[str], width: int, where: str) -> TraceError:
    """Return the error of a row that has not as many cells as the header."""
    return TraceError(where, f"{len(row)} cells", f"the header has {width} columns")


def read_column(path: str | Path, name: str) -> tuple[list[int], list[str]]:
    """Return the lines and the cells of one column.

    Raises:
        TraceError: The column is missing or stands twice, or whatever `read_rows` refuses.
    """
    rows = read_rows(path)
    line, header = next(rows)
    index = position(header, name, f"{path}:{line}")
    lines, cells = [], []
    for line, row in rows:
        lines.append(line)
        cells.append(row[index])
    return lines, cells


def position(header: Sequence[str], name: str, where: str) -> int:
    """Return the index of a column that must stand in a header once."""
    if name not in header:
        remedy = nearest(name, header)
        if len(header) > MOST_SHOWN and remedy.startswith("known"):
            remedy = f"known: {', '.join(header[:MOST_SHOWN])} and {len(header) - MOST_SHOWN} more"
        raise TraceError(where, f"column {shown(name)} is missing", remedy)
    if header.count(name) > 1:
        raise TraceError(where, f"column {shown(name)} stands twice", "name every column once")
    return header.index(name)


def numbers(lines: Sequence[int], cells: Sequence[str], where: str, column: str) -> Array:
    """Return the finite numbers that the cells of a column hold.

    Raises:
        TraceError: With the line of the first cell that holds none.
    """
    values = leading_numbers(cells)
    if len(values) < len(cells):
        raise no_number(cells[len(values)], f"{where}:{lines[len(values)]}: column {column!r}")
    return values


def leading_numbers(cells: Sequence[str]) -> Array:
    """Return the finite numbers of the cells before the first that holds none."""
    try:
        values = np.array([float(cell) for cell in cells])
        # Python reads 1_0 as 10; nobody else does.
        if np.isfinite(values).all() and not any("_" in cell for cell in cells):
            return values
    except ValueError:
        pass
    found = []
    for cell in cells:
        try:
            found.append(float("nan") if "_" in cell else float(cell))
        except ValueError:
            break
        if not np.isfinite(found[-1]):
            found.pop()
            break
    return np.array(found, dtype=np.float64)


def no_number(cell: str, where: str) -> TraceError:
    """Return the error of a cell that is no finite number."""
    if DATE.fullmatch(cell.strip()):
        remedy = "give seconds, or ISO 8601 throughout where a column of times may hold it"
        return TraceError(where, f"found {shown(cell)}, a date and no finite number", remedy)
    return TraceError(where, f"found {shown(cell)}", "give a finite number")


def whole_number(cell: str, where: str) -> int:
    """Return the whole number >= 0 that a cell holds."""
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if "_" in cell or not 0 <= value <= MOST_WHOLE or not value.is_integer():
        raise no_whole_number(cell, where)
    return int(value)


def no_whole_number(cell: str, where: str) -> TraceError:
    """Return the error of a cell that is no whole number >= 0."""
    return TraceError(where, f"found {shown(cell)}", "give a whole number >= 0")


def shown(cell: str) -> str:
    """Return a cell as a message shows it: quoted, and not too long."""
    return repr(cell if len(cell) <= MOST_CHARACTERS else cell[:MOST_CHARACTERS] + "...")

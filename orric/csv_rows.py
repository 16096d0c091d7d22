"""Rows of a CSV file, each with its line, so that whatever is wrong in it can be named."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orric.exceptions import TraceError, nearest
from orric.section import readable

Array = np.ndarray[Any, np.dtype[np.float64]]
# Beyond it a float64 no longer holds every whole number.
MOST_WHOLE = 2**53
# Columns and characters that a message shows.
MOST_SHOWN, MOST_CHARACTERS = 12, 40


def read_rows(path: str | Path, wanted: str = "", unit: str = "row") -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) row by row, the header first. Blank rows are passed over; lines count from 1.

    Args:
        path: File to read.
        wanted: The header that an empty file should have had, for the message.
        unit: What a row stands for, for the message.

    Raises:
        TraceError: The file cannot be read, is empty, is not CSV, has a header without rows, or a row has another
            number of cells than the header.
    """
    with readable(path, TraceError), Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        width = rows = first = 0
        try:
            for row in reader:
                if not row or (not row[0].strip() and not any(cell.strip() for cell in row)):
                    continue
                if not width:
                    width, first = len(row), reader.line_num
                    if width == 1 and set(";\t") & set(row[0]):
                        found = f"the header is one column, {shown(row[0])}"
                        raise TraceError(f"{path}:{reader.line_num}", found, "separate columns with commas")
                    # A quoted name may hold a line end, which would tear a message apart.
                    yield first, [" ".join(cell.split()) for cell in row]
                    continue
                if len(row) != width:
                    found = f"{len(row)} cells"
                    raise TraceError(f"{path}:{reader.line_num}", found, f"the header has {width} columns")
                rows += 1
                yield reader.line_num, row
        except csv.Error as error:
            raise TraceError(f"{path}:{reader.line_num}", f"is not CSV: {error}", "mend the line named") from None
        if not width:
            remedy = f"write {f'the header {wanted}' if wanted else 'a header'} and one row per {unit}"
            raise TraceError(str(path), "the file is empty", remedy)
        if not rows:
            raise TraceError(f"{path}:{first}", f"no {unit}s follow the header", f"write one row per {unit}")


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
    try:
        values = np.array([float(cell) for cell in cells])
        # Python reads 1_0 as 10; nobody else does.
        if np.isfinite(values).all() and not any("_" in cell for cell in cells):
            return values
    except ValueError:
        pass
    for line, cell in zip(lines, cells, strict=True):
        try:
            fine = "_" not in cell and np.isfinite(float(cell))
        except ValueError:
            fine = False
        if not fine:
            raise TraceError(f"{where}:{line}: column {column!r}", f"found {shown(cell)}", "give a finite number")
    raise AssertionError("a cell that is no finite number was not found again")


def whole_number(cell: str, where: str) -> int:
    """Return the whole number >= 0 that a cell holds."""
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if "_" in cell or not 0 <= value <= MOST_WHOLE or not value.is_integer():
        raise TraceError(where, f"found {shown(cell)}", "give a whole number >= 0")
    return int(value)


def shown(cell: str) -> str:
    """Return a cell as a message shows it: quoted, and not too long."""
    return repr(cell if len(cell) <= MOST_CHARACTERS else cell[:MOST_CHARACTERS] + "...")

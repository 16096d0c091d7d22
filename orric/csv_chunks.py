"""Columns of a CSV file as arrays, chunk by chunk, in memory that does not grow with the file.

What is read is what `csv_rows` and its exact messages say. Where pyarrow is installed it reads the chunks of which it
is certain that they mean the same: no quotes, no odd line ends, no cell that it cannot turn. Any other chunk goes to
the exact reader, which has the last word.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from orric.csv_rows import (
    LONGEST_LINE,
    leading_numbers,
    no_number,
    no_whole_number,
    of_other_width,
    opened,
    position,
    read_rows,
    rows_of,
    whole_number,
)
from orric.exceptions import TraceError
from orric.instants import CALENDAR, Form, fault, parsed, parsed_bytes

Array = np.ndarray[Any, Any]
CHUNK_BYTES, CHUNK_ROWS = 2**21, 2**15
# A longer field is refused by the exact reader (csv.field_size_limit).
LONGEST_FIELD = 131_072


class Kind(Protocol):
    """How the cells of a column become an array."""

    arrow: str

    def leading(self, cells: Sequence[str]) -> Array:
        """Return the values of the cells before the first that has none."""

    def fault(self, cell: str, where: str) -> TraceError:
        """Return the error of a cell that has no value."""

    def of_arrow(self, column: Any) -> Array | None:
        """Return the values of a column that pyarrow read, or None where the exact reader must look."""


class Numbers:
    """Finite numbers, float64."""

    arrow = "double"

    def leading(self, cells: Sequence[str]) -> Array:
        """Return the values of the cells before the first that has none."""
        return leading_numbers(cells)

    def fault(self, cell: str, where: str) -> TraceError:
        """Return the error of a cell that has no value."""
        return no_number(cell, where)

    def of_arrow(self, column: Any) -> Array | None:
        """Return the values of a column that pyarrow read, or None where the exact reader must look."""
        values: Array = column.to_numpy()
        return values if np.isfinite(values).all() else None


class WholeNumbers(Numbers):
    """Whole numbers at least 0, int64."""

    def leading(self, cells: Sequence[str]) -> Array:
        """Return the values of the cells before the first that has none."""
        found: list[int] = []
        with suppress(TraceError):
            found.extend(whole_number(cell, "") for cell in cells)
        return np.array(found, dtype=np.int64)

    def fault(self, cell: str, where: str) -> TraceError:
        """Return the error of a cell that has no value."""
        return no_whole_number(cell, where)

    def of_arrow(self, column: Any) -> Array | None:
        """Return the values of a column that pyarrow read, or None where the exact reader must look."""
        values: Array = column.to_numpy()
        fine = (values >= 0) & (values <= 2**53) & (values == np.floor(values))
        return values.astype(np.int64) if fine.all() else None


class Instants:
    """Times in nanoseconds since 1970, int64; all have a time zone, or none has.

    Attributes:
        forms: How they may be written.
        zoned: Whether they have one; None until the first is read.
    """

    arrow = "binary"
    forms: tuple[Form, ...] = (CALENDAR,)

    def __init__(self, zoned: bool | None = None) -> None:
        self.zoned = zoned

    def leading(self, cells: Sequence[str]) -> Array:
        """Return the values of the cells before the first that has none."""
        return self._leading(*parsed(cells, self.forms))

    def fault(self, cell: str, where: str) -> TraceError:
        """Return the error of a cell that has no value."""
        return fault(cell, where, self.forms)

    def of_arrow(self, column: Any) -> Array | None:
        """Return the values of a column that pyarrow read, or None where the exact reader must look."""
        if not len(column):
            return np.zeros(0, dtype=np.int64)
        _, offsets, data = column.buffers()
        ends = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
        text = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8)
        found = self._leading(*parsed_bytes(text, ends, self.forms))
        return found if len(found) == len(column) else None

    def _leading(self, nanoseconds: Array, zones: Array, good: Array) -> Array:
        if self.zoned is None and good[0]:
            self.zoned = bool(zones[0])
        wrong = np.flatnonzero(~good | (zones != self.zoned))
        return nanoseconds[: wrong[0]] if wrong.size else nanoseconds


class Chunk:
    """Rows that follow one another.

    Attributes:
        columns: The values of each column that was asked for, shape (rows,).
    """

    def __init__(
        self,
        columns: Mapping[str, Array],
        header: Sequence[str],
        rows: Any,
        text: bytes = b"",
        first: int | None = None,
    ) -> None:
        self.columns, self._header, self._rows = columns, header, rows
        # Where each line holds a row without quotes: the lines, and the number of the first.
        self._text, self._first = text, first

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def lines(self) -> Array:
        """The line of each row, int64, shape (rows,)."""
        if self._first is not None:
            return np.arange(self._first, self._first + len(self), dtype=np.int64)
        return np.array([line for line, _ in self._listed()[: len(self)]], dtype=np.int64)

    @property
    def keys(self) -> Array:
        """A number for each row, int64, shape (rows,): rows that have the same cells have the same number.

        Others have another but for one pair in 2**64.
        """
        if self._first is not None:
            return np.fromiter(map(hash, self._text.replace(b"\r\n", b"\n").split(b"\n")), np.int64, len(self))
        return np.fromiter((_key(row) for _, row in self._listed()), np.int64, len(self))

    def place(self, index: int, column: str) -> tuple[int, str]:
        """Return the line and the cell from which a value came."""
        line, row = self._listed()[index]
        return line, row[self._header.index(column)]

    def _listed(self) -> list[tuple[int, list[str]]]:
        found: list[tuple[int, list[str]]] = self._rows() if callable(self._rows) else self._rows
        return found


def read_chunks(path: str | Path, kinds: Mapping[str, Kind]) -> Iterator[Chunk]:
    """Yield the rows of a file, so many at a time; none of the chunks is empty.

    Args:
        path: File to read.
        kinds: How to read each column that is wanted, by its name.

    Raises:
        TraceError: With the line of the first thing that is wrong, after all rows before it.
    """
    rows = read_rows(path)
    line, header = next(rows)
    for name in kinds:
        position(header, name, f"{path}:{line}")
    done, ended = yield from _fast_chunks(path, kinds, header, line)
    if not (done and ended):
        yield from _exact_chunks(islice(rows, done, None), path, kinds, header)


def _exact_chunks(
    rows: Iterator[tuple[int, list[str]]], path: str | Path, kinds: Mapping[str, Kind], header: Sequence[str]
) -> Iterator[Chunk]:
    """Yield chunks of rows that are read one by one."""
    while True:
        taken: list[tuple[int, list[str]]] = []
        stopped = None
        try:
            for row in islice(rows, CHUNK_ROWS):
                taken.append(row)
        except TraceError as error:
            stopped = error
        if taken:
            places = {name: header.index(name) for name in kinds}
            values = {name: kind.leading([row[places[name]] for _, row in taken]) for name, kind in kinds.items()}
            least = min(values, key=lambda name: len(values[name]))
            good = len(values[least])
            if good:
                yield Chunk({name: array[:good] for name, array in values.items()}, header, taken)
            if good < len(taken):
                line, cells = taken[good]
                raise kinds[least].fault(cells[places[least]], f"{path}:{line}: column {least!r}")
        if stopped is not None:
            raise stopped
        if len(taken) < CHUNK_ROWS:
            return


def _fast_chunks(
    path: str | Path, kinds: Mapping[str, Kind], header: Sequence[str], line: int
) -> Generator[Chunk, None, tuple[int, bool]]:
    """Yield chunks from the first row on, as far as the exact reader need not follow the text from its beginning.

    Returns:
        How many rows they had, and whether these are all.
    """
    done = 0
    try:
        import pyarrow.csv
    except ImportError:
        return done, False
    with opened(path) as file:
        for _ in range(line):
            if not _plain(file.readline(LONGEST_LINE), header=True):
                return done, False
        left = b""
        while True:
            block = file.read(CHUNK_BYTES)
            text, end, left = (left + block).rpartition(b"\n") if block else (left, b"", b"")
            text += end
            if text:
                if not _plain(text):
                    return done, False
                columns = _columns(pyarrow.csv, text, kinds, header)

                def rows(text: bytes = text, before: int = line) -> Iterator[tuple[int, list[str]]]:
                    lines = io.StringIO(text.decode(), newline="")
                    for at, row in rows_of(lines, path, before):
                        if len(row) != len(header):
                            raise of_other_width(row, len(header), f"{path}:{at}")
                        yield at, row

                if columns is None:
                    chunks = _exact_chunks(rows(), path, kinds, header)
                else:
                    # Blank lines hold no row.
                    each = len(next(iter(columns.values()))) == text.count(b"\n") + (not text.endswith(b"\n"))
                    first = line + 1 if each else None
                    chunks = iter([Chunk(columns, header, lambda rows=rows: list(rows()), text, first)])
                for chunk in chunks:
                    if len(chunk):
                        done += len(chunk)
                        yield chunk
                line += text.count(b"\n")
            if not block or len(left) > LONGEST_FIELD:
                return done, not block


def _key(row: Sequence[str]) -> int:
    """Return the number of a row: that of its line, unless there is a comma in a cell, as no plain line has it."""
    line = ",".join(row)
    return hash(line.encode() if line.count(",") == len(row) - 1 else tuple(row))


def _plain(text: bytes, header: bool = False) -> bool:
    """Say whether lines are UTF-8 and mean the same to every reader of CSV, by their signs alone."""
    if b'"' in text and not header:
        return False
    if b"\r" in text and text.count(b"\r") != text.count(b"\r\n"):
        return False
    half = LONGEST_FIELD // 2
    if any(b"\n" not in text[start : start + half] for start in range(0, len(text) - half, half)):
        return False
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _columns(csv: Any, text: bytes, kinds: Mapping[str, Kind], header: Sequence[str]) -> dict[str, Array] | None:
    """Return the columns as pyarrow reads them, or None where the exact reader must look."""
    import pyarrow

    # Names may stand twice among the columns that are not wanted.
    names = {name: str(header.index(name)) for name in kinds}
    try:
        table = csv.read_csv(
            pyarrow.BufferReader(text),
            csv.ReadOptions(
                use_threads=False, block_size=len(text) + 1, column_names=[str(place) for place in range(len(header))]
            ),
            csv.ParseOptions(quote_char=False),
            csv.ConvertOptions(
                include_columns=list(names.values()),
                column_types={names[name]: pyarrow.type_for_alias(kind.arrow) for name, kind in kinds.items()},
                null_values=[],
                check_utf8=False,
            ),
        )
    except pyarrow.ArrowInvalid:
        return None
    found = {}
    for name, kind in kinds.items():
        column = table.column(names[name]).combine_chunks()
        values = None if column.null_count else kind.of_arrow(column)
        if values is None:
            return None
        found[name] = values
    return found

"""Requests and budgets slot by slot."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orric.csv_rows import read_rows
from orric.exceptions import TraceError, nearest
from orric.section import write_text

Array = np.ndarray[Any, np.dtype[np.float64]]
REQUIRED = ("slot", "requests", "budget_macs")
OPTIONAL = ("stream", "duration_s", "corruption", "severity")


@dataclass(frozen=True, eq=False)
class Trace:
    """What an allocator is given: D(t) and C(t) for slots t = 1..T.

    Attributes:
        requests: D(t), shape (T,), at least 0; some slot has requests.
        budget_macs: C(t) in MACs, shape (T,), at least 0.
        stream: Name of the stream.
        duration_s: Length of each slot in seconds, shape (T,), or None.
        corruption: Corruption in each slot, or None.
        severity: Its severity in each slot, 0 to 5, or None.
        source: Where the trace came from, for error messages.

    Raises:
        TraceError: An array is empty, or holds NaN, infinity or a negative number, or the lengths differ.

    >>> trace = Trace(requests=[1000, 1000], budget_macs=[8e9, 5e10])
    >>> trace.slots
    2
    """

    requests: Array
    budget_macs: Array
    stream: str = "stream-1"
    duration_s: Array | None = None
    corruption: tuple[str, ...] | None = None
    severity: tuple[int, ...] | None = None
    source: str = "trace"

    def __post_init__(self) -> None:
        for name in ("requests", "budget_macs", "duration_s"):
            values = getattr(self, name)
            if values is None:
                continue
            try:
                array = np.array(values, dtype=np.float64)
            except (TypeError, ValueError):
                raise TraceError(
                    self.source, f"{name} is not an array of numbers", "give one number per slot"
                ) from None
            array.setflags(write=False)
            object.__setattr__(self, name, array)
            if array.ndim != 1 or len(array) == 0:
                raise TraceError(
                    self.source, f"{name} has shape {array.shape}", "give one number per slot, one at least"
                )
            bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
            if bad.size:
                slot = int(bad[0])
                raise TraceError(
                    f"{self.source}: slot {slot + 1}: {name}", f"found {array[slot]:g}", "give a finite number >= 0"
                )
        for name in ("budget_macs", "duration_s", "corruption", "severity"):
            values = getattr(self, name)
            if values is not None and len(values) != self.slots:
                raise TraceError(
                    self.source, f"{name} has {len(values)} slots and requests {self.slots}", "give both for every slot"
                )
        for slot, level in enumerate(self.severity or (), start=1):
            if level not in range(6):
                raise TraceError(
                    f"{self.source}: slot {slot}: severity", f"found {level}", "give a whole number from 0 to 5"
                )
        if not self.requests.any():
            raise TraceError(self.source, "no slot has any requests", "give at least one slot with requests > 0")

    @property
    def slots(self) -> int:
        """T, the number of slots."""
        return len(self.requests)

    @property
    def least_requests(self) -> float:
        """D_min, over the slots that have requests."""
        return float(self.requests[self.requests > 0].min())

    @property
    def most_requests(self) -> float:
        """D_max."""
        return float(self.requests.max())

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a trace from CSV: slot,requests,budget_macs and optionally stream,duration_s,corruption,severity.

        Slots count from 1 without a gap.

        Raises:
            TraceError: With file, line and column of the first thing that is wrong.
        """
        rows = read_rows(path, wanted=",".join(REQUIRED), unit="slot")
        line, header = next(rows)
        for name in header:
            if name not in REQUIRED + OPTIONAL:
                raise TraceError(f"{path}:{line}", f"unknown column {name!r}", nearest(name, REQUIRED + OPTIONAL))
        if len(set(header)) != len(header):
            raise TraceError(f"{path}:{line}", "a column stands twice", "name every column once")
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise TraceError(f"{path}:{line}", f"column {missing[0]!r} is missing", f"required: {','.join(REQUIRED)}")
        columns: dict[str, list[Any]] = {name: [] for name in header}
        for expected, (line, row) in enumerate(rows, start=1):
            for name, cell in zip(header, row, strict=True):
                columns[name].append(_parsed(cell.strip(), name, f"{path}:{line}: column {name!r}"))
            if columns["slot"][-1] != expected:
                raise TraceError(
                    f"{path}:{line}: column 'slot'",
                    f"found {row[header.index('slot')].strip()}",
                    f"expected {expected}",
                )
        streams = sorted(set(columns.get("stream", ["stream-1"])))
        if len(streams) > 1:
            raise TraceError(str(path), f"holds {len(streams)} streams", "the slot model takes one; split the file")
        return cls(
            requests=np.array(columns["requests"]),
            budget_macs=np.array(columns["budget_macs"]),
            stream=streams[0],
            duration_s=np.array(columns["duration_s"]) if "duration_s" in columns else None,
            corruption=tuple(columns["corruption"]) if "corruption" in columns else None,
            severity=tuple(int(value) for value in columns["severity"]) if "severity" in columns else None,
            source=str(path),
        )

    def save(self, path: str | Path) -> None:
        """Write the trace as CSV, numbers in full precision; the file appears whole or not at all."""
        optional = [name for name in OPTIONAL if name != "stream" and getattr(self, name) is not None]
        file = io.StringIO(newline="")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*REQUIRED, "stream", *optional])
        for slot in range(self.slots):
            cells: Sequence[Any] = [
                slot + 1,
                *(_shown(getattr(self, name)[slot]) for name in ("requests", "budget_macs")),
                self.stream,
                *(_shown(getattr(self, name)[slot]) for name in optional),
            ]
            writer.writerow(cells)
        write_text(path, file.getvalue(), TraceError)


def _shown(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return str(value)


def _parsed(cell: str, name: str, where: str) -> Any:
    if name in ("stream", "corruption"):
        return cell
    try:
        number = float(cell)
    except ValueError:
        raise TraceError(where, f"{cell!r} is not a number", "give a finite number >= 0") from None
    if not np.isfinite(number) or number < 0:
        raise TraceError(where, f"found {cell}", "give a finite number >= 0")
    if name == "severity" and number not in range(6):
        raise TraceError(where, f"found {cell}", "give a whole number from 0 to 5")
    return number

"""Readers of public request traces, by the name of their format.

Formats and their sources:

- `azure-llm-2023`: Azure LLM inference trace 2023, two services over one hour; Patel et al., "Splitwise: Efficient
  generative LLM inference using phase splitting", ISCA 2024. In Azure/AzurePublicDataset as
  `AzureLLMInferenceTrace_conv.csv` and `AzureLLMInferenceTrace_code.csv`, CC BY 4.0.
- `azure-functions`: Azure Functions trace 2019, 14 days; Shahrad et al., "Serverless in the Wild: Characterizing and
  Optimizing the Serverless Workload at a Large Cloud Provider", USENIX ATC 2020. Described in Azure/AzurePublicDataset,
  `AzureFunctionsDataset2019.md`; a file per day, `invocations_per_function_md.anon.d01.csv` to `d14`, CC BY 4.0.
- `timestamps` and `counts`: a named column of any CSV file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orric.csv_rows import MOST_WHOLE, numbers, read_column, read_rows, shown, whole_number
from orric.exceptions import TraceError, nearest
from orric.interval_counts import IntervalCounts
from orric.timestamps import Timestamps, demand_ascending

Array = np.ndarray[Any, np.dtype[np.float64]]
Importer = Callable[..., Timestamps | IntervalCounts]
AZURE_FUNCTIONS = ["HashOwner", "HashApp", "HashFunction", "Trigger"]
# Nanoseconds since 1970 end in 2262; numpy wraps round without a word.
INSTANT = re.compile(
    r"(?P<day>(?:19[7-9]\d|2[01]\d\d)-\d\d-\d\d)[T ](?P<time>\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?) ?"
    r"(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
ISO = "give ISO 8601 such as 2023-11-16 18:17:03.9799600, 1970 to 2199"
# Where a public trace comes from, and its licence. The CSV files have no place for it, so commands print it.
ORIGINS = {
    "azure-llm-2023": ("Azure LLM inference trace 2023; Patel et al., Splitwise, ISCA 2024", "CC BY 4.0"),
    "azure-functions": ("Azure Functions trace 2019; Shahrad et al., Serverless in the Wild, ATC 2020", "CC BY 4.0"),
}


def azure_llm_2023(path: str | Path) -> Timestamps:
    """Read a file of the Azure LLM inference trace 2023: TIMESTAMP,ContextTokens,GeneratedTokens.

    Time counts from the first request. Requests of equal time are kept; the tokens are not used.

    Raises:
        TraceError: With file and line of the first thing that is wrong.
    """
    line, header = next(read_rows(path))
    if header != ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]:
        found = f"the header begins with {shown(','.join(header))}"
        raise TraceError(f"{path}:{line}", found, "the format is TIMESTAMP,ContextTokens,GeneratedTokens")
    lines, cells = read_column(path, "TIMESTAMP")
    return Timestamps(_since_first(lines, cells, str(path), "TIMESTAMP"), source=str(path))


def azure_functions(path: str | Path, *, function: str | None = None) -> IntervalCounts:
    """Read a day of the Azure Functions trace 2019: HashOwner,HashApp,HashFunction,Trigger,1,2,...,1440.

    Every row has the invocations of one function in each minute.

    Args:
        path: File to read.
        function: Take the rows with this HashFunction only. [default: the sum over all rows]

    Returns:
        Counts per minute.

    Raises:
        TraceError: With file, line and column of the first thing that is wrong, or there is no such function.
    """
    rows = read_rows(path)
    line, header = next(rows)
    minutes = len(header) - len(AZURE_FUNCTIONS)
    if minutes < 1 or header != [*AZURE_FUNCTIONS, *map(str, range(1, minutes + 1))]:
        found = f"the header begins with {shown(','.join(header))}"
        raise TraceError(f"{path}:{line}", found, f"the format is {','.join(AZURE_FUNCTIONS)},1,2,...,1440")
    total = np.zeros(minutes, dtype=np.int64)
    known = set()
    for line, row in rows:
        name = row[2].strip()
        known.add(name)
        if function in (None, name):
            # Each is small enough that no sum of two wraps round.
            total += _whole_numbers(row[len(AZURE_FUNCTIONS) :], f"{path}:{line}")
            if total.max() > MOST_WHOLE:
                raise TraceError(f"{path}:{line}", f"minutes of more than {MOST_WHOLE:,} invocations", "split the file")
    if function is not None and function not in known:
        some = sorted(known)
        remedy = nearest(function, some) if len(some) <= 20 else "take a HashFunction of the file"
        raise TraceError(str(path), f"no function {shown(function)} among {len(some):,}", remedy)
    return IntervalCounts(total, interval_s=60.0, source=str(path))


def timestamps(path: str | Path, *, column: str, from_first: bool = False) -> Timestamps:
    """Read a column of times: seconds, or ISO 8601 with up to nine digits behind the second.

    Args:
        path: File to read.
        column: Its name in the header.
        from_first: Count seconds from the first request. ISO 8601 times always are.

    Raises:
        TraceError: With file and line of the first thing that is wrong.
    """
    lines, cells = read_column(path, column)
    if INSTANT.fullmatch(cells[0].strip()):
        return Timestamps(_since_first(lines, cells, str(path), column), source=str(path))
    arrival_s = numbers(lines, cells, str(path), column)
    if from_first:
        arrival_s = arrival_s - arrival_s[0]
    demand_ascending(arrival_s, lines, str(path), column)
    return Timestamps(arrival_s, source=str(path))


def counts(path: str | Path, *, column: str, interval_s: float) -> IntervalCounts:
    """Read a column of request counts, one for each interval.

    Args:
        path: File to read.
        column: Its name in the header.
        interval_s: Length of every interval in seconds.

    Raises:
        TraceError: With file and line of the first thing that is wrong.
    """
    lines, cells = read_column(path, column)
    requests = [
        whole_number(cell, f"{path}:{line}: column {column!r}") for line, cell in zip(lines, cells, strict=True)
    ]
    return IntervalCounts(np.array(requests), interval_s=interval_s, source=str(path))


IMPORTERS: dict[str, Importer] = {
    "azure-llm-2023": azure_llm_2023,
    "azure-functions": azure_functions,
    "timestamps": timestamps,
    "counts": counts,
}


def _whole_numbers(cells: Sequence[str], where: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the counts of one row, whose columns are 1, 2, ..."""
    try:
        values = np.array(cells, dtype=np.int64)
        if values.min() >= 0 and values.max() <= MOST_WHOLE and not any("_" in cell for cell in cells):
            return values
    except (ValueError, OverflowError):
        pass
    return np.array([whole_number(cell, f"{where}: column '{n}'") for n, cell in enumerate(cells, start=1)])


def _since_first(lines: Sequence[int], cells: Sequence[str], path: str, column: str) -> Array:
    """Return seconds since the first of ISO 8601 times."""
    days, offsets, zoned = [], np.zeros(len(cells), dtype=np.int64), None
    for index, (line, cell) in enumerate(zip(lines, cells, strict=True)):
        match = INSTANT.fullmatch(cell.strip())
        if match is None:
            raise TraceError(f"{path}:{line}: column {column!r}", f"found {shown(cell)}", ISO)
        zone = match["zone"]
        if zoned is None:
            zoned = zone is not None
        if zoned != (zone is not None):
            found = f"{shown(cell)} has {'a' if zone else 'no'} time zone, other than the first"
            raise TraceError(f"{path}:{line}: column {column!r}", found, "give all times a time zone, or none")
        if zone and zone != "Z":
            digits = zone[1:].replace(":", "").ljust(4, "0")
            offsets[index] = int(zone[0] + "1") * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)
        days.append(f"{match['day']}T{match['time'].replace(',', '.')}")
    try:
        instants = np.array(days, dtype="datetime64[ns]")
    except ValueError:
        line, cell = next(one for one in zip(lines, cells, strict=True) if not _exists(one[1]))
        raise TraceError(f"{path}:{line}: column {column!r}", f"{shown(cell)} is no time", ISO) from None
    nanoseconds = instants.astype(np.int64) - offsets * 1_000_000_000
    # Whole nanoseconds are compared: seconds since the first are rounded.
    backwards = np.flatnonzero(np.diff(nanoseconds) < 0)
    if backwards.size:
        before = int(backwards[0])
        found = f"time goes backwards, from {shown(cells[before])} to {shown(cells[before + 1])}"
        where = f"{path}:{lines[before + 1]}: column {column!r}"
        raise TraceError(where, found, "sort the requests by time")
    since: Array = (nanoseconds - nanoseconds[0]) / 1e9
    return since


def _exists(cell: str) -> bool:
    match = INSTANT.fullmatch(cell.strip())
    try:
        np.datetime64(f"{match['day']}T{match['time'].replace(',', '.')}", "ns") if match else None
    except ValueError:
        return False
    return match is not None

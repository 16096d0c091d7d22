"""The Azure Functions trace 2019: how often each function was called in each minute of 14 days.

Shahrad et al., "Serverless in the Wild: Characterizing and Optimizing the Serverless Workload at a Large Cloud
Provider", USENIX ATC 2020. Described in Azure/AzurePublicDataset, `AzureFunctionsDataset2019.md`; a file per day,
`invocations_per_function_md.anon.d01.csv` to `d14`, CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orric.csv_rows import MOST_WHOLE, read_rows, shown, whole_number
from orric.exceptions import TraceError, nearest
from orric.importers.format import Format, Origin
from orric.interval_counts import IntervalCounts

HEADER = ["HashOwner", "HashApp", "HashFunction", "Trigger"]


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
    minutes = len(header) - len(HEADER)
    if minutes < 1 or header != [*HEADER, *map(str, range(1, minutes + 1))]:
        found = f"the header begins with {shown(','.join(header))}"
        raise TraceError(f"{path}:{line}", found, f"the format is {','.join(HEADER)},1,2,...,1440")
    total = np.zeros(minutes, dtype=np.int64)
    known = set()
    for line, row in rows:
        name = row[2].strip()
        known.add(name)
        if function in (None, name):
            # Each is small enough that no sum of two wraps round.
            total += _whole_numbers(row[len(HEADER) :], f"{path}:{line}")
            if total.max() > MOST_WHOLE:
                raise TraceError(f"{path}:{line}", f"minutes of more than {MOST_WHOLE:,} invocations", "split the file")
    if function is not None and function not in known:
        some = sorted(known)
        remedy = nearest(function, some) if len(some) <= 20 else "take a HashFunction of the file"
        raise TraceError(str(path), f"no function {shown(function)} among {len(some):,}", remedy)
    return IntervalCounts(total, interval_s=60.0, source=str(path))


ORIGIN = Origin("Azure Functions trace 2019; Shahrad et al., Serverless in the Wild, ATC 2020", "CC BY 4.0")
AZURE_FUNCTIONS = Format(
    "azure-functions",
    azure_functions,
    None,
    ORIGIN,
)


def _whole_numbers(cells: Sequence[str], where: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the counts of one row, whose columns are 1, 2, ..."""
    try:
        values = np.array(cells, dtype=np.int64)
        if values.min() >= 0 and values.max() <= MOST_WHOLE and not any("_" in cell for cell in cells):
            return values
    except (ValueError, OverflowError):
        pass
    return np.array([whole_number(cell, f"{where}: column '{n}'") for n, cell in enumerate(cells, start=1)])

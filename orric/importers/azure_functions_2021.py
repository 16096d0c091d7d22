"""The Azure Functions invocation trace 2021: two weeks from 2021-01-31 on.

Zhang et al., "Faster and Cheaper Serverless Computing on Harvested Resources", SOSP 2021. In Azure/AzurePublicDataset,
`AzureFunctionsInvocationTrace2021.md`, as `AzureFunctionsInvocationTraceForTwoWeeksJan2021.rar` (to be unpacked), CC BY
4.0. Both columns of time are in seconds, and rows are sorted by neither end nor start.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from orric.arrivals import Arrivals
from orric.csv_chunks import Numbers, read_chunks
from orric.csv_rows import shown
from orric.exceptions import TraceError
from orric.importers.columns import demand_header
from orric.importers.format import Format, Origin
from orric.timestamps import Array, Timestamps

HEADER = ("app", "func", "end_timestamp", "duration")


def arrivals(path: str | Path) -> Arrivals:
    """Open a file of the Azure Functions trace 2021 to be read in chunks; see `azure_functions_2021`."""
    demand_header(path, HEADER)
    facts: dict[str, Any] = {}
    return Arrivals(lambda: _arrivals(path, facts), str(path), ascending=False, facts=facts)


def azure_functions_2021(path: str | Path) -> Timestamps:
    """Read the Azure Functions trace 2021: app,func,end_timestamp,duration.

    A request arrives at end_timestamp - duration; seconds are kept as they are. What began before second 0 is left out:
    of those requests only the long ones are in the trace.

    Raises:
        TraceError: With file and line of the first thing that is wrong.
    """
    return arrivals(path).timestamps()


ORIGIN = Origin("Azure Functions trace 2021; Zhang et al., Harvested Resources, SOSP 2021", "CC BY 4.0")
AZURE_FUNCTIONS_2021 = Format(
    "azure-functions-2021",
    azure_functions_2021,
    arrivals,
    ORIGIN,
)


def _arrivals(path: str | Path, facts: dict[str, Any]) -> Iterator[Array]:
    early = 0
    for chunk in read_chunks(path, {"end_timestamp": Numbers(), "duration": Numbers()}):
        ends, lasts = chunk.columns["end_timestamp"], chunk.columns["duration"]
        negative = np.flatnonzero(lasts < 0)
        if negative.size:
            line, cell = chunk.place(int(negative[0]), "duration")
            raise TraceError(f"{path}:{line}: column 'duration'", f"found {shown(cell)}", "give seconds >= 0")
        arrival_s = ends - lasts
        kept = arrival_s >= 0
        early += int(len(kept) - kept.sum())
        yield arrival_s[kept]
    if early:
        facts["left_out"] = early

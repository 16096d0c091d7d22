"""BurstGPT: calls of ChatGPT and GPT-4 at a university over months, by Azure.

Wang et al., "BurstGPT: A Real-World Workload Dataset to Optimize LLM Serving Systems", KDD 2025. In HPMLL/BurstGPT,
files `BurstGPT_1.csv` to `BurstGPT_3.csv`, and `BurstGPT_without_fails_1.csv` to `_3.csv` without the requests that
failed (`Response tokens` 0), CC BY 4.0. Times are whole seconds since midnight of the first day; file 2 goes on where 1
ends, file 3 has two columns more.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from orric.arrivals import Arrivals
from orric.csv_rows import read_rows, shown
from orric.exceptions import TraceError
from orric.importers.format import Format, Origin
from orric.timestamps import Timestamps, ascending_seconds

HEADER = ["Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type"]
LATER = ["Timestamp", "Session ID", "Elapsed time", *HEADER[1:]]


def arrivals(path: str | Path, *, from_first: bool = False) -> Arrivals:
    """Open a file of BurstGPT to be read in chunks; see `burstgpt`."""
    line, header = next(read_rows(path))
    if header not in (HEADER, LATER):
        found = f"the header begins with {shown(','.join(header))}"
        raise TraceError(f"{path}:{line}", found, f"the format is {','.join(HEADER)}, or as file 3 has it")
    return Arrivals(partial(ascending_seconds, path, "Timestamp", None if from_first else 0.0), str(path))


def burstgpt(path: str | Path, *, from_first: bool = False) -> Timestamps:
    """Read a file of BurstGPT: Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type.

    Requests of the same second are kept, and so are those that failed: they arrived all the same.

    Args:
        path: File to read.
        from_first: Count seconds from the first request. [default: from midnight of the trace's first day, as the file]

    Raises:
        TraceError: With file and line of the first thing that is wrong.
    """
    return arrivals(path, from_first=from_first).timestamps()


ORIGIN = Origin("BurstGPT; Wang et al., KDD 2025", "CC BY 4.0")
BURSTGPT = Format("burstgpt", burstgpt, arrivals, ORIGIN)

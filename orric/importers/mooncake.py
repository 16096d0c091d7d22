"""The Mooncake traces: requests to Kimi over an hour, JSON lines.

Qin et al., "Mooncake: Trading More Storage for Less Computation - A KVCache-centric Architecture for Serving LLM
Chatbot", FAST 2025. In kvcache-ai/Mooncake, `FAST25-release/traces`, as `conversation_trace.jsonl`,
`toolagent_trace.jsonl` and `synthetic_trace.jsonl` (whose times are drawn), under the repository's licence, Apache 2.0.
Times are in milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from orric.arrivals import Arrivals
from orric.csv_chunks import CHUNK_ROWS
from orric.csv_rows import opened, shown, text_lines
from orric.exceptions import TraceError
from orric.importers.format import Format, Origin
from orric.timestamps import Array, Timestamps

FORM = 'the format is one object a line: {"timestamp": MILLISECONDS, ...}'


def arrivals(path: str | Path) -> Arrivals:
    """Open a file of the Mooncake traces to be read in chunks; see `mooncake`."""
    return Arrivals(lambda: _arrivals(path), str(path))


def mooncake(path: str | Path) -> Timestamps:
    """Read a file of the Mooncake traces: JSON lines with a timestamp in milliseconds.

    Requests of equal time are kept; lengths and hashes are not used. Blank lines are passed over.

    Raises:
        TraceError: With file and line of the first thing that is wrong.
    """
    return arrivals(path).timestamps()


ORIGIN = Origin("Mooncake traces; Qin et al., Mooncake, FAST 2025", "Apache 2.0")
MOONCAKE = Format("mooncake", mooncake, arrivals, ORIGIN)


def _arrivals(path: str | Path) -> Iterator[Array]:
    before, found = 0.0, []
    with opened(path) as file:
        for number, line in enumerate(text_lines(file, path), start=1):
            if not line.strip():
                continue
            milliseconds = _milliseconds(line, f"{path}:{number}")
            if milliseconds < before:
                what = f"time goes backwards, from {before:g} to {milliseconds:g} ms"
                raise TraceError(f"{path}:{number}: 'timestamp'", what, "sort the requests by time")
            before = milliseconds
            found.append(milliseconds / 1000.0)
            if len(found) == CHUNK_ROWS:
                yield np.array(found)
                found = []
    if found:
        yield np.array(found)


def _milliseconds(line: str, where: str) -> float:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError):
        raise TraceError(where, f"found {shown(line.strip())}, which is no JSON", FORM) from None
    if not isinstance(given, dict) or "timestamp" not in given:
        raise TraceError(where, f"found {shown(line.strip())}, without 'timestamp'", FORM)
    value = given["timestamp"]
    # No more than a float64 holds exactly; NaN and truth values are no times.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 2**53:
        raise TraceError(f"{where}: 'timestamp'", f"found {shown(str(value))}", "give milliseconds >= 0")
    return float(value)

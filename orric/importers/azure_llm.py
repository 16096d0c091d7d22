"""What the Azure LLM inference traces of 2023 and 2024 have in common, and what tells them apart."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from orric.arrivals import Arrivals
from orric.csv_rows import shown
from orric.exceptions import TraceError
from orric.importers.columns import ascending_instants, demand_header, first_row
from orric.instants import INSTANT, instant, text_of

HEADER = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
# The headers are the same; the times of 2024 have a time zone, those of 2023 have none.
ZONED = {2023: False, 2024: True}


def arrivals_of(path: str | Path, year: int) -> Arrivals:
    """Open the trace of a year, unless the first row shows that it is the other."""
    demand_header(path, HEADER)
    _, _, line, row = first_row(path)
    cell = row[0].strip()
    match = INSTANT.fullmatch(cell)
    if match and (match["zone"] is not None) != ZONED[year]:
        (other,) = ZONED.keys() - {year}
        found = f"{shown(cell)} has {'no' if ZONED[year] else 'a'} time zone, as in the trace of {other}"
        raise TraceError(f"{path}:{line}: column 'TIMESTAMP'", found, f"give the format azure-llm-{other}")
    facts = {"first": text_of(*instant(cell, f"{path}:{line}: column 'TIMESTAMP'"))}
    return Arrivals(partial(ascending_instants, path, "TIMESTAMP", ZONED[year]), str(path), facts=facts)

"""Budgets of several GPUs from one file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from orric.exceptions import TraceError, nearest
from orric.section import read_text
from orric.trace import Trace

Array = np.ndarray[Any, np.dtype[np.float64]]
COLUMNS = ["slot", "gpu", "budget_macs"]


def load_budgets(path: str | Path, gpu: str) -> Array:
    """Read C(t) of a GPU, in MACs, shape (T,), from CSV: slot,gpu,budget_macs, or a trace of one server.

    Every GPU's slots count from 1 without a gap.

    Raises:
        TraceError: With file, line and column of the first thing that is wrong.
    """
    text = read_text(path, TraceError)
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or [cell.strip() for cell in rows[0]] != COLUMNS:
        return Trace.load(path).budget_macs
    found: dict[str, list[float]] = {}
    for line, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        where = f"{path}:{line}"
        if len(row) != len(COLUMNS):
            raise TraceError(where, f"{len(row)} cells", f"the header has {len(COLUMNS)} columns")
        slot, name, budget = (cell.strip() for cell in row)
        values = found.setdefault(name, [])
        if slot != str(len(values) + 1):
            raise TraceError(f"{where}: column 'slot'", f"found {slot}", f"expected {len(values) + 1} of GPU {name!r}")
        try:
            values.append(float(budget))
        except ValueError:
            raise TraceError(f"{where}: column 'budget_macs'", f"{budget!r} is not a number", "give MACs") from None
        if not 0 <= values[-1] < float("inf"):
            raise TraceError(f"{where}: column 'budget_macs'", f"found {budget}", "give a finite number >= 0")
    if gpu not in found:
        raise TraceError(str(path), f"has no budgets of GPU {gpu!r}", nearest(gpu, sorted(found)))
    return np.array(found[gpu])

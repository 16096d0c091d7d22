"""Budgets of several GPUs from one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from orric.csv_rows import read_rows
from orric.exceptions import TraceError, nearest
from orric.trace import Trace

Array = np.ndarray[Any, np.dtype[np.float64]]
COLUMNS = ["slot", "gpu", "budget_macs"]


def load_budgets(path: str | Path, gpu: str) -> Array:
    """Read C(t) of a GPU, in MACs, shape (T,), from CSV: slot,gpu,budget_macs, or a trace of one server.

    Every GPU's slots count from 1 without a gap.

    Raises:
        TraceError: With file, line and column of the first thing that is wrong.
    """
    rows = read_rows(path, ",".join(COLUMNS), "slot")
    if next(rows)[1] != COLUMNS:
        return Trace.load(path).budget_macs
    found: dict[str, list[float]] = {}
    for line, (slot, name, budget) in ((line, [cell.strip() for cell in row]) for line, row in rows):
        values = found.setdefault(name, [])
        if slot != str(len(values) + 1):
            wanted = f"expected {len(values) + 1} of GPU {name!r}"
            raise TraceError(f"{path}:{line}: column 'slot'", f"found {slot}", wanted)
        try:
            values.append(float(budget))
        except ValueError:
            values.append(float("nan"))
        if not 0 <= values[-1] < float("inf"):
            raise TraceError(f"{path}:{line}: column 'budget_macs'", f"found {budget}", "give a finite number >= 0")
    if gpu not in found:
        raise TraceError(str(path), f"has no budgets of GPU {gpu!r}", nearest(gpu, sorted(found)))
    return np.array(found[gpu])

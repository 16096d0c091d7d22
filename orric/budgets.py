"""Budgets of GPUs from files: given in MACs, or what a recorded load of others leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from orric.csv_rows import numbers, read_column, read_rows, shown
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


def load_free_parts(path: str | Path, slots: int, slot_s: float, start_s: float = 0.0) -> Array:
    """Return the part of a GPU that a recorded load of others leaves in every slot, in [0, 1], shape (slots,).

    Args:
        path: CSV with the columns seconds, ascending, and utilisation, in [0, 1]: its mean since the row before, in the
            first row since second 0. Other columns are passed over.
        slots: Number of slots.
        slot_s: Their length in seconds.
        start_s: Second of the record at which the first slot begins.

    Raises:
        TraceError: With file, line and column of the first thing that is wrong, or the record is too short.
    """
    lines, cells = read_column(path, "seconds")
    seconds = numbers(lines, cells, str(path), "seconds")
    back = np.flatnonzero(np.diff(seconds, prepend=0.0) <= 0)
    if len(back):
        found = f"found {shown(cells[back[0]])}"
        raise TraceError(f"{path}:{lines[back[0]]}: column 'seconds'", found, "let seconds ascend from above 0")
    _, parts = read_column(path, "utilisation")
    utilisation = numbers(lines, parts, str(path), "utilisation")
    wrong = np.flatnonzero((utilisation < 0) | (utilisation > 1))
    if len(wrong):
        found = f"found {shown(parts[wrong[0]])}"
        raise TraceError(f"{path}:{lines[wrong[0]]}: column 'utilisation'", found, "give a part in [0, 1]")
    until = start_s + slots * slot_s
    if until > seconds[-1] * (1 + 1e-9):
        found = (
            f"ends at second {seconds[-1]:g}, and {slots} slots of {slot_s:g} s from {start_s:g} on end at {until:g}"
        )
        raise TraceError(str(path), found, "record longer, take fewer slots, or begin earlier")
    passed = np.concatenate([[0.0], np.cumsum(utilisation * np.diff(seconds, prepend=0.0))])
    edges = start_s + slot_s * np.arange(slots + 1)
    used = np.diff(np.interp(edges, np.concatenate([[0.0], seconds]), passed)) / slot_s
    return np.asarray(np.clip(1.0 - used, 0.0, 1.0))

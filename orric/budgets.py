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


def load_budgets(path: str | Path, gpu: str, most_macs: float = float("inf"), slot_s: float | None = None) -> Array:
    """Read C(t) of a GPU, in MACs, shape (T,), from CSV: slot,gpu,budget_macs, or a trace of one server.

    Every GPU's slots count from 1 without a gap.

    Args:
        path: File to read.
        gpu: Name of the GPU.
        most_macs: What it can do in a slot, which no budget may exceed.
        slot_s: How long its slots have to be, where the file says how long they are.

    Raises:
        TraceError: With file, line and column of the first thing that is wrong.
    """
    rows = read_rows(path, ",".join(COLUMNS), "slot")
    if next(rows)[1] != COLUMNS:
        trace = load_trace(path, slot_s)
        if trace.budget_macs.max() > most_macs:
            _demand_possible(dict(zip(lines_of_slots(path), trace.budget_macs, strict=True)), path, gpu, most_macs)
        return trace.budget_macs
    found: dict[str, dict[int, float]] = {}
    for line, (slot, name, budget) in ((line, [cell.strip() for cell in row]) for line, row in rows):
        values = found.setdefault(name, {})
        if slot != str(len(values) + 1):
            wanted = f"expected {len(values) + 1} of GPU {name!r}"
            raise TraceError(f"{path}:{line}: column 'slot'", f"found {slot}", wanted)
        try:
            values[line] = float(budget)
        except ValueError:
            values[line] = float("nan")
        if not 0 <= values[line] < float("inf"):
            raise TraceError(f"{path}:{line}: column 'budget_macs'", f"found {budget}", "give a finite number >= 0")
    if gpu not in found:
        raise TraceError(str(path), f"has no budgets of GPU {gpu!r}", nearest(gpu, sorted(found)))
    _demand_possible(found[gpu], path, gpu, most_macs)
    return np.array(list(found[gpu].values()))


def load_trace(path: str | Path, slot_s: float | None = None) -> Trace:
    """Read a trace for a scenario.

    Raises:
        TraceError: It cannot be read, or says that its slots have another length.
    """
    trace = Trace.load(path)
    if slot_s is not None and trace.duration_s is not None:
        other = np.flatnonzero(~np.isclose(trace.duration_s, slot_s, rtol=1e-6, atol=0.0))
        if len(other):
            slot, given = int(other[0]), float(trace.duration_s[other[0]])
            raise TraceError(
                f"{path}:{lines_of_slots(path)[slot]}: column 'duration_s'",
                f"found {given:g}, and the scenario's slots have {slot_s:g} s",
                f"set slot_s = {given:g}, or count requests and budgets anew by slots of {slot_s:g} s",
            )
    return trace


def lines_of_slots(path: str | Path) -> list[int]:
    """Return the line of every slot of a trace that is known to be fine."""
    return [line for line, _ in read_rows(path)][1:]


def _demand_possible(budgets: dict[int, float], path: str | Path, gpu: str, most_macs: float) -> None:
    """Refuse a budget, by its line, that is more than the GPU can do in a slot."""
    for line, budget in budgets.items():
        if budget > most_macs * (1 + 1e-9):
            raise TraceError(
                f"{path}:{line}: column 'budget_macs'",
                f"found {budget:g}, and GPU {gpu!r} does {most_macs:g} MACs in a slot (macs_per_s x slot_s)",
                "give at most that, or correct macs_per_s",
            )


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

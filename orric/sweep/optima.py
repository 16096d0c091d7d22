"""Competitive ratios of a sweep's runs: the offline optimum is enclosed once for each point and seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orric.competitive.optimum import offline_optimum
from orric.exceptions import OrricError
from orric.sweep.measures import RATIOS
from orric.sweep.plan import Chunk, Sweep
from orric.sweep.store import Store, parquet_bytes

ENDS = ("lower", "upper")


def optima_parquet(sweep: Sweep, chunk: Chunk) -> tuple[bytes, None, int, bool]:
    """Enclose the optimum of each of a chunk's points and seeds.

    Returns:
        A Parquet file of them, as the store keeps those of runs; how many failed is told of the runs themselves, which
        fail for the same reasons.
    """
    import pyarrow

    assert sweep.ratio is not None, "only such sweeps enclose optima"
    rows = []
    again = False
    for point in chunk.points:
        scenario = sweep.scenario_of(point)
        for seed in chunk.seeds:
            try:
                best = offline_optimum(
                    scenario.profile, scenario.trace(seed), sweep.ratio.gap, overload=scenario.overload
                )
            except Exception as error:  # whatever it is, it stops no other run
                rows.append(dict.fromkeys(ENDS))
                again = again or not isinstance(error, OrricError)
                continue
            rows.append({"lower": best.lower, "upper": best.upper})
    schema = pyarrow.schema([(name, pyarrow.float64()) for name in ENDS])
    return parquet_bytes(pyarrow.Table.from_pylist(rows, schema=schema)), None, 0, again


def with_ratios(sweep: Sweep, store: Store, table: Any, chunks: Sequence[tuple[Chunk, str]]) -> Any:
    """Fill in the ends of every run's competitive ratio: its value by the upper and by the lower end of the optimum.

    Args:
        sweep: What was swept.
        store: Where the optima are.
        table: All runs, from `orric.sweep.store.runs_table`.
        chunks: Of optima, with their keys.
    """
    import pyarrow

    points, lines = len(sweep.points), len(sweep.lines)
    seeds = table.num_rows // (points * lines)
    place = {seed: number for number, seed in enumerate(table["seed"][:seeds].to_pylist())}
    ends = {name: np.full((points, seeds), np.nan) for name in ENDS}
    for chunk, key in chunks:
        found = store.load(key)
        where = np.ix_(list(chunk.points), [place[seed] for seed in chunk.seeds])
        for name in ENDS:
            ends[name][where] = found[name].to_numpy().reshape(len(chunk.points), len(chunk.seeds))
    accuracy, requests = (table[name].to_numpy().astype(float) for name in ("mean_accuracy", "requests"))
    value = (accuracy * requests).reshape(points, lines, seeds)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = (value / ends[name][:, None] for name in ("upper", "lower"))
    # Where nothing can be earned there is no ratio; rounding aside, nobody earns more than the optimum.
    for name, ratio in zip(RATIOS, (low, np.minimum(high, 1.0)), strict=True):
        known = np.where(np.isfinite(ratio), ratio, np.nan).reshape(-1)
        filled = pyarrow.array(known, from_pandas=True)
        table = table.set_column(table.schema.get_field_index(name), name, filled)
    return table

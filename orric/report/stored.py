"""Results on disk: what `save_results` writes into a folder, `load_results` makes the same results of again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orric.exceptions import ScenarioError, extra
from orric.folders import settle
from orric.latency import BUCKETS, FRACTION_BITS, LatencyHistogram
from orric.records import COLUMNS, Array, Event, Result

FORMAT = 1
RESULT, GPUS, LATENCIES, EVENTS, LINES = (
    "result.parquet", "gpus.parquet", "latencies.parquet", "events.jsonl", "lines.json",
)  # fmt: skip
# What tells the lines of a comparison apart, the first columns of every table.
LINE = ("allocator", "accuracy_model")
SCALARS = ("allocator", "accuracy_model", "engine", "seed", "seconds_deciding", "has_deadlines", "warmup_slots")


def save_results(folder: Path, results: Sequence[Result]) -> None:
    """Write results: slots, GPUs, latencies in buckets, events, and what is told once for each.

    The times of single requests are not among them; nor can pooled results be kept, which `Result.pooled` makes anew.

    Args:
        folder: It must be there.
        results: At least one; no two of one allocator and accuracy model.

    Raises:
        MissingExtraError: pandas or pyarrow is not installed.
    """
    with extra("sim"):
        import pandas
        import pyarrow
        import pyarrow.parquet

    pandas.concat([one.to_frame() for one in results], ignore_index=True).to_parquet(folder / RESULT, index=False)
    gpus = [
        pandas.DataFrame({**{name: getattr(one, name) for name in LINE}, **one.gpu_columns})
        for one in results
        if one.gpu_columns
    ]
    if gpus:
        pandas.concat(gpus, ignore_index=True).to_parquet(folder / GPUS, index=False)
    columns: dict[str, list[Any]] = {name: [] for name in (*LINE, "stream", "phase", "bucket", "requests")}
    for one in results:
        for stream, phases in one.latencies.items():
            for phase, histogram in enumerate(phases):
                used = np.flatnonzero(histogram.counts)
                row = (one.allocator, one.accuracy_model, stream, phase)
                for name, value in zip(columns, row, strict=False):
                    columns[name] += [value] * len(used)
                columns["bucket"] += used.tolist()
                columns["requests"] += histogram.counts[used].tolist()
    if any(one.latencies for one in results):
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / LATENCIES)
    events = [
        {"allocator": one.allocator, "accuracy_model": one.accuracy_model, **vars(event)}
        for one in results
        for event in one.events
    ]
    (folder / EVENTS).write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    told = [
        {
            **{name: getattr(one, name) for name in SCALARS},
            "latency_totals_s": {
                name: [float(part.total_s) for part in phases] for name, phases in one.latencies.items()
            },
        }
        for one in results
    ]
    table = {"format": FORMAT, "latency_fraction_bits": FRACTION_BITS, "lines": told}
    (folder / LINES).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def load_results(folder: str | Path) -> list[Result]:
    """Read the results that a folder holds, in the order in which they were written.

    Args:
        folder: Of `orric run`, or one that `save_results` wrote to.

    Returns:
        Results that are equal to those that were saved, to the last bit.

    Raises:
        ScenarioError: It holds none, is of an earlier or a newer version, or was damaged.
    """
    with extra("sim"):
        import pyarrow.parquet

    where, anew = f"result folder {folder}", "make it anew with orric run"
    folder = Path(folder)
    settle(folder)
    try:
        table = json.loads((folder / LINES).read_text(encoding="utf-8"))
        if table["format"] != FORMAT or table["latency_fraction_bits"] != FRACTION_BITS:
            raise ScenarioError(str(folder / LINES), "is of another version of orric", anew)
        rows = pyarrow.parquet.read_table(folder / RESULT)
        lacking = [name for name in COLUMNS if name not in rows.column_names]
        if lacking:
            found = f"is of an earlier version of orric, which did not record: {', '.join(lacking)}"
            raise ScenarioError(where, found, anew)
        gpus = pyarrow.parquet.read_table(folder / GPUS) if (folder / GPUS).is_file() else None
        counted = pyarrow.parquet.read_table(folder / LATENCIES) if (folder / LATENCIES).is_file() else None
        events: dict[tuple[str, str], list[Event]] = {}
        for line in (folder / EVENTS).read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            events.setdefault((one.pop("allocator"), one.pop("accuracy_model")), []).append(Event(**one))
        return [_result(told, rows, gpus, counted, events) for told in table["lines"]]
    except FileNotFoundError as error:
        lacks = Path(str(error.filename)).name
        raise ScenarioError(where, f"has no {lacks}; it is no run's, or an earlier version's", anew) from None
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, ScenarioError):
            raise
        raise ScenarioError(where, f"cannot be read ({str(error).splitlines()[0]})", anew) from None


def _result(
    told: dict[str, Any], rows: Any, gpus: Any, counted: Any, events: dict[tuple[str, str], list[Event]]
) -> Result:
    latencies: dict[str, list[LatencyHistogram]] = {
        name: [LatencyHistogram(np.zeros(BUCKETS, np.int64), total_s) for total_s in totals_s]
        for name, totals_s in told["latency_totals_s"].items()
    }
    if latencies:
        found = _columns(_of_line(counted, told))
        for stream, phase, bucket, requests in zip(
            *(found[name].tolist() for name in ("stream", "phase", "bucket", "requests")), strict=True
        ):
            latencies[stream][phase].counts[bucket] = requests
    columns = _columns(_of_line(rows, told))
    of_gpus = {} if gpus is None else _columns(_of_line(gpus, told))
    lengths = {len(values) for values in of_gpus.values()}
    return Result(
        **{name: told[name] for name in SCALARS},
        columns={name: columns[name] for name in COLUMNS},
        gpu_columns={name: values for name, values in of_gpus.items() if name not in LINE} if any(lengths) else {},
        latencies=latencies,
        events=tuple(events.get((told["allocator"], told["accuracy_model"]), ())),
    )


def _of_line(table: Any, told: dict[str, Any]) -> Any:
    import pyarrow.compute

    chosen = pyarrow.compute.and_(
        *(pyarrow.compute.equal(table[name], told[name]) for name in LINE)  # a column of each
    )
    return table.filter(chosen)


def _columns(table: Any) -> dict[str, Array]:
    import pyarrow

    found = {}
    for name in table.column_names:
        text = pyarrow.types.is_string(table[name].type) or pyarrow.types.is_large_string(table[name].type)
        # Words are kept as numpy's own, as engines make them.
        found[name] = np.array(table[name].to_pylist() or [""], str)[: len(table)] if text else table[name].to_numpy()
    return found

"""A row for every slot of every run, for those who ask for them: `per_slot` of a sweep."""

from __future__ import annotations

from typing import Any

import numpy as np

from orric.profile import Profile
from orric.records import Result
from orric.sweep.batch import Evaluated
from orric.sweep.plan import Chunk
from orric.sweep.store import parquet_bytes

NAMES = ("stream", "retraining", "inference")
# Columns of a slot, as in `orric.records.SlotRecord`; the slot model leaves the last two empty.
SLOT_COLUMNS = (
    "slot", *NAMES, "requests", "budget_macs", "retraining_macs", "inference_macs", "extent", "served", "shed",
    "abandoned", "lost", "waiting", "late", "correct", "correct_in_time", "latency_p50_s", "latency_p99_s",
)  # fmt: skip
# What happens to no request in the slot model.
NEVER = ("abandoned", "lost", "waiting", "late")


def of_result(result: Result, place: int) -> Any:
    """Return the slots of a run as a table.

    Args:
        result: What came of it.
        place: Which run of the chunk it is.
    """
    import pyarrow

    columns: dict[str, Any] = {"place": np.full(len(result.columns["slot"]), place, np.int32)}
    for name in SLOT_COLUMNS:
        values = pyarrow.array(result.columns[name])
        columns[name] = values.dictionary_encode() if name in NAMES else values.cast(_type_of(name))
    return pyarrow.table(columns)


def of_batch(evaluated: Evaluated, places: list[int], profile: Profile, stream: str) -> Any:
    """Return the slots of runs that were evaluated together as a table; those of runs that failed are left out.

    Args:
        evaluated: What came of them.
        places: Which runs of the chunk they are.
        profile: Theirs.
        stream: Name of their stream.
    """
    import pyarrow

    lengths = evaluated.lengths
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    total = int(lengths.sum())
    unknown = pyarrow.array(np.full(total, np.nan))
    names = {
        "stream": (np.zeros(total, np.int32), [stream]),
        "retraining": (evaluated.columns["retraining"].astype(np.int32), [one.name for one in profile.retraining]),
        "inference": (evaluated.columns["inference"].astype(np.int32), [one.name for one in profile.inference]),
    }
    columns: dict[str, Any] = {"place": np.repeat(np.array(places, np.int32), lengths)}
    for name in SLOT_COLUMNS:
        if name in names:
            codes, words = names[name]
            columns[name] = pyarrow.DictionaryArray.from_arrays(codes, words)
        elif name == "slot":
            columns[name] = (np.arange(total) - np.repeat(starts, lengths) + 1).astype(np.int32)
        elif name in NEVER:
            columns[name] = np.zeros(total)
        else:
            columns[name] = evaluated.columns.get(name, unknown)
    table = pyarrow.table(columns)
    failed = np.array([isinstance(one, Exception) for one in evaluated.figures])
    return table.filter(pyarrow.array(~np.repeat(failed, lengths))) if failed.any() else table


def slots_parquet(tables: list[Any], chunk: Chunk) -> bytes:
    """Write the slots of a chunk's runs as a Parquet file: point, allocator and seed, then the columns of a slot.

    Args:
        tables: From `of_result` and `of_batch`.
        chunk: Whose.
    """
    import pyarrow

    words = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    fields = [
        ("place", pyarrow.int32()),
        *((name, words if name in NAMES else _type_of(name)) for name in SLOT_COLUMNS),
    ]
    schema = pyarrow.schema(fields)
    whole = pyarrow.concat_tables([table.cast(schema) for table in tables]) if tables else schema.empty_table()
    if len(tables) > 1:
        whole = whole.take(pyarrow.array(np.argsort(whole["place"].to_numpy(), kind="stable")))
    place = whole["place"].to_numpy()
    head = pyarrow.table(
        {
            "point": (chunk.points.start + place // len(chunk.seeds) + 1).astype(np.int32),
            "allocator": pyarrow.DictionaryArray.from_arrays(np.zeros(len(place), np.int32), [chunk.allocator]),
            "seed": np.array(chunk.seeds, np.int64)[place % len(chunk.seeds)],
        }
    )
    for name in SLOT_COLUMNS:
        head = head.append_column(name, whole[name])
    return parquet_bytes(head)


def _type_of(name: str) -> Any:
    import pyarrow

    return pyarrow.int32() if name == "slot" else pyarrow.float64()

"""The one result type that every engine returns, and what an allocator gets to see of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.exceptions import extra

if TYPE_CHECKING:
    import pandas

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Observation:
    """What an allocator learns of one stream after a slot. Never the true accuracy.

    Attributes:
        slot: Index of the slot, from 1.
        stream: Name of the stream.
        requests: Requests that arrived.
        served: Requests served in the slot.
        late: Those of them that missed their deadline.
        shed: Requests turned away.
        retrained: Part of the allocated retraining work that finished, in [0, 1].
        agreement: Part of the labelled samples on which student and teacher agreed, or None without labels.
    """

    slot: int
    stream: str
    requests: float
    served: float
    late: float
    shed: float
    retrained: float
    agreement: float | None


@dataclass(frozen=True)
class SlotRecord:
    """One row of a result: one stream in one slot.

    Attributes:
        slot: Index from 1.
        stream: Name of the stream.
        corruption: Corruption of the slot's images, "" where unknown.
        severity: Its severity, 0 to 5, -1 where unknown.
        requests: D(t), requests that arrived.
        forecast: Requests that the allocator was told.
        budget_macs: C(t).
        retraining: Name of the retraining configuration.
        inference: Name of the inference configuration.
        retraining_macs: Work spent on retraining, abandoned work included.
        inference_macs: Work spent on serving.
        extent: x_t, the learning extent before the slot.
        served: Requests served in the slot, earlier slots' waiting ones included.
        shed: Requests turned away.
        waiting: Requests still waiting at the slot's end.
        late: Served requests that missed the deadline.
        correct: Served requests that were classified correctly (expected number where a curve says so).
        accuracy: correct / served, NaN where nothing was served.
        latency_mean_s: Mean time from arrival to completion of the served requests, NaN where unknown.
        latency_p50_s: Its median.
        latency_p99_s: Its 99th percentile.
        retrained: Part of the allocated retraining work that finished, in [0, 1].
        agreement: Student against teacher on the labelled samples, NaN without labels.
        reason: The allocator's own words.
    """

    slot: int
    stream: str
    corruption: str
    severity: int
    requests: float
    forecast: float
    budget_macs: float
    retraining: str
    inference: str
    retraining_macs: float
    inference_macs: float
    extent: float
    served: float
    shed: float
    waiting: float
    late: float
    correct: float
    accuracy: float
    latency_mean_s: float
    latency_p50_s: float
    latency_p99_s: float
    retrained: float
    agreement: float
    reason: str


COLUMNS = tuple(entry.name for entry in fields(SlotRecord))


@dataclass(frozen=True, eq=False)
class Result:
    """What one allocator did on one trace or scenario.

    Attributes:
        allocator: Name of the allocator or reference line.
        engine: "slot model" or "simulator".
        accuracy_model: Where the accuracies come from: "curve", "table" or "onnx".
        seed: Seed of the run.
        columns: One array per field of `SlotRecord`, shape (T,).
        latencies_s: Time from arrival to completion of every served request, shape (n,); empty in the slot model.
        seconds_deciding: Time spent in the allocator, for information; it differs from run to run.
    """

    allocator: str
    engine: str
    accuracy_model: str
    seed: int
    columns: Mapping[str, Array]
    latencies_s: Array = field(default_factory=lambda: np.empty(0))
    seconds_deciding: float = 0.0

    def __getattr__(self, name: str) -> Array:
        if name in COLUMNS:
            column: Array = self.columns[name]
            return column
        raise AttributeError(f"Result has no {name!r}; columns: {', '.join(COLUMNS)}")

    @property
    def value(self) -> float:
        """The objective (P): the expected number of correctly served requests."""
        return float(self.columns["correct"].sum())

    @property
    def mean_accuracy(self) -> float:
        """Long-term accuracy: (P) divided by all requests; shed and waiting ones count as wrong."""
        return self.value / float(self.columns["requests"].sum())

    @property
    def records(self) -> Iterator[SlotRecord]:
        """Iterate over the rows."""
        for row in zip(*(self.columns[name].tolist() for name in COLUMNS), strict=True):
            yield SlotRecord(*row)

    @property
    def allocations(self) -> list[dict[str, Any]]:
        """The decisions by name, one dictionary per slot and stream."""
        keys = ("slot", "stream", "retraining", "inference")
        return [
            dict(zip(keys, row, strict=True)) for row in zip(*(self.columns[k].tolist() for k in keys), strict=True)
        ]

    def summary(self) -> dict[str, Any]:
        """Return the figures of the comparison table, by name, with units in the names."""
        columns, requests = self.columns, float(self.columns["requests"].sum())
        last = columns["severity"] == columns["severity"][-1]
        used = columns["retraining_macs"] + columns["inference_macs"]
        latency = self.latencies_s
        return {
            "allocator": self.allocator,
            "accuracy_model": self.accuracy_model,
            "seed": self.seed,
            "mean_accuracy": self.mean_accuracy,
            "last_severity_accuracy": float(columns["correct"][last].sum() / max(columns["requests"][last].sum(), 1.0)),
            "latency_p50_s": float(np.quantile(latency, 0.5)) if latency.size else None,
            "latency_p99_s": float(np.quantile(latency, 0.99)) if latency.size else None,
            "requests": requests,
            "served": float(columns["served"].sum()),
            "late": float(columns["late"].sum()),
            "shed": float(columns["shed"].sum()),
            "budget_used": float(used.sum() / columns["budget_macs"].sum()) if columns["budget_macs"].any() else 0.0,
            "retraining_part": float(columns["retraining_macs"].sum() / used.sum()) if used.any() else 0.0,
            "macs_per_request": float(used.sum() / requests),
        }

    def to_frame(self) -> pandas.DataFrame:
        """Return the rows as a pandas data frame, with the allocator and the seed as first columns.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        with extra("sim"):
            import pandas
        frame = pandas.DataFrame({name: self.columns[name] for name in COLUMNS})
        frame.insert(0, "seed", self.seed)
        frame.insert(0, "accuracy_model", self.accuracy_model)
        frame.insert(0, "allocator", self.allocator)
        return frame


def columns_of(records: list[SlotRecord]) -> dict[str, Array]:
    """Turn rows into the columns of a `Result`."""
    return {name: np.array([getattr(record, name) for record in records]) for name in COLUMNS}

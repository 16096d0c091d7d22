"""The one result type that every engine returns, and what an allocator gets to see of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.exceptions import extra
from orric.latency import LatencyHistogram
from orric.observation import Observation as Observation
from orric.overload import Overload, overload_of

if TYPE_CHECKING:
    import pandas

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SlotRecord:
    """One row of a result: one stream in one slot.

    Attributes:
        slot: Index from 1.
        stream: Name of the stream.
        gpu: Name of the GPU that it is placed on, "" where there is none.
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
        served: Requests answered in the slot, in time or late, earlier slots' waiting ones included.
        shed: Requests turned away.
        abandoned: Requests that left before their service began.
        lost: Requests that a crash took along, waiting or in service.
        waiting: Requests still waiting at the slot's end, those in service included.
        late: Served requests that missed the deadline.
        correct: Served requests that were classified correctly (expected number where a curve says so).
        correct_in_time: Those of them that were served by the deadline (expected number).
        accuracy: correct / served, NaN where nothing was served.
        batches: Batches begun, NaN where unknown.
        busy: Part of the slot that its workers were in service, NaN where unknown.
        latency_mean_s: Mean time from arrival to completion of the served requests, NaN where unknown.
        latency_p50_s: Its median.
        latency_p99_s: Its 99th percentile.
        retrained: Part of the allocated retraining work that finished, in [0, 1].
        agreement: Student against teacher on the labelled samples, NaN without labels.
        reason: The allocator's own words.
        serving: Part of the whole GPU and the whole slot that serving it took, NaN where unknown.
        sampling: The same of drawing samples.
        labelling: The same of the teacher.
        training: The same of training.
        swapping: The same of checking and loading new weights.
    """

    slot: int
    stream: str
    gpu: str
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
    abandoned: float
    lost: float
    waiting: float
    late: float
    correct: float
    correct_in_time: float
    accuracy: float
    batches: float
    busy: float
    latency_mean_s: float
    latency_p50_s: float
    latency_p99_s: float
    retrained: float
    agreement: float
    reason: str
    serving: float = float("nan")
    sampling: float = float("nan")
    labelling: float = float("nan")
    training: float = float("nan")
    swapping: float = float("nan")


@dataclass(frozen=True)
class GpuRecord:
    """One GPU in one slot. Parts are of the whole GPU and the whole slot.

    Attributes:
        slot: Index from 1.
        gpu: Name of the GPU.
        budget_macs: C(t).
        serving: Part spent on inference.
        sampling: Part spent on drawing samples.
        labelling: Part spent on the teacher.
        training: Part spent on training.
        swapping: Part spent on checking and loading new weights.
        down: Part during which it stood still.
        energy_j: Energy drawn, NaN where its power is unknown.
    """

    slot: int
    gpu: str
    budget_macs: float
    serving: float
    sampling: float
    labelling: float
    training: float
    swapping: float
    down: float
    energy_j: float


@dataclass(frozen=True)
class Event:
    """A line of a simulation's log.

    Attributes:
        time_s: When, since the first slot's start.
        slot: In which slot, from 1.
        subject: Name of the stream or GPU.
        what: What happened.
    """

    time_s: float
    slot: int
    subject: str
    what: str


@dataclass(frozen=True, eq=False)
class RequestTimes:
    """What became of some requests of a stream.

    Attributes:
        numbers: Number, version of the student that served it (-1 for none) and fate, shape (n, 3): 0 in time, 1 late,
            2 shed, 3 abandoned, 4 lost, 5 waiting at the end.
        times_s: Arrival, start of service (NaN for none) and end, however it came (NaN while waiting), shape (n, 3).
    """

    numbers: Array
    times_s: Array


# Of a `Table`, before they become columns.
ROWS_AT_ONCE = 2**12
COLUMNS = tuple(entry.name for entry in fields(SlotRecord))
# What a GPU's time is spent on, stream by stream.
STAGES = ("serving", "sampling", "labelling", "training", "swapping")


@dataclass(frozen=True, eq=False)
class Result:
    """What one allocator did on one trace or scenario.

    Attributes:
        allocator: Name of the allocator or reference line.
        engine: "slot model" or "simulator".
        accuracy_model: Where the accuracies come from: "curve", "table" or "onnx".
        seed: Seed of the run.
        columns: One array per field of `SlotRecord`, shape (T x streams,), slot by slot.
        gpu_columns: One array per field of `GpuRecord`, shape (T x GPUs,), slot by slot; empty in the slot model.
        latencies: Of every stream the latencies of its served requests, by what its retraining did in the slot when
            their service began: not begun, under way, done; empty in the slot model.
        events: The log: faults, and retraining that was lost or late.
        request_times: Of every stream, where asked for, the times of every request, window by window.
        seconds_deciding: Time spent in the allocator, for information; it differs from run to run.
        has_deadlines: Whether any stream has a deadline.
        warmup_slots: The first slots, of which the flag of overload does not speak.
        overloads_before: Of a pooled result the growth of each stream's queue.
        accuracies_before: Of a pooled result the mean accuracy of each stream.
        in_time_before: Of a pooled result the in-time accuracy of each stream.
        last_before: Of a pooled result the accuracy at each stream's last severity.
        ends_worst_before: Of a pooled result whether each stream's last severity is its highest.
    """

    allocator: str
    engine: str
    accuracy_model: str
    seed: int
    columns: Mapping[str, Array]
    gpu_columns: Mapping[str, Array] = field(default_factory=dict)
    latencies: Mapping[str, Sequence[LatencyHistogram]] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    request_times: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seconds_deciding: float = 0.0
    has_deadlines: bool = False
    warmup_slots: int = 0
    overloads_before: Mapping[str, Overload] = field(default_factory=dict)
    accuracies_before: Mapping[str, float] = field(default_factory=dict)
    in_time_before: Mapping[str, float] = field(default_factory=dict)
    last_before: float | None = None
    ends_worst_before: bool | None = None

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
        # Where every request arrives after the end there is nothing to divide by.
        return self.value / (float(self.columns["requests"].sum()) or 1.0)

    @property
    def in_time_accuracy(self) -> float:
        """Part of all requests that were answered rightly and in time; all others count as wrong."""
        return float(self.columns["correct_in_time"].sum()) / (float(self.columns["requests"].sum()) or 1.0)

    @property
    def fates(self) -> Mapping[str, float]:
        """How many requests came to which end; together they are all that arrived.

        "in time" and "late" were answered, "waiting" are those that wait, or are in service, at the end of the run.
        """
        late = float(self.columns["late"].sum())
        return {
            "in time": float(self.columns["served"].sum()) - late,
            "late": late,
            **{name: float(self.columns[name].sum()) for name in ("shed", "abandoned", "lost")},
            "waiting": float(self.columns["waiting"][-len(self.streams) :].sum()),
        }

    @property
    def overloads(self) -> Mapping[str, Overload]:
        """By how much the queue of every stream grows in a slot, by name; empty where there are too few slots."""
        if self.overloads_before:
            return self.overloads_before
        count, found = len(self.streams), {}
        for k, name in enumerate(self.streams):
            waiting, requests = (self.columns[column][k::count] for column in ("waiting", "requests"))
            grown = overload_of(waiting, requests, self.warmup_slots)
            if grown is not None:
                found[name] = grown
        return found

    @property
    def overload(self) -> Overload | None:
        """Of the streams' queues the one that grows most surely; None where there are too few slots to tell."""
        return max(self.overloads.values(), key=lambda one: (one.overloaded, one.growth.low), default=None)

    @property
    def stream_accuracies(self) -> Mapping[str, float]:
        """Long-term accuracy of every stream, by name; streams without requests are left out."""
        return self.accuracies_before or self._by_stream("correct")

    @property
    def stream_in_time_accuracies(self) -> Mapping[str, float]:
        """In-time accuracy of every stream, by name; streams without requests are left out."""
        return self.in_time_before or self._by_stream("correct_in_time")

    def _by_stream(self, column: str) -> dict[str, float]:
        count, found = len(self.streams), {}
        for k, name in enumerate(self.streams):
            requests = float(self.columns["requests"][k::count].sum())
            if requests:
                found[name] = float(self.columns[column][k::count].sum()) / requests
        return found

    @property
    def last_severity_accuracy(self) -> float:
        """Accuracy of all requests of the slots that are as severe as the last one, stream by stream."""
        if self.last_before is not None:
            return self.last_before
        columns = self.columns
        severity = columns["severity"].reshape(-1, len(self.streams))
        last = (severity == severity[-1]).ravel()
        return float(columns["correct"][last].sum() / max(columns["requests"][last].sum(), 1.0))

    @property
    def ends_at_its_worst(self) -> bool:
        """Whether every stream's last severity is its highest."""
        if self.ends_worst_before is not None:
            return self.ends_worst_before
        severity = self.columns["severity"].reshape(-1, len(self.streams))
        return bool((severity[-1] == severity.max(axis=0)).all())

    @property
    def in_the_cloud(self) -> bool:
        """Whether it retrained, and none of that on its GPUs."""
        return bool((self.columns["retrained"] > 0).any()) and not self.columns["retraining_macs"].any()

    @property
    def energy_j(self) -> float:
        """Energy drawn by all GPUs, NaN where the power of one is unknown."""
        return float(self.gpu_columns["energy_j"].sum()) if self.gpu_columns else float("nan")

    @cached_property
    def latency(self) -> LatencyHistogram:
        """The latencies of all served requests."""
        return LatencyHistogram.merged(part for parts in self.latencies.values() for part in parts)

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

    @cached_property
    def streams(self) -> list[str]:
        """Names of the streams, in the order of the rows of a slot."""
        return list(dict.fromkeys(self.columns["stream"].tolist()))

    @property
    def budgets_macs(self) -> Array:
        """C(t) of all GPUs together, shape (T,), those without streams included."""
        if self.gpu_columns:
            slots = len(np.unique(self.gpu_columns["slot"]))
            every: Array = self.gpu_columns["budget_macs"].reshape(slots, -1).sum(axis=1)
            return every
        count = len(self.streams)
        gpus, budgets = (self.columns[name].reshape(-1, count) for name in ("gpu", "budget_macs"))
        total: Array = np.zeros(len(gpus))
        for name in np.unique(gpus):
            # Streams may move, so a GPU's budget stands in other rows in other slots, or in none.
            there = gpus == name
            total += np.where(there.any(axis=1), budgets[np.arange(len(gpus)), there.argmax(axis=1)], 0.0)
        return total

    def pooled(self) -> Result:
        """Return the result with one row per slot, all streams taken together; itself where there is one stream."""
        return self._pooled

    @cached_property
    def _pooled(self) -> Result:
        count = len(self.streams)
        if count == 1:
            return self
        rows = {name: values.reshape(-1, count) for name, values in self.columns.items()}
        pooled = {name: values[:, 0] for name, values in rows.items()}
        for name in (
            "requests", "forecast", "retraining_macs", "inference_macs", "served", "shed", "abandoned", "lost",
            "waiting", "late", "correct", "correct_in_time", "batches", *STAGES,
        ):  # fmt: skip
            pooled[name] = rows[name].sum(axis=1)
        slots = len(pooled["slot"])
        pooled["stream"], pooled["gpu"] = np.full(slots, "all"), np.full(slots, "all")
        pooled["budget_macs"] = self.budgets_macs
        for name in ("extent", "busy", "retrained"):
            pooled[name] = rows[name].mean(axis=1)
        for name in ("retraining", "inference"):
            pooled[name] = np.array([", ".join(dict.fromkeys(names)) for names in rows[name].tolist()])
        for name, unknown in (("corruption", ""), ("severity", -1)):
            same = (rows[name] == rows[name][:, :1]).all(axis=1)
            pooled[name] = np.where(same, rows[name][:, 0], unknown)
        with np.errstate(invalid="ignore", divide="ignore"):
            pooled["accuracy"] = pooled["correct"] / pooled["served"]
        for name in ("latency_mean_s", "latency_p50_s", "latency_p99_s", "agreement"):
            pooled[name] = np.full(slots, np.nan)
        return replace(
            self, columns=pooled, accuracies_before=self.stream_accuracies,
            in_time_before=self.stream_in_time_accuracies, ends_worst_before=self.ends_at_its_worst,
            overloads_before=self.overloads, last_before=self.last_severity_accuracy,
        )  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Return the figures of the comparison table, by name, with units in the names."""
        # A table asks for them once a column, and they are sums over hundreds of thousands of rows.
        return dict(self._summary)

    @cached_property
    def _summary(self) -> dict[str, Any]:
        columns, requests = self.columns, float(self.columns["requests"].sum())
        budget = float(self.budgets_macs.sum())
        used = columns["retraining_macs"] + columns["inference_macs"]
        p50_s, p99_s = self.latency.quantiles([0.5, 0.99])
        streams, energy_j, fates, overload = self.stream_accuracies, self.energy_j, self.fates, self.overload
        in_time = self.stream_in_time_accuracies
        return {
            "allocator": self.allocator,
            "accuracy_model": self.accuracy_model,
            "seed": self.seed,
            "mean_accuracy": self.mean_accuracy,
            "in_time_accuracy": self.in_time_accuracy,
            "worst_stream": min(streams, key=lambda name: streams[name], default=None),
            "worst_stream_accuracy": min(streams.values(), default=None),
            "stream_accuracies": dict(streams),
            "worst_stream_in_time": min(in_time, key=lambda name: in_time[name], default=None),
            "worst_stream_in_time_accuracy": min(in_time.values(), default=None),
            "stream_in_time_accuracies": dict(in_time),
            "last_severity_accuracy": self.last_severity_accuracy,
            "latency_p50_s": None if np.isnan(p50_s) else p50_s,
            "latency_p99_s": None if np.isnan(p99_s) else p99_s,
            "requests": requests,
            "served": float(columns["served"].sum()),
            **{name.replace(" ", "_"): number for name, number in fates.items()},
            "answered": float(columns["served"].sum()) / requests if requests else None,
            "overloaded": overload is not None and overload.overloaded,
            "overload": None if overload is None else asdict(overload),
            "budget_used": float(used.sum()) / budget if budget else 0.0,
            "retraining_part": float(columns["retraining_macs"].sum() / used.sum()) if used.any() else 0.0,
            "macs_per_request": float(used.sum() / (requests or 1.0)),
            "energy_j": None if np.isnan(energy_j) else energy_j,
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


def columns_of(records: Sequence[Any], row: type = SlotRecord) -> dict[str, Array]:
    """Turn rows into the columns of a `Result`."""
    names = [entry.name for entry in fields(row)]
    values = list(zip(*map(attrgetter(*names), records), strict=True)) or [()] * len(names)
    return {name: np.array(column) for name, column in zip(names, values, strict=True)}


class Table:
    """Rows that come one by one, kept as columns: rows of their own would take ten times the memory.

    Args:
        row: What a row is.
    """

    def __init__(self, row: type) -> None:
        self._row, self._rows, self._parts = row, list[Any](), list[dict[str, Array]]()

    def append(self, record: Any) -> None:
        """Take a row in."""
        self._rows.append(record)
        if len(self._rows) == ROWS_AT_ONCE:
            self._parts.append(columns_of(self._rows, self._row))
            self._rows = []

    def columns(self) -> dict[str, Array]:
        """Return all rows as the columns of a `Result`."""
        parts = [*self._parts, columns_of(self._rows, self._row)] if self._rows else self._parts
        if not parts:
            return columns_of([], self._row)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

"""What the daemon tells Prometheus."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from orric import __version__
from orric.exceptions import extra

with extra("edge"):
    from prometheus_client import (
        CollectorRegistry,
        Counter,
        Gauge,
        GCCollector,
        PlatformCollector,
        ProcessCollector,
        generate_latest,
    )
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
# What goes up and down: the name, what it is.
GAUGES = {
    "slot": "Slot, counted over all episodes.",
    "model_version": "Version of the student that serves.",
    "accuracy_estimate": "Agreement with the teacher in the last slot with labels.",
    "in_time_part": "Part of the images that came in the last slot with any which was answered by the deadline.",
    "in_time_accuracy_estimate": "Part right and in time: orric_in_time_part times orric_accuracy_estimate.",
    "anchor_accuracy": "Accuracy of the newest student on trusted images that clients cannot write.",
    "labelled_accuracy": "Part of right answers among those that clients gave labels for.",
    "budget_macs": "Budget of the slot.",
    "retraining_part": "Part of the slot's budget that retraining was given.",
    "inference_part": "Part of the slot's budget that inference was given.",
    "waiting_images": "Images that wait.",
    "fallback": "Whether the student as it was given serves, of which more is expected than of the newest.",
    "retraining_backoff": "By how many configurations retraining steps back after it was ended by force.",
    "slot_overrun_seconds": "By how much the last slot ended late.",
    "ratio_floor": "Lower bound on the episode's ratio to the offline optimum so far.",
}
# What becomes of uploaded images: all of those of a slot until it is chosen what is labelled, and then of these alone.
OUTCOMES = ("learnt", "held_out", "outlier", "class_quota", "duplicate", "quota", "unauthenticated")
# What is counted elsewhere and read off.
COUNTERS = {
    "swaps": "How often a version took over.",
    "rollbacks": "How often an older version took over.",
    "slots_missed": "Slots by the clock that did not begin, since one before them was overrun.",
    "slots_overrun_seconds": "By how much slots ended late, where that was told.",
}


class Told(Protocol):
    """What the daemon tells when somebody asks."""

    def figures(self) -> Mapping[str, float | None]:
        """Return what goes up and down, and what is counted, by name; None where it is unknown."""

    def failures(self) -> Mapping[str, int]:
        """Return what failed how often."""

    def samples(self) -> Mapping[str, int]:
        """Return how many uploaded images became of what, by the names in `OUTCOMES`."""


class Metrics:
    """The metrics of one daemon, apart from those of others in the same process.

    What is kept elsewhere is read off when somebody asks.

    Args:
        model: The model's name.
        told: Whoever keeps the rest; None for nobody.
        deadline_s: Answers later than this are late.

    Attributes:
        deadline_s: As given.
    """

    def __init__(self, model: str, told: Told | None = None, deadline_s: float | None = None) -> None:
        registry = self._registry = CollectorRegistry()
        self._model, self._told, self.deadline_s = model, told, deadline_s
        self._lock = threading.Lock()
        self._requests: dict[int, int] = {200: 0}
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._sum_s = 0.0
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)

        def counter(name: str, what: str) -> Counter:
            return Counter(f"orric_{name}", what, ["model"], registry=registry).labels(model)

        self._images = counter("images", "Images that were answered.")
        self.shed = counter("shed_images", "Images that were turned away.")
        self._in_time = counter("in_time_images", "Images that were answered by the deadline, or without one.")
        self._late = counter("late_images", "Images that were answered after the deadline.")
        self._refusals = Counter("orric_refusals", "Requests that were refused, by why.", ["reason"], registry=registry)
        self._closed = Counter(
            "orric_connections_closed", "Connections that were closed, by why.", ["reason"], registry=registry
        )
        self.connections = Gauge("orric_connections", "Connections that are open.", registry=registry)
        self.read(self._own)

    def read(self, source: Callable[[], Iterable[Metric]]) -> None:
        """Have a function asked for metrics whenever somebody asks for all."""

        class Asked:
            def collect(self) -> Iterable[Metric]:
                return source()

        self._registry.register(Asked())

    def answer(self, status: int, seconds: float, images: int) -> None:
        """Count a request of inference that was answered.

        Args:
            status: Of HTTP.
            seconds: From its first byte to the last of its answer.
            images: That it had; 0 where they were not answered.
        """
        late = self.deadline_s is not None and seconds > self.deadline_s
        with self._lock:
            self._requests[status] = self._requests.get(status, 0) + 1
            if status == 200:
                self._buckets[bisect_left(BUCKETS_S, seconds)] += 1
                self._sum_s += seconds
        if status == 200:
            self._images.inc(images)
            (self._late if late else self._in_time).inc(images)

    def refuse(self, reason: str) -> None:
        """Count a refusal."""
        self._refusals.labels(reason).inc()

    def close(self, reason: str) -> None:
        """Count a connection that was closed."""
        self._closed.labels(reason).inc()

    def text(self) -> bytes:
        """Return all metrics as Prometheus reads them."""
        return bytes(generate_latest(self._registry))

    def _own(self) -> Iterator[Metric]:
        """Yield what is kept here as plain numbers, and what is read off."""
        with self._lock:
            requests, buckets, sum_s = dict(self._requests), list(self._buckets), self._sum_s
        yield InfoMetricFamily("orric", "The daemon.", {"version": __version__})
        found = CounterMetricFamily("orric_requests", "Requests of inference, by status.", labels=["model", "status"])
        for status, number in sorted(requests.items()):
            found.add_metric([self._model, str(status)], number)
        yield found
        what = "From the first byte of a request to the last of its answer, of those answered with 200."
        durations = HistogramMetricFamily("orric_request_duration_seconds", what, labels=["model"])
        total, rows = 0, []
        for bound, number in zip([*map(str, BUCKETS_S), "+Inf"], buckets, strict=True):
            total += number
            rows.append((bound, float(total)))
        durations.add_metric([self._model], rows, sum_s)
        yield durations
        if self._told is None:
            return
        figures = self._told.figures()
        for name, about in GAUGES.items():
            gauge = GaugeMetricFamily(f"orric_{name}", about, labels=["model"])
            value = figures.get(name)
            gauge.add_metric([self._model], float("nan") if value is None else value)  # until it is known
            yield gauge
        for name, about in COUNTERS.items():
            if name in figures:
                counted = CounterMetricFamily(f"orric_{name}", about, labels=["model"])
                counted.add_metric([self._model], figures[name] or 0.0)
                yield counted
        became = CounterMetricFamily(
            "orric_samples", "Uploaded images, by what became of them.", labels=["model", "outcome"]
        )  # fmt: skip
        samples = self._told.samples()
        for outcome in OUTCOMES:
            became.add_metric([self._model, outcome], samples.get(outcome, 0))
        yield became
        failed = CounterMetricFamily("orric_failures", "Failures, by what failed.", labels=["model", "of"])
        for of, number in self._told.failures().items():
            failed.add_metric([self._model, of], number)
        yield failed

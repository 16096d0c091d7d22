"""What the daemon tells Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from orric.exceptions import extra

with extra("edge"):
    from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
    from prometheus_client.core import HistogramMetricFamily

if TYPE_CHECKING:
    from orric.edge.daemon import Daemon

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Latencies:
    """A histogram that takes many values at once."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(BUCKETS_S) + 1, np.int64)
        self._sum_s = 0.0

    def add(self, values_s: list[float]) -> None:
        """Add seconds; from one thread."""
        places = np.searchsorted(BUCKETS_S, values_s)
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum_s += sum(values_s)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield it as Prometheus takes it."""
        totals = np.cumsum(self._counts).tolist()
        names = [*map(str, BUCKETS_S), "+Inf"]
        found = HistogramMetricFamily("orric_latency_seconds", "Seconds from arrival to answer, of requests.")
        found.add_metric([], list(zip(names, totals, strict=True)), self._sum_s)
        yield found


class Metrics:
    """The metrics of one daemon, apart from those of others in the same process.

    Counters that are kept elsewhere are read off when somebody asks.
    """

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()

        def counter(name: str, what: str) -> Counter:
            return Counter(f"orric_{name}", what, registry=registry)

        def gauge(name: str, what: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"orric_{name}", what, labels, registry=registry)

        self.latency = Latencies()
        registry.register(self.latency)
        self.images = counter("images", "Images that were answered.")
        self.shed = counter("shed_images", "Images that were turned away.")
        self._gauges = {
            "slot": gauge("slot", "Slot, counted over all episodes."),
            "version": gauge("model_version", "Version of the student that serves."),
            "agreement": gauge("accuracy_estimate", "Agreement with the teacher in the last slot with labels."),
            "labelled": gauge("labelled_accuracy", "Part of right answers among those that clients gave labels for."),
            "budget": gauge("budget_macs", "Budget of the slot."),
            "retraining": gauge("retraining_part", "Part of the slot's budget that retraining was given."),
            "inference": gauge("inference_part", "Part of the slot's budget that inference was given."),
            "waiting": gauge("waiting_images", "Images that wait."),
            "swaps": gauge("swaps", "How often a version took over, since the start."),
            "rollbacks": gauge("rollbacks", "How often an older version took over, since the start."),
            "ratio": gauge("ratio_floor", "Lower bound on the episode's ratio to the offline optimum so far."),
        }
        for one in self._gauges.values():
            one.set(float("nan"))  # until it is known
        self._failures = gauge("failures", "Failures since the start, by what failed.", ("of",))

    def text(self, daemon: Daemon) -> bytes:
        """Return all metrics as Prometheus reads them."""
        for name, value in daemon.figures().items():
            if value is not None:
                self._gauges[name].set(value)
        for name, number in daemon.failures().items():
            self._failures.labels(name).set(number)
        return bytes(generate_latest(self._registry))

"""The part of a stream's requests that is answered by the deadline, before anybody is served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ArrivalProcess:
    """How requests come within a slot, as a stream declares it.

    Attributes:
        kind: As of a scenario's stream.
        drawn: Whether the count of a slot is an outcome; else it is given.
        ratio: Of "bursty": rate within bursts divided by the rate between them.
        burst_s: Of "bursty": mean length of a burst.
        calm_s: Of "bursty": mean time between two.
        variation: Of "gamma": coefficient of variation of the gaps.
        branching: Of "hawkes": how many further requests each excites on average.
        decay_s: Of "hawkes": after how long on average.
    """

    kind: Literal["upload", "deterministic", "timestamps", "poisson", "bursty", "gamma", "hawkes", "closed"] = "upload"
    drawn: bool = False
    ratio: float = 1.0
    burst_s: float = 1.0
    calm_s: float = 1.0
    variation: float = 1.0
    branching: float = 0.0
    decay_s: float = 1.0


@dataclass(frozen=True)
class Timeliness:
    """Says which part of a stream's requests is answered by the deadline.

    Attributes:
        slot_s: Length of a slot.
        deadline_s: Infinite where there is none.
        arrivals: How requests come within a slot.
        fixed_s: Of every undominated inference configuration, in the order of `StreamTask.inference`: seconds at the
            whole GPU that a batch takes, whatever is in it.
        each_s: Likewise, what every request of it takes besides.
        most: Requests in a batch at most.
        wait_s: How long the first request of a batch waits at most for it to fill.
        workers: Batches in service at once, which divide the stream's speed.
        queue_limit: Requests that may wait; further ones are turned away.
        service_variation: Coefficient of variation of the service times.
    """

    slot_s: float
    deadline_s: float
    arrivals: ArrivalProcess
    fixed_s: tuple[float, ...]
    each_s: tuple[float, ...]
    most: int = 1
    wait_s: float = 0.0
    workers: int = 1
    queue_limit: float = float("inf")
    service_variation: float = 0.0

    def part(self, configuration: Any, speed: Any, requests: Any, backlog: Any = 0.0) -> Array:
        """Return the part of a slot's requests that is answered by the deadline; arguments broadcast.

        Args:
            configuration: Indices of inference configurations.
            speed: Seconds of work at the whole GPU done in a second, above 0 where anything is served.
            requests: D(t), as expected; those that wait at the slot's start are not among them.
            backlog: Requests that wait at the slot's start.

        Returns:
            In [0, 1]; 1 where nobody asks.
        """
        configuration, speed, requests, backlog = np.broadcast_arrays(configuration, speed, requests, backlog)
        if np.isinf(self.deadline_s):
            return np.ones(np.shape(speed))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            fixed_s, each_s = np.array(self.fixed_s)[configuration], np.array(self.each_s)[configuration]
            rate = requests / self.slot_s
            # Batches fill with what comes while the one before is served, to `most` under load.
            batch = np.minimum(np.maximum(rate * (fixed_s + each_s) / speed, 1.0), self.most)
            service_s = (fixed_s / batch + each_s) / speed
            load = rate * service_s
            alone_s = (fixed_s + each_s * batch) / speed * self.workers
            free_s = self.deadline_s - alone_s - (self.wait_s if self.most > 1 else 0.0)
            behind_s = backlog * service_s
            if self.arrivals.kind == "upload":
                # All stand in line at once: who is served within the deadline is in time.
                found = (self.deadline_s - behind_s) / np.maximum(requests * service_s, 1e-300)
            else:
                kept = np.minimum(1.0 / np.maximum(load, 1e-300), 1.0)
                decay = 2 * (1 - load) / (service_s * batch * self._dispersion())
                stable = np.where(load < 1, 1 - load * np.exp(-np.maximum(decay, 0.0) * np.maximum(free_s, 0.0)), 0.0)
                # Beyond capacity the queue grows through the slot until it is longer than the deadline.
                growing = np.where(load > 1, free_s / np.maximum((load - 1) * self.slot_s, 1e-300), 1.0)
                found = np.where(load < 1, stable, np.minimum(growing, kept))
                late_s = np.maximum(behind_s - free_s, 0.0) / np.maximum(1 - load, 1e-3)
                found = found * np.clip(1 - late_s / self.slot_s, 0.0, 1.0)
                found = np.where(free_s < 0, 0.0, found)
        found = np.where(requests > 0, np.where(speed > 0, found, 0.0), 1.0)
        clipped: Array = np.clip(np.nan_to_num(found, nan=0.0), 0.0, 1.0)
        return clipped

    def _dispersion(self) -> float:
        """Return how many times as variable the work that comes is as that of requests evenly spaced."""
        arrivals, served = self.arrivals, self.service_variation**2
        if arrivals.kind == "deterministic":
            return max(served, 0.02)
        if arrivals.kind == "bursty":
            part = arrivals.burst_s / (arrivals.burst_s + arrivals.calm_s)
            mean = part * arrivals.ratio + 1 - part
            spread = part * (1 - part) * (arrivals.ratio - 1) ** 2 / mean**2
            both_s = arrivals.burst_s * arrivals.calm_s / (arrivals.burst_s + arrivals.calm_s)
            return 1 + served + 2 * spread * both_s
        if arrivals.kind == "gamma":
            return arrivals.variation**2 + served
        if arrivals.kind == "hawkes":
            return 1 / (1 - arrivals.branching) ** 2 + served
        return 1 + served


class Correction:
    """What observations teach of one stream's timeliness: by which factor its speed is other than was thought.

    Attributes:
        factor: Speeds are multiplied by it.
    """

    def __init__(self) -> None:
        self.factor = 1.0

    def part(
        self, timeliness: Timeliness, configuration: Any, speed: Any, requests: Any, backlog: Any = 0.0
    ) -> Array:
        """Return the part in time as what was observed corrects it; see `Timeliness.part`."""
        return timeliness.part(configuration, np.asarray(speed) * self.factor, requests, backlog)

    def observe(self, predicted: float, in_time: float, requests: float) -> None:
        """Take note of a slot.

        Args:
            predicted: The part that was said to be in time, for what was chosen and what came.
            in_time: The part that was.
            requests: How many came.
        """
        if requests > 0:
            weight = min(requests / 50.0, 1.0)
            self.factor = float(np.clip(self.factor * np.exp(0.5 * weight * (in_time - predicted)), 0.2, 2.0))

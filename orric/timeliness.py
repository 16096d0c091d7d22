"""The part of a stream's requests that is answered by the deadline, before anybody is served."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from orric.waiting import ArrivalProcess as ArrivalProcess
from orric.waiting import Shape

Array = np.ndarray[Any, Any]
# Work that takes no time is taken to take this.
LEAST_S = 1e-12
# Factors upon a stream's speed that observations choose from, and by which part speeds are usually wrong.
FACTORS = np.exp(np.linspace(-1.0, 0.5, 31))
USUAL = 0.02
# What of a slot counts one slot later.
KEPT = 0.98
# By how much the part in time of a slot is off by chance at least, and a variance of single requests that says little
# of their odds.
LEAST_CHANCE, LITTLE = 0.01, 0.05


@dataclass(frozen=True)
class Timeliness:
    """Says which part of a stream's requests is answered by the deadline.

    Requests that come all at once stand in line, which is exact. Those who come one by one find a queue that is solved
    through the slot, see `orric.waiting`. Over 216 points of load, burstiness, batching and deadline, the part in time
    is off by 1.2 points on average (tests/benchmarks/timeliness.py); where theory knows it, by at most 1.5 (M/M/1,
    M/M/c) and 3 (M/D/1); by about 4 on average where bursts come with a given count. It never rises with requests or
    backlog, and never falls with speed unless few may wait. Timestamps are taken as of `arrivals.variation`, closed
    loops as Poisson processes of the rate that they have.

    Whoever asks first has a table made, in about a tenth of a second; then 20,000 parts take some milliseconds. Without
    batches one table serves all configurations, and all streams of the same deadline, arrivals and workers.

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
        configuration, served = configuration.astype(np.intp), speed > 0
        speed = np.where(served, speed, 1.0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if np.isinf(self.deadline_s) or self.arrivals.kind == "upload":
                found = self._line(configuration, speed, requests, backlog)
            else:
                # At no speed nobody is answered; what stands for it in the tables is of no consequence.
                found = self._queue(configuration, np.where(speed > 0, speed, 1.0), requests, backlog)
        found = np.where(requests > 0, np.where(served, found, 0.0), 1.0)
        clipped: Array = np.clip(np.nan_to_num(found, nan=0.0), 0.0, 1.0)
        return clipped

    def _queue(self, configuration: Array, speed: Array, requests: Array, backlog: Array) -> Array:
        """Return the part in time of those who come one by one."""
        found = np.zeros(speed.shape)
        for shape, indices in self._shapes:
            chosen: Any = np.isin(configuration, indices) if len(indices) < len(self.each_s) else ...
            full_s = np.array(self.fixed_s) / self.most + np.array(self.each_s)
            service_s = np.maximum(full_s[configuration[chosen]], LEAST_S) / speed[chosen]
            in_time = shape.table().look_up(
                requests[chosen] * service_s / self.slot_s, service_s, shape.in_work(backlog[chosen]) * service_s
            )
            found[chosen] = np.where(shape.alone * service_s <= self.deadline_s * (1 + 1e-9), in_time, 0.0)
        return found

    @cached_property
    def _shapes(self) -> list[tuple[Shape, list[int]]]:
        """What tables are made for, and the configurations that each serves: one for all without batches."""
        found: dict[Shape, list[int]] = {}
        for j, (fixed_s, each_s) in enumerate(zip(self.fixed_s, self.each_s, strict=True)):
            fixed = fixed_s / max(fixed_s + each_s * self.most, LEAST_S) if self.most > 1 else 0.0
            shape = Shape(
                slot_s=self.slot_s,
                deadline_s=self.deadline_s,
                arrivals=self.arrivals,
                fixed=fixed,
                most=self.most,
                wait_s=self.wait_s if self.most > 1 else 0.0,
                workers=self.workers,
                queue_limit=self.queue_limit,
                service_square=self.service_variation**2,
            )
            found.setdefault(shape, []).append(j)
        return list(found.items())

    def _line(self, configuration: Array, speed: Array, requests: Array, backlog: Array) -> Array:
        """Return the part in time of those who come all at once, or may wait as long as they like.

        They stand in line, batch after batch; who finds a full queue is turned away.
        """
        fixed_s, each_s = np.array(self.fixed_s), np.array(self.each_s)
        batch_s = (fixed_s + each_s * self.most)[configuration] / speed * self.workers
        room = self.queue_limit + self.workers * self.most
        if np.isinf(self.deadline_s):
            if np.isinf(room):
                return np.ones(speed.shape)
            # Those may come who are served within the slot, or can wait.
            upload = self.arrivals.kind == "upload"
            served = 0.0 if upload else self.slot_s / batch_s * self.most * self.workers
            return (room + served - backlog) / requests
        rounds = self.deadline_s / batch_s
        if not self.service_variation:
            rounds = np.floor(rounds * (1 + 1e-12))
        answered = rounds * self.most * self.workers
        # The last batch need not be full.
        there = np.minimum(backlog + requests, room)
        whole = np.floor(there / (self.most * self.workers))
        rest = np.minimum(there - whole * self.most * self.workers, self.most)
        last_s = (fixed_s[configuration] + each_s[configuration] * rest) / speed * self.workers
        answered = np.where(whole * batch_s + np.where(rest > 0, last_s, 0.0) <= self.deadline_s, there, answered)
        in_time: Array = (np.minimum(answered, there) - backlog) / requests
        return in_time


class Corrections:
    """What observations teach of the timeliness of some streams.

    Where slots went otherwise than was said, a stream is as a rule served at another speed than was thought: of some
    factors upon it, that one is believed which explains the slots best, the more so the fewer chances it takes to be 1.
    What then remains, and cannot be chance, shifts the odds of being in time; who is certain to be in time, or to be
    late, stays so. Slots count by their requests, and are forgotten slowly. Replayed observations restore it.

    Args:
        count: Number of streams.

    Attributes:
        factors: Speeds are multiplied by them, shape (count,).
        shifts: Added to the logarithm of the odds of being in time, shape (count,).
    """

    def __init__(self, count: int) -> None:
        self.factors, self.shifts = np.ones(count), np.zeros(count)
        # Of errors, their squares, and variances of single requests, by factor; of weights, and their squares.
        self._sums, self._weights = np.zeros((count, 3, len(FACTORS))), np.zeros((count, 2))

    def observe(self, streams: Array, predicted: Array, in_time: Array, requests: Array) -> None:
        """Take note of a slot.

        Args:
            streams: Which of the streams are meant, shape (n,).
            predicted: The part that `Timeliness.part` says was to be in time, for what was chosen and what came, at
                each of FACTORS times the speed, shape (n, len(FACTORS)); one number for all factors teaches nothing of
                the speed.
            in_time: The part that was, shape (n,).
            requests: How many came, shape (n,); a stream without any learns nothing.
        """
        asked = requests > 0
        streams, predicted, in_time, requests = (one[asked] for one in (streams, predicted, in_time, requests))
        if not len(streams):
            return
        errors = np.clip(in_time, 0.0, 1.0)[:, None] - predicted
        slot = np.stack([errors, errors**2, predicted * (1 - predicted)], axis=1)
        sums = self._sums[streams] * KEPT + requests[:, None, None] * slot
        weights = self._weights[streams] * [KEPT, KEPT**2] + np.stack([requests, requests**2], axis=1)
        self._sums[streams], self._weights[streams] = sums, weights
        errors, squares, variances = np.moveaxis(sums / weights[:, :1, None], 1, 0)
        slots = weights[:, 0] ** 2 / weights[:, 1]
        # Chance, as it is for the factor that leaves least to it.
        chance = np.maximum(squares.min(axis=1), LEAST_CHANCE**2)
        loss = (slots / chance)[:, None] * squares + 2 * np.log1p((np.log(FACTORS) / USUAL) ** 2)
        belief = np.exp((loss.min(axis=1, keepdims=True) - loss) / 2)
        # FACTORS are evenly spaced by their logarithms.
        logarithms = np.log(FACTORS)
        believed = belief @ logarithms / belief.sum(axis=1)
        factors = np.exp(believed)
        place = (believed - logarithms[0]) / (logarithms[1] - logarithms[0])
        low = np.clip(place.astype(np.intp), 0, len(FACTORS) - 2)
        part = np.clip((factors - FACTORS[low]) / (FACTORS[low + 1] - FACTORS[low]), 0.0, 1.0)
        rows = np.arange(len(streams))
        mean, spread, variance = (
            one[rows, low] * (1 - part) + one[rows, low + 1] * part for one in (errors, squares, variances)
        )
        noise = np.maximum(spread - mean**2, LEAST_CHANCE**2) / slots
        with np.errstate(divide="ignore"):
            certain = np.maximum(1 - noise / mean**2, 0.0)
        self.factors[streams] = factors
        self.shifts[streams] = np.clip(certain * mean * variance / (variance**2 + LITTLE**2), -1.0, 1.0)


class Correction:
    """What observations teach of one stream's timeliness; see `Corrections`."""

    def __init__(self) -> None:
        self._all = Corrections(1)

    @property
    def factor(self) -> float:
        """Speeds are multiplied by it."""
        return float(self._all.factors[0])

    @property
    def shift(self) -> float:
        """Added to the logarithm of the odds of being in time."""
        return float(self._all.shifts[0])

    def part(self, timeliness: Timeliness, configuration: Any, speed: Any, requests: Any, backlog: Any = 0.0) -> Array:
        """Return the part in time as what was observed corrects it; see `Timeliness.part`."""
        return shifted(timeliness.part(configuration, np.asarray(speed) * self.factor, requests, backlog), self.shift)

    def observe(self, predicted: Any, in_time: float, requests: float) -> None:
        """Take note of a slot; see `Corrections.observe`.

        Args:
            predicted: At each of FACTORS times the speed, or one number for all.
            in_time: The part that was.
            requests: How many came.
        """
        expected = np.broadcast_to(np.asarray(predicted, np.float64), (1, len(FACTORS)))
        self._all.observe(np.zeros(1, np.intp), expected, np.array([in_time]), np.array([requests], np.float64))


def shifted(parts: Array, shift: Any) -> Array:
    """Return parts whose log-odds are shifted."""
    odds = np.exp(shift)
    found: Array = parts * odds / (1 - parts + parts * odds)
    return found

"""One stream during a simulation: its requests, its queue, its student's versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from orric.accuracy import AccuracyModel
from orric.allocators.choice import Choice
from orric.configuration import InferenceConfiguration
from orric.exceptions import SimulationError
from orric.latency import BUCKETS
from orric.profile import Profile
from orric.randomness import generator
from orric.scenario import Scenario
from orric.scenario.stream import Stream
from orric.simulation.arrivals import Arrivals
from orric.simulation.queueing import PHASES, ROUNDING, Discipline, Queue, Window
from orric.simulation.sharing import STILL, Pace
from orric.simulation.work import BatchWork, batch_work

Array = np.ndarray[Any, Any]
EWMA_WEIGHT = 0.3
# Phases of a slot, for latencies: no retraining yet, retraining under way, retraining done.
BEFORE, DURING, AFTER = range(PHASES)
# Of the largest time that the simulation adds up.
LITTLE = 1e-6


class Served:
    """What one stream did in one slot."""

    def __init__(self) -> None:
        self.served = self.late = self.shed = self.batches = 0
        self.busy_s = self.used_s = self.correct = 0.0
        self.latencies_s = np.zeros(PHASES)
        self.counts = np.zeros((PHASES, BUCKETS), np.int64)

    def add(self, window: Window) -> None:
        """Add a window up."""
        self.served += window.served
        self.late += window.late
        self.shed += window.shed
        self.batches += window.batches
        self.busy_s += window.busy_s
        self.used_s += window.used_s
        self.latencies_s += window.latencies_s
        self.counts += window.counts


class StreamState:
    """The state of one stream.

    Args:
        scenario: What is simulated.
        index: Place of the stream in it, from 0.
        profile: Its profile.
        accuracy: Says how many of its requests are classified rightly.
        seed: Seed of the run.
        bursts: What faults multiply the requests of each slot by, shape (T,).
        skews_s: How much later than meant its requests arrive in each slot, shape (T,).
        record: Takes what happened to every request of a window, if anybody wants to know.
        allocator: Name of the allocator, for messages.

    Raises:
        ScenarioError: Requests are not whole numbers, or there are none.
    """

    def __init__(
        self,
        scenario: Scenario,
        index: int,
        profile: Profile,
        accuracy: AccuracyModel,
        seed: int,
        bursts: Array,
        skews_s: Array,
        record: Callable[[str, int, Window], None] | None,
        allocator: str,
    ) -> None:
        self.spec: Stream = scenario.stream[index]
        self.index, self.profile, self.accuracy, self.seed = index, profile, accuracy, seed
        self.name, self.slot_s = self.spec.name, scenario.slot_s
        self.arrivals = Arrivals(scenario, index, seed, bursts, skews_s)
        # D(t) as it arrives: what the learning extent is made of, with A^T of finished retraining.
        self.arrived, self.gained = self.arrivals.arrived, np.zeros(scenario.slots)
        self.forecasts = forecasts(self.spec, self.arrivals.meant, self.arrived)
        # What allocations and shares are made for.
        self.planned = self.forecasts * (1 + self.spec.headroom)
        self.drift = self.spec.drift.by_slot(scenario.slots, seed, index)
        self.choice = Choice(profile, allocator)
        limit = self.spec.queue_limit
        discipline = Discipline(
            workers=self.spec.workers,
            most=self.spec.batch.most,
            wait_s=self.spec.batch.wait_s,
            limit=2**62 if limit is None else limit,
            # Work that ends with its slot, and the deadline with it, is not late by rounding.
            deadline_s=float("inf") if self.spec.deadline_s is None else self.spec.deadline_s * (1 + ROUNDING),
        )
        self.queue, self._record = Queue(discipline, record is not None), record
        self._factors = scenario.service_factors(index) if self.spec.service.variability == "empirical" else None
        self.phase, self.pace = BEFORE, STILL
        self.paused_until_s = 0.0
        self.version, self.extent, self.extent_at_begin = -1, 0.0, 0.0
        self._credits: dict[int, tuple[float, int]] = {}
        self._present_s = self._left_s = 0.0

    def begin_slot(self, slot: int, refused: int) -> None:
        """Let a slot's requests be on their way.

        Args:
            slot: Index from 1.
            refused: How many of them, the newest, are shed at once.
        """
        self.slot, self.now = slot, Served()
        count = int(self.arrived[slot - 1])
        self._left, self._pending = count - refused, self.arrivals.windows(slot)
        self._window: tuple[float, Array, Array] | None = None
        self.now.shed = refused
        self.accuracy.arrive(slot, count)
        self.accuracy.shed(refused)
        self._service_rng = generator(self.seed, "service", self.index, slot)
        self._begin_s = self._since_s = (slot - 1) * self.slot_s
        self._rows: list[tuple[tuple[float, ...], int]] = []

    def serve_with(self, inference: InferenceConfiguration, scenario: Scenario, gpu: int) -> None:
        """Serve from now on with an inference configuration."""
        self.inference = inference
        self.work: BatchWork = batch_work(self.profile, inference, scenario.gpu[gpu])

    def change(self, now_s: float, pace: Pace | None = None, phase: int | None = None) -> None:
        """Go on at another pace, or in another phase, from a time on."""
        self._close(now_s)
        self.pace = self.pace if pace is None else pace
        self.phase = self.phase if phase is None else phase

    def pause(self, now_s: float, until_s: float) -> None:
        """Serve nobody until a time."""
        self._close(now_s)
        self.paused_until_s = max(self.paused_until_s, until_s)

    def _close(self, now_s: float) -> None:
        """Write down what held since the last change."""
        now_s = min(now_s, self.slot * self.slot_s)
        paused_s = min(self.paused_until_s, now_s)
        if paused_s > self._since_s:
            self._rows.append((STILL.row(paused_s), self.phase))
            self._since_s = paused_s
        if now_s > self._since_s:
            pace = self.pace
            if self.work.fixed_s == 0 and self.work.each_s == 0 and pace.speed == 0:
                pace = Pace(1.0)  # what costs nothing needs no share
            self._rows.append((pace.divided(self.spec.workers).row(now_s), self.phase))
            self._since_s = now_s

    def flush(self, now_s: float) -> None:
        """Serve up to a time, under one version; the next version begins then."""
        ends = self.slot * self.slot_s
        last = now_s >= ends - ROUNDING * self.slot_s
        now_s = ends if last else now_s
        self._close(now_s)
        finished: dict[int, int] = {}
        place = 0
        for until_s, times in self._take(now_s):
            if until_s <= self._begin_s:
                continue
            rows, labels = [], []
            while True:
                row, phase = self._rows[place]
                rows.append((min(row[0], until_s), *row[1:]))
                labels.append((self.version, phase))
                if row[0] >= until_s:
                    break
                place += 1
            window = self.queue.advance(
                self._begin_s, np.array(rows), np.array(labels), times, self.work.fixed_s, self.work.each_s,
                self._factors_of(len(times)), ROUNDING * self.slot_s if last and until_s >= now_s else 0.0,
            )  # fmt: skip
            self.now.add(window)
            self.accuracy.shed(window.shed)
            self._present_s += window.present_s
            self._left_s += float(window.latencies_s.sum())
            for version, count in window.served_by.items():
                finished[version] = finished.get(version, 0) + count
            if self._record is not None:
                self._record(self.name, self.slot, window)
            self._begin_s = until_s
        self._rows = []
        self._credit(finished)

    def _credit(self, finished: dict[int, int]) -> None:
        """Classify what the version that ends has begun; what is still in service counts when it is done."""
        mine, still = finished.pop(self.version, 0), self.queue.in_service(self.version)
        for version, count in finished.items():
            correct, there = self._credits.pop(version)
            part = correct * count / there
            self.now.correct += part
            if there > count:
                self._credits[version] = (correct - part, there - count)
        if mine + still:
            correct = self.accuracy.serve(self.slot, self.extent, self.inference.name, mine + still)
            part = correct * mine / (mine + still) if still else correct
            self.now.correct += part
            if still:
                self._credits[self.version] = (correct - part, still)

    def _take(self, until_s: float) -> Iterator[tuple[float, Array]]:
        """Yield windows of arrivals up to a time; what lies beyond stays for the next call."""
        while self._begin_s < until_s:
            if self._window is None:
                end_s, times = next(self._pending, (self.slot * self.slot_s, np.empty(0)))
                self._window = (end_s, times[: self._left], times[self._left :])
                self._left -= len(self._window[1])
            end_s, times, refused = self._window
            if end_s <= until_s:
                self._window = None
                yield end_s, times
                if self._record is not None and len(refused):
                    self._record(self.name, self.slot, self.queue.refuse(refused))
            else:
                inside = int(np.searchsorted(times, until_s))
                self._window = (end_s, times[inside:], refused)
                yield until_s, times[:inside]

    def _factors_of(self, count: int) -> Array | None:
        service, rng = self.spec.service, self._service_rng
        if service.variability == "none":
            return None
        if service.variability == "exponential":
            return rng.standard_exponential(count)
        if service.variability == "log-normal":
            assert service.variation is not None
            width = np.sqrt(np.log1p(service.variation**2))
            return np.asarray(np.exp(width * rng.standard_normal(count) - width**2 / 2))
        assert self._factors is not None
        return np.asarray(self._factors[rng.integers(0, len(self._factors), count)])

    def new_version(self, past: int) -> None:
        """Let the student serve that the retraining of slots 1..past has made."""
        self.version += 1
        extents = self.profile.memory.extents(self.arrived[:past], self.gained[:past])
        self.extent = float(extents[-1])

    def check_conservation(self, begun: int) -> None:
        """Refuse a slot in which requests were lost, or stayed another time than Little's law has it.

        Args:
            begun: Requests present at the slot's begin.

        Raises:
            SimulationError: With the slot and the figures.
        """
        now, arrived = self.now, int(self.arrived[self.slot - 1])
        where = f"stream {self.name!r}, slot {self.slot}"
        if begun + arrived != now.served + now.shed + self.queue.waiting:
            raise SimulationError(
                where,
                f"{begun} + {arrived} requests came and {now.served} + {now.shed} + {self.queue.waiting} were served, "
                "shed and left waiting",
                "this is a fault of the simulator: please report it",
            )
        found, wanted = self._left_s + self.queue.present_s(self.slot * self.slot_s), self._present_s
        if abs(found - wanted) > LITTLE * max(abs(wanted), self.slot_s * max(arrived, 1)):
            raise SimulationError(
                where,
                f"requests were present for {found:g} s, and their number says {wanted:g} s",
                "this is a fault of the simulator: please report it",
            )

    @property
    def collected(self) -> int:
        """The slot whose samples retraining can use: uploads are there when the slot starts, others one slot later."""
        return self.slot if self.spec.arrivals == "upload" and not self.arrivals.skewed else self.slot - 1

    @property
    def has_samples(self) -> bool:
        """Whether there is anything to retrain on."""
        return self.collected > 0 and self.arrived[self.collected - 1] > 0


def forecasts(stream: Stream, meant: Array, arrived: Array) -> Array:
    """Return what the allocator is told of D(t) at the start of each slot, shape (T,).

    Args:
        stream: Says how it is forecast.
        meant: D(t) without faults, which tells of the first slot.
        arrived: D(t) as it arrives.
    """
    if stream.forecast == "oracle":
        return arrived.copy()
    told = meant.copy()
    for slot in range(1, len(arrived)):
        told[slot] = next_forecast(stream, told[slot - 1], arrived[slot - 1])
    return told


def next_forecast(stream: Stream, told: float, arrived: float) -> float:
    """Return the forecast of a slot: of the one before was told so much, and so much arrived."""
    return arrived if stream.forecast == "last" else EWMA_WEIGHT * arrived + (1 - EWMA_WEIGHT) * told

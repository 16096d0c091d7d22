"""What a plain simulation keeps: requests, batches, retraining, GPUs and streams."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import Any

import orric
from orric.randomness import generator

NEVER, NAN = float("inf"), float("nan")
FATES = ("in time", "late", "shed", "abandoned", "lost", "waiting")
IN_TIME, LATE, SHED, ABANDONED, LOST, WAITING = range(len(FATES))
ROUNDING = 1e-9
# Retraining, inference, the share of retraining, that of inference (None for what the configurations cost), the GPU.
Choice = tuple[str, str, float | None, float | None, int]


@dataclass(eq=False)
class Request:
    """What became of a request."""

    number: int
    arrival_s: float
    factor: float = 1.0
    leaves_s: float = NEVER
    client: int = -1
    version: int = -1
    start_s: float = NAN
    end_s: float = NAN
    fate: int = WAITING


@dataclass(eq=False)
class Batch:
    """Requests in service together."""

    requests: list[Request]
    left_s: float


@dataclass(eq=False)
class Job:
    """One retraining."""

    slot: int
    profit: float
    whole_s: float
    whole_macs: float
    left_s: float = field(init=False)
    told: float = 0.0

    def __post_init__(self) -> None:
        self.left_s = self.whole_s

    def progress_macs(self) -> float:
        """Return what was done since it was last asked."""
        done = 1 - self.left_s / self.whole_s
        part, self.told = done - self.told, done
        return part * self.whole_macs


@dataclass(eq=False)
class Gpu:
    """One GPU; `still_until_s` has an entry for every fault, `grain_s` is what is left of a grain."""

    spec: Any
    whole_macs: float
    budgets_macs: list[float]
    streams: list[Stream] = field(default_factory=list)
    still_until_s: list[float] = field(default_factory=list)
    grain_s: float = 0.0
    # When shares began to hold: slices are counted from here.
    origin_s: float = 0.0
    # Seconds of the whole GPU used by serving and by retraining, and seconds that it stood still.
    used_s: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    def served(self, now_s: float) -> list[Stream]:
        """Return the streams whose serving has work and weight."""
        there = [one for one in self.streams if one.batches and now_s >= one.paused_until_s]
        return there if self.shared and self.pool > 0 else [one for one in there if one.shares[1] > 0]

    def learned(self) -> list[Stream]:
        """Return the streams whose retraining has work and weight."""
        there = [one for one in self.streams if one.job]
        return there if self.shared and self.pool > 0 else [one for one in there if one.shares[0] > 0]

    @property
    def shared(self) -> bool:
        """Whether who has work gets what others leave."""
        return self.spec.sharing.model in ("weighted", "priority")

    @property
    def pool(self) -> float:
        """What all share."""
        return sum(sum(one.shares) for one in self.streams)


class Stream:
    """One stream: its queue, its versions, its retraining.

    Args:
        scenario: What is simulated.
        index: Place of the stream in it.
        seed: Seed of the run.
        times: When requests arrive, slot by slot; None for a closed loop.
        skewed: Whether its clock is wrong at any time, so that uploads come after the slot's start.
    """

    def __init__(
        self, scenario: orric.Scenario, index: int, seed: int, times: list[list[float]] | None, skewed: bool
    ) -> None:
        self.spec, self.index, self.seed = scenario.stream[index], index, seed
        self.profile, self.times = scenario.profiles[index], times
        self.curves = self.profile.curves_for(*self.drift(scenario, seed))
        self.retraining = {one.name: one for one in self.profile.retraining}
        self.inference = {one.name: one for one in self.profile.inference}
        self.closed = times is None
        self.early = self.spec.arrivals == "upload" and not skewed
        keeps_latest = self.spec.shed == "keep-latest"
        self.limit = 1 if keeps_latest else self.spec.queue_limit or 10**9
        self.deadline_s = NEVER if self.spec.deadline_s is None else self.spec.deadline_s
        self.requests: list[Request] = []
        self.waiting: list[Request] = []
        self.batches: list[Batch] = []
        self.job: Job | None = None
        self.next_job: Job | None = None
        self.swaps: list[Job] = []
        self.refusing: set[int] = set()
        self.version, self.paused_until_s, self.crashed_until_s = -1, 0.0, 0.0
        self.shares = (0.0, 0.0)
        # D(s) as it arrived, A^T of finished retraining; p(version) is what a request of that version is worth.
        self.arrived = [0 if self.closed else len(ones) for ones in times or [[]] * scenario.slots]
        self.gained = [0.0] * scenario.slots
        self.worth: dict[int, float] = {}
        self.told: list[float] = []
        # Arrivals of the slot that are still to come; of a closed loop, of every client that thinks.
        self.coming: list[tuple[float, int]] = []
        self.chosen: Choice = ("", "", None, None, 0)
        # Of an overloaded slot: how many are admitted, and of how many.
        self.admitted: tuple[float, float] | None = None
        if self.closed:
            self.thinks = generator(seed, "arrivals", index)
            for client in range(self.spec.requests.clients):
                self.think(0.0, client)

    def begin_slot(self, slot: int) -> None:
        """Begin to count anew."""
        if self.times is not None:
            self.coming = [(time, -1) for time in self.times[slot - 1]]
        self.count, self.latencies_s, self.refused = 0, [], False
        counts = ("served", "late", "shed", "abandoned", "lost", "batches", "busy_s", "correct", "correct_in_time")
        self.row = dict.fromkeys((*counts, "retraining_macs", "retrained"), 0.0)
        drawn = self.spec.abandonment is not None and self.spec.abandonment.kind == "exponential"
        self.service_rng = generator(self.seed, "service", self.index, slot)
        self.patience_rng = generator(self.seed, "patience", self.index, slot) if drawn else None

    def factor(self) -> float:
        """Draw what a batch takes times what batches take."""
        service = self.spec.service
        if service.variability == "none":
            return 1.0
        if service.variability == "exponential":
            return float(self.service_rng.standard_exponential())
        width = math.sqrt(math.log1p(service.variation**2))
        return math.exp(width * self.service_rng.standard_normal() - width**2 / 2)

    def patience_s(self) -> float:
        """Draw how long a request waits for its service to begin."""
        abandonment = self.spec.abandonment
        if abandonment is None:
            return NEVER
        if abandonment.kind == "deadline":
            return self.deadline_s
        draw = 1.0 if self.patience_rng is None else self.patience_rng.standard_exponential()
        return float(abandonment.patience_s * draw)

    def batch_work(self, gpu: Gpu) -> tuple[float, float]:
        """Return what a batch takes of the whole GPU, and what each request in it does, in seconds."""
        for one in self.profile.batch_latency:
            if one.inference == self.chosen[1]:
                return one.fixed_s, one.each_s
        return 0.0, self.inference[self.chosen[1]].cost_macs / gpu.spec.macs_per_s

    def admits(self) -> bool:
        """Say whether the slot, if it is overloaded, admits its `count`-th request."""
        if self.admitted is None or self.spec.shed == "keep-latest":
            return True
        (admitted, whole), k = self.admitted, self.count
        if self.closed:
            part = admitted / whole
            return math.floor(k * part) > math.floor((k - 1) * part)
        kind, a, n = self.spec.shed, int(admitted), int(whole)
        if kind == "newest":
            return k <= a
        return k > n - a if kind == "oldest" else (k * a) // n > ((k - 1) * a) // n

    def drift(self, scenario: orric.Scenario, seed: int) -> tuple[Any, Any]:
        """Return corruption and severity of every slot."""
        drift = self.spec.drift.by_slot(scenario.slots, seed, self.index)
        return drift.corruptions, drift.severities.tolist()

    def think(self, now_s: float, client: int) -> None:
        """Let a client think before its next request."""
        thinking_s = self.spec.requests.thinking_s * self.thinks.standard_exponential()
        heapq.heappush(self.coming, (now_s + thinking_s, client))

    def extent(self, past: int) -> float:
        """Return x after the first `past` slots, from the definition."""
        memory, extent = self.profile.memory, 0.0
        for last in range(past):
            if not self.arrived[last]:
                continue
            first = max(last + 1 - memory.slots, 0) if memory.kind == "window" else 0
            ages = {slot: (memory.factor or 1.0) ** (last - slot) for slot in range(first, last + 1)}
            gained = sum(weight * self.arrived[slot] * self.gained[slot] for slot, weight in ages.items())
            extent = gained / sum(weight * self.arrived[slot] for slot, weight in ages.items())
        return extent

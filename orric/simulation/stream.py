"""One stream during a simulation: its requests, its student's versions, and what of them was right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orric.accuracy import AccuracyModel
from orric.allocators.choice import Choice
from orric.configuration import InferenceConfiguration
from orric.exceptions import SimulationError
from orric.learning import RunningExtent
from orric.profile import Profile
from orric.scenario import Scenario
from orric.scenario.requests import ClosedRequests
from orric.scenario.stream import Stream
from orric.simulation.answers import marking
from orric.simulation.arrivals import Arrivals
from orric.simulation.discipline import Discipline
from orric.simulation.incoming import Draws, Incoming
from orric.simulation.queueing import ROUNDING
from orric.simulation.serving import Answers, Pooled, Served, Serving
from orric.simulation.work import batch_work

if TYPE_CHECKING:
    from orric.simulation.gpu import GpuState

Array = np.ndarray[Any, Any]
EWMA_WEIGHT = 0.3
# Phases of a slot, for latencies: no retraining yet, retraining under way, retraining done.
BEFORE, DURING, AFTER = range(3)
# Of the largest time that the simulation adds up.
LITTLE = 1e-6


def discipline_of(spec: Stream) -> Discipline:
    """Return how a stream's queue serves."""
    patience_s, given = float("inf"), spec.abandonment
    if given is not None:
        patience_s = (spec.deadline_s if given.kind == "deadline" else given.patience_s) or patience_s
    closed = spec.requests if isinstance(spec.requests, ClosedRequests) else None
    return Discipline(
        workers=spec.workers,
        most=spec.batch.most,
        wait_s=spec.batch.wait_s,
        limit=2**62 if spec.queue_limit is None else spec.queue_limit,
        # Work that ends with its slot, and the deadline with it, is not late by rounding.
        deadline_s=float("inf") if spec.deadline_s is None else spec.deadline_s * (1 + ROUNDING),
        shed=spec.shed,
        patience_s=patience_s,
        clients=closed.clients if closed else 0,
        thinking_s=closed.thinking_s if closed else 0.0,
    )


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
        allocator: Name of the allocator, for messages.

    Attributes:
        serving: Its queue, given by whoever knows how its GPU is shared.
        gpu: Where it is served.

    Raises:
        ScenarioError: Requests are not whole numbers, or there are none.
    """

    serving: Serving
    gpu: GpuState

    def __init__(
        self,
        scenario: Scenario,
        index: int,
        profile: Profile,
        accuracy: AccuracyModel,
        seed: int,
        bursts: Array,
        skews_s: Array,
        allocator: str,
    ) -> None:
        self.spec: Stream = scenario.stream[index]
        self.index, self.profile, self.accuracy, self.seed = index, profile, accuracy, seed
        self.marking = marking(accuracy)
        self.name, self.slot_s = self.spec.name, scenario.slot_s
        draws = Draws(
            seed, index, self.spec.service,
            scenario.service_factors(index) if self.spec.service.variability == "empirical" else None,
            self.spec.abandonment is not None and self.spec.abandonment.kind == "exponential",
        )  # fmt: skip
        self.closed, self._skewed = isinstance(self.spec.requests, ClosedRequests), bool(skews_s.any())
        if self.closed:
            # The queue makes them, so that what comes is known afterwards only; told is the most that can come.
            self.meant = scenario.requests(seed, index)
            self.given, self.forecasts = np.zeros(scenario.slots), np.zeros(scenario.slots)
            self.forecasts[0] = self.meant[0]
            self.incoming = Incoming(lambda slot: iter(()), draws, self.spec.shed)
        else:
            arrivals = Arrivals(scenario, index, seed, bursts, skews_s)
            self.meant, self.given = arrivals.meant, arrivals.arrived
            foreseen = self.given
            if (bursts != 1).any() and self.spec.arrivals != "upload":
                # Nobody foresees bursts; uploads are counted when they are there.
                foreseen = Arrivals(scenario, index, seed, np.ones(scenario.slots), skews_s).arrived
            self.forecasts = forecasts(self.spec, float(self.meant[0]), foreseen, self.given)
            self.incoming = Incoming(arrivals.windows, draws, self.spec.shed)
        self.drift = self.spec.drift.by_slot(scenario.slots, seed, index)
        self.choice = Choice(profile, allocator)
        self.discipline = discipline_of(self.spec)
        # D(s) as it arrived and A^T of finished retraining: what the learning extent is made of.
        self.arrived, self._extents, self._counted = np.zeros(scenario.slots), RunningExtent(profile.memory), 0
        self._gained: dict[int, float] = {}
        self.phase = BEFORE
        self.version, self.extent, self.extent_at_begin = -1, 0.0, 0.0
        self._present_s = self._left_s = 0.0
        # Until when its process is not there, or was not; and how many of the last slot's requests found nobody.
        self.down_until_s, self._unseen = 0.0, 0

    def planned(self, slot: int) -> float:
        """Return the requests that allocations and shares are made for."""
        return float(self.forecasts[slot - 1]) * (1 + self.spec.headroom)

    def begin_slot(self, slot: int, refused: int, inference: InferenceConfiguration) -> None:
        """Let a slot's requests be on their way.

        Args:
            slot: Index from 1.
            refused: How many of them are turned away at once.
            inference: Serves them.
        """
        self.slot, self.inference = slot, inference
        begin_s, end_s = (slot - 1) * self.slot_s, slot * self.slot_s
        count = int(self.given[slot - 1])
        self.arrived[slot - 1] = count
        # Of those who are late by their clock some are not there to be refused.
        refused = min(refused, count)
        self.incoming.begin_slot(slot, end_s, count, refused)
        self.serving.begin_slot(begin_s, batch_work(self.profile, inference, self.gpu.spec))
        if not self.closed:
            self.accuracy.arrive(slot, count)

    @property
    def now(self) -> Served:
        """What was done in the slot."""
        return self.serving.now

    def change(self, now_s: float, phase: int) -> None:
        """Be in another phase from a time on."""
        self.phase = phase
        self.serving.mark(now_s, self.version, phase)

    def flush(self, now_s: float) -> None:
        """Serve up to a time, under one version; the next version begins then."""
        end_s = self.slot * self.slot_s
        last = now_s >= end_s - ROUNDING * self.slot_s
        self.marking.close(self, self._served(end_s if last else now_s, last))

    def dissolve(self, now_s: float) -> None:
        """Let the requests in service wait again."""
        self._look_up(now_s)
        self._pooled.dissolve()
        self.marking.drop()

    def crash(self, now_s: float, until_s: float) -> None:
        """Lose all requests, and those that come until a time."""
        self._look_up(now_s)
        self.down_until_s = max(self.down_until_s, until_s)
        self._pooled.crash(until_s)
        self.marking.drop()

    @property
    def _pooled(self) -> Pooled:
        """The queue, of a stream whose requests can be lost: where faults may do so, none is plain."""
        assert isinstance(self.serving, Pooled), "a plain queue holds on to all that it has"
        return self.serving

    def _look_up(self, now_s: float) -> None:
        """Serve up to a time, after which the same version goes on."""
        self.marking.look_up(self, self._served(now_s, False))

    def _served(self, now_s: float, last: bool) -> Answers:
        """Serve up to a time; take in the samples of those whose coming is known afterwards only."""
        answers = self.serving.flush(now_s, last)
        if self.closed:
            came = self.now.arrived - int(self.arrived[self.slot - 1])
            self.arrived[self.slot - 1] = self.now.arrived
            self.accuracy.arrive(self.slot, came)
        return answers

    def new_version(self, now_s: float, past: int) -> None:
        """Let the student serve from now on that the retraining of slots 1..past has made."""
        self.version += 1
        while self._counted < min(past, self.slot - 1):
            self._counted += 1
            self._extents.add(float(self.arrived[self._counted - 1]), self._gained.pop(self._counted, 0.0))
        self.extent = self._extents.value
        if past == self.slot:
            # What may still come in this slot must not be forgotten.
            (self.extent,) = self._extents.after(float(self.arrived[past - 1]), [self._gained.get(past, 0.0)])
        self.serving.mark(now_s, self.version, self.phase)

    def gain(self, slot: int, profit: float) -> None:
        """Count the retraining of a slot as done."""
        if slot > self._counted:
            self._gained[slot] = profit
        else:
            self._extents.revise(self._counted - slot, float(self.arrived[slot - 1]), profit)

    def check_conservation(self, before: int) -> None:
        """Refuse a slot in which requests were lost sight of, or stayed another time than Little's law has it.

        Args:
            before: Requests present at the slot's begin.

        Raises:
            SimulationError: With the slot and the figures.
        """
        now, arrived = self.now, int(self.arrived[self.slot - 1])
        where = f"stream {self.name!r}, slot {self.slot}"
        ended = now.served + now.shed + now.abandoned + now.lost
        if before + arrived != ended + self.serving.waiting:
            raise SimulationError(
                where,
                f"{before} + {arrived} requests came, and {now.served} + {now.shed} + {now.abandoned} + {now.lost} + "
                f"{self.serving.waiting} were served, shed, abandoned, lost and left waiting",
                "this is a fault of the simulator: please report it",
            )
        self._present_s += now.present_s
        self._left_s += now.left_s
        found, wanted = self._left_s + self.serving.there_s(self.slot * self.slot_s), self._present_s
        if abs(found - wanted) > LITTLE * max(abs(wanted), self.slot_s * max(arrived, 1)):
            raise SimulationError(
                where,
                f"requests were present for {found:g} s, and their number says {wanted:g} s",
                "this is a fault of the simulator: please report it",
            )

    def end_slot(self) -> None:
        """Learn from the slot what closed streams are forecast by, and whether there are samples."""
        self._unseen = self.now.unseen
        if self.closed and self.slot < len(self.forecasts):
            told, came = float(self.forecasts[self.slot - 1]), float(self.arrived[self.slot - 1])
            self.forecasts[self.slot] = next_forecast(self.spec, told, came)

    @property
    def collected(self) -> int:
        """The slot whose samples retraining can use: uploads are there when the slot starts, others one slot later."""
        return self.slot if self.spec.arrivals == "upload" and not self._skewed else self.slot - 1

    def can_retrain(self, now_s: float) -> bool:
        """Say whether its process is there, and has anything to retrain on, here or in the cloud."""
        if self.collected == 0 or now_s < self.down_until_s:
            return False
        # What found nobody cannot be learnt from.
        return bool(self.arrived[self.collected - 1] > (self._unseen if self.collected < self.slot else 0))


def forecasts(stream: Stream, first: float, foreseen: Array, arrived: Array) -> Array:
    """Return what the allocator is told of D(t) at the start of each slot, shape (T,).

    Args:
        stream: Says how it is forecast.
        first: What the first slot is told without an oracle: D(1) without faults.
        foreseen: What an oracle tells: D(t) as it arrives, but for bursts that nobody foresees.
        arrived: D(t) as it arrives.
    """
    told = foreseen.copy()
    if stream.forecast != "oracle":
        told[0] = first
        for slot in range(1, len(arrived)):
            told[slot] = next_forecast(stream, told[slot - 1], arrived[slot - 1])
    return told


def next_forecast(stream: Stream, told: float, arrived: float) -> float:
    """Return the forecast of a slot: of the one before was told so much, and so much arrived."""
    return arrived if stream.forecast == "last" else EWMA_WEIGHT * arrived + (1 - EWMA_WEIGHT) * told

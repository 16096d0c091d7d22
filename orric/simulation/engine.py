"""The event simulator: SimPy keeps the time of what changes, a compiled loop serves the requests."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orric.accuracy import AccuracyModel
from orric.allocators.base import Allocator
from orric.allocators.guard import Guard
from orric.allocators.split import for_task
from orric.configuration import StreamAllocation
from orric.exceptions import ScenarioError, SimulationError, extra
from orric.latency import BUCKETS, MIDDLES_S, LatencyHistogram
from orric.profile import Profile
from orric.randomness import generator
from orric.records import Event, GpuRecord, Observation, RequestTimes, Result, SlotRecord, Table
from orric.scenario import Scenario
from orric.scenario.fault import Fault
from orric.simulation import faults
from orric.simulation.answers import recorder
from orric.simulation.decision import Decisions
from orric.simulation.gpu import GpuState, PartitionedGpu, SharedGpu, parts_of
from orric.simulation.lifecycle import Finished, Lifecycle
from orric.simulation.pipeline import Retrainings
from orric.simulation.processor.pool import Pool
from orric.simulation.queueing import PHASES, ROUNDING, Queue, add_up
from orric.simulation.request_log import RequestLog
from orric.simulation.serving import Eventful, Plain, Record, Shared
from orric.simulation.stream import BEFORE, DURING, StreamState
from orric.simulation.told import task_of
from orric.workers import step

with extra("sim"):
    import simpy

# A run tells at most so often how far it is.
TOLD_TIMES = 1000
# Quantiles of a slot's latencies.
TOLD = np.array([0.5, 0.99])


def simulate(
    scenario: Scenario,
    allocator: Allocator,
    accuracies: Sequence[AccuracyModel],
    seed: int,
    profiles: Sequence[Profile] | None = None,
    record: bool | Path = False,
) -> Result:
    """Simulate an edge server slot by slot and request by request.

    In every slot the allocator decides, the requests of every stream are served at the share that inference gets,
    and beside them the teacher labels and the student retrains at theirs. SimPy sees a constant number of events
    per slot, stream and fault, whatever the number of requests.

    Args:
        scenario: The server, the streams and the drift.
        allocator: Decides every slot. One that knows a single stream is given each stream's part of the budgets.
        accuracies: Say how many of the served requests were right, one per stream.
        seed: Every random draw follows from it; the same seed gives the same result to the byte.
        profiles: Stand in for the scenario's own profiles.
        record: Whether the result holds arrival, start and finish of every request; or a Parquet file to write them to
            while they happen.

    Returns:
        One record per slot and stream, one per slot and GPU, latencies in buckets, and the log.

    Raises:
        BudgetError: A slot's budget is below the cheapest pairs and the scenario's overload is "error".
        AllocatorError: The allocator names an unknown configuration, exceeds the budget, raises or the like.
        SimulationError: Nothing happens any more before the last slot's end; the waiting processes are named.
    """
    given = profiles or scenario.profiles
    names = [stream.name for stream in scenario.stream]
    kept: dict[str, list[RequestTimes]] = {name: [] for name in names}
    if isinstance(record, Path):
        with RequestLog(record, names) as log:
            run = _Run(scenario, allocator, accuracies, seed, given, lambda *part: log.write(run.slot, *part))
            run.run()
    else:

        def keep(stream: int, numbers: Any, times_s: Any) -> None:
            kept[names[stream]].append(RequestTimes(numbers, times_s))

        run = _Run(scenario, allocator, accuracies, seed, given, keep if record else None)
        run.run()
    return Result(
        allocator=run.guard.name,
        engine="simulator",
        accuracy_model=accuracies[0].name,
        seed=seed,
        columns=run.records.columns(),
        gpu_columns=run.gpu_records.columns(),
        latencies=run.latencies,
        events=tuple(run.log),
        request_times=kept if record is True else {},
        seconds_deciding=run.decisions.seconds,
        has_deadlines=any(stream.deadline_s is not None for stream in scenario.stream),
        warmup_slots=scenario.warmup_slots,
    )


class _Run:
    """The state of one simulation."""

    def __init__(
        self,
        scenario: Scenario,
        allocator: Allocator,
        accuracies: Sequence[AccuracyModel],
        seed: int,
        profiles: Sequence[Profile],
        record: Record | None,
    ) -> None:
        self.scenario, self.environment = scenario, simpy.Environment()
        self.faults = faults.schedule(scenario, seed)
        name = str(getattr(allocator, "name", "") or type(allocator).__name__)
        self.streams = [
            StreamState(
                scenario, k, profiles[k], accuracies[k], seed, faults.bursts(scenario, self.faults, spec.name),
                faults.skews_s(scenario, self.faults, spec.name), name,
            )
            for k, spec in enumerate(scenario.stream)
        ]  # fmt: skip
        self._record_requests = record
        self.retrainings = Retrainings(len(self.streams))
        self.life = Lifecycle(scenario, self.environment, self.retrainings, self._tell)
        self.log: list[Event] = []
        placement = scenario.placement()
        self.gpus = self._place(placement, seed)
        for stream in self.streams:
            if stream.closed:
                self._admit(stream)
        if not any(stream.closed or stream.meant.any() for stream in self.streams):
            raise ScenarioError(
                f"scenario {scenario.name!r}: requests",
                "no slot has any requests",
                "raise the rates, or the number of slots",
            )
        self.task = task_of(scenario, self.streams, placement)
        self.guard = Guard(for_task(allocator, self.task), self.task, generator(seed, "allocator"))
        self.decisions = Decisions(
            scenario, self.guard, self.task, self.streams, self.gpus, self.retrainings, self._tell
        )
        self.records, self.gpu_records = Table(SlotRecord), Table(GpuRecord)
        self._counts = np.zeros((len(self.streams), PHASES, BUCKETS), np.int64)
        self.latencies = {
            stream.name: [LatencyHistogram(counts) for counts in table]
            for stream, table in zip(self.streams, self._counts, strict=True)
        }
        self.slot = 0

    def _place(self, placement: Sequence[str], seed: int) -> list[GpuState]:
        """Put the streams on their GPUs, each with a queue of the kind that the GPU's sharing and its own ways want."""
        scenario, record = self.scenario, recorder(self.streams, self._record_requests)
        shared = any(gpu.shared for gpu in scenario.gpu)
        lossy = any(fault.kind in ("gpu-loss", "client-crash") for fault in scenario.fault)
        # The compiled queue is quickest where it is enough; streams that may move must be alike everywhere.
        plain = not shared and not lossy
        disciplines = [stream.discipline for stream in self.streams]
        pool = Pool([] if plain and all(one.plain for one in disciplines) else disciplines, record)
        gpus: list[GpuState] = []
        for n, gpu in enumerate(scenario.gpu):
            there = [stream for stream, name in zip(self.streams, placement, strict=True) if name == gpu.name]
            for stream in there:
                if plain and stream.discipline.plain:
                    queue = Queue(stream.discipline, record is not None)
                    stream.serving = Plain(*parts_of(stream), record, queue=queue)
                elif gpu.shared:
                    stream.serving = Shared(stream.index, scenario.slot_s, stream.incoming, pool)
                else:
                    stream.serving = Eventful(*parts_of(stream), record, pool=pool)
            given = (gpu, scenario.budgets_macs(seed, n), scenario.slot_s, there, self.retrainings, self.life.done)
            gpus.append(
                SharedGpu(pool, *given) if gpu.shared else PartitionedGpu(scenario.spare == "inference", *given)
            )
        return gpus

    def _admit(self, stream: StreamState) -> None:
        """Let the clients of a closed stream begin."""
        assert isinstance(stream.serving, Shared | Eventful), "whose clients wait for answers is no plain queue"
        draws, rng = stream.incoming.draws, generator(stream.seed, "arrivals", stream.index)
        draws.begin_slot(1)
        stream.serving.processor.admit(stream.index, rng.standard_exponential, draws.factors, draws.patience)

    def run(self) -> None:
        """Run to the end of the last slot."""
        clock = self.environment.process(self._slots())
        try:
            self.environment.run(until=clock)
        except RuntimeError as error:
            if not clock.is_alive or "No scheduled events left" not in str(error):
                raise
            waiting = ["the clock", *self.life.describe(self.streams)]
            raise SimulationError(
                f"slot {self.slot}",
                f"nothing will happen any more; waiting: {', '.join(waiting)}",
                "this is a fault of the simulator: please report it",
            ) from None
        if self._record_requests is not None:
            for stream in self.streams:
                numbers, times = stream.serving.left_waiting()
                if len(numbers):
                    self._record_requests(stream.index, numbers, times)
        # Retraining is told of when its GPU is looked at, and not in the order of time.
        self.log.sort(key=lambda event: (event.slot, event.time_s))

    def _tell(self, subject: str, what: str, now_s: float | None = None) -> None:
        time_s = float(self.environment.now) if now_s is None else now_s
        self.log.append(Event(time_s, self.slot, subject, what))

    def _slots(self) -> Generator[simpy.Event, Any, None]:
        """Run through the slots: the one process that lasts the whole simulation."""
        scenario, environment = self.scenario, self.environment
        every = -(-scenario.slots // TOLD_TIMES)
        for slot in range(1, scenario.slots + 1):
            self.slot = slot
            # Measured from the origin: adding slot lengths one by one would drift.
            begin_s, end_s = (slot - 1) * scenario.slot_s, slot * scenario.slot_s
            waiting = [stream.serving.waiting for stream in self.streams]
            decided, reason, refused = self.decisions.decide(slot, waiting)
            self._begin(slot, begin_s, decided, refused)
            for fault in self.faults.get(slot, ()):
                environment.process(self._fail(fault, slot))
            yield environment.timeout(max(end_s - environment.now, 0.0))
            for gpu in self.gpus:
                # A share that is exactly enough may end an instant late by rounding.
                gpu.advance(end_s, ROUNDING * scenario.slot_s)
            for job in list(self.life.clouds.values()):
                if job.expected_s <= end_s + ROUNDING * scenario.slot_s:
                    job.complete()
            self._end(slot, end_s, decided, reason, waiting)
            if slot % every == 0:
                step(every)

    def _begin(
        self,
        slot: int,
        begin_s: float,
        decided: Sequence[StreamAllocation],
        refused: Sequence[int],
    ) -> None:
        """Let requests be on their way, retraining begin, and everything go on at its new pace."""
        self.life.begin_slot(slot)
        for stream, allocation, count in zip(self.streams, decided, refused, strict=True):
            retraining, inference = stream.choice.pair(slot, allocation)
            stream.begin_slot(slot, count, inference)
            stream.phase = BEFORE
            stream.new_version(begin_s, slot - 1)
            stream.extent_at_begin = stream.extent
            self.life.begin(stream, allocation, retraining, begin_s)
            self.life.next_in_line(stream, begin_s)
            if self.life.under_way(stream):
                stream.change(begin_s, DURING)
        for gpu in self.gpus:
            gpu.begin_slot(begin_s)

    def _end(
        self,
        slot: int,
        end_s: float,
        decided: Sequence[StreamAllocation],
        reason: str,
        waiting: Sequence[int],
    ) -> None:
        """Serve what the slot still has, stop what may not go on, write down what happened."""
        observations = []
        for gpu in self.gpus:
            gpu.account(end_s)
        for stream, allocation, before in zip(self.streams, decided, waiting, strict=True):
            self.life.end_slot(stream, end_s)
            stream.flush(end_s)
            stream.check_conservation(before)
            self.life.swap(stream, end_s)
            free = 1.0 if stream.name in self.life.free else 0.0
            found = self.life.finished.get(stream.name, Finished(free))
            record = self._record(slot, stream, allocation, reason, found.agreement)
            self.records.append(record)
            observations.append(
                Observation(
                    slot, stream.name, record.requests, record.served, record.late, record.shed, found.part,
                    found.agreement, found.attention, record.abandoned, record.lost, record.waiting,
                    record.retraining, record.inference, float(found.labels), allocation.inference_share,
                    record.budget_macs, stream.planned(slot), record.gpu,
                )
            )  # fmt: skip
            stream.end_slot()
        for gpu in self.gpus:
            self.gpu_records.append(gpu.record(slot, end_s))
        for observation in observations:
            self.guard.observe(observation)

    def _tell_latencies(self, stream: StreamState) -> tuple[float, float, float]:
        """Add a slot's latencies to those of the run; return their mean, median and 99th percentile."""
        now, served = stream.now, stream.now.served
        for histogram, sum_s in zip(self.latencies[stream.name], now.latencies_s.tolist(), strict=True):
            histogram.total_s += sum_s
        ranks, places = np.maximum(np.ceil(TOLD * served), 1), np.zeros(len(TOLD), np.int64)
        add_up(now.counts, self._counts[stream.index], ranks, places)
        if not served:
            return float("nan"), float("nan"), float("nan")
        p50_s, p99_s = MIDDLES_S[places].tolist()
        return float(now.latencies_s.sum()) / served, p50_s, p99_s

    def _record(
        self, slot: int, stream: StreamState, allocation: StreamAllocation, reason: str, agreement: float | None
    ) -> SlotRecord:
        now, served = stream.now, stream.now.served
        retraining, inference = stream.choice.pair(slot, allocation)
        mean_s, p50_s, p99_s = self._tell_latencies(stream)
        sampling_s, labelling_s, training_s, swapping_s = self.retrainings.used_s[stream.index].tolist()
        slot_s = self.scenario.slot_s
        return SlotRecord(
            slot=slot,
            stream=stream.name,
            gpu=stream.gpu.spec.name,
            corruption=stream.drift.corruptions[slot - 1],
            severity=int(stream.drift.severities[slot - 1]),
            requests=float(stream.arrived[slot - 1]),
            forecast=float(stream.forecasts[slot - 1]),
            budget_macs=float(stream.gpu.budgets_macs[slot - 1]),
            retraining=retraining.name,
            inference=inference.name,
            retraining_macs=self.life.worked_macs.get(stream.name, 0.0),
            inference_macs=served * inference.cost_macs,
            extent=stream.extent_at_begin,
            served=float(served),
            shed=float(now.shed),
            waiting=float(stream.serving.waiting),
            late=float(now.late),
            correct=now.correct,
            accuracy=now.correct / served if served else float("nan"),
            batches=float(now.batches),
            busy=now.busy_s / (slot_s * stream.spec.workers),
            latency_mean_s=mean_s,
            latency_p50_s=p50_s,
            latency_p99_s=p99_s,
            retrained=self.life.finished.get(stream.name, Finished(0.0)).part,
            agreement=float("nan") if agreement is None else agreement,
            reason=reason,
            abandoned=float(now.abandoned),
            lost=float(now.lost),
            correct_in_time=now.correct_in_time,
            serving=now.used_s / slot_s,
            sampling=sampling_s / slot_s,
            labelling=labelling_s / slot_s,
            training=training_s / slot_s,
            swapping=swapping_s / slot_s,
        )

    def _fail(self, fault: Fault, slot: int) -> Generator[simpy.Event, Any, None]:
        """Let a fault happen."""
        yield self.environment.timeout(fault.offset_s)
        now_s = float(self.environment.now)
        if fault.kind in ("gpu-stall", "gpu-loss"):
            gpu = next(gpu for gpu in self.gpus if gpu.spec.name == fault.gpu)
            lost = fault.kind == "gpu-loss"
            self._reach(gpu, now_s)
            self._tell(gpu.spec.name, "lost" if lost else "stands still")
            gpu.fail(now_s)
            for stream in gpu.streams if lost else ():
                if stream.index in self.retrainings.jobs:
                    self.life.crash(stream, "lost with the GPU", now_s)
                stream.dissolve(now_s)
            assert fault.duration_s is not None, "the fault checks this"
            yield self.environment.timeout(fault.duration_s + fault.reload_s)
            now_s = float(self.environment.now)
            self._reach(gpu, now_s)
            self._tell(gpu.spec.name, "is back")
            gpu.recover(now_s)
            return
        stream = next(stream for stream in self.streams if stream.name == fault.stream)
        if fault.kind == "burst":
            self._tell(stream.name, f"{fault.factor:g} times the requests in this slot")
        elif fault.kind == "clock-skew":
            self._tell(stream.name, f"its clock is {fault.skew_s:g} s off from now on")
        elif fault.kind == "corrupt-weights":
            # What was done before is what it was.
            self._reach(stream.gpu, now_s)
            self.life.refusing.add((stream.name, slot))
        elif fault.kind == "client-crash":
            self._reach(stream.gpu, now_s)
            spread = stream.gpu.spec.fault_domain == "shared"
            for one in stream.gpu.streams if spread else [stream]:
                self._tell(
                    one.name, "its process dies" if one is stream else f"its process dies with that of {stream.name}"
                )
                self.life.forget(one)
                if one.index in self.retrainings.jobs:
                    self.life.crash(one, "lost with its process", now_s)
                one.crash(now_s, now_s + fault.reload_s)
        else:
            self._reach(stream.gpu, now_s)
            if not self.life.crash(stream, "crashed", now_s):
                self._tell(stream.name, "a crash found no retraining")

    def _reach(self, gpu: GpuState, now_s: float) -> None:
        """Bring a GPU, and the accounts of retraining on it, to the present."""
        # What happens at a slot's very end, or after it, happens at the begin of the next.
        gpu.advance(now_s)
        gpu.account(now_s)

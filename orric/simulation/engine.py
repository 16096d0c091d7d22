"""The event simulator: SimPy keeps the time of what changes, a compiled loop serves the requests."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from orric.accuracy import AccuracyModel
from orric.allocators.base import Allocator, StreamTask, Task
from orric.allocators.guard import Guard
from orric.allocators.split import for_task
from orric.configuration import StreamAllocation
from orric.exceptions import SimulationError, extra
from orric.latency import LatencyHistogram
from orric.profile import Profile
from orric.randomness import generator
from orric.records import Event, GpuRecord, Observation, Result, SlotRecord, columns_of
from orric.scenario import Scenario
from orric.scenario.fault import Fault
from orric.simulation import faults
from orric.simulation.cloud import AnyJob, CloudJob, Link
from orric.simulation.decision import Decisions
from orric.simulation.gpu import GpuState
from orric.simulation.pipeline import Job
from orric.simulation.queueing import ROUNDING, Window
from orric.simulation.request_log import RequestLog
from orric.simulation.stream import AFTER, BEFORE, DURING, StreamState
from orric.simulation.work import stages

with extra("sim"):
    import simpy


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
    kept: dict[str, list[Window]] = {stream.name: [] for stream in scenario.stream}
    if isinstance(record, Path):
        with RequestLog(record, list(kept)) as log:
            run = _Run(scenario, allocator, accuracies, seed, given, log.write)
            run.run()
    else:
        run = _Run(
            scenario, allocator, accuracies, seed, given,
            (lambda stream, slot, window: kept[stream].append(window)) if record else None,
        )  # fmt: skip
        run.run()
    return Result(
        allocator=run.guard.name,
        engine="simulator",
        accuracy_model=accuracies[0].name,
        seed=seed,
        columns=columns_of(run.records, SlotRecord),
        gpu_columns=columns_of(run.gpu_records, GpuRecord),
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
        record: Callable[[str, int, Window], None] | None,
    ) -> None:
        self.scenario, self.environment = scenario, simpy.Environment()
        self.faults = faults.schedule(scenario, seed)
        name = str(getattr(allocator, "name", "") or type(allocator).__name__)
        placement = scenario.placement()
        self.streams = [
            StreamState(
                scenario, k, profiles[k], accuracies[k], seed, faults.bursts(scenario, self.faults, spec.name),
                faults.skews_s(scenario, self.faults, spec.name), record, name,
            )
            for k, spec in enumerate(scenario.stream)
        ]  # fmt: skip
        self.gpus = [
            GpuState(
                gpu, scenario.budgets_macs(seed, n), scenario.slot_s,
                [stream for stream, there in zip(self.streams, placement, strict=True) if there == gpu.name],
                scenario.spare == "inference",
            )
            for n, gpu in enumerate(scenario.gpu)
        ]  # fmt: skip
        tasks = []
        for stream, there in zip(self.streams, placement, strict=True):
            positive = stream.meant[stream.meant > 0] * (1 + stream.spec.headroom)
            tasks.append(
                StreamTask.of(
                    stream.profile, float(positive.min()), float(positive.max()), stream.name, there,
                    stream.spec.memory_bytes,
                )
            )  # fmt: skip
        memories = [float("inf") if gpu.memory_bytes is None else gpu.memory_bytes for gpu in scenario.gpu]
        self.task = Task(
            scenario.slots,
            tuple(tasks),
            tuple(gpu.name for gpu in scenario.gpu),
            memories_bytes=tuple(memories) if min(memories) < float("inf") else (),
            capacities_macs=tuple(gpu.whole_macs for gpu in self.gpus),
            cloud=scenario.cloud is not None,
        )
        self.guard = Guard(for_task(allocator, self.task), self.task, generator(seed, "allocator"))
        self.link = Link(self.environment)
        self.jobs: dict[str, AnyJob] = {}
        self.decisions = Decisions(scenario, self.guard, self.task, self.streams, self.gpus, self.jobs, self._tell)
        self.finished: dict[str, tuple[float, float | None, float | None]] = {}
        self.swaps: dict[str, AnyJob] = {}
        self.worked_macs: dict[str, float] = {}
        self.refusing: set[tuple[str, int]] = set()
        self.records: list[SlotRecord] = []
        self.gpu_records: list[GpuRecord] = []
        self.log: list[Event] = []
        self.latencies = {stream.name: [LatencyHistogram() for _ in range(3)] for stream in self.streams}
        self.slot = 0

    def run(self) -> None:
        """Run to the end of the last slot."""
        clock = self.environment.process(self._slots())
        try:
            self.environment.run(until=clock)
        except RuntimeError as error:
            if not clock.is_alive or "No scheduled events left" not in str(error):
                raise
            waiting = [f"retraining of {name} (slot {job.slot}, stage {job.stage})" for name, job in self.jobs.items()]
            raise SimulationError(
                f"slot {self.slot}",
                f"nothing will happen any more; waiting: {', '.join(['the clock', *waiting])}",
                "this is a fault of the simulator: please report it",
            ) from None

    def _tell(self, subject: str, what: str) -> None:
        self.log.append(Event(float(self.environment.now), self.slot, subject, what))

    def _slots(self) -> Generator[simpy.Event, Any, None]:
        """Run through the slots: the one process that lasts the whole simulation."""
        scenario, environment = self.scenario, self.environment
        for slot in range(1, scenario.slots + 1):
            self.slot = slot
            # Measured from the origin: adding slot lengths one by one would drift.
            begin_s, end_s = (slot - 1) * scenario.slot_s, slot * scenario.slot_s
            waiting = [stream.queue.waiting for stream in self.streams]
            decided, reason, refused = self.decisions.decide(slot)
            self._begin(slot, begin_s, decided, refused)
            for fault in self.faults.get(slot, ()):
                environment.process(self._fail(fault, slot))
            yield environment.timeout(max(end_s - environment.now, 0.0))
            for job in list(self.jobs.values()):
                # A share that is exactly enough may end an instant late by rounding.
                if job.expected_s <= end_s + ROUNDING * scenario.slot_s:
                    job.complete()
            self._end(slot, end_s, decided, reason, waiting)

    def _begin(self, slot: int, begin_s: float, decided: Sequence[StreamAllocation], refused: Sequence[int]) -> None:
        """Let requests be on their way, retraining begin, and everything go on at its new pace."""
        self.finished, self.worked_macs = {}, {}
        scenario = self.scenario
        for stream, allocation, count in zip(self.streams, decided, refused, strict=True):
            retraining, inference = stream.choice.pair(slot, allocation)
            gpu = self.decisions.gpu_of[stream.name]
            stream.begin_slot(slot, count)
            stream.serve_with(inference, scenario, scenario.gpu.index(gpu.spec))
            stream.new_version(slot - 1)
            stream.extent_at_begin = stream.extent
            stream.phase = BEFORE
            if allocation.cloud and isinstance(self.jobs.get(stream.name), Job):
                # Without a share it would never end, and keep the cloud from beginning.
                self._lose(stream, self.jobs[stream.name], "given up for the cloud")
            if stream.name in self.jobs:
                stream.phase = DURING
            elif not retraining.cost_macs:
                # What costs nothing is done at once.
                stream.gained[slot - 1] = retraining.profit
                self.finished[stream.name] = (1.0, None, None)
            elif stream.has_samples and allocation.cloud:
                assert scenario.cloud is not None, "the guard checks this"
                forecast = float(stream.forecasts[slot - 1])
                stream.accuracy.collect(stream.collected)
                self.jobs[stream.name] = CloudJob(
                    self.environment, slot, stream.collected, retraining, forecast,
                    round(stream.profile.sampling_ratio(retraining.name) * forecast), scenario.cloud, self.link,
                    self._done_by(stream),
                )  # fmt: skip
                stream.phase = DURING
            elif stream.has_samples:
                forecast = float(stream.forecasts[slot - 1])
                work = stages(stream.profile, retraining, forecast, gpu.spec)
                if sum(work.values()) > 0 and gpu.shares[stream.name][0] > 0:
                    stream.accuracy.collect(stream.collected)
                    self.jobs[stream.name] = Job(
                        self.environment, slot, stream.collected, retraining, forecast, work, self._done_by(stream)
                    )
                    stream.phase = DURING
        for gpu in self.gpus:
            gpu.set_paces(begin_s, self.jobs)

    def _done_by(self, stream: StreamState) -> Any:
        return lambda job: self._done(stream, job)

    def _done(self, stream: StreamState, job: AnyJob) -> None:
        """Take note of finished retraining; let its weights take over, if that is when they do."""
        now_s = min(self.environment.now, self.slot * self.scenario.slot_s)
        gpu = self.decisions.gpu_of[stream.name]
        gpu.spent(job)
        self._progress(stream, job)
        del self.jobs[stream.name]
        agreement = stream.accuracy.retrain(job.collected, job.retraining.name, stream.extent)
        stream.change(now_s, phase=AFTER)
        gpu.set_paces(now_s, self.jobs)
        self.finished[stream.name] = (1.0, agreement, stream.accuracy.attention())
        if job.slot < self.slot:
            self._tell(stream.name, f"retraining of slot {job.slot} done in slot {self.slot}")
        if stream.spec.retraining.takeover == "completion" and now_s < (self.slot - ROUNDING) * self.scenario.slot_s:
            stream.flush(now_s)
            if self._takes_over(stream, job):
                stream.new_version(self.slot if job.slot == self.slot else self.slot - 1)
                stream.pause(now_s, now_s + stream.profile.swap.pause_s)
        else:
            self.swaps[stream.name] = job

    def _takes_over(self, stream: StreamState, job: AnyJob) -> bool:
        """Let new weights serve from now on, unless they are corrupt; say whether they do."""
        if (stream.name, job.slot) in self.refusing:
            stream.accuracy.discard()
            self._tell(stream.name, f"weights of slot {job.slot} are corrupt; refused at the swap")
            self.finished[stream.name] = (0.0, *self.finished[stream.name][1:])
            return False
        stream.gained[job.slot - 1] = job.retraining.profit
        stream.accuracy.swap()
        return True

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
        for stream, allocation, before in zip(self.streams, decided, waiting, strict=True):
            job = self.jobs.get(stream.name)
            if job is not None:
                job.account(end_s)
                if stream.spec.retraining.overrun == "abandon" and isinstance(job, Job):
                    self._lose(stream, job, "given up at the slot's end")
                else:
                    self._progress(stream, job)
            stream.flush(end_s)
            stream.check_conservation(before)
            swap = self.swaps.pop(stream.name, None)
            if swap is not None and self._takes_over(stream, swap) and stream.profile.swap.pause_s:
                stream.paused_until_s = end_s + stream.profile.swap.pause_s
            part, agreement, attention = self.finished.get(stream.name, (0.0, None, None))
            record = self._record(slot, stream, allocation, reason, part, agreement)
            self.records.append(record)
            for phase, histogram in enumerate(self.latencies[stream.name]):
                histogram.counts += stream.now.counts[phase]
                histogram.total_s += float(stream.now.latencies_s[phase])
            counts = record.requests, record.served, record.late, record.shed
            observations.append(Observation(slot, stream.name, *counts, part, agreement, attention))
        for gpu in self.gpus:
            self.gpu_records.append(gpu.record(slot, end_s, self.jobs))
        for observation in observations:
            self.guard.observe(observation)

    def _record(
        self,
        slot: int,
        stream: StreamState,
        allocation: StreamAllocation,
        reason: str,
        part: float,
        agreement: float | None,
    ) -> SlotRecord:
        now, served = stream.now, stream.now.served
        retraining, inference = stream.choice.pair(slot, allocation)
        gpu = self.decisions.gpu_of[stream.name]
        latencies = LatencyHistogram(now.counts.sum(axis=0), float(now.latencies_s.sum()))
        p50_s, p99_s = latencies.quantiles([0.5, 0.99])
        return SlotRecord(
            slot=slot,
            stream=stream.name,
            gpu=gpu.spec.name,
            corruption=stream.drift.corruptions[slot - 1],
            severity=int(stream.drift.severities[slot - 1]),
            requests=float(stream.arrived[slot - 1]),
            forecast=float(stream.forecasts[slot - 1]),
            budget_macs=float(gpu.budgets_macs[slot - 1]),
            retraining=retraining.name,
            inference=inference.name,
            retraining_macs=self.worked_macs.get(stream.name, 0.0),
            inference_macs=served * inference.cost_macs,
            extent=stream.extent_at_begin,
            served=float(served),
            shed=float(now.shed),
            abandoned=0.0,
            lost=0.0,
            waiting=float(stream.queue.waiting),
            late=float(now.late),
            correct=now.correct,
            correct_in_time=now.correct * (served - now.late) / served if served else 0.0,
            accuracy=now.correct / served if served else float("nan"),
            batches=float(now.batches),
            busy=now.busy_s / (self.scenario.slot_s * stream.spec.workers),
            latency_mean_s=latencies.mean_s,
            latency_p50_s=p50_s,
            latency_p99_s=p99_s,
            retrained=part if stream.name in self.worked_macs else 0.0,
            agreement=float("nan") if agreement is None else agreement,
            reason=reason,
        )

    def _progress(self, stream: StreamState, job: AnyJob) -> None:
        """Count what a job did since it was last asked as work of this slot."""
        done = job.progress() * job.whole_macs
        self.worked_macs[stream.name] = self.worked_macs.get(stream.name, 0.0) + done

    def _lose(self, stream: StreamState, job: AnyJob, why: str) -> None:
        """Stop retraining; its work is lost."""
        job.stop()
        self._progress(stream, job)
        self.decisions.gpu_of[stream.name].spent(job)
        del self.jobs[stream.name]
        stream.accuracy.discard()
        self._tell(stream.name, f"retraining of slot {job.slot} {why} in stage {job.stage}")

    def _fail(self, fault: Fault, slot: int) -> Generator[simpy.Event, Any, None]:
        """Let a fault happen."""
        yield self.environment.timeout(fault.offset_s)
        now_s = float(self.environment.now)
        if fault.kind in ("gpu-stall", "gpu-loss"):
            gpu = next(gpu for gpu in self.gpus if gpu.spec.name == fault.gpu)
            lost = fault.kind == "gpu-loss"
            self._tell(gpu.spec.name, "lost" if lost else "stands still")
            gpu.fail(now_s, self.jobs)
            for stream in gpu.streams if lost else ():
                if isinstance(self.jobs.get(stream.name), Job):
                    self._lose(stream, self.jobs[stream.name], "lost with the GPU")
                    stream.change(now_s, phase=BEFORE)
            assert fault.duration_s is not None, "the fault checks this"
            yield self.environment.timeout(fault.duration_s)
            self._tell(gpu.spec.name, "is back")
            gpu.recover(float(self.environment.now), self.jobs)
            return
        stream = next(stream for stream in self.streams if stream.name == fault.stream)
        if fault.kind == "burst":
            self._tell(stream.name, f"{fault.factor:g} times the requests in this slot")
        elif fault.kind == "clock-skew":
            self._tell(stream.name, f"its clock is {fault.skew_s:g} s off from now on")
        elif fault.kind == "corrupt-weights":
            self.refusing.add((stream.name, slot))
        elif stream.name in self.jobs:
            self.jobs[stream.name].account(now_s)
            self._lose(stream, self.jobs[stream.name], "crashed")
            stream.change(now_s, phase=BEFORE)
        else:
            self._tell(stream.name, "a crash found no retraining")

"""The simulator a second time, as plainly as it can be said: what the compiled one must equal, request by request.

Nothing of `orric.simulation` is used. Of every batch in service and every retraining the work that is left is kept;
between two events all go on at the speeds that the definitions give, and the next event is the least of all that may
come. Arrival times are an input.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np

import orric
from orric.objective import servable

from .plain_speeds import lent, speeds, stands_still
from .plain_state import (
    ABANDONED,
    FATES,
    IN_TIME,
    LATE,
    LOST,
    NAN,
    NEVER,
    ROUNDING,
    SHED,
    Batch,
    Choice,
    Gpu,
    Job,
    Request,
    Stream,
)

EWMA_WEIGHT = 0.3


class Script(Protocol):
    """Decides, for whoever simulates."""

    def choose(self, slot: int, planned: Sequence[float], budgets_macs: Sequence[float]) -> list[Choice]:
        """Return what every stream is given in a slot."""
        ...


class Plain:
    """One simulation; `run` fills in `requests` of every stream, `rows` and `gpu_rows`.

    Args:
        scenario: With explicit GPUs and faults at explicit slots.
        script: Decides.
        seed: Seed of the run.
        times: When the requests of every stream arrive, slot by slot; None for closed loops.
        meant: D(t) of every stream as it arrives, but without bursts, which nobody foresees.
    """

    def __init__(
        self,
        scenario: orric.Scenario,
        script: Script,
        seed: int,
        times: Sequence[list[list[float]] | None],
        meant: Sequence[Sequence[float]],
    ) -> None:
        self.scenario, self.script, self.seed, self.meant = scenario, script, seed, meant
        skewed = {fault.stream for fault in scenario.fault if fault.kind == "clock-skew"}
        self.streams = [
            Stream(scenario, k, seed, times[k], spec.name in skewed) for k, spec in enumerate(scenario.stream)
        ]
        self.gpus = [
            Gpu(spec, spec.macs_per_s * scenario.slot_s, scenario.budgets_macs(seed, n).tolist())
            for n, spec in enumerate(scenario.gpu)
        ]
        self.gpu_of: dict[int, Gpu] = {}
        for stream in self.streams:
            gpu = next(gpu for gpu in self.gpus if gpu.spec.name == stream.spec.gpu)
            gpu.streams.append(stream)
            self.gpu_of[stream.index] = gpu
        self.faults = sorted(
            ((slot - 1) * scenario.slot_s + fault.offset_s, n, slot)
            for n, fault in enumerate(scenario.fault)
            for slot in fault.slots
            if fault.kind not in ("burst", "clock-skew")
        )
        self.rows: list[dict[str, float]] = []
        # Of every stream, how many of this and of the last slot's requests found nobody.
        self.unseen: Counter[int] = Counter()
        self.unseen_before: Counter[int] = Counter()
        self.gpu_rows: list[dict[str, float]] = []
        self.now_s, self.slot, self.lends = 0.0, 0, scenario.spare == "inference"
        # How often what came up, for whoever wants to know whether a comparison has compared it.
        self.seen: Counter[str] = Counter()

    def run(self) -> None:
        """Simulate all slots."""
        scenario = self.scenario
        self.begin_slot()
        while True:
            self.depart()
            self.arrive()
            for stream in self.streams:
                self.start(stream)
            self.begin_grains()
            end_s = self.slot * scenario.slot_s
            until_s = min(self.next_event_s(), end_s)
            ends = until_s >= end_s
            self.advance(until_s, until_s + (ROUNDING * scenario.slot_s if ends else 0.0))
            if ends:
                self.end_slot()
                if self.slot == scenario.slots:
                    self.seen["waiting"] += sum(len(stream.waiting) + len(stream.batches) for stream in self.streams)
                    return
                self.begin_slot()
            while self.faults and self.faults[0][0] <= self.now_s:
                self.fail(*self.faults.pop(0)[1:])
            for gpu in self.gpus:
                if any(end <= self.now_s for end in gpu.still_until_s):
                    gpu.still_until_s = [end for end in gpu.still_until_s if end > self.now_s]
                    gpu.origin_s = self.now_s

    # What is decided at a slot's start.

    def begin_slot(self) -> None:
        """Decide, and let retraining begin."""
        self.slot += 1
        slot, begin_s = self.slot, self.slot * self.scenario.slot_s - self.scenario.slot_s
        for stream in self.streams:
            stream.told.append(self.forecast(stream))
            stream.begin_slot(slot)
        self.decide()
        for stream in self.streams:
            self.new_version(stream, slot - 1)
            stream.row["extent"] = stream.extent(slot - 1)
            chosen = stream.retraining[stream.chosen[0]]
            collected = slot if stream.early else slot - 1
            if not chosen.cost_macs:
                stream.gained[slot - 1] = chosen.profit
                self.seen["free"] += chosen.profit > 0
                continue
            macs = stream.told[-1] * chosen.cost_macs
            seen = stream.arrived[collected - 1] - (0 if stream.early else self.unseen_before[stream.index])
            if stream.shares[0] <= 0 or collected < 1 or not seen or not macs or begin_s < stream.crashed_until_s:
                continue
            job = Job(slot, chosen.profit, macs / self.gpu_of[stream.index].spec.macs_per_s, macs)
            if stream.job is None:
                stream.job = job
            elif stream.spec.retraining.overrun == "continue":
                stream.next_job = job
                self.seen["retraining waits"] += 1
            else:
                self.seen["retraining skipped"] += 1
        for gpu in self.gpus:
            gpu.origin_s = begin_s

    def forecast(self, stream: Stream) -> float:
        """Return what is told of the slot's requests."""
        slot, kind = self.slot, stream.spec.forecast
        if stream.spec.arrivals == "upload":
            return float(stream.arrived[slot - 1])
        if kind == "oracle":
            return float(self.meant[stream.index][slot - 1])
        if slot == 1:
            return float(self.scenario.requests(self.seed, stream.index)[0])
        before = stream.arrived[slot - 2]
        return float(before) if kind == "last" else EWMA_WEIGHT * before + (1 - EWMA_WEIGHT) * stream.told[-1]

    def decide(self) -> None:
        """Set everybody's configurations and shares, and say who of the slot's requests is turned away."""
        planned = [stream.told[-1] * (1 + stream.spec.headroom) for stream in self.streams]
        budgets = [gpu.budgets_macs[self.slot - 1] for gpu in self.gpus]
        for stream, choice in zip(self.streams, self.script.choose(self.slot, planned, budgets), strict=True):
            stream.chosen, stream.admitted = choice, None
            self.move(stream, self.gpus[choice[4]])
        for gpu, budget in zip(self.gpus, budgets, strict=True):
            cheapest = [min(one.cost_macs for one in stream.inference.values()) for stream in gpu.streams]
            asked = [planned[stream.index] * cost for stream, cost in zip(gpu.streams, cheapest, strict=True)]
            if math.fsum(asked) > budget:
                for stream, cost, part in zip(gpu.streams, cheapest, asked, strict=True):
                    cheapest_one = min(stream.retraining.values(), key=lambda one: (one.cost_macs, -one.profit))
                    stream.chosen = (cheapest_one.name, "i0", None, None, 0)
                    share = part / sum(asked) if len(asked) > 1 else 1.0
                    whole = 0.0 if stream.closed else stream.arrived[self.slot - 1]
                    stream.admitted = None if stream.closed else (float(servable(whole, cost, budget * share)), whole)
            free = []
            for stream in gpu.streams:
                retraining, inference, learning, serving, _ = stream.chosen
                mine = planned[stream.index]
                if learning is None:
                    learning = mine * stream.retraining[retraining].cost_macs / gpu.whole_macs
                if serving is None:
                    serving = mine * stream.inference[inference].cost_macs / gpu.whole_macs
                    free.append(stream)
                stream.shares = (learning, serving)
            wanted = sum(stream.shares[1] for stream in free)
            fixed = sum(sum(stream.shares) for stream in gpu.streams) - wanted
            left = max(budget / gpu.whole_macs - fixed, 0.0)
            for stream in free if wanted > left or self.scenario.spare == "inference" else ():
                learning, serving = stream.shares
                stream.shares = (learning, left * (serving / wanted if wanted > 0 else 1 / len(free)))

    def move(self, stream: Stream, gpu: Gpu) -> None:
        """Let a stream be on another GPU from the slot's start on, once its weights are loaded there."""
        old = self.gpu_of[stream.index]
        if gpu is old:
            return
        self.seen["moved"] += 1
        old.streams.remove(stream)
        gpu.streams = sorted([*gpu.streams, stream], key=lambda one: one.index)
        self.gpu_of[stream.index] = gpu
        stream.paused_until_s = max(stream.paused_until_s, self.now_s + stream.profile.swap.pause_s)
        if stream.job:
            scale = old.spec.macs_per_s / gpu.spec.macs_per_s
            stream.job.left_s, stream.job.whole_s = stream.job.left_s * scale, stream.job.whole_s * scale

    def new_version(self, stream: Stream, past: int) -> None:
        """Let the student serve that the retraining of the first `past` slots has made."""
        stream.version += 1
        curve, inference = stream.curves[self.slot - 1], stream.inference[stream.chosen[1]]
        stream.worth[stream.version] = float(curve(stream.extent(past))) * inference.profit

    # What comes next, and what then happens.

    def next_event_s(self) -> float:
        """Return the least time of all that may happen, and keep the speeds until then."""
        now_s = self.now_s
        found = [NEVER]
        self.paces = [speeds(gpu, now_s, self.lends) for gpu in self.gpus]
        for gpu, (serving, learning, until_s) in zip(self.gpus, self.paces, strict=True):
            found += [*gpu.still_until_s, until_s]
            self.note(gpu)
            rate = sum(speed for speed, _ in learning.values())
            if gpu.grain_s > 0 and rate > 0:
                found.append(now_s + gpu.grain_s / rate)
            for stream in gpu.streams:
                speed = serving[stream.index][0]
                if speed > 0 and stream.batches:
                    found.append(now_s + min(batch.left_s for batch in stream.batches) / speed)
                if stream.job and learning[stream.index][0] > 0:
                    found.append(now_s + stream.job.left_s / learning[stream.index][0])
                if stream.paused_until_s > now_s:
                    found.append(stream.paused_until_s)
                if stream.coming:
                    found.append(stream.coming[0][0])
                if stream.waiting:
                    found.append(min(request.leaves_s for request in stream.waiting))
                    filled_s = stream.waiting[0].arrival_s + stream.spec.batch.wait_s
                    if filled_s > now_s:
                        found.append(filled_s)
        if self.faults:
            found.append(self.faults[0][0])
        return max(min(found), now_s)

    def note(self, gpu: Gpu) -> None:
        """Note what is worth a comparison."""
        sharing = gpu.spec.sharing
        if gpu.served(self.now_s) and gpu.learned():
            self.seen[getattr(sharing, "per", sharing.model)] += 1
            self.seen["slowed"] += getattr(sharing, "slowdown", 1.0) > 1
            self.seen["held by a grain"] += gpu.grain_s > 0
        self.seen["lent"] += sharing.model not in ("weighted", "priority") and lent(gpu, self.lends) > 1

    def advance(self, until_s: float, done_s: float) -> None:
        """Let all go on until a time; complete what would be done by `done_s`."""
        now_s, length_s = self.now_s, until_s - self.now_s
        completed, learned = [], []
        for gpu, (serving, learning, _) in zip(self.gpus, self.paces, strict=True):
            if gpu.still_until_s:
                gpu.used_s[2] += length_s
            rate = sum(speed for speed, _ in learning.values())
            if gpu.grain_s > 0 and rate > 0:
                over = now_s + gpu.grain_s / rate <= until_s
                gpu.grain_s = 0.0 if over else gpu.grain_s - rate * length_s
            for stream in gpu.streams:
                speed, use = serving[stream.index]
                stream.row["busy_s"] += length_s * len(stream.batches)
                for batch in list(stream.batches):
                    if speed > 0 and now_s + batch.left_s / speed <= done_s:
                        completed.append((stream, batch))
                    batch.left_s -= speed * length_s
                    gpu.used_s[0] += use * length_s
                speed, use = learning[stream.index]
                if stream.job is not None:
                    if speed > 0 and now_s + stream.job.left_s / speed <= done_s:
                        learned.append(stream)
                    stream.job.left_s -= speed * length_s
                    gpu.used_s[1] += use * length_s
        self.now_s = until_s
        for stream, batch in completed:
            stream.batches.remove(batch)
            for request in batch.requests:
                late = until_s - request.arrival_s > stream.deadline_s * (1 + ROUNDING)
                self.end(stream, request, LATE if late else IN_TIME)
        for stream in learned:
            stream.job.left_s = 0.0
            self.learn(stream)

    def end(self, stream: Stream, request: Request, fate: int) -> None:
        """Let a request have its end."""
        request.fate, request.end_s, row = fate, self.now_s, stream.row
        self.seen[FATES[fate]] += 1
        self.seen["closed"] += stream.closed
        if fate in (IN_TIME, LATE):
            row["served"] += 1
            row["late"] += fate == LATE
            row["correct"] += stream.worth[request.version]
            row["correct_in_time"] += stream.worth[request.version] * (fate == IN_TIME)
            stream.latencies_s.append(self.now_s - request.arrival_s)
        else:
            row[{SHED: "shed", ABANDONED: "abandoned", LOST: "lost"}[fate]] += 1
        if stream.closed:
            stream.think(self.now_s, request.client)

    def learn(self, stream: Stream) -> None:
        """Let retraining be done, and its weights take over at once if that is when they do."""
        job = stream.job
        self.stop(stream)
        # A slot in which weights were refused is not one of success, whatever else was done in it.
        stream.row["retrained"] = float(not stream.refused)
        before_end = self.now_s < (self.slot - ROUNDING) * self.scenario.slot_s
        if stream.spec.retraining.takeover == "completion" and before_end:
            if self.takes_over(stream, job):
                self.new_version(stream, self.slot if job.slot == self.slot else self.slot - 1)
                stream.paused_until_s = max(stream.paused_until_s, self.now_s + stream.profile.swap.pause_s)
        else:
            stream.swaps.append(job)

    def stop(self, stream: Stream) -> None:
        """Let retraining not be under way any more; the one that waits for its end begins."""
        stream.row["retraining_macs"] += stream.job.progress_macs()
        stream.job, stream.next_job = stream.next_job, None
        gpu = self.gpu_of[stream.index]
        gpu.grain_s, gpu.origin_s = 0.0, self.now_s

    def takes_over(self, stream: Stream, job: Job) -> bool:
        """Let weights be the student's, unless they are corrupt."""
        if job.slot in stream.refusing:
            stream.row["retrained"], stream.refused = 0.0, True
            self.seen["corrupt"] += 1
            return False
        stream.gained[job.slot - 1] = job.profit
        self.seen["swap"] += 1
        self.seen["pause"] += stream.profile.swap.pause_s > 0
        return True

    def depart(self) -> None:
        """Let the impatient leave."""
        for stream in self.streams:
            for request in [one for one in stream.waiting if one.leaves_s <= self.now_s]:
                stream.waiting.remove(request)
                self.end(stream, request, ABANDONED)

    def arrive(self) -> None:
        """Let those in who are there."""
        for stream in self.streams:
            while stream.coming and stream.coming[0][0] <= self.now_s:
                time_s, client = heapq.heappop(stream.coming)
                request = Request(len(stream.requests), time_s, stream.factor(), client=client)
                request.leaves_s = time_s + stream.patience_s()
                stream.requests.append(request)
                stream.count += 1
                if stream.closed:
                    stream.arrived[self.slot - 1] += 1
                self.admit(stream, request)

    def admit(self, stream: Stream, request: Request) -> None:
        """Let a request wait, unless it is turned away or others are for it."""
        if not stream.admits():
            self.seen["refused"] += 1
            self.end(stream, request, SHED)
        elif self.now_s < stream.crashed_until_s:
            self.unseen[stream.index] += 1
            self.end(stream, request, LOST)
        else:
            if len(stream.waiting) >= stream.limit:
                self.start(stream, most=1)
            if len(stream.waiting) >= stream.limit:
                kind = stream.spec.shed
                self.seen[kind] += 1
                if kind in ("even", "newest"):
                    self.end(stream, request, SHED)
                    return
                for _ in range(1 if kind == "oldest" else len(stream.waiting)):
                    self.end(stream, stream.waiting.pop(0), SHED)
            stream.waiting.append(request)

    def start(self, stream: Stream, most: int = 10**9) -> None:
        """Start as many batches as can start now."""
        spec = stream.spec
        while most and stream.waiting and len(stream.batches) < spec.workers:
            if stands_still(self.gpu_of[stream.index], stream, self.now_s, self.lends):
                return
            first = stream.waiting[0]
            if len(stream.waiting) < spec.batch.most and self.now_s < first.arrival_s + spec.batch.wait_s:
                return
            batch, stream.waiting = stream.waiting[: spec.batch.most], stream.waiting[spec.batch.most :]
            for request in batch:
                request.start_s, request.version = self.now_s, stream.version
            fixed_s, each_s = stream.batch_work(self.gpu_of[stream.index])
            stream.batches.append(Batch(batch, (fixed_s + len(batch) * each_s) * first.factor))
            stream.row["batches"] += 1
            most -= 1

    def begin_grains(self) -> None:
        """Let retraining that has the device hold it for a grain."""
        for gpu in self.gpus:
            if gpu.spec.sharing.model != "priority" or gpu.still_until_s:
                continue
            if not gpu.learned():
                gpu.grain_s = 0.0
            elif not gpu.grain_s and not gpu.served(self.now_s):
                gpu.grain_s = gpu.spec.sharing.grain_s
                self.seen["grain"] += gpu.grain_s > 0

    def fail(self, number: int, slot: int) -> None:
        """Let a fault happen."""
        fault = self.scenario.fault[number]
        if fault.kind in ("gpu-stall", "gpu-loss"):
            gpu = next(gpu for gpu in self.gpus if gpu.spec.name == fault.gpu)
            gpu.origin_s = self.now_s
            reload_s = 0.0
            if fault.kind == "gpu-loss":
                reload_s = fault.reload_s
                for stream in gpu.streams:
                    if stream.job:
                        self.stop(stream)
                    dissolved = [request for batch in stream.batches for request in batch.requests]
                    self.seen["restarted"] += len(dissolved)
                    for request in dissolved:
                        request.start_s, request.version = NAN, -1
                    stream.batches = []
                    stream.waiting = sorted(dissolved + stream.waiting, key=lambda one: one.number)
            gpu.still_until_s.append(self.now_s + fault.duration_s + reload_s)
            return
        stream = next(stream for stream in self.streams if stream.spec.name == fault.stream)
        if fault.kind == "corrupt-weights":
            stream.refusing.add(slot)
        elif fault.kind == "retraining-crash":
            if stream.job:
                self.stop(stream)
        else:
            gpu = self.gpu_of[stream.index]
            for one in gpu.streams if gpu.spec.fault_domain == "shared" else [stream]:
                self.crash(one, fault.reload_s)

    def crash(self, stream: Stream, reload_s: float) -> None:
        """Let a client lose all that it has on the GPU, and what waits for its turn."""
        self.seen["crash"] += 1
        stream.next_job = None
        if stream.job:
            self.stop(stream)
        gone = [request for batch in stream.batches for request in batch.requests] + stream.waiting
        stream.batches, stream.waiting = [], []
        stream.crashed_until_s = max(stream.crashed_until_s, self.now_s + reload_s)
        for request in sorted(gone, key=lambda one: one.number):
            self.end(stream, request, LOST)

    def end_slot(self) -> None:
        """Stop what may not go on, let weights take over, write down what happened."""
        slot_s = self.scenario.slot_s
        for stream in self.streams:
            if stream.job and stream.spec.retraining.overrun == "abandon":
                self.stop(stream)
                self.seen["retraining given up"] += 1
            elif stream.job:
                stream.row["retraining_macs"] += stream.job.progress_macs()
            for job in stream.swaps:
                if self.takes_over(stream, job) and stream.profile.swap.pause_s:
                    stream.paused_until_s = max(stream.paused_until_s, self.now_s + stream.profile.swap.pause_s)
            stream.swaps = []
            latencies = np.sort(stream.latencies_s)
            count = len(latencies)
            stream.row |= {
                "requests": float(stream.arrived[self.slot - 1]),
                "forecast": stream.told[-1],
                "waiting": float(len(stream.waiting) + sum(len(batch.requests) for batch in stream.batches)),
                "busy": stream.row.pop("busy_s") / (slot_s * stream.spec.workers),
                "latency_mean_s": float(latencies.mean()) if count else NAN,
                "latency_p50_s": float(latencies[max(math.ceil(0.5 * count), 1) - 1]) if count else NAN,
                "latency_p99_s": float(latencies[max(math.ceil(0.99 * count), 1) - 1]) if count else NAN,
            }
            self.rows.append(stream.row)
            self.unseen_before[stream.index] = self.unseen.pop(stream.index, 0)
        for gpu in self.gpus:
            serving_s, learning_s, down_s = gpu.used_s
            self.gpu_rows.append(
                {"serving": serving_s / slot_s, "learning": learning_s / slot_s, "down": down_s / slot_s}
            )
            gpu.used_s = [0.0, 0.0, 0.0]

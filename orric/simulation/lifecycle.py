"""What becomes of retraining: begun, waiting for its turn, done, lost, taken over by serving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from orric.configuration import RetrainingConfiguration, StreamAllocation
from orric.exceptions import extra
from orric.scenario import Scenario
from orric.simulation.cloud import CloudJob, Link
from orric.simulation.pipeline import Job, Retrainings
from orric.simulation.queueing import ROUNDING
from orric.simulation.stream import AFTER, BEFORE, DURING, StreamState
from orric.simulation.work import stages

with extra("sim"):
    import simpy


@dataclass(frozen=True)
class Finished:
    """What came of retraining that ended in a slot.

    Attributes:
        part: Which part of it was done.
        agreement: With the teacher's labels, None without any.
        attention: How alike the places were that student and teacher looked at, None where nobody watched.
        labels: How many samples were labelled.
    """

    part: float
    agreement: float | None = None
    attention: float | None = None
    labels: int = 0


@dataclass(frozen=True)
class Waiting:
    """Retraining that begins when the one before is done: of which slot, by what, for how many requests."""

    slot: int
    retraining: RetrainingConfiguration
    requests: float


class Lifecycle:
    """Begins retraining, ends it, and lets its weights take over.

    Args:
        scenario: What is simulated.
        environment: Keeps the time of retraining in the cloud.
        retrainings: What the retraining on GPUs has left.
        tell: Writes a line of the log: of whom, what, and when.

    Attributes:
        finished: Of every stream whose retraining ended in this slot.
        free: Streams whose configuration of this slot costs nothing, and so was done at once.
        worked_macs: What retraining did in this slot.
        refusing: Streams and slots whose weights will be found corrupt.
    """

    def __init__(
        self,
        scenario: Scenario,
        environment: simpy.Environment,
        retrainings: Retrainings,
        tell: Callable[[str, str, float], None],
    ) -> None:
        self.scenario, self.environment, self.retrainings, self._tell = scenario, environment, retrainings, tell
        self.link = Link(environment)
        self.clouds: dict[str, CloudJob] = {}
        self._waiting: dict[str, Waiting] = {}
        # What is done and takes over at the slot's end, in order: two may be, and the second builds on the first.
        self._swaps: dict[str, list[Job | CloudJob]] = {}
        self.finished: dict[str, Finished] = {}
        self.free: set[str] = set()
        self.worked_macs: dict[str, float] = {}
        self.refusing: set[tuple[str, int]] = set()
        self._refused: set[str] = set()
        self.slot = 0

    def under_way(self, stream: StreamState) -> bool:
        """Whether a stream's retraining has begun and not ended, here or in the cloud."""
        return stream.index in self.retrainings.jobs or stream.name in self.clouds

    def describe(self, streams: list[StreamState]) -> list[str]:
        """Say what is under way, for messages."""
        here = [
            f"retraining of {one.name} (slot {self.retrainings.jobs[one.index].slot}, stage "
            f"{self.retrainings.stage(one.index)})"
            for one in streams
            if one.index in self.retrainings.jobs
        ]
        return here + [
            f"retraining of {name} (slot {job.slot}, stage {job.stage})" for name, job in self.clouds.items()
        ]

    def begin_slot(self, slot: int) -> None:
        """Count what ends in a slot."""
        self.slot, self.finished, self.free, self.worked_macs = slot, {}, set(), {}
        self._refused = set()

    def begin(
        self, stream: StreamState, allocation: StreamAllocation, retraining: RetrainingConfiguration, now_s: float
    ) -> None:
        """Begin what was decided for a stream, let it wait for what is under way, or leave it out."""
        forecast = float(stream.forecasts[self.slot - 1])
        if not retraining.cost_macs:
            # What costs nothing is done at once.
            stream.gain(self.slot, retraining.profit)
            self.free.add(stream.name)
            return
        if allocation.cloud and stream.index in self.retrainings.jobs:
            # Without a share it would never end, and keep the cloud from beginning.
            self.lose(stream, "given up for the cloud", now_s)
        if self.under_way(stream):
            if not allocation.cloud and stream.gpu.shares[stream.name][0] <= 0:
                # As where nothing is under way: what is given nothing does not begin, and need not wait to.
                return
            going = self.clouds[stream.name] if stream.name in self.clouds else self.retrainings.jobs[stream.index]
            if stream.spec.retraining.overrun != "continue" or allocation.cloud or stream.name in self.clouds:
                self._tell(
                    stream.name, f"retraining of slot {self.slot} left out: that of slot {going.slot} goes on", now_s
                )
                return
            replaced = self._waiting.get(stream.name)
            self._waiting[stream.name] = Waiting(self.slot, retraining, forecast)
            instead = f", in place of that of slot {replaced.slot}" if replaced else ""
            self._tell(
                stream.name, f"retraining of slot {self.slot} waits for that of slot {going.slot}{instead}", now_s
            )
            return
        self._waiting.pop(stream.name, None)
        if not allocation.cloud:
            if stream.gpu.shares[stream.name][0] > 0:
                self._start(stream, Waiting(self.slot, retraining, forecast), now_s)
        elif stream.can_retrain(now_s):
            assert self.scenario.cloud is not None, "the guard checks this"
            stream.accuracy.collect(stream.collected)
            self.clouds[stream.name] = CloudJob(
                self.environment, self.slot, stream.collected, retraining, forecast,
                round(stream.profile.sampling_ratio(retraining.name) * forecast), self.scenario.cloud, self.link,
                lambda job: self._cloud_done(stream, job),
            )  # fmt: skip

    def _start(self, stream: StreamState, chosen: Waiting, now_s: float) -> None:
        """Begin retraining on the stream's GPU, if it has samples and its process is there."""
        work = stages(stream.profile, chosen.retraining, chosen.requests, stream.gpu.spec)
        if stream.can_retrain(now_s) and sum(work.values()) > 0:
            stream.accuracy.collect(stream.collected)
            whole_macs = chosen.requests * chosen.retraining.cost_macs
            stream.gpu.begin(stream, Job(chosen.slot, stream.collected, chosen.retraining, whole_macs, work), now_s)

    def next_in_line(self, stream: StreamState, now_s: float) -> bool:
        """Begin the retraining that waits, if any does and may; say whether it did."""
        waiting = self._waiting.get(stream.name)
        if waiting is None or self.under_way(stream):
            return False
        self._start(stream, waiting, now_s)
        if self.under_way(stream):
            del self._waiting[stream.name]
            return True
        return False

    def _cloud_done(self, stream: StreamState, job: CloudJob) -> None:
        now_s = min(float(self.environment.now), self.slot * self.scenario.slot_s)
        stream.gpu.advance(now_s)
        del self.clouds[stream.name]
        self._take_note(stream, job, now_s)

    def done(self, stream: StreamState, now_s: float) -> None:
        """Take note of retraining on a GPU that is done."""
        self._progress(stream)
        job = stream.gpu.end(stream)
        self._take_note(stream, job, now_s)
        if self.next_in_line(stream, now_s):
            stream.change(now_s, DURING)
            stream.gpu.begun(now_s)

    def _take_note(self, stream: StreamState, job: Job | CloudJob, now_s: float) -> None:
        """Let finished weights take over, if this is when they do."""
        agreement = stream.accuracy.retrain(job.collected, job.retraining.name, stream.extent)
        stream.change(now_s, AFTER)
        part = 0.0 if stream.name in self._refused else 1.0
        self.finished[stream.name] = Finished(part, agreement, stream.accuracy.attention(), stream.accuracy.labels)
        if job.slot < self.slot:
            self._tell(stream.name, f"retraining of slot {job.slot} done in slot {self.slot}", now_s)
        end_s = self.slot * self.scenario.slot_s
        if stream.spec.retraining.takeover == "completion" and now_s < end_s - ROUNDING * self.scenario.slot_s:
            if not self._refused_now(stream, job, now_s):
                stream.flush(now_s)
                self._take_over(stream, job)
                stream.new_version(now_s, self.slot if job.slot == self.slot else self.slot - 1)
                stream.serving.pause(now_s, now_s + stream.profile.swap.pause_s)
        else:
            self._swaps.setdefault(stream.name, []).append(job)

    def swap(self, stream: StreamState, end_s: float) -> None:
        """Let weights take over that were made in the slot that ends."""
        for job in self._swaps.pop(stream.name, ()):
            if not self._refused_now(stream, job, end_s):
                self._take_over(stream, job)
                if stream.profile.swap.pause_s:
                    stream.serving.pause(end_s, end_s + stream.profile.swap.pause_s)

    def _refused_now(self, stream: StreamState, job: Job | CloudJob, now_s: float) -> bool:
        """Refuse new weights that are corrupt; say whether they are."""
        if (stream.name, job.slot) not in self.refusing:
            return False
        stream.accuracy.refuse()
        self._tell(stream.name, f"weights of slot {job.slot} are corrupt; refused at the swap", now_s)
        self._refused.add(stream.name)
        self.finished[stream.name] = replace(self.finished[stream.name], part=0.0)
        return True

    def _take_over(self, stream: StreamState, job: Job | CloudJob) -> None:
        """Let new weights serve from now on."""
        stream.gain(job.slot, job.retraining.profit)
        stream.accuracy.swap()

    def end_slot(self, stream: StreamState, end_s: float) -> None:
        """Give up what may not go on, and count what was done of what may."""
        if stream.index not in self.retrainings.jobs:
            return
        if stream.spec.retraining.overrun == "abandon":
            self.lose(stream, "given up at the slot's end", end_s)
        else:
            self._progress(stream)

    def _progress(self, stream: StreamState) -> None:
        """Count what a retraining did since it was last asked as work of this slot."""
        done_macs = self.retrainings.progress_macs(stream.index)
        self.worked_macs[stream.name] = self.worked_macs.get(stream.name, 0.0) + done_macs

    def lose(self, stream: StreamState, why: str, now_s: float) -> None:
        """Stop retraining on a GPU, which is accounted for; its work is lost."""
        self._progress(stream)
        stage = self.retrainings.stage(stream.index)
        job = stream.gpu.end(stream)
        stream.accuracy.discard()
        self._tell(stream.name, f"retraining of slot {job.slot} {why} in stage {stage}", now_s)

    def forget(self, stream: StreamState) -> None:
        """Let no retraining wait for its turn: whoever remembered is gone."""
        self._waiting.pop(stream.name, None)

    def crash(self, stream: StreamState, why: str, now_s: float) -> bool:
        """Lose a stream's retraining in the middle of a slot, here or in the cloud; say whether there was any."""
        if stream.name in self.clouds:
            job = self.clouds.pop(stream.name)
            job.stop()
            stream.accuracy.discard()
            self._tell(stream.name, f"retraining of slot {job.slot} {why} in stage {job.stage}", now_s)
        elif stream.index in self.retrainings.jobs:
            self.lose(stream, why, now_s)
        else:
            return False
        stream.change(now_s, DURING if self.next_in_line(stream, now_s) else BEFORE)
        stream.gpu.set_paces(now_s)
        return True

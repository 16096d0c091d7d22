"""One GPU during a simulation: who works on it at which pace, and what that draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from orric.records import GpuRecord
from orric.scenario.gpu import Gpu, Priority, TimeSlice, Weighted
from orric.simulation.pipeline import Job, Retrainings
from orric.simulation.processor import tables
from orric.simulation.processor.device import Processor
from orric.simulation.processor.pool import Pool
from orric.simulation.queueing import END_S
from orric.simulation.serving import Eventful, Shared, merged
from orric.simulation.sharing import PACE, paces
from orric.simulation.stream import StreamState

Array = np.ndarray[Any, Any]
# Of what all share: the least weight there is.
LEAST = 1e-4
# Of a stream whose retraining is done, at a time.
Done = Callable[[StreamState, float], None]


class GpuState(ABC):
    """The state of one GPU. It is as far as `advance` has brought it.

    Args:
        spec: What the scenario says of it.
        budgets_macs: C(t), shape (T,).
        slot_s: Length of a slot.
        streams: Those placed on it.
        retrainings: What the retraining of every stream has left.
        done: Called when one is done.
    """

    def __init__(
        self,
        spec: Gpu,
        budgets_macs: Array,
        slot_s: float,
        streams: list[StreamState],
        retrainings: Retrainings,
        done: Done,
    ) -> None:
        self.spec, self.budgets_macs, self.slot_s, self.streams = spec, budgets_macs, slot_s, streams
        self.retrainings, self._done = retrainings, done
        # Of every stream: the share of retraining and that of inference.
        self.shares: dict[str, tuple[float, float]] = {stream.name: (0.0, 0.0) for stream in streams}
        self.faults = 0
        self._down_since_s, self._down_s = 0.0, 0.0
        for stream in streams:
            stream.gpu = self

    @property
    def whole_macs(self) -> float:
        """What it can do in a slot."""
        return self.spec.macs_per_s * self.slot_s

    def take(self, stream: StreamState) -> None:
        """Take a stream in, in the order of the streams: sums must not depend on who came last."""
        stream.gpu = self
        self.streams.append(stream)
        self.streams.sort(key=lambda one: one.index)
        self.shares = {one.name: self.shares.get(one.name, (0.0, 0.0)) for one in self.streams}

    def lose(self, stream: StreamState) -> None:
        """Let a stream go."""
        self.streams.remove(stream)
        del self.shares[stream.name]

    @abstractmethod
    def begin_slot(self, begin_s: float) -> None:
        """Begin a slot with the shares that were decided for it."""

    @abstractmethod
    def advance(self, until_s: float, slack_s: float = 0.0) -> None:
        """Let happen what happens until a time; what ends so little after it ends then."""

    @abstractmethod
    def set_paces(self, now_s: float) -> None:
        """Let everybody go on at the pace that shares and faults give from now on."""

    def begin(self, stream: StreamState, job: Job, now_s: float) -> None:
        """Begin a stream's retraining; it has a pace of its own only from `set_paces` on."""
        self.retrainings.begin(stream.index, job, now_s)

    def end(self, stream: StreamState) -> Job:
        """End a stream's retraining, done or not."""
        return self.retrainings.end(stream.index)

    def scale(self, stream: StreamState, factor: float) -> None:
        """Let what is left of a stream's retraining take so many times as long: it comes from another GPU."""
        self.retrainings.scale(stream.index, factor)

    def begun(self, now_s: float) -> None:
        """Let a retraining that has begun in the middle of a slot have its pace."""
        self.set_paces(now_s)

    @abstractmethod
    def account(self, now_s: float) -> None:
        """Write down what retraining has done until now."""

    def fail(self, now_s: float) -> None:
        """Stand still until `recover`; faults may overlap."""
        if not self.faults:
            self._down_since_s = now_s
        self.faults += 1
        self.set_paces(now_s)

    def recover(self, now_s: float) -> None:
        """Go on when the last fault is over."""
        self.faults -= 1
        if not self.faults:
            self._down_s += now_s - self._down_since_s
            self.set_paces(now_s)

    def record(self, slot: int, end_s: float) -> GpuRecord:
        """Write down a slot, and begin to count anew."""
        if self.faults:
            self._down_s += end_s - self._down_since_s
            self._down_since_s = end_s
        here = [stream.index for stream in self.streams]
        stages_s = self.retrainings.used_s[here].sum(axis=0).tolist()
        self.retrainings.used_s[here] = 0.0
        serving_s = sum(stream.now.used_s for stream in self.streams)
        sampling_s, labelling_s, training_s, swapping_s = stages_s
        busy_s = serving_s + sampling_s + labelling_s + training_s + swapping_s
        power, energy_j = self.spec.power, float("nan")
        if power is not None:
            energy_j = power.idle_w * self.slot_s + (power.busy_w - power.idle_w) * busy_s
        record = GpuRecord(
            slot=slot,
            gpu=self.spec.name,
            budget_macs=float(self.budgets_macs[slot - 1]),
            serving=serving_s / self.slot_s,
            sampling=sampling_s / self.slot_s,
            labelling=labelling_s / self.slot_s,
            training=training_s / self.slot_s,
            swapping=swapping_s / self.slot_s,
            down=self._down_s / self.slot_s,
            energy_j=energy_j,
        )
        self._down_s = 0.0
        return record


class PartitionedGpu(GpuState):
    """A hard partition: everybody has a pace of its own, which others change only by lending.

    Args:
        lends: Whether serving gets the share of retraining that is not under way.
        given: Those of `GpuState`.
    """

    def __init__(self, lends: bool, *given: Any) -> None:
        super().__init__(*given)
        assert not isinstance(self.spec.sharing, Weighted | Priority), "such a GPU is no partition"
        self.lends, self._sharing = lends, self.spec.sharing
        self._sliced = isinstance(self._sharing, TimeSlice)
        self._settle_in()
        # Since the slot's begin: when the paces of serving changed, in ascending order, what shares were multiplied by
        # from then on, and of slices, which depend on all shares, the paces of all streams.
        self._changes, self._count = np.empty((2, 1)), 0
        self._slices: list[Array] = []

    def _settle_in(self) -> None:
        """Say in which order the streams are."""
        self._places = {stream.index: place for place, stream in enumerate(self.streams)}
        self._members = np.array(list(self._places), np.int64)

    def take(self, stream: StreamState) -> None:
        """Take a stream in, with all that waits for it."""
        super().take(stream)
        self._settle_in()
        if isinstance(stream.serving, Shared):
            old = stream.serving.processor
            if old.has_job(stream.index):
                old.end_job(stream.index)
            stream.serving = Eventful(*parts_of(stream), None, pool=stream.serving.pool, old=old)

    def begin_slot(self, begin_s: float) -> None:
        """Begin a slot with the shares that were decided for it."""
        self._settle_in()
        self._count, self._slices = 0, []
        parts = np.array([self.shares[stream.name] for stream in self.streams]).reshape(-1, 2)
        self._retraining, self._serving = parts[:, 0].copy(), parts[:, 1].copy()
        self._total = float(self._serving.sum())
        self.set_paces(begin_s)

    def lose(self, stream: StreamState) -> None:
        """Let a stream go."""
        super().lose(stream)
        self._settle_in()

    def set_paces(self, now_s: float) -> None:
        """Let everybody go on at the pace that shares and faults give from now on."""
        if not self.streams:
            return
        under_way, factor = self.retrainings.under_way[self._members], self._lend(now_s)
        retraining = np.where(under_way, 0.0 if self.faults else self._retraining, 0.0)
        if self._sliced:
            both = paces(self._sharing, np.stack([self._serving * factor, retraining], axis=1).ravel(), now_s)
            del self._slices[self._count - 1 :]
            self._slices.append(both[::2])
            found = both[1::2][under_way]
        else:
            found = paces(self._sharing, retraining[under_way])
        self.retrainings.change(self._members[under_way], found, now_s)

    def _lend(self, now_s: float) -> float:
        """Let serving have from now on what retraining that is not under way leaves; return what that multiplies."""
        factor = 0.0 if self.faults else 1.0
        if factor and self.lends and self._total > 0:
            under_way = self.retrainings.under_way[self._members]
            factor += float(self._retraining[~under_way].sum()) / self._total
        # Of changes at one instant the last one counts.
        if self._count and self._changes[0, self._count - 1] == now_s:
            self._count -= 1
        if self._count == self._changes.shape[1]:
            self._changes = np.concatenate([self._changes, np.empty_like(self._changes)], axis=1)
        self._changes[:, self._count] = now_s, factor
        self._count += 1
        return factor

    def stretches(self, k: int, begin_s: float, end_s: float) -> Array:
        """Return the stretches of a stream's serving between two times of the slot, without workers; shape (n, 7)."""
        times_s, factors = self._changes[:, : self._count]
        first, last = int(times_s.searchsorted(begin_s, side="right")) - 1, int(times_s.searchsorted(end_s))
        rows, place = np.empty((last - first, PACE + 1)), self._places[k]
        rows[:-1, END_S], rows[-1, END_S] = times_s[first + 1 : last], end_s
        if self._sliced:
            rows[:, 1:] = [found[place] for found in self._slices[first:last]]
        else:
            rows[:, 1:] = paces(self._sharing, self._serving[place] * factors[first:last])
        return rows

    def advance(self, until_s: float, slack_s: float = 0.0) -> None:
        """Let happen what happens until a time; what ends so little after it ends then."""
        expected_s = self.retrainings.expected_s
        while len(self._members):
            k = int(self._members[expected_s[self._members].argmin()])
            if expected_s[k] > until_s + slack_s:
                break
            now_s = min(float(expected_s[k]), until_s)
            self.retrainings.complete(k)
            self._done(self.streams[self._places[k]], now_s)
            self.ended(now_s)

    def ended(self, now_s: float) -> None:
        """Let others have what retraining that has ended, or begun, gives or takes."""
        if self._sliced:
            self.set_paces(now_s)
        elif self.lends:
            self._lend(now_s)

    def account(self, now_s: float) -> None:
        """Write down what retraining has done until now."""
        self.retrainings.account(self._members[self.retrainings.under_way[self._members]], now_s)


class SharedGpu(GpuState):
    """Work-conserving: who has work gets what others leave.

    Args:
        pool: Where the requests are.
        given: Those of `GpuState`.
    """

    def __init__(self, pool: Pool, *given: Any) -> None:
        super().__init__(*given)
        sharing = self.spec.sharing
        assert isinstance(sharing, Weighted | Priority), "such a GPU is shared"
        mode = tables.WEIGHTED if isinstance(sharing, Weighted) else tables.PRIORITY
        grain_s = sharing.grain_s if isinstance(sharing, Priority) else 0.0
        self._per_batch = isinstance(sharing, Weighted) and sharing.per == "batch"
        self.processor = Processor(pool, [one.index for one in self.streams], mode, sharing.slowdown, grain_s)
        for stream in self.streams:
            self._adopt(stream)
        self._edge_s = 0.0

    def take(self, stream: StreamState) -> None:
        """Take a stream in, with all that waits for it."""
        super().take(stream)
        assert isinstance(stream.serving, Shared | Eventful), (
            "a plain queue is on no such GPU, and does not come to one"
        )
        old = stream.serving
        stream.serving = Shared(stream.index, self.slot_s, stream.incoming, old.pool)
        old.processor.give(stream.index, self.processor)
        self._adopt(stream)
        if isinstance(old, Eventful):
            self.processor.pause(stream.index, old.paused_until_s)
            if stream.index in self.retrainings.jobs:
                self.processor.begin_job(stream.index, float(self.retrainings.stages[stream.index].sum()))

    def _adopt(self, stream: StreamState) -> None:
        assert isinstance(stream.serving, Shared), "such streams are on such GPUs"
        stream.serving.processor = self.processor
        self.processor.weigh(stream.index, self._per_batch)

    def scale(self, stream: StreamState, factor: float) -> None:
        """Let what is left of a stream's retraining take so many times as long: it comes from another GPU."""
        super().scale(stream, factor)
        self.processor.scale_job(stream.index, factor)

    def begin_slot(self, begin_s: float) -> None:
        """Begin a slot with the shares that were decided for it."""
        self._edge_s = begin_s
        self.processor.begin_slot()
        self.set_paces(begin_s)

    def set_paces(self, now_s: float) -> None:
        """Let everybody go on at the pace that shares and faults give from now on."""
        parts = np.array([self.shares[stream.name] for stream in self.streams]).reshape(-1, 2)
        pool = float(parts.sum())
        # Nothing, as of a stream of which nobody is forecast, is next to nothing while others work, else all.
        weights = np.maximum(parts, LEAST * pool)
        self.processor.set_weights(weights[:, 1].copy(), weights[:, 0].copy(), 0.0 if self.faults else pool)

    def begin(self, stream: StreamState, job: Job, now_s: float) -> None:
        """Begin a stream's retraining."""
        super().begin(stream, job, now_s)
        self.processor.begin_job(stream.index, sum(job.stages.values()))

    def begun(self, now_s: float) -> None:
        """It has its weight since the slot began."""

    def end(self, stream: StreamState) -> Job:
        """End a stream's retraining, done or not."""
        if self.processor.has_job(stream.index):
            self._settle(stream.index)
            self.processor.end_job(stream.index)
        return super().end(stream)

    def advance(self, until_s: float, slack_s: float = 0.0) -> None:
        """Let happen what happens until a time; what ends so little after it ends then."""
        by_index = {stream.index: stream for stream in self.streams}
        while True:
            if self.processor.now_s >= self._edge_s and self._edge_s < until_s:
                self._load(until_s)
            here_s = min(until_s, self._edge_s)
            k = self.processor.run(here_s, slack_s if here_s >= until_s else 0.0)
            if k is not None:
                self.retrainings.complete(k)
                self._done(by_index[k], self.processor.now_s)
            elif here_s >= until_s:
                return

    def _load(self, until_s: float) -> None:
        """Put the requests that come next into one order: as far as every stream's present window goes."""
        coming = []
        for stream in self.streams:
            assert isinstance(stream.serving, Shared), "such streams are on such GPUs"
            coming.append((stream.index, stream.serving.incoming))
        self._edge_s = min((one.edge_s for _, one in coming), default=until_s)
        self.processor.load(*merged([k for k, _ in coming], [one.take(self._edge_s) for _, one in coming]))

    def account(self, now_s: float) -> None:
        """Write down what retraining has done until now."""
        for stream in self.streams:
            if stream.index in self.retrainings.jobs:
                self._settle(stream.index)

    def _settle(self, k: int) -> None:
        self.processor.settle(k)
        self.retrainings.do(k, float(self.retrainings.stages[k].sum()) - self.processor.left_s(k))


def parts_of(stream: StreamState) -> tuple[Any, ...]:
    """Return what a queue of a share of its own is made of: number, length of a slot, workers, requests, stretches."""

    def stretches(begin_s: float, end_s: float) -> Array:
        assert isinstance(stream.gpu, PartitionedGpu), "such queues are on such GPUs"
        return stream.gpu.stretches(stream.index, begin_s, end_s)

    return stream.index, stream.slot_s, stream.spec.workers, stream.incoming, stretches

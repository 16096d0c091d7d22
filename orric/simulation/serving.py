"""How a stream's requests are served: by a share of their own, or by what others of the same GPU leave."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from orric.latency import BUCKETS
from orric.simulation.fates import SHED
from orric.simulation.incoming import Incoming, Requests
from orric.simulation.processor import tables
from orric.simulation.processor.device import Processor
from orric.simulation.processor.pool import Pool
from orric.simulation.queueing import END_S, PHASES, ROUNDING, SPEED, USAGE, Queue
from orric.simulation.work import BatchWork

Array = np.ndarray[Any, Any]
Record = Callable[[int, Array, Array], None]
# Of the stretches between two times: all columns of `queueing`, for one worker that has the whole share.
Stretches = Callable[[float, float], Array]
# Answers by version: how many, and how many of them in time.
Answers = dict[int, tuple[int, int]]


class Served:
    """What one stream did in one slot.

    Attributes:
        unseen: How many came while their process was not there; they are lost.
        left_s: How long those who left in any way had been there, all together.
        present_s: Integral over the slot of the number of requests present.

    Args:
        counts: Where latencies are counted, by phase.
    """

    def __init__(self, counts: Array) -> None:
        self.arrived = self.served = self.late = self.shed = self.abandoned = self.lost = self.unseen = self.batches = 0
        self.busy_s = self.used_s = self.correct = self.correct_in_time = self.left_s = self.present_s = 0.0
        self.latencies_s = np.zeros(PHASES)
        self.counts = counts


class Serving(Protocol):
    """What the simulation asks of a stream's queue."""

    now: Served

    @property
    def waiting(self) -> int:
        """Requests that wait or are in service."""
        ...

    def begin_slot(self, begin_s: float, work: BatchWork) -> None:
        """Count anew, and serve with other work."""
        ...

    def mark(self, now_s: float, version: int, phase: int) -> None:
        """Let what starts from now on be of a version and a phase."""
        ...

    def pause(self, now_s: float, until_s: float) -> None:
        """Stand still until a time."""
        ...

    def flush(self, now_s: float, last: bool) -> Answers:
        """Serve up to a time, the slot's end or not; return what was answered since this was last asked."""
        ...

    def in_service(self, version: int) -> int:
        """Return how many are in service that were begun under a version."""
        ...

    def there_s(self, now_s: float) -> float:
        """Return how long all that wait or are in service have been there, together."""
        ...

    def left_waiting(self) -> tuple[Array, Array]:
        """Return numbers and times, as they are recorded, of the requests that are still there."""
        ...


class Partitioned(ABC):
    """Serving by a share of its own, whatever others do: it is written down, and served when somebody asks.

    Args:
        k: Number of the stream.
        slot_s: Length of a slot.
        workers: Batches in service at once; each has its part of the share.
        incoming: The requests.
        stretches: What the share is worth.
        record: Takes what became of every request.
    """

    _counts: Array

    def __init__(
        self, k: int, slot_s: float, workers: int, incoming: Incoming, stretches: Stretches, record: Record | None
    ) -> None:
        self._k, self._slot_s, self._workers, self.incoming = k, slot_s, workers, incoming
        self._stretches, self._record = stretches, record
        self._paused_until_s, self._version, self._phase = 0.0, -1, 0
        self._since_s = float("inf")

    def begin_slot(self, begin_s: float, work: BatchWork) -> None:
        """Count anew, and serve with other work."""
        self.now, self._work = Served(self._counts), work
        self._begin_s = self._since_s = begin_s
        self._end_s = begin_s + self._slot_s
        self._rows: list[Array] = []
        self._labels: list[tuple[int, int, int]] = []

    def mark(self, now_s: float, version: int, phase: int) -> None:
        """Let what starts from now on be of a version and a phase."""
        self._close(now_s)
        self._version, self._phase = version, phase

    def pause(self, now_s: float, until_s: float) -> None:
        """Stand still until a time."""
        self._close(now_s)
        self._paused_until_s = max(self._paused_until_s, until_s)

    def _close(self, now_s: float) -> None:
        """Write down what held since the last change."""
        paused_s = min(self._paused_until_s, now_s)
        if paused_s > self._since_s:
            self._add(np.array([[paused_s, 0, 0, 0, 0, 0, 0]]))
            self._since_s = paused_s
        if now_s > self._since_s:
            rows = self._stretches(self._since_s, now_s)
            if self._work.free:
                rows[rows[:, SPEED] == 0, SPEED] = 1.0  # what costs nothing needs no share
            if self._workers > 1:
                rows[:, [SPEED, USAGE]] /= self._workers
            self._add(rows)
            self._since_s = now_s

    def _add(self, rows: Array) -> None:
        self._rows.append(rows)
        self._labels.append((self._version, self._phase, len(rows)))

    def flush(self, now_s: float, last: bool) -> Answers:
        """Serve up to a time, the slot's end or not; return what was answered since this was last asked."""
        self._close(now_s)
        answers: Answers = {}
        if self._rows:
            rows = np.concatenate(self._rows)
            versions, phases, counts = np.array(self._labels, np.int64).T
            labels = np.stack([np.repeat(versions, counts), np.repeat(phases, counts)], axis=1)
            ends_s = rows[:, END_S].copy()
            while self._begin_s < now_s:
                until_s = min(self.incoming.edge_s, now_s)
                requests = self.incoming.take(until_s)
                if until_s <= self._begin_s:
                    continue
                low = int(np.searchsorted(ends_s, self._begin_s, side="right"))
                high = int(np.searchsorted(ends_s, until_s)) + 1
                part = rows[low:high].copy()
                part[-1, END_S] = until_s
                slack_s = ROUNDING * self._slot_s if last and until_s >= now_s else 0.0
                self._serve(part, labels[low:high], requests, until_s, slack_s, answers)
                self._begin_s = until_s
            self._rows, self._labels = [], []
        return answers

    @abstractmethod
    def _serve(
        self, rows: Array, labels: Array, requests: Requests, until_s: float, slack_s: float, answers: Answers
    ) -> None:
        """Serve a window; what it answered is added to the answers, unless the queue keeps them until it is asked."""


class Plain(Partitioned):
    """The compiled queue of `queueing`: whoever is let in is served, first in, first out."""

    def __init__(self, *given: Any, queue: Queue) -> None:
        super().__init__(*given)
        self._queue, self._counts = queue, np.zeros((PHASES, BUCKETS), np.int64)

    @property
    def waiting(self) -> int:
        """Requests that wait or are in service."""
        return self._queue.waiting

    def in_service(self, version: int) -> int:
        """Return how many are in service that were begun under a version."""
        return self._queue.in_service(version)

    def there_s(self, now_s: float) -> float:
        """Return how long all that wait or are in service have been there, together."""
        return self._queue.present_s(now_s)

    def left_waiting(self) -> tuple[Array, Array]:
        """Return numbers and times, as they are recorded, of the requests that are still there."""
        return self._queue.left_waiting()

    def _serve(
        self, rows: Array, labels: Array, requests: Requests, until_s: float, slack_s: float, answers: Answers
    ) -> None:
        now, let_in = self.now, requests.admitted
        times_s, factors = requests.times_s, requests.factors
        # Nobody but the record wants to know them.
        numbers = requests.first + np.arange(0 if self._record is None else len(requests))
        now.arrived += len(requests)
        if not let_in.all():
            refused = ~let_in
            now.shed += int(refused.sum())
            if self._record is not None:
                self._record_refused(numbers[refused], times_s[refused])
            times_s, factors, numbers = times_s[let_in], factors[let_in], numbers[let_in[: len(numbers)]]
        window = self._queue.advance(
            self._begin_s, rows, labels, times_s, self._work.fixed_s, self._work.each_s,
            factors if self.incoming.draws.varied else None, slack_s, numbers, self._counts,
        )  # fmt: skip
        now.served += window.served
        now.late += window.late
        now.shed += window.shed
        now.batches += window.batches
        now.busy_s += window.busy_s
        now.used_s += window.used_s
        now.latencies_s += window.latencies_s
        now.left_s += float(window.latencies_s.sum())
        now.present_s += window.present_s
        for version, count in window.served_by.items():
            before, timely = answers.get(version, (0, 0))
            answers[version] = before + count, timely + count - window.late_by.get(version, 0)
        if self._record is not None:
            assert window.numbers is not None, "the queue records"
            assert window.times_s is not None, "the queue records"
            self._record(self._k, window.numbers, window.times_s)

    def _record_refused(self, numbers: Array, times_s: Array) -> None:
        assert self._record is not None, "somebody wants to know"
        fates = np.stack([numbers, np.full(len(numbers), -1), np.full(len(numbers), SHED)], axis=1)
        self._record(self._k, fates, np.stack([times_s, np.full(len(times_s), np.nan), times_s], axis=1))


def merged(streams: list[int], parts: list[Requests]) -> tuple[Array, Array]:
    """Put the requests of several streams into one order, as `Processor.load` wants them."""
    counts = [len(part) for part in parts]
    arrivals = np.empty((sum(counts), 3))
    arrivals_n = np.empty((sum(counts), 2), np.int64)
    if not len(arrivals):
        return arrivals, arrivals_n
    for column, name in enumerate(("times_s", "factors", "patience")):
        arrivals[:, column] = np.concatenate([getattr(part, name) for part in parts])
    arrivals_n[:, 0] = np.repeat(streams, counts)
    arrivals_n[:, 1] = np.concatenate([part.admitted for part in parts])
    if len(parts) > 1:
        order = np.argsort(arrivals[:, 0], kind="stable")
        arrivals, arrivals_n = arrivals[order], arrivals_n[order]
    return arrivals, arrivals_n


class Pooled:
    """A stream whose requests are those of a `Pool`: they can be lost, or wait again."""

    now: Served
    pool: Pool
    processor: Processor
    incoming: Incoming
    _k: int

    @property
    def waiting(self) -> int:
        """Requests that wait or are in service."""
        return self.pool.waiting(self._k)

    def in_service(self, version: int) -> int:
        """Return how many are in service that were begun under a version."""
        return self.pool.in_service(self._k, version)

    def left_waiting(self) -> tuple[Array, Array]:
        """Return numbers and times, as they are recorded, of the requests that are still there."""
        return self.pool.left_waiting(self._k)

    def there_s(self, now_s: float) -> float:
        """Return how long all that wait or are in service have been there, together."""
        return self.processor.there_s(self._k)

    def crash(self, until_s: float) -> None:
        """Lose all requests, of a queue that is served up to now, and those that come until a time."""
        self.processor.crash(self._k, until_s)

    def dissolve(self) -> None:
        """Let the requests in service wait again."""
        self.processor.dissolve(self._k)

    def _set(self, work: BatchWork) -> None:
        numbers, counts = self.pool.stream[self._k], self.pool.stream_n[self._k]
        numbers[tables.FIXED_S], numbers[tables.EACH_S] = work.fixed_s, work.each_s
        counts[tables.FREE_OF_WORK] = work.free
        if counts[tables.CLIENTS]:
            draws = self.incoming.draws
            self.pool.redraw(self._k, tables.WORK, draws.factors)
            self.pool.redraw(self._k, tables.PATIENCE, draws.patience)

    def _take_over(self, now: Served, begin_s: float, end_s: float) -> None:
        """Take what the tables counted in the slot."""
        numbers, counts = self.pool.stream[self._k], self.pool.stream_n[self._k]
        now.arrived, now.served, now.late = (
            int(counts[one]) for one in (tables.ARRIVED, tables.N_SERVED, tables.N_LATE)
        )
        now.shed, now.abandoned, now.lost = (
            int(counts[one]) for one in (tables.N_SHED, tables.N_ABANDONED, tables.N_LOST)
        )
        now.unseen = int(counts[tables.UNSEEN])
        now.batches, now.busy_s, now.used_s = (
            int(counts[tables.N_BATCHES]),
            float(numbers[tables.BUSY_S]),
            float(numbers[tables.USED_S]),
        )
        now.latencies_s = numbers[tables.LATENCY_S : tables.LATENCY_S + PHASES].copy()
        now.left_s = float(numbers[tables.STAYED_S])
        length_s, entered, left = end_s - begin_s, int(counts[tables.ENTERED]), int(counts[tables.LEFT])
        before = self.waiting + left - entered
        now.present_s = before * length_s + (entered * length_s - numbers[tables.ENTERED_S])
        now.present_s -= left * length_s - numbers[tables.LEFT_S]


class Eventful(Pooled, Partitioned):
    """A share of its own, but a queue that sheds, loses patience, crashes, or whose clients wait for answers."""

    def __init__(self, *given: Any, pool: Pool, old: Processor | None = None) -> None:
        super().__init__(*given)
        self.pool, self._counts = pool, pool.counts[self._k]
        self.processor = Processor(pool, [] if old else [self._k], tables.PARTITION)
        if old is not None:
            old.give(self._k, self.processor)
        self.processor.own(self._k)

    @property
    def paused_until_s(self) -> float:
        """Until when it stands still, or stood."""
        return self._paused_until_s

    def begin_slot(self, begin_s: float, work: BatchWork) -> None:
        """Count anew, and serve with other work."""
        super().begin_slot(begin_s, work)
        self.processor.begin_slot()
        self._set(work)

    def flush(self, now_s: float, last: bool) -> Answers:
        """Serve up to a time, the slot's end or not; return what was answered since this was last asked."""
        super().flush(now_s, last)
        answers = {version: (count, timely) for version, (count, timely) in self.processor.answered(self._k).items()}
        self.processor.settle(self._k)
        self._take_over(self.now, self._end_s - self._slot_s, now_s)
        return answers

    def _serve(
        self, rows: Array, labels: Array, requests: Requests, until_s: float, slack_s: float, answers: Answers
    ) -> None:
        self.processor.rows, self.processor.labels = rows, labels
        self.processor.enter_stretch(self._k, labels[0])
        self.processor.load(*merged([self._k], [requests]))
        self.processor.run(until_s, slack_s)


class Shared(Pooled):
    """Serving on a GPU that is shared by weights: it has come as far as its GPU.

    Args:
        k: Number of the stream.
        slot_s: Length of a slot.
        incoming: The requests.
        pool: Where they are.
    """

    def __init__(self, k: int, slot_s: float, incoming: Incoming, pool: Pool) -> None:
        self._k, self._slot_s, self.incoming, self.pool = k, slot_s, incoming, pool
        # That of the GPU on which the stream is, set by it.
        self.processor: Processor

    def begin_slot(self, begin_s: float, work: BatchWork) -> None:
        """Count anew, and serve with other work."""
        self.now, self._begin_s = Served(self.pool.counts[self._k]), begin_s
        self._set(work)

    def mark(self, now_s: float, version: int, phase: int) -> None:
        """Let what starts from now on be of a version and a phase."""
        counts = self.pool.stream_n[self._k]
        counts[tables.VERSION], counts[tables.PHASE] = version, phase

    def pause(self, now_s: float, until_s: float) -> None:
        """Stand still until a time."""
        self.processor.pause(self._k, until_s)

    def flush(self, now_s: float, last: bool) -> Answers:
        """Return what was answered since this was last asked."""
        answers = {version: (count, timely) for version, (count, timely) in self.processor.answered(self._k).items()}
        self.processor.settle(self._k)
        self._take_over(self.now, self._begin_s, now_s)
        return answers

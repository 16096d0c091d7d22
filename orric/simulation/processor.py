"""A device and the streams and retrainings that share it: what `processor_events` needs around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from orric.latency import BUCKETS
from orric.simulation import processor_events as events
from orric.simulation.fates import WAITING
from orric.simulation.queueing import PHASES, Discipline

Array = np.ndarray[Any, Any]
POLICIES = {"even": events.EVEN, "newest": events.NEWEST, "oldest": events.OLDEST, "keep-latest": events.KEEP_LATEST}
SMALL = 1024
# What a partition's worker is given comes in its stretches; whoever shares needs none.
NO_ROWS, NO_LABELS = np.zeros((1, 7)), np.zeros((1, 2), np.int64)
NO_ARRIVALS, NO_ARRIVALS_N = np.empty((0, 3)), np.empty((0, 2), np.int64)


class Pool:
    """Streams, requests and batches of a simulation: what its devices have in common.

    Args:
        disciplines: How each stream's queue serves.
        record: Takes what became of requests, if anybody wants to know: stream, numbers (number, version, fate), shape
            (n, 3), and times (arrival, start, end), shape (n, 3).
    """

    def __init__(
        self,
        disciplines: Sequence[Discipline],
        record: Callable[[int, Array, Array], None] | None = None,
    ) -> None:
        count = len(disciplines)
        self.record = record
        self.stream, self.stream_n = (
            np.zeros((count, events.STREAM_NUMBERS)),
            np.zeros((count, events.STREAM_COUNTS), np.int64),
        )
        closed = [k for k, one in enumerate(disciplines) if one.clients]
        # Whoever has most clients may ask for a thought of each at once.
        length = 4 * max([SMALL, *(2 * one.clients for one in disciplines)])
        self.draws, self.draws_n = (
            np.zeros((len(closed), 3, length if closed else 1)),
            np.zeros((len(closed), 3), np.int64),
        )
        self.sources: dict[int, list[Callable[[int], Array]]] = {}
        offset = 0
        for k, one in enumerate(disciplines):
            numbers, counts = self.stream[k], self.stream_n[k]
            numbers[events.WAIT_S], numbers[events.DEADLINE_S] = one.wait_s, one.deadline_s
            numbers[events.PATIENCE_S], numbers[events.THINKING_S] = one.patience_s, one.thinking_s
            numbers[events.TIMER_S], numbers[events.PLANNED] = -1.0, 1.0
            counts[events.HEAD] = counts[events.TAIL] = counts[events.PLACE] = counts[events.JOB_PLACE] = -1
            counts[events.WORKERS], counts[events.MOST], counts[events.CLIENTS] = one.workers, one.most, one.clients
            counts[events.POLICY] = POLICIES[one.shed]
            counts[events.LIMIT] = 1 if one.shed == "keep-latest" else one.limit
            counts[events.RUN_VERSION], counts[events.OFFSET] = -1, offset
            counts[events.DRAWS] = closed.index(k) if one.clients else -1
            offset += one.workers
        self.batches = np.zeros(offset, np.int64)
        # Rows that one event can fill: whole batches, or all that wait under keep-latest after a loss.
        self.most = (
            max((one.most * (one.workers if one.shed == "keep-latest" else 1) for one in disciplines), default=1) + 4
        )
        self.request, self.request_n = np.zeros((0, 3)), np.zeros((0, 5), np.int64)
        self.batch, self.batch_n = np.zeros((0, 2)), np.zeros((0, 4), np.int64)
        self.pool_n = np.full(events.POOL_COUNTS, -1, np.int64)
        self.pool_n[events.ROWS] = self.pool_n[events.RUNS] = 0
        self.pool_n[events.RECORDED] = record is not None
        self.counts = np.zeros((count, PHASES, BUCKETS), np.int64)
        rows = max(2**14, 4 * self.most)
        self.out = np.empty((rows if record else 0, 3))
        self.out_n = np.empty((len(self.out), 4), np.int64)
        self.runs = np.empty((rows, 4), np.int64)
        self.scratch = np.zeros(1)
        # Answers since a stream was last asked, by version: how many, how many of them in time.
        self.answered: list[dict[int, list[int]]] = [{} for _ in disciplines]
        self._free = 0
        self.make_room(SMALL)

    def make_room(self, requests: int) -> None:
        """Let so many more requests be present than now."""
        present = int(self.stream_n[:, events.QUEUED].sum() + self.stream_n[:, events.IN_SERVICE].sum())
        for name, need in (
            ("request", present + requests + 1),
            ("batch", min(present + requests, len(self.batches)) + 1),
        ):
            numbers, counts = getattr(self, name), getattr(self, f"{name}_n")
            old, first = len(numbers), events.FREE_REQUEST if name == "request" else events.FREE_BATCH
            if need <= old:
                continue
            new = max(need, 2 * old)
            more = np.zeros((new - old, counts.shape[1]), np.int64)
            # The new rows are free, one after the other, and the last of them leads to the old free ones. A batch
            # keeps its link where its first request stands, a request where the next one does: column 0 of both.
            more[:, 0] = np.arange(old + 1, new + 1)
            more[-1, 0] = self.pool_n[first]
            self.pool_n[first] = old
            setattr(self, name, np.concatenate([numbers, np.zeros((new - old, numbers.shape[1]))]))
            setattr(self, f"{name}_n", np.concatenate([counts, more]))

    def drain(self) -> None:
        """Take out what the tables of results hold."""
        rows, runs = int(self.pool_n[events.ROWS]), int(self.pool_n[events.RUNS])
        for k, version, answered, timely in self.runs[:runs].tolist():
            here = self.answered[k].setdefault(version, [0, 0])
            here[0] += answered
            here[1] += timely
        if rows and self.record is not None:
            streams = self.out_n[:rows, events.OUT_STREAM]
            order = np.argsort(streams, kind="stable")
            edges = np.flatnonzero(np.diff(streams[order])) + 1
            for part in np.split(order, edges):
                self.record(int(streams[part[0]]), self.out_n[part, 1:], self.out[part])
        self.pool_n[events.ROWS] = self.pool_n[events.RUNS] = 0

    def refill(self, k: int) -> None:
        """Draw anew what a closed stream has used of its draws."""
        row = int(self.stream_n[k, events.DRAWS])
        for kind, source in enumerate(self.sources[k]):
            used = int(self.draws_n[row, kind])
            left = self.draws[row, kind, used:].copy()
            self.draws[row, kind] = np.concatenate([left, source(used)])
            self.draws_n[row, kind] = 0

    def redraw(self, k: int, kind: int, source: Callable[[int], Array]) -> None:
        """Let a kind of a closed stream's draws come from another source from now on."""
        row = int(self.stream_n[k, events.DRAWS])
        self.sources[k][kind] = source
        self.draws[row, kind], self.draws_n[row, kind] = source(self.draws.shape[2]), 0

    def waiting(self, k: int) -> int:
        """Return how many requests of a stream wait or are in service."""
        return int(self.stream_n[k, events.QUEUED] + self.stream_n[k, events.IN_SERVICE])

    def in_service(self, k: int, version: int) -> int:
        """Return how many of them are in service that were begun under a version."""
        offset, count = self.stream_n[k, events.OFFSET], self.stream_n[k, events.BATCHES]
        here = self.batches[offset : offset + count]
        return int(self.batch_n[here[self.batch_n[here, events.VERSION_OF] == version], events.SIZE].sum())

    def left_waiting(self, k: int) -> tuple[Array, Array]:
        """Return numbers and times, as they are recorded, of the requests of a stream that are still there."""
        offset, count = self.stream_n[k, events.OFFSET], self.stream_n[k, events.BATCHES]
        begun = [(int(self.batch_n[y, events.FIRST_OF]), int(self.batch_n[y, events.SIZE]), int(self.batch_n[y, events.VERSION_OF]),
                  float(self.batch[y, events.START_S])) for y in self.batches[offset : offset + count]]  # fmt: skip
        begun.append((int(self.stream_n[k, events.HEAD]), int(self.stream_n[k, events.QUEUED]), -1, float("nan")))
        numbers, times = [], []
        for x, size, version, start_s in begun:
            for _ in range(size):
                numbers.append((int(self.request_n[x, events.NUMBER_OF]), version, WAITING))
                times.append((float(self.request[x, events.ARRIVAL_S]), start_s, float("nan")))
                x = int(self.request_n[x, events.NEXT])
        return np.array(numbers, np.int64).reshape(-1, 3), np.array(times).reshape(-1, 3)


class Processor:
    """One device, or one stream's part of it.

    Args:
        pool: What it shares with the simulation's other devices.
        members: Streams on it, by number.
        mode: `PARTITION`, `WEIGHTED` or `PRIORITY`.
        slowdown: How many times as long service takes while a retraining is under way.
        grain_s: Work at the whole device for which retraining cannot be interrupted.
    """

    def __init__(
        self, pool: Pool, members: Sequence[int], mode: int, slowdown: float = 1.0, grain_s: float = 0.0
    ) -> None:
        self.pool, count = pool, len(pool.stream)
        self.members = np.array(members, np.int64)
        self.clock, self.clock_n = np.zeros(events.CLOCK_NUMBERS), np.zeros(events.CLOCK_COUNTS, np.int64)
        self.clock_n[events.MODE] = mode
        self.clock[events.SLOWDOWN], self.clock[events.GRAIN_S] = slowdown, grain_s
        self._heaps = np.zeros((3, count), np.int64)
        self._timer, self._timer_n = np.zeros(SMALL), np.zeros((SMALL, 3), np.int64)
        self._arrivals, self._arrivals_n = NO_ARRIVALS, NO_ARRIVALS_N
        self.rows, self.labels = NO_ROWS, NO_LABELS

    @property
    def now_s(self) -> float:
        """The time it has come to."""
        return float(self.clock[events.NOW_S])

    def tables(self) -> events.Tables:
        """Return all state as the compiled functions want it."""
        pool = self.pool
        serving, retraining, dirty = self._heaps
        return events.Tables(
            pool.stream, pool.stream_n, pool.request, pool.request_n, pool.batch, pool.batch_n, pool.batches,
            self._timer, self._timer_n, serving, retraining, dirty, self.clock, self.clock_n, pool.pool_n, pool.draws,
            pool.draws_n, pool.counts, pool.out, pool.out_n, pool.runs, pool.scratch, pool.scratch.view(np.int64),
        )  # fmt: skip

    def begin_slot(self) -> None:
        """Count anew from here on."""
        events.begin_slot(self.tables(), self.members)

    def set_weights(self, serving: Array, retraining: Array, pool: float) -> None:
        """Let shares hold from now on, one of each per member; `pool` is what all of them share of the device."""
        events.set_weights(self.tables(), self.members, serving, retraining, pool)

    def load(self, arrivals: Array, arrivals_n: Array) -> None:
        """Take in requests to come: time, factor and patience; stream and whether it is admitted."""
        self._arrivals, self._arrivals_n = arrivals, arrivals_n
        self.clock_n[events.NEXT_ARRIVAL] = 0
        closed = int(self.pool.stream_n[self.members, events.CLIENTS].sum())
        self.pool.make_room(len(arrivals) + closed)

    def admit(
        self, k: int, thoughts: Callable[[int], Array], work: Callable[[int], Array], patience: Callable[[int], Array]
    ) -> None:
        """Let the clients of a closed stream begin to think, at time 0; work and patience may be drawn anew later."""
        self.pool.sources[k] = [thoughts, work, patience]
        for kind, source in enumerate(self.pool.sources[k]):
            self.pool.redraw(k, kind, source)
        row, clients = int(self.pool.stream_n[k, events.DRAWS]), int(self.pool.stream_n[k, events.CLIENTS])
        self._make_timers(clients)
        tables, used = self.tables(), self.pool.draws[row, events.THOUGHT, :clients]
        for thought in used:
            events.set_timer(tables, float(self.pool.stream[k, events.THINKING_S] * thought), events.COMES, k, 0)
        self.pool.draws_n[row, events.THOUGHT] = clients

    def run(self, until_s: float, slack_s: float = 0.0) -> int | None:
        """Let happen what happens until a time; return early, with its stream, when a retraining is done."""
        pool = self.pool
        member = int(self.members[0]) if len(self.members) else 0
        while True:
            self._make_timers(4 * pool.most)
            done = events.run(
                self.tables(), self.rows, self.labels, member, self._arrivals, self._arrivals_n, until_s, slack_s,
                pool.most,
            )  # fmt: skip
            if done == events.UP:
                return None
            if done == events.DONE:
                return int(self.clock_n[events.WHO])
            pool.drain()
            for k in pool.sources:
                pool.refill(k)

    def own(self, k: int) -> None:
        """Let the stream of a partition have all of it, worker by worker."""
        self.weigh(k, True)
        tables = self.tables()
        events.leave(tables, k)
        self.pool.stream[k, events.WEIGHT] = 1.0
        events.join(tables, k)

    def weigh(self, k: int, per_batch: bool) -> None:
        """Let a stream's weight be that of each of its batches in service, or of all of them."""
        tables = self.tables()
        events.leave(tables, k)
        self.pool.stream_n[k, events.PER_BATCH] = per_batch
        events.join(tables, k)

    def enter_stretch(self, k: int, label: Array) -> None:
        """Begin with the first of new stretches, and its version and phase."""
        self.clock_n[events.STRETCH] = 0
        self.pool.stream_n[k, events.VERSION], self.pool.stream_n[k, events.PHASE] = label
        events.mark(self.tables(), k)

    def there_s(self, k: int) -> float:
        """Return how long all requests of a stream that are there have been, together."""
        return float(events.there_s(self.tables(), k))

    def settle(self, k: int) -> None:
        """Bring a stream's accounts up to now."""
        tables = self.tables()
        events.touch(tables, k)
        events.leave_job(tables, k)
        events.join_job(tables, k)

    def answered(self, k: int) -> dict[int, list[int]]:
        """Return how many requests of each version were answered since this was last asked, and how many in time."""
        if self.pool.pool_n[events.RUNS] + 1 >= len(self.pool.runs):
            self.pool.drain()
        events.flush_run(self.tables(), k)
        self.pool.drain()
        found, self.pool.answered[k] = self.pool.answered[k], {}
        return found

    def begin_job(self, k: int, left_s: float) -> None:
        """Begin a retraining of so many seconds at the whole device."""
        events.begin_job(self.tables(), k, left_s)

    def end_job(self, k: int) -> None:
        """End a stream's retraining before it is done."""
        events.end_job(self.tables(), k)

    def has_job(self, k: int) -> bool:
        """Return whether a stream's retraining is under way."""
        return bool(self.pool.stream_n[k, events.JOB_ON])

    def scale_job(self, k: int, factor: float) -> None:
        """Let what is left of a stream's retraining take so many times as long."""
        tables = self.tables()
        events.leave_job(tables, k)
        self.pool.stream[k, events.JOB_LEFT_S] *= factor
        events.join_job(tables, k)

    def left_s(self, k: int) -> float:
        """Return what a stream's retraining still has to do, in seconds at the whole device."""
        return float(self.pool.stream[k, events.JOB_LEFT_S])

    def pause(self, k: int, until_s: float) -> None:
        """Let a stream stand still until a time."""
        self._make_timers(1)
        events.pause(self.tables(), k, until_s)

    def crash(self, k: int, until_s: float) -> None:
        """Lose all requests of a stream, and those that come until a time."""
        self._make_way(k)
        events.crash(self.tables(), k, until_s)

    def dissolve(self, k: int) -> None:
        """Let the requests of a stream in service wait again."""
        self._make_way(k)
        events.dissolve(self.tables(), k)

    def _make_way(self, k: int) -> None:
        """Let all requests of a stream end at once."""
        self.pool.drain()
        present = self.pool.waiting(k)
        if self.pool.record is not None and present >= len(self.pool.out):
            self.pool.out, self.pool.out_n = np.empty((2 * present, 3)), np.empty((2 * present, 4), np.int64)
        self._make_timers(present + 1)
        if k in self.pool.sources:
            self.pool.refill(k)

    def _make_timers(self, count: int) -> None:
        used = int(self.clock_n[events.TIMERS])
        if used + count >= len(self._timer):
            more = used + count + len(self._timer)
            self._timer = np.concatenate([self._timer, np.zeros(more)])
            self._timer_n = np.concatenate([self._timer_n, np.zeros((more, 3), np.int64)])

    def give(self, k: int, other: Processor) -> None:
        """Let a stream go to another device, with all that waits for it."""
        other.clock[events.NOW_S] = self.now_s
        mine, tables = self.tables(), other.tables()
        events.leave(mine, k)
        events.leave_job(mine, k)
        under_way = bool(self.pool.stream_n[k, events.JOB_ON])
        self.clock_n[events.UNDER_WAY] -= under_way
        other.clock_n[events.UNDER_WAY] += under_way
        waiting = [int(one) for one in self._heaps[2, : self.clock_n[events.DIRTY_ONES]] if one != k]
        self._heaps[2, : len(waiting)], self.clock_n[events.DIRTY_ONES] = waiting, len(waiting)
        self.pool.stream_n[k, events.DIRTY] = 0
        count = int(self.clock_n[events.TIMERS])
        timers, kinds = self._timer[:count].copy(), self._timer_n[:count].copy()
        leaving = kinds[:, events.KIND] == events.LEAVES
        owners = np.where(
            leaving,
            self.pool.request_n[np.where(leaving, kinds[:, events.SUBJECT], 0), events.OWNER],
            kinds[:, events.SUBJECT],
        )
        self.clock_n[events.TIMERS] = 0
        other._make_timers(int((owners == k).sum()) + 1)
        tables = other.tables()
        for when_s, (kind, subject, check), owner in zip(timers.tolist(), kinds.tolist(), owners.tolist(), strict=True):
            events.set_timer(tables if owner == k else mine, when_s, kind, subject, check)
        self.members = self.members[self.members != k]
        other.members = np.sort(np.append(other.members, k))
        for column, clock in (
            (events.SERVICE_AT, events.CLOCK),
            (events.USE_AT, events.USE),
            (events.JOB_AT, events.JOB_CLOCK),
        ):
            self.pool.stream[k, column] = other.clock[clock]
        events.join(tables, k)
        events.join_job(tables, k)
        events.set_timer(tables, other.now_s, events.WAKES, k, 0)

"""A device and the streams and retrainings that share it: what the compiled loop needs around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from orric.simulation.processor import events, tables
from orric.simulation.processor.pool import SMALL, Pool

Array = np.ndarray[Any, Any]
# What a partition's worker is given comes in its stretches; whoever shares needs none.
NO_ROWS, NO_LABELS = np.zeros((1, 7)), np.zeros((1, 2), np.int64)
NO_ARRIVALS, NO_ARRIVALS_N = np.empty((0, 3)), np.empty((0, 2), np.int64)


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
        self.clock, self.clock_n = np.zeros(tables.CLOCK_NUMBERS), np.zeros(tables.CLOCK_COUNTS, np.int64)
        self.clock_n[tables.MODE] = mode
        self.clock[tables.SLOWDOWN], self.clock[tables.GRAIN_S] = slowdown, grain_s
        self._heaps = np.zeros((3, count), np.int64)
        self._timer, self._timer_n = np.zeros(SMALL), np.zeros((SMALL, 3), np.int64)
        self._arrivals, self._arrivals_n = NO_ARRIVALS, NO_ARRIVALS_N
        self.rows, self.labels = NO_ROWS, NO_LABELS

    @property
    def now_s(self) -> float:
        """The time it has come to."""
        return float(self.clock[tables.NOW_S])

    def tables(self) -> tables.Tables:
        """Return all state as the compiled functions want it."""
        pool = self.pool
        serving, retraining, dirty = self._heaps
        return tables.Tables(
            pool.stream, pool.stream_n, pool.request, pool.request_n, pool.batch, pool.batch_n, pool.batches,
            self._timer, self._timer_n, serving, retraining, dirty, self.clock, self.clock_n, pool.pool_n, pool.draws,
            pool.draws_n, pool.counts, pool.out, pool.out_n, pool.runs, pool.one, pool.scratch,
            pool.scratch.view(np.int64),
        )  # fmt: skip

    def _act(self, what: int, k: int, x: float = 0.0, check: int = 0) -> None:
        """Do one of the things that `tables` names."""
        events.act(self.tables(), what, k, x, check)

    def begin_slot(self) -> None:
        """Count anew from here on."""
        events.begin_slot(self.tables(), self.members)

    def set_weights(self, serving: Array, retraining: Array, pool: float) -> None:
        """Let shares hold from now on, one of each per member; `pool` is what all of them share of the device."""
        events.weigh(self.tables(), self.members, serving, retraining, pool)

    def load(self, arrivals: Array, arrivals_n: Array) -> None:
        """Take in requests to come: time, factor and patience; stream and whether it is admitted."""
        self._arrivals, self._arrivals_n = arrivals, arrivals_n
        self.clock_n[tables.NEXT_ARRIVAL] = 0
        closed = int(self.pool.stream_n[self.members, tables.CLIENTS].sum())
        self.pool.make_room(len(arrivals) + closed)

    def admit(
        self, k: int, thoughts: Callable[[int], Array], work: Callable[[int], Array], patience: Callable[[int], Array]
    ) -> None:
        """Let the clients of a closed stream begin to think, at time 0; work and patience may be drawn anew later."""
        self.pool.sources[k] = [thoughts, work, patience]
        for kind, source in enumerate(self.pool.sources[k]):
            self.pool.redraw(k, kind, source)
        row, clients = int(self.pool.stream_n[k, tables.DRAWS]), int(self.pool.stream_n[k, tables.CLIENTS])
        self._make_timers(clients)
        thinking_s = self.pool.stream[k, tables.THINKING_S]
        for thought_s in (thinking_s * self.pool.draws[row, tables.THOUGHT, :clients]).tolist():
            self._act(tables.TIMER + tables.COMES, k, thought_s)
        self.pool.draws_n[row, tables.THOUGHT] = clients

    def run(self, until_s: float, slack_s: float = 0.0) -> int | None:
        """Let happen what happens until a time; return early, with its stream, when a retraining is done."""
        pool = self.pool
        member = int(self.members[0]) if len(self.members) else 0
        while True:
            # One event ends no more requests than there are.
            most = min(pool.most, len(pool.request)) + 4
            self._make_timers(4 * most)
            pool.make_results(most)
            done = events.run(
                self.tables(), self.rows, self.labels, member, self._arrivals, self._arrivals_n, until_s, slack_s, most
            )
            if done == tables.UP:
                return None
            if done == tables.DONE:
                return int(self.clock_n[tables.WHO])
            pool.drain()
            for k in pool.sources:
                pool.refill(k)

    def own(self, k: int) -> None:
        """Let the stream of a partition have all of it, worker by worker."""
        self._act(tables.LEAVE, k)
        self.pool.stream[k, tables.WEIGHT], self.pool.stream_n[k, tables.PER_BATCH] = 1.0, 1
        self._act(tables.JOIN, k)

    def weigh(self, k: int, per_batch: bool) -> None:
        """Let a stream's weight be that of each of its batches in service, or of all of them."""
        self._act(tables.LEAVE, k)
        self.pool.stream_n[k, tables.PER_BATCH] = per_batch
        self._act(tables.JOIN, k)

    def enter_stretch(self, k: int, label: Array) -> None:
        """Begin with the first of new stretches, and its version and phase."""
        self.clock_n[tables.STRETCH] = 0
        self.pool.stream_n[k, tables.VERSION], self.pool.stream_n[k, tables.PHASE] = label
        self._act(tables.MARK, k)

    def there_s(self, k: int) -> float:
        """Return how long all requests of a stream that are there have been, together."""
        return self.pool.waiting(k) * self.now_s - float(self.pool.stream[k, tables.THERE_S])

    def settle(self, k: int) -> None:
        """Bring a stream's accounts up to now."""
        self._act(tables.SETTLE, k)

    def answered(self, k: int) -> dict[int, list[int]]:
        """Return how many requests of each version were answered since this was last asked, and how many in time."""
        if self.pool.pool_n[tables.RUNS] + 1 >= len(self.pool.runs):
            self.pool.drain()
        self._act(tables.FLUSH, k)
        self.pool.drain()
        found, self.pool.answered[k] = self.pool.answered[k], {}
        return found

    def begin_job(self, k: int, left_s: float) -> None:
        """Begin a retraining of so many seconds at the whole device."""
        self._act(tables.BEGIN_JOB, k, left_s)

    def end_job(self, k: int) -> None:
        """End a stream's retraining before it is done."""
        self._act(tables.END_JOB, k)

    def has_job(self, k: int) -> bool:
        """Return whether a stream's retraining is under way."""
        return bool(self.pool.stream_n[k, tables.JOB_ON])

    def scale_job(self, k: int, factor: float) -> None:
        """Let what is left of a stream's retraining take so many times as long."""
        self._act(tables.LEAVE, k)
        self.pool.stream[k, tables.JOB_LEFT_S] *= factor
        self._act(tables.JOIN, k)

    def left_s(self, k: int) -> float:
        """Return what a stream's retraining still has to do, in seconds at the whole device."""
        return float(self.pool.stream[k, tables.JOB_LEFT_S])

    def pause(self, k: int, until_s: float) -> None:
        """Let a stream stand still until a time."""
        self._make_timers(1)
        self._act(tables.PAUSE, k, until_s)

    def crash(self, k: int, until_s: float) -> None:
        """Lose all requests of a stream, and those that come until a time."""
        self._make_way(k)
        self._act(tables.CRASH, k, until_s)

    def dissolve(self, k: int) -> None:
        """Let the requests of a stream in service wait again."""
        self._make_way(k)
        self._act(tables.DISSOLVE, k)

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
        if int(self.clock_n[tables.TIMERS]) + count >= len(self._timer):
            self._drop_timers()
        used = int(self.clock_n[tables.TIMERS])
        if used + count >= len(self._timer) // 2 and used + count >= SMALL:
            more = used + count + len(self._timer)
            self._timer = np.concatenate([self._timer, np.zeros(more)])
            self._timer_n = np.concatenate([self._timer_n, np.zeros((more, 3), np.int64)])

    def _drop_timers(self) -> None:
        """Forget the patience of those who have been served or have left."""
        count = int(self.clock_n[tables.TIMERS])
        when_s, (kind, subject, check) = self._timer[:count], self._timer_n[:count].T
        whose = np.where(kind == tables.LEAVES, subject, 0)
        waits = self.pool.request_n[whose, tables.STATE] == tables.IN_QUEUE
        waits &= self.pool.request_n[whose, tables.NUMBER_OF] == check
        waits &= self.pool.request[whose, tables.UNTIL_S] == when_s
        kept = np.flatnonzero((kind != tables.LEAVES) | waits)
        # In order, they are a heap.
        kept = kept[np.lexsort((check[kept], kind[kept], when_s[kept]))]
        self._timer[: len(kept)], self._timer_n[: len(kept)] = when_s[kept], self._timer_n[:count][kept]
        self.clock_n[tables.TIMERS] = len(kept)

    def give(self, k: int, other: Processor) -> None:
        """Let a stream go to another device, with all that waits for it."""
        other.clock[tables.NOW_S] = self.now_s
        self._act(tables.LEAVE, k)
        under_way = bool(self.pool.stream_n[k, tables.JOB_ON])
        self.clock_n[tables.UNDER_WAY] -= under_way
        other.clock_n[tables.UNDER_WAY] += under_way
        waiting = [int(one) for one in self._heaps[2, : self.clock_n[tables.DIRTY_ONES]] if one != k]
        self._heaps[2, : len(waiting)], self.clock_n[tables.DIRTY_ONES] = waiting, len(waiting)
        self.pool.stream_n[k, tables.DIRTY] = 0
        count = int(self.clock_n[tables.TIMERS])
        timers, kinds = self._timer[:count].copy(), self._timer_n[:count].copy()
        leaving = kinds[:, tables.KIND] == tables.LEAVES
        owners = np.where(
            leaving,
            self.pool.request_n[np.where(leaving, kinds[:, tables.SUBJECT], 0), tables.OWNER],
            kinds[:, tables.SUBJECT],
        )
        self.clock_n[tables.TIMERS] = 0
        other._make_timers(int((owners == k).sum()) + 1)
        for when_s, (kind, subject, check), owner in zip(timers.tolist(), kinds.tolist(), owners.tolist(), strict=True):
            (other if owner == k else self)._act(tables.TIMER + kind, subject, when_s, check)
        self.members = self.members[self.members != k]
        other.members = np.sort(np.append(other.members, k))
        for column, now in (
            (tables.SERVICE_AT, tables.CLOCK),
            (tables.USE_AT, tables.USE),
            (tables.JOB_AT, tables.JOB_CLOCK),
        ):
            self.pool.stream[k, column] = other.clock[now]
        other._act(tables.JOIN, k)
        other._act(tables.TIMER + tables.WAKES, k, other.now_s)

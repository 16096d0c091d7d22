"""Streams, requests and batches of a simulation: what its devices have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from orric.latency import BUCKETS
from orric.simulation.discipline import Discipline
from orric.simulation.fates import WAITING
from orric.simulation.processor import tables
from orric.simulation.queueing import PHASES

Array = np.ndarray[Any, Any]
POLICIES = {"even": tables.EVEN, "newest": tables.NEWEST, "oldest": tables.OLDEST, "keep-latest": tables.KEEP_LATEST}
SMALL = 1024


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
            np.zeros((count, tables.STREAM_NUMBERS)),
            np.zeros((count, tables.STREAM_COUNTS), np.int64),
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
            numbers[tables.WAIT_S], numbers[tables.DEADLINE_S] = one.wait_s, one.deadline_s
            numbers[tables.PATIENCE_S], numbers[tables.THINKING_S] = one.patience_s, one.thinking_s
            numbers[tables.TIMER_S] = -1.0
            counts[tables.HEAD] = counts[tables.TAIL] = counts[tables.PLACE] = counts[tables.JOB_PLACE] = -1
            counts[tables.WORKERS], counts[tables.MOST], counts[tables.CLIENTS] = one.workers, one.most, one.clients
            counts[tables.POLICY] = POLICIES[one.shed]
            counts[tables.LIMIT] = 1 if one.shed == "keep-latest" else one.limit
            counts[tables.RUN_VERSION], counts[tables.OFFSET] = -1, offset
            counts[tables.DRAWS] = closed.index(k) if one.clients else -1
            offset += one.workers
        self.batches = np.zeros(offset, np.int64)
        # How many requests one event can end: a whole batch, or all that wait under keep-latest after a loss.
        self.most = max(
            (one.most * (one.workers if one.shed == "keep-latest" else 1) for one in disciplines), default=1
        )
        self.request, self.request_n = np.zeros((0, 3)), np.zeros((0, 5), np.int64)
        self.batch, self.batch_n = np.zeros((0, 2)), np.zeros((0, 4), np.int64)
        self.pool_n = np.full(tables.POOL_COUNTS, -1, np.int64)
        self.pool_n[tables.ROWS] = self.pool_n[tables.RUNS] = 0
        self.pool_n[tables.RECORDED] = record is not None
        self.counts = np.zeros((count, PHASES, BUCKETS), np.int64)
        rows = 2**14
        self.out = np.empty((rows if record else 0, 3))
        self.out_n = np.empty((len(self.out), 4), np.int64)
        self.runs = np.empty((rows, 4), np.int64)
        self.one, self.scratch = np.zeros((1, 7)), np.zeros(1)
        # Answers since a stream was last asked, by version: how many, how many of them in time.
        self.answered: list[dict[int, list[int]]] = [{} for _ in disciplines]
        self._free = 0
        self.make_room(SMALL)

    def make_room(self, requests: int) -> None:
        """Let so many more requests be present than now."""
        present = int(self.stream_n[:, tables.QUEUED].sum() + self.stream_n[:, tables.IN_SERVICE].sum())
        for name, need in (
            ("request", present + requests + 1),
            ("batch", min(present + requests, len(self.batches)) + 1),
        ):
            numbers, counts = getattr(self, name), getattr(self, f"{name}_n")
            old, first = len(numbers), tables.FREE_REQUEST if name == "request" else tables.FREE_BATCH
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

    def make_results(self, most: int) -> None:
        """Let results and draws have room for so many at once, and more, so that they are seldom seen to."""
        if 4 * most > len(self.runs):
            self.drain()
            rows = 8 * most
            self.runs = np.empty((rows, 4), np.int64)
            if self.record is not None:
                self.out, self.out_n = np.empty((rows, 3)), np.empty((rows, 4), np.int64)
        there = self.draws.shape[2]
        if len(self.draws) and 4 * most > there:
            for k in self.sources:
                self.refill(k)
            more = np.empty((len(self.draws), 3, 8 * most))
            more[:, :, :there] = self.draws
            self.draws = more
            for k, sources in self.sources.items():
                for kind, source in enumerate(sources):
                    more[int(self.stream_n[k, tables.DRAWS]), kind, there:] = source(8 * most - there)

    def drain(self) -> None:
        """Take out what the tables of results hold."""
        rows, runs = int(self.pool_n[tables.ROWS]), int(self.pool_n[tables.RUNS])
        for k, version, answered, timely in self.runs[:runs].tolist():
            here = self.answered[k].setdefault(version, [0, 0])
            here[0] += answered
            here[1] += timely
        if rows and self.record is not None:
            streams = self.out_n[:rows, tables.OUT_STREAM]
            order = np.argsort(streams, kind="stable")
            edges = np.flatnonzero(np.diff(streams[order])) + 1
            for part in np.split(order, edges):
                self.record(int(streams[part[0]]), self.out_n[part, 1:], self.out[part])
        self.pool_n[tables.ROWS] = self.pool_n[tables.RUNS] = 0

    def refill(self, k: int) -> None:
        """Draw anew what a closed stream has used of its draws."""
        row = int(self.stream_n[k, tables.DRAWS])
        for kind, source in enumerate(self.sources[k]):
            used = int(self.draws_n[row, kind])
            left = self.draws[row, kind, used:].copy()
            self.draws[row, kind] = np.concatenate([left, source(used)])
            self.draws_n[row, kind] = 0

    def redraw(self, k: int, kind: int, source: Callable[[int], Array]) -> None:
        """Let a kind of a closed stream's draws come from another source from now on."""
        row = int(self.stream_n[k, tables.DRAWS])
        self.sources[k][kind] = source
        self.draws[row, kind], self.draws_n[row, kind] = source(self.draws.shape[2]), 0

    def waiting(self, k: int) -> int:
        """Return how many requests of a stream wait or are in service."""
        return int(self.stream_n[k, tables.QUEUED] + self.stream_n[k, tables.IN_SERVICE])

    def in_service(self, k: int, version: int) -> int:
        """Return how many of them are in service that were begun under a version."""
        offset, count = self.stream_n[k, tables.OFFSET], self.stream_n[k, tables.BATCHES]
        here = self.batches[offset : offset + count]
        return int(self.batch_n[here[self.batch_n[here, tables.VERSION_OF] == version], tables.SIZE].sum())

    def left_waiting(self, k: int) -> tuple[Array, Array]:
        """Return numbers and times, as they are recorded, of the requests of a stream that are still there."""
        offset, count = self.stream_n[k, tables.OFFSET], self.stream_n[k, tables.BATCHES]
        columns = [tables.FIRST_OF, tables.SIZE, tables.VERSION_OF]
        begun = [
            (*self.batch_n[y, columns].tolist(), float(self.batch[y, tables.START_S]))
            for y in self.batches[offset : offset + count]
        ]
        begun.append((*self.stream_n[k, [tables.HEAD, tables.QUEUED]].tolist(), -1, float("nan")))
        numbers, times = [], []
        for x, size, version, start_s in begun:
            for _ in range(size):
                numbers.append((int(self.request_n[x, tables.NUMBER_OF]), version, WAITING))
                times.append((float(self.request[x, tables.ARRIVAL_S]), start_s, float("nan")))
                x = int(self.request_n[x, tables.NEXT])
        return np.array(numbers, np.int64).reshape(-1, 3), np.array(times).reshape(-1, 3)

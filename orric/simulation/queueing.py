"""First-in-first-out queues solved by a compiled loop: no event, and no Python, per request.

The requests of a stream wait in one queue for `workers` equal workers. A free worker starts a batch as soon as `most`
requests wait or the first of them has waited for `wait_s`. A batch of b requests is `fixed_s + b each_s` seconds of
work at speed 1, times a factor of its first request. Speeds change from stretch to stretch; work in progress goes on
at the new one, and nothing starts at speed 0. Of what happens at one instant, completions come first, then arrivals,
then starts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from orric.compiled import compiled
from orric.latency import BUCKETS, FIRST, SHIFT
from orric.simulation.discipline import Discipline
from orric.simulation.fates import IN_TIME as FATE_IN_TIME
from orric.simulation.fates import LATE as FATE_LATE
from orric.simulation.fates import SHED as FATE_SHED
from orric.simulation.fates import WAITING as FATE_WAITING
from orric.simulation.window import Window

Array = np.ndarray[Any, Any]
# A share that is exactly enough ends with the slot, but for rounding.
ROUNDING = 1e-9
PLAIN = Discipline()
# Columns of the stretches: their end, the speed of a worker while it is on, what share of the GPU it then uses, and,
# where it is on in slices only, the length of a round, when the first one began, and the slice's begin and length.
END_S, SPEED, USAGE, ROUND_S, ORIGIN_S, BEGIN_S, SLICE_S = range(7)
# Columns of their labels.
VERSION, PHASE = range(2)
PHASES = 3
# What a window adds up.
BUSY_S, USED_S, FINISH_S, SHED_S = range(4)
LATE, SHED, BATCHES, ROWS = range(4)


@compiled
def on_time(stretches: Array, k: int, time_s: float) -> Any:
    """Return how long the slices of stretch k have been on since their origin."""
    since_s = time_s - stretches[k, ORIGIN_S]
    rounds = np.floor(since_s / stretches[k, ROUND_S])
    within_s = since_s - rounds * stretches[k, ROUND_S] - stretches[k, BEGIN_S]
    return rounds * stretches[k, SLICE_S] + min(max(within_s, 0.0), stretches[k, SLICE_S])


@compiled
def finished(stretches: Array, slack_s: float, k: int, time_s: float, work_s: float) -> Any:
    """Work from a time within stretch k on; return when it is done (infinity: not by the end), what is left, the use.

    Use is in seconds at the whole GPU; done by the end is what is done by `slack_s` after it.
    """
    used_s = 0.0
    last = len(stretches) - 1
    while True:
        speed = stretches[k, SPEED]
        end_s = stretches[k, END_S]
        late_s = slack_s if k == last else 0.0
        if speed > 0.0:
            need_s = work_s / speed
            if stretches[k, ROUND_S] == 0.0:
                if time_s + need_s <= end_s + late_s:
                    return time_s + need_s, 0.0, used_s + need_s * stretches[k, USAGE]
                done_s = end_s - time_s
            elif stretches[k, SLICE_S] <= 0.0:
                done_s = 0.0
            else:
                on_s = on_time(stretches, k, time_s)
                # The last round that is not over; work that ends with a slice ends in it.
                rounds = max(np.ceil((on_s + need_s) / stretches[k, SLICE_S]) - 1.0, 0.0)
                within_s = stretches[k, BEGIN_S] + (on_s + need_s - rounds * stretches[k, SLICE_S])
                finish_s = max(stretches[k, ORIGIN_S] + rounds * stretches[k, ROUND_S] + within_s, time_s)
                if finish_s <= end_s + late_s:
                    return finish_s, 0.0, used_s + need_s * stretches[k, USAGE]
                if end_s == np.inf:
                    return np.inf, work_s, used_s
                done_s = on_time(stretches, k, end_s) - on_s
            work_s = max(work_s - done_s * speed, 0.0)
            used_s += done_s * stretches[k, USAGE]
        if k == last:
            return np.inf, work_s, used_s
        time_s = end_s
        k += 1


@compiled
def worked(stretches: Array, begin_s: float, work_s: float) -> Any:
    """Work from the begin of the first stretch on; return when it is done, what is left at the end, the use."""
    return finished(stretches, 0.0, 0, begin_s, work_s)


@compiled
def _count(latency_s: float, counts: Array, phase: int, scratch: Array, bits: Array) -> None:
    scratch[0] = latency_s
    place = (bits[0] >> SHIFT) - FIRST
    counts[phase, min(max(place, 0), BUCKETS - 1)] += 1


@compiled
def add_up(counts: Array, totals: Array, ranks: Array, places: Array) -> None:
    """Move the latencies of a slot into those of the run; say in which buckets some of them are.

    Args:
        counts: By phase, shape (PHASES, BUCKETS); 0 afterwards.
        totals: The same of the run.
        ranks: The how many-th latencies are sought, ascending from 1, shape (n,).
        places: Takes their buckets, shape (n,).
    """
    upto, n = 0, 0
    for bucket in range(BUCKETS):
        before = upto
        for phase in range(PHASES):
            count = counts[phase, bucket]
            if count > 0:
                totals[phase, bucket] += count
                counts[phase, bucket] = 0
                upto += count
        if upto > before:
            while n < len(ranks) and upto >= ranks[n]:
                places[n] = bucket
                n += 1


@compiled
def _serve(
    begin_s: float,
    stretches: Array,
    labels: Array,
    slack_s: float,
    arrivals: Array,
    factors: Array,
    numbers: Array,
    waiting: Array,
    waiting_factors: Array,
    waiting_numbers: Array,
    span: Array,
    most: int,
    wait_s: float,
    limit: int,
    fixed_s: float,
    each_s: float,
    deadline_s: float,
    free: Array,
    left: Array,
    begun: Array,
    sizes: Array,
    marks: Array,
    held: Array,
    held_numbers: Array,
    counts: Array,
    latencies_by: Array,
    served_by: Array,
    late_by: Array,
    sums: Array,
    tallies: Array,
    varied: bool,
    recorded: bool,
    rows: Array,
    row_numbers: Array,
    scratch: Array,
    bits: Array,
) -> None:
    """Serve one window; everything from `free` on is changed in place."""
    n, workers, base = len(arrivals), len(free), labels[0, VERSION]
    for w in range(workers):
        if sizes[w] > 0:
            base = min(base, marks[w, VERSION])
    head, tail = span[0], span[1]
    late, shed, batches, row = 0, 0, 0, 0
    current, served, doing = base, 0, 0
    latencies_s, busy_s, used_s, finishes_s, refused_s = 0.0, 0.0, 0.0, 0.0, 0.0
    end_s = stretches[-1, END_S]
    # What was in service goes on.
    for w in range(workers):
        if sizes[w] == 0:
            continue
        finish_s, rest, more_s = finished(stretches, slack_s, 0, begin_s, left[w])
        used_s += more_s
        busy_s += min(finish_s, end_s) - begin_s
        left[w] = rest
        if finish_s == np.inf:
            free[w] = np.inf
            continue
        free[w] = finish_s
        finishes_s += sizes[w] * (finish_s - begin_s)
        late_before = late
        for b in range(sizes[w]):
            latency_s = finish_s - held[w, b]
            latencies_by[marks[w, PHASE]] += latency_s
            late += latency_s > deadline_s
            _count(latency_s, counts, marks[w, PHASE], scratch, bits)
            if recorded:
                rows[row, 0], rows[row, 1], rows[row, 2] = held[w, b], begun[w], finish_s
                row_numbers[row, 0], row_numbers[row, 1] = held_numbers[w, b], marks[w, VERSION]
                row_numbers[row, 2] = FATE_LATE if latency_s > deadline_s else FATE_IN_TIME
                row += 1
        served_by[marks[w, VERSION] - base] += sizes[w]
        late_by[marks[w, VERSION] - base] += late - late_before
        sizes[w] = 0
    k, s, w, late_before = 0, 0, 0, late
    for other in range(workers):
        if free[other] < free[w]:
            w = other
    free_s, floor_s = free[w], begin_s
    last = len(stretches) - 1
    # Of the stretch of the last start; before there is one every start looks its stretch up.
    version, phase, speed, usage, edge_s, plain_s = base, 0, 1.0, 0.0, -np.inf, -np.inf
    if limit >= tail - head + n:
        # Nobody can be shed, so all are let in beforehand.
        waiting[tail : tail + n] = arrivals
        if varied:
            waiting_factors[tail : tail + n] = factors
        if recorded:
            waiting_numbers[tail : tail + n] = numbers
        tail += n
        k = n
    one_by_one = k == n and workers == 1 and most == 1 and not varied and not recorded
    while True:
        start_s, at = np.inf, s
        if head < tail:
            ready_s = waiting[head] + wait_s
            if head + most <= tail:
                ready_s = min(ready_s, waiting[head + most - 1])
            start_s = max(free_s, max(ready_s, floor_s))
            if start_s >= edge_s:
                while at <= last and (stretches[at, END_S] <= start_s or stretches[at, SPEED] == 0.0):
                    start_s = max(start_s, stretches[at, END_S])
                    at += 1
        if k < n and (arrivals[k] < start_s or (arrivals[k] == start_s and tail - head < limit)):
            # Whoever comes may fill the batch, so the start is found anew; a full queue lets a batch start first.
            if tail - head < limit:
                waiting[tail] = arrivals[k]
                if varied:
                    waiting_factors[tail] = factors[k]
                if recorded:
                    waiting_numbers[tail] = numbers[k]
                tail += 1
            else:
                shed += 1
                refused_s += arrivals[k] - begin_s
                if recorded:
                    rows[row, 0], rows[row, 1], rows[row, 2] = arrivals[k], np.nan, arrivals[k]
                    row_numbers[row, 0], row_numbers[row, 1], row_numbers[row, 2] = numbers[k], -1, FATE_SHED
                    row += 1
            k += 1
        elif start_s >= end_s:
            break
        else:
            if at != s or edge_s == -np.inf:
                s = at
                version, phase = labels[s, VERSION], labels[s, PHASE]
                speed, usage, edge_s = stretches[s, SPEED], stretches[s, USAGE], stretches[s, END_S]
                # Work in slices never ends the plain way.
                plain_s = edge_s if stretches[s, ROUND_S] == 0.0 else -np.inf
            # A worker that was free before a pause does not start before it is over.
            floor_s = start_s
            size = 1
            while size < most and head + size < tail and waiting[head + size] <= start_s:
                size += 1
            work_s = fixed_s + size * each_s
            if varied:
                work_s *= waiting_factors[head]
            # Most work ends within its stretch; `finished` would say the same.
            finish_s, rest = start_s + work_s / speed, 0.0
            if finish_s <= plain_s:
                used_s += (finish_s - start_s) * usage
                busy_s += finish_s - start_s
            else:
                finish_s, rest, more_s = finished(stretches, slack_s, s, start_s, work_s)
                used_s += more_s
                busy_s += min(finish_s, end_s) - start_s
            batches += 1
            server, free_s = w, finish_s
            if workers > 1:
                free[w] = finish_s
                for other in range(workers):
                    if free[other] < free[w]:
                        w = other
                free_s = free[w]
            if finish_s < np.inf:
                finishes_s += size * (finish_s - begin_s)
                if version != current:
                    served_by[current - base] += served
                    late_by[current - base] += late - late_before
                    current, served, late_before = version, 0, late
                if phase != doing:
                    latencies_by[doing] += latencies_s
                    doing, latencies_s = phase, 0.0
                for b in range(head, head + size):
                    latency_s = finish_s - waiting[b]
                    latencies_s += latency_s
                    late += latency_s > deadline_s
                    _count(latency_s, counts, phase, scratch, bits)
                    if recorded:
                        rows[row, 0], rows[row, 1], rows[row, 2] = waiting[b], start_s, finish_s
                        row_numbers[row, 0], row_numbers[row, 1] = waiting_numbers[b], version
                        row_numbers[row, 2] = FATE_LATE if latency_s > deadline_s else FATE_IN_TIME
                        row += 1
                served += size
            else:
                left[server], begun[server], sizes[server] = rest, start_s, size
                marks[server, VERSION], marks[server, PHASE] = version, phase
                for b in range(size):
                    held[server, b] = waiting[head + b]
                    if recorded:
                        held_numbers[server, b] = waiting_numbers[head + b]
            head += size
            if not one_by_one or finish_s == np.inf:
                continue
            # The same once more for what is commonest, as long as requests end within the stretch.
            need_s, first = work_s / speed, head
            while head < tail:
                arrival_s = waiting[head]
                start_s = max(free_s, arrival_s)
                finish_s = start_s + need_s
                if start_s >= edge_s or finish_s > plain_s:
                    break
                free_s = finish_s
                latency_s = finish_s - arrival_s
                latencies_s += latency_s
                finishes_s += finish_s - begin_s
                late += latency_s > deadline_s
                _count(latency_s, counts, phase, scratch, bits)
                head += 1
            served += head - first
            batches += head - first
            busy_s += (head - first) * need_s
            used_s += (head - first) * need_s * usage
    if workers == 1:
        free[0] = free_s
    served_by[current - base] += served
    late_by[current - base] += late - late_before
    span[0], span[1] = head, tail
    latencies_by[doing] += latencies_s
    sums[BUSY_S], sums[USED_S], sums[FINISH_S], sums[SHED_S] = busy_s, used_s, finishes_s, refused_s
    tallies[LATE], tallies[SHED], tallies[BATCHES], tallies[ROWS] = late, shed, batches, row


class Queue:
    """The requests of one stream that wait or are in service.

    Args:
        discipline: How they are served.
        recorded: Whether to return the times of every request.
    """

    def __init__(self, discipline: Discipline = PLAIN, recorded: bool = False) -> None:
        self.discipline, self.recorded = discipline, recorded
        workers, most = discipline.workers, discipline.most
        self._waiting, self._factors, self._numbers = np.empty(0), np.empty(0), np.empty(0, np.int64)
        self._span = np.zeros(2, np.int64)
        self._arrived = 0
        self._free, self._left, self._begun = np.zeros(workers), np.zeros(workers), np.zeros(workers)
        self._sizes, self._marks = np.zeros(workers, np.int64), np.zeros((workers, 2), np.int64)
        self._held, self._held_numbers = np.zeros((workers, most)), np.zeros((workers, most), np.int64)
        self._scratch = np.zeros(1)

    @property
    def waiting(self) -> int:
        """Requests that arrived, were not shed and are not served yet, those in service included."""
        return int(self._span[1] - self._span[0] + self._sizes.sum())

    def in_service(self, version: int) -> int:
        """Return how many of them are in service that were begun under a version."""
        return int(self._sizes[self._marks[:, VERSION] == version].sum())

    def present_s(self, now_s: float) -> float:
        """Return how long all of them together have been present."""
        head, tail = self._span
        there = float((now_s - self._waiting[head:tail]).sum())
        return there + sum(float((now_s - self._held[w, :size]).sum()) for w, size in enumerate(self._sizes))

    def advance(
        self,
        begin_s: float,
        stretches: Array,
        labels: Array,
        arrivals: Array,
        fixed_s: float,
        each_s: float,
        factors: Array | None = None,
        slack_s: float = 0.0,
        numbers: Array | None = None,
        counts: Array | None = None,
    ) -> Window:
        """Serve from one time to another.

        Args:
            begin_s: Begin of the window: the end of the one before.
            stretches: The window's stretches, without a gap; one row each, columns as above, shape (m, 7).
            labels: Version (never falling) and phase of each stretch, shape (m, 2).
            arrivals: Times of the new requests, ascending, before the window's end, shape (n,).
            fixed_s: Work of a batch, whatever its size, in seconds at speed 1.
            each_s: Work for each request of a batch.
            factors: What the work is multiplied by, shape (n,): a batch takes that of its first request.
            slack_s: How long after the window's end work may end and still count as done in it.
            numbers: Of the requests, shape (n,); those that follow the ones before where left out.
            counts: Latencies are counted in here, shape (PHASES, BUCKETS), else in a new table.
        """
        count, discipline = len(arrivals), self.discipline
        given = np.empty(0) if factors is None else factors
        before = self.waiting
        self._make_room(count, factors is not None)
        oldest: int = min([int(labels[0, VERSION]), *self._marks[self._sizes > 0, VERSION].tolist()])
        counts, latencies_s = np.zeros((PHASES, BUCKETS), np.int64) if counts is None else counts, np.zeros(PHASES)
        served_by = np.zeros(int(labels[-1, VERSION]) - oldest + 1, np.int64)
        late_by = np.zeros_like(served_by)
        if numbers is None:
            numbers = self._arrived + np.arange(count if self.recorded else 0)
            self._arrived += count
        sums, tallies = np.zeros(4), np.zeros(4, np.int64)
        room = count + self.waiting if self.recorded else 0
        rows, row_numbers = np.empty((room, 3)), np.empty((room, 3), np.int64)
        _serve(
            begin_s, stretches, labels, slack_s, arrivals, given, numbers, self._waiting, self._factors,
            self._numbers, self._span, discipline.most, discipline.wait_s, discipline.limit, fixed_s, each_s,
            discipline.deadline_s, self._free, self._left, self._begun, self._sizes, self._marks, self._held,
            self._held_numbers, counts, latencies_s, served_by, late_by, sums, tallies, factors is not None,
            self.recorded, rows, row_numbers, self._scratch, self._scratch.view(np.int64),
        )  # fmt: skip
        done = tallies[ROWS]
        length_s = float(stretches[-1, END_S]) - begin_s
        came_s = float(arrivals.sum()) - count * begin_s - sums[SHED_S]
        present_s = (before + count - tallies[SHED]) * length_s - came_s
        present_s -= int(served_by.sum()) * length_s - sums[FINISH_S]
        return Window(
            counts=counts,
            latencies_s=latencies_s,
            served_by={oldest + k: int(one) for k, one in enumerate(served_by) if one},
            late_by={oldest + k: int(one) for k, one in enumerate(late_by) if one},
            shed=int(tallies[SHED]),
            batches=int(tallies[BATCHES]),
            busy_s=float(sums[BUSY_S]),
            used_s=float(sums[USED_S]),
            present_s=float(present_s),
            numbers=row_numbers[:done] if self.recorded else None,
            times_s=rows[:done] if self.recorded else None,
        )

    def left_waiting(self) -> tuple[Array, Array]:
        """Return numbers and times, as they are recorded, of the requests that are still there."""
        head, tail = self._span
        numbers, times = [], []
        for w, size in enumerate(self._sizes.tolist()):
            for b in range(size):
                numbers.append((int(self._held_numbers[w, b]), int(self._marks[w, VERSION]), FATE_WAITING))
                times.append((float(self._held[w, b]), float(self._begun[w]), np.nan))
        for number, arrival_s in zip(self._numbers[head:tail].tolist(), self._waiting[head:tail].tolist(), strict=True):
            numbers.append((number, -1, FATE_WAITING))
            times.append((arrival_s, np.nan, np.nan))
        return np.array(numbers, np.int64).reshape(-1, 3), np.array(times).reshape(-1, 3)

    def _make_room(self, count: int, varied: bool) -> None:
        """Move the waiting requests to the front, and let `count` more fit behind them."""
        head, tail = self._span
        size = tail - head
        if tail + count <= len(self._waiting):
            return
        room = max(2 * int(size + count), 1024)
        for name, used in (("_waiting", True), ("_factors", varied), ("_numbers", self.recorded)):
            old = getattr(self, name)
            new = np.empty(room if used else 0, old.dtype)
            if used:
                new[:size] = old[head:tail]
            setattr(self, name, new)
        self._span[:] = 0, size

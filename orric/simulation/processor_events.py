"""One device and all that shares it, event by event: the compiled loop beneath `processor`.

Streams that serve and retrainings under way share a device by weights (generalised processor sharing; Parekh and
Gallager 1993). Two clocks of service, one for serving and one for retraining, run at the speed that a unit of weight
gets: whoever has work ends when its clock reaches a number that is known when the work begins, so an event costs a
heap's logarithm, and nobody else is touched. The discipline of a stream's queue is that of `queueing`, with shedding,
impatience and clients that wait for their answers besides.

State lies in a few tables, one row per stream, request, batch or timer, whose columns are named here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from orric.compiled import compiled, compiled_part
from orric.latency import BUCKETS, FIRST, SHIFT
from orric.simulation.fates import ABANDONED, IN_TIME, LATE, LOST, SHED
from orric.simulation.queueing import END_S, ROUND_S, SPEED, USAGE, finished, on_time
from orric.simulation.queueing import PHASE as PHASE_LABEL
from orric.simulation.queueing import VERSION as VERSION_LABEL

Array = np.ndarray[Any, Any]

# How a device is shared: each worker has a part of its own whatever the others do; by weights; retraining in the gaps.
PARTITION, WEIGHTED, PRIORITY = range(3)
# Who is turned away when a queue is full.
EVEN, NEWEST, OLDEST, KEEP_LATEST = range(4)
# Why the loop came back: the time is up, a retraining is done, there is no room or there are no draws left.
UP, DONE, DRAIN = range(3)

# Columns of a stream: numbers.
(
    WEIGHT, SERVICE, SERVICE_AT, USE_AT, TOUCHED_S, KEY, FIXED_S, EACH_S, WAIT_S, DEADLINE_S, PATIENCE_S, THINKING_S,
    DOWN_S, PAUSED_S, PLANNED, TIMER_S, BUSY_S, USED_S, STAYED_S, ENTERED_S, LEFT_S, LATENCY_S, _LATENCY_1, _LATENCY_2,
    JOB_WEIGHT, JOB_LEFT_S, JOB_AT, JOB_KEY,
) = range(28)  # fmt: skip
STREAM_NUMBERS = 28
# Columns of a stream: counts and places.
(
    HEAD, TAIL, QUEUED, BATCHES, WORKERS, MOST, LIMIT, POLICY, VERSION, PHASE, NUMBER, SEEN, ACTIVE, DIRTY, PLACE,
    JOB_PLACE, OFFSET, IN_SERVICE, ENTERED, LEFT, N_SHED, N_ABANDONED, N_LOST, N_LATE, N_BATCHES, N_SERVED, RUN_VERSION,
    RUN_COUNT, RUN_IN_TIME, CLIENTS, PER_BATCH, DRAWS, FREE_OF_WORK, JOB_ON, ARRIVED,
) = range(35)  # fmt: skip
STREAM_COUNTS = 35
# Columns of a request that waits or is in service.
ARRIVAL_S, FACTOR, UNTIL_S = range(3)
NEXT, BEFORE, NUMBER_OF, STATE, OWNER = range(5)
FREE, IN_QUEUE, BEGUN = range(3)
# Columns of a batch in service.
TAG, START_S = range(2)
FIRST_OF, SIZE, VERSION_OF, PHASE_OF = range(4)
# Columns of a timer.
WHEN_S = 0
KIND, SUBJECT, CHECK = range(3)
LEAVES, WAKES, COMES = range(3)
# The clock's own numbers and counts.
(
    NOW_S,
    CLOCK,
    USE,
    JOB_CLOCK,
    POOL,
    GRAIN_S,
    GRAIN_LEFT_S,
    SLOWDOWN,
    BEGIN_S,
    SLACK_S,
    SERVING_WEIGHT,
    RETRAINING_WEIGHT,
) = range(12)
CLOCK_NUMBERS = 12
(
    MODE, BUSY, WORKING, UNDER_WAY, TIMERS, NEXT_ARRIVAL, IN_GRAIN, DIRTY_ONES, WHO, STRETCH,
) = range(10)  # fmt: skip
CLOCK_COUNTS = 10
# What all devices of a simulation have in common: the first free rows, rows in use, whether requests are recorded.
FREE_REQUEST, FREE_BATCH, ROWS, RUNS, RECORDED = range(5)
POOL_COUNTS = 5
# Columns of what comes out: requests, and how many of a version were answered.
OUT_ARRIVAL_S, OUT_START_S, OUT_END_S = range(3)
OUT_STREAM, OUT_NUMBER, OUT_VERSION, OUT_FATE = range(4)
RUN_STREAM, RUN_OF, RUN_ANSWERED, RUN_TIMELY = range(4)
NEVER = np.inf
# Of a clock's reading: what rounding leaves.
NOTHING = 1e-13


class Tables(NamedTuple):
    """All state of the streams of a simulation, and of the clock of one device."""

    stream: Array
    stream_n: Array
    request: Array
    request_n: Array
    batch: Array
    batch_n: Array
    batches: Array
    timer: Array
    timer_n: Array
    serving: Array
    retraining: Array
    dirty: Array
    clock: Array
    clock_n: Array
    pool_n: Array
    draws: Array
    draws_n: Array
    counts: Array
    out: Array
    out_n: Array
    runs: Array
    scratch: Array
    bits: Array


# Draws of a stream whose clients wait for their answers.
THOUGHT, WORK, PATIENCE = range(3)


@compiled_part
def _rise(heap: Array, t: Tables, key: int, place: int, at: int) -> None:
    k = heap[at]
    while at > 0:
        above = (at - 1) // 2
        if t.stream[heap[above], key] <= t.stream[k, key]:
            break
        heap[at] = heap[above]
        t.stream_n[heap[at], place] = at
        at = above
    heap[at] = k
    t.stream_n[k, place] = at


@compiled_part
def _sink(heap: Array, size: int, t: Tables, key: int, place: int, at: int) -> None:
    k = heap[at]
    while 2 * at + 1 < size:
        below = 2 * at + 1
        if below + 1 < size and t.stream[heap[below + 1], key] < t.stream[heap[below], key]:
            below += 1
        if t.stream[k, key] <= t.stream[heap[below], key]:
            break
        heap[at] = heap[below]
        t.stream_n[heap[at], place] = at
        at = below
    heap[at] = k
    t.stream_n[k, place] = at


@compiled_part
def _insert(heap: Array, size: int, t: Tables, key: int, place: int, k: int) -> None:
    heap[size] = k
    _rise(heap, t, key, place, size)


@compiled_part
def _remove(heap: Array, size: int, t: Tables, key: int, place: int, k: int) -> None:
    at = t.stream_n[k, place]
    if at < size - 1:
        heap[at] = heap[size - 1]
        t.stream_n[heap[at], place] = at
        moved = heap[at]
        _sink(heap, size - 1, t, key, place, at)
        _rise(heap, t, key, place, t.stream_n[moved, place])
    t.stream_n[k, place] = -1


@compiled_part
def _sooner(t: Tables, a: int, b: int) -> Any:
    if t.timer[a] != t.timer[b]:
        return t.timer[a] < t.timer[b]
    if t.timer_n[a, KIND] != t.timer_n[b, KIND]:
        return t.timer_n[a, KIND] < t.timer_n[b, KIND]
    return t.timer_n[a, CHECK] < t.timer_n[b, CHECK]


@compiled_part
def _swap_timers(t: Tables, a: int, b: int) -> None:
    t.timer[a], t.timer[b] = t.timer[b], t.timer[a]
    for column in range(3):
        kept = t.timer_n[a, column]
        t.timer_n[a, column] = t.timer_n[b, column]
        t.timer_n[b, column] = kept


@compiled
def set_timer(t: Tables, when_s: float, kind: int, subject: int, check: int) -> None:
    """Let something happen later."""
    at = t.clock_n[TIMERS]
    t.clock_n[TIMERS] += 1
    t.timer[at] = when_s
    t.timer_n[at, KIND], t.timer_n[at, SUBJECT], t.timer_n[at, CHECK] = kind, subject, check
    while at > 0 and _sooner(t, at, (at - 1) // 2):
        _swap_timers(t, at, (at - 1) // 2)
        at = (at - 1) // 2


@compiled_part
def _drop_timer(t: Tables) -> None:
    """Take the first timer away."""
    t.clock_n[TIMERS] -= 1
    size, at = t.clock_n[TIMERS], 0
    _swap_timers(t, 0, size)
    while 2 * at + 1 < size:
        below = 2 * at + 1
        if below + 1 < size and _sooner(t, below + 1, below):
            below += 1
        if not _sooner(t, below, at):
            break
        _swap_timers(t, at, below)
        at = below


@compiled
def touch(t: Tables, k: int) -> None:
    """Bring what a stream was served up to the clock."""
    now_s = t.clock[NOW_S]
    batches = t.stream_n[k, BATCHES]
    t.stream[k, BUSY_S] += batches * (now_s - t.stream[k, TOUCHED_S])
    t.stream[k, TOUCHED_S] = now_s
    if t.stream_n[k, ACTIVE]:
        weight = t.stream[k, WEIGHT]
        served, used = t.clock[CLOCK] - t.stream[k, SERVICE_AT], t.clock[USE] - t.stream[k, USE_AT]
        if t.stream_n[k, PER_BATCH]:
            t.stream[k, SERVICE] += weight * served
            t.stream[k, USED_S] += batches * weight * used
        else:
            t.stream[k, SERVICE] += weight / batches * served
            t.stream[k, USED_S] += weight * used
    t.stream[k, SERVICE_AT], t.stream[k, USE_AT] = t.clock[CLOCK], t.clock[USE]


@compiled
def leave(t: Tables, k: int) -> None:
    """Take a stream's serving off the device, to change it."""
    touch(t, k)
    if t.stream_n[k, ACTIVE]:
        _remove(t.serving, t.clock_n[BUSY], t, KEY, PLACE, k)
        t.clock_n[BUSY] -= 1
        times = t.stream_n[k, BATCHES] if t.stream_n[k, PER_BATCH] else 1
        t.clock[SERVING_WEIGHT] -= times * t.stream[k, WEIGHT]
        if t.clock_n[BUSY] == 0:
            # Rounding of many sums ends here.
            t.clock[SERVING_WEIGHT] = 0.0
        t.stream_n[k, ACTIVE] = 0


@compiled
def join(t: Tables, k: int) -> None:
    """Put a stream's serving back, if it has work, a weight and no pause."""
    batches, weight = t.stream_n[k, BATCHES], t.stream[k, WEIGHT]
    if batches == 0 or weight <= 0.0 or t.clock[NOW_S] < t.stream[k, PAUSED_S]:
        return
    per_batch = t.stream_n[k, PER_BATCH]
    left = t.batch[t.batches[t.stream_n[k, OFFSET]], TAG] - t.stream[k, SERVICE]
    t.stream[k, KEY] = t.clock[CLOCK] + left * (1 if per_batch else batches) / weight
    _insert(t.serving, t.clock_n[BUSY], t, KEY, PLACE, k)
    t.clock_n[BUSY] += 1
    t.clock[SERVING_WEIGHT] += (batches if per_batch else 1) * weight
    t.stream_n[k, ACTIVE] = 1


@compiled
def leave_job(t: Tables, k: int) -> None:
    """Take a stream's retraining off the device, to change it."""
    if t.stream_n[k, JOB_PLACE] >= 0:
        weight = t.stream[k, JOB_WEIGHT]
        t.stream[k, JOB_LEFT_S] = max(
            t.stream[k, JOB_LEFT_S] - weight * (t.clock[JOB_CLOCK] - t.stream[k, JOB_AT]), 0.0
        )
        _remove(t.retraining, t.clock_n[WORKING], t, JOB_KEY, JOB_PLACE, k)
        t.clock_n[WORKING] -= 1
        t.clock[RETRAINING_WEIGHT] -= weight
        if t.clock_n[WORKING] == 0:
            t.clock[RETRAINING_WEIGHT] = 0.0
    t.stream[k, JOB_AT] = t.clock[JOB_CLOCK]


@compiled
def join_job(t: Tables, k: int) -> None:
    """Put a stream's retraining back, if there is any and it has a weight."""
    weight = t.stream[k, JOB_WEIGHT]
    if not t.stream_n[k, JOB_ON] or weight <= 0.0:
        return
    t.stream[k, JOB_AT] = t.clock[JOB_CLOCK]
    t.stream[k, JOB_KEY] = t.clock[JOB_CLOCK] + t.stream[k, JOB_LEFT_S] / weight
    _insert(t.retraining, t.clock_n[WORKING], t, JOB_KEY, JOB_PLACE, k)
    t.clock_n[WORKING] += 1
    t.clock[RETRAINING_WEIGHT] += weight


@compiled
def begin_job(t: Tables, k: int, left_s: float) -> None:
    """Begin a stream's retraining, of so many seconds at the whole device."""
    t.stream[k, JOB_LEFT_S], t.stream_n[k, JOB_ON] = left_s, 1
    t.clock_n[UNDER_WAY] += 1
    join_job(t, k)


@compiled
def end_job(t: Tables, k: int) -> None:
    """End a stream's retraining, done or not; a grain ends with it."""
    leave_job(t, k)
    t.stream_n[k, JOB_ON] = 0
    t.clock_n[UNDER_WAY] -= 1
    t.clock_n[IN_GRAIN] = 0


@compiled
def set_weights(t: Tables, members: Array, serving: Array, retraining: Array, pool: float) -> None:
    """Let new shares hold from now on."""
    for n in range(len(members)):
        k = members[n]
        leave(t, k)
        leave_job(t, k)
        t.stream[k, WEIGHT], t.stream[k, JOB_WEIGHT] = serving[n], retraining[n]
        join(t, k)
        join_job(t, k)
        mark(t, k)
    t.clock[POOL] = pool


@compiled
def mark(t: Tables, k: int) -> None:
    """Remember to see whether a stream can start something."""
    if not t.stream_n[k, DIRTY]:
        t.stream_n[k, DIRTY] = 1
        t.dirty[t.clock_n[DIRTY_ONES]] = k
        t.clock_n[DIRTY_ONES] += 1


@compiled
def pause(t: Tables, k: int, until_s: float) -> None:
    """Let a stream stand still until a time."""
    if until_s > max(t.stream[k, PAUSED_S], t.clock[NOW_S]):
        leave(t, k)
        t.stream[k, PAUSED_S] = until_s
        set_timer(t, until_s, WAKES, k, 0)


@compiled_part
def _note(t: Tables, k: int, x: int, start_s: float, version: int, fate: int) -> None:
    """Write a request's end down."""
    now_s, arrival_s = t.clock[NOW_S], t.request[x, ARRIVAL_S]
    t.stream_n[k, LEFT] += 1
    t.stream[k, LEFT_S] += now_s - t.clock[BEGIN_S]
    t.stream[k, STAYED_S] += now_s - arrival_s
    if t.pool_n[RECORDED]:
        row = t.pool_n[ROWS]
        t.out[row, OUT_ARRIVAL_S], t.out[row, OUT_START_S], t.out[row, OUT_END_S] = arrival_s, start_s, now_s
        t.out_n[row, OUT_STREAM], t.out_n[row, OUT_NUMBER] = k, t.request_n[x, NUMBER_OF]
        t.out_n[row, OUT_VERSION], t.out_n[row, OUT_FATE] = version, fate
        t.pool_n[ROWS] += 1
    t.request_n[x, STATE] = FREE
    t.request_n[x, NEXT] = t.pool_n[FREE_REQUEST]
    t.pool_n[FREE_REQUEST] = x
    _think(t, k)


@compiled_part
def _think(t: Tables, k: int) -> None:
    """Let a client that has its answer think before it asks again."""
    if t.stream_n[k, CLIENTS]:
        row = t.stream_n[k, DRAWS]
        thought_s = t.stream[k, THINKING_S] * t.draws[row, THOUGHT, t.draws_n[row, THOUGHT]]
        t.draws_n[row, THOUGHT] += 1
        set_timer(t, t.clock[NOW_S] + thought_s, COMES, k, 0)


@compiled_part
def _unlink(t: Tables, k: int, x: int) -> None:
    """Take a request out of the queue."""
    after, before = t.request_n[x, NEXT], t.request_n[x, BEFORE]
    if before >= 0:
        t.request_n[before, NEXT] = after
    else:
        t.stream_n[k, HEAD] = after
    if after >= 0:
        t.request_n[after, BEFORE] = before
    else:
        t.stream_n[k, TAIL] = before
    t.stream_n[k, QUEUED] -= 1


@compiled_part
def _send_away(t: Tables, k: int, x: int, fate: int) -> None:
    """Let a request leave the queue without an answer."""
    _unlink(t, k, x)
    t.stream_n[k, N_SHED if fate == SHED else N_ABANDONED if fate == ABANDONED else N_LOST] += 1
    _note(t, k, x, np.nan, -1, fate)


@compiled
def flush_run(t: Tables, k: int) -> None:
    """Write down how many requests of a version were answered since the last such note."""
    if t.stream_n[k, RUN_COUNT]:
        row = t.pool_n[RUNS]
        t.runs[row, RUN_STREAM], t.runs[row, RUN_OF] = k, t.stream_n[k, RUN_VERSION]
        t.runs[row, RUN_ANSWERED], t.runs[row, RUN_TIMELY] = t.stream_n[k, RUN_COUNT], t.stream_n[k, RUN_IN_TIME]
        t.pool_n[RUNS] += 1
        t.stream_n[k, RUN_COUNT] = t.stream_n[k, RUN_IN_TIME] = 0


@compiled_part
def _answer(t: Tables, k: int, x: int, start_s: float, version: int, phase: int) -> None:
    """Let a request leave with its answer."""
    latency_s = t.clock[NOW_S] - t.request[x, ARRIVAL_S]
    late = latency_s > t.stream[k, DEADLINE_S]
    t.stream_n[k, N_SERVED] += 1
    t.stream_n[k, N_LATE] += late
    t.stream[k, LATENCY_S + phase] += latency_s
    t.scratch[0] = latency_s
    place = (t.bits[0] >> SHIFT) - FIRST
    t.counts[k, phase, min(max(place, 0), BUCKETS - 1)] += 1
    if t.stream_n[k, RUN_VERSION] != version:
        flush_run(t, k)
        t.stream_n[k, RUN_VERSION] = version
    t.stream_n[k, RUN_COUNT] += 1
    t.stream_n[k, RUN_IN_TIME] += not late
    _note(t, k, x, start_s, version, LATE if late else IN_TIME)


@compiled_part
def _push_batch(t: Tables, k: int, y: int) -> None:
    offset, at = t.stream_n[k, OFFSET], t.stream_n[k, BATCHES]
    while at > 0 and t.batch[t.batches[offset + (at - 1) // 2], TAG] > t.batch[y, TAG]:
        t.batches[offset + at] = t.batches[offset + (at - 1) // 2]
        at = (at - 1) // 2
    t.batches[offset + at] = y
    t.stream_n[k, BATCHES] += 1


@compiled_part
def _pop_batch(t: Tables, k: int) -> Any:
    offset = t.stream_n[k, OFFSET]
    first = t.batches[offset]
    t.stream_n[k, BATCHES] -= 1
    size, at = t.stream_n[k, BATCHES], 0
    last = t.batches[offset + size]
    while 2 * at + 1 < size:
        below = 2 * at + 1
        if below + 1 < size and t.batch[t.batches[offset + below + 1], TAG] < t.batch[t.batches[offset + below], TAG]:
            below += 1
        if t.batch[last, TAG] <= t.batch[t.batches[offset + below], TAG]:
            break
        t.batches[offset + at] = t.batches[offset + below]
        at = below
    t.batches[offset + at] = last
    return first


@compiled_part
def _stands_still(t: Tables, k: int, rows: Array) -> Any:
    if t.clock[NOW_S] < t.stream[k, PAUSED_S]:
        return True
    if t.clock_n[MODE] == PARTITION:
        return rows[t.clock_n[STRETCH], SPEED] == 0.0
    return not t.stream_n[k, FREE_OF_WORK] and (t.clock[POOL] <= 0.0 or t.stream[k, WEIGHT] <= 0.0)


@compiled_part
def _start(t: Tables, k: int, rows: Array, most: int) -> None:
    """Start what can start now, so many batches at most."""
    if t.stream_n[k, QUEUED] == 0 or t.stream_n[k, BATCHES] >= t.stream_n[k, WORKERS] or _stands_still(t, k, rows):
        return
    now_s, left = t.clock[NOW_S], False
    while most > 0 and t.stream_n[k, QUEUED] > 0 and t.stream_n[k, BATCHES] < t.stream_n[k, WORKERS]:
        head, size = t.stream_n[k, HEAD], min(t.stream_n[k, QUEUED], t.stream_n[k, MOST])
        ready_s = t.request[head, ARRIVAL_S] + t.stream[k, WAIT_S]
        if size < t.stream_n[k, MOST] and now_s < ready_s:
            if t.stream[k, TIMER_S] != ready_s:
                t.stream[k, TIMER_S] = ready_s
                set_timer(t, ready_s, WAKES, k, 0)
            break
        most -= 1
        t.stream_n[k, N_BATCHES] += 1
        if t.stream_n[k, FREE_OF_WORK]:
            for _ in range(size):
                x = t.stream_n[k, HEAD]
                _unlink(t, k, x)
                _answer(t, k, x, now_s, t.stream_n[k, VERSION], t.stream_n[k, PHASE])
            # One batch at a time, as rows of results are.
            mark(t, k)
            break
        if not left:
            leave(t, k)
            left = True
        y = t.pool_n[FREE_BATCH]
        t.pool_n[FREE_BATCH] = t.batch_n[y, FIRST_OF]
        work_s = (t.stream[k, FIXED_S] + size * t.stream[k, EACH_S]) * t.request[head, FACTOR]
        t.batch[y, TAG], t.batch[y, START_S] = t.stream[k, SERVICE] + work_s, now_s
        t.batch_n[y, FIRST_OF], t.batch_n[y, SIZE] = head, size
        t.batch_n[y, VERSION_OF], t.batch_n[y, PHASE_OF] = t.stream_n[k, VERSION], t.stream_n[k, PHASE]
        x = head
        for _ in range(size):
            t.request_n[x, STATE] = BEGUN
            x = t.request_n[x, NEXT]
        t.stream_n[k, HEAD] = x
        if x >= 0:
            t.request_n[x, BEFORE] = -1
        else:
            t.stream_n[k, TAIL] = -1
        t.stream_n[k, QUEUED] -= size
        t.stream_n[k, IN_SERVICE] += size
        _push_batch(t, k, y)
    if left:
        join(t, k)


@compiled_part
def _complete(t: Tables, k: int) -> None:
    """Answer the batch of a stream that is done."""
    leave(t, k)
    y = _pop_batch(t, k)
    # Exactly, whatever rounding the clock has seen.
    t.stream[k, SERVICE] = t.batch[y, TAG]
    x, size = t.batch_n[y, FIRST_OF], t.batch_n[y, SIZE]
    t.stream_n[k, IN_SERVICE] -= size
    for _ in range(size):
        after = t.request_n[x, NEXT]
        _answer(t, k, x, t.batch[y, START_S], t.batch_n[y, VERSION_OF], t.batch_n[y, PHASE_OF])
        x = after
    t.batch_n[y, FIRST_OF] = t.pool_n[FREE_BATCH]
    t.pool_n[FREE_BATCH] = y
    if t.stream_n[k, BATCHES] == 0:
        t.stream[k, SERVICE] = 0.0
    join(t, k)
    mark(t, k)


@compiled_part
def _arrive(t: Tables, k: int, factor: float, patience: float, admitted: bool, rows: Array) -> None:
    """Let a request come now, and in, if it may."""
    now_s = t.clock[NOW_S]
    x = t.pool_n[FREE_REQUEST]
    t.pool_n[FREE_REQUEST] = t.request_n[x, NEXT]
    t.request[x, ARRIVAL_S], t.request[x, FACTOR], t.request[x, UNTIL_S] = now_s, factor, NEVER
    t.request_n[x, NUMBER_OF] = t.stream_n[k, NUMBER]
    t.stream_n[k, NUMBER] += 1
    t.stream_n[k, ARRIVED] += 1
    t.stream_n[k, ENTERED] += 1
    t.stream[k, ENTERED_S] += now_s - t.clock[BEGIN_S]
    turned_away = IN_TIME
    if not admitted:
        turned_away = SHED
    elif now_s < t.stream[k, DOWN_S]:
        turned_away = LOST
    else:
        if t.stream_n[k, QUEUED] >= t.stream_n[k, LIMIT]:
            # Whoever can be served at once is in nobody's way.
            _start(t, k, rows, 1)
        if t.stream_n[k, QUEUED] >= t.stream_n[k, LIMIT]:
            policy = t.stream_n[k, POLICY]
            if policy == OLDEST:
                _send_away(t, k, t.stream_n[k, HEAD], SHED)
            elif policy == KEEP_LATEST:
                while t.stream_n[k, QUEUED]:
                    _send_away(t, k, t.stream_n[k, HEAD], SHED)
            else:
                turned_away = SHED
    if turned_away != IN_TIME:
        t.stream_n[k, N_SHED if turned_away == SHED else N_LOST] += 1
        _note(t, k, x, np.nan, -1, turned_away)
        return
    tail = t.stream_n[k, TAIL]
    t.request_n[x, NEXT], t.request_n[x, BEFORE] = -1, tail
    t.request_n[x, STATE], t.request_n[x, OWNER] = IN_QUEUE, k
    if tail >= 0:
        t.request_n[tail, NEXT] = x
    else:
        t.stream_n[k, HEAD] = x
    t.stream_n[k, TAIL] = x
    t.stream_n[k, QUEUED] += 1
    if t.stream[k, PATIENCE_S] < NEVER:
        until_s = now_s + t.stream[k, PATIENCE_S] * patience
        t.request[x, UNTIL_S] = until_s
        set_timer(t, until_s, LEAVES, x, t.request_n[x, NUMBER_OF])
    mark(t, k)


@compiled_part
def _come(t: Tables, k: int, rows: Array) -> None:
    """Let a client ask that has thought."""
    row = t.stream_n[k, DRAWS]
    factor = t.draws[row, WORK, t.draws_n[row, WORK]]
    patience = t.draws[row, PATIENCE, t.draws_n[row, PATIENCE]]
    t.draws_n[row, WORK] += 1
    t.draws_n[row, PATIENCE] += 1
    t.stream_n[k, SEEN] += 1
    seen, part = t.stream_n[k, SEEN], t.stream[k, PLANNED]
    _arrive(t, k, factor, patience, np.floor(seen * part) > np.floor((seen - 1) * part), rows)


@compiled_part
def _take_batch(t: Tables, k: int, latest: bool) -> Any:
    """Take the batch out of service whose first request came first, or last; the heap is none any more then."""
    offset, chosen, number = t.stream_n[k, OFFSET], 0, -1
    for n in range(t.stream_n[k, BATCHES]):
        here = t.request_n[t.batch_n[t.batches[offset + n], FIRST_OF], NUMBER_OF]
        if number < 0 or (here > number) == latest:
            chosen, number = n, here
    y = t.batches[offset + chosen]
    t.stream_n[k, BATCHES] -= 1
    t.batches[offset + chosen] = t.batches[offset + t.stream_n[k, BATCHES]]
    return y


@compiled
def crash(t: Tables, k: int, until_s: float) -> None:
    """Lose all requests of a stream, and those that come until a time."""
    leave(t, k)
    while t.stream_n[k, BATCHES]:
        y = _take_batch(t, k, False)
        x = t.batch_n[y, FIRST_OF]
        for _ in range(t.batch_n[y, SIZE]):
            after = t.request_n[x, NEXT]
            t.stream_n[k, N_LOST] += 1
            _note(t, k, x, t.batch[y, START_S], t.batch_n[y, VERSION_OF], LOST)
            x = after
        t.batch_n[y, FIRST_OF] = t.pool_n[FREE_BATCH]
        t.pool_n[FREE_BATCH] = y
    t.stream_n[k, IN_SERVICE], t.stream[k, SERVICE] = 0, 0.0
    while t.stream_n[k, QUEUED]:
        _send_away(t, k, t.stream_n[k, HEAD], LOST)
    t.stream[k, DOWN_S] = max(t.stream[k, DOWN_S], until_s)


@compiled
def dissolve(t: Tables, k: int) -> None:
    """Let the requests in service wait again, at the head of the queue, as if their service had never begun."""
    leave(t, k)
    while t.stream_n[k, BATCHES]:
        # The one that came last first, so that each goes before those that came later.
        y = _take_batch(t, k, True)
        size, first = t.batch_n[y, SIZE], t.batch_n[y, FIRST_OF]
        x, before = first, -1
        for _ in range(size):
            t.request_n[x, STATE], t.request_n[x, BEFORE] = IN_QUEUE, before
            before = x
            x = t.request_n[x, NEXT]
        head = t.stream_n[k, HEAD]
        t.request_n[before, NEXT] = head
        if head >= 0:
            t.request_n[head, BEFORE] = before
        else:
            t.stream_n[k, TAIL] = before
        t.stream_n[k, HEAD] = first
        t.stream_n[k, QUEUED] += size
        t.batch_n[y, FIRST_OF] = t.pool_n[FREE_BATCH]
        t.pool_n[FREE_BATCH] = y
        if t.stream[k, PATIENCE_S] < NEVER:
            # Timers of those whose patience ended in service were dropped.
            x = first
            for _ in range(size):
                t.request[x, UNTIL_S] = max(t.request[x, UNTIL_S], t.clock[NOW_S])
                set_timer(t, t.request[x, UNTIL_S], LEAVES, x, t.request_n[x, NUMBER_OF])
                x = t.request_n[x, NEXT]
    t.stream_n[k, IN_SERVICE], t.stream[k, SERVICE] = 0, 0.0
    mark(t, k)


@compiled
def begin_slot(t: Tables, members: Array) -> None:
    """Begin to count anew, with clocks at 0, so that they keep their digits."""
    for n in range(len(members)):
        k = members[n]
        leave(t, k)
        leave_job(t, k)
    t.clock[CLOCK] = t.clock[USE] = t.clock[JOB_CLOCK] = 0.0
    t.clock[BEGIN_S] = t.clock[NOW_S]
    for n in range(len(members)):
        k = members[n]
        t.stream[k, SERVICE_AT] = t.stream[k, USE_AT] = t.stream[k, JOB_AT] = 0.0
        for column in (BUSY_S, USED_S, STAYED_S, ENTERED_S, LEFT_S, LATENCY_S, LATENCY_S + 1, LATENCY_S + 2):
            t.stream[k, column] = 0.0
        for column in (ENTERED, LEFT, N_SHED, N_ABANDONED, N_LOST, N_LATE, N_BATCHES, N_SERVED, ARRIVED, SEEN):
            t.stream_n[k, column] = 0
        join(t, k)
        join_job(t, k)


@compiled
def there_s(t: Tables, k: int) -> Any:
    """Return how long all requests of a stream that are there have been, together."""
    total_s, now_s, offset = 0.0, t.clock[NOW_S], t.stream_n[k, OFFSET]
    for n in range(t.stream_n[k, BATCHES] + 1):
        x, size = t.stream_n[k, HEAD], t.stream_n[k, QUEUED]
        if n < t.stream_n[k, BATCHES]:
            y = t.batches[offset + n]
            x, size = t.batch_n[y, FIRST_OF], t.batch_n[y, SIZE]
        for _ in range(size):
            total_s += now_s - t.request[x, ARRIVAL_S]
            x = t.request_n[x, NEXT]
    return total_s


@compiled_part
def _timer(t: Tables, rows: Array) -> None:
    """Let what the first timer is for happen."""
    when_s, subject, check = t.timer[0], t.timer_n[0, SUBJECT], t.timer_n[0, CHECK]
    kind = t.timer_n[0, KIND]
    _drop_timer(t)
    if kind == LEAVES:
        # Unless it was served or sent away meanwhile, and its row is another's.
        waits = t.request_n[subject, STATE] == IN_QUEUE and t.request_n[subject, NUMBER_OF] == check
        if waits and t.request[subject, UNTIL_S] == when_s:
            _send_away(t, t.request_n[subject, OWNER], subject, ABANDONED)
    elif kind == WAKES:
        leave(t, subject)
        join(t, subject)
        mark(t, subject)
    else:
        _come(t, subject, rows)


@compiled_part
def _full(t: Tables, most: int) -> Any:
    """Return whether one more event might find no room to write to, or no draws."""
    for row in range(len(t.draws_n)):
        for kind in range(3):
            if t.draws_n[row, kind] + most >= t.draws.shape[2]:
                return True
    full = t.pool_n[RECORDED] and t.pool_n[ROWS] + most >= len(t.out)
    return full or t.pool_n[RUNS] + most >= len(t.runs) or t.clock_n[TIMERS] + most >= len(t.timer)


@compiled
def run(
    t: Tables,
    rows: Array,
    labels: Array,
    member: int,
    arrivals: Array,
    arrivals_n: Array,
    until_s: float,
    slack_s: float,
    most: int,
) -> Any:
    """Let happen what happens until a time.

    Args:
        t: The tables, changed in place.
        rows: The stretches of a partition, from the present one on, columns as in `queueing`; one row else.
        labels: Their versions and phases.
        member: The stream of a partition.
        arrivals: Time, factor and patience of requests to come, ascending, shape (n, 3).
        arrivals_n: Their stream and whether they are admitted, shape (n, 2).
        until_s: Completions at this instant happen, arrivals and starts do not.
        slack_s: Completions until so long after it happen too.
        most: Rows that one event can fill.

    Returns:
        `UP`; `DONE` when a retraining is (of the stream in `WHO`), at the time then; `DRAIN` when tables are full.
    """
    partition, priority = t.clock_n[MODE] == PARTITION, t.clock_n[MODE] == PRIORITY
    one = rows[:1].copy()
    while True:
        if _full(t, most):
            return DRAIN
        now_s = t.clock[NOW_S]
        if t.clock_n[WORKING] == 0:
            t.clock_n[IN_GRAIN] = 0
        # What a unit of weight gets, of service and of the device.
        serving = use = working = 0.0
        at = t.clock_n[STRETCH]
        sliced = partition and rows[at, ROUND_S] > 0.0
        if partition:
            serving, use = rows[at, SPEED], rows[at, USAGE]
        elif t.clock[POOL] > 0.0:
            pool, here, there = t.clock[POOL], t.clock[SERVING_WEIGHT], t.clock[RETRAINING_WEIGHT]
            if not priority:
                if here + there > 0.0:
                    use = working = pool / (here + there)
            elif t.clock_n[IN_GRAIN] or t.clock_n[BUSY] == 0:
                working = pool / there if there > 0.0 else 0.0
            else:
                use = pool / here
            serving = use / t.clock[SLOWDOWN] if t.clock_n[UNDER_WAY] > 0 else use
        served_s = done_s = grain_s = stretch_s = timer_s = came_s = NEVER
        if t.clock_n[BUSY] > 0 and serving > 0.0:
            need = t.stream[t.serving[0], KEY] - t.clock[CLOCK]
            if sliced:
                one[0] = rows[at]
                one[0, END_S] = NEVER
                served_s = finished(one, 0.0, 0, now_s, need)[0]
            else:
                served_s = now_s + need / serving
        if t.clock_n[WORKING] > 0:
            key = t.stream[t.retraining[0], JOB_KEY]
            if key - t.clock[JOB_CLOCK] <= NOTHING * key:
                # Two that are done at once must not part because the first one's end lets serving go on.
                done_s = now_s
            elif working > 0.0:
                done_s = now_s + (key - t.clock[JOB_CLOCK]) / working
            if t.clock_n[IN_GRAIN] and working > 0.0:
                grain_s = now_s + t.clock[GRAIN_LEFT_S] / t.clock[POOL]
        if partition and at < len(rows) - 1:
            stretch_s = rows[at, END_S]
        if t.clock_n[TIMERS] > 0:
            timer_s = t.timer[0]
        if t.clock_n[NEXT_ARRIVAL] < len(arrivals):
            came_s = arrivals[t.clock_n[NEXT_ARRIVAL], 0]
        ended_s = min(served_s, done_s)
        next_s = max(min(min(ended_s, grain_s), min(stretch_s, min(timer_s, came_s))), now_s)
        if next_s > now_s and now_s < until_s:
            # Nothing else happens at this instant: whoever can starts, and retraining takes what is free.
            if t.clock_n[DIRTY_ONES] > 0:
                t.clock_n[DIRTY_ONES] -= 1
                k = t.dirty[t.clock_n[DIRTY_ONES]]
                t.stream_n[k, DIRTY] = 0
                _start(t, k, rows, t.stream_n[k, WORKERS])
                continue
            free = priority and t.clock_n[BUSY] == 0 and t.clock_n[WORKING] > 0 and t.clock[POOL] > 0.0
            if free and t.clock[GRAIN_S] > 0.0 and not t.clock_n[IN_GRAIN]:
                t.clock_n[IN_GRAIN], t.clock[GRAIN_LEFT_S] = 1, t.clock[GRAIN_S]
                continue
        ends = ended_s <= until_s + slack_s and ended_s <= next_s
        up = next_s >= until_s and not ends
        then_s = min(next_s, until_s)
        if then_s > now_s:
            if sliced:
                on_s = on_time(rows, at, then_s) - on_time(rows, at, now_s)
            else:
                on_s = then_s - now_s
            t.clock[CLOCK] += serving * on_s
            t.clock[USE] += use * on_s
            t.clock[JOB_CLOCK] += working * on_s
            if t.clock_n[IN_GRAIN]:
                t.clock[GRAIN_LEFT_S] -= t.clock[POOL] * on_s
            t.clock[NOW_S] = then_s
        if up:
            return UP
        if ends and served_s <= done_s:
            k = t.serving[0]
            t.clock[CLOCK] = t.stream[k, KEY]
            _complete(t, k)
        elif ends:
            k = t.retraining[0]
            t.clock[JOB_CLOCK] = t.stream[k, JOB_KEY]
            t.clock_n[WHO] = k
            end_job(t, k)
            return DONE
        elif grain_s <= next_s:
            t.clock_n[IN_GRAIN] = 0
        elif stretch_s <= next_s:
            t.clock_n[STRETCH] += 1
            at += 1
            flush_run(t, member)
            t.stream_n[member, VERSION], t.stream_n[member, PHASE] = labels[at, VERSION_LABEL], labels[at, PHASE_LABEL]
            mark(t, member)
        elif timer_s <= came_s:
            _timer(t, rows)
        else:
            n = t.clock_n[NEXT_ARRIVAL]
            t.clock_n[NEXT_ARRIVAL] += 1
            _arrive(t, arrivals_n[n, 0], arrivals[n, 1], arrivals[n, 2], arrivals_n[n, 1] > 0, rows)

"""What becomes of requests: they come, wait, are served, turned away, lose patience, are lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from orric.compiled import compiled_part
from orric.latency import BUCKETS, FIRST, SHIFT
from orric.simulation.fates import ABANDONED, IN_TIME, LATE, LOST, SHED
from orric.simulation.processor.clock import join, leave, mark
from orric.simulation.processor.heaps import set_timer
from orric.simulation.processor.tables import (
    ARRIVAL_S,
    ARRIVED,
    BATCHES,
    BEFORE,
    BEGIN_S,
    BEGUN,
    CLIENTS,
    COMES,
    DEADLINE_S,
    DOWN_S,
    DRAWS,
    EACH_S,
    ENTERED,
    ENTERED_S,
    FACTOR,
    FIRST_OF,
    FIXED_S,
    FREE,
    FREE_BATCH,
    FREE_OF_WORK,
    FREE_REQUEST,
    HEAD,
    IN_QUEUE,
    IN_SERVICE,
    KEEP_LATEST,
    LATENCY_S,
    LEAVES,
    LEFT,
    LEFT_S,
    LIMIT,
    MODE,
    MOST,
    N_ABANDONED,
    N_BATCHES,
    N_LATE,
    N_LOST,
    N_SERVED,
    N_SHED,
    NEVER,
    NEXT,
    NOW_S,
    NUMBER,
    NUMBER_OF,
    OFFSET,
    OLDEST,
    OUT_ARRIVAL_S,
    OUT_END_S,
    OUT_FATE,
    OUT_NUMBER,
    OUT_START_S,
    OUT_STREAM,
    OUT_VERSION,
    OWNER,
    PARTITION,
    PATIENCE,
    PATIENCE_S,
    PAUSED_S,
    PHASE,
    PHASE_OF,
    POLICY,
    POOL,
    QUEUED,
    RECORDED,
    ROWS,
    RUN_ANSWERED,
    RUN_COUNT,
    RUN_IN_TIME,
    RUN_OF,
    RUN_STREAM,
    RUN_TIMELY,
    RUN_VERSION,
    RUNS,
    SERVICE,
    SIZE,
    START_S,
    STATE,
    STAYED_S,
    STRETCH,
    TAG,
    TAIL,
    THERE_S,
    THINKING_S,
    THOUGHT,
    TIMER_S,
    UNSEEN,
    UNTIL_S,
    VERSION,
    VERSION_OF,
    WAIT_S,
    WAKES,
    WEIGHT,
    WORK,
    WORKERS,
    Array,
    Tables,
)
from orric.simulation.queueing import SPEED


@compiled_part
def _note(t: Tables, k: int, x: int, start_s: float, version: int, fate: int) -> None:
    """Write a request's end down."""
    now_s, arrival_s = t.clock[NOW_S], t.request[x, ARRIVAL_S]
    t.stream_n[k, LEFT] += 1
    t.stream[k, LEFT_S] += now_s - t.clock[BEGIN_S]
    t.stream[k, STAYED_S] += now_s - arrival_s
    t.stream[k, THERE_S] -= arrival_s
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
def send_away(t: Tables, k: int, x: int, fate: int) -> None:
    """Let a request leave the queue without an answer."""
    _unlink(t, k, x)
    t.stream_n[k, N_SHED if fate == SHED else N_ABANDONED if fate == ABANDONED else N_LOST] += 1
    _note(t, k, x, np.nan, -1, fate)


@compiled_part
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
def start(t: Tables, k: int, rows: Array, most: int) -> None:
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
def complete(t: Tables, k: int) -> None:
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
def arrive(t: Tables, k: int, factor: float, patience: float, admitted: bool, rows: Array) -> None:
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
    t.stream[k, THERE_S] += now_s
    turned_away = IN_TIME
    if not admitted:
        turned_away = SHED
    elif now_s < t.stream[k, DOWN_S]:
        turned_away = LOST
    else:
        if t.stream_n[k, QUEUED] >= t.stream_n[k, LIMIT]:
            # Whoever can be served at once is in nobody's way.
            start(t, k, rows, 1)
        if t.stream_n[k, QUEUED] >= t.stream_n[k, LIMIT]:
            policy = t.stream_n[k, POLICY]
            if policy == OLDEST:
                send_away(t, k, t.stream_n[k, HEAD], SHED)
            elif policy == KEEP_LATEST:
                while t.stream_n[k, QUEUED]:
                    send_away(t, k, t.stream_n[k, HEAD], SHED)
            else:
                turned_away = SHED
    if turned_away != IN_TIME:
        t.stream_n[k, N_SHED if turned_away == SHED else N_LOST] += 1
        t.stream_n[k, UNSEEN] += turned_away == LOST
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
def come(t: Tables, k: int, rows: Array) -> None:
    """Let a client ask that has thought."""
    row = t.stream_n[k, DRAWS]
    factor = t.draws[row, WORK, t.draws_n[row, WORK]]
    patience = t.draws[row, PATIENCE, t.draws_n[row, PATIENCE]]
    t.draws_n[row, WORK] += 1
    t.draws_n[row, PATIENCE] += 1
    arrive(t, k, factor, patience, True, rows)


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


@compiled_part
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
        send_away(t, k, t.stream_n[k, HEAD], LOST)
    t.stream[k, DOWN_S] = max(t.stream[k, DOWN_S], until_s)


@compiled_part
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

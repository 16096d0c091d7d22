"""One device and all that shares it, event by event: the compiled loop beneath `processor`.

Streams that serve and retrainings under way share a device by weights (generalised processor sharing; Parekh and
Gallager 1993). Two clocks of service, one for serving and one for retraining, run at the speed that a unit of weight
gets: whoever has work ends when its clock reaches a number that is known when the work begins, so an event costs a
heap's logarithm, and nobody else is touched. The discipline of a stream's queue is that of `queueing`, with shedding,
impatience and clients that wait for their answers besides.

State lies in a few tables, one row per stream, request, batch or timer, whose columns are named here.
"""

from __future__ import annotations

from typing import Any

from orric.compiled import compiled_in_place, compiled_part
from orric.simulation.fates import ABANDONED
from orric.simulation.processor.clock import (
    begin_job,
    end_job,
    join,
    join_job,
    leave,
    leave_job,
    mark,
    pause,
    set_weights,
    touch,
)
from orric.simulation.processor.heaps import drop_timer, set_timer
from orric.simulation.processor.requests import (
    arrive,
    come,
    complete,
    crash,
    dissolve,
    flush_run,
    send_away,
    start,
)
from orric.simulation.processor.tables import (
    ARRIVED,
    BEGIN_JOB,
    BEGIN_S,
    BUSY,
    BUSY_S,
    CHECK,
    CLOCK,
    CRASH,
    DIRTY,
    DIRTY_ONES,
    DISSOLVE,
    DONE,
    DRAIN,
    END_JOB,
    ENTERED,
    ENTERED_S,
    FLUSH,
    GRAIN_LEFT_S,
    GRAIN_S,
    IN_GRAIN,
    IN_QUEUE,
    JOB_AT,
    JOB_CLOCK,
    JOB_KEY,
    JOIN,
    KEY,
    KIND,
    LATENCY_S,
    LEAVE,
    LEAVES,
    LEFT,
    LEFT_S,
    MARK,
    MODE,
    N_ABANDONED,
    N_BATCHES,
    N_LATE,
    N_LOST,
    N_SERVED,
    N_SHED,
    NEVER,
    NEXT_ARRIVAL,
    NOTHING,
    NOW_S,
    NUMBER_OF,
    OWNER,
    PARTITION,
    PAUSE,
    PHASE,
    POOL,
    PRIORITY,
    RECORDED,
    RETRAINING_WEIGHT,
    ROWS,
    RUNS,
    SERVICE_AT,
    SERVING_WEIGHT,
    SETTLE,
    SLOWDOWN,
    STATE,
    STAYED_S,
    STRETCH,
    SUBJECT,
    TIMER,
    TIMERS,
    UNDER_WAY,
    UNSEEN,
    UNTIL_S,
    UP,
    USE,
    USE_AT,
    USED_S,
    VERSION,
    WAKES,
    WHO,
    WORKERS,
    WORKING,
    Array,
    Tables,
)
from orric.simulation.queueing import END_S, ROUND_S, SPEED, USAGE, finished, on_time
from orric.simulation.queueing import PHASE as PHASE_LABEL
from orric.simulation.queueing import VERSION as VERSION_LABEL


@compiled_in_place
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
        for column in (ENTERED, LEFT, N_SHED, N_ABANDONED, N_LOST, N_LATE, N_BATCHES, N_SERVED, ARRIVED, UNSEEN):
            t.stream_n[k, column] = 0
        join(t, k)
        join_job(t, k)


@compiled_in_place
def weigh(t: Tables, members: Array, serving: Array, retraining: Array, pool: float) -> None:
    """Let new shares hold from now on."""
    set_weights(t, members, serving, retraining, pool)


@compiled_in_place
def act(t: Tables, what: int, k: int, x: float, check: int) -> None:
    """Do one thing that a device is told to do, now: one way in for all, as each takes long to compile.

    Args:
        t: The tables, changed in place.
        what: One of the things named in `tables`.
        k: The stream; of a timer what it is for.
        x: A time, a length or a factor.
        check: Of a request's timer its number.
    """
    if what == SETTLE:
        touch(t, k)
        leave_job(t, k)
        join_job(t, k)
    elif what == FLUSH:
        flush_run(t, k)
    elif what == MARK:
        mark(t, k)
    elif what == LEAVE:
        leave(t, k)
        leave_job(t, k)
    elif what == JOIN:
        join(t, k)
        join_job(t, k)
    elif what == BEGIN_JOB:
        begin_job(t, k, x)
    elif what == END_JOB:
        end_job(t, k)
    elif what == PAUSE:
        pause(t, k, x)
    elif what == CRASH:
        crash(t, k, x)
    elif what == DISSOLVE:
        dissolve(t, k)
    else:
        set_timer(t, x, what - TIMER, k, check)


@compiled_part
def _timer(t: Tables, rows: Array) -> None:
    """Let what the first timer is for happen."""
    when_s, subject, check = t.timer[0], t.timer_n[0, SUBJECT], t.timer_n[0, CHECK]
    kind = t.timer_n[0, KIND]
    drop_timer(t)
    if kind == LEAVES:
        # Unless it was served or sent away meanwhile, and its row is another's.
        waits = t.request_n[subject, STATE] == IN_QUEUE and t.request_n[subject, NUMBER_OF] == check
        if waits and t.request[subject, UNTIL_S] == when_s:
            send_away(t, t.request_n[subject, OWNER], subject, ABANDONED)
    elif kind == WAKES:
        leave(t, subject)
        join(t, subject)
        mark(t, subject)
    else:
        come(t, subject, rows)


@compiled_part
def _full(t: Tables, most: int) -> Any:
    """Return whether one more event might find no room to write to, or no draws."""
    for row in range(len(t.draws_n)):
        for kind in range(3):
            if t.draws_n[row, kind] + most >= t.draws.shape[2]:
                return True
    full = t.pool_n[RECORDED] and t.pool_n[ROWS] + most >= len(t.out)
    return full or t.pool_n[RUNS] + most >= len(t.runs) or t.clock_n[TIMERS] + most >= len(t.timer)


@compiled_in_place
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
                for column in range(rows.shape[1]):
                    t.one[0, column] = rows[at, column]
                t.one[0, END_S] = NEVER
                served_s = finished(t.one, 0.0, 0, now_s, need)[0]
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
                start(t, k, rows, t.stream_n[k, WORKERS])
                continue
            free = priority and t.clock_n[BUSY] == 0 and t.clock_n[WORKING] > 0 and t.clock[POOL] > 0.0
            if free and t.clock[GRAIN_S] > 0.0 and not t.clock_n[IN_GRAIN]:
                t.clock_n[IN_GRAIN], t.clock[GRAIN_LEFT_S] = 1, t.clock[GRAIN_S]
                continue
        ends = ended_s <= until_s + slack_s and ended_s <= next_s
        up = next_s >= until_s and not ends
        then_s = min(next_s, until_s)
        if then_s > now_s:
            on_s = on_time(rows, at, then_s) - on_time(rows, at, now_s) if sliced else then_s - now_s
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
            complete(t, k)
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
            arrive(t, arrivals_n[n, 0], arrivals[n, 1], arrivals[n, 2], arrivals_n[n, 1] > 0, rows)

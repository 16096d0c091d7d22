"""Who is on the device, with which weight, and what its clock has served."""

from __future__ import annotations

from orric.compiled import compiled_part
from orric.simulation.processor.heaps import insert, remove, set_timer
from orric.simulation.processor.tables import (
    ACTIVE,
    BATCHES,
    BUSY,
    BUSY_S,
    CLOCK,
    DIRTY,
    DIRTY_ONES,
    IN_GRAIN,
    JOB_AT,
    JOB_CLOCK,
    JOB_KEY,
    JOB_LEFT_S,
    JOB_ON,
    JOB_PLACE,
    JOB_WEIGHT,
    KEY,
    NOW_S,
    OFFSET,
    PAUSED_S,
    PER_BATCH,
    PLACE,
    POOL,
    RETRAINING_WEIGHT,
    SERVICE,
    SERVICE_AT,
    SERVING_WEIGHT,
    TAG,
    TOUCHED_S,
    UNDER_WAY,
    USE,
    USE_AT,
    USED_S,
    WAKES,
    WEIGHT,
    WORKING,
    Array,
    Tables,
)


@compiled_part
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


@compiled_part
def leave(t: Tables, k: int) -> None:
    """Take a stream's serving off the device, to change it."""
    touch(t, k)
    if t.stream_n[k, ACTIVE]:
        remove(t.serving, t.clock_n[BUSY], t, KEY, PLACE, k)
        t.clock_n[BUSY] -= 1
        times = t.stream_n[k, BATCHES] if t.stream_n[k, PER_BATCH] else 1
        t.clock[SERVING_WEIGHT] -= times * t.stream[k, WEIGHT]
        if t.clock_n[BUSY] == 0:
            # Rounding of many sums ends here.
            t.clock[SERVING_WEIGHT] = 0.0
        t.stream_n[k, ACTIVE] = 0


@compiled_part
def join(t: Tables, k: int) -> None:
    """Put a stream's serving back, if it has work, a weight and no pause."""
    batches, weight = t.stream_n[k, BATCHES], t.stream[k, WEIGHT]
    if batches == 0 or weight <= 0.0 or t.clock[NOW_S] < t.stream[k, PAUSED_S]:
        return
    per_batch = t.stream_n[k, PER_BATCH]
    left = t.batch[t.batches[t.stream_n[k, OFFSET]], TAG] - t.stream[k, SERVICE]
    t.stream[k, KEY] = t.clock[CLOCK] + left * (1 if per_batch else batches) / weight
    insert(t.serving, t.clock_n[BUSY], t, KEY, PLACE, k)
    t.clock_n[BUSY] += 1
    t.clock[SERVING_WEIGHT] += (batches if per_batch else 1) * weight
    t.stream_n[k, ACTIVE] = 1


@compiled_part
def leave_job(t: Tables, k: int) -> None:
    """Take a stream's retraining off the device, to change it."""
    if t.stream_n[k, JOB_PLACE] >= 0:
        weight = t.stream[k, JOB_WEIGHT]
        t.stream[k, JOB_LEFT_S] = max(
            t.stream[k, JOB_LEFT_S] - weight * (t.clock[JOB_CLOCK] - t.stream[k, JOB_AT]), 0.0
        )
        remove(t.retraining, t.clock_n[WORKING], t, JOB_KEY, JOB_PLACE, k)
        t.clock_n[WORKING] -= 1
        t.clock[RETRAINING_WEIGHT] -= weight
        if t.clock_n[WORKING] == 0:
            t.clock[RETRAINING_WEIGHT] = 0.0
    t.stream[k, JOB_AT] = t.clock[JOB_CLOCK]


@compiled_part
def join_job(t: Tables, k: int) -> None:
    """Put a stream's retraining back, if there is any and it has a weight."""
    weight = t.stream[k, JOB_WEIGHT]
    if not t.stream_n[k, JOB_ON] or weight <= 0.0:
        return
    t.stream[k, JOB_AT] = t.clock[JOB_CLOCK]
    t.stream[k, JOB_KEY] = t.clock[JOB_CLOCK] + t.stream[k, JOB_LEFT_S] / weight
    insert(t.retraining, t.clock_n[WORKING], t, JOB_KEY, JOB_PLACE, k)
    t.clock_n[WORKING] += 1
    t.clock[RETRAINING_WEIGHT] += weight


@compiled_part
def begin_job(t: Tables, k: int, left_s: float) -> None:
    """Begin a stream's retraining, of so many seconds at the whole device."""
    t.stream[k, JOB_LEFT_S], t.stream_n[k, JOB_ON] = left_s, 1
    t.clock_n[UNDER_WAY] += 1
    join_job(t, k)


@compiled_part
def end_job(t: Tables, k: int) -> None:
    """End a stream's retraining, done or not; a grain ends with it."""
    leave_job(t, k)
    t.stream_n[k, JOB_ON] = 0
    t.clock_n[UNDER_WAY] -= 1
    t.clock_n[IN_GRAIN] = 0


@compiled_part
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


@compiled_part
def mark(t: Tables, k: int) -> None:
    """Remember to see whether a stream can start something."""
    if not t.stream_n[k, DIRTY]:
        t.stream_n[k, DIRTY] = 1
        t.dirty[t.clock_n[DIRTY_ONES]] = k
        t.clock_n[DIRTY_ONES] += 1


@compiled_part
def pause(t: Tables, k: int, until_s: float) -> None:
    """Let a stream stand still until a time."""
    if until_s > max(t.stream[k, PAUSED_S], t.clock[NOW_S]):
        leave(t, k)
        t.stream[k, PAUSED_S] = until_s
        set_timer(t, until_s, WAKES, k, 0)

"""The tables in which the compiled loop keeps streams, requests, batches and timers: what their columns are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

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
    DOWN_S, PAUSED_S, THERE_S, TIMER_S, BUSY_S, USED_S, STAYED_S, ENTERED_S, LEFT_S, LATENCY_S, _LATENCY_1, _LATENCY_2,
    JOB_WEIGHT, JOB_LEFT_S, JOB_AT, JOB_KEY,
) = range(28)  # fmt: skip
STREAM_NUMBERS = 28
# Columns of a stream: counts and places.
(
    HEAD, TAIL, QUEUED, BATCHES, WORKERS, MOST, LIMIT, POLICY, VERSION, PHASE, NUMBER, ACTIVE, DIRTY, PLACE,
    JOB_PLACE, OFFSET, IN_SERVICE, ENTERED, LEFT, N_SHED, N_ABANDONED, N_LOST, N_LATE, N_BATCHES, N_SERVED, RUN_VERSION,
    RUN_COUNT, RUN_IN_TIME, CLIENTS, PER_BATCH, DRAWS, FREE_OF_WORK, JOB_ON, ARRIVED, UNSEEN,
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
KIND, SUBJECT, CHECK = range(3)
LEAVES, WAKES, COMES = range(3)
# What a device is told to do; a timer's kind is added to the last.
SETTLE, FLUSH, MARK, LEAVE, JOIN, BEGIN_JOB, END_JOB, PAUSE, CRASH, DISSOLVE, TIMER = range(11)
# The clock's own numbers and counts.
(
    NOW_S, CLOCK, USE, JOB_CLOCK, POOL, GRAIN_S, GRAIN_LEFT_S, SLOWDOWN, BEGIN_S, SERVING_WEIGHT, RETRAINING_WEIGHT,
) = range(11)  # fmt: skip
CLOCK_NUMBERS = 11
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
    """All state of the streams of a simulation, and of the clock of one device; `one` is a stretch to try out."""

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
    one: Array
    scratch: Array
    bits: Array


# Draws of a stream whose clients wait for their answers.
THOUGHT, WORK, PATIENCE = range(3)

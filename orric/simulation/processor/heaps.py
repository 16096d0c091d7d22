"""Heaps of whoever is served, of retrainings and of timers."""

from __future__ import annotations

from typing import Any

from orric.compiled import compiled_part
from orric.simulation.processor.tables import (
    CHECK,
    KIND,
    SUBJECT,
    TIMERS,
    Array,
    Tables,
)


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
def insert(heap: Array, size: int, t: Tables, key: int, place: int, k: int) -> None:
    """Put a stream into a heap of so many, by the key in one column; its place goes to another."""
    heap[size] = k
    _rise(heap, t, key, place, size)


@compiled_part
def remove(heap: Array, size: int, t: Tables, key: int, place: int, k: int) -> None:
    """Take a stream out of a heap of so many."""
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


@compiled_part
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
def drop_timer(t: Tables) -> None:
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

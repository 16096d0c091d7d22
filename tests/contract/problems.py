"""What the contract tests run over: every allocator there is, and tasks with the slots that they decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st

import orric
from orric.allocators import TRIGGERS, _installed
from orric.allocators.split import for_task

from ..builders import build_task

# All that are registered, here or by packages that are installed, and every trigger around one of them; one trigger
# around another, and one around an allocator for many streams.
NAMES = sorted(
    {*orric.ALLOCATORS, *_installed(), *(f"{key}+orric" for key in TRIGGERS), "gain+adwin+orric", "adwin+round-robin"}
)
every_allocator = pytest.mark.parametrize("name", NAMES)
# Those whose decisions need no feedback; the others may decide by agreements, in which a curve may show.
SINGLE = [name for name in NAMES if isinstance(orric.make_allocator(name), orric.SingleStreamAllocator)]
every_single_stream_allocator = pytest.mark.parametrize("name", SINGLE)
Problem = tuple[orric.Task, list[orric.Slot]]

MEMORIES = (
    orric.LearningExtent(),
    orric.LearningExtent(kind="window", slots=2),
    orric.LearningExtent(kind="decay", factor=0.5),
)
number = st.integers(0, 12) | st.floats(0.0, 12.0, allow_subnormal=False)
profit = st.integers(1, 8).map(lambda eighths: eighths / 8)
retraining_pairs = st.lists(st.tuples(profit, number.map(lambda cost: cost + 0.5)), max_size=4)
inference_pairs = st.lists(st.tuples(profit, number), min_size=1, max_size=4)
requests_of = st.integers(0, 9).map(float) | st.floats(0.5, 9.0)


def begun(name: str, task: orric.Task, seed: int = 1) -> orric.Allocator:
    """Return an allocator at the start of an episode; one that knows a single stream splits budgets, if it must."""
    allocator = for_task(orric.make_allocator(name), task)
    allocator.reset(task, np.random.default_rng(seed))
    return allocator


def observation(
    slot: orric.Slot, agreement: float | None = 0.5, k: int = 0, name: str = "stream-1"
) -> orric.Observation:
    """Return what an allocator would be told of a stream after a slot."""
    return orric.Observation(slot.index, name, slot.requests[k], slot.requests[k], 0.0, 0.0, 1.0, agreement)


def observations(task: orric.Task, slot: orric.Slot) -> list[orric.Observation]:
    """Return what an allocator would be told after a slot: agreements that fall at length, or none."""
    return [
        observation(slot, None if (slot.index + k) % 4 == 3 else 0.9 - 0.02 * slot.index - 0.1 * (k % 3), k, one.name)
        for k, one in enumerate(task.streams)
    ]


def run(allocator: orric.Allocator, task: orric.Task, slots: Sequence[orric.Slot]) -> list[orric.Allocation]:
    """Let an allocator decide slot by slot, and tell it after each what happened."""
    decisions = []
    for slot in slots:
        decisions.append(allocator.decide(slot))
        for record in observations(task, slot):
            allocator.observe(record)
    return decisions


@st.composite
def single(draw: st.DrawFn) -> Problem:
    """Draw one stream and its slots: budgets exactly at, just below and far from what pairs cost."""
    retraining = [(0.0, 0.0), *draw(retraining_pairs)]
    requests = draw(st.lists(requests_of, min_size=1, max_size=5))
    positive = [count for count in requests if count > 0] or [1.0]
    memory = draw(st.sampled_from(MEMORIES))
    task = build_task(len(requests), retraining, draw(inference_pairs), (min(positive), max(positive)), memory)
    stream, slots = task.streams[0], []
    for index, count in enumerate(requests, start=1):
        pair = draw(st.sampled_from(stream.retraining)).cost_macs + draw(st.sampled_from(stream.inference)).cost_macs
        exact = count * pair
        budget = draw(st.sampled_from([exact, math.nextafter(exact, 0.0), 0.0]) | st.floats(0.0, 200.0))
        slots.append(orric.Slot(index, (budget,), (count,)))
    return task, slots


@st.composite
def several(draw: st.DrawFn) -> Problem:
    """Draw streams on GPUs and their slots: budgets exactly at, just below and far from sums of what pairs cost."""
    gpus = tuple(f"gpu{n}" for n in range(draw(st.integers(1, 3))))
    horizon, streams = draw(st.integers(1, 4)), []
    for k in range(draw(st.integers(1, 5))):
        task = build_task(horizon, [(0.0, 0.0), *draw(retraining_pairs)], draw(inference_pairs), (0.5, 9.0))
        memory, gpu = draw(st.sampled_from(MEMORIES)), draw(st.sampled_from(gpus))
        streams.append(replace(task.streams[0], name=f"stream-{k + 1}", memory=memory, gpu=gpu))
    slots = []
    for index in range(1, horizon + 1):
        requests = tuple(draw(requests_of) for _ in streams)
        budgets = []
        for gpu in gpus:
            there = [(one, count) for one, count in zip(streams, requests, strict=True) if one.gpu == gpu]
            drawn = math.fsum(
                count
                * (draw(st.sampled_from(one.retraining)).cost_macs + draw(st.sampled_from(one.inference)).cost_macs)
                for one, count in there
            )
            least = math.fsum(count * one.cheapest_macs for one, count in there)
            edges = [drawn, math.nextafter(drawn, 0.0), least, math.nextafter(least, 0.0), 0.0]
            budgets.append(draw(st.sampled_from(edges) | st.floats(0.0, 400.0)))
        slots.append(orric.Slot(index, tuple(budgets), requests))
    return orric.Task(horizon, tuple(streams), gpus), slots


def long(slots: int = 40, streams: int = 5) -> Problem:
    """Return streams on two GPUs and an empty third, and as many slots as it takes a trigger to make up its mind."""
    rng = np.random.default_rng(3)
    one = build_task(slots).streams[0]
    task = orric.Task(
        slots,
        tuple(replace(one, name=f"stream-{k + 1}", gpu=f"gpu{k % 2}") for k in range(streams)),
        ("gpu0", "gpu1", "gpu2"),
    )
    found = []
    for index in range(1, slots + 1):
        requests = tuple(float(count) for count in rng.integers(0, 1001, streams))
        found.append(orric.Slot(index, tuple((rng.uniform(0.5, 12.0, 3) * 2.5e9).tolist()), requests))
    return task, found

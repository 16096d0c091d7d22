"""ORRIC's ranges of requests: declared, and widened by what comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import orric
from orric.allocators.ranges import Ranges

from .instances import RNG, random_slot, random_task


def seen(slot: int, stream: str, requests: float) -> orric.Observation:
    return orric.Observation(slot, stream, requests, requests, 0.0, 0.0, 1.0, None)


def with_ranges(task: orric.Task, found: list[tuple[float, float]]) -> orric.Task:
    streams = [
        replace(one, least_requests=least, most_requests=most)
        for one, (least, most) in zip(task.streams, found, strict=True)
    ]
    return replace(task, streams=tuple(streams))


@pytest.mark.parametrize(
    ("make", "streams", "gpus"),
    [
        (orric.Orric, 1, 1),
        (orric.JointOrric, 1, 1),
        (orric.JointOrric, 3, 2),
        (lambda: orric.GuidedOrric(give_up=0.0), 3, 2),
        (orric.PlacingOrric, 4, 2),
    ],
)
def test_what_came_counts_as_if_it_had_been_declared(
    make: Callable[[], orric.Allocator], streams: int, gpus: int
) -> None:
    rng, differed = RNG(4), 0
    for _ in range(12):
        task = random_task(rng, streams, gpus, horizon=5)
        narrow = with_ranges(task, [(400.0, 500.0)] * streams)
        came = rng.integers(40, 5000, streams).tolist()
        allocators = [make(), make(), make()]
        widened = [(min(400.0, count), max(500.0, count)) for count in came]
        slot = random_slot(rng, task, 2)
        # What a slot tells is within its own range.
        wide = [(min(least, told), max(most, told)) for (least, most), told in zip(widened, slot.requests, strict=True)]
        for allocator, given in zip(allocators, (narrow, with_ranges(task, wide), narrow), strict=True):
            allocator.reset(given, RNG(1))
        for stream, count in zip(task.streams, came, strict=True):
            allocators[0].observe(seen(1, stream.name, float(count)))
        decided = [allocator.decide(slot).streams for allocator in allocators]
        assert decided[0] == decided[1]
        differed += decided[0] != decided[2]
    assert differed, "it makes a difference"


def test_a_slot_without_requests_widens_nothing_and_headroom_is_counted_in() -> None:
    task = random_task(RNG(1), 2)
    stream = replace(task.streams[0], least_requests=1500.0, most_requests=3000.0, headroom=0.5)
    ranges = Ranges((stream, task.streams[1]))
    told = np.array([2000.0, 500.0])
    assert ranges.narrowed(told).tolist() == [1.0, 1.0]
    ranges.observe(seen(1, "s0", 0.0))
    ranges.observe(seen(1, "s0", 1000.0))  # for which slots tell 1500
    assert ranges.narrowed(told).tolist() == [1.0, 1.0]
    assert ranges.narrowed(np.array([0.0, 0.0])).tolist() == [1.0, 1.0]
    ranges.observe(seen(2, "s0", 4000.0))
    assert ranges.narrowed(told).tolist() == [0.5, 1.0]
    assert ranges.narrowed(told[1:], np.array([1])).tolist() == [1.0]
    assert ranges.narrowed(np.array([750.0, 50.0])).tolist() == [0.25, 0.5]
    for k, count in ((0, 750.0), (1, 50.0), (0, 0.0), (1, 2000.0)):
        requests = np.array([count, count])
        assert ranges.narrowed_alone(count, k) == ranges.narrowed(requests)[k]


def test_the_reason_tells_the_weight_that_decided() -> None:
    task = with_ranges(random_task(RNG(2), 1), [(1000.0, 1000.0)])
    texts = []
    for count in (1000.0, 100.0):
        allocator = orric.Orric()
        allocator.reset(task, RNG(1))
        allocator.observe(seen(1, "s0", count))
        slot = orric.Slot(2, (1e9,), (1000.0,))
        texts.append(allocator.decide(slot).reason)
    worth = [float(text.split("retraining worth ")[1].split(",")[0]) for text in texts]
    assert worth[1] == pytest.approx(worth[0] / 10, rel=0.1)

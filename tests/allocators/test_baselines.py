"""Baselines by hand, and how budgets are divided among streams."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import orric
from orric.allocators.split import SplitBudget
from orric.allocators.streams import divided
from orric.allocators.turns import WorstFirst

from ..builders import INFERENCE, RETRAINING, build_task

amounts = st.floats(0.0, 1e15, allow_subnormal=False)


def task_of(streams: int = 3, horizon: int = 100, gpus: int = 1) -> orric.Task:
    one = build_task(horizon).streams[0]
    return orric.Task(
        horizon,
        tuple(replace(one, name=f"stream-{k + 1}", gpu=f"gpu{k % gpus}") for k in range(streams)),
        tuple(f"gpu{n}" for n in range(gpus)),
    )


def begun(name: str, task: orric.Task, seed: int = 1) -> orric.Allocator:
    allocator = orric.make_allocator(name)
    allocator.reset(task, np.random.default_rng(seed))
    return allocator


def pairs(allocator: orric.Allocator, index: int, budgets: tuple[float, ...], requests: tuple[float, ...]) -> list[str]:
    decided = allocator.decide(orric.Slot(index, budgets, requests))
    return [f"{one.retraining} {one.inference}" for one in decided.streams]


def tell(allocator: orric.Allocator, index: int, k: int, agreement: float | None) -> None:
    allocator.observe(orric.Observation(index, f"stream-{k}", 100.0, 100.0, 0.0, 0.0, 1.0, agreement))


# Of a rest of one last digit the rounded parts add up to two.
@example([(82.7, 8.0), (41.8, 7.0)], 0.0, True)
@given(st.lists(st.tuples(amounts, amounts), min_size=2, max_size=8), amounts, st.booleans())
def test_parts_never_add_up_to_more_than_the_budget(drawn: list[tuple[float, float]], more: float, tiny: bool) -> None:
    least, weights = [one for one, _ in drawn], [other for _, other in drawn]
    needed = math.fsum(least)
    budget = math.nextafter(needed, math.inf) if tiny else needed + more
    parts = divided(budget, least, weights)
    assert math.fsum(parts) <= budget
    assert all(part >= one for part, one in zip(parts, least, strict=True))
    if not tiny and more > 1e-3 * needed and sum(weights) > 0:
        assert math.fsum(parts) >= budget * (1 - 1e-5)


def test_parts_by_hand() -> None:
    assert divided(7.0, [3.0], [0.0]) == [7.0]
    assert divided(2.0, [3.0, 1.0], [1.0, 1.0]) == [3.0, 1.0]
    assert divided(9.0, [3.0, 1.0], [0.0, 0.0]) == [3.0, 1.0]
    assert divided(9.0, [3.0, 1.0], [1.0, 4.0]) == pytest.approx([4.0, 5.0])


@pytest.mark.parametrize(
    ("name", "per_request", "pair"),
    [
        # Costs r: 0, 1, 3, 10 and i: 1, 2, 4, in millions; the middle one of r1, r2, r3 is r2.
        ("uniform-50", 20.0, "r2 i2"),
        ("uniform-50", 8.0, "r2 i2"),
        ("uniform-50", 7.9, "r2 i1"),
        ("uniform-50", 5.9, "r1 i1"),
        ("uniform-50", 1.9, "r0 i0"),
        ("uniform-30", 10.0, "r2 i1"),
        ("uniform-30", 1.5, "r0 i0"),
        ("uniform-30", 1.6, "r0 i0"),
        ("uniform-90", 10.0, "r1 i2"),
        ("uniform-90", 9.9, "r0 i2"),
        ("uniform-90", 30.0, "r2 i2"),
    ],
)
def test_uniform_by_hand(name: str, per_request: float, pair: str) -> None:
    assert pairs(begun(name, task_of(1)), 1, (100 * per_request * 1e6,), (100.0,)) == [pair]
    # Every stream as if it were alone with its part; a little more, as parts add up to a little less.
    many = pairs(begun(name, task_of(3)), 1, (300 * per_request * (1 + 1e-9) * 1e6,), (100.0,) * 3)
    assert many == [pair] * 3


@pytest.mark.parametrize(("count", "middle"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_the_middle_configuration_is_the_cheaper_of_two(count: int, middle: int) -> None:
    retraining = [(0.0, 0.0), *((0.1 * k, 1e6 * k) for k in range(1, count + 1))]
    allocator = begun("uniform-50", build_task(9, retraining))
    assert pairs(allocator, 1, (1e12,), (100.0,)) == [f"r{middle} i2"]


def test_equal_parts_give_way_where_one_is_too_small() -> None:
    # 1000 requests need 1e9 at the least, a third of 2.4e9 is less: 1e9, 1e8 and 1e8, and 4e8 more for each.
    decided = pairs(begun("uniform-90", task_of(3)), 1, (2.4e9,), (1000.0, 100.0, 100.0))
    assert decided == ["r0 i0", "r0 i2", "r0 i2"]


def test_one_stream_of_each_gpu_retrains_in_turns() -> None:
    allocator = begun("round-robin", task_of(5, gpus=2))
    # gpu0 has three streams, gpu1 two.
    turns = []
    for index in range(1, 7):
        decided = pairs(allocator, index, (300 * 14e6, 200 * 14e6), (100.0,) * 5)
        turns.append([k for k, pair in enumerate(decided) if not pair.startswith("r0")])
    assert turns == [[0, 1], [2, 3], [1, 4], [0, 3], [1, 2], [3, 4]]


def test_whose_turn_it_is_gets_what_the_others_leave() -> None:
    # By demand each has 6e6 per request: the others serve at 4e6, and leave 10e6 of 18e6.
    allocator = begun("round-robin", task_of(3))
    assert pairs(allocator, 2, (100 * 18e6,), (100.0,) * 3) == ["r0 i2", "r2 i2", "r0 i2"]
    assert pairs(allocator, 2, (100 * 19e6,), (100.0,) * 3) == ["r0 i2", "r3 i0", "r0 i2"]
    assert pairs(allocator, 2, (math.nextafter(100 * 19e6, 0.0),), (100.0,) * 3) == ["r0 i2", "r2 i2", "r0 i2"]


@pytest.mark.parametrize("name", ["round-robin", "worst-first"])
def test_a_stream_alone_is_decided_as_by_retraining_greedy(name: str) -> None:
    allocator, greedy = begun(name, task_of(1)), begun("retraining-greedy", task_of(1))
    for index, per_request in enumerate((0.5, 1.0, 2.5, 4.5, 7.0, 11.0, 13.5, 14.0, 30.0), start=1):
        given = (index, (100 * per_request * 1e6,), (100.0,))
        assert pairs(allocator, *given) == pairs(greedy, *given)


def test_the_worst_goes_first_once_all_are_known() -> None:
    allocator = begun("worst-first", task_of(3))
    told = {1: 0.8, 2: 0.6, 3: 0.7}

    def turn(index: int) -> int:
        decided = pairs(allocator, index, (300 * 14e6,), (100.0,) * 3)
        (found,) = [k for k, pair in enumerate(decided, start=1) if not pair.startswith("r0")]
        return found

    seen = []
    for index in range(1, 4):
        seen.append(turn(index))
        tell(allocator, index, seen[-1], told[seen[-1]])
    assert sorted(seen) == [1, 2, 3]
    assert [turn(4), turn(5)] == [2, 2]
    tell(allocator, 5, 2, 0.9)
    tell(allocator, 5, 1, None)
    assert turn(6) == 3
    tell(allocator, 6, 3, 0.8)
    assert turn(7) == 1  # a tie: the first
    # Stream 1 was last labelled in slot 1, and counts for 20 slots.
    first = seen.index(1) + 1
    tell(allocator, 8, 3, 0.1)
    tell(allocator, 8, 2, 0.9)
    assert turn(first + WorstFirst.stale_slots) == 3
    due = first + WorstFirst.stale_slots + 1
    assert turn(due + (due % 2 == 0)) == 1  # in an odd slot
    assert turn(due + (due % 2)) == 3


def test_a_stream_that_never_gets_labels_does_not_keep_the_others_from_theirs() -> None:
    """Nothing that stream 0 sends is ever labelled: half of the turns are for the worst of the others all the same."""
    allocator = begun("worst-first", task_of(5))
    turns = [0] * 5
    for index in range(1, 401):
        decided = pairs(allocator, index, (500 * 14e6,), (100.0,) * 5)
        (k,) = (k for k, pair in enumerate(decided) if not pair.startswith("r0"))
        turns[k] += 1
        if k:
            tell(allocator, index, k + 1, 0.4 + 0.1 * k)
    assert turns[0] <= 201
    # The worst of those that are known, but for turns that renew what is stale.
    assert turns[1] >= 150


def test_streams_that_never_get_labels_take_turns() -> None:
    allocator = begun("worst-first", task_of(3))
    turns = []
    for index in range(1, 7):
        decided = pairs(allocator, index, (300 * 14e6,), (100.0,) * 3)
        turns += [k for k, pair in enumerate(decided) if not pair.startswith("r0")]
    assert turns == [0, 1, 2, 0, 1, 2]


def test_random_pairs_are_all_drawn_and_follow_from_seed_and_slot() -> None:
    first, again, other = (begun("random", task_of(3), seed) for seed in (1, 1, 2))
    given = (300 * 15e6,), (100.0,) * 3
    drawn = [pairs(first, index, *given) for index in range(1, 61)]
    assert [pairs(again, index, *given) for index in range(60, 0, -1)] == drawn[::-1]
    assert [pairs(other, index, *given) for index in range(1, 61)] != drawn
    every = {pair for decided in drawn for pair in decided}
    assert len(every) == len(RETRAINING) * len(INFERENCE)
    assert len({tuple(decided) for decided in drawn}) > 50


def test_splitting_gives_a_stream_its_least_and_its_part_of_the_rest() -> None:
    # 2.2e9 for 1000 and 100 requests: 1.1e9 at the least, the rest 10 to 1; i1 costs 2e6 and is just missed.
    allocator = SplitBudget(orric.InferenceOnly())
    allocator.reset(task_of(2), np.random.default_rng(1))
    assert pairs(allocator, 1, (2.2e9,), (1000.0, 100.0)) == ["r0 i0", "r0 i0"]
    assert pairs(allocator, 1, (2.2e9 * (1 + 1e-9),), (1000.0, 100.0)) == ["r0 i1", "r0 i1"]

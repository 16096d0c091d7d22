"""AdaInf's split by hand: what deadlines need, what drift gets, and what is done where there is too little."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import orric
from orric.allocators.adainf import AdaInf
from orric.devices import Device
from orric.timeliness import ArrivalProcess, Timeliness

from ..builders import INFERENCE, Pairs, build_task

# Of the small profile's configurations, as seconds at a GPU of 1e9 MACs per second; slots of 8 s.
CAPACITY, SLOT_S, EACH_S = 8e9, 8.0, (0.001, 0.002, 0.004)
ONE: Pairs = ((1.0, 1e6),)


def told(deadline_s: float) -> Timeliness:
    """Return what is told of a stream of single requests that come by chance."""
    return Timeliness(SLOT_S, deadline_s, ArrivalProcess("poisson", True), (0.0,) * 3, EACH_S)


def begun(
    deadlines_s: list[float | None], inference: Pairs = INFERENCE, late: float = 0.01, capacity: float | None = CAPACITY
) -> AdaInf:
    """Begin an episode of streams on one GPU, a hard partition, some of them with a deadline."""
    one = build_task(100, inference=inference).streams[0]
    streams = tuple(
        replace(one, name=f"s{k}", timeliness=None if deadline_s is None else told(deadline_s))
        for k, deadline_s in enumerate(deadlines_s)
    )
    allocator = AdaInf(late)
    capacities = () if capacity is None else (capacity,)
    task = orric.Task(100, streams, capacities_macs=capacities, devices=(Device("fluid"),))
    allocator.reset(task, np.random.default_rng(1))
    return allocator


def decided(
    allocator: AdaInf, requests: list[float], budget_macs: float = CAPACITY, index: int = 1
) -> tuple[orric.StreamAllocation, ...]:
    return allocator.decide(orric.Slot(index, (budget_macs,), tuple(requests))).streams


def agree(allocator: AdaInf, *agreements: float | None) -> None:
    for k, agreement in enumerate(agreements):
        allocator.observe(orric.Observation(1, f"s{k}", 100.0, 100.0, 0.0, 0.0, 1.0, agreement))


@pytest.mark.parametrize("late", [0.01, 0.1])
def test_inference_gets_the_share_at_which_just_so_many_are_late_and_retraining_all_the_rest(late: float) -> None:
    one = decided(begun([0.05], late=late), [200.0])[0]
    j, stream = int(one.inference[1]), told(0.05)
    at, below, best = (
        stream.part(j, one.inference_share * more, 200.0) for more in (1.0, 0.99, 1 / one.inference_share)
    )
    assert below < best * (1 - late) <= at
    assert one.retraining != "r0"
    assert one.inference_share + one.retraining_share == pytest.approx(1.0)
    assert one.inference_share > 200 * EACH_S[j] / SLOT_S, "more than its requests cost"


def test_what_waits_needs_more() -> None:
    allocator = begun([0.5], ONE)
    shares = [
        allocator.decide(orric.Slot(1, (CAPACITY,), (200.0,), backlogs)).streams[0].inference_share
        for backlogs in ((), (0.0,), (300.0,))
    ]
    assert shares[0] == shares[1] < shares[2]


def test_a_tighter_deadline_takes_from_retraining() -> None:
    shares = [decided(begun([deadline_s], ONE), [200.0])[0].inference_share for deadline_s in (0.5, 0.02, 0.008, 0.002)]
    assert shares == sorted(shares)
    assert len(set(shares)) == 4


def test_where_deadlines_need_more_than_there_is_nobody_retrains_and_needs_are_met_alike() -> None:
    """Services of 0.001 s at the whole GPU, of which half is ours: by 0.0025 s each needs more than half of that."""
    streams = decided(begun([0.0025, 0.0025], ONE), [1.0, 1.0], CAPACITY / 2)
    assert [(one.retraining, one.retraining_share) for one in streams] == [("r0", 0.0)] * 2
    assert [one.inference_share for one in streams] == pytest.approx([0.25, 0.25])


def test_a_deadline_that_nothing_can_meet_takes_nothing_from_retraining() -> None:
    one = decided(begun([0.0005], ONE), [200.0])[0]
    assert one.retraining == "r3"
    assert one.inference_share == pytest.approx(200 * EACH_S[0] / SLOT_S)


def test_the_rest_goes_by_the_impact_of_drift() -> None:
    """A rest of 4.1e9 MACs beside serving; impacts of 0.3, 0.1 and none, for retraining of 1e9, 3e9 and 10e9 MACs."""
    allocator = begun([None, None, None], ONE)
    agree(allocator, 0.6, 0.8, 0.9)
    streams = decided(allocator, [1000.0] * 3, 7.1e9)
    assert [one.retraining for one in streams] == ["r2", "r1", "r0"]
    assert streams[0].retraining_share == pytest.approx(3 * streams[1].retraining_share)
    assert streams[2].retraining_share == 0.0
    assert sum(one.inference_share + one.retraining_share for one in streams) == pytest.approx(7.1 / 8)


def test_what_is_too_little_for_the_less_drifted_goes_to_the_more_drifted() -> None:
    """A quarter of a rest of 3.1e9 MACs pays for nothing; three quarters would pay for r1 only."""
    allocator = begun([None, None], ONE)
    agree(allocator, 0.6, 0.8)
    assert [one.retraining for one in decided(allocator, [1000.0] * 2, 5.1e9)] == ["r2", "r0"]


def test_who_agrees_with_the_teacher_is_served_as_well_as_can_be() -> None:
    allocator = begun([None])
    agree(allocator, 0.95)
    one = decided(allocator, [1000.0], 6e9)[0]
    assert (one.retraining, one.inference) == ("r0", "i2")
    assert one.inference_share == pytest.approx(0.75)


def test_early_exits_make_room_for_retraining_where_that_answers_more() -> None:
    """At 11.2e6 MACs a request: i0 and r3 are worth 0.6 x 0.9, i2 and r2 the agreement and 0.3 of what it lacks."""
    allocator = begun([None])
    agree(allocator, 0.3)
    one = decided(allocator, [500.0], 5.6e9)[0]
    assert (one.retraining, one.inference) == ("r3", "i0")
    agree(allocator, 0.7)
    one = decided(allocator, [500.0], 5.6e9)[0]
    assert (one.retraining, one.inference) == ("r2", "i2")


def test_agreements_that_are_not_renewed_are_forgotten() -> None:
    allocator = begun([None])
    agree(allocator, 0.9)
    assert decided(allocator, [500.0], 7.2e9)[0].retraining == "r0"
    agree(allocator, None)
    assert decided(allocator, [500.0], 7.2e9)[0].retraining == "r3"


def test_no_shares_without_capacities() -> None:
    one = decided(begun([0.05], capacity=None), [200.0], 1e9)[0]
    assert one.inference_share is None
    assert one.retraining_share is None


def test_batches_need_less_where_they_save() -> None:
    allocator, shares = begun([0.05]), []
    for most in (1, 8):
        batches = replace(told(0.05), fixed_s=(0.005,) * 3, each_s=(0.0001,) * 3, most=most)
        stream = replace(allocator.task.streams[0], timeliness=batches)
        allocator.reset(replace(allocator.task, streams=(stream,)), np.random.default_rng(1))
        shares.append(decided(allocator, [800.0])[0].inference_share)
    assert shares[0] > 1.2 * shares[1]


@pytest.mark.parametrize("late", [0.0, 1.0, -0.1, math.nan])
def test_a_part_that_is_none_is_refused(late: float) -> None:
    with pytest.raises(orric.ScenarioError, match=r"allocator 'adainf': late is .*; give a part in \(0, 1\)"):
        AdaInf(late)

"""AdaInf's split by hand: what deadlines need, what drift gets, and what is done where there is too little."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import orric
from orric.allocators.adainf import AdaInf, needed_share
from orric.timeliness import ArrivalProcess, Timeliness

from ..builders import INFERENCE, Pairs, build_task

# Of the small profile's configurations, as seconds at a GPU of 1e9 MACs per second; slots of 8 s.
CAPACITY, SLOT_S, EACH_S = 8e9, 8.0, (0.001, 0.002, 0.004)
ONE: Pairs = ((1.0, 1e6),)


def begun(deadlines_s: list[float | None], inference: Pairs = INFERENCE, capacity: float | None = CAPACITY) -> AdaInf:
    """Begin an episode of streams on one GPU, some of them with a deadline."""
    one = build_task(100, inference=inference).streams[0]
    streams = []
    for k, deadline_s in enumerate(deadlines_s):
        timeliness = None
        if deadline_s is not None:
            timeliness = Timeliness(SLOT_S, deadline_s, ArrivalProcess("poisson", True), (0.0,) * 3, EACH_S)
        streams.append(replace(one, name=f"s{k}", timeliness=timeliness))
    allocator = AdaInf()
    capacities = () if capacity is None else (capacity,)
    allocator.reset(orric.Task(100, tuple(streams), capacities_macs=capacities), np.random.default_rng(1))
    return allocator


def decided(
    allocator: AdaInf, requests: list[float], budget_macs: float = CAPACITY, index: int = 1
) -> tuple[orric.StreamAllocation, ...]:
    return allocator.decide(orric.Slot(index, (budget_macs,), tuple(requests))).streams


def agree(allocator: AdaInf, *agreements: float | None) -> None:
    for k, agreement in enumerate(agreements):
        allocator.observe(orric.Observation(1, f"s{k}", 100.0, 100.0, 0.0, 0.0, 1.0, agreement))


def test_the_needed_share_by_hand() -> None:
    """Below a load of `late` nobody waits; at half load the last percent waits ln(50) service times."""
    services, rates = np.array([0.1, 0.2]), np.array([1e-6, 1.0])
    alone, busy = needed_share(services, rates, np.array([0.4, 0.5 * (1 + math.log(50))]), 0.01)
    assert alone == pytest.approx(0.1 / 0.4)
    assert busy == pytest.approx(0.2 / 0.5)
    # A deadline far away leaves the share that carries the load.
    assert needed_share(services, rates, np.array([1e6, 1e6]), 0.01)[1] == pytest.approx(0.2, rel=1e-4)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("tolerated", [0.01, 0.05])
def test_that_share_keeps_lateness_near_what_is_tolerated(load: float, tolerated: float) -> None:
    """Against the exact recursion of waits: on the safe side at low loads, hardly beyond at high ones."""
    rng = np.random.default_rng(3)
    deadline_s = 1 + math.log(load / tolerated) / (2 * (1 - load))
    share = needed_share(np.array([0.2]), np.array([load]), np.array([deadline_s]), tolerated)[0]
    assert share == pytest.approx(0.2)
    walk = np.concatenate([[0.0], np.cumsum(1 - rng.exponential(1 / load, 1_000_000))])
    waits = walk - np.minimum.accumulate(walk)
    late = (waits + 1 > deadline_s).mean()
    assert tolerated / 6 < late < tolerated * 1.1


def test_inference_gets_what_its_deadline_needs_and_retraining_all_the_rest() -> None:
    one = decided(begun([0.05]), [200.0])[0]
    # 25 requests a second.
    need = needed_share(np.array(EACH_S), np.full(3, 25.0), np.full(3, 0.05), 0.01)
    j = int(one.inference[1])
    assert one.retraining != "r0"
    assert one.inference_share == pytest.approx(need[j])
    assert one.inference_share + one.retraining_share == pytest.approx(1.0)
    assert one.inference_share > 200 * EACH_S[j] / SLOT_S, "more than its requests cost"


def test_a_tighter_deadline_takes_from_retraining() -> None:
    shares = [decided(begun([deadline_s], ONE), [200.0])[0].inference_share for deadline_s in (0.5, 0.02, 0.008, 0.002)]
    assert shares == sorted(shares)
    assert len(set(shares)) == 4


def test_where_deadlines_need_more_than_there_is_nobody_retrains_and_needs_are_met_alike() -> None:
    """0.0012 and 0.0024 s for a service of 0.001: shares of 0.83 and 0.42, of a GPU of which half is ours."""
    first, second = decided(begun([0.0012, 0.0024]), [1.0, 1.0], CAPACITY / 2)
    assert (first.retraining, first.inference) == (second.retraining, second.inference) == ("r0", "i0")
    assert first.retraining_share == second.retraining_share == 0.0
    assert first.inference_share == pytest.approx(2 * second.inference_share, rel=1e-2)
    assert first.inference_share + second.inference_share == pytest.approx(0.5)


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
    allocator = begun([0.05])
    stream = allocator.task.streams[0]
    shares = []
    for most in (1, 8):
        told = Timeliness(SLOT_S, 0.05, ArrivalProcess("poisson"), (0.005,) * 3, (0.0001,) * 3, most)
        allocator.reset(replace(allocator.task, streams=(replace(stream, timeliness=told),)), np.random.default_rng(1))
        shares.append(decided(allocator, [800.0])[0].inference_share)
    assert shares[0] > 1.4 * shares[1]


@pytest.mark.parametrize("late", [0.0, 1.0, -0.1, math.nan])
def test_a_part_that_is_none_is_refused(late: float) -> None:
    with pytest.raises(orric.ScenarioError, match=r"allocator 'adainf': late is .*; give a part in \(0, 1\)"):
        AdaInf(late)

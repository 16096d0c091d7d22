"""The part of a stream's requests that is answered by the deadline: what theory knows, bounds, and what is learnt."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orric.timeliness import FACTORS, ArrivalProcess, Correction, Timeliness, shifted
from orric.waiting import Shape

Array = np.ndarray[Any, Any]
POISSON = ArrivalProcess("poisson", drawn=True)
BURSTY = ArrivalProcess("bursty", drawn=True, ratio=8.0, burst_s=2.0, calm_s=18.0)
# So long a slot that how it begins does not matter.
LONG_S = 50_000.0


def timeliness(**changes: Any) -> Timeliness:
    """Return one whose single configuration takes 1 s for a request, with a few things changed."""
    given: dict[str, Any] = {
        "slot_s": 60.0, "deadline_s": 5.0, "arrivals": POISSON, "fixed_s": (0.0,), "each_s": (1.0,),
    }  # fmt: skip
    return Timeliness(**{**given, **changes})


def in_line(subject: Timeliness, count: int, backlog: int) -> float:
    """Serve all who stand in line at once, batch by batch; return the part of the newcomers that is in time."""
    free_s, at, in_time = [0.0] * subject.workers, 0, 0
    while at < backlog + count:
        w = free_s.index(min(free_s))
        size = min(subject.most, backlog + count - at)
        free_s[w] += (subject.fixed_s[0] + size * subject.each_s[0]) * subject.workers
        in_time += sum(k >= backlog for k in range(at, at + size)) * (free_s[w] <= subject.deadline_s + 1e-9)
        at += size
    return in_time / count


@pytest.mark.parametrize("backlog", [0, 3, 40])
@pytest.mark.parametrize(("most", "fixed_s", "workers"), [(1, 0.0, 1), (4, 2.0, 1), (1, 0.0, 3)])
def test_those_who_come_at_once_stand_in_line(most: int, fixed_s: float, workers: int, backlog: int) -> None:
    subject = timeliness(
        arrivals=ArrivalProcess("upload"), deadline_s=17.5, most=most, fixed_s=(fixed_s,), workers=workers
    )
    for count in (1, 2, 7, 18, 19, 30, 100):
        assert float(subject.part(0, 1.0, count, backlog)) == pytest.approx(in_line(subject, count, backlog))


def test_of_those_who_come_at_once_a_full_queue_turns_away() -> None:
    subject = timeliness(arrivals=ArrivalProcess("upload"), deadline_s=50.0, queue_limit=9.0)
    assert float(subject.part(0, 1.0, 40.0)) == pytest.approx(10 / 40)


def test_evenly_spaced_requests_are_in_time_up_to_capacity() -> None:
    even = timeliness(arrivals=ArrivalProcess("deterministic"))
    assert even.part(0, 1.0, np.array([1.0, 30.0, 50.0, 60.0])) == pytest.approx(1.0)
    # Beyond, the queue grows through the slot; it is as long as the deadline allows after this part of it.
    assert float(even.part(0, 1.0, 78.0)) == pytest.approx((5.0 - 1.0) / (78 / 60 - 1) / 60, abs=0.03)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8, 0.9])
@pytest.mark.parametrize("deadline_s", [2.2, 5.3, 12.0])
def test_sojourn_in_an_exponential_queue(load: float, deadline_s: float) -> None:
    subject = timeliness(slot_s=LONG_S, deadline_s=deadline_s, service_variation=1.0)
    exact = 1 - math.exp(-(1 - load) * deadline_s)
    assert float(subject.part(0, 1.0, load * LONG_S)) == pytest.approx(exact, abs=0.015)
    # Twice the speed is half the work.
    assert float(replace(subject, each_s=(2.0,)).part(0, 2.0, load * LONG_S)) == pytest.approx(exact, abs=0.015)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8, 0.9])
@pytest.mark.parametrize("deadline_s", [2.2, 5.3, 12.0])
def test_sojourn_where_service_is_constant(load: float, deadline_s: float) -> None:
    # Crommelin's series for the wait in M/D/1.
    x = deadline_s - 1
    exact = (1 - load) * sum(
        math.exp(load * (x - n)) * (load * (n - x)) ** n / math.factorial(n) for n in range(int(x) + 1)
    )
    found = float(timeliness(slot_s=LONG_S, deadline_s=deadline_s).part(0, 1.0, load * LONG_S))
    assert found == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.9])
def test_sojourn_where_arrivals_come_together(load: float) -> None:
    # GI/G/1 with exponential service: the wait of whoever comes is geometric, r found by iteration.
    shape, r = 1 / 2.5**2, 0.5
    for _ in range(500):
        r = (1 + (1 - r) / load / shape) ** -shape
    for deadline_s in (1.5, 6.0):
        subject = timeliness(
            slot_s=LONG_S, deadline_s=deadline_s, service_variation=1.0,
            arrivals=ArrivalProcess("gamma", drawn=True, variation=2.5),
        )  # fmt: skip
        exact = 1 - math.exp(-(1 - r) * deadline_s)
        assert float(subject.part(0, 1.0, load * LONG_S)) == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("load", [0.4, 0.8])
def test_sojourn_with_several_workers(load: float) -> None:
    workers, deadline_s = 3, 9.0
    subject = timeliness(slot_s=LONG_S, deadline_s=deadline_s, workers=workers, service_variation=1.0)
    offered = load * workers
    waits = offered**workers / math.factorial(workers) / (1 - load)
    waits /= waits + sum(offered**k / math.factorial(k) for k in range(workers))
    # A worker takes 3 s on average; who waits does so for an exponential time of rate 1 - load.
    own, wait = 1 / workers, 1 - load
    late = math.exp(-own * deadline_s) * (1 - waits)
    late += waits * (wait * math.exp(-own * deadline_s) - own * math.exp(-wait * deadline_s)) / (wait - own)
    assert float(subject.part(0, 1.0, load * LONG_S)) == pytest.approx(1 - late, abs=0.015)


def drawn(subject: Timeliness, count: float, backlog: int, rng: np.random.Generator) -> float:
    """Serve drawn slots of bursty arrivals one by one; return the part in time."""
    arrivals, came, in_time = subject.arrivals, 0, 0
    calm_per_s = count / subject.slot_s * 20 / (arrivals.calm_s + arrivals.ratio * arrivals.burst_s)
    for _ in range(300):
        now_s, free_s = 0.0, backlog * subject.each_s[0]
        burst = rng.random() < 0.1
        while now_s < subject.slot_s:
            until_s = min(now_s + rng.exponential(arrivals.burst_s if burst else arrivals.calm_s), subject.slot_s)
            rate = calm_per_s * (arrivals.ratio if burst else 1.0) * (until_s - now_s)
            for time_s in np.sort(rng.uniform(now_s, until_s, rng.poisson(rate))):
                came += 1
                # Who waits, and is not in service.
                if (free_s - time_s) / subject.each_s[0] - 1 < subject.queue_limit:
                    free_s = max(free_s, time_s) + subject.each_s[0]
                    in_time += free_s - time_s <= subject.deadline_s
            now_s, burst = until_s, not burst
    return in_time / came


@pytest.mark.parametrize(
    ("load", "backlog", "queue_limit"), [(0.5, 0, math.inf), (0.8, 30, math.inf), (1.2, 0, math.inf), (0.8, 0, 30.0)]
)
def test_bursts_overload_and_backlog_are_followed_through_the_slot(
    load: float, backlog: int, queue_limit: float
) -> None:
    subject = timeliness(arrivals=BURSTY, each_s=(0.2,), deadline_s=4.0, queue_limit=queue_limit)
    count = load * 300
    exact = drawn(subject, count, backlog, np.random.default_rng(22))
    assert float(subject.part(0, 1.0, count, backlog)) == pytest.approx(exact, abs=0.04)


def test_a_short_queue_turns_away_what_exceeds_capacity() -> None:
    subject = timeliness(each_s=(0.01,), queue_limit=100.0, deadline_s=3.0)
    found = subject.part(0, 1.0, 6000 * np.array([0.5, 1.25, 2.0]))
    assert found == pytest.approx([1.0, 1 / 1.25, 1 / 2], abs=0.02)


def test_without_a_deadline_only_those_turned_away_are_late() -> None:
    endless = timeliness(deadline_s=math.inf)
    assert endless.part(0, 1.0, np.array([10.0, 1e6]), 1e5) == pytest.approx(1.0)
    limited = replace(endless, queue_limit=11.0)
    assert limited.part(0, 1.0, np.array([60.0, 144.0])) == pytest.approx([1.0, 72 / 144])


def test_what_needs_no_queue_to_be_known() -> None:
    subject = timeliness()
    assert float(subject.part(0, 1.0, 0.0)) == 1.0
    assert float(subject.part(0, 0.0, 10.0)) == 0.0
    # Nobody is served alone within the deadline at this speed.
    assert float(subject.part(0, 0.19, 1.0)) == 0.0
    assert float(timeliness(each_s=(0.0,)).part(0, 1.0, 1e6)) == pytest.approx(1.0)


KINDS = {
    "deterministic": ArrivalProcess("deterministic"),
    "poisson": POISSON,
    "given count": ArrivalProcess("poisson"),
    "bursty": BURSTY,
    "gamma": ArrivalProcess("gamma", drawn=True, variation=2.0),
    "hawkes": ArrivalProcess("hawkes", drawn=True, branching=0.6, decay_s=2.0),
    "upload": ArrivalProcess("upload"),
}


@pytest.mark.parametrize(("most", "each_s"), [(1, 0.05), (8, 0.05), (8, 0.4)])
@pytest.mark.parametrize("kind", KINDS)
def test_never_falls_with_speed_and_never_rises_with_requests_or_backlog(kind: str, most: int, each_s: float) -> None:
    subject = timeliness(
        arrivals=KINDS[kind], fixed_s=(each_s / 2,), each_s=(each_s,), most=most, wait_s=0.5, service_variation=0.3
    )
    speed = np.geomspace(0.01, 2.0, 60)[:, None, None]
    requests = np.linspace(1.0, 1500.0, 30)[:, None]
    backlog = np.array([0.0, 1.0, 5.0, 30.0, 200.0, 2000.0])
    found = subject.part(0, speed, requests, backlog)
    assert found.shape == (60, 30, 6)
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert np.diff(found, axis=0).min() >= -1e-6
    assert np.diff(found, axis=1).max() <= 1e-6
    assert np.diff(found, axis=2).max() <= 1e-6
    assert found.max() - found.min() > 0.9


def test_given_counts_near_capacity_never_help_by_being_more() -> None:
    subject = timeliness(arrivals=KINDS["given count"], deadline_s=0.3, each_s=(0.1,))
    found = subject.part(0, np.geomspace(0.4, 8.0, 30)[:, None], np.linspace(100.0, 5000.0, 3000))
    assert np.diff(found, axis=1).max() <= 1e-6


def test_where_few_may_wait_speed_hardly_ever_costs() -> None:
    subject = timeliness(arrivals=BURSTY, each_s=(0.05,), queue_limit=60.0)
    found = subject.part(0, np.geomspace(0.01, 2.0, 200)[:, None], np.linspace(1.0, 1500.0, 30))
    assert np.diff(found, axis=0).min() >= -0.03


def test_without_batches_one_table_serves_all_configurations() -> None:
    Shape.table.cache_clear()
    three = timeliness(fixed_s=(0.0, 0.1, 0.2), each_s=(0.1, 0.2, 0.5))
    found = three.part(np.arange(3)[:, None], np.array([0.5, 1.0]), 100.0)
    assert found.shape == (3, 2)
    assert Shape.table.cache_info().misses == 1
    one = timeliness(each_s=(0.3,)).part(0, np.array([0.5, 1.0]), 100.0)
    assert found[1] == pytest.approx(one)
    assert Shape.table.cache_info().misses == 1
    replace(three, most=4).part(np.arange(3), 1.0, 100.0)
    assert Shape.table.cache_info().misses == 4


# What is learnt: a stream whose speed is this part of what it is thought to be.
SLOWER = 0.7
SUBJECT = timeliness(each_s=(0.1,), arrivals=BURSTY)


def taught(slots: int, speed: float = 1.0, count: float = 350.0, noise: float = 0.05) -> Correction:
    """Return a correction that has seen slots."""
    correction, rng = Correction(), np.random.default_rng(3)
    for _ in range(slots):
        was = float(SUBJECT.part(0, SLOWER * speed, count)) + rng.normal(0, noise)
        correction.observe(SUBJECT.part(0, speed * FACTORS, count), was, count)
    return correction


def test_a_slower_stream_is_found_out_and_foretold_elsewhere() -> None:
    correction = taught(20)
    assert correction.factor == pytest.approx(SLOWER, abs=0.05)
    for speed, count in ((1.0, 350.0), (1.4, 350.0), (1.0, 200.0), (0.7, 300.0)):
        exact = float(SUBJECT.part(0, SLOWER * speed, count))
        assert float(correction.part(SUBJECT, 0, speed, count)) == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize(("speed", "count"), [(8.0, 50.0), (0.05, 1000.0)])
def test_slots_in_which_all_or_none_are_in_time_teach_nothing(speed: float, count: float) -> None:
    correction = taught(50, speed, count, noise=0.0)
    assert correction.factor == pytest.approx(1.0, abs=0.15)
    assert abs(correction.shift) <= 0.05


def test_chance_is_not_taken_for_knowledge() -> None:
    rng, foretold = np.random.default_rng(4), SUBJECT.part(0, FACTORS, 350.0)
    middle = float(SUBJECT.part(0, 1.0, 350.0))
    believed, seen = [], []
    for _ in range(30):
        correction, chances = Correction(), rng.normal(0, 0.1, 20)
        for chance in chances:
            correction.observe(foretold, middle + chance, 350.0)
        believed.append(abs(float(correction.part(SUBJECT, 0, 1.0, 350.0)) - middle))
        seen.append(abs(chances.mean()))
    assert np.mean(believed) < 0.5 * np.mean(seen)


def test_what_no_speed_explains_shifts_the_odds() -> None:
    correction = Correction()
    for _ in range(30):
        correction.observe(0.9, 0.8, 100.0)
    assert correction.factor == pytest.approx(1.0, abs=0.01)
    assert float(shifted(np.array(0.9), correction.shift)) == pytest.approx(0.8, abs=0.03)
    assert shifted(np.array([0.0, 1.0]), correction.shift).tolist() == [0.0, 1.0]


def test_a_correction_is_restored_by_replay_and_heeds_requests() -> None:
    one, other = taught(12), taught(12)
    assert (one.factor, one.shift) == (other.factor, other.shift)
    # Nobody asked: nothing is learnt.
    one.observe(SUBJECT.part(0, FACTORS, 0.0), 0.0, 0.0)
    assert (one.factor, one.shift) == (other.factor, other.shift)
    # Of one request less than of many.
    few, many = taught(12), taught(12)
    few.observe(SUBJECT.part(0, FACTORS, 1.0), 0.0, 1.0)
    many.observe(SUBJECT.part(0, FACTORS, 350.0), 0.0, 350.0)
    assert abs(few.factor - one.factor) < abs(many.factor - one.factor)

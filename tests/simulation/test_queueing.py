"""The array solution of the queue against a plain per-request model and against queueing theory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("simpy", reason="needs orric[sim]")

from orric.simulation.queueing import FifoQueue

from .reference import Stretch, finish_times

CLOSE = 1e-7


def advance_all(arrivals: np.ndarray, stretches: list[Stretch]) -> tuple[FifoQueue, list[np.ndarray]]:
    """Run the fast path over all stretches; the last one takes the arrivals at its very end, too."""
    queue, latencies = FifoQueue(), []
    for start, end, service in stretches:
        inside = arrivals[(arrivals >= start) & (arrivals < end)]
        before = queue.waiting
        done = queue.advance(inside, start, end, service)
        latencies.append(done)
        assert before + len(inside) == len(done) + queue.waiting
    return queue, latencies


LENGTHS = st.sampled_from([0.5, 1.0, 2.0, 4.0]) | st.floats(0.1, 5.0)
SERVICES = st.sampled_from([0.125, 0.25, 0.5, 1.0, 3.0, float("inf")]) | st.floats(0.01, 4.0)
# Batches (equal times), times on a grid that coincide with completions, and anything in between.
PLACES = st.integers(0, 31).map(lambda k: k / 32) | st.floats(0.0, 0.999)


@settings(max_examples=400)
@given(
    parts=st.lists(st.tuples(LENGTHS, SERVICES), min_size=1, max_size=6),
    places=st.lists(st.tuples(st.integers(0, 5), PLACES), max_size=40),
)
def test_queue_equals_the_plain_model(parts: list[tuple[float, float]], places: list[tuple[int, float]]) -> None:
    edges = np.concatenate([[0.0], np.cumsum([length for length, _ in parts])]).tolist()
    stretches = [(edges[k], edges[k + 1], service) for k, (_, service) in enumerate(parts)]
    arrivals = np.sort([edges[k % len(parts)] + part * (parts[k % len(parts)][0]) for k, part in places])
    arrivals = arrivals[arrivals < edges[-1]]
    expected = np.array(finish_times(arrivals.tolist(), stretches))
    queue, latencies = advance_all(arrivals, stretches)
    found = np.concatenate(latencies) + arrivals[: len(arrivals) - queue.waiting]
    common = min(len(found), len(expected))
    np.testing.assert_allclose(found[:common], expected[:common], atol=CLOSE)
    # Which side of the last end a completion falls on may differ by rounding, nothing else.
    for extra in (found[common:], expected[common:]):
        assert (abs(extra - edges[-1]) < CLOSE).all()
    # Every completion is reported in the stretch in which it happens.
    at = 0
    for (start, end, _), done in zip(stretches, latencies, strict=True):
        times = found[at : at + len(done)]
        assert ((times > start - CLOSE) & (times < end + CLOSE)).all()
        at += len(done)


def test_request_in_service_keeps_the_part_that_is_done() -> None:
    queue = FifoQueue()
    assert queue.advance(np.array([0.0, 0.0]), 0.0, 3.0, 2.0).tolist() == [2.0]
    # Half of the second is done; the other half takes 2 of 4 seconds, then a third one waits for it.
    assert queue.advance(np.array([3.0]), 3.0, 10.0, 4.0).tolist() == [5.0, 6.0]
    assert queue.waiting == 0


def test_infinite_service_serves_nobody_and_forgets_nobody() -> None:
    queue = FifoQueue()
    assert queue.advance(np.array([0.0, 1.0]), 0.0, 2.0, float("inf")).size == 0
    assert queue.waiting == 2
    np.testing.assert_allclose(queue.advance(np.empty(0), 2.0, 4.0, 1.0), [3.0, 3.0])


def test_part_of_a_request_survives_an_infinite_stretch() -> None:
    queue = FifoQueue()
    assert queue.advance(np.array([0.0]), 0.0, 1.0, 2.0).size == 0
    assert queue.advance(np.empty(0), 1.0, 5.0, float("inf")).size == 0
    np.testing.assert_allclose(queue.advance(np.empty(0), 5.0, 9.0, 2.0), [6.0])


def test_nothing_to_do() -> None:
    queue = FifoQueue()
    assert queue.advance(np.empty(0), 0.0, 1.0, 1.0).size == 0
    assert queue.waiting == 0


def test_work_that_takes_no_time_is_done_at_once() -> None:
    queue = FifoQueue()
    assert queue.advance(np.array([0.0, 0.5]), 0.0, 1.0, 0.0).tolist() == [0.0, 0.0]
    assert queue.waiting == 0


@pytest.mark.parametrize(("service", "latency"), [(0.25, 0.25), (1.0, 1.0)])
def test_d_d_1_is_exact(service: float, latency: float) -> None:
    """Requests one second apart find the server idle, even when a request takes that whole second."""
    _, latencies = advance_all(np.arange(64.0), [(16.0 * k, 16.0 * (k + 1), service) for k in range(4)])
    assert np.concatenate(latencies).tolist() == [latency] * 64


def test_share_that_is_exactly_enough_leaves_nobody_waiting() -> None:
    for count in (3, 7, 10, 1000, 4999):
        queue = FifoQueue()
        for slot in range(3):
            done = queue.advance(np.full(count, slot * 60.0), slot * 60.0, (slot + 1) * 60.0, 60.0 / count)
            assert len(done) == count
            assert queue.waiting == 0


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_m_d_1_waits_as_pollaczek_and_khinchine_say(load: float) -> None:
    """Mean waiting time of M/D/1 with service 1: load / (2 (1 - load))."""
    rng = np.random.default_rng(20240521)
    arrivals = np.cumsum(rng.exponential(1 / load, 400_000))
    stretch = 1000.0
    starts = np.arange(0.0, arrivals[-1], stretch)
    # The server's speed stays, but the work is cut into stretches as the engine cuts it into slots.
    places = np.searchsorted(arrivals, [*starts, np.inf])
    queue = FifoQueue()
    parts = [
        queue.advance(arrivals[places[k] : places[k + 1]], start, start + stretch, 1.0)
        for k, start in enumerate(starts)
    ]
    waits = np.concatenate(parts)[2_000:] - 1.0
    assert waits.min() > -CLOSE
    batches = np.array([batch.mean() for batch in np.array_split(waits, 40)])
    error = batches.std(ddof=1) / np.sqrt(len(batches))
    theory = load / (2 * (1 - load))
    assert error < 0.02 * theory
    assert abs(waits.mean() - theory) < 4 * error

"""The compiled queue against the plain model, request by request, and against itself however it is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("simpy", reason="needs orric[sim]")

from orric.simulation.discipline import Discipline
from orric.simulation.queueing import Queue
from orric.simulation.window import Window

from .reference import Request, Server, Stretch

CLOSE = 1e-9
SCENARIOS = 400


def rows_of(stretches: list[Stretch], workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Return stretches as the compiled queue has them."""
    rows = [
        (one.end_s, one.speed, 1.0 / workers, one.round_s, one.origin_s, one.begin_s, one.slice_s) for one in stretches
    ]
    return np.array(rows), np.array([(one.version, one.phase) for one in stretches])


def serve(
    discipline: Discipline,
    stretches: list[Stretch],
    edges: list[float],
    works: list[tuple[float, float]],
    arrivals: np.ndarray,
    factors: np.ndarray | None,
    recorded: bool = True,
) -> tuple[Queue, list[Window]]:
    """Run the compiled queue window by window; window k has the work of a batch, (fixed, each), works[k]."""
    queue, windows, begin_s = Queue(discipline, recorded), [], 0.0
    present_s = left_s = 0.0
    for end_s, work in zip(edges, works, strict=True):
        inside = (arrivals >= begin_s) & (arrivals < end_s)
        rows, labels = rows_of([one for one in stretches if begin_s < one.end_s <= end_s], discipline.workers)
        before = queue.waiting
        window = queue.advance(
            begin_s, rows, labels, arrivals[inside], *work, factors=None if factors is None else factors[inside]
        )
        windows.append(window)
        # Conservation, window by window.
        assert before + inside.sum() == window.served + window.shed + queue.waiting
        assert window.counts.sum() == window.served
        # Little's law: the time present of those who left and of those still there is the integral of their number.
        present_s += window.present_s
        left_s += float(window.latencies_s.sum())
        assert left_s + queue.present_s(end_s) == pytest.approx(present_s, rel=1e-9, abs=1e-9)
        begin_s = end_s
    return queue, windows


def random_scenario(seed: int) -> dict[str, Any]:
    """Draw speeds that change in mid-queue, pauses, slices, batches, limits, workers and factors."""
    rng = np.random.default_rng(seed)
    workers, most = int(rng.choice([1, 1, 2, 3, 5])), int(rng.choice([1, 1, 2, 4, 8]))
    discipline = Discipline(
        workers=workers,
        most=most,
        wait_s=float(rng.choice([0.0, rng.uniform(0, 2)])) if most > 1 else 0.0,
        limit=int(rng.choice([1, 3, 10, 2**62])),
        deadline_s=float(rng.uniform(0.5, 4)),
    )
    edges = np.cumsum(rng.uniform(2, 12, rng.integers(1, 6))).tolist()
    sliced, stretches, begin_s = rng.random() < 0.3, [], 0.0
    for end_s in edges:
        inner = np.sort(rng.uniform(begin_s, end_s, rng.integers(0, 4))).tolist()
        for place in [*inner, end_s]:
            speed = float(rng.choice([0.0, 1.0, rng.uniform(0.1, 3), rng.uniform(0.1, 3)]))
            version, phase = len(stretches) // 2, int(rng.integers(3))
            if sliced and speed > 0 and rng.random() < 0.7:
                round_s = float(rng.uniform(0.05, 1.0))
                begin, length = np.sort(rng.uniform(0, round_s, 2))
                slices = (round_s, stretches[-1].end_s if stretches else 0.0, float(begin), float(length - begin))
                stretches.append(Stretch(place, speed, version, phase, *slices))
            else:
                stretches.append(Stretch(place, speed, version, phase))
        begin_s = end_s
    count = int(rng.integers(0, 120))
    arrivals = np.sort(rng.uniform(0, edges[-1], count))
    if rng.random() < 0.4:
        # Uploads: many at the same instant, the begin of a window.
        begins = np.array([0.0, *edges[:-1]])
        some = rng.random(count) < rng.uniform(0.2, 1)
        arrivals = np.sort(np.where(some, begins[rng.integers(0, len(begins), count)], arrivals))
    load = rng.uniform(0.2, 1.6) * edges[-1] / max(count, 1)
    works = []
    for _ in edges:
        fixed = float(rng.choice([0.0, rng.uniform(0, load)]))
        works.append((fixed, float(rng.uniform(0.1, 1) * load * workers)))
    factors = rng.exponential(1.0, count) if rng.random() < 0.5 else None
    return {
        "discipline": discipline, "stretches": stretches, "edges": edges, "works": works, "arrivals": arrivals,
        "factors": factors,
    }  # fmt: skip


@pytest.mark.parametrize("block", range(8))
def test_every_request_starts_and_finishes_as_in_the_plain_model(block: int) -> None:
    """Start, finish, version and shedding of every request, on 400 scenarios."""
    served = shed = batched = 0
    for seed in range(block, SCENARIOS, 8):
        scenario = random_scenario(seed)
        discipline, edges, works = scenario["discipline"], scenario["edges"], scenario["works"]
        factors = scenario["factors"]
        requests = [
            Request(number, time, 1.0 if factors is None else float(factors[number]))
            for number, time in enumerate(scenario["arrivals"].tolist())
        ]

        def work_of(start_s: float, size: int, edges: list = edges, works: list = works) -> float:
            fixed, each = works[int(np.searchsorted(edges, start_s, side="right"))]
            return fixed + size * each

        Server(
            scenario["stretches"], work_of, discipline.workers, discipline.most, discipline.wait_s,
            discipline.limit if discipline.limit < 2**62 else float("inf"),
        ).run(requests)  # fmt: skip
        _, windows = serve(**scenario)
        numbers = np.concatenate([window.numbers for window in windows])
        times = np.concatenate([window.times_s for window in windows])
        end = edges[-1] * (1 - 1e-12)
        assert {one.number for one in requests if one.shed} == set(numbers[numbers[:, 1] < 0, 0].tolist()), seed
        done = {one.number for one in requests if one.finish_s < end}
        assert done == set(numbers[numbers[:, 1] >= 0, 0].tolist()), seed
        for (number, version, _), (arrival, start, finish) in zip(numbers.tolist(), times.tolist(), strict=True):
            plain = requests[number]
            assert arrival == plain.arrival_s
            if version < 0:
                continue
            assert start == pytest.approx(plain.start_s, rel=CLOSE, abs=CLOSE), (seed, number)
            assert finish == pytest.approx(plain.finish_s, rel=CLOSE, abs=CLOSE), (seed, number)
            assert version == plain.version, (seed, number)
        late = sum(one.finish_s - one.arrival_s > discipline.deadline_s for one in requests if one.number in done)
        assert sum(window.late for window in windows) == late, seed
        served, shed = served + len(done), shed + sum(one.shed for one in requests)
        batched += sum(window.batches for window in windows) < len(done)
    assert min(served, shed, batched) > 0


def test_what_is_not_recorded_adds_up_to_the_same() -> None:
    """Without records the commonest case is served by a shorter loop; its sums are those of the records."""
    for seed in range(SCENARIOS):
        scenario = random_scenario(seed)
        if seed % 2:
            discipline = Discipline(deadline_s=scenario["discipline"].deadline_s)
            scenario |= {"discipline": discipline, "factors": None}
        (queue, windows), (other, others) = (serve(**scenario, recorded=recorded) for recorded in (True, False))
        assert queue.waiting == other.waiting
        for one, two in zip(windows, others, strict=True):
            np.testing.assert_array_equal(one.counts, two.counts)
            assert (one.served_by, one.late, one.shed, one.batches) == (two.served_by, two.late, two.shed, two.batches)
            for name in ("latencies_s", "busy_s", "used_s"):
                np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-9, atol=1e-9)

"""The whole simulator against the plain model: retraining that overruns, swaps, stalls, and every request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("simpy", reason="needs orric[sim]")

import orric
from orric.randomness import generator
from orric.simulation.arrivals import Arrivals

from ..builders import RETRAINING, build_profile, build_scenario, write_profile
from .reference import Request, Server, Stretch

SCENARIOS = 320
CLOSE = 1e-9
CAPACITY, SLOT_S, PER_REQUEST = 1e9, 8.0, 60
NEVER = float("inf")
Shares = tuple[str, str, float, float]


class Scripted(orric.Allocator):
    """Answer what was drawn beforehand."""

    name = "scripted"

    def __init__(self, script: list[Shares]) -> None:
        self.script = script

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        retraining, inference, learning, serving = self.script[slot.index - 1]
        return orric.Allocation((orric.StreamAllocation(retraining, inference, serving, learning),))


def timeline(
    scenario: orric.Scenario, script: list[Shares], requests: np.ndarray, pause_s: float
) -> tuple[list[Stretch], list[float], int]:
    """Say at which speed, and by which version of the student, requests are served from when to when.

    Written down event by event, without SimPy and without anything of the simulator.
    """
    stream = scenario.stream[0]
    overruns, at_once = stream.retraining.overrun == "continue", stream.retraining.takeover == "completion"
    stalls = [
        ((slot - 1) * SLOT_S + fault.offset_s, (slot - 1) * SLOT_S + fault.offset_s + fault.duration_s)
        for fault in scenario.fault
        for slot in fault.slots
    ]
    costs = {f"r{k}": cost for k, (_, cost) in enumerate(RETRAINING)}
    left, version, paused_until, swaps = 0.0, -1, 0.0, 0
    stretches: list[Stretch] = []
    begins = []
    for slot, (retraining, _, learning, serving) in enumerate(script, start=1):
        begin_s, end_s = (slot - 1) * SLOT_S, slot * SLOT_S
        version += 1
        begins.append(begin_s)
        collected = slot if stream.arrivals == "upload" else slot - 1
        if left == 0 and costs[retraining] > 0 and collected > 0 and learning > 0:
            left = requests[slot - 1] * costs[retraining] / CAPACITY
        now, swap_at_end = begin_s, False
        while now < end_s:
            edges = [end_s, *(edge for stall in stalls for edge in stall), paused_until]
            until = min(edge for edge in edges if edge > now)
            still = any(low <= now < high for low, high in stalls)
            takes_over = False
            if left > 0 and not still and learning > 0:
                if now + left / learning <= until + 1e-9:
                    takes_over, until = True, min(now + left / learning, until)
                left = 0.0 if takes_over else left - (until - now) * learning
            speed = 0.0 if still or now < paused_until else serving / stream.workers
            stretches.append(Stretch(until, speed, version))
            now = until
            if takes_over:
                swaps += 1
                if at_once and now < end_s - 1e-9:
                    version, paused_until = version + 1, max(paused_until, now + pause_s)
                else:
                    swap_at_end = True
        if swap_at_end and pause_s:
            paused_until = end_s + pause_s
        if not overruns:
            left = 0.0
    return stretches, begins, swaps


def draw(seed: int, folder: Path) -> tuple[orric.Scenario, list[Shares], float, tuple[float, float]]:
    """Draw a scenario of one stream and what is decided in its slots."""
    rng = np.random.default_rng(seed)
    slots, pause_s = int(rng.integers(2, 6)), float(rng.choice([0.0, rng.uniform(0.01, 3)]))
    fixed, each = float(rng.choice([0.0, 0.02])), float(rng.uniform(0.01, 0.08))
    profile = build_profile(
        swap={"pause_s": pause_s},
        batch_latency=tuple({"inference": f"i{k}", "fixed_s": fixed, "each_s": each * (k + 1) / 3} for k in range(3)),
    )
    most = int(rng.choice([1, 1, 4, 8]))
    stalls = [
        {
            "kind": "gpu-stall", "gpu": "gpu0", "slots": (int(rng.integers(1, slots + 1)),),
            "offset_s": float(rng.uniform(0, SLOT_S - 0.1)), "duration_s": float(rng.uniform(0.1, 6)),
        }
        for _ in range(int(rng.integers(0, 3)))
    ]  # fmt: skip
    changes: dict[str, Any] = {
        "slots": slots,
        "slot_s": SLOT_S,
        "macs_per_s": CAPACITY,
        "budget": {"kind": "constant", "fraction": 1.0},
        "requests": {"kind": "uniform", "low": 1, "high": PER_REQUEST},
        "arrivals": str(rng.choice(["upload", "poisson", "bursty"])),
        "workers": int(rng.choice([1, 1, 2, 3])),
        "batch": {"most": most, "wait_s": float(rng.choice([0.0, 0.5])) if most > 1 else 0.0},
        "service": {"variability": str(rng.choice(["none", "exponential"]))},
        "queue_limit": None if rng.random() < 0.6 else int(rng.integers(1, 20)),
        "deadline_s": float(rng.uniform(0.5, 8)),
        "retraining": {
            "overrun": str(rng.choice(["abandon", "continue"])),
            "takeover": str(rng.choice(["slot-end", "completion"])),
        },
        "fault": tuple(stalls),
    }
    scenario = build_scenario(write_profile(profile, folder / f"{seed}.toml"), **changes)
    script = []
    for _ in range(slots):
        serving = float(rng.choice([0.0, rng.uniform(0.2, 0.8)], p=[0.1, 0.9]))
        # Between far too little for the dearest retraining and several times enough.
        learning = float(rng.choice([0.0, rng.uniform(0, 1 - serving), rng.uniform(0, 0.1)], p=[0.2, 0.4, 0.4]))
        script.append((f"r{rng.integers(4)}", f"i{rng.integers(3)}", learning, serving))
    return scenario, script, pause_s, (fixed, each)


def plain(
    scenario: orric.Scenario, script: list[Shares], pause_s: float, work: tuple[float, float], seed: int
) -> tuple[list[Request], int]:
    """Simulate by the plain model."""
    stream, requests = scenario.stream[0], scenario.requests(seed)
    arrivals = Arrivals(scenario, 0, seed, np.ones(scenario.slots), np.zeros(scenario.slots))
    found: list[Request] = []
    for slot, count in enumerate(requests.astype(int).tolist(), start=1):
        times = np.concatenate([times for _, times in arrivals.windows(slot)])
        factors = np.ones(count)
        if stream.service.variability == "exponential":
            factors = generator(seed, "service", 0, slot).standard_exponential(count)
        found += [
            Request(len(found) + n, time, factor)
            for n, (time, factor) in enumerate(zip(times.tolist(), factors.tolist(), strict=True))
        ]
    stretches, begins, swaps = timeline(scenario, script, requests, pause_s)

    def work_of(start_s: float, size: int) -> float:
        inference = script[int(np.searchsorted(begins, start_s, side="right")) - 1][1]
        return work[0] + size * work[1] * (int(inference[1:]) + 1) / 3

    limit = NEVER if stream.queue_limit is None else stream.queue_limit
    Server(stretches, work_of, stream.workers, stream.batch.most, stream.batch.wait_s, limit).run(found)
    return found, swaps


@pytest.mark.parametrize("block", range(4))
def test_every_request_fares_as_in_the_plain_model(block: int, tmp_path: Path) -> None:
    overrun = swapped = shed = late = 0
    for seed in range(block, SCENARIOS, 4):
        scenario, script, pause_s, work = draw(seed, tmp_path)
        result = orric.simulate(scenario, Scripted(script), seed=seed, record=True)
        expected, swaps = plain(scenario, script, pause_s, work, seed)
        (windows,) = result.request_times.values()
        numbers = np.concatenate([window.numbers for window in windows])
        times = np.concatenate([window.times_s for window in windows])
        end_s = scenario.slots * SLOT_S * (1 - 1e-12)
        assert {one.number for one in expected if one.shed} == set(numbers[numbers[:, 1] < 0, 0].tolist()), seed
        done = {one.number for one in expected if one.finish_s < end_s}
        assert done == set(numbers[numbers[:, 1] >= 0, 0].tolist()), seed
        for (number, version), (_, start, finish) in zip(numbers.tolist(), times.tolist(), strict=True):
            one = expected[number]
            if version >= 0:
                assert start == pytest.approx(one.start_s, rel=CLOSE, abs=CLOSE), (seed, number)
                assert finish == pytest.approx(one.finish_s, rel=CLOSE, abs=CLOSE), (seed, number)
                assert version == one.version, (seed, number)
        assert result.retrained.sum() == swaps, seed
        overrun += any("done in slot" in event.what for event in result.events)
        swapped, shed, late = swapped + swaps, shed + result.shed.sum(), late + result.late.sum()
    assert min(overrun, swapped, shed, late) > 0

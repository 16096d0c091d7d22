"""Sharing by priority against queueing theory: how long serving, and the retraining behind it, take in the mean.

Serving does not see retraining. A retraining that begins with a slot has before it the work that waits, and all
that comes until it is done: (S + E V) / (1 - load) in the mean, where the work that waits is E V = rate E X^2 /
(2 (1 - load)), the lower class of preemptive priority that is resumed (Conway, Maxwell and Miller 1967).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("simpy", reason="needs orric[sim]")

import orric
from orric.scenario import Gpu, Stream
from orric.simulation.processor.device import Processor

from ..builders import build_profile, write_profile

# A slot holds many services, and more than any retraining needs.
SLOTS, WARMUP, BATCHES, SLOT_S = 1_600, 10, 40, 200.0
CAPACITY = 1e9
LAWS = {
    "none": ({"variability": "none"}, 1.0),
    "exponential": ({"variability": "exponential"}, 2.0),
    "log-normal": ({"variability": "log-normal", "variation": 1.5}, 3.25),
}


class Everything(orric.Allocator):
    """Retrain every stream in every slot, all with equal weights."""

    name = "everything"

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        share = 0.5 / len(self.task.streams)
        return orric.Allocation((orric.StreamAllocation("r1", "i0", share, share),) * len(self.task.streams))


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Return the streams whose retraining is done, and when, as it happens."""
    found: list[tuple[int, float]] = []
    run = Processor.run

    def watched(processor: Processor, *given: Any) -> int | None:
        k = run(processor, *given)
        if k is not None:
            found.append((k, processor.now_s))
        return k

    monkeypatch.setattr(Processor, "run", watched)
    return found


def simulated(
    folder: Path, loads: Sequence[float], work_s: Sequence[float], law: dict[str, Any], **sharing: Any
) -> orric.Result:
    """Simulate streams of services of a second in the mean, each of which retrains for so long in every slot."""
    streams = []
    for k, (load, retraining_s) in enumerate(zip(loads, work_s, strict=True)):
        profile = build_profile(
            # Its cost is per sample, of which there are on average as many as a slot has requests.
            retraining=((0.0, 0.0), (0.1, retraining_s * CAPACITY / (load * SLOT_S))),
            inference=((1.0, 1.0),),
            batch_latency=({"inference": "i0", "fixed_s": 0.0, "each_s": 1.0},),
        )
        streams.append(
            Stream(
                name=f"s{k}", profile=str(write_profile(profile, folder / f"{k}.toml")), gpu="gpu0", arrivals="poisson",
                requests={"kind": "rate", "per_s": load}, retraining={"overrun": "continue"}, service=law,
            )
        )  # fmt: skip
    gpu = Gpu(
        macs_per_s=CAPACITY, budget={"kind": "constant", "fraction": 1.0}, sharing={"model": "priority", **sharing}
    )
    scenario = orric.Scenario(
        name="theory", slots=SLOTS + WARMUP, slot_s=SLOT_S, allocators=("orric",), gpu=(gpu,), stream=tuple(streams)
    )
    return orric.simulate(scenario, Everything(), seed=7)


def check(values: np.ndarray, theory: float, weights: np.ndarray | None = None) -> None:
    """Assert that theory lies in the 99 % interval of batch means, and that the interval says something."""
    batches = np.array_split(np.arange(len(values)), BATCHES)
    means = np.array([np.average(values[one], weights=None if weights is None else weights[one]) for one in batches])
    half = stats.t.ppf(0.995, BATCHES - 1) * means.std(ddof=1) / math.sqrt(BATCHES)
    assert abs(means.mean() - theory) < half
    assert half < 0.08 * theory


def taken_s(done: list[tuple[int, float]], k: int) -> np.ndarray:
    """Return how long a stream's retraining took, slot by slot; there is none in the first slot, without samples."""
    times_s = np.array([time_s for one, time_s in done if one == k])
    found = times_s - SLOT_S * np.arange(1, len(times_s) + 1)
    assert len(found) >= SLOTS + WARMUP - 2
    assert (found > SLOT_S).mean() < 0.002, "hardly any has to wait for the one before"
    return found[WARMUP:]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("load", [0.4, 0.6])
def test_both_classes_of_m_g_1_with_preemptive_priority(
    law: str, load: float, tmp_path: Path, done: list[tuple[int, float]]
) -> None:
    service, second_moment = LAWS[law]
    waiting_s = load * second_moment / (2 * (1 - load))
    result = simulated(tmp_path, [load], [10.0], service)
    # Slots with more requests have longer waits.
    check(result.columns["latency_mean_s"][WARMUP:], 1.0 + waiting_s, result.columns["served"][WARMUP:])
    check(taken_s(done, 0), (10.0 + waiting_s) / (1 - load))


def test_retraining_of_two_streams_shares_what_serving_leaves(tmp_path: Path, done: list[tuple[int, float]]) -> None:
    """With equal weights the shorter is done after twice its work, and the longer when all is done."""
    loads, works_s = (0.2, 0.3), (5.0, 15.0)
    simulated(tmp_path, loads, works_s, LAWS["exponential"][0])
    total = sum(loads)
    waiting_s = total * 2.0 / (2 * (1 - total))
    check(taken_s(done, 0), (2 * works_s[0] + waiting_s) / (1 - total))
    check(taken_s(done, 1), (sum(works_s) + waiting_s) / (1 - total))


@pytest.mark.parametrize("grain_s", [0.0, 2.5])
def test_steps_that_cannot_be_interrupted_take_nothing_from_retraining(
    grain_s: float, tmp_path: Path, done: list[tuple[int, float]]
) -> None:
    """Work is conserved: only the services that come during the last step are left for later."""
    result = simulated(tmp_path, [0.5], [10.0], LAWS["exponential"][0], grain_s=grain_s)
    busy = result.gpu_columns["serving"] + result.gpu_columns["training"]
    # Half of a slot is serving's, and 10 s of 200 retraining's.
    check(busy[WARMUP:], 0.5 + 10.0 / SLOT_S)
    assert taken_s(done, 0).mean() <= (10.0 + 1.0) / 0.5 * 1.05

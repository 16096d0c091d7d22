"""The whole simulator against the plain one: every request and every column, on random servers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("simpy", reason="needs orric[sim]")

import orric
from orric.latency import RELATIVE_ERROR
from orric.scenario import Gpu, Stream
from orric.simulation.arrivals import Arrivals

from .plain import Plain
from .random_server import Scripted, draw

SCENARIOS, BLOCKS = 400, 4
CLOSE = 1e-9
EXACT = (
    "requests", "forecast", "served", "late", "shed", "abandoned", "lost", "waiting", "batches", "busy", "correct",
    "correct_in_time", "extent", "latency_mean_s", "retrained", "retraining_macs",
)  # fmt: skip
STAGES = ("sampling", "labelling", "training", "swapping")
# What must have come up in every block of scenarios.
SEEN = (
    "in time", "late", "shed", "abandoned", "lost", "waiting", "restarted", "crash", "even", "newest", "oldest",
    "keep-latest", "refused", "grain", "held by a grain", "slowed", "retraining waits", "retraining skipped",
    "retraining given up", "swap", "pause", "corrupt", "free", "closed", "lent", "moved",
    "fluid", "saturating", "time-slice", "stream", "batch", "priority",
)  # fmt: skip


def built(seed: int, folder: Path, sharing: str | None = None) -> tuple[orric.Scenario, Scripted]:
    """Draw a scenario, in which all GPUs are shared alike if `sharing` says how."""
    table, _, script = draw(seed, folder, sharing)
    gpus, streams = (tuple(owner(**one) for one in table[key]) for owner, key in ((Gpu, "gpu"), (Stream, "stream")))
    return orric.Scenario(**{**table, "gpu": gpus, "stream": streams}), script


def arrivals_of(scenario: orric.Scenario, index: int, seed: int, foreseen: bool = False) -> list[list[float]] | None:
    """Return when the requests of a stream arrive, slot by slot, or would without the bursts that nobody foresees."""
    name = scenario.stream[index].name
    if scenario.stream[index].arrivals == "closed":
        return None
    bursts, skews_s = np.ones(scenario.slots), np.zeros(scenario.slots)
    mine = [(slot, fault) for fault in scenario.fault if fault.stream == name for slot in fault.slots]
    for slot, fault in sorted(mine, key=lambda one: one[0]):
        if fault.kind == "burst":
            bursts[slot - 1] *= fault.factor
        elif fault.kind == "clock-skew":
            skews_s[slot - 1 :] = fault.skew_s
    arrivals = Arrivals(scenario, index, seed, np.ones(scenario.slots) if foreseen else bursts, skews_s)
    return [
        [time for _, times in arrivals.windows(slot) for time in times.tolist()]
        for slot in range(1, scenario.slots + 1)
    ]


def meant_by(scenario: orric.Scenario, index: int, seed: int) -> list[float]:
    """Return how many requests each slot would have without bursts; of a closed loop the most there can be."""
    times = arrivals_of(scenario, index, seed, True)
    return scenario.requests(seed, index).tolist() if times is None else [float(len(one)) for one in times]


def check_requests(result: orric.Result, plain: Plain, seed: int) -> None:
    """Assert that every request fared as in the plain simulator."""
    for stream in plain.streams:
        windows: list[Any] = result.request_times.get(stream.spec.name, [])
        if not windows:
            assert not stream.requests, (seed, stream.spec.name)
            continue
        numbers = np.concatenate([window.numbers for window in windows])
        times = np.concatenate([window.times_s for window in windows])
        order = np.argsort(numbers[:, 0], kind="stable")
        wanted = [(one.number, one.version, one.fate) for one in stream.requests]
        assert numbers[order].tolist() == [list(one) for one in wanted], (seed, stream.spec.name)
        told = np.array([(one.arrival_s, one.start_s, one.end_s) for one in stream.requests]).reshape(-1, 3)
        where = f"scenario {seed}, {stream.spec.name}"
        np.testing.assert_allclose(times[order], told, rtol=CLOSE, atol=CLOSE, err_msg=where)


def check_columns(result: orric.Result, plain: Plain, seed: int) -> None:
    """Assert that every column says what the plain simulator says."""
    for name in EXACT:
        told = [row[name] for row in plain.rows]
        np.testing.assert_allclose(result.columns[name], told, rtol=CLOSE, atol=CLOSE, err_msg=f"{seed}: {name}")
    for name in ("latency_p50_s", "latency_p99_s"):
        told = [row[name] for row in plain.rows]
        np.testing.assert_allclose(result.columns[name], told, rtol=RELATIVE_ERROR * 1.01, err_msg=f"{seed}: {name}")
    gpus = {name: result.gpu_columns[name] for name in ("serving", "down")}
    gpus["learning"] = sum(result.gpu_columns[name] for name in STAGES)
    for name, values in gpus.items():
        told = [row[name] for row in plain.gpu_rows]
        np.testing.assert_allclose(values, told, rtol=CLOSE, atol=CLOSE, err_msg=f"{seed}: {name} of the GPU")


def check_budgets(result: orric.Result, scenario: orric.Scenario, seed: int) -> None:
    """Assert that over every slot serving and retraining together keep to each GPU's budget."""
    used = result.gpu_columns["serving"] + sum(result.gpu_columns[name] for name in STAGES)
    for number, gpu in enumerate(scenario.gpu):
        parts = scenario.budgets_macs(seed, number) / (gpu.macs_per_s * scenario.slot_s)
        assert (used[number :: len(scenario.gpu)] <= parts * (1 + CLOSE) + CLOSE).all(), (seed, gpu.name)


def compare(seed: int, folder: Path, sharing: str | None = None) -> Counter[str]:
    """Simulate a scenario both ways, assert that they are equal, and return what came up in it."""
    scenario, script = built(seed, folder, sharing)
    result = orric.simulate(scenario, script, seed=seed, record=True)
    streams = range(len(scenario.stream))
    meant = [meant_by(scenario, k, seed) for k in streams]
    plain = Plain(scenario, script, seed, [arrivals_of(scenario, k, seed) for k in streams], meant)
    plain.run()
    check_requests(result, plain, seed)
    check_columns(result, plain, seed)
    check_budgets(result, scenario, seed)
    return plain.seen


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_request_and_column_is_as_in_the_plain_simulator(block: int, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    for seed in range(block, SCENARIOS, BLOCKS):
        seen += compare(seed, tmp_path)
    assert not set(SEEN) - set(seen)

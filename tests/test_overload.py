"""Whether a queue grows: told of those that do, and not of stable ones, full as they may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import orric
from orric.overload import Array, overload_of
from orric.report.conclusion import conclusion
from orric.report.table import table_rows

from .builders import ROOT


def mm1(load: float, per_slot: float, slots: int, seed: int) -> tuple[Array, Array]:
    """Return how many wait or are in service at every slot's end, and arrive in it, of an M/M/1 queue."""
    rng, count = np.random.default_rng(seed), int(1.3 * per_slot * slots) + 200
    arrival, work = np.cumsum(rng.exponential(1.0, count)), np.cumsum(rng.exponential(load, count))
    begun = np.maximum.accumulate(arrival - np.concatenate([[0.0], work[:-1]]))
    ends = per_slot * np.arange(1, slots + 1)
    arrived = np.searchsorted(arrival, ends, "right")
    return arrived - np.searchsorted(work + begun, ends, "right").astype(float), np.diff(arrived, prepend=0)


def flagged(load: float, per_slot: float, slots: int) -> float:
    """Return the part of 200 queues that are called overloaded."""
    found = [overload_of(*mm1(load, per_slot, slots, seed), slots // 10) for seed in range(200)]
    return float(np.mean([one is not None and one.overloaded for one in found]))


@pytest.mark.parametrize(("per_slot", "slots"), [(20, 50), (20, 200), (1000, 20), (1000, 100)])
def test_a_stable_queue_is_not_overloaded(per_slot: float, slots: int) -> None:
    assert flagged(0.9, per_slot, slots) <= 0.01


@pytest.mark.parametrize(("load", "per_slot", "slots"), [(1.3, 20, 50), (1.1, 1000, 20), (1.05, 1000, 100)])
def test_a_queue_that_grows_is_overloaded(load: float, per_slot: float, slots: int) -> None:
    assert flagged(load, per_slot, slots) >= 0.95


def test_growth_is_the_mean_of_batches_with_its_interval() -> None:
    waiting = np.cumsum(np.tile([1.0, 3.0], 10))
    found = overload_of(waiting, np.full(20, 100.0))
    assert found is not None
    assert (found.growth.mean, found.growth.half_width, found.growth.count) == (2.0, 0.0, 10)
    assert str(found) == "overloaded: +2.0 ± 0.0 waiting a slot"


def test_a_warm_up_is_left_out() -> None:
    waiting, requests = np.array([0.0, 40.0, 80.0, 120.0, 120.0, 120.0, 120.0, 120.0]), np.full(8, 100.0)
    whole, after = overload_of(waiting, requests), overload_of(waiting, requests, warmup_slots=4)
    assert whole is not None
    assert after is not None
    assert (whole.growth.mean, after.growth.mean) == (15.0, 0.0)


def test_few_slots_and_little_growth_tell_nothing() -> None:
    assert overload_of(np.array([1.0, 2.0, 3.0]), np.full(3, 10.0)) is None
    assert overload_of(np.arange(8.0), np.full(8, 10.0), warmup_slots=5) is None
    slight = overload_of(np.arange(1.0, 21.0), np.full(20, 1001.0))
    assert slight is not None
    assert not slight.overloaded
    assert str(slight) == "+1.0 ± 0.0 waiting a slot"


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> orric.Result:
    """Return a run whose GPU is gone in its second slot and never comes back."""
    pytest.importorskip("simpy", reason="needs orric[sim]")
    path = tmp_path_factory.mktemp("lost") / "lost.toml"
    path.write_text(f"""
format = 1
name = "lost"
slots = 10
slot_s = 60.0
spare = "inference"
allocators = ["inference-only"]
[[gpu]]
macs_per_s = 1.0e9
budget = {{ kind = "constant", fraction = 0.9 }}
[[stream]]
name = "camera-1"
profile = "{(ROOT / "traces/profiles/digits.toml").as_posix()}"
requests = {{ kind = "constant", per_slot = 1000 }}
arrivals = "poisson"
deadline_s = 1.0
[[fault]]
kind = "gpu-loss"
gpu = "gpu0"
slots = [2]
duration_s = 540.0
""")
    return orric.simulate(orric.load_scenario(path), orric.InferenceOnly(), seed=1)


def test_those_who_wait_at_the_end_are_told_of(lost: orric.Result) -> None:
    assert lost.fates["waiting"] == 9000
    assert sum(lost.fates.values()) == lost.requests.sum()
    summary = lost.summary()
    assert (summary["answered"], summary["overloaded"]) == (0.1, True)
    headings, (row,) = table_rows([lost])
    cells = dict(zip(headings, row, strict=True))
    fates = ("in time (%)", "late (%)", "shed (%)", "waiting at the end (%)")
    assert [cells[name] for name in fates] == ["10.0", "0.0", "0.0", "90.0"]
    assert cells["answered (%)"] == "10.0"
    assert "p99 latency of the answered (s)" in cells
    assert cells["overloaded (waiting, a slot)"].startswith("+900.0 ± ")
    whole = " ".join(conclusion([lost]))
    assert "of the 10.0 % that were answered" in whole
    assert "10.0 % were answered by their deadline (90.0 % waiting at the end)" in whole
    assert "Overloaded" in whole
    assert "all requests were answered" not in whole


def test_fates_add_up_stream_by_stream_and_pooled(lost: orric.Result) -> None:
    scenario = orric.load_scenario(Path("simulations/cameras.toml"))
    result = orric.simulate(scenario, orric.InferenceGreedy(), seed=1)
    pooled = result.pooled()
    assert sum(result.fates.values()) == result.requests.sum()
    assert pooled.fates == result.fates
    assert pooled.overloads == result.overloads
    assert set(result.overloads) == set(result.streams)
    assert pooled.in_time_accuracy == pytest.approx(result.in_time_accuracy)
    assert result.fates["late"] > 0
    assert result.in_time_accuracy < result.mean_accuracy
    assert lost.in_time_accuracy == lost.mean_accuracy, "nobody was late, and the others count as wrong"


def test_of_several_streams_the_one_that_grows_is_told(lost: orric.Result) -> None:
    still = orric.Result("a", "simulator", "curve", 1, lost.columns)
    doubled = {name: np.repeat(values, 2) for name, values in lost.columns.items()}
    doubled["stream"] = np.tile(["calm", "busy"], 10)
    doubled["waiting"] = np.where(doubled["stream"] == "calm", 0.0, doubled["waiting"])
    both = orric.Result("a", "simulator", "curve", 1, doubled)
    assert {name: one.overloaded for name, one in both.overloads.items()} == {"calm": False, "busy": True}
    assert both.overload == still.overload
    assert "at busy)" in " ".join(conclusion([both.pooled()]))


@pytest.mark.parametrize("warmup_slots", [10, -1])
def test_a_warm_up_must_leave_slots(warmup_slots: int) -> None:
    scenario = orric.load_scenario("simulations/quickstart.toml")
    with pytest.raises(ValueError, match="warmup_slots"):
        orric.Scenario(**{**scenario.model_dump(), "slots": 10, "warmup_slots": warmup_slots})

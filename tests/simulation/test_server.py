"""Several streams and GPUs: placement, shares, sharing models, faults, energy, conservation, reproducibility."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("simpy", reason="needs orric[sim]")

import orric
from orric.allocators.split import SplitBudget
from orric.latency import RELATIVE_ERROR
from orric.records import STAGES
from orric.scenario import Fault, Gpu, Stream

from ..builders import build_profile, write_profile
from .test_engine import Fixed

NAMES = sorted(orric.ALLOCATORS)
FULL = {"kind": "constant", "fraction": 1.0}


def server(path: Path, gpus: int = 2, streams: int = 5, **changes: Any) -> orric.Scenario:
    """Return a scenario of several GPUs and streams; keys of Gpu and Stream are set on all of them."""
    gpu: dict[str, Any] = {
        "macs_per_s": 1e9,
        "budget": {"kind": "uniform", "low": 0.4, "high": 1.0},
        "sharing": {"model": "fluid"},
    }
    stream: dict[str, Any] = {
        "profile": str(path),
        "requests": {"kind": "uniform", "low": 50, "high": 200},
        "arrivals": "poisson",
        "deadline_s": 1.0,
    }
    values: dict[str, Any] = {"name": "server", "slots": 8, "slot_s": 8.0, "spare": "idle", "allocators": ("orric",)}
    for key, value in changes.items():
        owner = gpu if key in Gpu.model_fields and key != "name" else stream if key in Stream.model_fields else values
        owner[key] = value
    return orric.Scenario(
        **{
            **values,
            "gpu": tuple(Gpu(name=f"gpu{n}", **gpu) for n in range(gpus)),
            "stream": tuple(Stream(name=f"camera-{k}", **stream) for k in range(streams)),
        }
    )


def check(result: orric.Result) -> None:
    """Assert conservation of requests and of the GPUs' time."""
    for name in dict.fromkeys(result.columns["stream"].tolist()):
        one = {key: values[result.columns["stream"] == name] for key, values in result.columns.items()}
        before = np.concatenate([[0.0], one["waiting"][:-1]])
        np.testing.assert_array_equal(before + one["requests"], one["served"] + one["shed"] + one["waiting"])
        assert sum(map(len, result.latencies[name])) == one["served"].sum()
        assert (one["correct"] <= one["served"] * (1 + 1e-12)).all()
    spent = sum(result.gpu_columns[key] for key in ("serving", "sampling", "labelling", "training", "swapping"))
    assert (spent <= 1 - result.gpu_columns["down"] + 1e-9).all()
    # What the streams on a GPU spent is what the GPU spent.
    for name in STAGES:
        for gpu in dict.fromkeys(result.gpu_columns["gpu"].tolist()):
            there = np.where(result.columns["gpu"] == gpu, result.columns[name], 0.0)
            whole = result.gpu_columns[name][result.gpu_columns["gpu"] == gpu]
            np.testing.assert_allclose(there.reshape(len(whole), -1).sum(axis=1), whole, atol=1e-12)


@pytest.mark.parametrize("model", ["fluid", "weighted", "priority"])
@pytest.mark.parametrize("name", NAMES)
def test_requests_and_time_are_conserved(profile_path: Path, name: str, model: str) -> None:
    given = {"workers": 2, "batch": {"most": 4, "wait_s": 0.2}, "queue_limit": 60}
    scenario = server(profile_path, spare="inference", sharing={"model": model}, **given)
    result = orric.simulate(scenario, orric.make_allocator(name), seed=4)
    check(result)
    assert len(result.columns["slot"]) == 8 * 5
    assert len(result.gpu_columns["slot"]) == 8 * 2
    assert result.columns["stream"][:5].tolist() == [f"camera-{k}" for k in range(5)]


def test_same_seed_same_bytes(profile_path: Path) -> None:
    fault = Fault(kind="retraining-crash", stream="camera-1", probability=0.5)
    scenario = server(profile_path, fault=(fault,), service={"variability": "log-normal", "variation": 0.5})
    first, again, other = (orric.simulate(scenario, orric.Orric(), seed=seed) for seed in (5, 5, 6))
    assert first.to_frame().equals(again.to_frame())
    assert not first.to_frame().equals(other.to_frame())
    assert first.events == again.events


def test_streams_go_where_they_are_told_or_where_there_is_room(profile_path: Path) -> None:
    scenario = server(profile_path, gpus=2, streams=3, memory_bytes=3e9)
    given = scenario.stream[0].model_copy(update={"gpu": "gpu1", "memory_bytes": 2e9})
    others = [
        one.model_copy(update={"memory_bytes": size}) for one, size in zip(scenario.stream[1:], (2e9, 1e9), strict=True)
    ]
    placed = scenario.model_copy(update={"stream": (given, *others)})
    assert placed.placement()[0] == "gpu1"
    assert placed.placement()[1] == "gpu0"
    full = placed.model_copy(update={"stream": (given, *others, others[0].model_copy(update={"name": "one too many"}))})
    with pytest.raises(orric.ScenarioError, match=r"its models take 2e\+09 bytes, and 1e\+09 are left"):
        full.placement()


def test_placement_by_demand_fills_the_first_gpu_first(profile_path: Path) -> None:
    few = server(profile_path, streams=2, requests={"kind": "constant", "per_slot": 10})
    assert few.placement() == ("gpu0", "gpu0")
    many = server(profile_path, streams=4, requests={"kind": "constant", "per_slot": 1000})
    assert sorted(many.placement()) == ["gpu0", "gpu0", "gpu1", "gpu1"]


def test_a_budget_is_split_by_demand_and_never_exceeded(profile_path: Path) -> None:
    scenario = server(profile_path, gpus=1, streams=3)
    result = orric.simulate(scenario, orric.Orric(), seed=1)
    macs = result.columns["forecast"] * 0
    costs = {"r0": 0.0, "r1": 1e6, "r2": 3e6, "r3": 1e7}, {"i0": 1e6, "i1": 2e6, "i2": 4e6}
    for kind, names in zip(("retraining", "inference"), costs, strict=True):
        macs += result.columns["forecast"] * np.array([names[name] for name in result.columns[kind].tolist()])
    by_slot = macs.reshape(8, 3).sum(axis=1)
    assert (by_slot <= result.gpu_columns["budget_macs"]).all()
    assert (by_slot > 0.5 * result.gpu_columns["budget_macs"]).mean() > 0.5


def test_one_stream_alone_is_decided_as_without_the_split(profile_path: Path) -> None:
    scenario = server(profile_path, gpus=1, streams=1)
    alone = orric.simulate(scenario, orric.Orric(), seed=3)
    split = orric.simulate(scenario, SplitBudget(orric.Orric()), seed=3)
    assert alone.columns["inference"].tolist() == split.columns["inference"].tolist()
    assert alone.value == split.value


@pytest.mark.parametrize(
    ("sharing", "speed"),
    [
        ({"model": "fluid"}, 0.5),
        ({"model": "saturating", "fixed": 0.25}, 1 / (0.25 + 0.75 / 0.5)),
        ({"model": "time-slice", "round_s": 0.1, "switch_s": 0.01}, 0.4),
    ],
)
def test_sharing_models_set_the_speed(profile_path: Path, sharing: dict[str, Any], speed: float) -> None:
    scenario = server(
        profile_path, gpus=1, streams=1, slots=1, sharing=sharing, budget=FULL, arrivals="upload",
        requests={"kind": "constant", "per_slot": 500},
    )  # fmt: skip
    result = orric.simulate(scenario, Fixed("r0", "i0", inference_share=0.5))
    # 500 requests of a millisecond each at the whole GPU.
    assert result.latency.quantile(1.0) == pytest.approx(0.5 / speed, rel=0.02)
    check(result)


def test_time_slices_of_a_share_below_the_switch_serve_nobody(profile_path: Path) -> None:
    scenario = server(
        profile_path, gpus=1, streams=1, sharing={"model": "time-slice", "round_s": 0.1, "switch_s": 0.05}, budget=FULL
    )
    assert orric.simulate(scenario, Fixed("r0", "i0", inference_share=0.4)).served.sum() == 0


def test_workers_divide_the_share(profile_path: Path) -> None:
    scenario = server(
        profile_path, gpus=1, streams=1, slots=1, workers=4, arrivals="upload", budget=FULL,
        requests={"kind": "constant", "per_slot": 100},
    )  # fmt: skip
    result = orric.simulate(scenario, Fixed("r0", "i0", inference_share=0.5))
    # Four at a time, 8 ms each.
    assert result.latency.quantile(0.0) == pytest.approx(0.008, rel=RELATIVE_ERROR)
    assert result.latency.quantile(1.0) == pytest.approx(0.2, rel=RELATIVE_ERROR)
    assert result.busy[0] == pytest.approx(0.2 / 8)


def test_measured_batches_are_affine_in_their_size(tmp_path: Path) -> None:
    profile = build_profile(batch_latency=({"inference": "i0", "fixed_s": 0.01, "each_s": 0.001},))
    scenario = server(
        write_profile(profile, tmp_path / "profile.toml"), gpus=1, streams=1, slots=1, arrivals="upload", budget=FULL,
        requests={"kind": "constant", "per_slot": 20}, batch={"most": 8},
    )  # fmt: skip
    result = orric.simulate(scenario, Fixed("r0", "i0", inference_share=1.0))
    assert result.batches.tolist() == [3.0]
    assert result.latency.quantile(1.0) == pytest.approx(2 * 0.018 + 0.014, rel=RELATIVE_ERROR)


def retraining(path: Path, share: float, slots: int = 6, **changes: Any) -> orric.Result:
    """Simulate one stream that always asks for the third retraining configuration, which needs a share of 0.1875."""
    given: dict[str, Any] = {"budget": FULL, "arrivals": "upload", "requests": {"kind": "constant", "per_slot": 500}}
    scenario = server(path, gpus=1, streams=1, slots=slots, **{**given, **changes})
    return orric.simulate(scenario, Fixed("r2", "i0", retraining_share=share, inference_share=0.5))


def test_overrunning_retraining_goes_on_with_the_next_slots_share(profile_path: Path) -> None:
    result = retraining(profile_path, 0.1, retraining={"overrun": "continue"})
    # 1.5 GPU-seconds at a tenth: 15 s, done in the second of two slots of 8 s; a new one begins in the third.
    assert result.retrained.tolist() == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    assert result.extent.tolist() == pytest.approx([0, 0, 0.15, 0.1, 0.15, 0.12])
    assert [event.what for event in result.events[:2]] == [
        "retraining of slot 2 waits for that of slot 1", "retraining of slot 1 done in slot 2",
    ]  # fmt: skip
    lost = retraining(profile_path, 0.1)
    assert lost.retrained.tolist() == [0.0] * 6
    assert len(lost.events) == 6
    assert "given up at the slot's end in stage train" in lost.events[0].what
    assert lost.retraining_macs == pytest.approx(0.1 * 8e9)


def test_weights_that_take_over_at_completion_serve_the_rest_of_the_slot(tmp_path: Path) -> None:
    path = write_profile(build_profile(swap={"pause_s": 0.5}), tmp_path / "profile.toml")
    at_once = retraining(path, 0.375, retraining={"takeover": "completion"})
    later = retraining(path, 0.375)
    # Uploads of a second: half of the GPU serves 500 of them in 1 s, before the weights are there after 4 s.
    assert at_once.correct.tolist() == later.correct.tolist()
    spread = {"arrivals": "deterministic", "slots": 3}
    at_once = retraining(path, 0.375, retraining={"takeover": "completion"}, **spread)
    later = retraining(path, 0.375, **spread)
    assert at_once.correct[1] > later.correct[1]
    assert at_once.correct[0] == later.correct[0]
    # Those who come while serving stands still wait for half a second at most.
    assert at_once.latency.quantile(1.0) == pytest.approx(0.5, abs=0.01)
    phases = at_once.latencies["camera-0"]
    assert min(map(len, phases)) > 0
    assert phases[2].quantile(1.0) > phases[1].quantile(1.0)


def test_serving_borrows_the_share_of_retraining_that_is_over(profile_path: Path) -> None:
    given = {"arrivals": "deterministic", "requests": {"kind": "constant", "per_slot": 1800}, "slots": 2}
    idle, spare = (retraining(profile_path, 0.4, spare=spare, **given) for spare in ("idle", "inference"))
    # Slot 2: 5.4 GPU-seconds of retraining at 0.4 of the GPU do not end in it; in slot 1 there is nothing to learn.
    assert idle.busy.tolist() == pytest.approx([0.45, 0.45], abs=1e-3)
    assert spare.busy.tolist() == pytest.approx([0.25, 0.45], abs=1e-3)
    assert spare.gpu_columns["serving"].tolist() == pytest.approx([0.225, 0.225], abs=1e-3)


def test_a_stalled_gpu_serves_later_and_loses_nothing(profile_path: Path) -> None:
    stall = Fault(kind="gpu-stall", gpu="gpu0", slots=(2,), offset_s=1.0, duration_s=3.0)
    result = retraining(profile_path, 0.1875, fault=(stall,))
    assert result.retrained.tolist() == [1.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    assert result.gpu_columns["down"].tolist() == pytest.approx([0, 3 / 8, 0, 0, 0, 0])
    assert result.served.tolist() == [500.0] * 6
    assert [event.what for event in result.events][:2] == ["stands still", "is back"]
    check(result)


def test_a_lost_gpu_loses_the_retraining_on_it(profile_path: Path) -> None:
    loss = Fault(kind="gpu-loss", gpu="gpu0", slots=(2,), offset_s=1.0, duration_s=9.0)
    result = retraining(profile_path, 0.1875, fault=(loss,), retraining={"overrun": "continue"})
    assert result.retrained.tolist() == [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    told = [event.what for event in result.events]
    assert told[:3] == ["lost", "retraining of slot 2 lost with the GPU in stage train", "is back"]
    assert result.waiting[1] > 0
    assert result.waiting[2] == 0
    check(result)


def test_a_crash_and_corrupt_weights_teach_nothing(profile_path: Path) -> None:
    for kind, what in (("retraining-crash", "crashed"), ("corrupt-weights", "refused at the swap")):
        fault = Fault(kind=kind, stream="camera-0", slots=(1, 3), offset_s=2.0 if "crash" in kind else 0.0)
        result = retraining(profile_path, 0.1875, fault=(fault,))
        assert result.retrained.tolist() == [0.0, 1.0, 0.0, 1.0, 1.0, 1.0]
        assert result.extent[1] == 0.0
        assert sum(what in event.what for event in result.events) == 2


@pytest.mark.parametrize(("forecast", "told_in"), [("oracle", []), ("last", [4])])
def test_nobody_foresees_a_burst(profile_path: Path, forecast: str, told_in: list[int]) -> None:
    burst = Fault(kind="burst", stream="camera-1", slots=(3,), factor=4.0)
    plain, more = (
        orric.simulate(server(profile_path, fault=fault, forecast=forecast), orric.Orric(), seed=2)
        for fault in ((), (burst,))
    )
    there = (plain.columns["slot"] == 3) & (plain.columns["stream"] == "camera-1")
    assert more.columns["requests"][there] == 4 * plain.columns["requests"][there]
    told = more.columns["forecast"] != plain.columns["forecast"]
    assert more.columns["slot"][told].tolist() == told_in


def test_requests_of_a_skewed_clock_arrive_in_a_later_slot(profile_path: Path) -> None:
    skew = Fault(kind="clock-skew", stream="camera-0", slots=(2,), skew_s=4.0)
    scenario = server(profile_path, fault=(skew,), requests={"kind": "constant", "per_slot": 100})
    result = orric.simulate(scenario, orric.Orric(), seed=2)
    mine = result.columns["requests"][result.columns["stream"] == "camera-0"]
    assert mine[0] == 100
    assert 30 < mine[1] < 70
    assert mine[2:].mean() == pytest.approx(100, abs=10)
    check(result)


def test_energy_is_that_of_the_shares_at_work(profile_path: Path) -> None:
    result = retraining(profile_path, 0.1875, slots=1, power={"idle_w": 40.0, "busy_w": 240.0})
    # 0.5 s of serving and 1.5 s of retraining at the whole GPU.
    assert result.gpu_columns["serving"][0] == pytest.approx(0.5 / 8)
    assert result.gpu_columns["training"][0] == pytest.approx(1.5 / 8)
    assert result.gpu_columns["energy_j"][0] == pytest.approx(40 * 8 + 200 * 2.0)
    assert np.isnan(retraining(profile_path, 0.1875, slots=1).gpu_columns["energy_j"][0])


def test_a_simulation_that_stands_still_names_who_waits(profile_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orric.simulation.engine import _Run

    begin = _Run._begin

    def stuck(run: _Run, *given: Any) -> Any:
        begin(run, *given)
        # Nothing is due any more, neither the slot's end nor the job's.
        run.environment._queue.clear()

    monkeypatch.setattr(_Run, "_begin", stuck)
    monkeypatch.setattr("simpy.Environment.timeout", lambda environment, *given: environment.event())
    message = (
        r"slot 1: nothing will happen any more; waiting: the clock, retraining of camera-0 \(slot 1, stage train\)"
    )
    with pytest.raises(orric.SimulationError, match=message):
        retraining(profile_path, 0.1875)

"""What a scenario of a server may say: every mistake gets one line at construction; files give requests and budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("simpy", reason="needs orric[sim]")

import orric
from orric.budgets import load_budgets, load_free_parts

from ..builders import build_profile, build_scenario, write_profile
from .test_server import server

GPU = {"name": "gpu0", "macs_per_s": 1e9, "budget": {"kind": "constant", "fraction": 1.0}}


def stream(path: Path, **changes: Any) -> dict[str, Any]:
    """Return a valid stream with a few keys changed."""
    return {
        "name": "camera",
        "profile": str(path),
        "requests": {"kind": "constant", "per_slot": 10},
        "arrivals": "poisson",
        **changes,
    }


@pytest.mark.parametrize(
    ("gpu", "changes", "told"),
    [
        ({"macs_per_s": 0.0}, {}, "greater than 0"),
        ({"sharing": {"model": "fair"}}, {}, "'fair'"),
        ({"sharing": {"model": "saturating", "fixed": 1.0}}, {}, "less than 1"),
        ({"sharing": {"model": "time-slice", "round_s": 0.1, "switch_s": 0.2}}, {}, "it must be below round_s"),
        ({"power": {"idle_w": 50.0, "busy_w": 20.0}}, {}, "it must be idle_w"),
        ({"budget": {"kind": "background", "mean": 1.5}}, {}, "less than or equal to 1"),
        ({"memory_bytes": 0.0}, {}, "greater than 0"),
        ({}, {"workers": 0}, "greater than or equal to 1"),
        ({}, {"batch": {"most": 0}}, "greater than or equal to 1"),
        ({}, {"queue_limit": 0}, "greater than or equal to 1"),
        ({}, {"burst": {"ratio": 2.0}}, 'burst belongs to arrivals = "bursty"'),
        ({}, {"service": {"variability": "log-normal"}}, "give variation"),
        ({}, {"service": {"variability": "none", "csv": "x.csv"}}, "remove csv"),
        ({}, {"arrivals": "timestamps"}, "give both or neither"),
        ({}, {"requests": {"timestamps": "x.csv", "part": 3, "parts": 2}, "arrivals": "timestamps"}, "1 <= part"),
        ({}, {"retraining": {"overrun": "wait"}}, "'wait'"),
        ({}, {"arrivals": "sometimes"}, "'sometimes'"),
    ],
)
def test_mistakes_are_told_in_one_line(profile_path: Path, gpu: dict, changes: dict, told: str) -> None:
    with pytest.raises(orric.ScenarioError) as caught:
        orric.Scenario(
            name="wrong", slots=2, slot_s=8.0, allocators=("orric",), gpu=({**GPU, **gpu},),
            stream=(stream(profile_path, **changes),),
        )  # fmt: skip
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"kind": "gpu-stall", "gpu": "gpu0", "slots": (1,)}, "give duration_s"),
        ({"kind": "gpu-loss", "stream": "camera-0", "slots": (1,), "duration_s": 1.0}, "give gpu"),
        ({"kind": "burst", "stream": "camera-0", "factor": 2.0}, "give slots or probability"),
        ({"kind": "burst", "stream": "camera-0", "factor": 0.5, "slots": (1,)}, "greater than 1"),
        ({"kind": "retraining-crash", "stream": "camera-0", "slots": (1,), "probability": 0.5}, "slots or probability"),
        ({"kind": "fire", "stream": "camera-0", "slots": (1,)}, "'fire'"),
        ({"kind": "retraining-crash", "stream": "camera-9", "slots": (1,)}, "did you mean 'camera-"),
        ({"kind": "gpu-stall", "gpu": "gpu7", "slots": (1,), "duration_s": 1.0}, "did you mean 'gpu"),
        ({"kind": "retraining-crash", "stream": "camera-0", "slots": (99,)}, "the scenario has 8 slots"),
        ({"kind": "clock-skew", "stream": "camera-0", "slots": (1,), "skew_s": 9.0}, "stay below 8"),
    ],
)
def test_impossible_faults_are_told_in_one_line(profile_path: Path, fault: dict, told: str) -> None:
    with pytest.raises(orric.ScenarioError) as caught:
        server(profile_path, fault=(fault,)).check("server.toml")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_stand_once_and_gpus_are_known(profile_path: Path) -> None:
    with pytest.raises(orric.ScenarioError, match="stands twice"):
        orric.Scenario(
            name="wrong", slots=2, slot_s=8.0, allocators=("orric",), gpu=(GPU, GPU), stream=(stream(profile_path),)
        )
    lost = server(profile_path, streams=1, gpu="gpu5")
    with pytest.raises(orric.ScenarioError, match=r"stream\.1\.gpu: 'gpu5' is unknown; did you mean 'gpu"):
        lost.check("server.toml")


def test_the_slot_model_refuses_several_streams(profile_path: Path) -> None:
    with pytest.raises(orric.ScenarioError, match="5 streams and 2 GPUs"):
        server(profile_path).trace(1)


def test_a_recorded_load_leaves_the_rest(profile_path: Path, tmp_path: Path) -> None:
    # Idle for 5 s, half busy for 10 s, busy for 10 s.
    (tmp_path / "load.csv").write_text("seconds,utilisation,what\n5,0,\n15,0.5,x\n25,1.0,\n")
    given = {"macs_per_s": 2.0, "budget": {"utilisation": str(tmp_path / "load.csv")}}
    whole = build_scenario(profile_path, slots=2, slot_s=10.0, **given)
    assert whole.budgets_macs(1).tolist() == pytest.approx([20.0 * 0.75, 20.0 * 0.25])
    later = {**given, "budget": {**given["budget"], "start_s": 10.0}}
    assert build_scenario(profile_path, slots=3, slot_s=5.0, **later).budgets_macs(7).tolist() == [5, 0, 0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seconds,utilisation\n5,0.1\n5,0.2\n", ":3: column 'seconds': found '5'; let seconds ascend"),
        ("seconds,utilisation\n0,0.1\n5,0.2\n", ":2: column 'seconds': found '0'; let seconds ascend from above 0"),
        ("seconds,utilisation\n5,0.1\n9,37\n", ":3: column 'utilisation': found '37'; give a part in [0, 1]"),
        ("seconds,utilisation\n5,busy\n", ":2: column 'utilisation': found 'busy'; give a finite number"),
        ("seconds,load\n5,0.5\n", "column 'utilisation' is missing"),
        ("seconds,utilisation\n19,0.5\n", "ends at second 19, and 2 slots of 10 s from 0 on end at 20; record longer"),
    ],
)
def test_a_record_that_is_wrong_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "load.csv").write_text(text)
    with pytest.raises(orric.TraceError) as caught:
        load_free_parts(tmp_path / "load.csv", 2, 10.0)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_given_times_arrive_as_they_are(profile_path: Path, tmp_path: Path) -> None:
    times = np.sort(np.random.default_rng(1).uniform(0, 48.0, 400))
    orric.Timestamps(times).save(tmp_path / "times.csv")
    parts = [
        build_scenario(
            profile_path, slots=6, slot_s=4.0, arrivals="timestamps", forecast="last",
            requests={"timestamps": str(tmp_path / "times.csv"), "speedup": 2.0, "part": part, "parts": 2},
        )
        for part in (1, 2)
    ]  # fmt: skip
    found = [orric.simulate(scenario, orric.InferenceOnly(), record=True) for scenario in parts]
    arrived = np.concatenate([w.times_s[:, 0] for one in found for ws in one.request_times.values() for w in ws])
    assert np.isin(np.round(arrived, 9), np.round(times / 2, 9)).all()
    assert sum(one.requests.sum() for one in found) == 400


def test_every_gpu_has_its_budgets_in_one_file(profile_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "budgets.csv"
    rows = [f"{slot},gpu{n},{(n + 1) * slot * 4e8}" for slot in range(1, 9) for n in range(2)]
    path.write_text("slot,gpu,budget_macs\n" + "\n".join(rows) + "\n")
    scenario = server(profile_path, budget={"csv": str(path)})
    assert scenario.budgets_macs(1, 1).tolist() == [8e8 * slot for slot in range(1, 9)]
    for line, told in (("9,gpu1,many", "found many"), ("11,gpu1,1", "expected 9"), ("9,gpu1,-1", ">= 0")):
        path.write_text("slot,gpu,budget_macs\n" + "\n".join([*rows, line]) + "\n")
        with pytest.raises(orric.TraceError, match=r"budgets\.csv:18") as caught:
            load_budgets(path, "gpu1")
        assert told in str(caught.value)
    path.write_text("slot,gpu,budget_macs\n1,gpu0,1\n")
    with pytest.raises(orric.TraceError, match="did you mean 'gpu0'"):
        load_budgets(path, "gpu1")


@pytest.mark.parametrize(("slots", "remedy"), [(2, "add rows"), (9, "cut the file")])
def test_a_trace_of_another_length_than_the_scenario_is_refused(
    profile_path: Path, tmp_path: Path, slots: int, remedy: str
) -> None:
    orric.Trace(requests=[1] * slots, budget_macs=[1e9] * slots).save(tmp_path / "other.csv")
    message = f"holds {slots} slots and the scenario asks for 8; {remedy}, or set slots = {slots}"
    for changes in (
        {"requests": {"csv": str(tmp_path / "other.csv")}},
        {"budget": {"csv": str(tmp_path / "other.csv")}},
    ):
        with pytest.raises(orric.ScenarioError, match=message):
            server(profile_path, **changes).check("server.toml")


def test_a_request_that_is_lost_or_stays_too_long_is_noticed(profile_path: Path, monkeypatch: Any) -> None:
    from orric.simulation.queueing import Queue

    advance = Queue.advance

    def lossy(queue: Queue, *given: Any) -> Any:
        window = advance(queue, *given)
        window.served_by = {version: count - 1 for version, count in window.served_by.items()}
        return window

    def slow(queue: Queue, *given: Any) -> Any:
        window = advance(queue, *given)
        window.latencies_s = window.latencies_s * 1.01
        return window

    for fault, told in ((lossy, "requests came, and"), (slow, "their number says")):
        monkeypatch.setattr(Queue, "advance", fault)
        with pytest.raises(orric.SimulationError, match=told):
            orric.simulate(server(profile_path), orric.Orric())


def test_measured_service_times_are_drawn_around_their_mean(profile_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "measured.csv"
    path.write_text("seconds\n1.0\n3.0\n")
    given = {
        "requests": {"kind": "constant", "per_slot": 400},
        "service": {"variability": "empirical", "csv": str(path)},
    }
    scenario = build_scenario(profile_path, slots=2, arrivals="deterministic", budget=GPU["budget"], **given)
    found = orric.simulate(scenario, orric.InferenceOnly(), record=True)
    (windows,) = found.request_times.values()
    times = np.concatenate([window.times_s for window in windows])
    service = (times[:, 2] - times[:, 1])[~np.isnan(times[:, 2])]
    assert service.max() / service.min() == pytest.approx(3.0)
    path.write_text("seconds\n-1.0\n")
    with pytest.raises(orric.ScenarioError, match="give times above 0"):
        orric.simulate(scenario, orric.InferenceOnly())


def test_every_request_is_on_disk_or_nothing_is(profile_path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    pandas = pytest.importorskip("pandas")
    scenario, path = server(profile_path, queue_limit=5), tmp_path / "requests.parquet"
    kept = orric.simulate(scenario, orric.Orric(), record=True)
    orric.simulate(scenario, orric.Orric(), record=path)
    rows = pandas.read_parquet(path)
    assert len(rows) == kept.columns["requests"].sum()
    assert (rows.fate == "shed").sum() == kept.columns["shed"].sum() > 0
    served = rows[rows.fate.isin(["in time", "late"])]
    assert len(served) == kept.columns["served"].sum()
    assert (served.arrival_s <= served.start_s).all()
    assert (served.start_s <= served.finish_s).all()
    for name, windows in kept.request_times.items():
        mine = rows[rows.stream == name]
        assert mine.finish_s.to_numpy() == pytest.approx(
            np.concatenate([w.times_s[:, 2] for w in windows]), nan_ok=True
        )
    monkeypatch.setattr(orric.Orric, "decide", lambda self, slot: 1 / 0)
    with pytest.raises(orric.AllocatorError):
        orric.simulate(scenario, orric.Orric(), record=tmp_path / "never.parquet")
    assert [one.name for one in tmp_path.glob("*.parquet*")] == ["requests.parquet"]


def test_a_batch_latency_of_an_unknown_configuration_is_refused() -> None:
    with pytest.raises(orric.ProfileError, match="batch_latency of 'i9'"):
        build_profile(batch_latency=({"inference": "i9", "fixed_s": 0.0, "each_s": 1.0},))


def test_profiles_with_batches_and_swaps_read_back(tmp_path: Path) -> None:
    profile = build_profile(batch_latency=({"inference": "i0", "fixed_s": 0.1, "each_s": 0.01},), swap={"pause_s": 0.5})
    profile.save(tmp_path / "profile.toml")
    again = orric.Profile.load(tmp_path / "profile.toml")
    assert (again.batch_latency, again.swap) == (profile.batch_latency, profile.swap)
    assert write_profile(build_profile(), tmp_path / "plain.toml").exists()

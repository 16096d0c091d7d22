"""What allocators are told of a simulated server: declared ranges, deadlines, devices, backlogs, what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orric
from orric.devices import Device
from orric.scenario.requests import declared
from orric.scenario.stream import Stream
from orric.timeliness import ArrivalProcess

from ..builders import build_profile, build_scenario, random_trace, write_profile
from ..contract.overhearing import Overhearing

BURST = {"ratio": 6.0, "burst_s": 3.0, "calm_s": 12.0}


def heard(scenario: orric.Scenario, name: str = "orric-guided") -> tuple[Overhearing, orric.Result]:
    allocator = Overhearing(orric.make_allocator(name))
    return allocator, orric.simulate(scenario, allocator, seed=2)


def told_range(scenario: orric.Scenario) -> tuple[float, float]:
    stream = heard(scenario)[0].task.streams[0]
    return stream.least_requests, stream.most_requests


@pytest.mark.parametrize(
    ("requests", "more", "found"),
    [
        ({"kind": "constant", "per_slot": 40}, {}, (40, 40)),
        ({"kind": "constant", "per_slot": 40, "count": "drawn"}, {"arrivals": "poisson"}, (40, 40)),
        ({"kind": "uniform", "low": 0, "high": 70}, {}, (1, 70)),
        ({"kind": "bursty", "low": 20, "high": 70}, {"headroom": 0.5}, (30, 105)),
        ({"kind": "rate", "per_s": 5.0}, {"arrivals": "poisson"}, (40, 40)),
        ({"kind": "rate", "per_s": 0.1}, {"arrivals": "poisson"}, (0.8, 0.8)),
        ({"kind": "day", "per_s": 5.0, "swing": 0.5}, {"arrivals": "poisson"}, (20, 60)),
        ({"kind": "day", "per_s": 5.0, "swing": 1.0}, {"arrivals": "poisson"}, (1, 80)),
        ({"kind": "closed", "clients": 10, "thinking_s": 2.0}, {"arrivals": "closed", "forecast": "last"}, (40, 40)),
    ],
)
def test_the_range_is_the_declared_one(
    profile_path: Path, requests: dict[str, Any], more: dict[str, Any], found: tuple[float, float]
) -> None:
    scenario = build_scenario(profile_path, requests=requests, **more)
    assert told_range(scenario) == pytest.approx(found)
    low, high = declared(scenario.stream[0].requests, 8.0) or (0.0, 0.0)
    assert (low, high) == pytest.approx(np.array(found) / (1 + scenario.stream[0].headroom))


@pytest.mark.parametrize(
    ("first", "declaration", "found"),
    [(30.0, {}, (30, 30)), (0.0, {}, (1, 1)), (30.0, {"low": 10, "high": 900}, (10, 900))],
)
def test_of_a_file_it_is_declared_or_what_the_first_slot_tells(
    profile_path: Path, tmp_path: Path, first: float, declaration: dict[str, Any], found: tuple[float, float]
) -> None:
    rows = [f"{t},{count:g},1e9" for t, count in enumerate([first, 500.0, 3.0], start=1)]
    (tmp_path / "trace.csv").write_text("\n".join(["slot,requests,budget_macs", *rows]))
    csv = {"csv": str(tmp_path / "trace.csv"), **declaration}
    assert told_range(build_scenario(profile_path, slots=3, requests=csv)) == found
    times = ["arrival_s", *(["0.5"] * int(first)), *(["9.0"] * 500), "17.5"]
    (tmp_path / "times.csv").write_text("\n".join(times))
    stamps = {"timestamps": str(tmp_path / "times.csv"), **declaration}
    assert told_range(build_scenario(profile_path, slots=3, requests=stamps, arrivals="timestamps")) == found


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"low": 3}, "low is given without high; give both, or none"),
        ({"high": 3}, "high is given without low; give both, or none"),
        ({"low": 4, "high": 3}, "low is 4 and high 3; give low <= high"),
        ({"low": -1, "high": 3}, "low"),
        ({"low": 0, "high": 0}, "high"),
    ],
)
def test_half_a_range_is_refused(profile_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(orric.ScenarioError) as caught:
        Stream(name="s", profile=str(profile_path), requests={"csv": "trace.csv", **given})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({}, ArrivalProcess("upload")),
        ({"arrivals": "deterministic"}, ArrivalProcess("deterministic")),
        (
            {"arrivals": "bursty", "burst": BURST},
            ArrivalProcess("bursty", ratio=6.0, burst_s=3.0, calm_s=12.0),
        ),
        (
            {"arrivals": "bursty", "requests": {"kind": "rate", "per_s": 9.0}},
            ArrivalProcess("bursty", drawn=True, ratio=10.0, burst_s=1.0, calm_s=9.0),
        ),
        (
            {"arrivals": "gamma", "gamma": {"variation": 3.0}, "requests": {"kind": "rate", "per_s": 9.0}},
            ArrivalProcess("gamma", drawn=True, variation=3.0),
        ),
        (
            {"arrivals": "hawkes", "requests": {"kind": "rate", "per_s": 9.0}},
            ArrivalProcess("hawkes", drawn=True, branching=0.5, decay_s=10.0),
        ),
    ],
)
def test_arrivals_are_told_as_declared(profile_path: Path, more: dict[str, Any], found: ArrivalProcess) -> None:
    task = heard(build_scenario(profile_path, deadline_s=1.0, **more))[0].task
    assert task.streams[0].timeliness is not None
    assert task.streams[0].timeliness.arrivals == found


def test_timeliness_is_that_of_the_stream_and_its_home(tmp_path: Path) -> None:
    profile = build_profile(
        device={"macs_per_s": 2e9},
        batch_latency=({"inference": "i1", "fixed_s": 0.01, "each_s": 0.001},),
    )
    given = {
        "workers": 2, "batch": {"most": 8, "wait_s": 0.1}, "queue_limit": 40,
        "service": {"variability": "log-normal", "variation": 0.7},
    }  # fmt: skip
    scenario = build_scenario(write_profile(profile, tmp_path / "p.toml"), **given)
    assert heard(scenario)[0].task.streams[0].timeliness is None
    other = scenario.stream[0].model_copy(
        update={"name": "other", "deadline_s": 2.0, "shed": "keep-latest", "queue_limit": None}
    )
    task = heard(scenario.model_copy(update={"stream": (scenario.stream[0], other)}))[0].task
    first, second = (stream.timeliness for stream in task.streams)
    assert first is not None
    assert second is not None
    assert (first.deadline_s, second.deadline_s) == (np.inf, 2.0)
    assert (first.queue_limit, second.queue_limit) == (40, 1)
    assert (first.slot_s, first.workers, first.most, first.wait_s, first.service_variation) == (8.0, 2, 8, 0.1, 0.7)
    # The GPU is half as fast as the measured device.
    assert first.fixed_s == (0.0, 0.02, 0.0)
    assert first.each_s == pytest.approx((1e-3, 2e-3, 4e-3))


@pytest.mark.parametrize(
    ("sharing", "spare", "found"),
    [
        ({"model": "fluid"}, "idle", Device("fluid", lends=False)),
        ({"model": "saturating", "fixed": 0.2}, "inference", Device("saturating", fixed=0.2)),
        (
            {"model": "time-slice", "round_s": 0.5, "switch_s": 0.01},
            "inference",
            Device("time-slice", round_s=0.5, switch_s=0.01),
        ),
        ({"model": "weighted", "slowdown": 1.5}, "inference", Device("weighted", slowdown=1.5)),
        ({"model": "priority", "grain_s": 0.1}, "inference", Device("priority", grain_s=0.1)),
    ],
)
def test_devices_are_told_as_they_share(profile_path: Path, sharing: dict[str, Any], spare: str, found: Device) -> None:
    assert heard(build_scenario(profile_path, sharing=sharing, spare=spare))[0].task.devices == (found,)


def test_backlogs_and_observations_tell_what_the_records_say(profile_path: Path) -> None:
    scenario = build_scenario(
        profile_path, arrivals="poisson", forecast="last", macs_per_s=3e8, sharing={"model": "weighted"},
        requests={"kind": "uniform", "low": 100, "high": 500}, budget={"kind": "constant", "fraction": 0.9},
    )  # fmt: skip
    allocator, result = heard(scenario)
    rows = list(result.records)
    assert [slot.backlogs for slot in allocator.slots] == [(0.0,), *((row.waiting,) for row in rows[:-1])]
    assert any(row.waiting for row in rows[:-1])
    for row, seen, decided in zip(rows, allocator.told, allocator.decided, strict=True):
        assert (seen.retraining, seen.inference, seen.waiting) == (row.retraining, row.inference, row.waiting)
        assert seen.retraining == decided.streams[0].retraining
        assert (seen.labels > 0) == (seen.agreement is not None)
    labelled = [
        (seen.labels, build_profile().sampling_ratio(seen.retraining) * before.requests)
        for before, seen in zip(allocator.told, allocator.told[1:], strict=False)
        if seen.labels
    ]
    assert labelled
    assert all(found == round(wanted) for found, wanted in labelled)


def test_an_overloaded_slot_is_told_with_what_was_done_in_it(profile_path: Path) -> None:
    scenario = build_scenario(profile_path, budget={"kind": "uniform", "low": 0.02, "high": 0.2})
    allocator, result = heard(scenario, "retraining-greedy")
    rows = list(result.records)
    assert any(row.reason.startswith("overloaded") for row in rows)
    assert [(seen.retraining, seen.inference) for seen in allocator.told] == [
        (row.retraining, row.inference) for row in rows
    ]


def test_the_slot_model_tells_the_same() -> None:
    trace = random_trace(3, slots=6)
    allocator = Overhearing(orric.Orric())
    result = orric.evaluate(build_profile(), trace, allocator)
    assert {slot.backlogs for slot in allocator.slots} == {(0.0,)}
    for seen, row in zip(allocator.told, result.records, strict=True):
        assert (seen.retraining, seen.inference) == (row.retraining, row.inference)
        assert (seen.labels > 0) == (seen.agreement is not None)
        assert seen.waiting == 0

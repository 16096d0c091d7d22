"""What allocators are told of a daemon: its device, deadlines, who waits, what was chosen; and what a journal keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orric.configuration import undominated
from orric.devices import Device
from orric.edge.config import EdgeConfig
from orric.edge.decisions import DecisionService
from orric.edge.episode import Decider, head_of, resumed
from orric.edge.journal import Journal, read_journal
from orric.edge.recorded import follows
from orric.edge.told import heeded, task_of, told_of
from orric.profile import Profile
from orric.timeliness import ArrivalProcess

from ..builders import build_profile, write_profile
from .conftest import DIGITS
from .test_slots import slot


@pytest.fixture
def configured(write: Callable[..., Path]) -> Callable[..., EdgeConfig]:
    """Return a function that makes a configuration; keys of the stream are given as stream={...}."""

    def made(stream: dict[str, Any] | None = None, profile: Path = DIGITS, **changes: Any) -> EdgeConfig:
        keys = {"name": "digits", "profile": str(profile), "requests": [100.0, 1000.0], **(stream or {})}
        return EdgeConfig.load(write(profile, **{"stream": [keys], **changes}), {})

    return made


def test_without_a_deadline_nothing_is_told_of_time_and_the_head_is_as_before(configured) -> None:
    config = configured()
    task = task_of(config)
    assert task.streams[0].timeliness is None
    assert (task.streams[0].least_requests, task.streams[0].most_requests) == (100.0, 1000.0)
    assert "devices" not in told_of(task)
    assert "timeliness" not in told_of(task)["streams"][0]
    assert heeded(told_of(task)) == (None, ())


def test_timeliness_is_that_of_the_batches_that_are_measured(configured, tmp_path: Path) -> None:
    table = Profile.load(DIGITS).moved(tmp_path).model_dump(exclude_none=True)
    measured = {"inference": "32px", "fixed_s": 1e-3, "each_s": 2e-4}
    Profile(**{**table, "device": {"macs_per_s": 2e9}, "batch_latency": [measured]}).save(tmp_path / "measured.toml")
    server = {"port": 0, "deadline_s": 0.1, "most_batch": 16, "longest_wait_s": 0.01}
    (stream,) = task_of(configured(profile=tmp_path / "measured.toml", server=server)).streams
    found = stream.timeliness
    assert found is not None
    assert (found.deadline_s, found.most, found.wait_s, found.queue_limit) == (0.1, 16, 0.01, 2048)
    assert found.arrivals == ArrivalProcess("poisson", drawn=True)
    # The device is half as fast as the measured one.
    for one, fixed_s, each_s in zip(stream.inference, found.fixed_s, found.each_s, strict=True):
        alone_s = one.cost_macs / 1e9 if one.latency_s is None else 2 * one.latency_s
        assert (fixed_s, each_s) == pytest.approx((2e-3, 4e-4) if one.name == "32px" else (0.0, alone_s))


def test_a_budget_is_no_throttle(configured) -> None:
    """What serves at the whole device's speed is in time, however little of the device a slot may spend."""
    server = {"port": 0, "deadline_s": 0.1}
    whole = {"slot_s": 60.0, "server": server}

    def told(**budget: Any) -> Any:
        return task_of(configured(budget=budget, **whole)).streams[0].timeliness

    few = 0.001
    found, all_of_it = told(fraction=few), told()
    assert all_of_it.each_s == pytest.approx([one.latency_s for one in undominated(Profile.load(DIGITS).inference)])
    dearest = len(found.each_s) - 1
    # Allocators are told the budget, and with it so small a part of the device.
    assert found.part(dearest, few, 1000.0) == all_of_it.part(dearest, 1.0, 1000.0) == 1.0
    assert all_of_it.part(dearest, few, 1000.0) < 0.8, "as it would be were batches held back"
    assert told(probe="processor", fraction=few) == all_of_it, "which others really take"
    asked = task_of(configured(budget={"fraction": few}, mode="decisions", **whole)).streams[0].timeliness
    assert asked.each_s == all_of_it.each_s


def test_a_stream_may_have_a_deadline_and_arrivals_of_its_own(configured) -> None:
    arrivals = {"kind": "bursty", "ratio": 8.0, "burst_s": 2.0, "calm_s": 18.0}
    config = configured({"deadline_s": 0.2, "arrivals": arrivals}, server={"port": 0, "deadline_s": 0.1})
    found = task_of(config).streams[0].timeliness
    assert found is not None
    assert found.deadline_s == config.deadline_s(config.stream[0]) == 0.2
    assert found.arrivals == ArrivalProcess("bursty", drawn=True, ratio=8.0, burst_s=2.0, calm_s=18.0)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, "priority"),
        ({"retraining": {"nice": 0}}, "weighted"),
        ({"retraining": {"nice": 0, "idle": True}}, "priority"),
        ({"retraining": {"nice": 0, "cpu_weight": 10}}, "priority"),
        ({"retraining": {"nice": 0, "cpu_weight": 100}}, "weighted"),
    ],
)
def test_retraining_that_steps_back_leaves_serving_the_device(configured, changes: Any, found: str) -> None:
    (device,) = task_of(configured(**changes)).devices
    assert device.sharing == found
    measured = Profile.load(DIGITS).colocation
    assert device.slowdown == (1.0 if measured is None else max(measured.slowdown, 1.0))


def test_how_another_stack_serves_is_unknown(configured) -> None:
    task = task_of(configured(mode="decisions", server={"port": 0, "deadline_s": 0.1}))
    assert task.devices == ()
    assert task.streams[0].timeliness is not None
    assert (task.streams[0].timeliness.most, task.streams[0].timeliness.wait_s) == (1, 0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"server": {"port": 0, "deadline_s": 0.2}},
        {"stream": {"arrivals": {"kind": "upload"}}},
        {"server": {"port": 0, "deadline_s": 0.1, "most_batch": 32}},
        {"retraining": {"nice": 0}},
        {"server": {"port": 0}},
    ],
)
def test_another_deadline_or_device_is_another_episode(configured, change: dict[str, Any]) -> None:
    given: dict[str, Any] = {"server": {"port": 0, "deadline_s": 0.1}}
    before = head_of(configured(**given))
    assert json.loads(json.dumps(before, allow_nan=False)) == before
    assert head_of(configured(**given)) == before
    assert head_of(configured(**{**given, **change})) != before


def test_what_a_journal_holds_of_time_is_read_again(configured) -> None:
    arrivals = {"kind": "hawkes", "branching": 0.3, "decay_s": 2.0}
    task = task_of(configured({"arrivals": arrivals}, server={"port": 0, "deadline_s": 0.1}))
    told = json.loads(json.dumps(told_of(task), allow_nan=False))
    assert heeded(told) == (task.streams[0].timeliness, task.devices)
    for key, value in (("fixed_s", ["a"]), ("more", 1), ("arrivals", {"kind": "odd"}), ("most", 1.5)):
        stream = told["streams"][0]
        with pytest.raises((ValueError, TypeError)):
            heeded({**told, "streams": [{**stream, "timeliness": {**stream["timeliness"], key: value}}]})


def test_a_daemon_with_a_deadline_goes_on_and_its_log_replays(open_daemon, orric_command, fog) -> None:
    daemon = open_daemon(server__deadline_s=0.5)
    images, _ = fog
    for _ in range(3):
        slot(daemon, images)
    path = daemon.config.store_folder / "journal/000001.jsonl"
    daemon.stop()
    records, _ = read_journal(path)
    decisions = [one for one in records if one["kind"] == "decision"]
    seen = [one["seen"] for one in records if one["kind"] == "observation"]
    assert [one["backlogs"] for one in decisions] == [[0.0]] * 3
    for decided, observed in zip(decisions, seen, strict=True):
        assert observed["retraining"] == decided["streams"][0]["retraining"]
        assert observed["inference"] == decided["streams"][0]["inference"]
        assert (observed["waiting"], observed["labels"]) == (0.0, 0.0)
    profile = daemon.config._folder / daemon.config.stream[0].profile
    code, out, err = orric_command("evaluate", "--log", path, "--profile", profile, "--json")
    assert code == 0, err
    assert json.loads(out)["different"] == []
    assert open_daemon(server__deadline_s=0.5).loop.recovered == ["went on after slot 3 of episode 1"]


def test_a_daemon_that_is_paused_tells_what_really_served(open_daemon) -> None:
    daemon = open_daemon(horizon_slots=50, budget__macs_per_s=2e7, allocator="orric")
    daemon.loop.begin()
    chosen = daemon.loop.rows[-1].decision.streams[0].inference
    assert daemon.loop.finish().inference == chosen
    daemon.loop.control("pause")
    daemon.loop.begin()
    best = max(daemon.config.profiles[0].inference, key=lambda one: one.profit).name
    assert daemon.loop.rows[-1].decision.streams[0].inference == chosen != best
    assert daemon.loop.finish().inference == best


def service_of(config: EdgeConfig) -> DecisionService:
    return DecisionService(config, Journal(config.store_folder / "journal", follows), lambda: 1.0)


def test_decisions_for_others_tell_what_was_decided_and_who_waits(
    configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = write_profile(build_profile(), tmp_path / "small.toml")
    config = configured(profile=profile, mode="decisions", budget={"macs_per_s": 1e9})
    asked: list[Any] = []
    decide = Decider.decide

    def listening(self: Decider, slot: int, budget: float, requests: Any, backlogs: Any = ()) -> Any:
        asked.append((slot, backlogs))
        return decide(self, slot, budget, requests, backlogs)

    monkeypatch.setattr(Decider, "decide", listening)
    service = service_of(config)
    given = {"stream": "digits", "requests": 300.0, "served": 280.0, "waiting": 20.0, "labels": 30.0, "agreement": 0.5}
    first = service.decide({"digits": 300.0}, 3e9, [])["streams"][0]
    service.decide({"digits": 300.0}, 3e9, [{"late": 0.0, "shed": 0.0, "retrained": 1.0, **given}])
    assert asked == [(1, ()), (2, (20.0,))]
    record = service._journal.records[-1]
    (seen,) = record["observed"]
    assert (seen["retraining"], seen["inference"]) == (first["retraining"], first["inference"])
    assert (seen["waiting"], seen["labels"], list(record["backlogs"])) == (20.0, 30.0, [20.0])
    service.close()
    asked.clear()
    again = service_of(config)
    assert again.recovered == ["went on after slot 2 of episode 1"]
    assert asked == [(1, ()), (2, (20.0,))], "replayed with who waited"
    records = again._journal.records
    assert resumed(config, [*records[:2], {**records[2], "backlogs": [1.0]}], again._new_decider()) == (2, [])
    assert follows(records[:2], records[2])
    assert not follows(records[:2], {**records[2], "backlogs": [1.0, 2.0]})
    again.close()


def test_devices_that_slow_serving_down_are_told(configured, tmp_path: Path) -> None:
    table = Profile.load(DIGITS).moved(tmp_path).model_dump(exclude_none=True)
    for slowdown, told in ((1.4, 1.4), (0.97, 1.0)):
        Profile(**{**table, "colocation": {"slowdown": slowdown}}).save(tmp_path / "slow.toml")
        assert task_of(configured(profile=tmp_path / "slow.toml")).devices == (Device("priority", slowdown=told),)

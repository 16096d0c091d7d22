"""Slots by the clock, whatever retraining, labelling, disk and probe do: real processes, in a time of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orric.edge import faults
from orric.edge.clock import SlotClock
from orric.edge.journal import Journal, read_journal
from orric.edge.page import status
from orric.edge.probes import Patient
from orric.edge.recorded import follows
from orric.exceptions import EdgeError
from orric.profile import Profile

from .conftest import DIGITS
from .lines import counted

SLOT_S = 3.0
# All is afforded, and the process does not step back behind whatever else runs here.
QUICK = {"retrains": True, "budget__macs_per_s": 1e12, "retraining__nice": 0}


class Time:
    """A time that passes only where somebody waits; stands in for the event that ends the slots, too.

    Args:
        slots: After which the daemon stops.
    """

    def __init__(self, slots: int) -> None:
        self.now_s, self._end_s = 1000.0, 1000.0 + slots * SLOT_S
        self.ended = False

    def now(self) -> float:
        return self.now_s

    def is_set(self) -> bool:
        return self.ended or self.now_s >= self._end_s

    def set(self) -> None:
        self.ended = True

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        return self.is_set()


class Run:
    """A daemon's slots in such a time, with what they were told.

    Args:
        daemon: Made with the time.
        time: Its time.
        in_slot: Called in every slot, after its begin, with its number from 0 by the clock.
    """

    def __init__(self, daemon: Any, time: Time, in_slot: Callable[[int], None] = lambda number: None) -> None:
        self.begun: list[tuple[float, float, int]] = []
        begin, loop, first_s = daemon.loop.begin, daemon.loop, time.now_s

        def begins(late_s: float, missed: int) -> Any:
            self.begun.append((time.now_s - first_s, late_s, missed))
            decision = begin(late_s, missed)
            in_slot(round((self.begun[-1][0] - late_s) / SLOT_S))
            return decision

        loop.begin = begins
        daemon._stopping = time
        daemon.run_slots()

    @property
    def begins(self) -> list[float]:
        """When slots began, in slots."""
        return [at / SLOT_S for at, _, _ in self.begun]


@pytest.fixture
def opened(open_daemon, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Time, list[Any]]]:
    """Return a function that makes a daemon in a time of its own; it gives both, and what is logged."""

    def made(slots: int, **given: Any) -> tuple[Any, Time, list[Any]]:
        told: list[Any] = []
        monkeypatch.setattr("orric.edge.daemon.tell", lambda level, event, **values: told.append((event, values)))
        monkeypatch.setattr(faults, "_counts", {})
        time = Time(slots)
        return open_daemon(now=time.now, slot_s=SLOT_S, **given), time, told

    return made


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a profile with two ways to retrain, and without anchors: its process is soon there."""
    folder = tmp_path_factory.mktemp("few")
    table = Profile.load(DIGITS).moved(folder).model_dump(exclude_none=True)
    names = ("none", "20%", "100%")
    table["retraining"] = [one for one in table["retraining"] if one["name"] in names]
    ratios = table["models"]["sampling_ratio"]
    table["models"]["sampling_ratio"] = {name: ratios[name] for name in names}
    del table["models"]["anchors"]
    Profile(**table).save(folder / "profile.toml")
    return folder / "profile.toml"


def test_the_clock_counts_what_is_missed() -> None:
    now = [0.0]
    clock = SlotClock(10.0, lambda: now[0])
    found = []
    for at in (10.0, 22.0, 34.0, 85.0):
        now[0] = at
        found.append((*clock.go_on(), clock.begin_s))
    # In time; 2 s late, begun all the same; 4 s late: the slot is missed; and a slot of half a minute.
    assert found == [(0.0, 0, 10.0), (2.0, 0, 20.0), (4.0, 1, 40.0), (35.0, 4, 90.0)]


def test_a_process_that_hangs_at_its_start_holds_up_no_slot(opened, monkeypatch, images: np.ndarray) -> None:
    daemon, time, _ = opened(9, retrains=True)
    daemon.process._process.kill()
    daemon.process._process.wait()
    monkeypatch.setenv("ORRIC_FAULT", "worker.load:hang")
    run = Run(daemon, time, lambda number: daemon.uploads.arrive(images[:60]) and None)
    assert run.begins == list(range(9))
    assert daemon.loop.learner._starting.is_alive(), "it was being started all the time"
    unlearnt = [row.outcome.unlearnt for row in daemon.loop.rows]
    assert unlearnt[1:] == ["the retraining process starts"] * 8
    assert daemon.loop.failures["retraining"] == 0, "to wait is no failure"
    assert (daemon.loop.missed, daemon.loop.overrun_s) == (0, 0.0)


def test_killed_again_and_again_it_steps_back_and_says_why(opened, monkeypatch, fog, few) -> None:
    images, _ = fog
    monkeypatch.setenv("ORRIC_FAULT", "worker.label:kill")
    given = {**QUICK, "profile": few}
    daemon, time, told = opened(8, **given)
    learner = daemon.loop.learner
    # A slot is a moment here: the processor has as long as it needs to die, and no retraining is too long.
    monkeypatch.setattr(daemon.process, "retrain", in_any_time(daemon.process.retrain))
    learner.prepare()

    def in_slot(number: int) -> None:
        daemon.uploads.arrive(images)
        learner.wait()

    run = Run(daemon, time, in_slot)
    assert run.begins == list(range(8))
    rows = list(daemon.loop.rows)
    assert {row.decision.streams[0].retraining for row in rows[1:]} == {"100%"}, "the allocator decides as ever"
    executed = [row.outcome.executed for row in rows[1:]]
    # Smaller, then none for 1 slot and for 2, between them the smallest.
    assert executed == [None, "20%", "none", "20%", "none", "none", "20%"]
    assert "ended with status -9" in rows[2].outcome.stepped_back
    said = [values["why"] for event, values in told if event == "retraining steps back"]
    assert said[0] == "100%: ended with status -9"
    state = status(daemon)["retraining"]
    assert state["why"] == "20%: ended with status -9"
    assert counted(daemon, "orric_retraining_backoff", model="digits") == state["steps_back"] > 0
    # What was executed is written down, and the same decisions come out of it in the next daemon.
    daemon.stop()
    found = Journal(daemon.config.store_folder / "journal", follows)
    assert found.damaged == 0
    seen = [record for record in found.records if record["kind"] == "observation"]
    assert [one.get("executed") for one in seen[1:]] == executed
    assert {one["seen"]["retrained"] for one in seen} == {0.0}
    monkeypatch.delenv("ORRIC_FAULT")
    again, _, _ = opened(1, **given)
    assert again.loop.recovered == ["went on after slot 8 of episode 1"]
    assert again.loop.learner.backoff.state() == learner.backoff.state()


def in_any_time(retrain: Callable[..., Any]) -> Callable[..., Any]:
    def patient(drawn: Any, wanted: Any, seed: int, deadline_s: float) -> Any:
        return retrain(drawn, wanted, seed, 600.0)

    return patient


def test_labelling_that_is_slow_ends_with_its_slot(opened, monkeypatch, images: np.ndarray) -> None:
    monkeypatch.setenv("ORRIC_FAULT", "worker.label:hang")
    daemon, time, _ = opened(6, **QUICK)
    learner = daemon.loop.learner
    learner.prepare()
    learner.wait()
    run = Run(daemon, time, lambda number: daemon.uploads.arrive(images) and None)
    assert run.begins == list(range(6)), "all of them, while the second one's retraining hangs"
    assert [row.outcome.unlearnt for row in daemon.loop.rows][2:] == [
        "the retraining of an earlier slot is still under way"
    ] * 4
    learner.wait()  # the deadline, which is of the real time
    assert "did not end within" in daemon.loop.rows[1].outcome.failed
    assert learner.backoff.most == "50%"


def test_a_version_that_is_long_in_being_written_holds_up_no_slot(opened, monkeypatch, fog) -> None:
    images, _ = fog
    daemon, time, _ = opened(8, **QUICK)
    learner, keep = daemon.loop.learner, daemon.versions.store.keep
    monkeypatch.setattr(daemon.process, "retrain", in_any_time(daemon.process.retrain))
    learner.prepare()
    learner.wait()
    reached, free = threading.Event(), threading.Event()

    def slow(*given: Any) -> Any:
        reached.set()
        assert free.wait(60)
        return keep(*given)

    monkeypatch.setattr(daemon.versions.store, "keep", slow)

    def in_slot(number: int) -> None:
        daemon.uploads.arrive(images)
        if number == 1:
            assert reached.wait(60)
        if number == 6:
            free.set()
            learner.wait()

    run = Run(daemon, time, in_slot)
    assert run.begins == list(range(8))
    rows = list(daemon.loop.rows)
    assert rows[1].outcome.version == 2, "it serves late, and serves"
    records, _ = read_journal(daemon.config.store_folder / "journal/000001.jsonl")
    seen = [one["seen"]["retrained"] for one in records if one["kind"] == "observation"]
    assert seen[1] == 0.0, "its own slot had ended before"


def test_a_slow_disk_costs_slots_and_moves_none(opened, monkeypatch, images: np.ndarray) -> None:
    daemon, time, told = opened(12)
    append = Journal.append

    def slow(self: Journal, record: dict[str, Any]) -> None:
        if record["kind"] == "observation" and record["seen"]["slot"] == 3:
            time.now_s += 4.5 * SLOT_S
        append(self, record)

    monkeypatch.setattr(Journal, "append", slow)
    run = Run(daemon, time, lambda number: daemon.uploads.arrive(images[:120]) and None)
    assert run.begins == [0, 1, 2, 8, 9, 10, 11], "by the clock, as if nothing had been"
    assert daemon.loop.missed == 5
    assert [values for event, values in told if event == "slot overrun"] == [
        {"after": 3, "overrun_s": 13.5, "missed": 5}
    ]
    assert counted(daemon, "orric_slots_missed_total", model="digits") == 5
    assert counted(daemon, "orric_slots_overrun_seconds_total", model="digits") == 13.5
    records, _ = read_journal(daemon.config.store_folder / "journal/000001.jsonl")
    assert [one.get("missed") for one in records if one["kind"] == "decision"] == [
        None,
        None,
        None,
        5,
        None,
        None,
        None,
    ]
    # What came in more than a slot's time is no reason to expect as much of the next one.
    assert daemon.loop._forecast == pytest.approx(120, rel=0.3)
    assert status(daemon)["clock"] == {"number": 12, "missed": 5, "overrun_s": 13.5, "left_s": 0.0}


def test_a_probe_that_hangs_is_waited_for_a_moment(opened, monkeypatch) -> None:
    free = threading.Event()
    asked = []

    def hangs() -> float:
        asked.append(True)
        if len(asked) == 2:
            free.wait(60)
        return 0.5

    daemon, time, _ = opened(5)
    daemon.loop._probe = Patient(hangs, 0.01)
    Run(daemon, time)
    assert [row.decision.budget_macs for row in daemon.loop.rows] == [0.5e9 * SLOT_S] * 5, "the last one holds"
    assert len(asked) == 2, "it is not asked again while it hangs"
    assert daemon.loop.failures["probe"] == 4
    free.set()


def test_what_a_probe_says_late_is_used_the_next_time() -> None:
    free, said = threading.Event(), threading.Event()

    def late() -> float:
        free.wait(60)
        said.set()
        return 0.25

    patient = Patient(late, 0.01)
    with pytest.raises(EdgeError, match=r"did not answer within 0\.01 s"):
        patient()
    free.set()
    assert said.wait(60)
    patient._patience_s = 60.0
    assert patient() == 0.25

    def fails() -> float:
        raise EdgeError("budget command", "ended with status 1")

    broken = Patient(fails, 60.0)
    for _ in range(2):
        with pytest.raises(EdgeError, match="ended with status 1"):
            broken()

"""The slot loop: real retraining, real swaps, faults that serving does not notice, and what is left after a restart."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import orric
from orric.edge.config import EdgeConfig
from orric.edge.daemon import Daemon
from orric.edge.episode import Decider, ratio_floor
from orric.edge.page import status
from orric.edge.retraining import Wanted
from orric.edge.store import MODEL
from orric.exceptions import AllocatorError, EdgeError
from orric.learning import Exponential, TimeVarying

from .conftest import DIGITS, TOKEN


def send(daemon: Any, images: np.ndarray) -> np.ndarray:
    """Send images as the server would; return the classes that they are answered with."""

    async def ask() -> np.ndarray:
        daemon.uploads.arrive(images)
        outputs, _ = await daemon.batcher.submit(images)
        daemon.uploads.answer([len(images)], [0.001])
        return np.asarray(outputs.argmax(axis=1))

    return asyncio.run(ask())


def slot(daemon: Any, images: np.ndarray | None = None) -> Any:
    """Pass a slot that is as long as its retraining takes; return its row."""
    daemon.loop.learner.prepare()
    daemon.loop.learner.wait()
    daemon.loop.begin()
    if images is not None:
        send(daemon, images)
    daemon.loop.learner.wait()
    daemon.loop.finish()
    return daemon.loop.rows[-1]


def test_it_learns_from_what_it_selects(open_daemon, selecting, fog, monkeypatch) -> None:
    images, truth = fog
    daemon = open_daemon(retrains=True, slot_s=60.0, profile=selecting, retraining__held_out=0.5)
    before = (send(daemon, images) == truth).mean()
    daemon.uploads.close_slot()
    asked, retrain = [], daemon.process.retrain

    def listen(pool, wanted, *others):
        asked.append((len(pool.images), wanted))
        answer = retrain(pool, wanted, *others)
        asked.append(answer)
        return answer

    monkeypatch.setattr(daemon.process, "retrain", listen)
    rows = [slot(daemon, images) for _ in range(3)]
    assert [row.decision.streams[0].retraining for row in rows[:2]] == ["20% picky"] * 2
    assert asked[0] == (180, Wanted(60, "chg-shapley", "student")), "three are looked at for each that is taken"
    # Half of those are held out: drawn, not selected, and the only ones that tell how well the student does.
    assert set(asked[1].standing.tolist()) <= set(range(30))
    assert asked[1].outcomes["held_out"] == len(asked[1].standing) > 16
    assert rows[0].outcome.agreement == asked[1].agreement == pytest.approx(before, abs=0.3)
    assert (send(daemon, images) == truth).mean() > before + 0.1
    assert set(daemon.loop.failures.values()) == {0}


def test_it_learns_to_see_through_fog(open_daemon, fog) -> None:
    images, truth = fog
    daemon = open_daemon(retrains=True, slot_s=60.0)
    before = (send(daemon, images) == truth).mean()
    daemon.uploads.close_slot()
    rows = [slot(daemon, images) for _ in range(4)]
    after = (send(daemon, images) == truth).mean()
    assert after > before + 0.3
    assert rows[-1].outcome.version == daemon.versions.current.serving > 2
    assert rows[0].outcome.agreement == pytest.approx(before, abs=0.15), "of what was sent before the first slot"
    assert daemon.versions.swaps >= 2
    assert set(daemon.loop.failures.values()) == {0}
    assert 0 < rows[-1].ratio <= 1
    figures = daemon.figures()
    assert figures["accuracy_estimate"] == rows[-1].outcome.agreement
    assert 0 < figures["retraining_part"] + figures["inference_part"] <= 1
    # What trains is what serves: the store has both, and they agree.
    _, files = daemon.versions.store.load(daemon.versions.current.serving)
    assert files[MODEL]


def test_the_estimate_of_what_is_right_and_in_time(open_daemon, fog) -> None:
    """Agreement times the part of all that came which was answered by the deadline; what was turned away is none."""
    images, _ = fog
    daemon = open_daemon(slot_s=60.0, server__deadline_s=0.1)
    unknown = daemon.figures()
    assert unknown["in_time_part"] is unknown["in_time_accuracy_estimate"] is None
    daemon.loop.begin()
    daemon.uploads.arrive(images[:30])
    daemon.uploads.answer([10, 10, 4], [0.05, 0.2, 0.1])
    daemon.uploads.turn_away(10)
    daemon.loop.finish()
    figures = daemon.figures()
    assert figures["in_time_part"] == pytest.approx(14 / 40)
    assert figures["in_time_accuracy_estimate"] is None, "nothing was labelled"
    daemon.loop.rows[-1].outcome.agreement = 0.8
    assert daemon.figures()["in_time_accuracy_estimate"] == pytest.approx(0.8 * 14 / 40)
    shown = status(daemon)
    assert shown["deadline_s"] == 0.1
    assert shown["slots"][-1]["in_time"] == pytest.approx(14 / 40)
    # An empty slot says nothing; of one that answers what the one before had left no more than all are in time.
    daemon.loop.begin()
    daemon.loop.finish()
    assert daemon.figures()["in_time_part"] == pytest.approx(14 / 40)
    daemon.loop.begin()
    daemon.uploads.arrive(images[:2])
    daemon.uploads.answer([6], [0.01])
    daemon.loop.finish()
    assert daemon.figures()["in_time_part"] == 1.0


FAULTS = {
    "worker.train:kill": ("retraining", "ended with status -9"),
    "worker.trained:hang": ("retraining", "did not end within"),
    "worker.train:nan": ("retraining", "no numbers"),
    "worker.train:oom": ("retraining", "out of memory"),
    "store.whole:full": ("validation", "No space left"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_retraining_do_not_touch_serving(
    open_daemon, fog, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    from orric.edge import faults

    images, _ = fog
    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr("orric.edge.daemon.tell", lambda level, event, **values: told.append((event, values)))
    monkeypatch.setattr(faults, "_counts", {})
    # The second keeping: the first is that of the given student.
    monkeypatch.setenv("ORRIC_FAULT", f"{fault}:2" if fault.startswith("store") else fault)
    # A deadline is waited for by the one that hangs alone; the others have time on any machine.
    daemon = open_daemon(retrains=True, slot_s=12.0 if "hang" in fault else 240.0, retraining__deadline=0.5)
    serving = daemon.versions.current.serving
    slot(daemon, images)
    answers = send(daemon, images[:20])
    counter, said = FAULTS[fault]
    row = slot(daemon, images)
    assert row.outcome.version is None
    assert daemon.loop.failures[counter] == 1
    assert said in row.outcome.failed
    assert any(said in str(values) for _, values in told), "the log names it"
    assert daemon.versions.current.serving == serving
    assert np.array_equal(send(daemon, images[:20]), answers)
    if "kill" in fault:
        assert row.outcome.executed is None
        monkeypatch.delenv("ORRIC_FAULT")
        daemon.process._process.kill()  # one without the fault begins anew
        daemon.process._process.wait()
        row = slot(daemon, images)
        assert (row.decision.streams[0].retraining, row.outcome.executed) == ("100%", "50%"), "less gets through"
        assert row.outcome.version == serving + 1


def test_a_probe_that_fails_leaves_the_last_budget(open_daemon, images: np.ndarray, tmp_path: Path) -> None:
    script = tmp_path / "probe.sh"
    script.write_text("#!/bin/sh\ncat part\n")
    script.chmod(0o755)
    (tmp_path / "part").write_text("0.5")
    command = ["sh", "-c", f"cat {tmp_path / 'part'}"]
    daemon = open_daemon(budget__probe="command", budget__command=command)
    assert slot(daemon, images).decision.budget_macs == 0.5 * 1e9 * 5.0
    (tmp_path / "part").unlink()
    assert slot(daemon, images).decision.budget_macs == 0.5 * 1e9 * 5.0
    assert daemon.loop.failures["probe"] == 1


@pytest.mark.parametrize("when", ["decide", "observe"])
def test_an_allocator_that_fails_is_counted_and_does_not_touch_serving(
    open_daemon, images: np.ndarray, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    decide = Decider.decide

    def decides(self: Decider, slot: int, *given: Any) -> Any:
        if slot == 2:  # what it decided before it decides again, when it begins anew from the journal
            raise AllocatorError("orric", "raised ValueError", "mend it")
        return decide(self, slot, *given)

    def observes(self: Decider, seen: Any) -> None:
        raise AllocatorError("orric", "raised ValueError", "mend it")

    told: list[str] = []
    monkeypatch.setattr("orric.edge.daemon.tell", lambda level, event, **values: told.append(event))
    daemon = open_daemon()
    slot(daemon, images)
    with monkeypatch.context() as patch:
        patch.setattr(Decider, when, {"decide": decides, "observe": observes}[when])
        decision = daemon.loop.begin()
        assert (decision is None) == (when == "decide")
        assert len(send(daemon, images)) == len(images)
        daemon.loop.finish()
    assert daemon.failures() == {"decision": 1, "retraining": 0, "validation": 0, "probe": 0, "journal": 0}
    assert told[-1] == {"decide": "decision failed", "observe": "observation failed"}[when]
    assert 'orric_failures_total{model="digits",of="decision"} 1.0' in daemon.metrics.text().decode()
    assert status(daemon)["failures"]["decision"] == 1
    assert slot(daemon, images).decision.slot == (2 if when == "decide" else 3), "the next one is decided again"
    assert daemon.failures()["decision"] == 1


def test_a_full_disk_stops_decisions_and_not_serving(
    open_daemon, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = open_daemon()
    slot(daemon, images)
    from orric.edge import faults

    monkeypatch.setattr(faults, "_counts", {})
    monkeypatch.setenv("ORRIC_FAULT", "journal.half:full")
    assert daemon.loop.begin() is None
    assert len(send(daemon, images)) == len(images)
    assert daemon.loop.finish() is None
    assert daemon.loop.failures["journal"] == 1
    monkeypatch.delenv("ORRIC_FAULT")
    assert slot(daemon, images).decision.slot == 2, "the next one is decided again"


def test_a_slot_that_is_overloaded_sheds(open_daemon, images: np.ndarray) -> None:
    daemon = open_daemon(budget__macs_per_s=2e7, slot_s=5.0)  # for some 80 images at the smallest input
    daemon.loop.begin()
    assert daemon.loop.rows[-1].decision.overloaded
    from orric.edge.serving import OverloadedError

    taken = 0
    with suppress(OverloadedError):
        while taken < 200:
            send(daemon, images[:2])
            taken += 2
    assert 70 <= taken <= 90
    assert daemon.batcher.resolution_px == 20


@pytest.mark.parametrize("mode", ["live", "shadow"])
def test_shadow_and_pause_change_nothing(open_daemon, images: np.ndarray, mode: str) -> None:
    daemon = open_daemon(mode=mode, budget__macs_per_s=2e8)
    daemon.loop.begin()
    if mode == "live":
        daemon.loop.control("pause")
        daemon.loop.finish()
        daemon.loop.begin()
    decision = daemon.loop.rows[-1].decision
    assert daemon.batcher.resolution_px == 32
    assert decision.streams[0].inference
    assert set(decision.beside) == {"inference-only", "inference-greedy"}
    daemon.loop.finish()
    if mode == "live":
        daemon.loop.control("resume")
        assert not daemon.loop.paused


def test_episodes_begin_again(open_daemon, images: np.ndarray) -> None:
    daemon = open_daemon(horizon_slots=3)
    slots = [slot(daemon, images).decision.slot for _ in range(7)]
    assert slots == [1, 2, 3, 1, 2, 3, 1]
    assert daemon.loop.total == 7


def test_a_restart_in_the_first_slot_of_an_episode_keeps_the_back_off(open_daemon, images: np.ndarray) -> None:
    daemon = open_daemon(horizon_slots=2)
    daemon.loop.learner.backoff.ended(None, "killed")
    for _ in range(2):
        slot(daemon, images)
    daemon.loop.begin()  # of the next episode
    stepped_back = daemon.loop.learner.backoff.state()
    assert stepped_back is not None
    daemon._held.close()  # as when it is killed
    again = Daemon(EdgeConfig.load(daemon._path, {}), daemon._path, TOKEN)
    try:
        assert again.loop.recovered == ["went on after slot 1 of episode 2"]
        assert again.loop.learner.backoff.state() == stepped_back
    finally:
        again.stop()


def test_what_clocks_do_does_not_matter(open_daemon, images: np.ndarray) -> None:
    """Slots are kept by a clock that never goes back; a leap ahead makes one slot long."""
    now = [1000.0]
    daemon = open_daemon(now=lambda: now[0])
    slot(daemon, images)
    now[0] += 86_400
    assert slot(daemon, images).decision.slot == 2
    assert not daemon.alive
    daemon.beat()
    assert daemon.alive


def test_after_a_restart_it_goes_on_where_it_was(open_daemon, write, onnx_student, images: np.ndarray) -> None:
    daemon = open_daemon(allocator="orric-guided", shadow=["orric"])  # which learns from what it observes
    for number in range(5):
        slot(daemon, images[: 20 + 30 * number])
    daemon.loop.begin()  # and in the middle of the sixth it is killed
    path = daemon._path
    with pytest.raises(EdgeError, match="another daemon uses it"):
        Daemon(EdgeConfig.load(path, {}), path, TOKEN)
    daemon._held.close()  # as when it is killed
    again = Daemon(EdgeConfig.load(path, {}), path, TOKEN)
    try:
        assert again.loop.recovered == ["went on after slot 6 of episode 1"]
        assert (again.loop.slot, again.loop.total) == (6, 6)
        again.loop.begin()
        daemon.loop.finish()
        daemon.loop._forecast = again.loop._forecast
        daemon.loop.begin()
        ours, theirs = again.loop.rows[-1].decision, daemon.loop.rows[-1].decision
        assert (ours.slot, ours.requests) == (theirs.slot, theirs.requests)
    finally:
        again.stop()
    other = write(profile=onnx_student, retraining__enabled=False, allocator="focus-shift")
    third = Daemon(EdgeConfig.load(other, {}), other, TOKEN)
    try:
        assert "began a new episode" in third.loop.recovered[-1]
        assert third.loop.total >= 7
    finally:
        third.stop()


def test_the_log_replays_to_the_same_decisions(open_daemon, orric_command, images: np.ndarray) -> None:
    daemon = open_daemon()
    rows = [slot(daemon, images[: 10 + 25 * number]) for number in range(6)]
    journal = daemon.config.store_folder / "journal/000001.jsonl"
    code, out, err = orric_command("evaluate", "--log", journal, "--profile", DIGITS, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["slots"] == 6
    assert told["different"] == []
    assert [one["inference"] for one in told["allocations"]] == [row.decision.streams[0].inference for row in rows]
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:-1], lines[-1][:-3]]))
    assert orric_command("evaluate", "--log", journal, "--profile", DIGITS)[0] == 0, "its last line may be cut short"
    code, _, err = orric_command("evaluate", "--log", DIGITS, "--profile", DIGITS)
    assert code == 2
    assert err.count("\n") == 1


def test_another_student_takes_over_an_old_store(open_daemon, onnx_student, tmp_path: Path) -> None:
    daemon = open_daemon()
    served = daemon.versions.store.load(1)[0].hashes[MODEL]
    daemon.stop()
    profile = orric.Profile.load(onnx_student)
    model = onnx.load(onnx_student.with_name("student.onnx"))
    model.producer_name = "somebody else"
    (tmp_path / "student.onnx").write_bytes(model.SerializeToString())
    profile.moved(tmp_path).model_copy(
        update={"models": profile.models.model_copy(update={"student": "student.onnx"})}
    ).save(tmp_path / "other.toml")
    again = open_daemon(profile=tmp_path / "other.toml")
    assert again.versions.store.load(2)[0].hashes[MODEL] != served
    assert again.versions.current.serving == 2


def test_a_pause_holds_for_what_is_under_way(open_daemon, fog) -> None:
    images, _ = fog
    daemon = open_daemon(retrains=True, slot_s=60.0)
    slot(daemon, images)
    daemon.loop.begin()
    daemon.loop.control("pause")
    daemon.loop.learner.wait()
    daemon.loop.finish()
    assert daemon.versions.swaps == 0
    assert "operator" in daemon.loop.rows[-1].outcome.failed


def test_a_full_disk_at_the_end_of_an_episode(open_daemon, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = open_daemon(horizon_slots=2)
    slot(daemon, images)
    slot(daemon, images)
    from orric.edge import faults

    monkeypatch.setattr(faults, "_counts", {})
    monkeypatch.setenv("ORRIC_FAULT", "journal.begin.written:full")
    assert daemon.loop.begin() is None
    monkeypatch.delenv("ORRIC_FAULT")
    assert slot(daemon, images).decision.slot == 1
    daemon.stop()
    again = Daemon(EdgeConfig.load(daemon._path, {}), daemon._path, TOKEN)
    assert again.loop.recovered == ["went on after slot 1 of episode 2"]
    again.stop()


def test_where_a_slot_is_not_decided_the_last_ones_budget_holds(
    open_daemon, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = open_daemon(budget__macs_per_s=2e7)
    daemon.loop.begin()
    limit = daemon.batcher.limit
    send(daemon, images[:limit])
    assert daemon.batcher.limit == 0
    daemon.loop.finish()
    from orric.edge import faults

    monkeypatch.setattr(faults, "_counts", {})
    monkeypatch.setenv("ORRIC_FAULT", "journal.before:full")
    assert daemon.loop.begin() is None
    assert daemon.batcher.limit == limit


def test_hashes_and_kinds_of_files_are_checked(write, onnx_student) -> None:
    def refused(**changes: Any) -> str:
        path = write(**changes)
        with pytest.raises(orric.OrricError) as caught:
            Daemon(EdgeConfig.load(path, {}), path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "it is not the file that was meant" in refused(student_sha256="0" * 64)
    assert "it is not the file that was meant" in refused(teacher_sha256="0" * 64)
    assert "set retraining.enabled = true" in refused(retraining__enabled=False)
    assert "store.folder" in refused(profile=onnx_student, retraining__enabled=False, store__folder="/proc/none")


def test_the_floor_of_the_ratio_is_below_the_ratio() -> None:
    """Against the offline optimum of the same slots, computed exactly."""
    digits = orric.Profile.load(DIGITS)
    # Another curve from slot 11 on, and later one that changes itself: each slot goes by its own.
    late = TimeVarying(starts=(1, 21), curves=(digits.curve, digits.drift_curve[-1].curve))
    low = Exponential(c=0.5, a=0.3, k=3.0)
    changing = digits.model_copy(update={"curve": TimeVarying(starts=(1, 11), curves=(low, late)), "drift_curve": ()})
    rng = np.random.default_rng(3)
    trace = orric.Trace(requests=rng.integers(100, 1000, 40), budget_macs=rng.uniform(1e9, 1e10, 40))
    for profile, name in product((digits, changing), ("orric", "inference-only", "retraining-greedy")):
        result = orric.evaluate(profile, trace, orric.make_allocator(name))
        rows = [
            (float(d), float(c), step["retraining"], step["inference"])
            for d, c, step in zip(trace.requests, trace.budget_macs, result.allocations, strict=True)
        ]
        floor = ratio_floor(profile, rows, dict.fromkeys(range(1, 41), 1.0))
        exact = orric.competitive_ratio(result, orric.offline_optimum(profile, trace, gap=1e-4))
        assert floor is not None
        assert 0.5 * exact.low < floor <= exact.high


def test_the_process_ends_with_the_daemon(open_daemon, fog) -> None:
    daemon = open_daemon(retrains=True)
    pid = daemon.process._process.pid
    os.kill(pid, 0)
    daemon.process.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)

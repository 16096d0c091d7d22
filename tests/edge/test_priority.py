"""Retraining steps back behind serving: by the system's scheduler, by control groups, on a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orric.edge import groups
from orric.exceptions import EdgeError


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    """Return a folder like that of a service's control group which was delegated to it."""
    group = tmp_path / "orric.service"
    group.mkdir()
    (group / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
    (group / "cgroup.procs").write_text("12\n34\n")
    return group


def test_a_group_is_divided(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []
    monkeypatch.setattr(groups, "enter", lambda *given: entered.append(given))
    retraining = groups.divide(7, cgroup)
    assert retraining == cgroup / "retraining"
    # Before the controller is given to the groups, or the kernel refuses.
    assert entered == [(cgroup / "serving", 12), (cgroup / "serving", 34)]
    assert (cgroup / "cgroup.subtree_control").read_text() == "+cpu"
    assert (retraining / "cpu.weight").read_text() == "7"
    assert not (cgroup / "serving/cpu.weight").exists()
    assert groups.divide(8, cgroup) == retraining, "after a restart it is there"


def test_a_group_of_others_is_left_as_it_was(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cgroup / "cgroup.subtree_control").mkdir()  # what cannot be written
    entered, enter = [], groups.enter
    monkeypatch.setattr(groups, "enter", lambda *given: (entered.append(given), enter(*given)))
    with pytest.raises(EdgeError, match=r"group .*: cannot be divided \(.*\); let systemd delegate it") as caught:
        groups.divide(7, cgroup)
    assert "\n" not in str(caught.value)
    assert entered[-2:] == [(cgroup, 12), (cgroup, 34)]
    (cgroup / "cgroup.controllers").write_text("memory pids\n")
    with pytest.raises(EdgeError, match="has no controller of the processor"):
        groups.divide(7, cgroup)
    with pytest.raises(EdgeError, match=r"cannot be divided \(No such file"):
        groups.divide(7, cgroup / "nowhere")


def test_the_retraining_process_steps_back(open_daemon, cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its threads, those that the loading of models started among them."""
    monkeypatch.setattr(groups, "own_cgroup", lambda: cgroup)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    daemon = open_daemon(retrains=True, retraining__nice=5, retraining__idle=True, retraining__cpu_weight=10)
    process = daemon.process._process.pid
    assert (cgroup / "retraining/cgroup.procs").read_text() == str(process)
    threads = [int(thread.name) for thread in Path(f"/proc/{process}/task").iterdir()]
    assert process in threads
    for thread in threads:
        assert os.getpriority(os.PRIO_PROCESS, thread) == min(before + 5, 19)
        assert os.sched_getscheduler(thread) == os.SCHED_IDLE
    assert os.sched_getscheduler(0) != os.SCHED_IDLE, "serving does not"
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
    assert b"CUDA_MPS_CLIENT_PRIORITY=1" in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")


def test_without_a_group_of_our_own_niceness_must_do(
    open_daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(groups, "own_cgroup", lambda: tmp_path / "nowhere")
    monkeypatch.setenv("CUDA_MPS_CLIENT_PRIORITY", "0")
    daemon = open_daemon(retrains=True, retraining__cpu_weight=10)
    (told,) = [line for line in caplog.records if line.getMessage() == "priority"]
    assert told.values["instead"] == "nice 10"
    assert "Delegate=cpu" in told.values["error"]
    process = daemon.process._process.pid
    assert os.sched_getscheduler(process) == os.SCHED_OTHER
    assert b"CUDA_MPS_CLIENT_PRIORITY=0" in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"), "as was asked"

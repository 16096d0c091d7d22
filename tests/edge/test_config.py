"""The daemon's configuration: what it refuses, and what the environment may change."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

import orric
from orric.edge.config import EdgeConfig
from orric.edge.probes import own_cgroup, probe_of, processor, quota_cores
from orric.exceptions import EdgeError


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"server__port": 70000}, "server.port: found 70000; give a number less than or equal to 65535"),
        ({"server__hosts": ["a:1"]}, "server.hosts: found 'a:1'; give names without scheme, port and path"),
        ({"server__hosts": ["http://x/"]}, "server.hosts: found 'http://x/'"),
        ({"server__client_header": "a b"}, "server.client_header: found 'a b'"),
        ({"server__prot": 1}, "unknown key 'prot'; did you mean 'port'?"),
        ({"server__provider": "gpu"}, "server.provider: 'gpu' is unknown; did you mean"),
        ({"server__longest_wait_s": -1.0}, "longest_wait_s: found -1.0"),
        ({"allocator": "oric"}, "did you mean 'orric'?"),
        ({"allocator": "teacher-only"}, "is a reference line, which decides nothing"),
        ({"mode": "live!"}, "did you mean 'live'?"),
        ({"slot_s": 0.0}, "slot_s: found 0.0"),
        ({"server__deadline_s": 0.0}, "server.deadline_s: found 0.0; give a number greater than 0"),
        ({"budget__macs_per_s": float("nan")}, "budget.macs_per_s"),
        ({"budget__probe": "command"}, "command is missing; give command if and only if"),
        ({"budget__command": ["x"]}, "probe is 'fixed' and there is a command"),
        ({"budget__fraction": 1.5}, "budget.fraction: found 1.5"),
        ({"store": None}, "key 'store' is missing"),
        ({"store__versions": 1}, "store.versions: found 1"),
        ({"retraining__memory_bytes": 5}, "retraining.memory_bytes: found 5"),
        ({"student_sha256": "abc"}, "student_sha256: found 'abc'"),
        ({"stream": []}, "give 1 at least"),
        ({"stream": [{"profile": "nowhere.toml", "requests": [1.0, 2.0]}]}, "nowhere.toml: no such file"),
        ({"format": 2}, "this version of orric reads: format = 1"),
    ],
)
def test_unusable_values_are_named_in_one_line(write, changes: dict, told: str) -> None:
    with pytest.raises(orric.OrricError) as caught:
        EdgeConfig.load(write(**changes), {})
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_streams_and_their_requests(write) -> None:
    stream = {"name": "a", "profile": str(Path(__file__).parents[2] / "traces/profiles/digits.toml")}
    with pytest.raises(EdgeError, match="give the smaller number first"):
        EdgeConfig.load(write(stream=[{**stream, "requests": [5.0, 1.0]}]), {})
    two = [{**stream, "requests": [1.0, 5.0]}, {**stream, "name": "b", "requests": [1.0, 5.0]}]
    with pytest.raises(EdgeError, match='2 streams; a server has one, or set mode = "decisions"'):
        EdgeConfig.load(write(stream=two), {})
    assert len(EdgeConfig.load(write(stream=two, mode="decisions"), {}).profiles) == 2
    with pytest.raises(EdgeError, match="two streams are called 'a'"):
        EdgeConfig.load(write(stream=[two[0], two[0]], mode="decisions"), {})
    published = {**stream, "profile": stream["profile"].replace("digits", "cifar10c-fog"), "requests": [1.0, 5.0]}
    with pytest.raises(EdgeError, match=r"names no \[models\]"):
        EdgeConfig.load(write(stream=[published]), {})


def test_the_environment_goes_before_the_file(write) -> None:
    path = write()
    given = {"ORRIC_EDGE_SERVER__PORT": "8123", "ORRIC_EDGE_ALLOCATOR": "focus-shift", "HOME": "/"}
    config = EdgeConfig.load(path, given)
    assert (config.server.port, config.allocator) == (8123, "focus-shift")
    with pytest.raises(EdgeError, match="'slot_s' is no table"):
        EdgeConfig.load(path, {"ORRIC_EDGE_SLOT_S__X": "1"})
    with pytest.raises(EdgeError, match=r"server\.port: found 'many'"):
        EdgeConfig.load(path, {"ORRIC_EDGE_SERVER__PORT": "many"})


def test_the_token_comes_from_systemd_as_a_credential(write, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file-of-mine\n")
    config = EdgeConfig.load(write(server__token_file="token"), {})
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    assert config.token(given) == "from-a-file-of-mine", "there are other credentials than the token"
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/token").write_text("from-a-credential\n")
    assert config.token(given) == "from-a-credential"
    assert config.token(given | {"ORRIC_TOKEN": "from-the-environment"}) == "from-the-environment"
    (tmp_path / "credentials/token").write_text("short\n")
    with pytest.raises(EdgeError, match="credential 'token': the token has 5 characters; give 16 at least"):
        config.token(given)


def test_the_token_comes_from_the_environment_or_a_file(write, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file-of-mine\n")
    config = EdgeConfig.load(write(server__token_file="token"), {})
    assert config.token({}) == "from-a-file-of-mine"
    assert config.token({"ORRIC_TOKEN": "from-the-environment"}) == "from-the-environment"
    for wrong in ("a-token-with-ümlauts", "a token with spaces in it", "a-token-with\ttabs-in-it"):
        with pytest.raises(EdgeError, match="that a header cannot carry; use ASCII without spaces"):
            config.token({"ORRIC_TOKEN": wrong})
    with pytest.raises(EdgeError, match="has 5 characters; give 16 at least"):
        config.token({"ORRIC_TOKEN": "short"})
    (tmp_path / "token").unlink()
    with pytest.raises(EdgeError, match="no such file"):
        config.token({})
    assert EdgeConfig.load(write(), {}).token({}) is None


def budget(write, **changes):
    """Return the budget of a configuration."""
    return EdgeConfig.load(write(**{f"budget__{name}": value for name, value in changes.items()}), {}).budget


def test_probes(write, tmp_path: Path) -> None:
    assert probe_of(budget(write, fraction=0.25))() == 0.25
    assert probe_of(budget(write, probe="command", command=["echo", "0.5"]))() == 0.5
    for command, told in (
        (["echo", "2"], "printed '2'; print a part from 0 to 1"),
        (["echo", "much"], "printed 'much'"),
        (["false"], "ended with status 1"),
        (["/nowhere/at/all"], "cannot be run"),
    ):
        with pytest.raises(EdgeError, match=told):
            probe_of(budget(write, probe="command", command=command))()
    with pytest.raises(EdgeError, match=r"did not end within 0\.05 s"):
        probe_of(budget(write, probe="command", command=["sleep", "60"], timeout_s=0.05))()
    free = processor()
    assert 0 <= free() <= 1
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert quota_cores(tmp_path, 4) == 0.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert quota_cores(tmp_path, 4) == 4
    assert quota_cores(tmp_path / "absent", 4) == 4
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert quota_cores(tmp_path / "within", 4) == 0.5, "that of the group around it"
    assert processor(tmp_path)() <= 0.5
    (tmp_path / "own").write_text("0::/a/b\n")
    assert own_cgroup(tmp_path, tmp_path / "own") == tmp_path / "a/b"


def test_what_a_child_worked_that_has_ended_was_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine on which nobody else works, as far as it tells."""

    class Times(NamedTuple):
        user: float
        idle: float

    def times() -> Times:
        used = psutil.Process().cpu_times()
        return Times(used.user + used.system + used.children_user + used.children_system, 2 * time.monotonic())

    monkeypatch.setattr(psutil, "cpu_times", times)
    free = processor(tmp_path)
    code = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert free() > 0.95


def test_a_gpu_that_is_not_there(write) -> None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        with pytest.raises(EdgeError, match="NVIDIA GPU 0 cannot be asked"):
            probe_of(budget(write, probe="nvidia"))
    else:
        assert 0 <= probe_of(budget(write, probe="nvidia"))() <= 1


def test_a_selector_that_does_not_exist_is_told(write, selecting, tmp_path) -> None:
    odd = tmp_path / "odd.toml"
    odd.write_text(selecting.read_text().replace('"chg-shapley"', '"chg-shaply"'))
    with pytest.raises(orric.ProfileError, match="'chg-shaply' is unknown; did you mean 'chg-shapley'"):
        EdgeConfig.load(write(profile=odd), {})


def test_who_teaches_hangs_on_who_can_reach_it(write) -> None:
    def config(**changes: Any) -> EdgeConfig:
        return EdgeConfig.load(write(**changes), {})

    assert config().learns_from_everybody
    assert config().doubts(None) == []
    assert not config(samples__learn_from="authenticated").learns_from_everybody
    abroad = config(server__host="0.0.0.0")
    assert not abroad.learns_from_everybody, "the safe value is the default where others reach it"
    assert abroad.doubts("a-token-of-some-length") == []
    assert "nothing will be learnt" in abroad.doubts(None)[0]
    trusting = config(server__host="0.0.0.0", samples__learn_from="all")
    assert trusting.learns_from_everybody
    assert "whoever reaches the address" in trusting.doubts(None)[0]
    assert config(mode="shadow", server__host="0.0.0.0").doubts(None) == []


def test_anchors_that_are_not_there_are_told_before_anything_starts(write) -> None:
    with pytest.raises(EdgeError, match=r"evidence\.anchors: .*nowhere.npz does not exist; "):
        EdgeConfig.load(write(evidence__anchors="nowhere.npz"), {})
    assert EdgeConfig.load(write(evidence__anchors="nowhere.npz", retraining__enabled=False), {}).anchors is not None

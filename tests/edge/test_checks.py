"""What `orric serve --check` finds: what cannot be is refused, and what is odd is told with its figures."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import onnx
import pytest

import orric
from orric.durable import hold
from orric.edge.checks import checked
from orric.edge.config import EdgeConfig
from orric.edge.store import CURRENT
from orric.exceptions import EdgeError
from orric.profile import Profile

from .conftest import DIGITS

# What the profile of the digits measured.
MEASURED = 6.71889e10


@pytest.fixture
def check(write, onnx_student) -> Any:
    """Return a function that checks a configuration of a daemon that only serves."""

    def found(**changes: Any) -> list[str]:
        given = {"profile": onnx_student, "retraining__enabled": False, "budget__macs_per_s": MEASURED, **changes}
        return checked(EdgeConfig.load(write(**given), {}), None)

    return found


def test_what_is_right_is_fine(check) -> None:
    assert check() == []
    assert check(budget__macs_per_s=MEASURED / 2) == [], "another box"
    assert check(profile=DIGITS, retraining__enabled=True) == []


def test_a_speed_far_from_the_measured_one_is_told_with_both(check) -> None:
    (slow,) = check(budget__macs_per_s=1e9)
    assert "is 1e+09, 1/67.2 of the 6.72e+10 of the profile's [device]" in slow
    (fast,) = check(budget__macs_per_s=1e13)
    assert "is 1e+13, 149 times the 6.72e+10" in fast


def test_a_command_that_tells_no_budget_is_refused(check) -> None:
    """Its daemon took the whole device for its own, slot by slot."""
    for command, words in ((["/nonexistent"], "cannot be run"), (["false"], "ended with status 1")):
        with pytest.raises(EdgeError, match=words):
            check(budget={"probe": "command", "command": command, "macs_per_s": MEASURED})
    assert check(budget={"probe": "command", "command": ["echo", "0.5"], "macs_per_s": MEASURED}) == []


def test_what_a_part_of_the_device_cannot_do_is_told(check) -> None:
    many = [{"name": "digits", "profile": str(DIGITS), "requests": [50_000.0, 60_000.0]}]
    shed, _ = check(retraining__enabled=True, budget={"fraction": 1e-4, "macs_per_s": MEASURED}, stream=many)
    assert "the 50000 requests of" in shed
    assert "of 0.01 % of the device at the cheapest: every slot turns some away" in shed
    (never,) = check(
        profile=DIGITS, retraining__enabled=True, budget={"fraction": 1e-3, "macs_per_s": MEASURED}, slot_s=2.0
    )
    assert "of 0.1 % of the device at" in never
    assert "nothing is ever retrained" in never


def test_a_speed_left_out_is_the_measured_one(write, check, tmp_path: Path) -> None:
    assert EdgeConfig.load(write(budget={"fraction": 0.5}), {}).macs_per_s == pytest.approx(MEASURED, rel=1e-5)
    assert check(budget__macs_per_s=None, budget={"fraction": 0.5}) == []
    bare = tmp_path / "bare.toml"
    Profile.load(DIGITS).moved(tmp_path).model_copy(update={"device": None}).save(bare)
    with pytest.raises(
        EdgeError, match=r"budget\.macs_per_s: is missing, and .*bare\.toml has no \[device\]; give what"
    ):
        EdgeConfig.load(write(profile=bare, budget={"fraction": 0.5}), {})


def test_what_can_serve_nobody_is_refused(check, orric_command, write, onnx_student) -> None:
    with pytest.raises(EdgeError, match=r"a slot has 500 MACs, and one request of digits costs .* at least; give what"):
        check(budget__macs_per_s=100.0)
    path = write(profile=onnx_student, retraining__enabled=False, budget__macs_per_s=100.0)
    for arguments in ((), ("--check",)):
        code, _, err = orric_command("serve", path, *arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert "leave the key out" in err


def test_slots_and_deadlines_that_nothing_fits(check) -> None:
    shed, short = check(
        profile=DIGITS, retraining__enabled=True, slot_s=0.01, retraining__deadline=1.0,
        stream=[{"name": "digits", "profile": str(DIGITS), "requests": [1000.0, 1000.0]}],
    )  # fmt: skip
    assert shed.startswith("slot_s is 0.01, and the 1000 requests of digits take 0.")
    assert short.startswith("slot_s is 0.01, and the smallest retraining of digits takes 0.")
    (late,) = check(server__deadline_s=1e-7)
    assert late.startswith("server.deadline_s is 1e-07, and the fastest answer of digits takes")
    assert late.endswith("every one is late; raise it, or leave it out to count every answer")
    assert check(server__deadline_s=0.1) == []


def test_a_probe_of_what_is_not_there_is_refused(check) -> None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        with pytest.raises(EdgeError, match="NVIDIA GPU 0 cannot be asked"):
            check(budget__probe="nvidia")


@pytest.mark.parametrize("mark", ["summary.json", ".orric-sweep", ".orric.json"])
def test_a_store_within_results_is_refused_and_one_of_before_told(check, tmp_path: Path, mark: str) -> None:
    (tmp_path / "results").mkdir()
    table = {"format": 1, "kind": "run", "files": [], "scenario": "", "seed": 1, "command": "", "results": []}
    (tmp_path / "results" / mark).write_text(json.dumps(table))
    with pytest.raises(EdgeError, match=r"results/state lies in .*results, a folder of results"):
        check(store__folder="results/state")
    (tmp_path / "results/state").mkdir()
    (tmp_path / "results/state" / CURRENT).write_text("{}")
    (told,) = check(store__folder="results/state")
    assert told.startswith(f"store.folder lies in {tmp_path / 'results'}, a folder of results")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/notes.md").write_text("mine")
    with pytest.raises(EdgeError, match=r"is no store of orric, and is not empty \(it has 'notes.md'\)"):
        check(store__folder="foreign")


def test_an_address_in_use_is_told_unless_it_is_this_daemons(check, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (told,) = check(server__port=port)
        assert f"127.0.0.1:{port}: cannot be listened on (Address already in use)" in told
        (tmp_path / "state").mkdir()
        held = hold(tmp_path / "state/.lock")
        assert check(server__port=port) == [], "a daemon runs with this store, and its file may be checked"
        held.close()


def test_models_are_loaded_and_run(check, onnx_student: Path, tmp_path: Path) -> None:
    profile = Profile.load(onnx_student).moved(tmp_path)
    path = tmp_path / "other.toml"

    def refused(content: bytes | None, **changes: Any) -> str:
        (tmp_path / "student.onnx").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "student.onnx").write_bytes(content)
        models = profile.models.model_copy(update={"student": "student.onnx"})
        profile.model_copy(update={"models": models}).save(path)
        with pytest.raises(orric.OrricError) as caught:
            check(profile=path, **changes)
        assert "\n" not in str(caught.value)
        assert str(tmp_path / "student.onnx") in str(caught.value)
        return str(caught.value)

    assert "cannot be read (No such file or directory)" in refused(None)
    assert "does not run" in refused(b"no model")
    shape = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])
    given = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "same", [shape], [given])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    assert "is no classifier" in refused(model.SerializeToString())

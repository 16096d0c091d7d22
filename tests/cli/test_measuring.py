"""The command `calibrate`: its jobs, what it leaves, and unusable options."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx
from onnx import TensorProto, helper

from orric.calibration.check import Finding
from orric.calibration.published_corruptions import CorruptionComparison
from orric.profile import Profile
from orric.real_models import Training

ROOT = Path(__file__).resolve().parents[2]
DIGITS, FOG = ROOT / "traces/profiles/digits.toml", ROOT / "traces/profiles/cifar10c-fog.toml"
TABLE3 = ROOT / "simulations/table3-fog.toml"


def interrupt(*arguments, **settings):
    raise KeyboardInterrupt


def test_a_table_is_added_to_a_profile(orric, tmp_path, monkeypatch):
    def with_table(profile, where, output, *unused):
        return profile.model_copy(update={"name": f"{profile.name} from {Path(where).name} to {output}"})

    monkeypatch.setattr("orric.calibration.table.with_table", with_table)
    monkeypatch.chdir(tmp_path)
    status, out, err = orric("calibrate", "--table-of", DIGITS, "--json")
    assert status == 0, err
    assert json.loads(out) == {"profile": "digits-table.toml", "table_entries": 104, "samples_per_entry": 4000}
    assert 'name = "digits from digits.toml to digits-table.toml"' in (tmp_path / "digits-table.toml").read_text()


def test_options_become_the_plan(orric, tmp_path, monkeypatch):
    asked = []

    def calibrate(plan, output, progress):
        asked.append(plan)
        return Profile.load(DIGITS)

    monkeypatch.setattr("orric.calibration.calibrate.calibrate", calibrate)
    monkeypatch.chdir(tmp_path)
    options = ["--corruptions", "fog,noise", "--ratios", "1,0,0.25", "--name", "mine", "--seeds", "3", "--slots", "20"]
    options += [
        "--optimizer",
        "adam",
        "--learning-rate",
        "0.001",
        "--batch",
        "16",
        "--epochs",
        "2",
        "--keep-statistics",
        "--resolutions",
        "16,32",
    ]
    status, _, err = orric("calibrate", "--student", "s.onnx", *options, "--json")
    assert status == 0, err
    (plan,) = asked
    assert plan.corruptions == ("fog", "gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
    assert (plan.ratios, plan.seeds, plan.slots, plan.name) == ((0.0, 0.25, 1.0), (1, 2, 3), 20, "mine")
    assert plan.resolutions_px == (32, 16)
    assert plan.training == Training(
        optimizer="adam", learning_rate=0.001, batch=16, epochs=2, refresh=False, fallback=True
    )
    assert str(plan.student) == "s.onnx"
    assert plan.teacher.name == "digits-teacher.safetensors"


def test_statistics_of_all_received_reach_the_calibration(orric, tmp_path, monkeypatch):
    asked = []

    def calibrate(plan, output, progress):
        asked.append(plan.training)
        return Profile.load(DIGITS)

    monkeypatch.setattr("orric.calibration.calibrate.calibrate", calibrate)
    monkeypatch.chdir(tmp_path)
    status, _, err = orric("calibrate", "--statistics", "received", "--newest", "--student", "s.onnx", "--json")
    assert status == 0, err
    status, _, err = orric("calibrate", "--statistics", "sampled", "--newest", "--student", "s.onnx", "--json")
    assert status == 0, err
    status, _, err = orric("calibrate", "--student", "s.onnx", "--json")
    assert status == 0, err
    status, _, err = orric("calibrate", "--fallback", "--student", "s.onnx", "--json")
    assert status == 0, err
    received = Training(statistics="received")
    falling_back = Training(statistics="received", fallback=True)
    assert asked == [received, Training(), falling_back, falling_back]


def test_learning_is_measured_anew_by_the_profile_s_own_training_but_for_what_is_given(orric, tmp_path, monkeypatch):
    asked = []

    def learning_of(profile, where, output, plan, progress):
        asked.append((plan, output))
        return Profile.load(DIGITS)

    monkeypatch.setattr("orric.calibration.learning.learning_of", learning_of)
    monkeypatch.chdir(tmp_path)
    status, _, err = orric(
        "calibrate", "--learning-of", DIGITS, "--fallback", "--batch", "16", "--slots", "20", "--json"
    )
    assert status == 0, err
    ((plan, output),) = asked
    profile = Profile.load(DIGITS)
    assert plan.training == profile.training.model_copy(update={"fallback": True, "batch": 16})
    assert plan.ratios == tuple(sorted(profile.uniform_ratios))
    assert plan.resolutions_px == (32, 28, 24, 20)
    assert set(plan.corruptions) == {one.corruption for one in profile.table} - {"none"}
    assert (plan.dataset, plan.slots, output.name) == ("digits", 20, "digits-learning.toml")
    assert output.is_file()
    own = profile.model_copy(update={"models": None})
    own.save("own.toml")
    status, _, err = orric("calibrate", "--learning-of", "own.toml")
    assert status == 2
    assert err.startswith("orric: own.toml: has no [models] to measure")


def test_an_interrupted_calibration_says_what_it_leaves(orric, tmp_path, monkeypatch):
    target = tmp_path / "digits.toml"
    monkeypatch.setattr("orric.calibration.calibrate.calibrate", interrupt)
    rest = "what was measured is kept, and the same command goes on from there\n"
    told = f"orric: interrupted; no profile was written; {rest}"
    assert orric("calibrate", "--output", target) == (130, "", told)
    assert not target.exists()
    target.write_text("earlier")
    monkeypatch.setattr("orric.calibration.pretraining.pretrain_pair", interrupt)
    told = f"no profile was written, and the earlier {target} is kept; {rest}"
    assert orric("calibrate", "--output", target, "--pretrain") == (130, "", f"orric: interrupted; {told}")
    assert target.read_text() == "earlier"


def test_a_check_tells_what_has_decayed_and_by_how_much(orric, monkeypatch):
    found = [
        Finding("MACs, 32px", 2.8, 2.8, "M", "none", True),
        Finding("latency per image, 32px", 40.0, 90.0, "us", "30 %", False),
        Finding("student's file", "abc", "missing", "", "none", False, "nowhere cannot be read"),
    ]
    monkeypatch.setattr("orric.calibration.check.check_profile", lambda *arguments: found)
    status, out, _ = orric("calibrate", "--check", DIGITS)
    assert status == 1
    assert "has decayed in 2 of 3 numbers: latency per image, 32px (+125.0 %), student's file (changed)" in out
    assert "student's file: nowhere cannot be read" in out
    status, out, _ = orric("calibrate", "--check", DIGITS, "--json")
    answer = json.loads(out)
    assert (status, answer["decayed"]) == (1, True)
    assert answer["findings"][1]["change"] == "+125.0 %"
    found[1:] = []
    status, out, _ = orric("calibrate", "--check", DIGITS)
    assert status == 0
    assert "holds: 1 numbers were looked at" in out


def test_corruptions_are_compared_figure_by_figure(orric, tmp_path, monkeypatch):
    rows = [CorruptionComparison("fog", 3, 20.0, 21.5, 1.0, 2.0, {"student": 0.61}, {"student": 0.625})]
    monkeypatch.setattr("orric.calibration.published_corruptions.compare_corruptions", lambda *arguments: rows)
    status, out, _ = orric("calibrate", "--compare-corruptions", tmp_path, "--models", tmp_path)
    assert status == 0
    assert {"fog", "21.5", "0.61", "0.625"} <= set(out.replace("│", " ").split())
    assert "{" not in out
    status, out, _ = orric("calibrate", "--compare-corruptions", tmp_path, "--models", tmp_path, "--json")
    assert json.loads(out)["rows"][0]["own_accuracy"] == {"student": 0.625}


def test_warnings_are_one_line_on_standard_error(orric, tmp_path, monkeypatch):
    import warnings

    def calibrate(plan, output, progress):
        warnings.warn("the teacher is worse", stacklevel=1)
        raise KeyboardInterrupt

    monkeypatch.setattr("orric.calibration.calibrate.calibrate", calibrate)
    _, _, err = orric("calibrate", "--output", tmp_path / "x.toml")
    assert err.startswith("orric: warning: the teacher is worse\n")


def linear(path, shape, dims, outputs=1):
    """Write an ONNX model that flattens its input and multiplies it."""
    weight = np.ones((int(np.prod([3, 32, 32])), 10), np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, dims)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())


def test_models_that_cannot_be_used_get_one_line_and_status_2(orric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases = {"fixed": ["n", 3, 32, 32], "sound": ["n", 1, 16000], "grey": ["n", 1, "h", "w"]}
    for name, shape in cases.items():
        linear(tmp_path / f"{name}.onnx", shape, ["n", 10])
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "fixed.onnx").read_bytes()[:500])
    for name in [*cases, "cut", "missing"]:
        status, out, err = orric("calibrate", "--student", f"{name}.onnx", "--output", "x.toml")
        assert (status, out) == (2, ""), (name, err)
        assert err.startswith(f"orric: {name}.onnx"), err
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "x.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["calibrate", "--table-of", "nowhere.toml"], "nowhere.toml: no such file"),
        (["calibrate", "--table-of", FOG], "has no [models] to measure"),
        (["calibrate", "--table-of", FOG, "--pretrain"], "give one of them"),
        (["calibrate", "--dataset", "digit"], "did you mean 'digits'"),
        (["calibrate", "--models", "nowhere", "--output", "x.toml"], "digits-student.safetensors: no such file"),
        (["calibrate", "--output", "nowhere/x.toml"], "cannot be written"),
        (["calibrate", "--output", "/proc/x.toml"], "cannot be written"),
        (["calibrate", "--output", "."], "is a folder"),
        (["calibrate", "--corruptions", "fogg"], "did you mean 'fog'"),
        (["calibrate", "--ratios", "0,1"], "give three or more different numbers from 0 to 1"),
        (["calibrate", "--ratios", "a,b,c"], "give three or more different numbers"),
        (["calibrate", "--resolutions", "32,64"], "give whole numbers from 16 to 32, by commas"),
        (["calibrate", "--resolutions", "32,x"], "found '32,x'"),
        (["calibrate", "--ratios", "0.1,0.2,1"], "0 among them"),
        (["calibrate", "--learning-rate", "-1"], "learning_rate"),
        (["calibrate", "--keep-statistics", "--statistics", "received"], 'statistics is "received"; leave out either'),
        (["calibrate", "--dataset", "cifar10", "--data", "nowhere"], "nowhere"),
        (["calibrate", "--dataset", "cifar10"], "give --data FOLDER or set ORRIC_DATA"),
        (["calibrate", "--check", FOG], "does not say what it was measured on"),
        (["calibrate", "--check", "nowhere.toml"], "nowhere.toml: no such file"),
        (["calibrate", "--check", DIGITS, "--table-of", DIGITS], "give one of them"),
        (["calibrate", "--compare-corruptions", "nowhere"], "nowhere"),
        (["run", TABLE3, "--paired"], "names no [models]"),
        (["run", TABLE3, "--paired", "--accuracy", "curve"], "leave --accuracy out"),
    ],
)
def test_unusable_options_get_one_line_and_status_2(orric, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORRIC_DATA", raising=False)
    status, out, err = orric(*arguments)
    assert (status, out) == (2, ""), err
    assert expected in err
    assert len([line for line in err.splitlines() if line.strip()]) == 1
    assert list(tmp_path.iterdir()) == []


def test_selectors_are_added_to_a_profile(orric, tmp_path):
    target = tmp_path / "found.toml"
    asked = ["calibrate", "--selectors-of", DIGITS, "--selectors", "loss", "--corruptions", "fog", "--slots", "10"]
    status, out, err = orric(*asked, "--per-slot", "20", "--judge", "teacher", "--output", target, "--json")
    assert status == 0, err
    assert json.loads(out)["configurations"][0]["retraining"] == "5% loss-by-teacher"
    assert Profile.load(target).selector["loss-by-teacher"].method == "loss"
    status, out, err = orric("calibrate", "--selectors-of", DIGITS, "--selectors", "los")
    assert (status, err.strip()) == (2, "orric: selector: 'los' is unknown; did you mean 'loss'?")
    status, out, err = orric("calibrate", "--selectors-of", DIGITS, "--table-of", DIGITS)
    assert status == 2
    assert "options --table-of and --selectors-of: are jobs of their own" in err


def test_anchors_are_added_to_a_profile(orric, tmp_path, monkeypatch):
    from orric.retraining.anchors import Anchors

    monkeypatch.chdir(tmp_path)
    status, out, err = orric("calibrate", "--anchors-of", DIGITS, "--json")
    assert status == 0, err
    assert json.loads(out) == {"profile": "digits-anchors.toml", "anchors": "digits-anchors.npz", "images": 200}
    found = Profile.load(tmp_path / "digits-anchors.toml")
    assert found.models.anchors == "digits-anchors.npz"
    again = Anchors.load(found.anchors, 10)
    shipped = Anchors.load(Profile.load(DIGITS).anchors, 10)
    assert (again.images == shipped.images).all(), "the shipped ones were made by this command"
    assert found.beside(found.models.student).exists(), "whatever else it names is found from there"
    status, _, err = orric("calibrate", "--anchors-of", FOG)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "has no [models]" in err
    status, _, err = orric("calibrate", "--anchors-of", DIGITS, "--output", "nowhere/x.toml")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "cannot be written" in err

"""What a calibration keeps: found again under the same conditions only, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from orric.calibration.checkpoint import Checkpoint


def test_a_part_is_found_again_under_the_same_conditions_only(tmp_path: Path) -> None:
    output = tmp_path / "profile.toml"
    Checkpoint(output, {"slots": 10}).keep({"corruption": "fog", "seed": 1}, [1.5, 2.5])
    same = Checkpoint(output, {"slots": 10})
    assert same.load({"seed": 1, "corruption": "fog"}) == [1.5, 2.5]
    assert same.load({"corruption": "fog", "seed": 2}) is None
    assert Checkpoint(output, {"slots": 20}).load({"corruption": "fog", "seed": 1}) is None
    assert Checkpoint(tmp_path / "other.toml", {"slots": 10}).load({"corruption": "fog", "seed": 1}) is None


def test_a_damaged_part_is_measured_anew(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "profile.toml", {})
    checkpoint.keep("part", {"a": 1})
    path = checkpoint.path("part")
    path.write_text(path.read_text()[:-3])
    assert checkpoint.load("part") is None


def test_nothing_is_left_when_the_profile_is_written(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "profile.toml", {})
    checkpoint.keep("part", 1)
    assert [path.name for path in tmp_path.iterdir()] == [".profile.toml.measured"]
    checkpoint.remove()
    checkpoint.remove()
    assert not list(tmp_path.iterdir())
    checkpoint.keep("part", 1)
    (checkpoint.folder / "notes.md").write_text("mine")
    checkpoint.remove()
    assert [path.name for path in checkpoint.folder.iterdir()] == ["notes.md"]

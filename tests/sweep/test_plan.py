"""Sweep files: what they set, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

import orric
from orric.sweep import Sweep, check_all, on_cores
from orric.sweep.plan import Chunk, files_named

from ..builders import ROOT
from .conftest import AXES

READY = sorted((ROOT / "simulations/sweeps").glob("*.toml"))


def test_points_are_the_scenarios_that_they_say(sweep: Sweep) -> None:
    assert len(sweep.points) == 4
    made = [sweep.scenario_of(point) for point in range(4)]
    assert [(one.gpu[0].budget.high, one.slots) for one in made] == [(0.5, 6), (0.5, 12), (1.0, 6), (1.0, 12)]
    assert sweep.base.slots == 12


def test_wildcards_repeats_profiles_and_factors(write) -> None:
    axes = [
        {"key": "streams", "values": [1, 3]},
        {"key": "gpus", "values": [2]},
        {"key": "stream.*.deadline_s", "values": [5.0]},
        {"key": "profile.slope_floor", "name": "L", "times": [1.0, 0.1]},
        {"key": "profile.memory", "name": "memory", "values": [{"kind": "window", "slots": 3}], "labels": ["window"]},
    ]
    sweep = Sweep.load(write(axis=axes, engine="simulator"))
    last = sweep.scenario_of(3)
    assert [stream.name for stream in last.stream] == ["camera-1", "camera-1-2", "camera-1-3"]
    assert [gpu.name for gpu in last.gpu] == ["gpu0", "gpu0-2"]
    assert {stream.deadline_s for stream in last.stream} == {5.0}
    assert all(profile.slope_floor == pytest.approx(0.001) for profile in last.profiles)
    assert last.profile.memory.slots == 3
    assert sweep.base.profile.slope_floor == 0.01
    assert sweep.scenario_of(0).profile is not sweep.base.profile
    # Points of equal values share their profile: runs of one profile are evaluated together.
    assert sweep.scenario_of(1).profile is sweep.scenario_of(3).profile


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axis": [{"key": "gpu.1.bugdet.high", "values": [1.0]}]}, "did you mean 'gpu.1.budget.high'?"),
        ({"axis": [{"key": "gpu.2.budget.high", "values": [1.0]}]}, "'gpu.2.budget.high' is unknown"),
        ({"axis": [{"key": "profile.slope_flor", "values": [1.0]}]}, "did you mean 'profile.slope_floor'?"),
        ({"axis": [{"key": "slots", "values": []}]}, "give 1 at least"),
        ({"axis": [AXES[0], {**AXES[0], "name": "again"}]}, "is that of axis 1, too; let one axis set it"),
        ({"axis": [AXES[0], {**AXES[1], "name": "budget"}]}, "two axes are called 'budget'"),
        (
            {"axis": [{**AXES[0], "together": "x"}, {"key": "slots", "values": [1, 2, 3], "together": "x"}]},
            "'budget' has 2 values and 'slots' has 3, and they go together; give as many to each",
        ),
        ({"axis": [{"key": "slots", "uniform": [1.0, 2.0]}]}, "there is no [sample]; give both or neither"),
        ({"sample": {"count": 3}}, "no axis has a range to draw from"),
        ({"seeds": None}, "found neither seeds nor precision; give one of the two"),
        ({"precision": {"half_width": 0.01}}, "found seeds and precision"),
        ({"seeds": -1}, "found -1; give how many, 1 to 1,000,000, or a list of whole numbers from 0"),
        ({"seeds": ["a"]}, "found ['a']; give how many"),
        ({"seeds": 10**12}, "give how many, 1 to 1,000,000"),
        ({"axis": [AXES[0], {"key": "gpu.1.budget", "name": "x", "values": [1]}]}, "set the same; let one axis set it"),
        (
            {
                "axis": [
                    {"key": "stream.*.requests.low", "values": [1]},
                    {"key": "stream.1.requests.low", "name": "x", "values": [1]},
                ]
            },
            "'stream.1.requests.low' and 'stream.*.requests.low' of axis 1 set the same",
        ),
        ({"axis": [{"key": "profile.swap.pause_s", "values": [1.0]}]}, "makes no difference in the slot model"),
        ({"axis": [{**AXES[0], "name": "weight"}]}, "as a column of the results is"),
        ({"seeds": None, "precision": {"half_width": 0.01, "of": "acuracy"}}, "did you mean"),
        ({"seeds": [1, 1]}, "a seed stands twice"),
        ({"allocators": ["oric"]}, "did you mean 'orric'?"),
        ({"allocators": ["orric", "teacher-only"]}, "a reference line, which the slot model does not have"),
        ({"allocators": ["orric", "orric"]}, "the allocator 'orric' stands twice"),
        ({"allocators": ["student-only", "inference-only"]}, "the allocator 'inference-only' stands twice"),
        ({"axis": [{**AXES[0], "name": "seed"}]}, "an axis is called 'seed', as a column of the results is"),
        ({"axis": [{**AXES[0], "together": "x"}]}, "one axis alone says together = 'x'"),
        (
            {"seeds": None, "precision": {"half_width": 0.1, "of": "latency_p99_s"}},
            "of is 'latency_p99_s', which the slot model does not know",
        ),
        ({"baseline": "focus-shift"}, "'focus-shift' is not compared"),
        ({"scenario": "none.toml"}, "no such file"),
        ({"axes": []}, "did you mean 'axis'?"),
        ({"name": "a/b"}, "cannot name a result folder"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused_in_one_line(write, changes: dict, message: str) -> None:
    with pytest.raises(orric.ScenarioError) as caught:
        Sweep.load(write(**changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_points_that_are_not_valid_are_listed_all_at_once(write) -> None:
    axes = [{"key": "gpu.1.budget.high", "name": "budget", "values": [0.1, 1.0, 1.5]}, AXES[1]]
    with pytest.raises(orric.ScenarioError) as caught:
        check_all(Sweep.load(write(axis=axes)), on_cores(1))
    first, *lines = str(caught.value).splitlines()
    assert "4 of 6 points are not valid" in first
    # Two reasons, each with the first of its points.
    assert [line.split(";")[0].strip() for line in lines[::2]] == [
        "gpu.1.budget: low is 0.2 and high 0.1",
        "gpu.1.budget: low is 0.2 and high 1.5",
    ]
    assert [line.strip() for line in lines[1::2]] == [
        "at point 1 (budget = 0.1, horizon = 6) and 1 more",
        "at point 5 (budget = 1.5, horizon = 6) and 1 more",
    ]
    with pytest.raises(orric.ScenarioError, match="1 of 2 points"):
        check_all(Sweep.load(write(axis=[{"key": "streams", "values": [1, 2]}])), on_cores(1))


def test_the_address_of_a_chunk_is_that_of_its_content(write, tmp_path: Path) -> None:
    def key(allocator: str = "orric", points: range = range(2), seeds: tuple = (1, 2), **changes: object) -> str:
        return Chunk(allocator, points, seeds).key(Sweep.load(write(**changes)))

    first = key()
    assert key() == first
    assert key(name="other", note="a note", allocators=["focus-shift", "orric"], seeds=(1, 2)) == first
    others = [
        key("focus-shift"),
        key(points=range(1, 3)),
        key(seeds=(1, 3)),
        key(engine="simulator"),
        key(axis=[{**AXES[0], "values": [0.4, 1.0]}, AXES[1]]),
    ]
    profile = tmp_path / "small.toml"
    profile.write_text(profile.read_text().replace("slope_floor = 0.01", "slope_floor = 0.02"))
    others.append(key())
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(scenario.read_text().replace("slot_s = 10.0", "slot_s = 11.0"))
    others.append(key())
    scenario.write_text(scenario.read_text().replace("slots = 12", "slots = 12\nseed = 7"))
    others.append(key())  # which places streams
    assert len({first, *others}) == 9


def test_new_weights_behind_a_profile_are_a_new_address(write, tmp_path: Path) -> None:
    def key() -> str:
        return Chunk("orric", range(2), (1,)).key(Sweep.load(write(scenario=str(tmp_path / "digits.toml"))))

    for name in ("quickstart.toml", "digits.toml"):
        source = ROOT / ("simulations" if name == "quickstart.toml" else "traces/profiles") / name
        text = source.read_text().replace("../traces/profiles/digits.toml", "profile.toml").replace("../models/", "")
        (tmp_path / ("digits.toml" if name == "quickstart.toml" else "profile.toml")).write_text(text)
    for name in ("digits-student.safetensors", "digits-teacher.safetensors"):
        (tmp_path / name).write_bytes((ROOT / "traces/models" / name).read_bytes())
    first = key()
    assert key() == first
    weights = tmp_path / "digits-student.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert key() != first


def test_an_axis_that_the_slot_model_does_not_see_is_refused(write) -> None:
    axis = [{"key": "stream.1.deadline_s", "values": [1.0, 2.0]}]
    with pytest.raises(orric.ScenarioError, match=r"'stream\.1\.deadline_s' makes no difference in the slot model"):
        Sweep.load(write(axis=axis))
    assert len(Sweep.load(write(axis=axis, engine="simulator")).points) == 2


def test_files_that_are_taken_for_one_another(write, tmp_path: Path) -> None:
    path = write()
    with pytest.raises(orric.ScenarioError, match=r"sweep\.toml: is a sweep; give it to orric sweep"):
        orric.load_scenario(path)
    with pytest.raises(orric.ScenarioError, match=r"scenario\.toml: is a scenario; give it to orric run"):
        Sweep.load(tmp_path / "scenario.toml")
    with pytest.raises(orric.ScenarioError, match=r"small\.toml: is a profile; name it in a scenario"):
        Sweep.load(tmp_path / "small.toml")


def test_whole_numbers_stay_whole_when_multiplied(write) -> None:
    sweep = Sweep.load(write(axis=[{"key": "slots", "times": [0.5, 2.0]}]))
    assert [sweep.scenario_of(point).slots for point in range(2)] == [6, 24]


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_that_are_none_are_told_in_one_line(write, value: float) -> None:
    sweep = Sweep.load(write(axis=[{"key": "profile.slope_floor", "values": [value]}]))
    with pytest.raises(orric.ScenarioError, match="1 of 1 points are not valid"):
        check_all(sweep, on_cores(1))


def test_more_points_than_can_be_are_refused(write) -> None:
    axes = [
        {"key": key, "values": list(range(1, 2001))}
        for key in ("slots", "stream.1.requests.low", "stream.1.requests.high")
    ]
    with pytest.raises(orric.ScenarioError, match="the axes span 8,000,000,000 points; at most 10,000,000"):
        check_all(Sweep.load(write(axis=axes)), on_cores(1))


@pytest.mark.parametrize("line", ["batch-norm-only", "teacher-only"])
def test_reference_lines_that_cannot_be_drawn_are_refused(write, line: str) -> None:
    sweep = Sweep.load(write(engine="simulator", allocators=["orric", line]))
    with pytest.raises(orric.ScenarioError, match="4 of 4 points are not valid"):
        check_all(sweep, on_cores(1))


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_the_ready_sweeps_are_valid(path: Path) -> None:
    check_all(Sweep.load(path), on_cores(1))


def test_files_are_known_whatever_their_ending(tmp_path):
    """A record of requests named load.txt was read and not hashed: an edited one gave the old results."""
    (tmp_path / "load.txt").write_text("slot,requests\n")
    assert files_named({"a": ["load.txt", "none.txt", "p.toml", 3, "a\0b", "x" * 5000]}, tmp_path) == {
        "load.txt",
        "p.toml",
    }

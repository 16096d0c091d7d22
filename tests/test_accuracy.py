"""Accuracy models without samples: the curve's and the table's values by hand, and the table against real models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tomli_w

import orric
from orric.accuracy import CurveAccuracy, TableAccuracy
from orric.comparison import compare, lines, simulate_line
from orric.drift import LabelShift, RandomWalk, Steps
from orric.scenario.gpu import UniformBudget

from .builders import PROFILES, ROOT, build_profile, build_scenario, write_profile

FOGGY = {"corruption": "fog", "severity": 2, "curve": {"form": "tabulated", "x": [0, 1], "y": [0.4, 0.8]}}
LEVEL = {"corruption": "none", "severity": 0, "curve": {"form": "tabulated", "x": [0, 1], "y": [0.9, 0.9]}}
FLAT = {"corruption": "fog", "severity": 3, "curve": {"form": "tabulated", "x": [0, 1], "y": [0.5, 0.5]}}


def entry(inference: str, accuracy: float, retrained: float | None = None, drift: tuple[str, int] = ("fog", 2)) -> Any:
    """Return an entry of a table."""
    values = {"corruption": drift[0], "severity": drift[1], "inference": inference, "accuracy": accuracy}
    return values if retrained is None else {**values, "retrained": retrained}


def tabled(*entries: Any) -> orric.Profile:
    """Return the small profile with two drift curves and a table."""
    return build_profile(drift_curve=(FOGGY, FLAT), table=entries)


EVERY = [entry("i0", 0.3, 0.7), entry("i1", 0.35), entry("i2", 0.9)]


@pytest.mark.parametrize(
    ("inference", "extent", "expected"),
    [
        ("i0", 0.0, 0.3),
        ("i0", 1.0, 0.7),
        ("i0", 0.25, 0.4),  # a quarter of the way from .4 to .8, so of that from .3 to .7
        ("i1", 0.0, 0.35),
        ("i1", 0.5, 0.525),  # .35 x .6 / .4
        ("i2", 0.5, 1.0),  # .9 x .6 / .4 is above 1
    ],
)
def test_table_by_hand(inference, extent, expected):
    model = TableAccuracy(tabled(*EVERY), ["fog"], [2])
    assert model.serve(1, extent, inference, 1) == pytest.approx(expected, abs=1e-12)
    assert model.serve(1, extent, inference, 40) == pytest.approx(40 * expected, abs=1e-10)


def test_accuracies_in_between_are_met_and_may_fall():
    bent = {**entry("i0", 0.3, 0.7), "between": ((0.25, 0.2), (0.5, 0.6))}
    model = TableAccuracy(tabled(bent, *EVERY[1:]), ["fog"], [2])
    for extent, expected in (
        (0.0, 0.3),
        (0.125, 0.25),
        (0.25, 0.2),
        (0.375, 0.4),
        (0.5, 0.6),
        (0.75, 0.65),
        (1.0, 0.7),
    ):
        assert model.serve(1, extent, "i0", 1) == pytest.approx(expected, abs=1e-12)
    steep = {"form": "exponential", "c": 0.8, "a": 0.4, "k": 5.0}
    profile = build_profile(drift_curve=({**FOGGY, "curve": steep}, FLAT), table=(bent, *EVERY[1:]))
    curved = TableAccuracy(profile, ["fog"], [2])
    assert curved.serve(1, 0.25, "i0", 1) == pytest.approx(0.2, abs=1e-12)
    halfway = -np.log((np.exp(-1.25) + np.exp(-2.5)) / 2) / 5  # where the curve itself is halfway from .25 to .5
    assert curved.serve(1, float(halfway), "i0", 1) == pytest.approx(0.4, abs=1e-12)


def test_agreement_is_that_of_a_teacher_who_is_right_independently():
    """Of the labelled samples, part f(x) times the teacher's accuracy agrees; with a seed, as chance has it."""
    profile = build_profile(drift_curve=(FOGGY, FLAT), teacher={"accuracy": 0.9, "cost_macs": 1e6})
    expected = CurveAccuracy(profile, ["fog"] * 2, [2] * 2)
    drawn = [CurveAccuracy(profile, ["fog"] * 2, [2] * 2, seed, 3) for seed in range(400)]
    for model in (expected, *drawn):
        model.arrive(1, 1000)
    chance = float(profile.curve_for("fog", 2)(0.5)) * 0.9
    assert expected.retrain(1, "r1", 0.5) == pytest.approx(chance, abs=1e-12)
    assert expected.retrain(1, "r0", 0.5) is None  # nothing is labelled
    found = [model.retrain(1, "r1", 0.5) for model in drawn]
    assert np.mean(found) == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 100 / 400) ** 0.5)
    assert np.std(found) == pytest.approx((chance * (1 - chance) / 100) ** 0.5, rel=0.2)


def test_samples_collected_long_ago_can_still_be_labelled():
    model = CurveAccuracy(build_profile(), ["none"] * 9, [0] * 9)
    model.arrive(1, 50)
    model.collect(1)
    for slot in range(2, 7):
        model.arrive(slot, 70)
    assert model.retrain(1, "r3", 0.0) is not None
    model.collect(6)
    model.discard()
    assert model.retrain(5, "r3", 0.0) is not None


def test_retraining_that_hurts_is_believed():
    model = TableAccuracy(tabled(entry("i0", 0.8, 0.6), *EVERY[1:]), ["fog"], [2])
    assert model.serve(1, 0.5, "i0", 1) == pytest.approx(0.7)


def test_where_the_curve_is_flat_and_tells_nothing_the_way_is_straight():
    names = ("i0", "i1", "i2")
    model = TableAccuracy(tabled(*(entry(name, 0.3, 0.7, ("fog", 3)) for name in names)), ["fog"], [3])
    assert [model.serve(1, extent, "i0", 1) for extent in (0.0, 0.5, 1.0)] == pytest.approx([0.3, 0.5, 0.7])
    bent = [{**entry(name, 0.9, 0.8, ("none", 0)), "between": [[0.25, 0.6], [0.5, 0.7]]} for name in names]
    model = TableAccuracy(build_profile(drift_curve=(FOGGY, LEVEL), table=bent, best_accuracy=0.95), ["none"], [0])
    found = [model.serve(1, extent, "i0", 1) for extent in (0.0, 0.25, 0.375, 0.5, 1.0)]
    assert found == pytest.approx([0.9, 0.6, 0.65, 0.7, 0.8])


def test_clean_slots_have_a_curve_of_their_own():
    """The general curve is the mean over all drift: for clean images it was 31 points off."""
    profile = build_profile(drift_curve=(FOGGY, LEVEL), best_accuracy=0.95)
    model = CurveAccuracy(profile, ["none", "fog", "none", "fog"], [0, 0, 3, 2])
    assert [model.serve(slot, 0.0, "i2", 1) for slot in (1, 2, 3, 4)] == pytest.approx([0.9, 0.9, 0.9, 0.4])
    # Where none was measured, and nothing is known of clean images, the general one stands in.
    ignorant = CurveAccuracy(build_profile(drift_curve=(FOGGY,)), ["none"], [0])
    assert ignorant.serve(1, 0.0, "i2", 1) == pytest.approx(0.5)


def test_clean_slots_have_one_name():
    clean = [entry(name, 0.5, 0.6, ("none", 0)) for name in ("i0", "i1", "i2")]
    model = TableAccuracy(tabled(*clean, *EVERY), ["fog", "none", "none", "fog"], [0, 0, 4, 2])
    assert [model.serve(slot, 0.0, "i0", 10) for slot in (1, 2, 3, 4)] == pytest.approx([5, 5, 5, 3])


def test_a_table_that_repeats_the_curve_gives_the_curve():
    profile, extents = build_profile(), np.linspace(0, 1, 7).tolist()
    start, end = float(profile.curve(0.0)), float(profile.curve(profile.most_profit))
    entries = [entry(one.name, start * one.profit, end * one.profit, ("none", 0)) for one in profile.inference]
    table = TableAccuracy(build_profile(table=entries), ["none"], [0])
    ratio = TableAccuracy(build_profile(table=[{**one, "retrained": None} for one in entries]), ["none"], [0])
    curve = CurveAccuracy(profile, ["none"], [0])
    for name in ("i0", "i1", "i2"):
        for extent in extents:
            expected = curve.serve(1, extent, name, 9)
            assert table.serve(1, extent, name, 9) == pytest.approx(expected)
            assert ratio.serve(1, extent, name, 9) == pytest.approx(expected)


def refused(profile: orric.Profile, corruptions: list[str], severities: list[int], *words: str) -> None:
    """Check that a table is refused in one line with these words."""
    with pytest.raises(orric.ProfileError) as caught:
        TableAccuracy(profile, corruptions, severities)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_entry_is_told_with_profile_drift_and_configuration():
    refused(tabled(*EVERY[:2]), ["fog"], [2], "slot 1", "'small'", "'fog'", "severity 2", "'i2'", "--table-of")
    refused(tabled(*EVERY), ["fog", "none"], [2, 0], "slot 2", "'none'", "severity 0", "'i0'")
    refused(build_profile(), ["none"], [0], "'small'", "'i0'")


def test_what_no_allocator_is_shown_need_not_be_measured():
    profile = build_profile(inference=((0.9, 1e6), (0.8, 2e6), (1.0, 4e6)), drift_curve=(FOGGY,))
    profile = profile.model_copy(update={"table": tabled(*EVERY).table})
    measured = profile.model_copy(update={"table": tuple(one for one in profile.table if one.inference != "i1")})
    model = TableAccuracy(measured, ["fog"], [2])
    with pytest.raises(orric.ProfileError, match="'i1'"):
        model.serve(1, 0.0, "i1", 1)


def test_a_curve_from_below_0_gives_no_proportion():
    from_nothing = {**FOGGY, "curve": {"form": "tabulated", "x": [0, 1], "y": [0.0, 0.8]}}
    with pytest.raises(orric.ProfileError, match=r"starts at 0; f\(0\) must be above 0"):
        build_profile(drift_curve=(from_nothing,), table=EVERY)


@pytest.fixture
def scenario(tmp_path):
    """Return a maker of scenarios on the small profile with drift curves and, where given, a table."""

    def make(*entries: Any, drift: Any = None, model: str = "table", **changes: Any) -> orric.Scenario:
        path = write_profile(tabled(*entries), tmp_path / "small.toml")
        made = build_scenario(path, drift=drift or Steps(corruption="fog", severities=(2,)), **changes)
        return made.with_accuracy(model, "here")

    return make


def test_a_scenario_that_can_reach_a_missing_entry_is_refused(scenario):
    assert scenario(*EVERY).accuracy.model == "table"
    with pytest.raises(orric.ScenarioError, match=r"here: accuracy.model: profile 'small' has no .*'fog'.* 2 .*'i2'"):
        scenario(*EVERY[:2])
    walk = RandomWalk(corruption="fog", low=2, high=3, move=0.01)
    with pytest.raises(orric.ScenarioError, match=r"severity 3 .*'i0'"):
        scenario(*EVERY, drift=walk)
    assert scenario(*EVERY, drift=walk, slots=1)
    with pytest.raises(orric.ScenarioError, match=r"stream.1.drift: .*'fog' of severity 4"):
        scenario(*EVERY, drift=RandomWalk(corruption="fog", low=2, high=5, move=0.5), model="curve")


def test_a_saved_scenario_with_a_table_is_read(scenario, tmp_path):
    table = scenario(*EVERY).resolved(tmp_path, 1, "table")
    (tmp_path / "scenario.toml").write_text(tomli_w.dumps(table))
    assert orric.load_scenario(tmp_path / "scenario.toml").accuracy.model == "table"
    table["accuracy"]["model"] = "tabel"
    (tmp_path / "scenario.toml").write_text(tomli_w.dumps(table))
    with pytest.raises(orric.ScenarioError, match="did you mean 'table'"):
        orric.load_scenario(tmp_path / "scenario.toml")


def test_lines_by_the_table_go_by_its_name(tmp_path):
    teacher = {"accuracy": 0.8, "cost_macs": 5e6}
    foggy = {**FOGGY, "teacher_accuracy": 0.75}
    profile = build_profile(drift_curve=(foggy,), table=EVERY, teacher=teacher)
    quick = orric.load_scenario(ROOT / "simulations/table3-fog.toml")
    path = write_profile(profile, tmp_path / "profile.toml")
    changes = {"profile": str(path), "drift": Steps(corruption="fog", severities=(2,))}
    stream = quick.stream[0].model_copy(update=changes)
    made = quick.model_copy(update={"stream": (stream,), "allocators": ("orric", "inference-only")})
    assert lines(made, "table") == ["orric", "inference-only", "teacher-only"]
    found = {one.allocator: one for one in compare(made, ["table"], 1, jobs=1)}
    assert {one.accuracy_model for one in found.values()} == {"table"}
    assert found["teacher-only"].mean_accuracy == pytest.approx(0.75)
    assert found["inference-only"].mean_accuracy == pytest.approx(0.9)


def digits(model: str, slots: int = 40, **changes: Any) -> orric.Scenario:
    """Return the quickstart with another accuracy model."""
    quick = orric.load_scenario(ROOT / "simulations/quickstart.toml")
    stream = quick.stream[0].model_copy(update=changes)
    return quick.model_copy(update={"slots": slots, "stream": (stream,)}).with_accuracy(model, "quickstart")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "drift",
    [
        Steps(corruptions=("fog", "contrast"), severities=(1, 3, 2, 4)),
        Steps(corruptions=("none", "gaussian_noise", "brightness"), severities=(4,)),
    ],
    ids=["fog and contrast", "none, noise and brightness"],
)
def test_the_shipped_table_says_what_real_models_do_without_retraining(drift):
    """Within three standard errors of both, under every drift; the seed is none of those that were calibrated."""
    pytest.importorskip("torch")
    # Budgets between those that the lowest and the highest resolution take.
    gpu = digits("table").gpu[0].model_copy(update={"budget": UniformBudget(kind="uniform", low=0.04, high=0.1)})
    real, table = (
        simulate_line(digits(model, 80, drift=drift).model_copy(update={"gpu": (gpu,)}), model, "inference-only", 7)
        for model in ("onnx", "table")
    )
    assert real.allocations == table.allocations
    assert not real.extent.any()
    measured = orric.Profile.load(PROFILES / "digits.toml").provenance["table"]["samples"]
    groups = set(zip(real.corruption.tolist(), real.severity.tolist(), real.inference.tolist(), strict=True))
    assert len(groups) >= 10
    for corruption, severity, inference in groups:
        at = (real.corruption == corruption) & (real.severity == severity) & (real.inference == inference)
        served = real.served[at].sum()
        expected = table.correct[at].sum() / served
        error = math.sqrt(expected * (1 - expected) * (1 / served + 1 / measured))
        assert abs(real.correct[at].sum() / served - expected) <= 3 * error, (corruption, severity, inference)


def test_real_models_refuse_a_mix_of_other_classes():
    pytest.importorskip("torch")
    drift = Steps(corruption="fog", labels=LabelShift(kind="steps", mixes=((1.0, 2.0, 3.0),)))
    with pytest.raises(orric.ScenarioError, match="3 weights and 'digits' has 10 classes; give 10") as caught:
        orric.simulate(digits("onnx", slots=5, drift=drift), orric.Orric())
    assert "\n" not in str(caught.value)

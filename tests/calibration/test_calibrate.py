"""Calibration with the real models, in small."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from orric.calibration import measurement, pretraining
from orric.calibration import plan as planning
from orric.calibration.calibrate import calibrate, finished
from orric.calibration.check import check_profile, decayed
from orric.calibration.learning import least_ends
from orric.calibration.learning_run import SPELLS, Assignment, Plan, learning_runs
from orric.calibration.plan import Calibration, named_corruptions
from orric.calibration.pretraining import Recipe, forget, pretrain, pretrain_all, recipe_for
from orric.exceptions import ProfileError, ScenarioError
from orric.learning import Tabulated
from orric.profile import Profile
from orric.real_models import Training
from orric.retraining.models import load_network, save_network, sha256
from orric.vision.corruptions import CORRUPTIONS
from orric.vision.datasets import digits
from orric.vision.macs import count_macs

MODELS = Path(__file__).resolve().parents[2] / "traces/models"
STUDENT, TEACHER = MODELS / "digits-student.safetensors", MODELS / "digits-teacher.safetensors"
CORRUPTED = ("fog", "contrast")
SMALL = Calibration(
    "digits", STUDENT, TEACHER, corruptions=CORRUPTED, ratios=(0.0, 0.2, 0.5, 1.0), slots=10, per_slot=20, seeds=(1, 2)
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a small profile."""
    target = tmp_path_factory.mktemp("measured") / "digits.toml"
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore", UserWarning)
        patch.setattr(measurement, "REPEATS", 1)
        profile = calibrate(SMALL, target)
    profile.save(target)
    finished(target)
    assert Profile.load(target) == profile
    assert [path.name for path in target.parent.iterdir()] == ["digits.toml"]
    return target


@pytest.fixture
def profile(measured: Path) -> Profile:
    """Return the small profile."""
    return Profile.load(measured)


def test_costs_profits_and_latencies(profile: Profile) -> None:
    assert profile.beside(profile.models.student).resolve() == STUDENT.resolve()
    student, teacher = load_network(STUDENT, "student", 10), load_network(TEACHER, "teacher", 10)
    by_name = {one.name: one for one in profile.inference}
    assert by_name["24px"].cost_macs == count_macs(student, 24)
    half = next(one for one in profile.retraining if one.profit == 0.5)
    assert half.cost_macs == pytest.approx(0.5 * (count_macs(teacher, 32) + 4 * count_macs(student, 32)))
    assert max(one.profit for one in profile.inference) == 1.0
    latencies = [by_name[f"{px}px"].latency_s for px in (20, 24, 28, 32)]
    assert min(latencies) > 0
    batches = {one.inference: one for one in profile.batch_latency}
    assert set(batches) == set(by_name)
    for name, one in batches.items():
        seconds = profile.provenance["batch_seconds"][name]
        assert by_name[name].latency_s == pytest.approx(seconds[measurement.SIZES.index(32)] / 32, rel=1e-4)
        fitted = measurement.affine(np.array(measurement.SIZES, float), np.array(seconds))
        assert (one.fixed_s, one.each_s) == pytest.approx(fitted, rel=1e-3, abs=1e-9)
    assert profile.colocation.slowdown > 1
    assert 0 <= profile.swap.swapping_part < 0.5  # nothing, where training was slowed by other work


def test_curves_table_memory_and_provenance(profile: Profile) -> None:
    assert {(one.corruption, one.severity) for one in profile.drift_curve} == {
        ("none", 0),
        *((corruption, severity) for corruption in CORRUPTED for severity in range(1, 6)),
    }
    clean = profile.curve_for("none", 0)
    entry = next(one for one in profile.table if (one.severity, one.inference) == (0, "32px"))
    assert float(clean(0.0)) == pytest.approx(entry.accuracy, abs=0.05)
    assert len(profile.table) == (2 * 5 + 1) * 4
    assert all(one.retrained is not None for one in profile.table)
    facts = profile.provenance
    assert facts["table"]["samples"] == 80
    assert facts["student_sha256"] == sha256(STUDENT)
    assert facts["corruptions"] == list(CORRUPTED)
    least = facts["memory_error"]["uniform"] - facts["memory_gain_over_uniform"]
    assert min(facts["memory_error"].values()) == pytest.approx(least, abs=1e-6)
    assert np.all(np.array(facts["curve_low"]) <= facts["curve_high"])
    assert 0 < profile.slope_floor <= float(profile.curve.slope(1.0)) * 1.5
    assert {"processor", "date", "versions", "seeds", "curve_residual", "labelling_s_per_sample"} <= set(facts)
    assert facts["validation_seed"] == 3


def test_an_interrupted_calibration_goes_on_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second stream fails; the next call measures what is missing, and only that."""
    target, made = tmp_path / "profile.toml", []
    whole = planning.in_parallel

    def failing(function, calls, jobs):
        for number, answer in enumerate(whole(function, calls, 1)):
            if number == 1 and "interrupted" not in made:
                made.append("interrupted")
                raise KeyboardInterrupt
            yield answer

    def counting(function, calls, jobs):
        made.append(len(calls))
        return failing(function, calls, jobs)

    monkeypatch.setattr(planning, "in_parallel", counting)
    small = replace(SMALL, corruptions=("fog",), ratios=(0.0, 0.5, 1.0), seeds=(1, 2, 3))
    work = [*small.fitted_streams(), *small.other_streams("32px")]
    shipped = Profile.load(MODELS.parent / "profiles/digits.toml")
    short = shipped.model_copy(
        update={"models": shipped.models.model_copy(update={"sampling_ratio": {"none": 0.0, "50%": 0.5, "100%": 1.0}})}
    )
    checkpoint = planning.Checkpoint(target, planning.conditions(short, 10, 20, {}, {}))
    arguments = (short, work, 10, 20, 1, checkpoint, lambda what, part: None)
    made.clear()
    with pytest.raises(KeyboardInterrupt):
        planning.measured_runs(*arguments)
    again = planning.measured_runs(*arguments)
    assert made == [len(work), "interrupted", len(work) - 1]
    fresh = planning.measured_runs(*arguments[:5], None, lambda what, part: None)
    assert [run.as_table() for run in again] == [run.as_table() for run in fresh]


def test_students_side_by_side_are_those_alone() -> None:
    shipped = Profile.load(MODELS.parent / "profiles/digits.toml")
    plans = (Plan(0.0, everywhere=True), Plan(0.2), Plan(1.0), Plan(SPELLS))
    together = learning_runs(shipped, Assignment("fog", 1, plans), 10, 20)
    for run, plan in zip(together, plans, strict=True):
        (alone,) = learning_runs(shipped, Assignment("fog", 1, (plan,)), 10, 20)
        # Agreement is measured on what was labelled for any of them: all, for the one that labels all.
        if plan.ratio != 1.0:
            alone, run = (replace(one, agreed={}) for one in (alone, run))
        assert alone.as_table() == run.as_table()


@pytest.fixture
def steady(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every latency be the profile's own, on a machine that may have anything else to do."""
    usual = [one.latency_s * measurement.USUAL for one in profile.inference]
    seconds = [(0.0,) * measurement.SIZES.index(measurement.USUAL) + (value,) for value in usual]
    found = [measurement.Latency(one, 0.0, 0.0) for one in seconds]
    monkeypatch.setattr("orric.calibration.check.latencies", lambda profile, served: found)


@pytest.mark.usefixtures("steady")
def test_an_unchanged_profile_holds(measured: Path, profile: Profile) -> None:
    findings = check_profile(profile, str(measured), tolerance=3.0, jobs=1)
    assert decayed(findings) == []
    looked_at = {finding.what for finding in findings}
    assert {"student's file", "MACs, 32px", "accuracy on clean images, 28px", "latency per image, 20px"} <= looked_at
    assert "fog, retrained, 32px" in looked_at


@pytest.mark.usefixtures("steady")
def test_a_changed_student_is_named_with_its_figures(measured: Path, profile: Profile, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    network = load_network(STUDENT, "student", 10)
    with torch.no_grad():
        network.head.weight += 2.0 * network.head.weight.std() * torch.randn_like(network.head.weight)
    changed = tmp_path / "student.safetensors"
    save_network(network, changed)
    other = profile.model_copy(update={"models": profile.models.model_copy(update={"student": str(changed)})})
    gone = {finding.what: finding for finding in decayed(check_profile(other, str(measured), 3.0, 1))}
    assert gone["student's file"].note.endswith("is not the file that was measured")
    clean = gone["accuracy on clean images, 32px"]
    assert clean.found < clean.stated
    assert "points" in clean.change


def test_slower_inference_is_named(measured: Path, profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    from orric.calibration import check

    real = check.latencies

    def slow(*arguments):
        return [replace(one, seconds=tuple(100 * seconds for seconds in one.seconds)) for one in real(*arguments)]

    monkeypatch.setattr(check, "latencies", slow)
    gone = decayed(check_profile(profile, str(measured), tolerance=3.0, jobs=1))
    assert {finding.what for finding in gone} == {f"latency per image, {px}px" for px in (20, 24, 28, 32)}
    assert all(float(finding.change.removesuffix(" %")) > 300 for finding in gone)


@pytest.mark.usefixtures("steady")
def test_a_truncated_model_is_named(measured: Path, profile: Profile, tmp_path: Path) -> None:
    cut = tmp_path / "teacher.safetensors"
    cut.write_bytes(TEACHER.read_bytes()[:1000])
    other = profile.model_copy(update={"models": profile.models.model_copy(update={"teacher": str(cut)})})
    gone = decayed(check_profile(other, str(measured), 3.0, 1))
    assert [finding.what for finding in gone] == ["teacher's file"]
    assert "does not hold the teacher's weights" in gone[0].note
    missing = profile.model_copy(update={"models": profile.models.model_copy(update={"student": "nowhere.onnx"})})
    assert "cannot be read" in decayed(check_profile(missing, str(measured), 3.0, 1))[0].note


def test_a_profile_by_hand_cannot_be_checked() -> None:
    published = MODELS.parent / "profiles/cifar10c-fog.toml"
    with pytest.raises(ProfileError, match="does not say what it was measured on"):
        check_profile(Profile.load(published), str(published))


@pytest.mark.filterwarnings("ignore:the learning curve is flat")
def test_a_teacher_worse_than_its_student_is_warned_of_with_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student labels for the teacher: pseudo-labels that can only harm."""
    torch = pytest.importorskip("torch")
    worse = load_network(TEACHER, "teacher", 10)
    torch.manual_seed(1)
    with torch.no_grad():
        worse.head.weight += 2 * worse.head.weight.std() * torch.randn_like(worse.head.weight)
    path = tmp_path / "teacher.safetensors"
    save_network(worse, path)
    plan = replace(SMALL, teacher=path, corruptions=("gaussian_blur",), ratios=(0.0, 0.5, 1.0), jobs=1)
    monkeypatch.setattr(measurement, "REPEATS", 1)
    with pytest.warns(UserWarning, match=r"the teacher is worse .* clean images \(\d+\.\d% against 9\d\.\d%\)"):
        calibrate(plan, tmp_path / "profile.toml")


def test_a_profile_that_cannot_be_put_in_its_place_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "digits.toml"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        Profile.load(MODELS.parent / "profiles/digits.toml").save(target)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_the_shipped_profile_belongs_to_the_shipped_weights() -> None:
    facts = Profile.load(MODELS.parent / "profiles/digits.toml").provenance
    assert facts["student_sha256"] == sha256(STUDENT)
    assert facts["teacher_sha256"] == sha256(TEACHER)
    assert sum(path.stat().st_size for path in MODELS.iterdir()) <= 6e6


def test_pretraining_learns_and_repeats_itself() -> None:
    recipe = replace(recipe_for("digits"), epochs=1)
    networks = [pretrain(digits(), "student", 3, recipe) for _ in range(2)]
    first, second = (network.state_dict() for network in networks)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(
        not np.array_equal(first[name], value)
        for name, value in load_network(STUDENT, "student", 10).state_dict().items()
    )


def test_interrupted_pretraining_goes_on_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(3, 1e-3, mirrored=True, corruptions=("fog",))
    few = replace(digits(), pretraining=digits().pretraining[:128])
    whole = pretrain(few, "teacher", 1, recipe).state_dict()
    kept, real = tmp_path / "kept", pretraining._keep

    def interrupted(path, conditions, epochs, *rest):
        real(path, conditions, epochs, *rest)
        if epochs == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(pretraining, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(few, "teacher", 1, recipe, kept=kept)
    monkeypatch.setattr(pretraining, "_keep", real)
    assert kept.read_bytes().startswith(b"2\n")
    again = pretrain(few, "teacher", 1, recipe, kept=kept).state_dict()
    assert all(np.array_equal(whole[name], again[name]) for name in whole)
    kept.write_bytes(kept.read_bytes()[:500])
    anew = pretrain(few, "teacher", 1, recipe, kept=kept).state_dict()
    assert all(np.array_equal(whole[name], anew[name]) for name in whole)


def test_training_several_tells_how_far_they_are_and_leaves_weights_only(tmp_path: Path) -> None:
    recipe, told = replace(recipe_for("digits"), epochs=1), []
    work = [
        pretraining.Pretraining("digits", None, role, tmp_path / f"{role}.safetensors", recipe, images=64)
        for role in ("student", "teacher")
    ]
    pretrain_all(work, 1, told.append)
    assert told == [0.5, 1.0]
    assert len(list(tmp_path.iterdir())) == 4, "whoever is interrupted later need not train again"
    first = (tmp_path / "student.safetensors").read_bytes()
    pretrain_all(work, 1)
    assert (tmp_path / "student.safetensors").read_bytes() == first
    (tmp_path / ".other.safetensors.training").touch()
    forget([one.path for one in work])
    left = {"student.safetensors", "teacher.safetensors", ".other.safetensors.training"}
    assert {path.name for path in tmp_path.iterdir()} == left
    load_network(tmp_path / "student.safetensors", "student", 10)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="holds other weights than those of the student for 10 classes"):
        load_network(TEACHER, "student", 10)
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    with pytest.raises(ProfileError, match="does not hold"):
        load_network(tmp_path / "noise.safetensors", "student", 10)
    save_network(load_network(STUDENT, "student", 10), tmp_path / "copy.safetensors")
    load_network(tmp_path / "copy.safetensors", "student", 10)


def test_corruptions_go_by_their_names_and_groups() -> None:
    assert set(named_corruptions(["noise", "blur", "weather", "digital"])) == set(CORRUPTIONS)
    assert named_corruptions(["fog", "fog"]) == ("fog",)
    with pytest.raises(ScenarioError, match="did you mean 'weather'"):
        named_corruptions(["wether"])


def test_both_ends_of_the_curves_are_told_from_below() -> None:
    """For orric-chord, whose proof takes lower bounds under every drift."""
    curves = [Tabulated(form="tabulated", x=(0.0, 1.0), y=ends) for ends in ((0.3000009, 0.8), (0.4, 0.7000019))]
    assert least_ends(curves, 1.0) == {"start_accuracy": 0.3, "end_accuracy": 0.700001}
    flat = Tabulated(form="tabulated", x=(0.0, 1.0), y=(0.2, 0.2))
    assert least_ends([flat], 1.0) == {}, "no rise, no chord"
    shipped = Profile.load(MODELS.parent / "profiles/cifar10-blur.toml")
    every = [shipped.curve, *(one.curve for one in shipped.drift_curve)]
    found = least_ends(every, shipped.most_profit)
    assert found == {"start_accuracy": shipped.start_accuracy, "end_accuracy": shipped.end_accuracy}


def test_training_is_part_of_the_profile(tmp_path: Path) -> None:
    shipped = Profile.load(MODELS.parent / "profiles/digits.toml")
    other = shipped.model_copy(update={"training": Training(optimizer="adam", learning_rate=1e-3, refresh=False)})
    other.save(tmp_path / "other.toml")
    assert Profile.load(tmp_path / "other.toml").training == other.training
    shipped.save(tmp_path / "same.toml")
    written = (tmp_path / "same.toml").read_text()
    assert "[training]" not in written
    assert written.splitlines()[:2] == ["format = 1", 'name = "digits"'], "what it is called stands first"


def test_few_images_to_pretrain_on_are_of_all_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of one class may follow one another, as in folders."""
    order = np.argsort(digits().labels[digits().pretraining], kind="stable")
    ordered, seen = replace(digits(), pretraining=digits().pretraining[order]), []

    def look(dataset, *arguments):
        seen.append(dataset)
        return load_network(STUDENT, "student", 10)

    monkeypatch.setattr(pretraining, "load_dataset", lambda *arguments: ordered)
    monkeypatch.setattr(pretraining, "pretrain", look)
    work = pretraining.Pretraining("digits", None, "student", tmp_path / "s.safetensors", Recipe(1, 1e-3), images=100)
    pretrain_all([work], 1)
    (dataset,) = seen
    assert len(dataset.pretraining) == 100
    assert set(dataset.labels[dataset.pretraining]) == set(range(10))


def test_too_few_points_for_a_curve_are_refused_at_once() -> None:
    with pytest.raises(ScenarioError, match="too few points"):
        replace(SMALL, ratios=(0.0, 0.5, 1.0), seeds=(1,))
    with pytest.raises(ScenarioError, match="0 must be one of them"):
        replace(SMALL, ratios=(0.1, 0.2, 0.5, 1.0))

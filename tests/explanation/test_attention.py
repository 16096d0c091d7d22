"""Whether student and teacher look at the same places, and what goes by it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs orric[models]")
pytest.importorskip("captum", reason="needs orric[models]")
pytest.importorskip("sklearn", reason="needs orric[models]")

import orric
from orric.comparison import simulate_line
from orric.drift import Steps
from orric.explanation.attention import Attention, alike
from orric.explanation.drifting import FROZEN, RETRAINED, SIGNALS, explain_stream, signals_of
from orric.explanation.explain import Maps
from orric.retraining.accuracy import OnnxAccuracy, drifted
from orric.retraining.loop import Student
from orric.retraining.models import exported
from orric.vision.datasets import digits

from ..builders import PROFILES, ROOT

DIGITS = PROFILES / "digits.toml"


@pytest.fixture(scope="module")
def profile() -> orric.Profile:
    return orric.Profile.load(DIGITS)


def maps_of(values: list[list[list[float]]]) -> Maps:
    array = np.array(values, np.float32)
    return Maps(array, np.zeros(len(array), np.int64), "hires-cam", "", "pre-softmax", array.shape[1:])


def test_maps_are_alike_by_their_angle() -> None:
    one = maps_of([[[1, 0], [0, 0]], [[1, 2], [3, 4]], [[1, 0], [0, 1]], [[0, 0], [0, 0]]])
    other = maps_of([[[0, 1], [0, 0]], [[2, 4], [6, 8]], [[1, 1], [0, 0]], [[1, 0], [0, 0]]])
    np.testing.assert_allclose(alike(one, other), [0.0, 1.0, 0.5, 0.0], atol=1e-6)


def test_a_network_looks_where_itself_looks(profile) -> None:
    watch = Attention(profile)
    images, _ = drifted(digits(), 1, 1, 20, "fog", 3)
    labels = Student(profile).label(images)
    assert watch(watch.teacher, images, labels) == pytest.approx(1.0, abs=1e-6)
    assert watch(watch.teacher, images[:0], labels[:0]) is None


def test_only_the_first_images_are_looked_at(profile) -> None:
    few = Attention(profile, most=5)
    images, _ = drifted(digits(), 1, 1, 20, "fog", 3)
    student = Student(profile)
    labels = student.label(images)
    assert few(student.network, images, labels) == few(student.network, images[:5], labels[:5])
    assert few(student.network, images, labels) != Attention(profile)(student.network, images, labels)


def test_it_falls_with_drift_and_comes_back_with_retraining(profile) -> None:
    found = explain_stream(profile, "fog", slots=10, per_slot=80, examples=2)
    attention, accuracy = found.signals["attention"], found.accuracy
    assert attention[FROZEN][-1] < attention[FROZEN][0] - 0.1
    assert attention[RETRAINED][-3:].mean() > attention[FROZEN][-3:].mean() + 0.03
    assert accuracy[RETRAINED][-3:].mean() > accuracy[FROZEN][-3:].mean() + 0.2
    # What both saw first is the same, as nothing was trained yet.
    assert all(found.signals[name][FROZEN][0] == found.signals[name][RETRAINED][0] for name in SIGNALS)
    assert found.correlation("attention") > 0.7
    assert set(found.by_severity(accuracy[FROZEN])) == {1, 2, 3, 4, 5}
    for example in found.examples:
        assert [(look.network, look.drifted) for look in example.looks] == [
            ("teacher", False), ("teacher", True), (FROZEN, False), (FROZEN, True), (RETRAINED, True),
        ]  # fmt: skip
        assert all(look.values.shape == (32, 32) and look.values.min() >= 0 for look in example.looks)
    # Those come first that retraining put right.
    first = found.examples[0]
    assert first.looks[3].predicted != first.label == first.looks[4].predicted
    again = explain_stream(profile, "fog", slots=10, per_slot=80, examples=2)
    np.testing.assert_array_equal(again.signals["attention"][RETRAINED], attention[RETRAINED])


def test_signals_need_no_true_label(profile) -> None:
    student = Student(profile)
    images, _ = drifted(digits(), 1, 1, 30, "contrast", 5)
    taught = student.label(images)
    found = signals_of(student, Attention(profile), images, taught)
    assert found["agreement"] == student.agreement(images, taught)
    assert 0.1 <= found["confidence"] <= 1.0
    assert 0.0 < found["attention"] < 1.0


def test_the_loop_is_watched_before_it_trains(profile) -> None:
    drift = Steps(corruption="fog").by_slot(5, 1)
    watched = OnnxAccuracy(profile, drift, 1, watch=Attention(profile))
    plain = OnnxAccuracy(profile, drift, 1)
    for model in (watched, plain):
        assert model.attention() is None
        model.arrive(1, 60)
    assert watched.retrain(1, "30%", 0.0) == plain.retrain(1, "30%", 0.0)
    assert plain.attention() is None
    rng = np.random.default_rng(np.random.SeedSequence(1, spawn_key=(3, 0, 1)))
    images, _ = drifted(digits(), 1, 1, 60, "fog", 1)
    chosen = images[rng.permutation(60)[:18]]
    untrained = Student(profile)
    assert watched.attention() == Attention(profile)(untrained.network, chosen, untrained.label(chosen))
    watched.arrive(2, 60)
    assert watched.retrain(2, "none", 0.0) is None
    assert watched.attention() is None, "nothing was labelled"


def test_a_trigger_goes_by_it_in_a_simulation_by_real_models(monkeypatch) -> None:
    scenario = orric.load_scenario(ROOT / "simulations/quickstart.toml")
    small = scenario.model_copy(update={"slots": 12})
    told = []
    observe = orric.DriftTriggered.observe

    def listen(self, record):
        told.append(record.attention)
        observe(self, record)

    monkeypatch.setattr(orric.DriftTriggered, "observe", listen)
    result = simulate_line(small, "onnx", "attention+orric", 1)
    assert result.allocator == "attention+orric"
    assert sum(value is not None for value in told) >= 3
    assert all(value is None or 0 < value < 1 for value in told)
    told.clear()
    simulate_line(small, "onnx", "adwin+orric", 1)
    assert set(told) == {None}, "nobody watches where nobody goes by it"


def test_a_teacher_of_ones_own_is_explained(profile, tmp_path) -> None:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(exported(ROOT / "traces/models/digits-teacher.safetensors", "teacher", 10))
    assert profile.models is not None
    own = profile.model_copy(update={"models": profile.models.model_copy(update={"teacher": str(path)})})
    images, _ = drifted(digits(), 1, 1, 10, "fog", 3)
    student = Student(profile)
    labels = student.label(images)
    shipped, watch = Attention(profile), Attention(own.placed_in(PROFILES))
    expected = shipped.maps(shipped.teacher, images, labels)
    found = watch.maps(watch.teacher, images, labels)
    np.testing.assert_allclose(found.upsampled, expected.upsampled, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"slots": 4}, "give 5 slots or more"),
        ({"per_slot": 1}, "2 samples or more"),
        ({"method": "gradcam"}, "did you mean 'grad-cam'"),
        ({"student_layer": "featurs"}, "choose one of features"),
        ({"teacher_layer": "nowhere"}, "layer 'nowhere'"),
    ],
)
def test_unusable_requests_are_told(profile, changes, words) -> None:
    with pytest.raises(orric.ExplanationError, match=words):
        explain_stream(profile, "fog", **{"slots": 5, "per_slot": 4, **changes})

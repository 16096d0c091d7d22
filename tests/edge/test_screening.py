"""Outliers by the teacher's features, classes that crowd out others, and the anchor set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orric
from orric.edge.screening import Screen, described, evenly
from orric.exceptions import EdgeError
from orric.retraining.accuracy import drifted
from orric.retraining.anchors import Anchors
from orric.retraining.loop import Student
from orric.retraining.models import with_features
from orric.vision.datasets import digits

from .conftest import DIGITS


@pytest.fixture(scope="module")
def student() -> Student:
    return Student(orric.Profile.load(DIGITS))


@pytest.fixture(scope="module")
def anchors() -> Anchors:
    profile = orric.Profile.load(DIGITS)
    assert profile.anchors is not None, "the digits come with an anchor set"
    return Anchors.load(profile.anchors, 10)


@pytest.fixture(scope="module")
def screen(student: Student, anchors: Anchors) -> Screen:
    return Screen(anchors, lambda images: student.taught(images)[1], 0.01, np.random.default_rng(0))


@pytest.mark.parametrize("corruption", ["none", "fog", "gaussian_noise", "contrast", "snow", "motion_blur"])
def test_what_has_drifted_is_no_outlier(student: Student, screen: Screen, corruption: str) -> None:
    severity = 0 if corruption == "none" else 5
    images, _ = drifted(digits(), 3, 1, 200, corruption, severity)
    assert screen.outliers(images, student.taught(images)[1]).mean() < (0.04 if corruption == "none" else 0.3)


def test_what_nobody_photographs_is_one(student: Student, screen: Screen) -> None:
    rng = np.random.default_rng(0)
    clean, _ = drifted(digits(), 3, 1, 100, "none", 0)
    for images in (rng.integers(0, 256, (100, 32, 32, 3), np.uint8), np.zeros_like(clean), np.full_like(clean, 255)):
        assert screen.outliers(images, student.taught(images)[1]).all()
    assert screen.outliers(255 - clean, student.taught(255 - clean)[1]).mean() > 0.9
    assert screen.outliers(clean[:2], np.full((2, 96), np.nan, np.float32)).all(), "what is no number is one"


def test_noise_is_noise_whatever_the_teacher_sees(anchors: Anchors) -> None:
    """A teacher of photographs takes noise for one; the picture's own description does not."""
    rng = np.random.default_rng(0)
    blind = Screen(anchors, lambda images: rng.standard_normal((len(images), 8)).astype(np.float32), 0.01, rng)
    clean, _ = drifted(digits(), 3, 1, 200, "none", 0)
    for images in (rng.integers(0, 256, (50, 32, 32, 3), np.uint8), np.full((50, 32, 32, 3), 255, np.uint8)):
        assert blind.outliers(images, np.zeros((50, 8), np.float32)).all()
    assert blind.outliers(clean, np.zeros((200, 8), np.float32)).mean() < 0.03


def test_a_picture_is_described_at_any_size() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 37, 50, 3), np.uint8)
    assert described(images).shape == (3, 3 + 3 * 4)
    assert np.isfinite(described(np.zeros((1, 8, 8, 3), np.uint8))).all()


def test_the_teachers_labels_come_with_what_they_rest_on(student: Student) -> None:
    images, _ = drifted(digits(), 3, 1, 70, "fog", 3)
    labels, features = student.taught(images)
    assert np.array_equal(labels, student.label(images))
    assert features.shape == (70, 96)


def test_a_teacher_without_a_last_product_gives_its_logits() -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0, axes=[2, 3])], "g",
        [onnx.helper.make_tensor_value_info("x", 1, ["n", 3, "h", "w"])],
        [onnx.helper.make_tensor_value_info("y", 1, ["n", 3])],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    assert len(onnx.load_from_string(with_features(model.SerializeToString())).graph.output) == 1


@given(labels=st.lists(st.integers(0, 5), max_size=200), fewest=st.integers(0, 30))
def test_no_class_crowds_out_the_others(labels: list[int], fewest: int) -> None:
    kept = evenly(np.array(labels, np.int64), fewest)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert len(kept) >= min(fewest, len(labels))
    after = Counter(labels[place] for place in kept)
    assert set(after) == set(labels), "no class goes"
    assert set(kept.tolist()) >= {labels.index(name) for name in after}, "the first of each stay"


@pytest.mark.parametrize(
    ("counts", "left"),
    [
        ([20, 20, 20, 600], [20, 20, 20, 40]), ([5, 5, 5, 5], [5, 5, 5, 5]), ([150, 1, 1, 1], [150, 1, 1, 1]),
        ([100, 100, 100, 100, 1, 1, 1, 1, 1], [100, 100, 100, 100, 1, 1, 1, 1, 1]), ([200], [200]),
    ],
)  # fmt: skip
def test_single_images_of_other_classes_do_not_say_what_is_usual(counts: list[int], left: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    assert np.bincount(labels[evenly(labels)]).tolist() == left


def test_halves_have_every_class(anchors: Anchors) -> None:
    one, other = anchors.halves()
    assert np.bincount(one.labels).tolist() == np.bincount(other.labels).tolist() == [10] * 10
    together = {image.tobytes() for image in one.images} & {image.tobytes() for image in other.images}
    assert not together


def test_anchors_are_none_of_the_streams_images(anchors: Anchors) -> None:
    streamed = {image.tobytes() for image in digits().images[digits().streamed]}
    assert not any(image.tobytes() in streamed for image in anchors.images)


def test_anchors_are_saved_and_loaded(anchors: Anchors, tmp_path: Path) -> None:
    anchors.save(tmp_path / "a.npz")
    again = Anchors.load(tmp_path / "a.npz", 10)
    assert np.array_equal(again.images, anchors.images)
    assert np.array_equal(again.labels, anchors.labels)


def test_unusable_anchors_are_told_in_one_line(anchors: Anchors, tmp_path: Path) -> None:
    def refused(place: Path, classes: int = 10) -> str:
        with pytest.raises(EdgeError) as caught:
            Anchors.load(place, classes)
        assert "\n" not in str(caught.value)
        assert "anchor set" in str(caught.value)
        return str(caught.value)

    assert "does not exist" in refused(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    assert "cannot be read" in refused(tmp_path / "bad.npz")
    anchors.save(tmp_path / "a.npz")
    assert "has 10 classes and the student 7" in refused(tmp_path / "a.npz", 7)
    few = np.flatnonzero(anchors.labels != 3)
    lonely = np.append(few, np.flatnonzero(anchors.labels == 3)[:1])
    Anchors(anchors.images[lonely], anchors.labels[lonely]).save(tmp_path / "few.npz")
    assert "has 1 images of the class '3'" in refused(tmp_path / "few.npz")
    with pytest.raises(EdgeError, match="cannot be written"):
        anchors.save(tmp_path / "nowhere" / "a.npz")

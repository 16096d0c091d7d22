"""Data sets: parted once for all, drawn with seeds, scaled as Pillow does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import orric
from orric.vision.corruptions import corrupt
from orric.vision.datasets import DATASETS, Dataset, load_dataset, shifted, to_input

from .layouts import write_binary, write_class_folders, write_corrupted

Image = pytest.importorskip("PIL.Image", reason="needs orric[models]")
pytest.importorskip("sklearn", reason="needs orric[models]")
every_dataset = pytest.mark.parametrize("name", sorted(DATASETS))
PARTS = ("pretraining", "held_out", "calibrated", "streamed")


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Dataset]:
    """Load any data set, from small files of its layout where it needs files."""

    def loaded(name: str) -> Dataset:
        write = {"digits": lambda folder: None, "cifar10": write_binary, "cifar10-c": write_corrupted}
        write.get(name, write_class_folders)(tmp_path)
        return load_dataset(name, tmp_path)

    return loaded


@every_dataset
def test_parts_are_disjoint_and_cover_everything_in_use(name: str, load) -> None:
    dataset = load(name)
    parts = [getattr(dataset, part) for part in PARTS]
    if name == "digits":
        assert parts[2] is parts[3]
        parts = parts[:3]
    together = np.concatenate(parts).tolist()
    assert len(set(together)) == len(together)
    # CIFAR-10-C is calibrated on test images, so half of the training images are left over.
    left_over = 25 if name == "cifar10-c" else 0
    assert len(together) == len(dataset.images) - left_over
    assert min(len(part) for part in parts) > 0


@every_dataset
def test_images_and_labels_fit_together(name: str, load) -> None:
    dataset = load(name)
    assert dataset.name == name
    assert dataset.images.dtype == np.uint8
    assert dataset.images.shape == (len(dataset.labels), 32, 32, 3)
    assert set(dataset.labels.tolist()) == set(range(len(dataset.classes)))
    for part in PARTS:
        assert set(dataset.labels[getattr(dataset, part)].tolist()) == set(range(len(dataset.classes)))


@every_dataset
def test_drawing_drifts_after_the_choice_and_the_shifts(name: str, load) -> None:
    """Results of before must come out again, so the random draws keep their order, and none is made for no shift."""
    dataset = load(name)
    for part in PARTS:
        rng = np.random.default_rng(1)
        chosen = rng.choice(getattr(dataset, part), size=30)
        clean = shifted(dataset.images[chosen], rng) if name == "digits" else dataset.images[chosen]
        images, labels = dataset.draw(30, np.random.default_rng(1), part, corruption="gaussian_noise", severity=2)
        assert np.array_equal(labels, dataset.labels[chosen])
        if name != "cifar10-c" or part in ("pretraining", "held_out"):
            assert np.array_equal(images, corrupt(clean, "gaussian_noise", 2, rng))
        for corruption, severity in (("none", 3), ("fog", 0)):
            images, _ = dataset.draw(30, np.random.default_rng(1), part, corruption=corruption, severity=severity)
            assert np.array_equal(images, clean)
    with pytest.raises(orric.ScenarioError, match="did you mean 'fog'"):
        dataset.draw(3, np.random.default_rng(1), corruption="fogg", severity=1)
    with pytest.raises(orric.ScenarioError, match="severity: 6"):
        dataset.draw(3, np.random.default_rng(1), corruption="fog", severity=6)


@every_dataset
def test_a_data_set_is_read_once_for_each_path(name: str, load, tmp_path, monkeypatch) -> None:
    dataset = load(name)
    assert load_dataset(name, tmp_path) is dataset
    assert load_dataset(name, tmp_path / ".." / tmp_path.name) is dataset
    monkeypatch.setenv("ORRIC_DATA", str(tmp_path))
    assert load_dataset(name) is dataset


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"digits"}))
def test_a_data_set_without_its_path_says_how_to_give_one(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("ORRIC_DATA", raising=False)
    with pytest.raises(orric.ScenarioError, match="needs its files; give --data FOLDER or set ORRIC_DATA") as caught:
        load_dataset(name)
    assert "\n" not in str(caught.value)
    with pytest.raises(orric.ScenarioError, match=r"nowhere does not exist; give --data FOLDER or set ORRIC_DATA"):
        load_dataset(name, tmp_path / "nowhere")
    assert load_dataset("digits").shift_px == 2


def test_digits_are_the_digits() -> None:
    dataset = load_dataset("digits")
    assert [len(part) for part in (dataset.pretraining, dataset.held_out, dataset.streamed)] == [600, 297, 900]
    assert dataset.images.std() > 50
    assert dataset.classes == tuple("0123456789")
    assert load_dataset("digits") is dataset


def test_draws_come_from_their_part_with_their_labels() -> None:
    dataset = load_dataset("digits")
    for part in ("pretraining", "held_out", "streamed"):
        images, labels = dataset.draw(200, np.random.default_rng(1), part)
        again, _ = dataset.draw(200, np.random.default_rng(1), part)
        other, _ = dataset.draw(200, np.random.default_rng(2), part)
        assert np.array_equal(images, again)
        assert not np.array_equal(images, other)
        # The middle of the picture, which no shift pushes out, is found in some picture of the part.
        members = getattr(dataset, part)
        for image, label in zip(images[:20], labels[:20], strict=True):
            inside = image[8:24, 8:24]
            found = [
                dataset.labels[k]
                for k in members
                for dy in range(-2, 3)
                for dx in range(-2, 3)
                if image[16, 16, 0] == dataset.images[k, 16 + dy, 16 + dx, 0]
                and np.array_equal(inside, dataset.images[k, 8 + dy : 24 + dy, 8 + dx : 24 + dx])
            ]
            assert label in found
    assert dataset.draw(0, np.random.default_rng(1))[0].shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    "weights", [[1.0] * 10, [8, 0, 0, 1, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0, 0, 3], range(10)]
)
def test_a_label_mix_sets_how_often_each_class_comes(weights) -> None:
    """Counts are binomial, so five of their standard deviations off would be an error of the code."""
    dataset, count = load_dataset("digits"), 20_000
    parts = np.array(weights, float) / sum(weights)
    images, labels = dataset.draw(count, np.random.default_rng(1), label_mix=np.array(weights, float))
    assert images.shape == (count, 32, 32, 3)
    found = np.bincount(labels, minlength=10)
    assert (abs(found - count * parts) <= 5 * np.sqrt(count * parts * (1 - parts))).all()


def test_within_a_class_every_image_is_as_likely() -> None:
    dataset = load_dataset("digits")
    only = np.flatnonzero(dataset.labels[dataset.streamed] == 3)
    unshifted = {dataset.images[dataset.streamed[k], 8:24, 8:24].tobytes() for k in only}
    images, _ = dataset.draw(40_000, np.random.default_rng(1), label_mix=np.eye(10)[3])
    drawn = [image for image in (image[8:24, 8:24].tobytes() for image in images) if image in unshifted]
    counts = np.unique(drawn, return_counts=True)[1]
    expected = 40_000 / 25 / len(only)  # one of 25 shifts is none
    assert len(counts) == len(only)
    assert (abs(counts - expected) <= 5 * np.sqrt(expected)).all()


def test_no_mix_draws_what_it_always_drew() -> None:
    """Results of before label shift must come out again, byte for byte."""
    dataset, rng = load_dataset("digits"), np.random.default_rng(1)
    chosen = rng.choice(dataset.streamed, size=50)
    images, labels = dataset.draw(50, np.random.default_rng(1))
    assert np.array_equal(images, shifted(dataset.images[chosen], rng))
    assert np.array_equal(labels, dataset.labels[chosen])


def test_a_class_without_images_cannot_be_drawn() -> None:
    dataset = load_dataset("digits")
    lacking = replace(dataset, streamed=dataset.streamed[dataset.labels[dataset.streamed] != 7])
    with pytest.raises(orric.ScenarioError, match="no image of the class '7'"):
        lacking.draw(5, np.random.default_rng(1), label_mix=np.ones(10))
    assert 7 not in lacking.draw(500, np.random.default_rng(1), label_mix=1.0 - np.eye(10)[7])[1]


def test_shifts_reach_two_pixels_each_way_and_repeat_the_edge() -> None:
    image = np.arange(32 * 32, dtype=np.int64).reshape(32, 32)
    images = np.repeat(np.repeat((image % 256).astype(np.uint8)[None, ..., None], 3, axis=3), 500, axis=0)
    moved = shifted(images, np.random.default_rng(1))
    seen = set()
    for one in moved:
        fits = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if np.array_equal(one, images[0][np.clip(np.arange(32) + dy, 0, 31)][:, np.clip(np.arange(32) + dx, 0, 31)])
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 25
    assert np.array_equal(shifted(images[:3], np.random.default_rng(1), reach=0), images[:3])


@pytest.mark.parametrize("resolution", [8, 20, 24, 28, 32, 48])
def test_input_equals_pillows_bilinear_resize(resolution: int) -> None:
    rng = np.random.default_rng(1)
    images = np.concatenate([rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8), load_dataset("digits").images[:3]])
    inputs = to_input(images, resolution)
    assert inputs.shape == (6, 3, resolution, resolution)
    assert inputs.dtype == np.float32
    assert inputs.flags.c_contiguous
    for image, found in zip(images, inputs, strict=True):
        resized = np.asarray(Image.fromarray(image).resize((resolution, resolution), Image.Resampling.BILINEAR))
        assert abs(found.transpose(1, 2, 0) * 255 - resized).max() <= 1.0 + 1e-3
        # Without Pillow's rounding to whole grey levels the two are the same.
        channel = Image.fromarray(image[..., 0].astype(np.float32))
        exact = np.asarray(channel.resize((resolution, resolution), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(found[0] * 255, exact, atol=1e-2)


def test_input_of_images_that_are_not_square() -> None:
    image = np.random.default_rng(1).integers(0, 256, (1, 40, 24, 3), dtype=np.uint8)
    exact = np.asarray(Image.fromarray(image[0, ..., 1].astype(np.float32)).resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(to_input(image, 20)[0, 1] * 255, exact, atol=1e-2)


def test_input_at_its_own_resolution_is_the_image() -> None:
    images = load_dataset("digits").images[:2]
    np.testing.assert_array_equal((to_input(images, 32) * 255).round().transpose(0, 2, 3, 1), images)


def test_unknown_data_set_suggests_the_nearest() -> None:
    with pytest.raises(orric.ScenarioError, match="did you mean 'digits'"):
        load_dataset("digitts")


def test_the_fingerprint_is_of_images_labels_and_parts() -> None:
    dataset = load_dataset("digits")
    assert replace(dataset).fingerprint == dataset.fingerprint
    images, labels = dataset.images.copy(), dataset.labels.copy()
    images[3, 4, 5, 1] ^= 1
    labels[7] = (labels[7] + 1) % 10
    others = [
        replace(dataset, images=images),
        replace(dataset, labels=labels),
        replace(dataset, streamed=dataset.streamed[1:]),
        replace(dataset, published={"fog": images[:5]}),
    ]
    assert len({dataset.fingerprint, *(other.fingerprint for other in others)}) == 5

"""Data sets on disk: every layout is read as it is published, and every broken file is told in one line."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import orric
from orric.vision.datasets import load_dataset

from ..builders import ROOT
from .layouts import (
    CLASSES,
    PER_BATCH,
    TESTED,
    batches,
    planes,
    write_binary,
    write_class_folders,
    write_corrupted,
    write_pickled,
)

Image = pytest.importorskip("PIL.Image", reason="needs orric[models]")
MAKE_BATCHES = ROOT.parent / "shared" / "data" / "cifar10" / "make_batches.py"


def refused(name: str, path: Path, pattern: str) -> None:
    """Check that a data set is refused, in one line."""
    with pytest.raises(orric.ScenarioError, match=pattern) as caught:
        load_dataset(name, path)
    assert "\n" not in str(caught.value)


def pickled_by_protocol_0(folder: Path) -> Path:
    return write_pickled(folder, protocol=0)


def pickled_by_protocol_5(folder: Path) -> Path:
    return write_pickled(folder, protocol=5, as_bytes=False)


WRITERS = (write_binary, write_pickled, pickled_by_protocol_0, pickled_by_protocol_5)


@pytest.mark.parametrize("write", WRITERS)
def test_both_layouts_of_cifar10_hold_the_same(write: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = write(tmp_path)
    for path in (tmp_path, folder):
        dataset = load_dataset("cifar10", path)
        assert dataset.classes == CLASSES
        assert np.array_equal(dataset.images, np.concatenate([images for images, _ in batches().values()]))
        assert np.array_equal(dataset.labels, np.concatenate([labels for _, labels in batches().values()]))
        assert dataset.shift_px == 0
        assert dataset.published is None
        assert dataset.pretraining.tolist() == list(range(20))
        assert dataset.calibrated.tolist() == list(range(20, 45))
        assert dataset.held_out.tolist() == list(range(45, 50))
        assert dataset.streamed.tolist() == list(range(50, 50 + TESTED))


def test_real_cifar10(tmp_path: Path) -> None:
    if not MAKE_BATCHES.exists():
        pytest.skip(f"needs {MAKE_BATCHES.relative_to(ROOT.parent)} beside the repository")
    subprocess.run([sys.executable, MAKE_BATCHES, tmp_path], check=True, timeout=300)
    dataset = load_dataset("cifar10", tmp_path)
    assert dataset.images.shape == (60_000, 32, 32, 3)
    assert dataset.classes[0] == "airplane"
    sizes = [len(part) for part in (dataset.pretraining, dataset.calibrated, dataset.held_out, dataset.streamed)]
    assert sizes == [20_000, 25_000, 5_000, 10_000]
    assert np.bincount(dataset.labels).tolist() == [6_000] * 10
    # Neighbouring pixels of pictures are alike, which they are not when planes or rows are mistaken.
    pictures = dataset.images[:500].astype(float)
    for axis in (1, 2):
        assert abs(np.diff(pictures, axis=axis)).mean() < 0.4 * pictures.std()
    assert abs(np.diff(pictures, axis=3)).mean() < 0.4 * pictures.std()


def test_cifar10_that_is_not_there(tmp_path: Path) -> None:
    refused("cifar10", tmp_path, "there is neither data_batch_1.bin nor data_batch_1; give the folder cifar-10-batch")
    (tmp_path / "file").write_text("no folder")
    refused("cifar10", tmp_path / "file", "there is neither")


@pytest.mark.parametrize("write", [write_binary, write_pickled])
@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_4", "test_batch", "batches.meta"])
def test_a_missing_file_is_named(write: Callable[[Path], Path], name: str, tmp_path: Path) -> None:
    ending = "" if write is write_pickled else ".txt" if "meta" in name else ".bin"
    (write(tmp_path) / (name + ending)).unlink()
    refused("cifar10", tmp_path, f"the file {name}{ending} is missing")


@pytest.mark.parametrize("size", [0, 1, 3072, 3073 * PER_BATCH - 1, 3073 * PER_BATCH + 5])
def test_a_truncated_binary_file(size: int, tmp_path: Path) -> None:
    os.truncate(write_binary(tmp_path) / "data_batch_3.bin", size)
    refused("cifar10", tmp_path, f"data_batch_3.bin: {size} bytes are no whole number of records of 3073 bytes")


def test_a_label_out_of_range(tmp_path: Path) -> None:
    file = write_binary(tmp_path) / "test_batch.bin"
    content = bytearray(file.read_bytes())
    content[2 * 3073] = 3
    file.write_bytes(content)
    refused("cifar10", tmp_path, "test_batch.bin: image 3 has the label 3; labels are from 0 to 2")


def test_too_few_classes_or_images(tmp_path: Path) -> None:
    folder = write_binary(tmp_path)
    for number in range(1, 6):
        file = folder / f"data_batch_{number}.bin"
        file.write_bytes(file.read_bytes()[:3073])
    refused("cifar10", tmp_path, "5 training images; give at least 10")
    for file in folder.glob("*.bin"):
        content = bytearray(file.read_bytes())
        content[::3073] = bytes(len(content[::3073]))
        file.write_bytes(content)
    (folder / "batches.meta.txt").write_text("cat\n")
    refused("cifar10", tmp_path, "1 class names; give at least 2")


class Command:
    """What a malicious pickle would hold."""

    def __reduce__(self) -> tuple:
        return os.system, ("exit 1",)


def good_batch() -> dict:
    images, labels = batches()["data_batch_2"]
    return {b"data": planes(images), b"labels": labels.tolist()}


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (lambda: Command(), "system is no part of an array"),
        (lambda: {**good_batch(), b"more": Command()}, "system is no part of an array"),
        (lambda: {**good_batch(), b"more": print}, "print is no part of an array"),
        (lambda: [1, 2], "holds no dictionary"),
        (lambda: {b"data": good_batch()[b"data"]}, "has no key 'labels'"),
        (lambda: {**good_batch(), b"data": [1, 2]}, "data is a list"),
        (lambda: {**good_batch(), b"data": np.zeros((10, 5), np.uint8)}, r"uint8 of shape \(10, 5\)"),
        (lambda: {**good_batch(), b"data": np.zeros((10, 3072))}, r"float64 of shape \(10, 3072\)"),
        (lambda: {**good_batch(), b"labels": [0, 1]}, "2 labels for 10 images"),
        (lambda: {**good_batch(), b"labels": 3}, "no labels for 10 images"),
        (lambda: {**good_batch(), b"labels": ["a"] * 10}, "labels are not whole numbers"),
        (lambda: {**good_batch(), b"labels": [-1] * 10}, "image 1 has the label -1"),
    ],
)
def test_an_unusable_pickle(content: Callable[[], object], pattern: str, tmp_path: Path) -> None:
    (write_pickled(tmp_path) / "data_batch_2").write_bytes(pickle.dumps(content()))
    refused("cifar10", tmp_path, "data_batch_2.*" + pattern)


def test_a_truncated_pickle(tmp_path: Path) -> None:
    file = write_pickled(tmp_path) / "data_batch_2"
    whole = file.read_bytes()
    for size in (0, 1, 50, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        refused("cifar10", tmp_path, "data_batch_2: is no pickle of plain arrays")
    file.write_bytes(whole)
    (file.parent / "batches.meta").write_bytes(pickle.dumps({b"label_names": 3}))
    refused("cifar10", tmp_path, "batches.meta: has no list 'label_names'")


def test_cifar10_c_is_looked_up(tmp_path: Path) -> None:
    folder = write_corrupted(tmp_path)
    for path in (tmp_path, folder):
        dataset = load_dataset("cifar10-c", path)
        assert sorted(dataset.published) == ["fog", "gaussian_noise"]
        assert dataset.calibrated.tolist() == list(range(50, 56))
        assert dataset.streamed.tolist() == list(range(56, 62))
        assert dataset.pretraining.tolist() == list(range(20))
        assert dataset.held_out.tolist() == list(range(45, 50))
        assert isinstance(dataset.published["fog"], np.memmap)
    stored = np.load(folder / "fog.npy")
    for part in ("calibrated", "streamed"):
        for severity in (1, 3, 5):
            chosen = np.random.default_rng(1).choice(getattr(dataset, part), size=30)
            images, labels = dataset.draw(30, np.random.default_rng(1), part, corruption="fog", severity=severity)
            assert np.array_equal(images, stored[(severity - 1) * TESTED + chosen - 50])
            assert np.array_equal(labels, dataset.labels[chosen])
            assert type(images) is np.ndarray
    assert dataset.draw(0, np.random.default_rng(1), corruption="fog", severity=2)[0].shape == (0, 32, 32, 3)


def test_a_corruption_that_was_not_published_is_named(tmp_path: Path) -> None:
    write_corrupted(tmp_path)
    with pytest.raises(orric.ScenarioError, match=r"there is no snow\.npy; add the file") as caught:
        load_dataset("cifar10-c", tmp_path).draw(5, np.random.default_rng(1), corruption="snow", severity=1)
    assert "\n" not in str(caught.value)


def test_unusable_cifar10_c(tmp_path: Path) -> None:
    refused("cifar10-c", tmp_path, "there is no labels.npy; give the folder CIFAR-10-C")
    folder = write_corrupted(tmp_path)
    labels, fog = np.load(folder / "labels.npy"), np.load(folder / "fog.npy")
    whole = (folder / "fog.npy").read_bytes()
    (folder / "fog.npy").write_bytes(whole[:-1])
    refused("cifar10-c", tmp_path, "fog.npy: is no whole array file")
    (folder / "fog.npy").write_bytes(b"")
    refused("cifar10-c", tmp_path, "fog.npy: is no whole array file")
    for wrong, described in ((fog[:-1], "uint8 of shape"), (fog / 255, "float64 of shape"), (fog[..., 0], "uint8 of")):
        np.save(folder / "fog.npy", wrong)
        refused("cifar10-c", tmp_path, f"fog.npy: {described}.*need uint8 of shape {re.escape('(60, 32, 32, 3)')}")
    np.save(folder / "fog.npy", fog)
    np.save(folder / "labels.npy", labels[:-1])
    refused("cifar10-c", tmp_path, r"labels of shape \(59,\); 12 test images need the shape \(60,\)")
    np.save(folder / "labels.npy", np.roll(labels, 1))
    refused("cifar10-c", tmp_path, "row 0 has the label 2, and its clean test image has another")
    np.save(folder / "labels.npy", labels)
    for name in ("fog", "gaussian_noise"):
        (folder / f"{name}.npy").unlink()
    refused("cifar10-c", tmp_path, "there is no corruption's .npy file")
    shutil.rmtree(tmp_path / "cifar-10-batches-bin")
    refused("cifar10-c", tmp_path, "the clean CIFAR-10 is not there; put cifar-10-batches-bin or .* beside it")


def test_class_folders_are_squared_and_reduced(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path)
    dataset = load_dataset("images", folder)
    assert dataset.classes == CLASSES
    assert np.array_equal(load_dataset("images", tmp_path).images, dataset.images)
    assert np.bincount(dataset.labels).tolist() == [8, 8, 8]
    with Image.open(folder / "ship" / "3.png") as opened:
        upright = opened.crop((0, 5, 50, 55)) if opened.height == 60 else None
        expected = np.asarray(upright.resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(dataset.images[16 + 3], expected)


def test_parts_of_own_images_are_stratified(tmp_path: Path) -> None:
    write_class_folders(tmp_path, count=40)
    dataset = load_dataset("images", tmp_path)
    for part, count in (("pretraining", 16), ("held_out", 4), ("calibrated", 10), ("streamed", 10)):
        assert np.bincount(dataset.labels[getattr(dataset, part)]).tolist() == [count] * 3
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "images", again)
    assert np.array_equal(load_dataset("images", again).streamed, dataset.streamed)
    assert not np.array_equal(dataset.streamed[:10], np.arange(10))


def test_four_images_of_a_class_are_enough_and_three_are_not(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path, count=4)
    dataset = load_dataset("images", folder)
    for part in ("pretraining", "held_out", "calibrated", "streamed"):
        assert np.bincount(dataset.labels[getattr(dataset, part)]).tolist() == [1, 1, 1]
    (folder / "dog" / "0.png").unlink()
    shutil.copytree(folder, tmp_path / "fewer")
    refused("images", tmp_path / "fewer", "the class 'dog' has 3 images; give each class at least 4")


def test_pictures_of_other_kinds_are_read(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path)
    grey = np.random.default_rng(1).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(grey).save(folder / "cat" / "0.png")
    Image.fromarray(np.dstack([grey] * 4)).save(folder / "cat" / "1.png")
    Image.fromarray(np.dstack([grey] * 3)).save(folder / "cat" / "2.jpg")
    images = load_dataset("images", folder).images
    assert np.array_equal(images[0], np.dstack([grey] * 3))
    assert np.array_equal(images[1], images[0])


def test_unusable_pictures(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path)
    broken = folder / "dog" / "picture.png"
    whole = (folder / "dog" / "0.png").read_bytes()
    for content in (b"", b"no picture", whole[:100], whole[: len(whole) // 2]):
        broken.write_bytes(content)
        refused("images", folder, "picture.png: cannot be read .*repair or remove it")
    broken.unlink()
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(broken)
    refused("images", folder, "picture.png: has pixels of the mode I;16; save it with 8 bits")
    broken.unlink()
    (folder / "bird").mkdir()
    refused("images", folder, "bird: holds no image; add some, or remove the folder")
    for name in ("bird", "cat", "dog"):
        shutil.rmtree(folder / name)
    refused("images", folder, "there is one class, 'ship'; give at least two")
    shutil.rmtree(folder / "ship")
    refused("images", folder, "there is no class folder")


def npz(folder: Path, **arrays: object) -> Path:
    np.savez(folder / "images.npz", **arrays)
    return folder / "images.npz"


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("floating", [False, True])
@pytest.mark.parametrize("size", [(32, 32), (48, 40)])
def test_arrays_are_read(grey: bool, floating: bool, size: tuple[int, int], tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (12, *size) if grey else (12, *size, 3), dtype=np.uint8)
    labels = np.array([10, 9, 2] * 4)
    file = npz(tmp_path, images=(pixels / 255).astype(np.float32) if floating else pixels, labels=labels)
    for path in (file, tmp_path):
        dataset = load_dataset("images", path)
        assert dataset.classes == ("2", "9", "10")
        assert dataset.labels.tolist() == [2, 1, 0] * 4
        for image, source in zip(dataset.images, pixels, strict=True):
            middle = source[4:44] if size == (48, 40) else source
            expected = np.asarray(Image.fromarray(middle).resize((32, 32), Image.Resampling.BILINEAR))
            assert np.array_equal(image, np.dstack([expected] * 3) if grey else expected)


def test_classes_may_have_names(tmp_path: Path) -> None:
    pixels = np.zeros((8, 32, 32), np.uint8)
    for labels in (np.array(["wolf", "ant"] * 4), np.array([b"wolf", b"ant"] * 4)):
        shutil.rmtree(tmp_path / "one", ignore_errors=True)
        (tmp_path / labels.dtype.kind).mkdir()
        dataset = load_dataset("images", npz(tmp_path / labels.dtype.kind, images=pixels, labels=labels))
        assert dataset.classes == ("ant", "wolf")
        assert dataset.labels.tolist() == [1, 0] * 4


def changed(images: np.ndarray, value: float) -> np.ndarray:
    images = images.copy()
    images[5, 3, 2, 1] = value
    return images


@pytest.mark.parametrize(
    ("arrays", "pattern"),
    [
        (lambda images, labels: {"images": images}, "has no 'labels' among images; give 'images' and 'labels'"),
        (lambda images, labels: {"pixels": images, "labels": labels}, "has no 'images' among pixels, labels"),
        (lambda images, labels: {}, "has no 'images' among nothing"),
        (lambda images, labels: {"images": images[0, 0], "labels": labels}, r"images of shape \(32, 3\)"),
        (lambda images, labels: {"images": images[..., :2], "labels": labels}, r"images of shape \(8, 32, 32, 2\)"),
        (lambda images, labels: {"images": images[:0], "labels": labels[:0]}, r"images of shape \(0, 32, 32, 3\)"),
        (lambda images, labels: {"images": images, "labels": labels[:7]}, r"labels of shape \(7,\) for 8 images"),
        (lambda images, labels: {"images": images, "labels": labels[:, None]}, r"labels of shape \(8, 1\)"),
        (lambda images, labels: {"images": images, "labels": labels / 2}, "labels of type float64"),
        (lambda images, labels: {"images": images, "labels": labels - 1}, "label -1 of image 1; give whole numbers"),
        (lambda images, labels: {"images": images, "labels": labels * 0}, "there is one class, '0'"),
        (lambda images, labels: {"images": images.astype(int), "labels": labels}, "images of type int64; give uint8"),
        (lambda images, labels: {"images": changed(images, np.nan), "labels": labels}, "image 6 has the value nan"),
        (lambda images, labels: {"images": changed(images, 1.5), "labels": labels}, "image 6 has the value 1.5"),
        (lambda images, labels: {"images": changed(images, -0.1), "labels": labels}, "image 6 has the value -0.1"),
        (lambda images, labels: {"images": changed(images, np.inf), "labels": labels}, "image 6 has the value inf"),
        (lambda images, labels: {"images": images, "labels": np.arange(8) // 6}, "the class '1' has 2 images"),
        (lambda images, labels: {"images": images, "labels": np.array([{}] * 8)}, "cannot be read .*allow_pickle"),
    ],
)
def test_unusable_arrays(arrays: Callable[..., dict], pattern: str, tmp_path: Path) -> None:
    refused("images", npz(tmp_path, **arrays(np.zeros((8, 32, 32, 3)), np.arange(8) % 2)), pattern)


def test_an_unusable_array_file(tmp_path: Path) -> None:
    file = npz(tmp_path, images=np.zeros((8, 32, 32, 3)), labels=np.arange(8) % 2)
    whole = file.read_bytes()
    for content in (b"", b"no archive", whole[:1000], whole[: len(whole) // 2]):
        file.write_bytes(content)
        refused("images", file, "images.npz: cannot be read .*write it by numpy.savez")
    with file.open("wb") as opened:
        np.save(opened, np.zeros(3))
    refused("images", file, "images.npz: holds a single array")

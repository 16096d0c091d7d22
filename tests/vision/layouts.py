"""Write small files in the layouts of the data sets that are read from disk."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from orric.vision.corruptions import corrupt

CLASSES = ("cat", "dog", "ship")
# Per training batch and of the test batch; every part of either data set then holds every class.
PER_BATCH, TESTED = 10, 12


def records(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw images of shape (count, 32, 32, 3) and labels that go round the classes."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), np.arange(count) % len(CLASSES)


def batches() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the images and labels of each published file, by its name without ending."""
    training = {f"data_batch_{number}": records(PER_BATCH, number) for number in range(1, 6)}
    return training | {"test_batch": records(TESTED, 6)}


def planes(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def write_binary(folder: Path) -> Path:
    """Write cifar-10-batches-bin into a folder."""
    inner = folder / "cifar-10-batches-bin"
    inner.mkdir()
    for name, (images, labels) in batches().items():
        np.column_stack([labels.astype(np.uint8), planes(images)]).tofile(inner / f"{name}.bin")
    (inner / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
    return inner


def write_pickled(folder: Path, protocol: int = 2, as_bytes: bool = True) -> Path:
    """Write cifar-10-batches-py into a folder, with keys of bytes or of text."""
    inner = folder / "cifar-10-batches-py"
    inner.mkdir()

    def dumped(name: str, content: dict) -> None:
        keyed = {key.encode(): value for key, value in content.items()} if as_bytes else content
        (inner / name).write_bytes(pickle.dumps(keyed, protocol=protocol))

    for name, (images, labels) in batches().items():
        dumped(name, {"batch_label": b"batch", "labels": labels.tolist(), "data": planes(images), "filenames": [b"a"]})
    dumped("batches.meta", {"num_cases_per_batch": PER_BATCH, "label_names": [name.encode() for name in CLASSES]})
    return inner


def write_corrupted(folder: Path, corruptions: tuple[str, ...] = ("gaussian_noise", "fog")) -> Path:
    """Write CIFAR-10-C into a folder, made by the project's own corruptions, with the clean images beside it."""
    write_binary(folder)
    inner = folder / "CIFAR-10-C"
    inner.mkdir()
    images, labels = batches()["test_batch"]
    np.save(inner / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    for corruption in corruptions:
        levels = [corrupt(images, corruption, severity, np.random.default_rng(severity)) for severity in range(1, 6)]
        np.save(inner / f"{corruption}.npy", np.concatenate(levels))
    return inner


def write_class_folders(folder: Path, count: int = 8) -> Path:
    """Write pictures of several sizes and kinds into one folder for each class, all inside the folder `images`."""
    from PIL import Image

    rng = np.random.default_rng(1)
    inner = folder / "images"
    for label, name in enumerate(CLASSES):
        (inner / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (40 + 10 * label, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(inner / name / f"{number}.png")
        (inner / name / ".hidden").write_text("of the system")
    (inner / "readme.txt").write_text("beside the classes")
    return inner

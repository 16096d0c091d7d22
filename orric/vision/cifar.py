"""Read CIFAR-10 and CIFAR-10-C from the files that they are published in.

CIFAR-10 (Krizhevsky, 2009) comes as cifar-10-batches-bin, records of a label byte and 3072 pixel bytes (R, G, B planes,
row by row), or as cifar-10-batches-py, pickled dictionaries of the same bytes. CIFAR-10-C (Hendrycks and Dietterich,
ICLR 2019) comes as one array for each corruption: the test images at severity 1, then all of them at severity 2, and so
on. Files may hold fewer images than the published ones.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orric.drift import SEVERITIES
from orric.exceptions import ScenarioError
from orric.vision.arrays import Labels, Pixels

SIZE_PX = 32
PIXEL_BYTES = 3 * SIZE_PX * SIZE_PX
TRAINING_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILE = "test_batch"
AGAIN = "copy or download it again"


@dataclass(frozen=True)
class Cifar10:
    """The clean images.

    Attributes:
        images: Training images, then test images, shape (n, 32, 32, 3), 0 to 255.
        labels: Shape (n,).
        classes: Names of the classes.
        training: Number of training images.
    """

    images: Pixels
    labels: Labels
    classes: tuple[str, ...]
    training: int


Batch = tuple[Pixels, Labels]


@dataclass(frozen=True)
class _Layout:
    """How the published files are called and read."""

    folder: str
    ending: str
    meta: str
    read_batch: Callable[[Path], Batch]
    read_classes: Callable[[Path], tuple[str, ...]]

    @property
    def batches(self) -> list[str]:
        return [name + self.ending for name in (*TRAINING_FILES, TEST_FILE)]


def read_cifar10(place: Path) -> Cifar10:
    """Read CIFAR-10 in either layout.

    Args:
        place: The layout's own folder or one that holds it.

    Raises:
        ScenarioError: There is none, a file is missing, of a wrong size or no such file at all, or a label is none.
    """
    located = _located(place)
    if located is not None:
        return _read(*located)
    found = f"there is neither {LAYOUTS[0].batches[0]} nor {LAYOUTS[1].batches[0]}"
    raise ScenarioError(
        f"CIFAR-10 in {place}", found, f"give the folder {LAYOUTS[0].folder} or {LAYOUTS[1].folder}, or its parent"
    )


def _located(*places: Path) -> tuple[Path, _Layout] | None:
    for place in places:
        for layout in LAYOUTS:
            for folder in (place, place / layout.folder):
                if any((folder / name).is_file() for name in layout.batches):
                    return folder, layout
    return None


def _read(folder: Path, layout: _Layout) -> Cifar10:
    for name in [*layout.batches, layout.meta]:
        if not (folder / name).is_file():
            raise ScenarioError(f"CIFAR-10 in {folder}", f"the file {name} is missing", AGAIN)
    classes = layout.read_classes(folder / layout.meta)
    batches = []
    for name in layout.batches:
        images, labels = layout.read_batch(folder / name)
        outside = np.flatnonzero((labels < 0) | (labels >= len(classes)))
        if outside.size:
            found = f"image {outside[0] + 1} has the label {labels[outside[0]]}"
            raise ScenarioError(f"{folder / name}", found, f"labels are from 0 to {len(classes) - 1}")
        batches.append((images, labels))
    return Cifar10(
        images=np.concatenate([images for images, _ in batches]),
        labels=np.concatenate([labels for _, labels in batches]),
        classes=classes,
        training=sum(len(labels) for _, labels in batches[:-1]),
    )


def _as_images(planes: np.ndarray[Any, np.dtype[np.uint8]]) -> Pixels:
    """Turn rows of R, G and B planes, shape (n, 3072), into images of shape (n, 32, 32, 3)."""
    return np.ascontiguousarray(planes.reshape(-1, 3, SIZE_PX, SIZE_PX).transpose(0, 2, 3, 1))


def _read_binary_batch(file: Path) -> Batch:
    content = np.fromfile(file, np.uint8)
    record = 1 + PIXEL_BYTES
    if not content.size or content.size % record:
        found = f"{content.size} bytes are no whole number of records of {record} bytes"
        raise ScenarioError(f"{file}", found, AGAIN)
    records = content.reshape(-1, record)
    return _as_images(records[:, 1:]), records[:, 0].astype(np.int64)


def _read_binary_classes(file: Path) -> tuple[str, ...]:
    return tuple(
        name.strip() for name in file.read_text(encoding="utf-8", errors="replace").splitlines() if name.strip()
    )


class _Unpickler(pickle.Unpickler):
    """Build arrays, and nothing else, so that a file cannot run code of its own."""

    def find_class(self, module: str, name: str) -> Any:
        empty = np.empty(0, np.uint8)
        known: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            # Asked of an array, because their modules have been renamed and are not for others to import.
            ("multiarray", "_reconstruct"): empty.__reduce__()[0],
            ("numeric", "_frombuffer"): empty.__reduce_ex__(5)[0],
            ("_codecs", "encode"): _encoded,
        }
        package = module.removeprefix("numpy._core.").removeprefix("numpy.core.")
        if (package, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return known[package, name]


def _encoded(text: str, encoding: str) -> bytes:
    """Turn text back into the bytes that the oldest pickles write as text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes are not written as {encoding}")
    return text.encode("latin1")


def _read_pickle(file: Path) -> dict[str, Any]:
    """Read a pickled dictionary, whichever Python wrote it.

    Raises:
        ScenarioError: It is none, or holds more than arrays, bytes, text, numbers, lists and dictionaries.
    """
    with file.open("rb") as opened:
        try:
            content = _Unpickler(opened, encoding="bytes").load()
        # What a broken pickle raises depends on where it is broken.
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ScenarioError(f"{file}", f"is no pickle of plain arrays ({reason})", AGAIN) from None
    if not isinstance(content, dict):
        raise ScenarioError(f"{file}", "holds no dictionary", AGAIN)
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def _read_pickled_batch(file: Path) -> Batch:
    content = _read_pickle(file)
    for key in ("data", "labels"):
        if key not in content:
            raise ScenarioError(f"{file}", f"has no key {key!r}", AGAIN)
    data, labels = content["data"], content["labels"]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXEL_BYTES:
        found = f"data is {_described(data)}"
        raise ScenarioError(f"{file}", found, f"images are uint8 of shape (n, {PIXEL_BYTES})")
    if not isinstance(labels, list | np.ndarray) or len(labels) != len(data) or not len(data):
        count = len(labels) if isinstance(labels, list | np.ndarray) else "no"
        raise ScenarioError(f"{file}", f"{count} labels for {len(data)} images", AGAIN)
    kinds = {type(label) for label in labels}
    if not all(issubclass(kind, int | np.integer) for kind in kinds):
        raise ScenarioError(f"{file}", "labels are not whole numbers", AGAIN)
    return _as_images(data), np.asarray(labels, dtype=np.int64)


def _read_pickled_classes(file: Path) -> tuple[str, ...]:
    names = _read_pickle(file).get("label_names")
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise ScenarioError(f"{file}", "has no list 'label_names'", AGAIN)
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"a {type(value).__name__}"


LAYOUTS = (
    _Layout("cifar-10-batches-bin", ".bin", "batches.meta.txt", _read_binary_batch, _read_binary_classes),
    _Layout("cifar-10-batches-py", "", "batches.meta", _read_pickled_batch, _read_pickled_classes),
)


def read_cifar10_c(place: Path) -> tuple[Cifar10, Mapping[str, Pixels]]:
    """Open CIFAR-10-C, and read the clean CIFAR-10 that lies beside or inside its folder.

    Args:
        place: The folder CIFAR-10-C or one that holds it.

    Returns:
        The clean images, and for each corruption its images, shape (5 x test images, 32, 32, 3), left on the disk until
        they are used.

    Raises:
        ScenarioError: A file is missing or unusable, or does not fit the clean images.
    """
    folder = next((one for one in (place, place / "CIFAR-10-C") if (one / "labels.npy").is_file()), None)
    if folder is None:
        found = "there is no labels.npy"
        raise ScenarioError(f"CIFAR-10-C in {place}", found, "give the folder CIFAR-10-C or its parent")
    located = _located(place, folder.parent, folder)
    if located is None:
        remedy = f"put {LAYOUTS[0].folder} or {LAYOUTS[1].folder} beside it"
        raise ScenarioError(f"CIFAR-10-C in {folder}", "the clean CIFAR-10 is not there", remedy)
    clean = _read(*located)
    tested = len(clean.labels) - clean.training
    rows = len(SEVERITIES) * tested
    labels = _opened(folder / "labels.npy")
    if labels.shape != (rows,):
        found = f"labels of shape {labels.shape}"
        raise ScenarioError(f"{folder / 'labels.npy'}", found, f"{tested} test images need the shape ({rows},)")
    differing = np.flatnonzero(labels != np.tile(clean.labels[clean.training :], len(SEVERITIES)))
    if differing.size:
        found = f"row {differing[0]} has the label {labels[differing[0]]}, and its clean test image has another"
        raise ScenarioError(f"{folder / 'labels.npy'}", found, "give the two data sets in their published order")
    published = {}
    for file in sorted(folder.glob("*.npy")):
        if file.name == "labels.npy":
            continue
        array = _opened(file)
        if array.dtype != np.uint8 or array.shape != (rows, SIZE_PX, SIZE_PX, 3):
            remedy = f"{tested} test images need uint8 of shape ({rows}, {SIZE_PX}, {SIZE_PX}, 3)"
            raise ScenarioError(f"{file}", _described(array), remedy)
        published[file.stem] = array
    if not published:
        raise ScenarioError(f"CIFAR-10-C in {folder}", "there is no corruption's .npy file", AGAIN)
    return clean, published


def _opened(file: Path) -> np.ndarray[Any, Any]:
    try:
        return np.asanyarray(np.load(file, mmap_mode="r"))
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ScenarioError(f"{file}", f"is no whole array file ({reason})", AGAIN) from None

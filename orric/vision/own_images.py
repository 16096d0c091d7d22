"""Read a user's own images: a folder of class folders, or a NumPy file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orric.exceptions import ScenarioError, extra
from orric.vision.arrays import Labels, Pixels

SIZE_PX = 32
KEYS = ("images", "labels")
# Pillow's modes of 8 bits a channel; it would cut off deeper ones at white.
MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


def read_own_images(place: Path) -> tuple[Pixels, Labels, tuple[str, ...]]:
    """Read images and bring them to 32x32 pixels in three channels.

    The middle square is cut out and resized by Pillow's anti-aliased bilinear filter; grey images are repeated in all
    channels.

    Args:
        place: A folder with one folder of image files for each class; or an .npz file with `images`, of shape
            (n, height, width, 3) or (n, height, width), whole numbers from 0 to 255 or floating-point ones from 0 to
            1, and `labels`, n whole numbers or names; or a folder that holds the one as `images` or the other as
            `images.npz`.

    Returns:
        Images of shape (n, 32, 32, 3), labels of shape (n,), and the names of the classes in their order.

    Raises:
        ScenarioError: There are none, or some are unusable.
    """
    with extra("models"):
        import PIL.Image  # noqa: F401
    for inner in (place / "images.npz", place / "images"):
        if inner.is_file() or (inner.is_dir() and _folders(inner)):
            place = inner
            break
    if place.is_file():
        images, labels, classes = _from_file(place)
    else:
        images, labels, classes = _from_folders(place)
    if len(classes) < 2:
        found = f"there is one class, {classes[0]!r}" if classes else "there is no class"
        raise ScenarioError(f"images in {place}", found, "give at least two")
    return images, labels, classes


def _folders(place: Path) -> list[Path]:
    return sorted(one for one in place.iterdir() if one.is_dir() and not one.name.startswith("."))


def _from_folders(place: Path) -> tuple[Pixels, Labels, tuple[str, ...]]:
    from PIL import Image, ImageOps

    folders = _folders(place)
    if not folders:
        raise ScenarioError(
            f"images in {place}", "there is no class folder", "give a folder for each class, or an .npz"
        )
    images, labels = [], []
    for label, folder in enumerate(folders):
        # Hidden files are the system's own, not the user's pictures.
        files = sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))
        if not files:
            raise ScenarioError(f"class folder {folder}", "holds no image", "add some, or remove the folder")
        for file in files:
            try:
                with Image.open(file) as opened:
                    if opened.mode not in MODES:
                        found = f"has pixels of the mode {opened.mode}"
                        raise ScenarioError(f"image {file}", found, "save it with 8 bits a channel")
                    images.append(_squared(ImageOps.exif_transpose(opened).convert("RGB")))
            except ScenarioError:
                raise
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                found = f"cannot be read ({reason})"
                raise ScenarioError(f"image {file}", found, "repair or remove it") from None
            labels.append(label)
    return np.stack(images), np.array(labels, np.int64), tuple(folder.name for folder in folders)


def _from_file(file: Path) -> tuple[Pixels, Labels, tuple[str, ...]]:
    from PIL import Image

    images, named = _arrays(file)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or not images.size:
        found = f"images of shape {images.shape}"
        raise ScenarioError(f"{file}", found, "give (n, height, width, 3) or (n, height, width)")
    if named.shape != images.shape[:1]:
        found = f"labels of shape {named.shape} for {len(images)} images"
        raise ScenarioError(f"{file}", found, f"give the shape ({len(images)},)")
    if images.dtype != np.uint8:
        images = _whole_levels(images, file)
    if images.shape[1:3] == (SIZE_PX, SIZE_PX):
        small = images
    else:
        small = np.stack([_squared(Image.fromarray(image)) for image in images])
    if small.ndim == 3:
        small = np.repeat(small[..., None], 3, axis=3)
    names, labels = np.unique(named, return_inverse=True)
    texts = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names.tolist()]
    return small, labels.astype(np.int64), tuple(texts)


def _arrays(file: Path) -> Sequence[np.ndarray[Any, Any]]:
    """Return the images and the labels of an .npz file, whatever their shape, with labels of a usable kind."""
    try:
        # Opened here, because NumPy leaves the file of a broken archive open.
        with file.open("rb") as raw:
            opened = np.load(raw)
            if not isinstance(opened, np.lib.npyio.NpzFile):
                raise ScenarioError(f"{file}", "holds a single array", "give an .npz with 'images' and 'labels'")
            for key in KEYS:
                if key not in opened:
                    found = f"has no {key!r} among {', '.join(opened) or 'nothing'}"
                    raise ScenarioError(f"{file}", found, "give 'images' and 'labels'")
            images, labels = opened["images"], opened["labels"]
    except ScenarioError:
        raise
    except (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ScenarioError(f"{file}", f"cannot be read ({reason})", "write it by numpy.savez") from None
    if labels.dtype.kind not in "iuUS":
        raise ScenarioError(f"{file}", f"labels of type {labels.dtype}", "give whole numbers or names")
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        found = f"label {labels.min()} of image {int(labels.argmin()) + 1}"
        raise ScenarioError(f"{file}", found, "give whole numbers from 0, or names")
    return images, labels


def _whole_levels(images: np.ndarray[Any, Any], file: Path) -> Pixels:
    if images.dtype.kind != "f":
        raise ScenarioError(f"{file}", f"images of type {images.dtype}", "give uint8, or floats from 0 to 1")
    unusable = ~((images >= 0) & (images <= 1))  # NaN compares to nothing
    if unusable.any():
        place = np.unravel_index(int(unusable.argmax()), images.shape)
        found = f"image {place[0] + 1} has the value {images[place]}"
        raise ScenarioError(f"{file}", found, "give floats from 0 to 1, or uint8")
    return (images * 255).round().astype(np.uint8)


def _squared(image: Any) -> Pixels:
    """Cut out the middle square of a Pillow image and resize it."""
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.crop(box).resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR))

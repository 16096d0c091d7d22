"""The anchor set: trusted images with labels, which nobody who uploads can change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orric.durable import write_whole
from orric.exceptions import EdgeError, OrricError
from orric.vision.arrays import Labels
from orric.vision.datasets import Dataset, Pixels
from orric.vision.own_images import read_own_images

# Images of each class that calibration takes, and that an anchor set has at least.
EACH, FEWEST = 20, 4


@dataclass(frozen=True)
class Anchors:
    """Trusted images.

    Half of them are there to be trained on again, the others to compare students on: whoever is trained on an image
    says nothing by knowing it.

    Attributes:
        images: Shape (n, height, width, 3).
        labels: Shape (n,).
    """

    images: Pixels
    labels: Labels

    @classmethod
    def load(cls, place: Path, classes: int) -> Anchors:
        """Read an anchor set.

        Args:
            place: A folder with a folder of images for each class, or an .npz file; see `read_own_images`.
            classes: Which the student tells apart, all of which it must hold.

        Raises:
            EdgeError: It is missing or unusable, or is of other classes.
        """
        if not place.exists():
            raise EdgeError(f"anchor set {place}", "does not exist", "give another path, or leave evidence.anchors out")
        try:
            images, labels, names = read_own_images(place)
        except OrricError as error:
            raise EdgeError(f"anchor set: {error.args[0]}", *error.args[1:]) from None
        if len(names) != classes:
            found = f"has {len(names)} classes and the student {classes}"
            raise EdgeError(f"anchor set {place}", found, "give images of every class")
        counts = np.bincount(labels, minlength=classes)
        if counts.min() < FEWEST:
            found = f"has {counts.min()} images of the class {names[int(counts.argmin())]!r}"
            raise EdgeError(f"anchor set {place}", found, f"give {FEWEST} of each at least; {EACH} are better")
        return cls(images, labels)

    @classmethod
    def drawn(cls, dataset: Dataset, each: int = EACH, seed: int = 0) -> Anchors:
        """Draw an anchor set from the images that the models were trained on: none of them comes in a stream.

        Args:
            dataset: Drawn from.
            each: Images of each class at most.
            seed: Draws.
        """
        rng = np.random.default_rng(seed)
        of_class = [dataset.pretraining[dataset.labels[dataset.pretraining] == k] for k in range(len(dataset.classes))]
        chosen = np.concatenate([np.sort(rng.permutation(members)[:each]) for members in of_class])
        # Shifted as those of a stream are.
        return cls(*dataset.corrupted(chosen, rng, "none", 0))

    def save(self, path: Path) -> None:
        """Write it as an .npz file, which appears whole or not at all.

        Raises:
            EdgeError: It cannot be written.
        """
        import io

        # Grey images, whose channels are the same, need one of them.
        grey = bool((self.images == self.images[..., :1]).all())
        content = io.BytesIO()
        np.savez_compressed(content, images=self.images[..., 0] if grey else self.images, labels=self.labels)
        try:
            write_whole(path, content.getvalue())
        except OSError as error:
            raise EdgeError(f"anchor set {path}", f"cannot be written ({error.strerror})", "choose another") from None

    def halves(self) -> tuple[Anchors, Anchors]:
        """Return those to train on again and those to compare on, each with half of every class."""
        order = np.argsort(self.labels, kind="stable")
        return Anchors(self.images[order[::2]], self.labels[order[::2]]), Anchors(
            self.images[order[1::2]], self.labels[order[1::2]]
        )

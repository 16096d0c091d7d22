"""The accuracy protocol by the real thing: every sample is classified, every retraining is real."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from orric.configuration import undominated
from orric.drift import Array, DriftBySlot
from orric.exceptions import ScenarioError
from orric.profile import Profile
from orric.randomness import generator
from orric.retraining.fallback import LOOKED_AT
from orric.retraining.loop import FULL_PX, Staged, Student, Update
from orric.retraining.sampling import sampled
from orric.selection.sampling import Sampling
from orric.vision.arrays import Labels
from orric.vision.datasets import Dataset, Pixels


def drifted(
    dataset: Dataset,
    seed: int,
    slot: int,
    count: int,
    corruption: str,
    severity: int,
    label_mix: Array | None = None,
    stream: int = 0,
    part: str = "streamed",
    before: int = 0,
) -> tuple[Pixels, Labels]:
    """Return the samples that arrive in a slot: the same for every allocator of a seed.

    Args:
        dataset: Drawn from.
        seed: Seed of the run.
        slot: Index from 1.
        count: Number of samples.
        corruption: Name of the corruption.
        severity: 0 to 5.
        label_mix: Part of each class, shape (classes,); left out, as in the data set.
        stream: Number of the stream, from 0.
        part: Part of the data set.
        before: How many of the slot's samples were drawn already, where they come in several parts.

    Returns:
        Images of shape (count, 32, 32, 3) and their true labels, shape (count,).
    """
    rng = generator(seed, "images", stream, slot, *([before] if before else []))
    return dataset.draw(count, rng, part, label_mix, corruption, severity)


# Of requests, or what is said of each of them.
Numbers = np.ndarray[Any, Any]
# From a student's network, images and the teacher's labels to how alike the two look at them.
Watch = Callable[[nn.Module, Pixels, Labels], float | None]


@dataclass(eq=False)
class Part:
    """Samples that arrived together.

    Attributes:
        first: The number that the first of them has among those of the stream, from 0.
        images: Shape (n, height, width, 3).
        labels: True labels, shape (n,).
        taught: The teacher's, where others are shown the same.
        there: How many of their requests have not come to an end.
        looked: From when on the given student may serve them in place of the newest, counted from the first of them:
            it is told by as many that have come.
        before: Whether it serves those that come before.
        given: Whether it serves the others, by resolution and version; filled in when that is first asked.
    """

    first: int
    images: Pixels
    labels: Labels
    taught: Labels | None
    there: int
    looked: int = 0
    before: bool = False
    given: dict[tuple[int, int], bool] = field(default_factory=dict)

    def places(self, numbers: Numbers) -> Numbers:
        """Say which of the numbers are of this part, shape (n,)."""
        return (numbers >= self.first) & (numbers < self.first + len(self.labels))


class Shown:
    """What streams have shown so far, with the teachers' labels: for simulations of one process that see the same.

    It spares corrupting and labelling the same images again for every allocator, and holds all of them in memory.
    """

    def __init__(self) -> None:
        self._samples: dict[Hashable, tuple[Pixels, Labels]] = {}
        self._taught: dict[Hashable, Labels] = {}

    def samples(self, key: Hashable, make: Callable[[], tuple[Pixels, Labels]]) -> tuple[Pixels, Labels]:
        """Return the samples of a slot and their true labels; they are made when first asked for."""
        if key not in self._samples:
            self._samples[key] = make()
        return self._samples[key]

    def taught(self, key: Hashable, label: Callable[[], Labels]) -> Labels:
        """Return a teacher's labels of all samples of a slot; they are given when first asked for."""
        if key not in self._taught:
            self._taught[key] = label()
        return self._taught[key]


class OnnxAccuracy:
    """Real images, ONNX Runtime, real retraining. Implements `orric.accuracy.SampledAccuracy`.

    Args:
        profile: With [models].
        drift: What the images of each slot look like, and of which classes they are.
        seed: Seed of the run.
        update: See `Student`.
        stream: Number of the stream, from 0.
        shown: What was shown before by other simulations of the same streams; left out, nothing was.
        uploads: Whether all samples of a slot are there when it begins; else those by which it is told whether the
            given student is to serve are served before that is known.
        watch: Compares where student and teacher look: called with the student's network before it is trained,
            labelled images and the teacher's labels. Left out, nobody watches.

    Attributes:
        labels: How many samples the last retraining labelled.

    Raises:
        ScenarioError: The drift shifts the labels of another number of classes than the data set has.
    """

    name = "onnx"

    def __init__(
        self,
        profile: Profile,
        drift: DriftBySlot,
        seed: int,
        update: Update = "weights",
        stream: int = 0,
        shown: Shown | None = None,
        watch: Watch | None = None,
        uploads: bool = True,
    ) -> None:
        assert profile.models is not None, "the scenario or the calibration checks this"
        self.student = Student(profile, update)
        self._profile, self._watch = profile, watch
        self._attention: float | None = None
        self.labels = 0
        self._models = profile.models
        self._drift, self._seed, self._stream, self._shown = drift, seed, stream, shown
        self._teacher = str(profile.beside(profile.models.teacher))
        classes = len(self.student.dataset.classes)
        if drift.label_mix is not None and drift.label_mix.shape[1] != classes:
            raise ScenarioError(
                "stream.drift.labels",
                f"a mix has {drift.label_mix.shape[1]} weights and {profile.models.dataset!r} has {classes} classes",
                f"give {classes} weights in each mix",
            )
        self._parts: list[Part] = []
        self._looked = 0 if uploads else LOOKED_AT
        # Every configuration serves with statistics of its own resolution; the full one is what training is seen at.
        configurations = undominated(profile.inference)
        of_use = {profile.models.resolution_px[one.name] for one in configurations} - {FULL_PX}
        self._resolutions_px = (FULL_PX, *sorted(of_use, reverse=True))
        self._best_px = profile.models.resolution_px[configurations[-1].name]
        self._fallen_back = False
        self._arrived = 0
        # Weights of every retraining that is done and does not serve yet.
        self._waiting: deque[Staged | None] = deque()
        self._collected: dict[int, tuple[Pixels, Labels | None]] = {}
        self._kept: tuple[Pixels, Labels | None] | None = None

    def arrive(self, slot: int, count: int) -> None:
        drift, dataset = self._drift, self.student.dataset
        mix = None if drift.label_mix is None else drift.label_mix[slot - 1]
        corruption, severity = drift.corruptions[slot - 1], int(drift.severities[slot - 1])
        taught = None
        earlier = len(self._collected[slot][0]) if slot in self._collected else 0

        def make() -> tuple[Pixels, Labels]:
            return drifted(
                dataset, self._seed, slot, count, corruption, severity, mix, self._stream, before=earlier
            )  # fmt: skip

        if self._shown is None:
            images, labels = make()
        else:
            key = (dataset.name, self._seed, slot, count, earlier, corruption, severity, mix is not None, self._stream)
            images, labels = self._shown.samples(key, make)
            taught = self._shown.taught((self._teacher, *key), lambda: self.student.label(images))
        if count:
            self._parts.append(Part(self._arrived, images, labels, taught, count, self._looked, self._fallen_back))
        self._arrived += count
        # Retraining reaches back to the slot before and no further.
        self._collected = {kept: self._collected[kept] for kept in self._collected if kept >= slot - 1}
        if slot in self._collected:
            before, told = self._collected[slot]
            images = np.concatenate([before, images])
            taught = None if told is None or taught is None else np.concatenate([told, taught])
        self._collected[slot] = images, taught

    def right(self, inference: str, numbers: Numbers) -> Numbers:
        right = np.zeros(len(numbers), bool)
        for part in self._parts:
            mine = part.places(numbers)
            if mine.any():
                at = numbers[mine] - part.first
                taught = None if part.taught is None else part.taught[at]
                given = self._given(part, inference, at)
                found = np.empty(len(at), np.int64)
                for which in {True, False} & set(given.tolist()):
                    told = None if taught is None else taught[given == which]
                    found[given == which] = self._classify(part.images[at[given == which]], inference, told, which)
                right[mine] = found == part.labels[at]
        return right

    def _given(self, part: Part, inference: str, at: Numbers) -> Numbers:
        """Say which images of a part the given student serves, shape (n,)."""
        key = self._models.resolution_px[inference], self.student.swaps
        if key not in part.given:
            part.given[key] = self._fallen_back = self.student.falls_back(part.images, key[0])
        return np.where(at < part.looked, part.before, part.given[key])

    def forget(self, numbers: Numbers) -> None:
        for part in self._parts:
            part.there -= int(part.places(numbers).sum())
        self._parts = [part for part in self._parts if part.there]

    def _classify(self, images: Pixels, inference: str, taught: Labels | None, given: bool = False) -> Labels:
        return self.student.classify(images, self._models.resolution_px[inference], given)

    def collect(self, slot: int) -> None:
        self._kept = self._collected[slot]

    def discard(self) -> None:
        self._kept = None

    def retrain(self, collected: int, retraining: str, extent: float) -> float | None:
        # Whoever trains at once need not have had the samples kept.
        (images, taught), self._kept = self._collected[collected] if self._kept is None else self._kept, None
        # Where nothing is trained on there are none.
        self._waiting.append(None)
        rng = generator(self._seed, "retraining", self._stream, collected)
        found = sampled(self.student, images, Sampling.of(self._profile, retraining), rng, taught)
        self._attention, self.labels = None, len(found.taught) if len(found.chosen) else 0
        if not len(found.chosen):
            return None
        if self._watch is not None:
            self._attention = self._watch(self.student.network, images[found.labelled], found.taught)
        agreement = self.student.agreement(images[found.labelled], found.taught, self._best_px)
        self.student.compare(images[found.labelled], found.taught)
        self.student.retrain(images[found.chosen], rng, found.labels, images, self._resolutions_px)
        self._waiting[-1] = self.student.unstaged()
        return agreement

    def attention(self) -> float | None:
        return self._attention

    def swap(self) -> None:
        staged = self._waiting.popleft()
        if staged is not None:
            self.student.stage(staged)
            self.student.swap()

    def refuse(self) -> None:
        self._waiting.popleft()


class TeacherAccuracy(OnnxAccuracy):
    """The teacher itself serves, on the same samples: the reference line Teacher-Only."""

    def _given(self, part: Part, inference: str, at: Numbers) -> Numbers:
        return np.zeros(len(at), bool)

    def _classify(self, images: Pixels, inference: str, taught: Labels | None, given: bool = False) -> Labels:
        return self.student.label(images) if taught is None else taught

"""Where a simulated student's accuracy comes from: one protocol, three models.

`CurveAccuracy` reads the profile's learning curve, `TableAccuracy` its accuracy table. The real loop
(`orric.retraining.accuracy`) implements the same protocol with ONNX Runtime and real retraining; whoever starts a
simulation hands one of them in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from orric.by_drift import TableEntry, drift_of
from orric.configuration import undominated
from orric.exceptions import ProfileError
from orric.learning import LearningCurve
from orric.profile import Profile
from orric.randomness import generator
from orric.transfer import PRIOR_SAMPLES, RetrainedOn, distance

Array = np.ndarray[Any, Any]


class _Model(Protocol):
    """What the simulator asks of the student of one stream, in the order of time.

    Attributes:
        name: Of the model.
        labels: How many samples the last retraining labelled.
    """

    name: str
    labels: int

    def arrive(self, slot: int, count: int) -> None:
        """Take in samples that arrive in a slot (from 1), in order; a slot's may come in several parts."""
        ...

    def retrain(self, collected: int, retraining: str, extent: float) -> float | None:
        """Label samples that arrived in the slot `collected` and train on them; the weights wait for `swap`.

        Args:
            collected: The slot, from 1.
            retraining: Name of the retraining configuration.
            extent: The student's learning extent before this training.

        Returns:
            The part of the labelled samples on which the student, before training, agreed with the teacher;
            None where no sample was labelled.
        """
        ...

    def collect(self, slot: int) -> None:
        """Keep the samples that arrived in a slot until the retraining on them, which begins now, is over."""
        ...

    def attention(self) -> float | None:
        """Return how alike the places were that student and teacher looked at on the samples labelled last.

        Returns:
            Within 0 and 1, before the training on them; None where nobody watches, or nothing was labelled.
        """
        ...

    def discard(self) -> None:
        """Forget the retraining that has begun: it was lost."""
        ...

    def swap(self) -> None:
        """Let retrained weights serve from now on: the oldest that wait to."""
        ...

    def refuse(self) -> None:
        """Throw the oldest retrained weights away that wait to serve."""
        ...


class ExpectedAccuracy(_Model, Protocol):
    """One that knows how likely answers are to be right."""

    def serve(self, slot: int, extent: float, inference: str, count: int) -> float:
        """Return how many of so many answers of a slot are expected to be right."""
        ...


@runtime_checkable
class SampledAccuracy(_Model, Protocol):
    """One that has the samples: each request is the sample that arrived as the how many-th of its stream, from 0."""

    def right(self, inference: str, numbers: Array) -> Array:
        """Classify samples with an inference configuration and the weights that serve now.

        Args:
            inference: Name of the configuration.
            numbers: Which samples, shape (n,).

        Returns:
            Whether each is classified rightly, shape (n,).
        """
        ...

    def forget(self, numbers: Array) -> None:
        """Let go of samples whose requests came to an end, answered or not, shape (n,)."""
        ...


AccuracyModel = ExpectedAccuracy | SampledAccuracy


class _Unsampled(ABC):
    """A model without samples and weights of its own.

    What a real server would measure of its student is drawn: of the labelled samples, each agrees with the teacher
    with the probability that both are right, taken as independent, and that part more which the profile has measured
    (`DriftCurve.excess_agreement`): both find the same images easy, and are wrong in the same way.

    Args:
        profile: Says how many samples are labelled, and how often the teacher is right.
        corruptions: Corruption of each slot.
        severities: Severity of each slot.
        seed: Seed of the run; left out, an agreement is the probability itself.
        stream: Number of the stream, from 0.
        label_mix: Part of each class in each slot, shape (T, classes); left out, as in the data set.

    Attributes:
        labels: How many samples the last retraining labelled.
    """

    def __init__(
        self,
        profile: Profile,
        corruptions: Sequence[str | None],
        severities: Sequence[int | None],
        seed: int | None = None,
        stream: int = 0,
        label_mix: Array | None = None,
    ) -> None:
        self.labels = 0
        self._told, self._seed, self._stream = profile, seed, stream
        self._drift = list(zip(corruptions, severities, strict=True))
        self._curves: list[LearningCurve] = profile.curves_for(corruptions, severities)
        self._label_mix, self._most = label_mix, profile.most_profit
        self._profits = {one.name: one.profit for one in profile.inference}
        self._best = undominated(profile.inference)[-1].name
        self._counts: dict[int, int] = {}
        self._kept: int | None = None

    def arrive(self, slot: int, count: int) -> None:
        """Nothing is kept of the samples but their number, as far back as retraining reaches."""
        self._counts = {kept: self._counts[kept] for kept in self._counts if kept >= slot - 1}
        self._counts[slot] = self._counts.get(slot, 0) + count

    def collect(self, slot: int) -> None:
        """Remember how many samples there are, as real models keep them, until the retraining is over."""
        self._kept = self._counts[slot]

    @abstractmethod
    def serve(self, slot: int, extent: float, inference: str, count: int) -> float:
        """Return the expected number of right ones."""

    def retrain(self, collected: int, retraining: str, extent: float) -> float | None:
        # Whoever trains at once need not have had the samples kept.
        count, self._kept = self._counts[collected] if self._kept is None else self._kept, None
        self.labels = labelled = round(self._told.sampling_ratio(retraining) * count)
        if not labelled:
            return None
        right, drift = self.serve(collected, extent, self._best, 1), self._drift[collected - 1]
        before, after = self._told.excess_agreement(*drift)
        excess = before + (after - before) * self._progress(collected, extent)
        chance = min(max(right * self._told.teacher_accuracy(*drift) + excess, 0.0), 1.0)
        if self._seed is None:
            return chance
        drawn = generator(self._seed, "agreement", self._stream, collected).binomial(labelled, chance)
        return float(drawn / labelled)

    def _progress(self, slot: int, extent: float) -> float:
        """Return which part of what retraining can gain an extent has gained, by the curve of the slot's drift."""
        curve = self._curves[slot - 1]
        start = float(curve(0.0))
        rise = float(curve(self._most)) - start
        if rise > 0:
            return (float(curve(extent)) - start) / rise
        return min(extent / self._most, 1.0) if self._most else 0.0

    def attention(self) -> float | None:
        """There are no images to look at."""
        return None

    def discard(self) -> None:
        """Forget the samples."""
        self._kept = None

    def swap(self) -> None:  # noqa: B027 (nothing to do, and nothing to add)
        """There are no weights."""

    def refuse(self) -> None:  # noqa: B027 (as above)
        """There are no weights."""


class CurveAccuracy(_Unsampled):
    """f_t(x_t) A^I_j, as in the slot model.

    Args:
        profile: Profits and curves.
        corruptions: Corruption of each slot.
        severities: Severity of each slot.
        seed: Seed of the run, for agreements with the teacher; left out, they are as expected.
        stream: Number of the stream, from 0.
        label_mix: Part of each class in each slot, which curves know nothing of.
    """

    name = "curve"

    def serve(self, slot: int, extent: float, inference: str, count: int) -> float:
        return float(self._curves[slot - 1](extent)) * self._profits[inference] * count


class TableAccuracy(_Unsampled):
    """Accuracies measured for each drift and inference configuration, with the learning curve between them.

    With the frozen student's accuracy a, the fully retrained one's b, and the curve f of the drift:
    a + (b - a) p(x) with the progress p(x) = (f(x) - f(0)) / (f(A^T_max) - f(0)), or x / A^T_max where the curve is
    flat, as on clean images, and tells nothing of it. Where
    accuracies in between were measured, it goes straight from each to the next along p. Where b was not measured, the
    curve's own ratio a f(x) / f(0), at most 1.

    Where the profile has measured `transfer`, the student's batch-norm statistics are followed (`RetrainedOn`): the
    part r of them that is of retraining has the accuracy b(x), less what `Transfer.loss` tells of other drifts, few
    samples and few classes, the rest a. Statistics are there after any retraining, so b(x) is at least what the least
    extent measured gives; steps go by samples labelled, so that x counts in proportion to the slots' size.

    Args:
        profile: With a table.
        corruptions: Corruption of each slot.
        severities: Severity of each slot.
        seed: Seed of the run, for agreements with the teacher; left out, they are as expected.
        stream: Number of the stream, from 0.
        label_mix: Part of each class in each slot, shape (T, classes); left out, as in the data set.

    Raises:
        ProfileError: The table lacks a drift in a configuration that allocators may choose.
    """

    name = "table"

    def __init__(
        self,
        profile: Profile,
        corruptions: Sequence[str],
        severities: Sequence[int],
        seed: int | None = None,
        stream: int = 0,
        label_mix: Array | None = None,
    ) -> None:
        super().__init__(profile, corruptions, severities, seed, stream, label_mix)
        self._profile = profile.name
        self._drifts = [drift_of(*drift) for drift in zip(corruptions, severities, strict=True)]
        self._entries = {(entry.corruption, entry.severity, entry.inference): entry for entry in profile.table}
        # What the student in training, those that wait, and the one that serves were retrained on.
        self._trained = self._served = RetrainedOn()
        self._waiting: deque[RetrainedOn | None] = deque()
        self._arrived, self._slots = 0, set[int]()
        first = {drift: slot for slot, drift in reversed(list(enumerate(self._drifts, start=1)))}
        for slot in sorted(first.values()):
            for configuration in undominated(profile.inference):
                self._entry(slot, configuration.name)

    def arrive(self, slot: int, count: int) -> None:
        super().arrive(slot, count)
        self._arrived += count
        self._slots.add(slot)

    def retrain(self, collected: int, retraining: str, extent: float) -> float | None:
        count = self._counts[collected] if self._kept is None else self._kept
        agreement = super().retrain(collected, retraining, extent)
        self._waiting.append(None)
        transfer = self._told.transfer
        if self.labels and transfer is not None:
            received = self._told.training.statistics == "received"
            far = 0.0 if self._label_mix is None else distance(self._label_mix[collected - 1])
            used, prior = (count, PRIOR_SAMPLES) if received else (self.labels, 0)
            usual = transfer.samples_per_slot * used / count
            self._trained = self._trained.after(self._drifts[collected - 1], used, usual, far, prior)
            self._waiting[-1] = self._trained
        return agreement

    def swap(self) -> None:
        self._served = self._waiting.popleft() or self._served

    def refuse(self) -> None:
        self._waiting.popleft()

    def serve(self, slot: int, extent: float, inference: str, count: int) -> float:
        transfer, entry = self._told.transfer, self._entry(slot, inference)
        if transfer is None or entry.retrained is None:
            return self._retrained(slot, extent, entry) * count
        part = self._served.retrained
        gain = 0.0 if self._label_mix is None else transfer.gain(part, self._label_mix[slot - 1])
        if not part:
            return min(entry.accuracy + gain, 1.0) * count
        extent *= self._arrived / len(self._slots) / transfer.samples_per_slot
        least = entry.between[0][0] if entry.between else 0.0
        retrained = self._retrained(slot, min(max(extent, least), self._most), entry)
        found = (1 - part) * entry.accuracy + part * retrained + gain
        found -= transfer.loss(self._served, self._drifts[slot - 1], inference)
        return min(max(found, 0.0), 1.0) * count

    def _retrained(self, slot: int, extent: float, entry: TableEntry) -> float:
        """Return the accuracy of a student that was retrained under the drift that it meets."""
        if entry.retrained is None:
            curve = self._curves[slot - 1]
            return min(entry.accuracy * float(curve(extent)) / float(curve(0.0)), 1.0)
        progress = self._progress(slot, extent)
        if not entry.between:
            return entry.accuracy + (entry.retrained - entry.accuracy) * progress
        extents, accuracies = zip(*entry.between, strict=True)
        places = [0.0, *(self._progress(slot, one) for one in extents), 1.0]
        return float(np.interp(progress, places, [entry.accuracy, *accuracies, entry.retrained]))

    def _entry(self, slot: int, inference: str) -> TableEntry:
        corruption, severity = self._drifts[slot - 1]
        where = f"slot {slot}"
        entry = self._entries.get((corruption, severity, inference))
        if entry is None:
            raise ProfileError(
                where,
                f"profile {self._profile!r} has no [[table]] entry for {corruption!r} of severity {severity} and the "
                f"inference configuration {inference!r}",
                "measure it with orric calibrate --table-of, or choose another accuracy model",
            )
        if entry.retrained is None and not float(self._curves[slot - 1](0.0)) > 0:
            raise ProfileError(
                where,
                f"profile {self._profile!r} has a curve for {corruption!r} of severity {severity} that does not start "
                "above 0, so nothing can be in proportion to it",
                f"add retrained to the [[table]] entry of {inference!r}",
            )
        return entry

"""What a new student must show before it serves, and how many samples that takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

# Standard errors that a paired difference must exceed before it counts.
ERRORS = 2.0
# Samples that are wanted at most, whatever is to be found.
MOST_COMPARED = 100_000


def beyond_chance(lost: int, gained: int, count: int) -> float:
    """Return by which part of samples one student is worse than another, less two standard errors.

    Args:
        lost: Samples on which the other alone is right.
        gained: Samples on which this one alone is.
        count: All of them.
    """
    return (lost - gained - ERRORS * math.sqrt(lost + gained)) / count if count else 0.0


def fewest_compared(loss: float, power: float, margin: float = 0.0) -> int:
    """Return how many samples two students must be compared on, so that a loss is found.

    Where the worse one gains nothing, what it loses of n samples is binomial, and it is found as soon as it has lost
    more than the margin allows beyond chance: the number is exact.

    Args:
        loss: Part of the samples on which the worse one is wrong and the other right, above the margin, below 1.
        power: Probability that such a loss comes out as more than the margin and chance, 0.5 to below 1.
        margin: Part of the samples that may be lost.

    >>> fewest_compared(0.2, 0.9), fewest_compared(0.2, 0.9, 0.05)
    (38, 69)
    """
    counts = np.arange(1, MOST_COMPARED)
    # lost - 2 sqrt(lost) > margin n, solved for the root.
    most = (ERRORS / 2 + np.sqrt(ERRORS * ERRORS / 4 + margin * counts)) ** 2
    enough = np.asarray(binom.sf(np.floor(most + 1e-9), counts, loss)) >= power
    return int(counts[np.argmax(enough)]) if enough.any() else MOST_COMPARED


def fewest_trained(error: float) -> int:
    """Return how many samples a student must be trained on, so that its batch-norm statistics are known.

    The mean of a channel over n images has a standard error of at most 1 / sqrt(n) of the channel's own deviation.

    Args:
        error: That part, above 0 and at most 1.

    >>> fewest_trained(0.25)
    16
    """
    return math.ceil(1 / (error * error))


@dataclass(frozen=True)
class Comparison:
    """A new student beside another one on the same samples.

    Attributes:
        count: Samples.
        lost: Those on which the other alone is right.
        gained: Those on which the new one alone is.
    """

    count: int = 0
    lost: int = 0
    gained: int = 0

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(self.count + other.count, self.lost + other.lost, self.gained + other.gained)

    @property
    def worse_by(self) -> float:
        """By which part of the samples the new one is worse, beyond what may be chance."""
        return beyond_chance(self.lost, self.gained, self.count)


@dataclass(frozen=True)
class AnchorComparison:
    """A new student on the anchor set.

    Attributes:
        given: Beside the student that was given, which never learnt from a client.
        serving: Beside the one that serves.
        right: Anchors that the new one classifies rightly.
    """

    given: Comparison
    serving: Comparison
    right: int

    @property
    def accuracy(self) -> float:
        """The new one's accuracy on the anchors."""
        return self.right / self.given.count


def objection(
    held_out: Comparison, anchors: AnchorComparison | None, fewest: int, margin: float, anchor_loss: float
) -> str | None:
    """Say why a new student must not serve, None where nothing speaks against it.

    Anchors are clean while a stream may have drifted, so that a student may lose on them what it wins on the stream:
    up to `anchor_loss` of what the given student knew, and more only where the one that serves has lost it already.

    Args:
        held_out: Beside the student that serves, on uploads that were kept from training.
        anchors: On the anchor set, None where there is none.
        fewest: Held-out samples without which uploads alone prove nothing.
        margin: By which part of the held-out samples it may be worse, beyond chance.
        anchor_loss: By which part of the anchors it may be worse than the given student, beyond chance.
    """
    if anchors is None and held_out.count < fewest:
        return (
            f"it was compared on {held_out.count} samples and {fewest} are needed where there is no anchor set; "
            "give one, or lower evidence.power"
        )
    if held_out.worse_by > margin:
        return f"it agrees less with the teacher on held-out samples, by {held_out.worse_by:.1%} or more"
    if anchors is not None and anchors.given.worse_by > anchor_loss and anchors.serving.lost >= anchors.serving.gained:
        return f"it has lost {anchors.given.worse_by:.1%} or more of what the given student knew of the anchor set"
    return None


class Probation:
    """Students that serve and have not proved themselves yet, each beside the last one that has.

    They are known by numbers, which ascend: each was trained from the one before.
    """

    def __init__(self) -> None:
        # Since when, and beside the last one that proved itself.
        self._seen: dict[int, tuple[int, Comparison]] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._seen

    @property
    def oldest(self) -> int | None:
        """The oldest one that has not proved itself."""
        return min(self._seen, default=None)

    def begin(self, number: int, slot: int) -> None:
        """Take note of a student that serves from a slot on."""
        self._seen[number] = slot, Comparison()

    def keep(self, numbers: set[int]) -> None:
        """Forget all but some."""
        self._seen = {one: value for one, value in self._seen.items() if one in numbers}

    def add(self, number: int, found: Comparison, margin: float) -> float | None:
        """Count a comparison of one beside the last that proved itself.

        It counts for those before it, too, since it was trained from them.

        Args:
            number: One that is on probation.
            found: On samples that neither was trained on.
            margin: By which part of them it may be worse, beyond chance.

        Returns:
            By which part it is worse, where it is by more than the margin: it must not serve on. Else None.
        """
        self._seen = {
            one: (since, seen + found if one <= number else seen) for one, (since, seen) in self._seen.items()
        }
        worse_by = max(found.worse_by, self._seen[number][1].worse_by)
        return worse_by if worse_by > margin else None

    def proved(self, slot: int, slots: int, fewest: int) -> int | None:
        """Return the newest one that has proved itself, if any; it and those before it are on probation no more.

        To prove itself takes time and evidence: as many compared samples as find a loss with the wished power.

        Args:
            slot: That is over.
            slots: That it must have served at least.
            fewest: Samples that it must have been compared on.
        """
        of_age = [
            one for one, (since, seen) in self._seen.items() if seen.count >= fewest and since + slots <= slot
        ]  # fmt: skip
        if not of_age:
            return None
        best = max(of_age)
        self._seen = {one: value for one, value in self._seen.items() if one > best}
        return best

    def clear(self) -> None:
        """Forget all."""
        self._seen.clear()

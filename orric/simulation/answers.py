"""Which answers of a stream were right: by expectation, or request by request where real models are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from orric.accuracy import AccuracyModel, ExpectedAccuracy, SampledAccuracy
from orric.simulation.fates import IN_TIME, LATE
from orric.simulation.serving import Answers, Record, Served

if TYPE_CHECKING:
    from orric.simulation.stream import StreamState

Array = np.ndarray[Any, Any]
NONE_ENDED = np.empty((0, 3), np.int64)


class Marking(Protocol):
    """Counts right answers, and those of them that were in time, into the slot in which they are given."""

    def look_up(self, stream: StreamState, answers: Answers) -> None:
        """Take note of answers; the version that serves goes on."""
        ...

    def close(self, stream: StreamState, answers: Answers) -> None:
        """Take note of answers, and of what is in service; the version that serves ends, with its configuration."""
        ...

    def drop(self) -> None:
        """Forget what is in service: it is lost, or waits again."""
        ...


def marking(accuracy: AccuracyModel) -> Marking:
    """Return how answers are marked: as exactly as the accuracy model knows."""
    return ByRequest(accuracy) if isinstance(accuracy, SampledAccuracy) else ByExpectation(accuracy)


class ByExpectation:
    """Of a version's answers the same part is right of those in time as of all, for all that the model knows.

    Args:
        accuracy: Says what part that is.
    """

    def __init__(self, accuracy: ExpectedAccuracy) -> None:
        self._accuracy = accuracy
        # Right ones among those that a version has begun and that are still in service, and how many these are.
        self._credits: dict[int, tuple[float, int]] = {}
        # Answers of the present version that are not classified yet, and how many of them were in time.
        self._pending = 0, 0

    def look_up(self, stream: StreamState, answers: Answers) -> None:
        """Take note of answers; the version that serves goes on."""
        self._pending = self._with_pending(answers.pop(stream.version, (0, 0)))
        self._settle(stream.now, answers)

    def close(self, stream: StreamState, answers: Answers) -> None:
        """Take note of answers; what is still in service counts when it is done."""
        mine, timely = self._with_pending(answers.pop(stream.version, (0, 0)))
        self._pending = 0, 0
        still = stream.serving.in_service(stream.version)
        self._settle(stream.now, answers)
        if mine + still:
            correct = self._accuracy.serve(stream.slot, stream.extent, stream.inference.name, mine + still)
            if mine:
                self._count(stream.now, correct * mine / (mine + still) if still else correct, mine, timely)
            if still:
                self._credits[stream.version] = (correct * still / (mine + still), still)

    def drop(self) -> None:
        """Forget what is in service."""
        self._credits.clear()

    def _with_pending(self, more: tuple[int, int]) -> tuple[int, int]:
        return self._pending[0] + more[0], self._pending[1] + more[1]

    def _settle(self, now: Served, answers: Answers) -> None:
        """Count what earlier versions had begun, which was classified then."""
        for version, (count, in_time) in answers.items():
            correct, there = self._credits.pop(version)
            self._count(now, correct * count / there, count, in_time)
            if there > count:
                self._credits[version] = (correct * (there - count) / there, there - count)

    def _count(self, now: Served, correct: float, answered: int, in_time: int) -> None:
        now.correct += correct
        now.correct_in_time += correct * in_time / answered if in_time < answered else correct


class ByRequest:
    """Every request has its sample, and the version that begins its service says whether the answer is right.

    Args:
        accuracy: Classifies the samples.
    """

    def __init__(self, accuracy: SampledAccuracy) -> None:
        self._accuracy = accuracy
        # Number, version and fate of those that came to their end since this was last asked.
        self._ended: list[Array] = []
        # Whether it will be right, of what is in service and was begun under a version that is no more.
        self._known: dict[int, bool] = {}

    def note(self, numbers: Array) -> None:
        """Take in what became of some requests: number, version and fate, shape (n, 3)."""
        self._ended.append(numbers)

    def look_up(self, stream: StreamState, answers: Answers) -> None:
        """Take note of answers; the version that serves goes on."""
        numbers, _, fates = np.concatenate([NONE_ENDED, *self._ended]).T
        self._ended = []
        answered = (fates == IN_TIME) | (fates == LATE)
        right = self._right(numbers[answered], stream.inference.name)
        stream.now.correct += int(right.sum())
        stream.now.correct_in_time += int(right[fates[answered] == IN_TIME].sum())
        self._accuracy.forget(numbers)

    def close(self, stream: StreamState, answers: Answers) -> None:
        """Take note of answers, and classify what is still in service by the version that began it."""
        self.look_up(stream, answers)
        there, _ = stream.serving.left_waiting()
        numbers = there[there[:, 1] == stream.version, 0]
        right = self._accuracy.right(stream.inference.name, numbers)
        self._known.update(zip(numbers.tolist(), right.tolist(), strict=True))

    def drop(self) -> None:
        """Forget what is in service."""
        self._known.clear()

    def _right(self, numbers: Array, inference: str) -> Array:
        """Say of answered requests whether they were right."""
        known = [self._known.pop(number, None) for number in numbers.tolist()]
        asked = np.array([one is None for one in known], bool)
        right = np.array([bool(one) for one in known], bool)
        right[asked] = self._accuracy.right(inference, numbers[asked])
        return right


def recorder(streams: Sequence[StreamState], record: Record | None) -> Record | None:
    """Return what takes down every request's end: for whoever wants to know, and for what is marked by request."""
    notes: dict[int, Callable[[Array], None]] = {
        stream.index: stream.marking.note for stream in streams if isinstance(stream.marking, ByRequest)
    }
    if not notes:
        return record

    def both(k: int, numbers: Array, times_s: Array) -> None:
        if k in notes:
            notes[k](numbers)
        if record is not None:
            record(k, numbers, times_s)

    return both

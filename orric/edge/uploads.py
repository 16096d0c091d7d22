"""What clients sent in a slot: counts, a fair sample of the images, and the answers that labels may come for."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orric.edge.config import Samples
from orric.edge.samples import Drawn, SlotSamples
from orric.edge.sender import Sender
from orric.edge.sources import source_of
from orric.vision.arrays import Labels
from orric.vision.datasets import Pixels

# Answers that labels may come for, and latencies of a slot, at most.
MOST_ANSWERS = 20_000
MOST_LATENCIES = 200_000


@dataclass(frozen=True)
class Counts:
    """What happened in a slot.

    Attributes:
        arrived: Images that came.
        served: Images that were answered.
        late: Those of them answered after the deadline.
        shed: Images turned away.
        p50_s: Median latency of the requests in seconds, None without any.
        p99_s: Their 99th percentile.
        labelled: Answers that a true label came for.
        right: Those of them that were right.
    """

    arrived: int
    served: int
    late: int
    shed: int
    p50_s: float | None
    p99_s: float | None
    labelled: int
    right: int

    @property
    def in_time(self) -> float | None:
        """Part of the images that came which was answered by the deadline; None where none came."""
        # Of those that came last in the slot before, some are answered in this one.
        return min((self.served - self.late) / self.arrived, 1.0) if self.arrived else None


@dataclass(frozen=True)
class Answer:
    """What a request was answered with.

    Attributes:
        came_s: When.
        classes: Shape (n,); None where requests of several sources had the same identity.
        source: Who asked.
        number: Of the request.
    """

    came_s: float
    classes: Labels | None
    source: str
    number: int


class Uploads:
    """The present slot's requests, and the images of the slot before.

    Images are in memory alone, and for no longer than the retention says.

    Args:
        samples: How many are kept, and for how long.
        deadline_s: Answers later than this are late.
        rng: Chooses which images are kept where they are too many.
        now: The time in seconds.
        everybody: Whether images of senders without the token are learnt from.

    Attributes:
        outcomes: Images since the start by what became of them: "unauthenticated", "duplicate", "quota".
    """

    def __init__(
        self,
        samples: Samples,
        deadline_s: float | None,
        rng: np.random.Generator,
        now: Callable[[], float] = time.monotonic,
        everybody: bool = True,
    ) -> None:
        self._samples, self._deadline_s, self._rng, self._now = samples, deadline_s, rng, now
        self._everybody = everybody
        self._lock = threading.Lock()
        self.arrived = self.served = self.late = self.shed = self.labelled = self.right = 0
        self.outcomes: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=MOST_LATENCIES)
        self._present = SlotSamples(samples.most, rng)
        self._before = SlotSamples(samples.most, rng)
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._truths: OrderedDict[int, tuple[float, Labels]] = OrderedDict()
        self._number = 0

    def arrive(self, images: Pixels, sender: Sender | None = None) -> int:
        """Count images, and keep a fair sample of those that may be learnt from.

        Args:
            images: Shape (n, height, width, 3).
            sender: Who sent them, None where that is unknown.

        Returns:
            The number of the request, for `remember`.
        """
        with self._lock:
            self.arrived += len(images)
            self._number += 1
            if not (self._everybody or (sender is not None and sender.authenticated)):
                self.outcomes["unauthenticated"] += len(images)
            else:
                self._present.arrive(images, source_of(sender), self._number, self._now())
            return self._number

    def turn_away(self, count: int) -> None:
        """Count images that were turned away."""
        with self._lock:
            self.arrived += count
            self.shed += count

    def answer(self, sizes: list[int], latencies_s: list[float]) -> None:
        """Count answered requests."""
        with self._lock:
            self.served += sum(sizes)
            self._latencies.extend(latencies_s)
            if self._deadline_s is not None:
                self.late += sum(
                    size for size, late_s in zip(sizes, latencies_s, strict=True) if late_s > self._deadline_s
                )

    def remember(self, identity: str, classes: Labels, number: int, sender: Sender | None = None) -> None:
        """Keep the classes that a request was answered with, for labels to come.

        An identity that several sources use while it is remembered names none of their requests: no label comes to
        images of somebody else.

        Args:
            identity: The client's own name of the request.
            classes: Shape (n,).
            number: From `arrive`.
            sender: Who sent it.
        """
        now_s, source = self._now(), source_of(sender)
        with self._lock:
            earlier = self._answers.get(identity)
            known = classes if earlier is None or earlier.source == source else None
            self._answers[identity] = Answer(now_s, known, source, number)
            self._answers.move_to_end(identity)
            while len(self._answers) > MOST_ANSWERS:
                self._answers.popitem(last=False)

    def label(self, identity: str, labels: list[int]) -> int | None:
        """Compare an answer with its true labels, and keep these for the judgement of new students.

        Returns:
            How many were right; None where no such answer of as many images is remembered, or several are.
        """
        with self._lock:
            self._expire()
            found = self._answers.get(identity)
            if found is None or found.classes is None or len(found.classes) != len(labels):
                return None
            del self._answers[identity]
            truths = np.array(labels, np.int64)
            self._truths[found.number] = self._now(), truths
            while len(self._truths) > MOST_ANSWERS:
                self._truths.popitem(last=False)
            right = int((found.classes == truths).sum())
            self.labelled += len(labels)
            self.right += right
            return right

    def close_slot(self) -> Counts:
        """End the slot: its images become those to retrain on, and all counts begin anew."""
        with self._lock:
            self._expire()
            ended, self._present = self._present, SlotSamples(self._samples.most, self._rng)
            p50_s = p99_s = None
            if self._latencies:
                p50_s, p99_s = np.quantile(np.array(self._latencies), [0.5, 0.99]).tolist()
            found = Counts(
                self.arrived, self.served, self.late, self.shed, p50_s, p99_s, self.labelled, self.right
            )  # fmt: skip
            self.arrived = self.served = self.late = self.shed = self.labelled = self.right = 0
            self._latencies.clear()
        ended.close()  # which takes a while for many images: requests need not wait for it
        with self._lock:
            self._before = ended
            self.outcomes["duplicate"] += ended.duplicates
            self.outcomes["quota"] += ended.crowded_out
        return found

    def drawn(self, count: Callable[[int], int], rng: np.random.Generator, fewest: int = 0) -> Drawn:
        """Draw samples of the slot before, but for those older than they may be.

        Args:
            count: From the number of samples that there are to that which is wanted.
            rng: Draws.
            fewest: Samples that no quota must keep it below; see `orric.edge.sources.fairly_drawn`.
        """
        with self._lock:
            self._expire()
            truths = {number: labels for number, (_, labels) in self._truths.items()}
            return self._before.drawn(count, self._samples.source_part, truths, rng, fewest)

    def _expire(self) -> None:
        oldest_s = self._now() - self._samples.retention_s
        self._before.expire(oldest_s)
        self._present.expire(oldest_s)
        while self._answers and next(iter(self._answers.values())).came_s < oldest_s:
            self._answers.popitem(last=False)
        while self._truths and next(iter(self._truths.values()))[0] < oldest_s:
            self._truths.popitem(last=False)

    def configure(self, samples: Samples, everybody: bool) -> None:
        """Take over other limits."""
        with self._lock:
            self._samples, self._everybody = samples, everybody
            self._expire()

    def expire(self) -> None:
        """Forget what is older than it may be."""
        with self._lock:
            self._expire()

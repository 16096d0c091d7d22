"""What clients sent in a slot: counts, a fair sample of the images, and the answers that labels may come for."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orric.edge.config import Samples
from orric.edge.sender import Sender
from orric.vision.arrays import Labels
from orric.vision.datasets import FULL_PX, Pixels

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


class Uploads:
    """The present slot's requests, and the images of the slot before.

    Images are in memory alone, and for no longer than the retention says.

    Args:
        samples: How many are kept, and for how long.
        deadline_s: Answers later than this are late.
        rng: Chooses which images are kept where they are too many.
        now: The time in seconds.
    """

    def __init__(
        self,
        samples: Samples,
        deadline_s: float | None,
        rng: np.random.Generator,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._samples, self._deadline_s, self._rng, self._now = samples, deadline_s, rng, now
        self._lock = threading.Lock()
        self.arrived = self.served = self.late = self.shed = self.labelled = self.right = 0
        self._latencies: deque[float] = deque(maxlen=MOST_LATENCIES)
        self._images: list[Pixels] = []
        self._came_s: list[float] = []
        self._keys: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
        self._held, self._largest = 0, 1.0
        self._collected: list[tuple[float, Pixels]] = []
        self._answers: OrderedDict[str, tuple[float, Labels]] = OrderedDict()

    def arrive(self, images: Pixels, sender: Sender | None = None) -> None:
        """Count images and keep a fair sample: those of the smallest random keys.

        Args:
            images: Shape (n, height, width, 3).
            sender: Who sent them, None where that is unknown.
        """
        with self._lock:
            self.arrived += len(images)
            keys = self._rng.random(len(images))
            if self._largest < 1.0:
                chosen = keys < self._largest
                images, keys = images[chosen], keys[chosen]
            if len(images):
                self._images.append(images)
                self._came_s.append(self._now())
                self._keys.append(keys)
                self._held += len(images)
            if self._held > 2 * self._samples.most:
                self._thin()

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

    def remember(self, identity: str, classes: Labels) -> None:
        """Keep the classes that a request was answered with, for labels to come."""
        now = self._now()
        with self._lock:
            self._answers[identity] = (now, classes)
            self._answers.move_to_end(identity)
            while len(self._answers) > MOST_ANSWERS:
                self._answers.popitem(last=False)

    def label(self, identity: str, labels: list[int]) -> int | None:
        """Compare an answer with its true labels.

        Returns:
            How many were right; None where no such answer of as many images is remembered.
        """
        with self._lock:
            self._expire()
            found = self._answers.get(identity)
            if found is None or len(found[1]) != len(labels):
                return None
            del self._answers[identity]
            right = int((found[1] == np.array(labels)).sum())
            self.labelled += len(labels)
            self.right += right
            return right

    def close_slot(self) -> Counts:
        """End the slot: its images become those to retrain on, and all counts begin anew."""
        with self._lock:
            self._expire()
            self._thin()
            self._collected = list(zip(self._came_s, self._images, strict=True))
            p50_s = p99_s = None
            if self._latencies:
                p50_s, p99_s = np.quantile(np.array(self._latencies), [0.5, 0.99]).tolist()
            found = Counts(
                self.arrived, self.served, self.late, self.shed, p50_s, p99_s, self.labelled, self.right
            )  # fmt: skip
            self.arrived = self.served = self.late = self.shed = self.labelled = self.right = 0
            self._latencies.clear()
            self._images, self._keys, self._came_s, self._held, self._largest = [], [], [], 0, 1.0
            self._expire()
            return found

    def collected(self) -> Pixels:
        """Return the images of the slot before, shape (n, 32, 32, 3), but for those older than they may be."""
        with self._lock:
            self._expire()
            parts = [images for _, images in self._collected]
        return np.concatenate(parts) if parts else np.empty((0, FULL_PX, FULL_PX, 3), np.uint8)

    def _thin(self) -> None:
        """Keep as many images as may be kept, in the order in which they came."""
        most = self._samples.most
        if self._held <= most:
            return
        keys = np.concatenate(self._keys)
        # Whatever comes with a larger key would not stay.
        self._largest = float(np.partition(keys, most)[most])
        kept = [part < self._largest for part in self._keys]
        chosen = [number for number, part in enumerate(kept) if part.any()]
        self._images = [self._images[number][kept[number]] for number in chosen]
        self._keys = [self._keys[number][kept[number]] for number in chosen]
        self._came_s = [self._came_s[number] for number in chosen]
        self._held = sum(map(len, self._keys))

    def _expire(self) -> None:
        oldest = self._now() - self._samples.retention_s
        self._collected = [(came_s, images) for came_s, images in self._collected if came_s >= oldest]
        gone = next((number for number, came_s in enumerate(self._came_s) if came_s >= oldest), len(self._came_s))
        self._held -= sum(map(len, self._keys[:gone]))
        del self._images[:gone], self._keys[:gone], self._came_s[:gone]
        while self._answers and next(iter(self._answers.values()))[0] < oldest:
            self._answers.popitem(last=False)

    def configure(self, samples: Samples) -> None:
        """Take over other limits."""
        with self._lock:
            self._samples = samples
            self._expire()

    def expire(self) -> None:
        """Forget what is older than it may be."""
        with self._lock:
            self._expire()

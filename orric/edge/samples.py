"""The images of a slot that are kept to learn from: a fair sample of every source, each image once, for a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.edge.sources import MOST_SOURCES, OTHERS, Indices, fair_parts, fairly_drawn, first_of_each
from orric.vision.arrays import Labels
from orric.vision.datasets import FULL_PX, Pixels

Keys = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Request:
    """What is kept of a request.

    Attributes:
        came_s: When it came.
        images: Those of it that are kept, shape (n, height, width, 3).
        keys: Random numbers of them, shape (n,): of too many images those of the largest keys go first.
        places: Which of the request's images they are, shape (n,).
        number: Of the request, for labels to come.
    """

    came_s: float
    images: Pixels
    keys: Keys
    places: Indices
    number: int

    def only(self, kept: Any) -> Request:
        """Return it with those images alone that a mask or indices name."""
        return Request(self.came_s, self.images[kept], self.keys[kept], self.places[kept], self.number)


@dataclass(frozen=True)
class Drawn:
    """Samples to learn from.

    Attributes:
        images: Shape (n, height, width, 3), in an order drawn uniformly.
        truths: Their true labels, shape (n,), -1 where nobody has told.
    """

    images: Pixels
    truths: Labels


class Source:
    """The images of one source: a uniform sample, whatever it sends."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.held = 0
        self._largest = 1.0

    def add(self, request: Request) -> int:
        """Take images in; return how many of them are left out at once, since they would not stay."""
        # Copies: what comes is often a view of a whole body.
        kept = request.only(np.flatnonzero(request.keys < self._largest))
        if len(kept.images):
            self.requests.append(kept)
            self.held += len(kept.images)
        return len(request.images) - len(kept.images)

    def expire(self, oldest_s: float) -> None:
        """Forget what came before; there is room for others then."""
        gone = next((at for at, one in enumerate(self.requests) if one.came_s >= oldest_s), len(self.requests))
        if gone:
            self.held -= sum(len(one.images) for one in self.requests[:gone])
            del self.requests[:gone]
            self._largest = 1.0

    def thin(self, most: int) -> int:
        """Keep as many images as may be kept, in the order in which they came; return how many go."""
        if self.held <= most:
            return 0
        before = self.held
        keys = np.concatenate([one.keys for one in self.requests])
        self._largest = float(np.partition(keys, most)[most])
        self.keep(lambda one: one.only(one.keys < self._largest))
        return before - self.held

    def keep(self, of: Callable[[Request], Request]) -> None:
        """Replace every request by what is to stay of it."""
        self.requests = [one for one in map(of, self.requests) if len(one.images)]
        self.held = sum(len(one.images) for one in self.requests)


class SlotSamples:
    """What is kept of a slot.

    Args:
        most: Images at most.
        rng: Chooses which are kept where they are too many.

    Attributes:
        duplicates: Images that were left out because another one is the same, known when the slot is closed.
        crowded_out: Images that were left out because there were too many, known then.
    """

    def __init__(self, most: int, rng: np.random.Generator) -> None:
        self._most, self._rng = most, rng
        self._sources: dict[str, Source] = {}
        self.duplicates = self.crowded_out = 0

    def arrive(self, images: Pixels, source: str, number: int, now_s: float) -> None:
        """Keep images, or a fair sample of them."""
        if source not in self._sources and len(self._sources) >= MOST_SOURCES:
            source = OTHERS
        keys, places = self._rng.random(len(images)), np.arange(len(images))
        request = Request(now_s, images, keys, places, number)
        self.crowded_out += self._sources.setdefault(source, Source()).add(request)
        if self._held > 2 * self._most:
            self._thin()

    def expire(self, oldest_s: float) -> None:
        """Forget what came before."""
        for source in self._sources.values():
            source.expire(oldest_s)

    def close(self) -> None:
        """Let every image stand once, and keep as many as may be kept."""
        requests = [one for source in self._sources.values() for one in source.requests]
        if not requests:
            return
        before = self._held
        unique = np.zeros(before, bool)
        unique[first_of_each(np.concatenate([one.images for one in requests]))] = True
        masks = iter(np.split(unique, np.cumsum([len(one.images) for one in requests])[:-1]))
        for source in self._sources.values():
            source.keep(lambda one: one.only(next(masks)))
        self.duplicates = before - self._held
        self._thin()

    def drawn(
        self,
        count: Callable[[int], int],
        part: float,
        truths: Mapping[int, Labels],
        rng: np.random.Generator,
        fewest: int = 0,
    ) -> Drawn:
        """Draw samples to learn from.

        Args:
            count: From the number of samples that there are to that which is wanted.
            part: Of these that one source may fill at most where there are others.
            truths: True labels of the images of requests, by the requests' numbers.
            rng: Draws.
            fewest: See `fairly_drawn`.
        """
        rows = [(name, one) for name, source in sorted(self._sources.items()) for one in source.requests]
        if not rows:
            return Drawn(np.empty((0, FULL_PX, FULL_PX, 3), np.uint8), np.empty(0, np.int64))
        names = [name for name, one in rows for _ in range(len(one.images))]
        chosen = fairly_drawn(names, count(len(names)), part, rng, fewest)
        images = np.concatenate([one.images for _, one in rows])
        labels = np.concatenate([_truths(one, truths) for _, one in rows])
        return Drawn(images[chosen], labels[chosen])

    @property
    def _held(self) -> int:
        return sum(source.held for source in self._sources.values())

    def _thin(self) -> None:
        sources = list(self._sources.values())
        for source, most in zip(sources, fair_parts([one.held for one in sources], self._most), strict=True):
            self.crowded_out += source.thin(most)


def _truths(request: Request, truths: Mapping[int, Labels]) -> Labels:
    """Return the true labels of a request's images, -1 where they are not known."""
    known = truths.get(request.number)
    if known is None or len(known) <= request.places.max():
        return np.full(len(request.images), -1, np.int64)
    return known[request.places]

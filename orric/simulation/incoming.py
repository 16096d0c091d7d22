"""Requests on their way to a queue: when, how much work, how patient, and whether an overloaded slot lets them in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.randomness import generator
from orric.scenario.stream import Service
from orric.simulation.arrivals import WINDOW

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Requests:
    """Some requests, in order of arrival; all arrays have shape (n,).

    Attributes:
        times_s: When they arrive.
        factors: What their work is multiplied by.
        patience: What the stream's patience is multiplied by.
        admitted: Whether they are let in.
        first: The number that the first of them has among those of the stream, from 0.
    """

    times_s: Array
    factors: Array
    patience: Array
    admitted: Array
    first: int

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.times_s)

    def split(self, at: int) -> tuple[Requests, Requests]:
        """Return the first so many of them, and the rest."""
        times_s, factors, patience, admitted = self.times_s, self.factors, self.patience, self.admitted
        return (
            Requests(times_s[:at], factors[:at], patience[:at], admitted[:at], self.first),
            Requests(times_s[at:], factors[at:], patience[at:], admitted[at:], self.first + at),
        )


NOBODY = Requests(np.empty(0), np.empty(0), np.empty(0), np.empty(0, bool), 0)


# Of windows as they usually are, some longer than meant; nobody writes to them.
ONES, LET_IN = np.ones(2 * WINDOW), np.ones(2 * WINDOW, bool)
ONES.flags.writeable = LET_IN.flags.writeable = False


def _alike(ones: Array, count: int) -> Array:
    return ones[:count] if count <= len(ones) else np.ones(count, ones.dtype)


class Draws:
    """Factors of work, and patience, drawn anew in every slot.

    Args:
        seed: Seed of the run.
        index: Number of the stream, from 0.
        service: How service times vary.
        measured: Measured service times divided by their mean, for "empirical".
        patient: Whether patience is drawn; it is 1 else.
    """

    def __init__(self, seed: int, index: int, service: Service, measured: Array | None, patient: bool) -> None:
        self._seed, self._index, self._service = seed, index, service
        self._measured, self._patient = measured, patient

    @property
    def varied(self) -> bool:
        """Whether factors differ from 1."""
        return self._service.variability != "none"

    def begin_slot(self, slot: int) -> None:
        """Draw for a slot from now on."""
        if self.varied:
            self._work = generator(self._seed, "service", self._index, slot)
        if self._patient:
            self._patience = generator(self._seed, "patience", self._index, slot)

    def factors(self, count: int) -> Array:
        """Return what the work of the next requests is multiplied by, shape (count,)."""
        service = self._service
        if not self.varied:
            return _alike(ONES, count)
        rng = self._work
        if service.variability == "exponential":
            return rng.standard_exponential(count)
        if service.variability == "log-normal":
            assert service.variation is not None
            width = np.sqrt(np.log1p(service.variation**2))
            return np.asarray(np.exp(width * rng.standard_normal(count) - width**2 / 2))
        assert self._measured is not None
        return np.asarray(self._measured[rng.integers(0, len(self._measured), count)])

    def patience(self, count: int) -> Array:
        """Return what the patience of the next requests is multiplied by, shape (count,)."""
        return self._patience.standard_exponential(count) if self._patient else _alike(ONES, count)


class Incoming:
    """The given requests of a stream, slot by slot and window by window.

    Args:
        windows: Returns those of a slot: the windows' ends, and the times of arrival within.
        draws: What is drawn for them.
        shed: Who is turned away in an overloaded slot, see `orric.scenario.stream.Stream`.
    """

    def __init__(self, windows: Callable[[int], Iterator[tuple[float, Array]]], draws: Draws, shed: str) -> None:
        self._windows, self.draws, self._shed, self._numbers = windows, draws, shed, 0

    def begin_slot(self, slot: int, end_s: float, count: int, refused: int) -> None:
        """Let a slot's requests be on their way.

        Args:
            slot: Index from 1.
            end_s: Its end.
            count: How many they are.
            refused: How many of them are turned away.
        """
        self._pending, self._end_s, self._window = self._windows(slot), end_s, (0.0, NOBODY)
        self._count, self._admitted, self._seen = count, count - refused, 0
        self._open = False
        self.draws.begin_slot(slot)

    @property
    def edge_s(self) -> float:
        """The end of the present window."""
        if not self._open:
            until_s, times_s = next(self._pending, (self._end_s, np.empty(0)))
            self._window, self._open = (until_s, self._prepared(times_s)), True
        return self._window[0]

    def take(self, until_s: float) -> Requests:
        """Return the requests of the present window before a time, which is its end at most."""
        edge_s, there = self.edge_s, self._window[1]
        if until_s >= edge_s:
            self._open = False
            return there
        taken, left = there.split(int(np.searchsorted(there.times_s, until_s)))
        self._window = (edge_s, left)
        return taken

    def _prepared(self, times_s: Array) -> Requests:
        count = len(times_s)
        first, places = self._numbers, range(self._seen, self._seen + count)
        self._seen += count
        self._numbers += count
        admitted, of, shed = self._admitted, max(self._count, 1), self._shed
        if admitted >= self._count or shed == "keep-latest":
            let_in = _alike(LET_IN, count)
        elif shed == "newest":
            let_in = np.array(places) < admitted
        elif shed == "oldest":
            let_in = np.array(places) >= self._count - admitted
        else:
            # Whole numbers, as rounding must not let one more or one fewer in.
            let_in = np.diff(np.arange(places.start, places.stop + 1) * admitted // of) > 0
        return Requests(times_s, self.draws.factors(count), self.draws.patience(count), let_in, first)

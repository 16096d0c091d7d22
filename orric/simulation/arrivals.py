"""When the requests of a stream arrive, window by window, so that memory does not grow with them.

Where the count of a slot is given, its requests are spread over the slot. Where it is drawn, the arrivals are those of
one process for the whole run (`orric.processes`), and slots only count them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from orric.compiled import compiled
from orric.exceptions import ScenarioError
from orric.processes import BLOCK, Chain, Process, add_counts
from orric.randomness import generator
from orric.scenario import Scenario

Array = np.ndarray[Any, Any]
Windows = Iterator[tuple[float, Array]]
# Arrivals of one window.
WINDOW = BLOCK
# So many are drawn faster by a compiled loop, which costs more to call, and gives the same.
MANY = 2**11
# Of a block of a drawn process at least, however few come in a slot.
FEW = 2**10


@compiled
def _fill(rng: np.random.Generator, times: Array, begin_s: float, length_s: float) -> None:
    """Fill in partial sums of exponential gaps, scaled."""
    total = 0.0
    for k in range(len(times)):
        total += rng.standard_exponential()
        times[k] = total
    scale = length_s / total
    for k in range(len(times)):
        times[k] = begin_s + times[k] * scale


def _even(rng: np.random.Generator, count: int, begin_s: float, length_s: float) -> Array:
    """Return ascending, independent, even times: partial sums of exponential gaps, scaled (order statistics)."""
    if count < MANY:
        times = np.cumsum(rng.standard_exponential(count + 1))
        times = begin_s + times * (length_s / times[-1])
    else:
        times = np.empty(count + 1)
        _fill(rng, times, begin_s, length_s)
    # Rounding must not carry the last one to the end, which is the next window's.
    last_s = np.nextafter(begin_s + length_s, -np.inf)
    times[times.searchsorted(last_s) :] = last_s
    return times[:-1]


def upload(count: int, begin_s: float, end_s: float) -> Windows:
    """All at the slot's start, as in the paper."""
    yield end_s, np.full(count, begin_s)


def deterministic(count: int, begin_s: float, end_s: float) -> Windows:
    """One every slot length / count seconds, the first at the start."""
    edges = _edges(count, begin_s, end_s)
    for k, until_s in enumerate(edges[1:]):
        numbers = np.arange(k * WINDOW, min((k + 1) * WINDOW, count))
        yield until_s, begin_s + numbers * ((end_s - begin_s) / max(count, 1))


def poisson(count: int, begin_s: float, end_s: float, rng: np.random.Generator) -> Windows:
    """A Poisson process given its number of arrivals, which are then independent and even."""
    if count <= WINDOW:
        yield end_s, _even(rng, count, begin_s, end_s - begin_s)
        return
    edges = _edges(count, begin_s, end_s)
    lengths = np.diff(edges)
    for k, share in enumerate(rng.multinomial(count, lengths / lengths.sum())):
        yield edges[k + 1], _even(rng, share, edges[k], lengths[k])


def bursty(count: int, begin_s: float, end_s: float, rng: np.random.Generator, chain: Chain, ahead: Chain) -> Windows:
    """A Poisson process of two rates, given its number of arrivals (Markov-modulated; Fischer, Meier-Hellstern 1993).

    Where the chain's factors are integrated, the arrivals are even.

    Args:
        count: Number of arrivals.
        begin_s: Begin of the slot, where the chain is.
        end_s: End of the slot, to which it goes on.
        rng: Source of the arrivals.
        chain: Says when there is a burst.
        ahead: The same chain, to look ahead with.
    """
    weight, done = ahead.weigh(end_s), 0.0
    if not weight > 0:
        chain.weigh(end_s)
        yield from poisson(count, begin_s, end_s, rng)
        return
    for until, weights in poisson(count, 0.0, weight, rng):
        if until >= weight:
            times, until_s = chain.map(weights - done), end_s
            chain.weigh(end_s)
        else:
            mapped = chain.map(np.append(weights, until) - done)
            times, until_s, done = mapped[:-1], float(mapped[-1]), until
        # Rounding must not carry them into the next window.
        yield until_s, np.minimum(times, np.nextafter(until_s, -np.inf))


def timestamps(times_s: Array, begin_s: float, end_s: float) -> Windows:
    """Given times, ascending, within the slot."""
    for k in range(0, max(len(times_s), 1), WINDOW):
        last = k + WINDOW >= len(times_s)
        # Requests at the same instant stay in one window.
        until_s = end_s if last else float(times_s[k + WINDOW])
        low = np.searchsorted(times_s, times_s[k]) if k else 0
        high = len(times_s) if last else int(np.searchsorted(times_s, until_s))
        if last or low < high:
            yield until_s, times_s[low:high]


def _edges(count: int, begin_s: float, end_s: float) -> Array:
    """Return the edges of windows."""
    windows = max(-(-count // WINDOW), 1)
    edges = begin_s + np.arange(windows + 1) * WINDOW * ((end_s - begin_s) / max(count, 1))
    edges[-1] = end_s
    return edges


END = (np.inf, np.empty(0))


class Arrivals:
    """The arrivals of one stream during a run.

    Args:
        scenario: What is simulated.
        index: Place of the stream in it, from 0.
        seed: Seed of the run.
        bursts: What faults multiply the requests of each slot by, shape (T,): a given count, rounded to the nearest
            whole number, or the rate of a drawn one.
        skews_s: How much later than meant the requests of each slot arrive, shape (T,), below a slot's length.

    Raises:
        ScenarioError: Given counts are not whole numbers, there is no request at all, or given times are multiplied.
    """

    def __init__(self, scenario: Scenario, index: int, seed: int, bursts: Array, skews_s: Array) -> None:
        self._scenario, self._index, self._seed = scenario, index, seed
        self._spec, self._slot_s = scenario.stream[index], scenario.slot_s
        self._bursts, self._skews_s = bursts, skews_s
        # D(t) without faults.
        self.meant = scenario.requests(seed, index)
        self._check()
        # Halves are rounded up.
        self._counts = self.meant if self._spec.drawn else np.floor(self.meant * bursts + 0.5)
        self.skewed = bool(skews_s.any())
        self._source = self._all()
        self._next: tuple[float, Array] | None = None

    def _check(self) -> None:
        where, spec = f"stream {self._spec.name!r}", self._spec
        assert spec.arrivals != "closed", "the queue makes the arrivals of a closed loop"
        parts = np.flatnonzero(self.meant % 1)
        if parts.size:
            raise ScenarioError(
                f"{where}: slot {parts[0] + 1}: requests",
                f"found {self.meant[parts[0]]:g}",
                "give whole numbers to simulate",
            )
        if not self.meant.any() and not spec.drawn:
            raise ScenarioError(f"{where}: requests", "no slot has any requests", "give at least one slot requests")
        if spec.arrivals == "timestamps" and (self._bursts > 1).any():
            raise ScenarioError(f"{where}: fault", "a burst cannot multiply given times", "choose other arrivals")

    @cached_property
    def arrived(self) -> Array:
        """How many requests arrive in each slot, bursts and clock skew included, shape (T,)."""
        if self.skewed:
            found, edges = np.zeros(self._scenario.slots), np.arange(self._scenario.slots + 1) * self._slot_s
            for _, times in self._all():
                add_counts(found, edges, times)
            return found
        if self._spec.drawn and (self._bursts != 1).any():
            return self._process().counts(self._scenario.slots, self._slot_s)
        return self._counts

    def windows(self, slot: int) -> Windows:
        """Yield the windows of a slot: the end of each and the times in it, ascending; the last ends with the slot.

        Args:
            slot: Index from 1. Slots are asked for once each, in order.
        """
        until_s, following = slot * self._slot_s, self._next or next(self._source, END)
        while following[0] < until_s:
            yield following
            following = next(self._source, END)
        end_s, times = following
        inside = int(np.searchsorted(times, until_s))
        self._next = (end_s, times[inside:]) if end_s > until_s else None
        yield until_s, times[:inside]

    def _all(self) -> Windows:
        """Yield the windows of the whole run."""
        windows = self._drawn() if self._spec.drawn else self._given()
        return self._delayed(windows) if self.skewed else windows

    def _process(self) -> Process:
        return self._scenario.process(self._seed, self._index, self._bursts)

    def _drawn(self) -> Windows:
        process = self._process()
        # What a run draws does not depend on how much of it is drawn at once.
        size = min(max(int(self.meant.max()), FEW), WINDOW)
        times = process.take(size)
        while len(times) >= size:
            # The last one is the end of a window, and those who come together with it are in the next.
            whole = int(np.searchsorted(times, times[-1]))
            if whole:
                yield float(times[-1]), times[:whole]
            times = np.concatenate([times[whole:], process.take(size)])
        yield np.inf, times

    def _given(self) -> Windows:
        kind, seed, index = self._spec.arrivals, self._seed, self._index
        stamps = self._scenario.timestamps(index).arrival_s if kind == "timestamps" else np.empty(0)
        chain, ahead = (self._scenario.chain(seed, index) if kind == "bursty" else None for _ in range(2))
        for slot, count in enumerate(self._counts.astype(np.int64).tolist(), start=1):
            begin_s, end_s = (slot - 1) * self._slot_s, slot * self._slot_s
            if kind == "upload":
                yield from upload(count, begin_s, end_s)
            elif kind == "deterministic":
                yield from deterministic(count, begin_s, end_s)
            elif kind == "timestamps":
                low, high = np.searchsorted(stamps, (begin_s, end_s))
                yield from timestamps(stamps[low:high], begin_s, end_s)
            else:
                rng = generator(seed, "arrivals", index, slot)
                if chain is not None and ahead is not None:
                    yield from bursty(count, begin_s, end_s, rng, chain, ahead)
                else:
                    yield from poisson(count, begin_s, end_s, rng)

    def _delayed(self, windows: Windows) -> Windows:
        """Yield windows of requests that come later by their slots' skews."""
        kept, done_s = np.empty(0), 0.0
        following = next(windows)
        for slot, skew_s in enumerate(self._skews_s.tolist(), start=1):
            slot_end_s = slot * self._slot_s
            # Where a clock is set right, the next slot's requests overtake this one's.
            later_s = self._skews_s[slot] if slot < len(self._skews_s) else skew_s
            limit_s = slot_end_s + min(skew_s, later_s)
            while True:
                end_s, times = following
                inside = int(np.searchsorted(times, slot_end_s))
                until_s = min(end_s, slot_end_s) + skew_s
                ready = np.sort(np.concatenate([kept, times[:inside] + skew_s]), kind="stable")
                until_s = min(until_s, limit_s)
                whole = int(np.searchsorted(ready, until_s))
                if until_s > done_s:
                    yield until_s, ready[:whole]
                    kept, done_s = ready[whole:], until_s
                else:
                    kept = ready
                following = (end_s, times[inside:])
                if end_s <= slot_end_s:
                    following = next(windows, END)
                if end_s >= slot_end_s:
                    break

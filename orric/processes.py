"""Processes by which requests arrive, their number an outcome: drawn in blocks, over a whole run, without a seam.

A rate says how many arrive in a second on average, and how that rises and falls. A process says how they keep together:

=======  ===============================================  ====================================================
process  what it is                                       index of dispersion of long counts
=======  ===============================================  ====================================================
Poisson  nobody knows of another                          1
gamma    independent gaps of a gamma distribution         square of the gaps' coefficient of variation
bursty   a Poisson process of two rates, as a Markov      1 + 2 p (1 - p) (r_b - r_c)^2 / (m (1 / burst_s +
         chain has them follow one another (MMPP)         1 / calm_s)), p the part of time in bursts, r the
                                                          rates in bursts and in calms, m their mean
Hawkes   each arrival excites further ones                1 / (1 - branching)^2
=======  ===============================================  ====================================================

All begin as if they had gone on for ever. What a process draws does not depend on the slots, unless its rate does:
where that is constant, slots of 5 s and of 3,600 s see the very same arrivals.

Where the rate changes, Poisson and gamma processes are drawn in operational time, in which one request is due in each
unit, and mapped to seconds through the inverse of the integrated rate. For Poisson that is the process of this rate;
for gamma it is the usual modulated renewal process, whose gaps shrink as the rate grows. The chain of a bursty process
and the excitement of a Hawkes process pass in seconds; the rate multiplies the former's two rates, and is the mean to
which the latter's tends.

References:
    W. Fischer, K. Meier-Hellstern: The Markov-modulated Poisson process (MMPP) cookbook. Performance Evaluation, 1993.
    A. Dassios, H. Zhao: Exact simulation of Hawkes process with exponentially decaying intensity. Electronic
    Communications in Probability, 2013.
    I. Gerhardt, B. L. Nelson: Transforming renewal processes for simulation of nonstationary arrival processes.
    INFORMS Journal on Computing, 2009.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.compiled import compiled

Array = np.ndarray[Any, Any]
# Arrivals of a block: few enough for the processor's cache, many enough to hide what a block costs.
BLOCK = 2**15
# How many time constants a Hawkes process runs before it counts, and after how many arrivals that is enough: the more
# there are, the less it strays from its mean, where it begins.
SETTLING, ENOUGH = 20.0, 5e6
# Columns of the states below: the time of the last arrival; of the next change of the chain; what is due of excitement;
# the next arrival that none has excited.
NOW, CHANGE = 0, 1
EXCITED, OWN = 1, 2
# And of their whole numbers: the stretch of the rate; whether the chain is in a burst; whether anything has begun.
STRETCH, BURST, BEGUN = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Rate:
    """How many requests come in a second on average: stretches of constant rate, times a day's swing.

    Attributes:
        edges_s: Begins of the stretches, and the end of the last, ascending, shape (m + 1,).
        per_s: Rate of each, shape (m,).
        swing: By which part the rate goes above and below that within a period, in [0, 1].
        period_s: Length of the period.
        peak_s: When it is highest.
    """

    edges_s: Array
    per_s: Array
    swing: float = 0.0
    period_s: float = 1.0
    peak_s: float = 0.0

    @classmethod
    def of_slots(
        cls, per_s: Array, slot_s: float, swing: float = 0.0, period_s: float = 1.0, peak_s: float = 0.0
    ) -> Rate:
        """Return the rate that has one level for each slot; neighbours of the same level are one stretch.

        >>> Rate.of_slots(np.array([2.0, 2.0, 3.0]), 5.0).edges_s.tolist()
        [0.0, 10.0, 15.0]
        """
        begins = np.concatenate([[0], np.flatnonzero(np.diff(per_s)) + 1])
        edges_s = np.append(begins, len(per_s)) * float(slot_s)
        return cls(edges_s, np.asarray(per_s, np.float64)[begins], swing, period_s, peak_s)

    @property
    def expected(self) -> float:
        """How many requests come on average, the swing left out."""
        return float(np.diff(self.edges_s) @ self.per_s)

    @property
    def first_per_s(self) -> float:
        """Rate at time 0."""
        return float(self.per_s[0]) * (1 + self.swing * math.cos(2 * math.pi * self.peak_s / self.period_s))

    @property
    def numbers(self) -> tuple[Array, Array, float, float, float]:
        """What the compiled loops take."""
        return self.edges_s, self.per_s, self.swing, 2 * math.pi / self.period_s, self.peak_s


class Process(ABC):
    """Arrivals of a whole run, in order.

    Args:
        rate: How many come in a second on average.
        rng: Source of randomness.
    """

    def __init__(self, rate: Rate, rng: np.random.Generator) -> None:
        self.rate, self._rng = rate, rng
        self._over = False

    def take(self, count: int) -> Array:
        """Return the next arrivals, ascending: as many as asked for, or fewer if then the run is over."""
        times = np.empty(0 if self._over else count)
        drawn = self._draw(times) if len(times) else 0
        self._over = drawn < count
        return times[:drawn]

    def counts(self, slots: int, slot_s: float) -> Array:
        """Run through all arrivals and return how many fall into each slot, shape (slots,)."""
        found, edges = np.zeros(slots), np.arange(slots + 1) * slot_s
        while not self._over:
            add_counts(found, edges, self.take(BLOCK))
        return found

    @abstractmethod
    def _draw(self, times: Array) -> int:
        """Fill in the next arrivals; return how many there are before the run's end."""


class Renewal(Process):
    """A Poisson or gamma process.

    Args:
        rate: How many come in a second on average.
        rng: Source of randomness.
        variation: Coefficient of variation of the gaps; 1 for Poisson.
    """

    def __init__(self, rate: Rate, rng: np.random.Generator, variation: float = 1.0) -> None:
        super().__init__(rate, rng)
        self._shape = 1 / variation**2
        self._state, self._place = np.array([0.0, np.inf]), np.zeros(3, np.int64)
        # There is no chain, and so nothing that it would draw.
        self._chain_rng, self._factors, self._lengths = rng, np.ones(2), np.ones(2)

    def _draw(self, times: Array) -> int:
        return _renew(
            self._rng, self._chain_rng, self._shape, self._state, self._place, self._factors, self._lengths,
            *self.rate.numbers, times,
        )  # fmt: skip


class Bursty(Renewal):
    """A Poisson process of two rates, whose mean is the given one.

    Args:
        rate: How many come in a second on average.
        rng: Source of the arrivals.
        chain: Says when there is a burst.
    """

    def __init__(self, rate: Rate, rng: np.random.Generator, chain: Chain) -> None:
        super().__init__(rate, rng)
        self._chain_rng, self._factors, self._lengths = chain.rng, chain.factors, chain.lengths_s
        self._state, self._place = chain.state, chain.place


class Chain:
    """The Markov chain of bursts and calms, from time 0 on.

    Args:
        rng: Source of randomness.
        ratio: Rate in bursts divided by the rate between them.
        burst_s: Mean length of a burst.
        calm_s: Mean length of the time between two.
    """

    def __init__(self, rng: np.random.Generator, ratio: float, burst_s: float, calm_s: float) -> None:
        self.rng = rng
        # Whatever the ratio, the mean over calm and burst is 1.
        whole_s = calm_s + burst_s
        self.factors = np.array([whole_s / (calm_s + ratio * burst_s), whole_s / (calm_s / ratio + burst_s)])
        self.lengths_s = np.array([calm_s, burst_s])
        burst = int(rng.random() < burst_s / whole_s)
        self.state = np.array([0.0, self.lengths_s[burst] * rng.standard_exponential()])
        self.place = np.array([0, burst, 0])

    def weigh(self, until_s: float) -> float:
        """Go on to a time; return the integral of the factors until then."""
        return _weigh(self.rng, self.state, self.place, self.factors, self.lengths_s, until_s)

    def map(self, weights: Array) -> Array:
        """Return when the integral of the factors, counted from the present, reaches each of some ascending weights.

        The present is then the last of them.
        """
        times = np.empty(len(weights))
        _map(self.rng, self.state, self.place, self.factors, self.lengths_s, weights, times)
        return times


class Hawkes(Process):
    """Each arrival raises the rate, which then decays; see the module.

    Args:
        rate: How many come in a second on average, those included whom others have excited.
        rng: Source of randomness.
        branching: How many further ones an arrival excites on average, below 1.
        decay_s: After how long on average.
    """

    def __init__(self, rate: Rate, rng: np.random.Generator, branching: float, decay_s: float) -> None:
        super().__init__(rate, rng)
        self._branching, self._decay_s = branching, decay_s
        self._state, self._place = np.zeros(3), np.zeros(3, np.int64)
        first = rate.first_per_s
        if first > 0:
            span_s = min(SETTLING * decay_s / (1 - branching), ENOUGH / first)
            self._state[EXCITED] = _settle(rng, first, branching, decay_s, span_s)

    def _draw(self, times: Array) -> int:
        return _excite(
            self._rng, self._branching, self._decay_s, self._state, self._place, *self.rate.numbers, times
        )  # fmt: skip


def add_counts(found: Array, edges: Array, times: Array) -> None:
    """Add to the counts between ascending edges how many of some ascending times lie there."""
    if not len(times):
        return
    low = max(int(np.searchsorted(edges, times[0], side="right")) - 1, 0)
    high = min(int(np.searchsorted(edges, times[-1], side="right")), len(found))
    found[low:high] += np.diff(np.searchsorted(times, edges[low : high + 1]))


@compiled
def _mass(per_s: float, begin_s: float, end_s: float, swing: float, omega: float, peak_s: float) -> float:
    """Return the integral of the rate from one time to another."""
    length_s = end_s - begin_s
    if swing == 0.0:
        return per_s * length_s
    half = 0.5 * omega * length_s
    return per_s * (length_s + 2 * swing / omega * math.cos(omega * (begin_s - peak_s) + half) * math.sin(half))


@compiled
def _after(mass: float, per_s: float, begin_s: float, end_s: float, swing: float, omega: float, peak_s: float) -> float:
    """Return when the integral of the rate reaches `mass`, which it does before `end_s`: Newton, kept in brackets."""
    level_s = mass / per_s
    if swing == 0.0:
        return begin_s + level_s
    width_s, angle = 2 * swing / omega, omega * (begin_s - peak_s)
    sine, cosine = math.sin(angle), math.cos(angle)
    low_s, high_s = max(level_s - width_s, 0.0), min(level_s + width_s, end_s - begin_s)
    slope = 1 + swing * cosine
    wait_s = min(max(level_s / slope if slope > 0 else high_s, low_s), high_s)
    for _ in range(100):
        s, c = math.sin(0.5 * omega * wait_s), math.cos(0.5 * omega * wait_s)
        error_s = wait_s + width_s * (cosine * c - sine * s) * s - level_s
        if error_s < 0:
            low_s = wait_s
        else:
            high_s = wait_s
        slope = 1 + swing * (cosine * (1 - 2 * s * s) - 2 * sine * s * c)
        better_s = wait_s - error_s / slope if slope > 0 else -1.0
        if not low_s <= better_s <= high_s:
            better_s = 0.5 * (low_s + high_s)
        near = abs(better_s - wait_s) <= 4e-16 * (begin_s + better_s)
        wait_s = better_s
        if near:
            break
    return begin_s + wait_s


@compiled
def _renew(
    rng: np.random.Generator,
    chain_rng: np.random.Generator,
    shape: float,
    state: Array,
    place: Array,
    factors: Array,
    lengths_s: Array,
    edges_s: Array,
    per_s: Array,
    swing: float,
    omega: float,
    peak_s: float,
    times: Array,
) -> int:
    """Fill in the next arrivals of a renewal process in operational time, a chain's factors upon its rate."""
    now_s, change_s = state[NOW], state[CHANGE]
    stretch, burst, begun = place[STRETCH], place[BURST], place[BEGUN]
    for n in range(len(times)):
        if shape == 1.0:
            gap = rng.standard_exponential()
        elif begun:
            gap = rng.standard_gamma(shape) / shape
        else:
            # The gap around time 0 is a long one, and time 0 is anywhere in it.
            gap = rng.random() * rng.standard_gamma(shape + 1) / shape
            begun = 1
        while True:
            edge_s = edges_s[stretch + 1]
            stop_s, rate = min(edge_s, change_s), per_s[stretch] * factors[burst]
            there = _mass(rate, now_s, stop_s, swing, omega, peak_s)
            if gap < there:
                now_s = _after(gap, rate, now_s, stop_s, swing, omega, peak_s)
                break
            gap -= there
            now_s = stop_s
            if stop_s == change_s:
                burst = 1 - burst
                change_s += lengths_s[burst] * chain_rng.standard_exponential()
            if stop_s == edge_s:
                if stretch + 1 == len(per_s):
                    return n
                stretch += 1
        times[n] = now_s
    state[NOW], state[CHANGE] = now_s, change_s
    place[STRETCH], place[BURST], place[BEGUN] = stretch, burst, begun
    return len(times)


@compiled
def _weigh(
    rng: np.random.Generator, state: Array, place: Array, factors: Array, lengths_s: Array, until_s: float
) -> float:
    """Let a chain go on to a time; return the integral of its factors."""
    now_s, change_s, burst, total = state[NOW], state[CHANGE], place[BURST], 0.0
    while change_s <= until_s:
        total += factors[burst] * (change_s - now_s)
        now_s, burst = change_s, 1 - burst
        change_s += lengths_s[burst] * rng.standard_exponential()
    state[NOW], state[CHANGE], place[BURST] = until_s, change_s, burst
    return float(total + factors[burst] * (until_s - now_s))


@compiled
def _map(
    rng: np.random.Generator, state: Array, place: Array, factors: Array, lengths_s: Array, weights: Array, times: Array
) -> None:
    """Let a chain go on until the integral of its factors reaches each of some weights; fill in when."""
    now_s, change_s, burst, total = state[NOW], state[CHANGE], place[BURST], 0.0
    for n in range(len(weights)):
        while True:
            there = factors[burst] * (change_s - now_s)
            if weights[n] - total < there:
                now_s += (weights[n] - total) / factors[burst]
                total = weights[n]
                break
            total += there
            now_s, burst = change_s, 1 - burst
            change_s += lengths_s[burst] * rng.standard_exponential()
        times[n] = now_s
    state[NOW], state[CHANGE], place[BURST] = now_s, change_s, burst


@compiled
def _settle(rng: np.random.Generator, per_s: float, branching: float, decay_s: float, span_s: float) -> float:
    """Run a Hawkes process of constant rate for a while, from its mean; return what it then has of excitement."""
    now_s, excited = 0.0, branching * per_s
    while True:
        wait_s = rng.standard_exponential() / (per_s * (1 - branching))
        part = rng.standard_exponential() / (excited * decay_s) if excited > 0 else 2.0
        if part < 1:
            wait_s = min(wait_s, -decay_s * math.log1p(-part))
        if now_s + wait_s >= span_s:
            return float(excited * math.exp(-(span_s - now_s) / decay_s))
        now_s += wait_s
        excited = excited * math.exp(-wait_s / decay_s) + branching / decay_s


@compiled
def _excite(
    rng: np.random.Generator,
    branching: float,
    decay_s: float,
    state: Array,
    place: Array,
    edges_s: Array,
    per_s: Array,
    swing: float,
    omega: float,
    peak_s: float,
    times: Array,
) -> int:
    """Fill in the next arrivals of a Hawkes process: those that nobody has excited, and those that others have."""
    now_s, excited, own_s, stretch = state[NOW], state[EXCITED], state[OWN], place[STRETCH]
    end_s, due = edges_s[-1], place[BEGUN] == 0
    for n in range(len(times)):
        if due:
            gap, own_s, due = rng.standard_exponential(), now_s, False
            while True:
                rate, edge_s = per_s[stretch] * (1 - branching), edges_s[stretch + 1]
                there = _mass(rate, own_s, edge_s, swing, omega, peak_s)
                if gap < there:
                    own_s = _after(gap, rate, own_s, edge_s, swing, omega, peak_s)
                    break
                gap -= there
                own_s = edge_s
                if stretch + 1 == len(per_s):
                    own_s = np.inf
                    break
                stretch += 1
        next_s = own_s
        # The excitement, all of it still to come, is `excited` times `decay_s` further arrivals.
        part = rng.standard_exponential() / (excited * decay_s) if excited > 0 else 2.0
        if part < 1:
            next_s = min(next_s, now_s - decay_s * math.log1p(-part))
        if next_s >= end_s:
            return n
        due = next_s == own_s
        excited = excited * math.exp(-(next_s - now_s) / decay_s) + branching / decay_s
        now_s = next_s
        times[n] = now_s
    state[NOW], state[EXCITED], state[OWN] = now_s, excited, own_s
    place[STRETCH], place[BEGUN] = stretch, 0 if due else 1
    return len(times)

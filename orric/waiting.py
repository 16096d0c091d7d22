"""How many of those who ask are answered by a deadline: queues solved as birth-and-death chains, in tables.

The state is the work that is there, in requests; it goes up as requests come and down as they are served. How far up in
proportion to down is what the decay of waiting in GI/G/1 says, gaps and services taken as gamma-distributed (M/M/1 and
M/M/c are exact); elsewhere, up and down are what drift and variance ask for, so that overload and backlog are followed
through the slot. Bursty arrivals are two such chains side by side; a Hawkes process is taken as the bursty one of the
same variance and correlation. Of a batch's fixed part the fuller batches that more work makes have less each.

A table holds the part in time over load, deadline in service times, and work at the slot's start. It is the mean over
the slot, solved for all entries at once as banded linear systems: implicit Euler steps, few and fewer, extrapolated. It
never rises with load or backlog.

References:
    W. Whitt: The queueing network analyzer. Bell System Technical Journal, 1983.
    W. Kraemer, M. Langenbach-Belz: Approximate formulae for the delay in the queueing system GI/G/1. ITC 8, 1976.
    W. Fischer, K. Meier-Hellstern: The Markov-modulated Poisson process (MMPP) cookbook. Performance Evaluation, 1993.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
# Loads of the tables, and as parts of load and capacity together, in which they are evenly spaced; but for more near 1,
# where a little decides.
NEAR = np.array([0.89, 0.94, 0.96, 0.98, 1.01, 1.025, 1.05])
PARTS = np.sort(np.append(np.arange(1, 42) * 0.02, NEAR / (1 + NEAR)))
LOADS = PARTS / (1 - PARTS)
# Deadlines of the tables, in the time that a request alone takes, each so many times the one before; beyond the last
# one a request's own service hardly matters. Some more where a limited queue is about as long as the deadline.
DEADLINES = 1.335 ** np.arange(28)
AROUND = np.array([0.85, 0.91, 0.96, 1.0, 1.04, 1.1, 1.2])
# Levels of work up to the deadline, and from there to where nobody is in time in the slot any more: of the chain, and
# of the tables.
BELOW, ABOVE = 24, 14
KEPT_BELOW = 8
# How many implicit steps a slot is divided into, and with which weights their results are put together.
STEPS = {6: -1.0, 12: 2.0}
# Loads this near to 1 are taken as so far below: the limit is reached, but not computed, at 1.
NEAR_ONE = 1e-3
# Squares of coefficients of variation below which formulas would divide by zero.
LEAST_SQUARE = 1e-4


@dataclass(frozen=True)
class ArrivalProcess:
    """How requests come within a slot, as a stream declares it.

    Attributes:
        kind: As of a scenario's stream.
        drawn: Whether the count of a slot is an outcome; else it is given.
        ratio: Of "bursty": rate within bursts divided by the rate between them.
        burst_s: Of "bursty": mean length of a burst.
        calm_s: Of "bursty": mean time between two.
        variation: Of "gamma": coefficient of variation of the gaps; of "timestamps": what it is thought to be.
        branching: Of "hawkes": how many further requests each excites on average.
        decay_s: Of "hawkes": after how long on average.
    """

    kind: Literal["upload", "deterministic", "timestamps", "poisson", "bursty", "gamma", "hawkes", "closed"] = "upload"
    drawn: bool = False
    ratio: float = 1.0
    burst_s: float = 1.0
    calm_s: float = 1.0
    variation: float = 1.0
    branching: float = 0.0
    decay_s: float = 1.0

    @property
    def gap_square(self) -> float:
        """Square of the gaps' coefficient of variation, what bursts do to it left out."""
        if self.kind == "deterministic":
            return 0.0
        return self.variation**2 if self.kind in ("gamma", "timestamps") else 1.0

    def environment(self, per_s: Array, slot_s: float) -> tuple[Array, Array]:
        """Return the states that the rate goes through: its factor in each, and the rate of leaving it.

        Args:
            per_s: Mean rates of arrival.
            slot_s: Length of a slot: where its count is given, only that varies which is within.

        Returns:
            Two arrays of the shape of the rates, and one axis more, of length 1 or 2.
        """
        if self.kind == "bursty" and self.ratio > 1:
            calm = (self.calm_s + self.burst_s) / (self.calm_s + self.ratio * self.burst_s)
            leaving = np.array([1 / self.calm_s, 1 / self.burst_s])
            factors = np.array([calm, calm * self.ratio])
            if not self.drawn:
                times = slot_s * leaving.sum()
                factors = 1 + (factors - 1) * np.sqrt(1 - 2 * (times + np.expm1(-times)) / times**2)
            ones = np.ones((*per_s.shape, 1))
            return ones * factors, ones * leaving
        if self.kind == "hawkes" and self.branching > 0:
            left = 1 - self.branching
            square = self.branching * (1 + left) / (2 * self.decay_s * left * per_s)
            # Skewed as a gamma law of this variance is.
            odds = (np.sqrt(1 + square) - np.sqrt(square)) ** 2
            factors = np.stack([1 - np.sqrt(square * odds), 1 + np.sqrt(square / odds)], axis=-1)
            high = odds / (1 + odds)
            return factors, np.stack([high, 1 - high], axis=-1) * (left / self.decay_s)
        return np.ones((*per_s.shape, 1)), np.zeros((*per_s.shape, 1))


@dataclass(frozen=True, eq=False)
class Table:
    """The part in time of a stream whose batches have one shape.

    Attributes:
        deadline_s: The stream's.
        multiples: Logarithms of deadlines in service times, ascending, shape (M,).
        levels: Work at the slot's start, in deadlines, ascending from 0, shape (V,).
        values: Shape (loads x M x V,).
    """

    deadline_s: float
    multiples: Array
    levels: Array
    values: Array

    def look_up(self, load: Array, service_s: Array, behind_s: Array) -> Array:
        """Return the part in time; arguments have one shape.

        Args:
            load: Work that comes in a second.
            service_s: What a request of a full batch takes.
            behind_s: Work that waits at the slot's start.
        """
        places = [
            np.interp(load / (1 + load), PARTS, np.arange(len(PARTS))),
            np.interp(np.log(self.deadline_s / service_s), self.multiples, np.arange(len(self.multiples))),
        ]
        sizes = [len(PARTS), len(self.multiples), len(self.levels)]
        at = np.zeros(load.shape, np.intp)
        corners = [(at, np.ones(load.shape))]
        if np.any(behind_s):
            places.append(np.interp(behind_s / self.deadline_s, self.levels, np.arange(len(self.levels))))
        for axis, place in enumerate(places):
            stride = int(np.prod(sizes[axis + 1 :]))
            low = np.minimum(place.astype(np.intp), sizes[axis] - 2)
            part = place - low
            low *= stride
            corners = [
                (index + low + step, weight * share)
                for index, weight in corners
                for step, share in ((0, 1 - part), (stride, part))
            ]
        found = np.zeros(load.shape)
        for index, weight in corners:
            found += self.values[index] * weight
        # Far beyond capacity what is in time goes down as load goes up.
        found *= np.minimum(LOADS[-1] / np.maximum(load, 1e-300), 1.0)
        return found


def log_ratio(load: Array, gap_square: Array, service_square: float) -> Array:
    """Return ln r, where so many are in system with a probability that falls by r with each: in GI/G/1, far out.

    That is r = 1 / E exp(s S) with E exp(-s A) E exp(s S) = 1, gaps A and services S gamma-distributed. In M/M/1 it is
    the load; beyond capacity it is above 1.
    """
    gap_square, service_square = np.maximum(gap_square, LEAST_SQUARE), max(service_square, LEAST_SQUARE)
    below = load < 1
    low = np.where(below, 1e-9, np.maximum(-load / gap_square, -1e3) * (1 - 1e-12))
    high = np.where(below, min(1 / service_square, 1e3) * (1 - 1e-12), -1e-9)

    def gap(s: Array) -> Array:
        return np.log1p(gap_square * s / load) / gap_square

    for _ in range(45):
        middle = (low + high) / 2
        # A concave function of s, 0 at 0 and at the root: above 0 in between.
        inside = gap(middle) + np.log1p(-service_square * middle) / service_square > 0
        low, high = np.where(inside == below, middle, low), np.where(inside == below, high, middle)
    found: Array = -gap((low + high) / 2)
    return found


def busy(load: Array, gap_square: float, service_square: float) -> Array:
    """Return the part of arrivals that find the server busy, loads below 1.

    Where gaps vary more than those of a Poisson process it is that of exponential service, which is r; where they vary
    less, what Kraemer and Langenbach-Belz say. In between it is the load.
    """
    if gap_square > 1:
        found = np.exp(log_ratio(load, np.array(gap_square), 1.0))
    else:
        excess = (1 + gap_square + load * service_square) / (
            1 + load * (service_square - 1) + load**2 * (4 * gap_square + service_square)
        )
        found = load + (gap_square - 1) * load * (1 - load) * excess
    clipped: Array = np.clip(found, 0.0, 1 - 1e-6)
    return clipped


@dataclass(frozen=True)
class Shape:
    """What a table is made for.

    Attributes:
        slot_s: Length of a slot.
        deadline_s: Finite.
        arrivals: How requests come.
        fixed: Part of a full batch's work that does not depend on its size.
        most: Requests in a batch at most.
        wait_s: How long the first request of a batch waits at most for it to fill.
        workers: Batches in service at once.
        queue_limit: Requests that may wait.
        service_square: Square of the service times' coefficient of variation.
    """

    slot_s: float
    deadline_s: float
    arrivals: ArrivalProcess
    fixed: float
    most: int
    wait_s: float
    workers: int
    queue_limit: float
    service_square: float

    @property
    def alone(self) -> float:
        """What a request alone takes, in the time that one of a full batch takes."""
        return self.workers * float(self.batch(np.ones(1))[0])

    def batch(self, size: Array) -> Array:
        """Return what batches of some sizes take at the whole speed, likewise."""
        return self.fixed * self.most + (1 - self.fixed) * size

    def in_work(self, there: Array) -> Array:
        """Return how many requests' work is left where so many are there: batches in service are half done."""
        found: Array = np.minimum(there - np.minimum(there / 3, (self.most - 1) / 2), self.queue_limit + self.workers)
        return found

    @lru_cache(maxsize=1024)  # noqa: B019 (shapes are values, and tables are few)
    def table(self) -> Table:
        """Return the table, made in about a tenth of a second."""
        deadline_s, full = self.deadline_s, self.queue_limit + self.workers
        multiples = self.alone * DEADLINES
        if np.isfinite(full):
            multiples = np.append(multiples, AROUND * (self.queue_limit + 1.5 * self.workers * self.most))
            multiples = np.unique(multiples[multiples >= self.alone])
        chain = Chain(self, multiples)
        levels = np.append(
            np.arange(KEPT_BELOW) / KEPT_BELOW, (1 + self.slot_s / deadline_s) ** (np.arange(ABOVE + 1) / ABOVE)
        )
        found = chain.in_time()
        values = np.empty((len(LOADS), len(multiples), len(levels)))
        for m, multiple in enumerate(multiples):
            begins = np.minimum(levels, full / multiple) * deadline_s
            places = np.interp(begins, chain.levels_s[m], np.arange(chain.levels_s.shape[1]))
            low = np.minimum(places.astype(np.intp), chain.levels_s.shape[1] - 2)
            part = places - low
            values[:, m] = found[:, m, low] * (1 - part) + found[:, m, low + 1] * part
        # More to do is never better; nor is less speed, unless fewer seconds of work may wait at more of it.
        values = np.minimum.accumulate(np.minimum.accumulate(values, axis=0), axis=2)
        if np.isinf(full):
            values = np.flip(np.minimum.accumulate(np.flip(values, axis=1), axis=1), axis=1)
        return Table(deadline_s, np.log(multiples), levels, values.astype(np.float32).ravel())


class Chain:
    """The chains of a table; arrays have the axes loads, multiples, levels, states, or can be broadcast to them.

    Args:
        shape: What the table is for.
        multiples: Deadlines in the time that a request of a full batch takes, shape (M,).

    Attributes:
        levels_s: Work at each level, shape (M, levels).
    """

    def __init__(self, shape: Shape, multiples: Array) -> None:
        self.shape, self._loads = shape, LOADS[:, None, None, None]
        service_s = shape.deadline_s / multiples
        full = shape.queue_limit + shape.workers
        # A level is a request, or more where the deadline, or the queue, has room for many.
        step_s = np.maximum(service_s, np.minimum(shape.deadline_s, full * service_s) / BELOW)
        top_s = np.maximum(shape.deadline_s + shape.slot_s, 1.2 * BELOW * step_s)
        rise = (top_s / (BELOW * step_s)) ** (1 / ABOVE)
        n = np.arange(BELOW + ABOVE + 1)
        self.levels_s = step_s[:, None] * np.minimum(n, BELOW) * rise[:, None] ** np.maximum(n - BELOW, 0)
        self._service_s, self._step_s = service_s[:, None, None], step_s[:, None, None]
        self._there = self.levels_s[:, :, None] / self._service_s
        self._full = self._there >= full * (1 - 1e-9)
        self._per_s = self._loads / self._service_s
        # How large the batches are that so much work makes; below a request for each worker, one is free.
        self._sizes = np.clip(self._there / shape.workers, 1, shape.most)
        self._idle = self._there < shape.workers

    def in_time(self) -> Array:
        """Return the part in time by level at the slot's start, shape (loads, M, levels)."""
        factors, leaving = self.shape.arrivals.environment(self._per_s[..., 0], self.shape.slot_s)
        up, down = self._rates(self._loads * factors)
        reward = self._answered() * factors
        if self._full.any():
            # Who finds a full queue is turned away, and what they would have added is not there.
            reward = np.where(self._full, reward - self._answered() * up * self._rise_s() / self._loads, reward)
            up = np.where(self._full, 0.0, up)
        up[:, :, -1] = 0.0
        found = averaged(up, down, np.broadcast_to(leaving, up.shape), reward, self.shape.slot_s)
        return np.clip(found, 0.0, 1.0)

    def _rise_s(self) -> Array:
        gaps_s = np.diff(self.levels_s, axis=1)
        return np.concatenate([gaps_s, gaps_s[:, -1:]], axis=1)[:, :, None]

    def _answered(self) -> Array:
        """Return with which probability who comes at a level is in time."""
        from scipy.special import gammainc

        shape, service_s = self.shape, self._service_s
        square, sizes, workers = shape.service_square, self._sizes, shape.workers
        seen = np.minimum(self._there, shape.queue_limit + workers - 1)
        waiting_s = np.maximum(seen - workers * sizes, 0.0) * service_s
        batch_s = service_s * shape.batch(sizes)
        left_s = np.where(self._idle, 0.0, (1 + square) / 2 * batch_s)
        # The first of a batch holds it until it is full or has waited; who comes later waits for a part of that.
        whole_s = np.minimum(shape.wait_s, (shape.most - 1) / self._per_s)
        later_s = np.minimum(shape.wait_s, np.maximum(shape.most - 1 - self._there / workers, 0.0) / self._per_s) / 2
        held_s = np.where(self._there < 1, whole_s, later_s)
        held_s = np.where(self._idle, held_s, np.maximum(held_s - left_s, 0.0))
        own = np.where(self._idle, np.minimum(1 + self._per_s * whole_s, shape.most), sizes)
        own_s = workers * service_s * shape.batch(own)
        mean_s = waiting_s + left_s + held_s + own_s
        # Of what is left of a service, where that is gamma-distributed.
        residual = (1 + square) * (1 + 2 * square) / 3 - (1 + square) ** 2 / 4
        variance = np.where(self._idle, 0.0, residual * batch_s**2)
        variance = variance + square * (waiting_s * service_s * shape.batch(np.array(shape.most)) + own_s**2)
        # Within a level that stands for several requests there are any of them.
        variance = variance + np.where(self._there > 0, np.maximum(self._step_s**2 - service_s**2, 0.0) / 12, 0.0)
        regular = mean_s**2 / np.maximum(variance, 1e-8 * mean_s**2)
        smooth = gammainc(regular, regular * shape.deadline_s / mean_s)
        certain = mean_s <= shape.deadline_s * (1 + 1e-9)
        found: Array = np.where(variance < 1e-8 * mean_s**2, certain, smooth)
        return found

    def _rates(self, load: Array) -> tuple[Array, Array]:
        """Return the rates at which chains go up and down a level."""
        shape, square = self.shape, self.shape.service_square
        load = np.where(np.abs(load - 1) < NEAR_ONE, 1 - NEAR_ONE, load)
        gap_square = shape.arrivals.gap_square
        squares = np.full(load.shape, gap_square)
        if not shape.arrivals.drawn:
            # Where the count is given, the more of the slot a queue needs to settle, the less does it vary.
            settling_s = self._service_s * (gap_square + square) / (1 - load) ** 2
            squares = squares * (1 - np.minimum(settling_s / shape.slot_s, 0.5))
        rise_s = self._rise_s()
        fall_s = np.concatenate([rise_s[:, :1], rise_s[:, :-1]], axis=1)
        step_s = (rise_s + fall_s) / 2
        # At which part of full speed so much work lets a stream be served.
        speed = np.minimum(self._there / shape.workers, 1.0)
        batch = shape.batch(self._sizes) / self._sizes
        speed = speed / batch
        slope = np.clip(-log_ratio(load, squares, square) * step_s / self._service_s / 2, -50.0, 50.0)
        variance_s = np.where(speed < 1 - 1e-9, (load + speed) * step_s, step_s * (1 - load) / np.tanh(slope))
        drift = load - speed
        up = (variance_s + drift * fall_s) / (rise_s * (rise_s + fall_s))
        down = (variance_s - drift * rise_s) / (fall_s * (rise_s + fall_s))
        # Steps too large for the variance: the drift alone.
        up, down = np.where(down < 0, drift / rise_s, up), np.maximum(down, 0.0)
        down, up = np.where(up < 0, -drift / fall_s, down), np.maximum(up, 0.0)
        first = load / self._step_s
        if shape.most == shape.workers == 1:
            # Such that as many find nobody as theory says; who come evenly beyond capacity soon never do.
            stable = np.minimum(load, 1 - NEAR_ONE)
            found_busy = busy(stable, gap_square, square)
            known = first / stable * (1 - stable) * found_busy / (1 - found_busy)
            first = np.where((load < 1) | (gap_square > 1), known, first)
        up[:, :, 0], down[:, :, 0] = first[:, :, 0], 0.0
        return up, down


def averaged(up: Array, down: Array, leaving: Array, reward: Array, slot_s: float) -> Array:
    """Return the mean reward over a slot by the level at its start, the environment being anywhere.

    Args:
        up: Rates of going up a level, 0 at the last, shape (loads, multiples, levels, states).
        down: Rates of going down a level, 0 at the first.
        leaving: Rates of leaving a state for the other.
        reward: What is earned at a level, in a state.
        slot_s: How long.
    """
    from scipy.linalg.lapack import dgbtrf, dgbtrs

    states = up.shape[-1]
    # One after the other, states of a level side by side: neighbours of a level are as many entries apart.
    bands = np.zeros((2 * states + 1, up.size))
    bands[0, states:], bands[2 * states, :-states] = -up.ravel()[:-states], -down.ravel()[states:]
    if states == 2:
        bands[1, 1::2], bands[3, 0::2] = -leaving[..., 0].ravel(), -leaving[..., 1].ravel()
    bands[states] = (up + down + leaving).ravel()
    total = np.zeros(up.size)
    for steps, weight in STEPS.items():
        matrix = np.zeros((3 * states + 1, up.size), order="F")
        matrix[states:] = bands * (slot_s / steps)
        matrix[2 * states] += 1.0
        factors, pivots, _ = dgbtrf(matrix, states, states, overwrite_ab=True)
        now = reward.ravel()
        for _ in range(steps):
            now, _ = dgbtrs(factors, states, states, now, pivots)
            total += weight / steps * now
    each = total.reshape(up.shape)
    if states == 1:
        return each[..., 0]
    anywhere = leaving[..., ::-1] / leaving.sum(axis=-1, keepdims=True)
    mean: Array = (each * anywhere).sum(axis=-1)
    return mean

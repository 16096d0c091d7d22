"""The queue against queueing theory: means and quantiles inside 99 % confidence intervals of the known results."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("simpy", reason="needs orric[sim]")

from orric.simulation.arrivals import poisson
from orric.simulation.discipline import Discipline
from orric.simulation.queueing import Queue

REQUESTS = 2_000_000
BATCHES = 40
NORMAL_99 = 2.576


def waits(load: float, workers: int, exponential: bool, seed: int) -> tuple[np.ndarray, float]:
    """Serve Poisson arrivals of that load by workers whose mean service takes a second; return waits and rate."""
    rng = np.random.default_rng(seed)
    rate = load * workers
    length = REQUESTS / rate
    queue, found, begin_s = Queue(Discipline(workers=workers), recorded=True), [], 0.0
    for end_s, arrivals in poisson(rng.poisson(REQUESTS), 0.0, length, rng):
        factors = rng.standard_exponential(len(arrivals)) if exponential else None
        row, label = np.array([[end_s, 1.0, 1.0, 0, 0, 0, 0]]), np.zeros((1, 2), np.int64)
        times = queue.advance(begin_s, row, label, arrivals, 0.0, 1.0, factors).times_s
        found.append(times[np.argsort(times[:, 0], kind="stable")])
        begin_s = end_s
    times = np.concatenate(found)
    return (times[:, 1] - times[:, 0])[len(times) // 50 :], rate


def check(batch_means: np.ndarray, theory: float) -> None:
    """Assert that theory lies in the 99 % confidence interval of batch means, and that the interval says something."""
    half = stats.t.ppf(0.995, len(batch_means) - 1) * batch_means.std(ddof=1) / math.sqrt(len(batch_means))
    assert abs(batch_means.mean() - theory) < half
    assert half < 0.08 * theory


def m_d_c(load: float, workers: int) -> tuple[float, float]:
    """Return mean wait and probability of a wait of M/D/c, service 1, by Crommelin's chain a service time apart."""
    rate, most = load * workers, 40 * workers + 200
    jumps = stats.poisson.pmf(np.arange(most + 1), rate)
    chain = np.zeros((most + 1, most + 1))
    for number in range(most + 1):
        left = max(number - workers, 0)
        chain[number, left:] = jumps[: most + 1 - left]
        chain[number, most] += 1 - chain[number].sum()
    system = np.vstack([(chain.T - np.eye(most + 1)), np.ones(most + 1)])
    present = np.linalg.lstsq(system, np.append(np.zeros(most + 1), 1.0), rcond=None)[0]
    queued = (np.maximum(np.arange(most + 1) - workers, 0) * present).sum()
    # Arrivals of a Poisson process find what there is on average.
    return float(queued / rate), float(1 - present[:workers].sum())


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8, 0.9])
def test_m_m_1(load: float) -> None:
    """The wait exceeds t with probability load exp(-(1 - load) t)."""
    found, _ = waits(load, 1, True, 1)
    batches = np.array_split(found, BATCHES)
    check(np.array([batch.mean() for batch in batches]), load / (1 - load))
    for part in (0.9, 0.99):
        check(np.array([np.quantile(batch, part) for batch in batches]), math.log(load / (1 - part)) / (1 - load))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8, 0.9])
def test_m_d_1(load: float) -> None:
    """Pollaczek and Khinchine: load / (2 (1 - load)); Erlang's distribution of the wait for the quantiles."""
    found, _ = waits(load, 1, False, 2)
    batches = np.array_split(found, BATCHES)
    check(np.array([batch.mean() for batch in batches]), load / (2 * (1 - load)))

    def not_longer(t: float) -> float:
        terms = [
            (load * (k - t)) ** k / math.factorial(k) * math.exp(-load * (k - t)) for k in range(math.floor(t) + 1)
        ]
        return (1 - load) * math.fsum(terms)

    for time in (0.5, 1.0, 2.5):
        check(np.array([(batch > time).mean() for batch in batches]), 1 - not_longer(time))


@pytest.mark.parametrize(("load", "workers"), [(0.5, 2), (0.8, 2), (0.8, 4), (0.9, 8)])
def test_m_d_c(load: float, workers: int) -> None:
    """Crommelin's stationary number present gives the mean wait by Little's law, and who waits at all."""
    found, _ = waits(load, workers, False, 3)
    batches, (mean, waiting) = np.array_split(found, BATCHES), m_d_c(load, workers)
    check(np.array([batch.mean() for batch in batches]), mean)
    check(np.array([(batch > 1e-9).mean() for batch in batches]), waiting)


def m_m_1_present(load: float, speeds: tuple[float, float], times: tuple[float, float], most: int = 400) -> np.ndarray:
    """Return how likely each number present is after two times of different speeds, from an empty start.

    By the forward equations.
    """
    present = np.zeros(most + 1)
    present[0] = 1.0
    for speed, time in zip(speeds, times, strict=True):
        # Uniformised: a Poisson number of jumps of a chain that steps at the sum of both rates.
        total = load + speed
        jumps = stats.poisson(total * time)
        vector, mixed = present, np.zeros(most + 1)
        for n in range(int(jumps.ppf(1 - 1e-12)) + 2):
            mixed = mixed + jumps.pmf(n) * vector
            up, down = np.zeros(most + 1), np.zeros(most + 1)
            up[1:], up[-1] = load / total * vector[:-1], up[-1] + load / total * vector[-1] + load / total * vector[-2]
            down[:-1] = speed / total * vector[1:]
            down[0] += speed / total * vector[0]
            vector = up + down
        present = mixed
    return present


def test_m_m_1_with_a_change_of_speed() -> None:
    """Mean number present after a slow and then a fast time; a request in service goes on at the new speed."""
    load, speeds, times, runs = 0.8, (0.6, 1.3), (12.0, 6.0), 40_000
    rng, present = np.random.default_rng(4), np.empty(runs)
    edge, end = times[0], sum(times)
    stretches = np.array([[edge, speeds[0], 1.0, 0, 0, 0, 0], [end, speeds[1], 1.0, 0, 0, 0, 0]])
    labels = np.zeros((2, 2), np.int64)
    for run in range(runs):
        arrivals = np.sort(rng.random(rng.poisson(load * end))) * end
        queue = Queue()
        queue.advance(0.0, stretches, labels, arrivals, 0.0, 1.0, rng.standard_exponential(len(arrivals)))
        present[run] = queue.waiting
    theory, batches = m_m_1_present(load, speeds, times), np.array_split(present, BATCHES)
    check(np.array([batch.mean() for batch in batches]), float((np.arange(len(theory)) * theory).sum()))
    for number in (0, 3, 8):
        check(np.array([(batch > number).mean() for batch in batches]), float(theory[number + 1 :].sum()))

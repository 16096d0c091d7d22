"""Arrivals through the whole simulator against queueing theory: the same law for short slots and for long ones.

Every figure comes from independent runs, and theory must lie in the 99 % interval of their mean.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

pytest.importorskip("simpy", reason="needs orric[sim]")

import orric

from ..builders import build_profile, build_scenario, write_profile
from .test_engine import Fixed

RUNS = 12
MEAN_S = 2e-3
# Slots, and how long they are: what is short here is a few bursts long.
SLOTS = [(160, 5.0), (1, 3600.0)]
VARIATION = 1.5
every_slot = pytest.mark.parametrize(("slots", "slot_s"), SLOTS, ids=["short", "long"])
Law = tuple[float, float]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile whose first inference takes MEAN_S at the whole GPU."""
    batches = tuple({"inference": f"i{k}", "fixed_s": 0.0, "each_s": MEAN_S} for k in range(3))
    return write_profile(build_profile(batch_latency=batches), tmp_path_factory.mktemp("theory") / "profile.toml")


def latencies(path: Path, load: float, slots: int, slot_s: float, **stream: Any) -> np.ndarray:
    """Return mean and 99th percentile of the latencies of each run, in seconds, shape (RUNS, 2)."""
    scenario = build_scenario(
        path, slots=slots, slot_s=slot_s, budget={"kind": "constant", "fraction": 1.0},
        requests={"kind": "rate", "per_s": load / MEAN_S}, **stream,
    )  # fmt: skip
    found = []
    for seed in range(100, 100 + RUNS):
        latency = orric.simulate(scenario, Fixed("r0", "i0", inference_share=1.0), seed=seed).latency
        found.append((latency.mean_s, latency.quantile(0.99)))
    return np.array(found)


def check(runs: np.ndarray, theory: Law, widest: float) -> None:
    """Assert that theory lies in the 99 % intervals, and that these say something."""
    half = stats.t.ppf(0.995, len(runs) - 1) * runs.std(axis=0, ddof=1) / math.sqrt(len(runs))
    assert (np.abs(runs.mean(axis=0) - theory) < half).all(), (runs.mean(axis=0) / theory, half / theory)
    assert (half < widest * np.array(theory)).all(), half / theory


def m_m_1(load: float) -> Law:
    """The time in system is exponential."""
    mean = MEAN_S / (1 - load)
    return mean, mean * math.log(100)


def m_g_1(load: float, law: stats.rv_continuous) -> Law:
    """Pollaczek and Khinchine: the wait is a geometric sum of what is left of a service, found on a grid."""
    step, size = 0.004, 2**19
    edges = np.arange(size + 1) * step
    # Mass within a step stands in its middle; what is left has density 1 - F.
    rest = law.sf(edges[:-1] + step / 2) * step
    service = np.diff(law.cdf(edges))
    wait = (1 - load) / (1 - load * np.fft.rfft(rest / rest.sum()))
    system = np.cumsum(np.fft.irfft(wait * np.fft.rfft(service), size))
    place = float(np.interp(0.99, system, edges[1:]))
    mean = 1 + load * law.moment(2) / (2 * (1 - load))
    return mean * MEAN_S, place * MEAN_S


def g_m_1(load: float, variation: float) -> Law:
    """The time in system is exponential at rate (1 - sigma) / service, sigma the root of A*((1 - sigma) / service)."""
    shape = variation**-2
    sigma = optimize.brentq(lambda s: (1 + (1 - s) / (shape * load)) ** -shape - s, 0.0, 1 - 1e-9)
    mean = MEAN_S / (1 - sigma)
    return mean, mean * math.log(100)


def mmpp_m_1(load: float, ratio: float, burst_s: float, calm_s: float) -> Law:
    """Matrix-geometric (Neuts): pi_n = pi_0 R^n, R the least solution of A0 + R A1 + R^2 A2 = 0."""
    # In units of a service.
    out = np.array([MEAN_S / calm_s, MEAN_S / burst_s])
    part = burst_s / (burst_s + calm_s)
    calm = load / (1 + (ratio - 1) * part)
    rates = np.diag([calm, ratio * calm])
    chain = np.array([[-out[0], out[0]], [out[1], -out[1]]])
    local = chain - rates - np.eye(2)
    found, before = np.zeros((2, 2)), np.ones((2, 2))
    while np.abs(found - before).max() > 1e-14:
        before = found
        found = -rates @ np.linalg.inv(local + found)
    left = np.linalg.inv(np.eye(2) - found)
    # The number present balances while nobody is there, and is some number.
    balance = np.column_stack([(chain - rates + found)[:, 0], left @ np.ones(2)])
    empty = np.linalg.solve(balance.T, [0.0, 1.0])
    mean = float(empty @ found @ left @ left @ np.ones(2)) / load
    # Who finds n there leaves after n + 1 exponential services.
    most = 20_000
    finds, state = np.empty(most), empty
    for n in range(most):
        finds[n], state = state @ rates @ np.ones(2) / load, state @ found
    assert abs(finds.sum() - 1) < 1e-6
    longer = finds[::-1].cumsum()[::-1]

    def late(time: float) -> float:
        """P(T > t) = sum over k of P(k services done by t) P(n >= k)."""
        return float(stats.poisson.pmf(np.arange(most), time) @ longer) - 0.01

    return mean * MEAN_S, optimize.brentq(late, 1.0, most / 2) * MEAN_S


@every_slot
@pytest.mark.parametrize("load", [0.5, 0.8])
def test_m_m_1(path: Path, load: float, slots: int, slot_s: float) -> None:
    runs = latencies(path, load, slots, slot_s, arrivals="poisson", service={"variability": "exponential"})
    check(runs, m_m_1(load), 0.04)


@every_slot
@pytest.mark.parametrize("load", [0.5, 0.8])
def test_m_g_1(path: Path, load: float, slots: int, slot_s: float) -> None:
    width = math.sqrt(math.log1p(VARIATION**2))
    theory = m_g_1(load, stats.lognorm(width, scale=math.exp(-(width**2) / 2)))
    service = {"variability": "log-normal", "variation": VARIATION}
    check(latencies(path, load, slots, slot_s, arrivals="poisson", service=service), theory, 0.07)


@every_slot
@pytest.mark.parametrize("variation", [0.5, 2.5])
def test_g_m_1(path: Path, variation: float, slots: int, slot_s: float) -> None:
    given = {"arrivals": "gamma", "gamma": {"variation": variation}, "service": {"variability": "exponential"}}
    check(latencies(path, 0.8, slots, slot_s, **given), g_m_1(0.8, variation), 0.07)


@every_slot
@pytest.mark.parametrize(("load", "ratio", "burst_s", "calm_s"), [(0.5, 6.0, 0.05, 0.45), (0.7, 4.0, 0.05, 0.2)])
def test_mmpp_m_1(
    path: Path, load: float, ratio: float, burst_s: float, calm_s: float, slots: int, slot_s: float
) -> None:
    burst = {"ratio": ratio, "burst_s": burst_s, "calm_s": calm_s}
    given = {"arrivals": "bursty", "burst": burst, "service": {"variability": "exponential"}}
    check(latencies(path, load, slots, slot_s, **given), mmpp_m_1(load, ratio, burst_s, calm_s), 0.08)


def test_theory_agrees_with_itself() -> None:
    """Where one law is a case of another, both say the same."""
    for load in (0.3, 0.8):
        plain = m_m_1(load)
        for other in (g_m_1(load, 1.0), mmpp_m_1(load, 1.0, 0.1, 0.4), m_g_1(load, stats.expon())):
            assert other == pytest.approx(plain, rel=2e-3)

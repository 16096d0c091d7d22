"""Work-conserving sharing against queueing theory: known means inside 99 % intervals of batch means.

With as many workers as requests a stream's share is divided among all of them, which is processor sharing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("simpy", reason="needs orric[sim]")

import orric
from orric.scenario import Gpu, Stream

from ..builders import build_profile, write_profile

REQUESTS, BATCHES, WARMUP = 300_000, 40, 2
CAPACITY = 1e9


class Constant(orric.Allocator):
    """Give every stream the same in every slot: its share of retraining and that of inference."""

    name = "constant"

    def __init__(self, retraining: str, shares: Sequence[tuple[float, float]]) -> None:
        self.retraining, self.shares = retraining, shares

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        return orric.Allocation(
            tuple(orric.StreamAllocation(self.retraining, "i0", serving, learning) for learning, serving in self.shares)
        )


def sojourns(
    folder: Path,
    sharing: dict[str, Any],
    streams: Sequence[tuple[float, float]],
    shares: Sequence[tuple[float, float]],
    retraining: str = "r0",
    **changes: Any,
) -> np.ndarray:
    """Simulate Poisson arrivals; return the mean time from arrival to answer by slot and stream.

    Args:
        folder: For the profiles.
        sharing: Of the GPU.
        streams: Arrivals per second and mean seconds of work of every stream.
        shares: Of retraining and of inference.
        retraining: Which configuration: "r1" keeps every stream retraining all the time.
        changes: Of all streams.
    """
    slots = BATCHES + WARMUP
    slot_s = REQUESTS / sum(rate for rate, _ in streams) / slots
    tables = []
    for k, (rate, work_s) in enumerate(streams):
        profile = build_profile(
            # A slot's retraining takes most of the GPU's time in a slot: more than serving leaves.
            retraining=((0.0, 0.0), (0.1, 0.8 / len(streams) * CAPACITY / rate)),
            inference=((1.0, 1.0),),
            batch_latency=({"inference": "i0", "fixed_s": 0.0, "each_s": work_s},),
        )
        path = write_profile(profile, folder / f"{k}.toml")
        table = {
            "name": f"s{k}", "profile": str(path), "gpu": "gpu0", "arrivals": "poisson",
            "requests": {"kind": "rate", "per_s": rate}, "workers": 1024, "retraining": {"overrun": "continue"},
        }  # fmt: skip
        tables.append(Stream(**table | changes))
    gpu = Gpu(macs_per_s=CAPACITY, budget={"kind": "constant", "fraction": 1.0}, sharing=sharing)
    scenario = orric.Scenario(
        name="theory", slots=slots, slot_s=slot_s, allocators=("orric",), gpu=(gpu,), stream=tuple(tables)
    )
    result = orric.simulate(scenario, Constant(retraining, shares), seed=5)
    return result.columns["latency_mean_s"].reshape(slots, len(streams))[WARMUP:]


def check(batch_means: np.ndarray, theory: float) -> None:
    """Assert that theory lies in the 99 % confidence interval of batch means, and that the interval says something."""
    half = stats.t.ppf(0.995, len(batch_means) - 1) * batch_means.std(ddof=1) / math.sqrt(len(batch_means))
    assert abs(batch_means.mean() - theory) < half
    assert half < 0.08 * theory


LAWS = (
    {"variability": "none"},
    {"variability": "exponential"},
    {"variability": "log-normal", "variation": 2.0},
    {"variability": "empirical", "csv": "times.csv"},
)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law["variability"])
def test_the_mean_under_processor_sharing_is_insensitive_to_the_service_law(law: dict, tmp_path: Path) -> None:
    """M/G/1-PS: E[S] / (1 - load), whatever the law."""
    if "csv" in law:
        # Most requests are short, a few thirty times as long.
        (tmp_path / "times.csv").write_text("seconds\n" + "1\n" * 19 + "30\n")
        law = law | {"csv": str(tmp_path / "times.csv")}
    found = sojourns(tmp_path, {"model": "weighted"}, [(0.7, 1.0)], [(0.0, 1.0)], service=law)
    check(found[:, 0], 1.0 / (1 - 0.7))


@pytest.mark.parametrize("weight", [0.5, 0.8, 0.95, 1 - 1e-9])
def test_discriminatory_processor_sharing(weight: float, tmp_path: Path) -> None:
    """Two classes of exponential work: Fayolle, Mitrani and Iasnogorodski (1980), who give two linear equations.

    T_k (1 - sum_j c_kj) - sum_j c_kj T_j = 1 / mu_k, with c_kj = lambda_j g_j / (mu_j g_j + mu_k g_k).
    """
    rates, works_s, weights = np.array([0.3, 0.2]), np.array([1.0, 2.0]), np.array([weight, 1 - weight])
    speeds = weights / works_s
    c = rates * weights / (speeds + speeds[:, None])
    theory = np.linalg.solve(np.diag(1 - c.sum(axis=1)) - c, works_s)
    # The limit of the weights is priority: the first class does not see the second.
    if weight > 0.99:
        assert theory[0] == pytest.approx(1 / (1 - 0.3), rel=1e-6)
    found = sojourns(
        tmp_path, {"model": "weighted", "per": "batch"}, list(zip(rates.tolist(), works_s.tolist(), strict=True)),
        [(0.0, one) for one in weights.tolist()], service={"variability": "exponential"},
    )  # fmt: skip
    for k in range(2):
        check(found[:, k], float(theory[k]))


def test_what_retraining_leaves_while_it_is_always_under_way(tmp_path: Path) -> None:
    """Weighted sharing with a class that always has work: M/M/1 at serving's part of the weights."""
    found = sojourns(
        tmp_path, {"model": "weighted"}, [(0.4, 1.0)], [(0.3, 0.7)], "r1", service={"variability": "exponential"}
    )
    check(found[:, 0], 1 / (0.7 - 0.4))


@pytest.mark.parametrize(("grain_s", "slowdown"), [(0.0, 1.0), (3.0, 1.0), (1.5, 1.3)])
def test_grains_of_retraining_are_the_vacations_of_an_m_d_1_queue(
    grain_s: float, slowdown: float, tmp_path: Path
) -> None:
    """Multiple vacations (Doshi 1986): they add half a vacation to the wait of the queue without."""
    found = sojourns(
        tmp_path, {"model": "priority", "grain_s": grain_s, "slowdown": slowdown}, [(0.5, 1.0)], [(0.5, 0.5)], "r1",
        workers=1,
    )  # fmt: skip
    load = 0.5 * slowdown
    check(found[:, 0], slowdown * (1 + load / (2 * (1 - load))) + grain_s / 2)

"""Report whether latencies under orric's arrivals are those under the same processes made otherwise.

usage: python tests/benchmarks/arrivals.py [--effort 1.0]      (10 minutes on one core; 0.1 for a look)

The other makes each process by another algorithm than orric: bursts by order statistics within each state of the chain,
self-excitement generation by generation, as families. Its arrivals go one by one through a single server that takes
the same time for each. That server is SimPy's for the first 20,000 requests of each process and load, and beyond them
Lindley's recursion, which must agree with SimPy. What is told is the difference of the mean quantiles of 64 runs, with
its 99 % interval. Both draw independently, but for when bursts begin and end: those are given to both by the same
random numbers, since the luck of bursts would else hide all differences. Beside it stands what given counts of 20 or
600 requests in each slot would have told, instead of drawn ones.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numba
import numpy as np
import simpy
from scipy import stats

import orric
from orric.latency import LatencyHistogram
from orric.randomness import generator
from orric.simulation.arrivals import Arrivals

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.builders import build_profile, build_scenario, write_profile  # noqa: E402
from tests.simulation.test_engine import Fixed  # noqa: E402

PER_S = 10.0
# Requests of a slot on average, where counts are drawn: the simulator is asked for few slots.
LONG = 36_000
LOADS = (0.5, 0.7, 0.85, 0.95)
TARGET = 0.02
QUANTILES = (0.5, 0.99)
PLAIN = 20_000
RUNS = 64
# Requests of all runs at the highest load, times the weight of a case; elsewhere fewer, as a queue remembers less.
REQUESTS, LEAST = 40_000_000, 0.35
# Of runs with given counts: what they are off by shows with few.
FEW = 1_000_000
SERVICE_S = 0.04
ROW = "{:28} {:>5} {:>8} {:>8} {:>13} {:>13} {:6} {:>14} {:>9}"
Times = np.ndarray[Any, np.dtype[np.float64]]


def poisson(rng: np.random.Generator, per_s: float, end_s: float) -> Times:
    """So many as chance has it, and each anywhere."""
    return np.sort(rng.uniform(0.0, end_s, rng.poisson(per_s * end_s)))


def gamma(rng: np.random.Generator, per_s: float, end_s: float, variation: float) -> Times:
    """Gaps one after another, from so long before the run that its begin is anywhere."""
    shape = variation**-2
    before_s = 1000 * variation**2 / per_s
    count = int(per_s * (end_s + before_s) + 20 * variation * math.sqrt(per_s * end_s))
    times = rng.gamma(shape, 1 / (shape * per_s), count).cumsum() - before_s
    return times[(times >= 0) & (times < end_s)]


def bursty(
    rng: np.random.Generator, per_s: float, end_s: float, ratio: float, burst_s: float, calm_s: float, seed: int
) -> Times:
    """Lengths of bursts and calms; in each a number that is Poisson, and each of them anywhere in it."""
    calm = per_s * (burst_s + calm_s) / (ratio * burst_s + calm_s)
    pairs = int(end_s / (burst_s + calm_s) * 1.2) + 1000
    chain = generator(seed, "arrivals", 0, 0, 1)
    first = chain.random() < burst_s / (burst_s + calm_s)
    in_burst = np.arange(2 * pairs) % 2 == (0 if first else 1)
    lengths = chain.standard_exponential(2 * pairs) * np.where(in_burst, burst_s, calm_s)
    ends = lengths.cumsum()
    counts = rng.poisson(np.where(in_burst, ratio * calm, calm) * lengths)
    times = np.repeat(ends - lengths, counts) + rng.random(counts.sum()) * np.repeat(lengths, counts)
    return np.sort(times[times < end_s])


def hawkes(rng: np.random.Generator, per_s: float, end_s: float, branching: float, decay_s: float) -> Times:
    """Ancestors are Poisson; each has a Poisson number of children, who come exponentially later; and so on."""
    before_s = 60 * decay_s / (1 - branching)
    ancestors = rng.poisson(per_s * (1 - branching) * (end_s + before_s))
    generation = rng.uniform(-before_s, end_s, ancestors)
    families = [generation]
    while len(generation):
        children = rng.poisson(branching, len(generation))
        generation = np.repeat(generation, children) + rng.exponential(decay_s, children.sum())
        families.append(generation)
    times = np.concatenate(families)
    return np.sort(times[(times >= 0) & (times < end_s)])


@dataclass(frozen=True)
class Case:
    """A process: how the other makes it, what a scenario says, and how many requests it takes until luck evens out."""

    name: str
    make: Callable[..., Times]
    given: tuple[float, ...] = ()
    stream: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0


def _bursts(name: str, ratio: float, burst_s: float, calm_s: float) -> Case:
    burst = {"ratio": ratio, "burst_s": burst_s, "calm_s": calm_s}
    return Case(name, bursty, (ratio, burst_s, calm_s), {"arrivals": "bursty", "burst": burst}, 4.0)


CASES = (
    Case("Poisson", poisson, (), {"arrivals": "poisson"}, 2.0),
    Case("gamma, variation 0.5", gamma, (0.5,), {"arrivals": "gamma", "gamma": {"variation": 0.5}}),
    Case("gamma, variation 2", gamma, (2.0,), {"arrivals": "gamma", "gamma": {"variation": 2.0}}, 6.0),
    Case("Hawkes, branching 0.5", hawkes, (0.5, 10.0), {"arrivals": "hawkes"}, 8.0),
    _bursts("edge-server's bursts", 8.0, 2.0, 18.0),
    _bursts("rush-hour's bursts", 6.0, 3.0, 12.0),
    _bursts("bursts of 10 s, calm of 90 s", 10.0, 10.0, 90.0),
)


@numba.njit
def lindley(times: Times, service_s: float) -> Times:
    """Return how long each request is there, one after another being served."""
    found = np.empty(len(times))
    free_s = 0.0
    for n in range(len(times)):
        free_s = max(free_s, times[n]) + service_s
        found[n] = free_s - times[n]
    return found


def by_simpy(times: Times, service_s: float) -> Times:
    """Return the same from SimPy."""
    environment, found = simpy.Environment(), np.empty(len(times))
    server = simpy.Resource(environment)

    def request(number: int) -> Any:
        with server.request() as turn:
            yield turn
            yield environment.timeout(service_s)
        found[number] = environment.now - times[number]

    def source() -> Any:
        for number, time_s in enumerate(times.tolist()):
            yield environment.timeout(time_s - environment.now)
            environment.process(request(number))

    environment.process(source())
    environment.run()
    return found


def quantiles(latencies: LatencyHistogram) -> list[float]:
    """Return the quantiles that are compared."""
    return [latencies.quantile(part) for part in QUANTILES]


def simulated(path: Path, case: Case, load: float, requests: int, seed: int) -> LatencyHistogram:
    """Return latencies in orric's simulator."""
    scenario = build_scenario(
        path, slots=requests // LONG, slot_s=LONG / PER_S,
        requests={"kind": "rate", "per_s": PER_S}, budget={"kind": "constant", "fraction": 1.0}, **case.stream,
    )  # fmt: skip
    # The profile's service takes SERVICE_S at the whole GPU.
    share = SERVICE_S * PER_S / load
    return orric.simulate(scenario, Fixed("r0", "i0", inference_share=share), seed=seed).latency


def off_by(path: Path, case: Case, load: float, truth_s: float, per_slot: int) -> str:
    """Return by how many % the 99th percentile is off where the count of each slot is given."""
    slots, slot_s = FEW // per_slot, per_slot / PER_S
    requests = {"kind": "constant", "per_slot": per_slot}
    scenario = build_scenario(path, slots=slots, slot_s=slot_s, requests=requests, **case.stream)
    times = np.concatenate([times for slot in in_turn(scenario) for times in slot])
    latencies = LatencyHistogram.of(lindley(times, load / PER_S))
    return f"{100 * (latencies.quantile(0.99) / truth_s - 1):+.0f}"


def in_turn(scenario: orric.Scenario) -> Iterator[list[Times]]:
    """Yield the arrivals of each slot."""
    arrivals = Arrivals(scenario, 0, 1, np.ones(scenario.slots), np.zeros(scenario.slots))
    for slot in range(1, scenario.slots + 1):
        yield [times for _, times in arrivals.windows(slot)]


def speed(path: Path, case: Case) -> float:
    """Return how many arrivals are drawn in a second."""
    requests = {"kind": "rate", "per_s": 1000.0}
    scenario = build_scenario(path, slots=100, slot_s=100.0, requests=requests, **case.stream)
    begun = time.perf_counter()
    drawn = sum(len(times) for slot in in_turn(scenario) for times in slot)
    return drawn / (time.perf_counter() - begun)


def compared(path: Path, case: Case, load: float, effort: float) -> tuple[Times, Times, Times]:
    """Return the other's quantiles in seconds, by which part orric's are off, and the half of that's interval."""
    remembered = max(((1 - LOADS[-1]) / (1 - load)) ** 2, LEAST)
    # Whole slots.
    requests = LONG * max(round(effort * REQUESTS * case.weight * remembered / RUNS / LONG), 1)
    theirs, ours = [], []
    for run in range(RUNS):
        seed = 1000 + run
        rng = np.random.default_rng((run, round(100 * load), CASES.index(case)))
        times = case.make(rng, PER_S, requests / PER_S, *case.given, **({"seed": seed} if case.make is bursty else {}))
        found = lindley(times, load / PER_S)
        if run == 0:
            plain = by_simpy(times[:PLAIN], load / PER_S)
            assert np.abs(plain - found[: len(plain)]).max() < 1e-6, "Lindley and SimPy disagree"
        theirs.append(quantiles(LatencyHistogram.of(found)))
        ours.append(quantiles(simulated(path, case, load, requests, seed)))
    truth_s, apart_s = np.mean(theirs, axis=0), np.subtract(ours, theirs)
    half_s = stats.t.ppf(0.995, RUNS - 1) * apart_s.std(axis=0, ddof=1) / math.sqrt(RUNS)
    return truth_s, apart_s.mean(axis=0) / truth_s, half_s / truth_s


def main() -> int:
    """Print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effort", type=float, default=1.0, help="what the number of requests is multiplied by")
    effort, missed = parser.parse_args().effort, 0
    print("differences in %, with 99 % intervals; at most 2 % is met")
    titles = ("process", "load", "p50 (s)", "p99 (s)", "p50", "p99", "", "p99, 20 given", "600 given")
    print(ROW.format(*titles))
    with tempfile.TemporaryDirectory() as folder:
        batches = tuple({"inference": f"i{k}", "fixed_s": 0.0, "each_s": SERVICE_S} for k in range(3))
        path = write_profile(build_profile(batch_latency=batches), Path(folder) / "profile.toml")
        for case in CASES:
            for load in LOADS:
                truth_s, off, half = compared(path, case, load, effort)
                met = bool((np.abs(off) <= TARGET).all())
                missed += not met
                counted = ["", ""]
                if case.stream["arrivals"] in ("poisson", "bursty"):
                    counted = [off_by(path, case, load, float(truth_s[1]), per_slot) for per_slot in (20, 600)]
                figures = [f"{100 * one:+.2f} ± {100 * wide:.2f}" for one, wide in zip(off, half, strict=True)]
                seconds = [f"{one:.3f}" for one in truth_s]
                print(ROW.format(case.name, load, *seconds, *figures, "met" if met else "MISSED", *counted), flush=True)
            print(f"{case.name}: {speed(path, case):.2g} arrivals drawn a second", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

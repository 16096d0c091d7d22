"""Report how far simulated latencies are off a real server that shares a core with real retraining.

usage: python tests/benchmarks/latency.py [--seconds 10] [--repeats 3] [--loads 0.2,0.5,0.7,0.85]
(15 minutes; leave the machine alone)

On one core a server runs the digits teacher in ONNX Runtime (27.8 MMACs, a third of a millisecond), request by request
or in batches, and a trainer labels, trains and swaps a student without end; they take turns in rounds of 100 ms.
Requests come at random times, the same in every run. The simulator gets the same times, what a batch of each size takes
where the server is alone, and what is lost at the begin of a turn, measured before each real run. The levels differ in
the server's share of the core, in its load and in the size of batches.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import orric
from orric.allocators.base import Slot
from orric.allocators.streams import MultiStreamAllocator
from orric.calibration.colocation import Requests, Served, Server, Turns, colocated, cores
from orric.calibration.measurement import switch_seconds
from orric.configuration import Allocation, StreamAllocation
from orric.profile import BatchLatency, Profile
from orric.records import Observation
from orric.retraining.models import exported

ROOT = Path(__file__).resolve().parents[2]
ROUND_S, INFERENCE = 0.1, "32px"
TARGET, SPREADS = 0.10, 2.0
QUANTILES = (0.5, 0.99)
ALONE = Turns(ROUND_S, 1.0)
SATURATED_S, ALONE_S, SWITCHES = 0.5, 1.5, 20


@dataclass(frozen=True)
class Level:
    """A level of load: requests per second are `load` of what the server's share can do in full batches."""

    share: float
    load: float
    most: int


LOADS = "0.2,0.5,0.7,0.85"


class FixedShares(MultiStreamAllocator):
    """Give serving a share, and retraining the rest."""

    name = "fixed-shares"

    def __init__(self, share: float) -> None:
        self.share = share

    def decide(self, slot: Slot) -> Allocation:
        one = StreamAllocation("5%", INFERENCE, inference_share=self.share, retraining_share=1 - self.share)
        return Allocation((one,), "as told")

    def observe(self, record: Observation) -> None:
        """Nothing changes the shares."""


def simulated(
    profile: Profile, batch: BatchLatency, switch_s: float, level: Level, arrivals_s: np.ndarray, seconds: float
) -> np.ndarray:
    """Return the latencies of the requests in the simulator, in seconds."""
    # The simulated GPU is a thousand times the device, so that the budget is ample and shares alone count.
    slowed = batch.model_copy(update={"fixed_s": 1e3 * batch.fixed_s, "each_s": 1e3 * batch.each_s})
    profile = profile.model_copy(update={"batch_latency": (slowed,)})
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        profile.save(here / "profile.toml")
        # Retraining takes the samples of the slot before, so there is one, with a request.
        times = np.concatenate([[0.0], seconds + arrivals_s])
        (here / "arrivals.csv").write_text("arrival_s\n" + "\n".join(f"{time:.9f}" for time in times) + "\n")
        (here / "scenario.toml").write_text(f"""
format = 1
name = "level"
slots = 2
slot_s = {seconds}
allocators = ["orric"]
[[gpu]]
macs_per_s = {1e3 * profile.device.macs_per_s}
budget = {{ kind = "constant", fraction = 1.0 }}
sharing = {{ model = "time-slice", round_s = {ROUND_S}, switch_s = {switch_s} }}
[[stream]]
name = "requests"
profile = "profile.toml"
requests = {{ timestamps = "arrivals.csv" }}
arrivals = "timestamps"
batch = {{ most = {level.most} }}
""")
        scenario = orric.load_scenario(here / "scenario.toml")
        result = orric.simulate(scenario, FixedShares(level.share), seed=1, record=True)
    windows = result.request_times["requests"]
    arrived, _, finished = np.concatenate([window.times_s for window in windows]).T
    there = arrived >= seconds
    return np.asarray(finished[there] - arrived[there])


def saturated_s(server: Server, size: int) -> float:
    """Return the mean seconds of a batch where the server is alone and always has requests."""
    batches = max(round(SATURATED_S / 4e-4 / size), 8)
    return float(server.run(Requests(np.zeros(batches * size), size), ALONE)[-1] / batches)


def fixed_s(server: Server, each: float, requests: Requests) -> float:
    """Return what a batch takes beyond its requests where the server is alone, at the load of these requests.

    A server that waits for a request sleeps, and is slower then at the next than one in a rush.
    """
    done = server.run(requests, ALONE)
    finished, first, sizes = np.unique(done, return_index=True, return_counts=True)
    begun = np.maximum(requests.arrivals_s[first], np.concatenate([[0.0], finished[:-1]]))
    return max(float(np.mean(finished - begun - each * sizes)), 0.0)


def main() -> None:
    """Measure, simulate, compare."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a run [10]")
    parser.add_argument("--repeats", type=int, default=3, help="real runs of a level [3]")
    parser.add_argument("--loads", default=LOADS, help=f"parts of what the share can do [{LOADS}]")
    asked = parser.parse_args()
    loads = [float(load) for load in asked.loads.split(",")]
    levels = [Level(share, load, most) for most in (1, 16) for share in (0.5, 0.8) for load in loads]
    if len(cores()) < 2:
        sys.exit("latency: two cores are needed, one for whoever keeps the time")
    profile = Profile.load(ROOT / "traces/profiles/digits.toml")
    assert profile.models is not None
    served = Served(exported(profile.beside(profile.models.teacher), "teacher", 10), 32)
    headings = f"{'batch':>6}{'share':>7}{'load':>6}{'per s':>8}{'fixed':>7}{'each':>7}{'switch':>7}"
    headings += "".join(f"{name:>9}{'sim':>9}{'error':>8}" for name in ("p50 ms", "p99 ms"))
    print(f"{headings}{'allowed':>9}")
    errors, medians, missed = [], 0, 0
    with colocated(profile, [served], beside=True) as server:
        for number, level in enumerate(levels):
            turns, arrivals_s, real, told = Turns(ROUND_S, level.share), None, [], []
            # What the simulator is told and what it is held against take turns: a machine that slows down slows both.
            for _ in range(asked.repeats):
                single, whole = (saturated_s(server, size) for size in (1, level.most))
                each = single if level.most == 1 else (whole - single) / (level.most - 1)
                if arrivals_s is None:
                    rate, rng = level.load * level.share * level.most / whole, np.random.default_rng([1, number])
                    arrivals_s = np.sort(rng.uniform(0, 0.98 * asked.seconds, int(rate * 0.98 * asked.seconds)))
                fixed = fixed_s(server, each, Requests(arrivals_s[arrivals_s < ALONE_S], level.most))
                told.append((fixed, each, switch_seconds(server, turns, SWITCHES * ROUND_S)))
                real.append(np.quantile(server.run(Requests(arrivals_s, level.most), turns) - arrivals_s, QUANTILES))
            fixed, each, switch_s = np.mean(told, axis=0).tolist()
            batch = BatchLatency(inference=INFERENCE, fixed_s=fixed, each_s=each)
            found = np.quantile(simulated(profile, batch, switch_s, level, arrivals_s, asked.seconds), QUANTILES)
            middle, spread = np.median(real, axis=0), np.ptp(real, axis=0) / np.median(real, axis=0)
            error = found / middle - 1
            within, allowed = (max(TARGET, SPREADS * float(one)) for one in spread)
            errors.append(abs(error[0]))
            medians += abs(error[0]) > within
            missed += abs(error[1]) > allowed
            print(
                f"{level.most:6}{level.share:7.2f}{level.load:6.2f}{rate:8.0f}"
                f"{1e6 * fixed:7.1f}{1e6 * each:7.1f}{1e6 * switch_s:7.0f}"
                f"{1e3 * middle[0]:9.2f}{1e3 * found[0]:9.2f}{100 * error[0]:+7.1f}%"
                f"{1e3 * middle[1]:9.2f}{1e3 * found[1]:9.2f}{100 * error[1]:+7.1f}%{100 * allowed:8.1f}%",
                flush=True,
            )
    print(
        f"p50: median error {100 * np.median(errors):.1f} % (target {100 * TARGET:.0f}), {len(levels) - medians} of "
        f"{len(levels)} levels within the larger of 10 % and twice the spread; p99: {len(levels) - missed} "
        f"of {len(levels)} levels within the larger of 10 % and twice the spread of real runs"
    )


if __name__ == "__main__":
    main()

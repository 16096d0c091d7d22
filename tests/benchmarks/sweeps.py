"""Report what sweeps cost: slot-model runs by the thousand, their memory, and the overhead beside the simulator.

usage: python tests/benchmarks/sweeps.py [--most 100000]      (about three minutes up to 100,000 runs; 20 for a million)

Slot model: scenarios of 1,000 slots, drawn by Latin hypercube, under ORRIC and three heuristics; one row per run. The
table goes from a hundred runs to `--most`. Simulator: the time of a sweep against that of its runs alone, one after
the other, on one core. Beside the 10,000 runs stands what the same take with a row of every slot.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from orric.comparison import simulate_line
from orric.sweep import Sweep, check_all, on_cores, run_sweep

ROOT = Path(__file__).resolve().parents[2]
ALLOCATORS = ("orric", "inference-only", "inference-greedy", "retraining-greedy")
SLOTS, TARGET_S, TARGET_BYTES, TARGET_OVERHEAD = 1000, 20.0, 1.5e9, 0.05
RUNS = (100, 1_000, 10_000, 100_000, 1_000_000)
SWEEP = """
format = 1
name = "speed"
scenario = "{scenario}"
engine = "{engine}"
allocators = [{allocators}]
seeds = {seeds}
per_slot = {per_slot}
{axes}
"""
DRAWN = """
[sample]
count = {count}
[[axis]]
name = "low"
key = "gpu.1.budget.low"
uniform = [0.094, 0.5]
[[axis]]
name = "high"
key = "gpu.1.budget.high"
uniform = [0.5, 1.0]
[[axis]]
key = "slots"
values = [{slots}]
"""


def write_sweep(folder: Path, engine: str, seeds: int, axes: str, scenario: Path, per_slot: bool = False) -> Path:
    """Write a sweep file."""
    names = ", ".join(f'"{name}"' for name in ALLOCATORS)
    path = folder / "sweep.toml"
    kept = str(per_slot).lower()
    text = SWEEP.format(scenario=scenario, engine=engine, allocators=names, seeds=seeds, axes=axes, per_slot=kept)
    path.write_text(text)
    return path


def one(path: Path, output: Path, jobs: int) -> None:
    """Run a sweep in this process, and print its runs, seconds and the largest memory of all its processes."""
    begun = time.perf_counter()
    engine = on_cores(jobs)
    sweep = Sweep.load(path)
    check_all(sweep, engine)
    most = 0

    def look() -> None:
        nonlocal most
        here = psutil.Process()
        every = [here, *here.children(recursive=True)]
        most = max(most, sum(process.memory_full_info().uss for process in every if process.is_running()))

    outcome = run_sweep(sweep, output, engine, lambda state: look())
    look()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(outcome.runs, time.perf_counter() - begun, max(most, own), len(outcome.failures))


def measured(path: Path, output: Path, jobs: int) -> tuple[int, float, float]:
    """Run a sweep in a process of its own: its runs, seconds with all that is loaded, and bytes."""
    begun = time.perf_counter()
    command = [sys.executable, __file__, "--one", str(path), str(output), str(jobs)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    runs, _, most, failed = text.split()
    assert failed == "0", text
    return int(runs), time.perf_counter() - begun, float(most)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--most", type=int, default=100_000, help="runs of the largest sweep [100000]")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(Path(asked.one[0]), Path(asked.one[1]), int(asked.one[2]))
        return
    scenario = ROOT / "simulations/quickstart.toml"
    print(f"slot model, {SLOTS} slots a run, one row per run, two workers, everything from the start of Python on")
    print(f"{'runs':>10}{'seconds':>10}{'us per slot':>13}{'GB':>7}{'MiB on disk':>13}")
    asked_for = [(number, False) for number in RUNS if number <= asked.most]
    if (10_000, False) in asked_for:
        asked_for.insert(asked_for.index((10_000, False)) + 1, (10_000, True))
    for runs, per_slot in asked_for:
        with tempfile.TemporaryDirectory() as folder:
            axes = DRAWN.format(count=runs // len(ALLOCATORS), slots=SLOTS)
            path = write_sweep(Path(folder), "slot-model", 1, axes, scenario, per_slot)
            number, seconds, most = measured(path, Path(folder) / "out", 2)
            disk = sum(file.stat().st_size for file in (Path(folder) / "out").rglob("*") if file.is_file())
            target = f"   target {TARGET_S:g} s" if runs == 10_000 else ""
            target = "   with a row of every slot" if per_slot else target
            print(
                f"{number:10,}{seconds:10.1f}{1e6 * seconds / number / SLOTS:13.3f}{most / 1e9:7.2f}"
                f"{disk / 2**20:13.1f}{target}",
                flush=True,
            )
    with tempfile.TemporaryDirectory() as folder:
        axes = '[[axis]]\nkey = "slots"\nvalues = [100, 200]\n'
        path = write_sweep(Path(folder), "simulator", 10, axes, ROOT / "simulations/edge-server.toml")
        sweep = Sweep.load(path)
        scenarios = [sweep.scenario_of(point) for point in range(len(sweep.points))]
        simulate_line(scenarios[0], "curve", "orric", 1)  # compile
        begun = time.perf_counter()
        for scenario_now in scenarios:
            for name in ALLOCATORS:
                for seed in sweep.first_seeds:
                    simulate_line(scenario_now, "curve", name, seed)
        alone = time.perf_counter() - begun
        begun = time.perf_counter()
        run_sweep(sweep, Path(folder) / "out", on_cores(1))
        swept = time.perf_counter() - begun
    print(
        f"simulator, {2 * len(ALLOCATORS) * 10} runs: {alone:.1f} s alone, {swept:.1f} s as a sweep, overhead "
        f"{100 * (swept / alone - 1):+.1f} % (target {100 * TARGET_OVERHEAD:g} %)"
    )


if __name__ == "__main__":
    main()

"""Replay the Azure LLM inference traces of 2023 on two GPUs, and report what retraining costs the tail of latencies.

usage: python tests/benchmarks/azure.py ../shared/data/azure_llm_2023 [--output azure.png]      (some seconds)

Eight streams share two GPUs: four take every fourth request of the conversation trace, four of the code trace. Only
the times of arrival are theirs; what is served are the digits profile's images. Time is compressed so that serving all
requests at the best configuration takes 0.5, 0.7 and 0.9 of both GPUs. ORRIC decides, each stream under its part of the
budget; retraining runs at twice the share that would fill the slot, as far as the budget allows, so that a slot has a
part with and a part without it, and what it leaves speeds up serving. The GPUs are hard partitions, then shared by
weights, then inference goes first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

import orric
from orric.latency import LatencyHistogram
from orric.report.server import PHASES, latency_by_phase

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "traces/profiles/digits.toml"
FILES = {"conversation": "AzureLLMInferenceTrace_conv.csv", "code": "AzureLLMInferenceTrace_code.csv"}
LOADS = (0.5, 0.7, 0.9)
SLOT_S, CAPACITY, PARTS, GPUS = 20.0, 5e7, 4, 2
COLUMNS = ("p50", "p99", "p99.9")
SHARINGS = {"hard partition": "fluid", "weighted": "weighted", "priority": "priority"}


class Hasty(orric.Orric):
    """ORRIC with retraining in half of the slot, where the budget allows."""

    name = "orric"

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        allocation = super().decide(slot)
        (one,), stream = allocation.streams, self.task.streams[0]
        costs = {choice.name: choice.cost_macs for choice in (*stream.retraining, *stream.inference)}
        whole = CAPACITY * SLOT_S
        need = slot.requests[0] * costs[one.retraining] / whole
        serving = slot.requests[0] * costs[one.inference] / whole
        share = max(min(2 * need, slot.budgets_macs[0] / whole - serving), need)
        return replace(allocation, streams=(replace(one, retraining_share=share),))


def imported(source: Path, folder: Path) -> dict[str, Path]:
    """Turn the published files into timestamps by the command that everybody has."""
    found = {}
    for name, file in FILES.items():
        found[name] = folder / f"{name}.csv"
        command = [sys.executable, "-m", "orric", "trace", "import", str(source / file), "--format", "azure-llm-2023"]
        subprocess.run([*command, "--as", "timestamps", "--output", str(found[name])], check=True, capture_output=True)
    return found


def scenario(files: dict[str, Path], load: float, sharing: str) -> tuple[orric.Scenario, float]:
    """Return the scenario of a load, and by how much its time is compressed."""
    profile = orric.Profile.load(PROFILE)
    dearest = max(one.cost_macs for one in profile.inference)
    traces = {name: orric.Timestamps.load(path) for name, path in files.items()}
    lasts = max(float(trace.arrival_s[-1]) for trace in traces.values())
    work_s = sum(trace.requests for trace in traces.values()) * dearest / CAPACITY
    speedup = load * GPUS * lasts / work_s
    streams = [
        {
            "name": f"{name}-{part}",
            "profile": str(PROFILE),
            "requests": {"timestamps": str(path), "speedup": speedup, "part": part, "parts": PARTS},
            "arrivals": "timestamps",
            "forecast": "ewma",
            "gpu": f"gpu{(part - 1) % GPUS}",
            "deadline_s": 1.0,
            "drift": {"kind": "steps", "corruption": "fog", "severities": [1, 2, 3, 4, 5]},
        }
        for name, path in files.items()
        for part in range(1, PARTS + 1)
    ]
    table = {
        "name": f"azure-{load:g}",
        "slots": max(int(lasts / speedup / SLOT_S), 1),
        "slot_s": SLOT_S,
        "allocators": ["orric"],
        "spare": "inference",
        "gpu": [
            {
                "name": f"gpu{n}", "macs_per_s": CAPACITY, "budget": {"kind": "constant", "fraction": 1.0},
                "power": {"idle_w": 20.0, "busy_w": 70.0}, "sharing": {"model": sharing},
            }
            for n in range(GPUS)
        ],
        "stream": streams,
    }  # fmt: skip
    return orric.Scenario(**table), speedup


def quantiles(parts: list[LatencyHistogram]) -> list[float]:
    """Return the columns' quantiles of several histograms together, in milliseconds."""
    return [1e3 * value for value in LatencyHistogram.merged(parts).quantiles([0.5, 0.99, 0.999])]


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of the published files")
    parser.add_argument("--output", type=Path, help="figure of the lowest load, shared by weights, to write (PNG)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        files = imported(options.source, Path(folder))
        for load, (title, sharing) in product(LOADS, SHARINGS.items()):
            subject, speedup = scenario(files, load, sharing)
            result = orric.simulate(subject, Hasty())
            without = orric.simulate(subject, orric.InferenceOnly())
            columns = result.columns
            groups = {"all": list(result.latencies)} | {name: [name] for name in result.latencies}
            answers.append(
                {
                    "load": load,
                    "sharing": title,
                    "speedup": speedup,
                    "slots": subject.slots,
                    "requests": float(columns["requests"].sum()),
                    "accuracy": result.mean_accuracy,
                    "accuracy_without": without.mean_accuracy,
                    "in_time": result.in_time_accuracy,
                    "in_time_without": without.in_time_accuracy,
                    "overload": str(result.overload),
                    "retrained": float((columns["retrained"] > 0).mean()),
                    "latencies_ms": {
                        group: {
                            **{
                                phase: quantiles([result.latencies[name][n] for name in names])
                                for n, phase in enumerate(PHASES)
                            },
                            "without retraining": quantiles([h for name in names for h in without.latencies[name]]),
                        }
                        for group, names in groups.items()
                    },
                }
            )
            if options.output and (load, sharing) == (LOADS[0], "weighted"):
                figure = latency_by_phase(result, without)
                assert figure is not None
                figure.savefig(options.output, format="png")
    if options.json:
        print(json.dumps(answers))
        return
    for one in answers:
        print(
            f"\nload {one['load']:g}, {one['sharing']}: time compressed {one['speedup']:.1f} times, "
            f"{one['slots']} slots of {SLOT_S:g} s, {one['requests']:,.0f} requests; retraining done in "
            f"{one['retrained']:.0%} of the slots; accuracy {one['accuracy']:.2%}, "
            f"{one['accuracy_without']:.2%} without retraining; in time {one['in_time']:.2%}, "
            f"{one['in_time_without']:.2%} without; {one['overload']}"
        )
        print(f"{'latency in ms':18}" + "".join(f"{phase:^27}" for phase in one["latencies_ms"]["all"]))
        print(f"{'stream':18}" + "".join(f"{column:>9}" for _ in one["latencies_ms"]["all"] for column in COLUMNS))
        for group, phases in one["latencies_ms"].items():
            cells = np.concatenate(list(phases.values()))
            print(f"{group:18}" + "".join(f"{cell:9.1f}" for cell in cells))


if __name__ == "__main__":
    main()

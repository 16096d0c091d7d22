"""Report by how much slot model and simulator part as the load goes from 0.5 to 1.2.

usage: python tests/benchmarks/load.py      (some seconds)

One stream of the digits profile under fog, 50 slots of a minute. Load is what the requests cost at the best
configuration, divided by the budget. The slot model knows neither waiting nor forecasts; in the simulator requests
arrive as uploads, or by a Poisson or bursty process whose counts are outcomes (the slot model is given these), and the
allocator is told the truth or the slot before. At loads above 1 the allocator falls back to cheaper configurations.
What the budget leaves over speeds up serving. The GPU is a hard partition, and then shared by weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import orric
from orric.comparison import simulate
from orric.slot_model import evaluate

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "traces/profiles/digits.toml"
LOADS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
REQUESTS, SLOTS, SLOT_S = 1000, 50, 60.0
SHARINGS = {"hard partition": "fluid", "weighted": "weighted"}
CASES = (
    ("uploads", "upload", "oracle"),
    ("Poisson, truth told", "poisson", "oracle"),
    ("Poisson, slot before", "poisson", "last"),
    ("bursty, slot before", "bursty", "last"),
)


def scenario(load: float, arrivals: str, forecast: str, sharing: str) -> orric.Scenario:
    """Return the scenario of a load."""
    dearest = max(one.cost_macs for one in orric.Profile.load(PROFILE).inference)
    budget = REQUESTS * dearest / load
    count = "exact" if arrivals == "upload" else "drawn"
    return orric.Scenario(
        name="load",
        slots=SLOTS,
        slot_s=SLOT_S,
        allocators=("orric",),
        spare="inference",
        gpu=(
            {
                "macs_per_s": 2 * budget / SLOT_S,
                "budget": {"kind": "constant", "fraction": 0.5},
                "sharing": {"model": sharing},
            },
        ),
        stream=(
            {
                "name": "camera",
                "profile": str(PROFILE),
                "requests": {
                    "kind": "uniform",
                    "low": REQUESTS * 8 // 10,
                    "high": REQUESTS * 12 // 10,
                    "count": count,
                },
                "arrivals": arrivals,
                "forecast": forecast,
                "drift": {"kind": "steps", "corruption": "fog", "severities": [1, 2, 3, 4, 5]},
                "deadline_s": 10.0,
            },
        ),
    )


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--allocator", default="orric", choices=sorted(orric.ALLOCATORS))
    options = parser.parse_args()
    print(f"mean accuracy in %, {options.allocator}; differences from the slot model in points; late: after 10 s")
    print("(the slot model of uploads; each difference is from the slot model that is given the same counts)")
    for title, sharing in SHARINGS.items():
        print(f"\n{title}\n{'load':>5}{'slot model':>12}" + "".join(f"{label:>24}{'late %':>8}" for label, *_ in CASES))
        for load in LOADS:
            cells, first = [], None
            for _, arrivals, forecast in CASES:
                subject = scenario(load, arrivals, forecast, sharing)
                result = simulate(subject, orric.make_allocator(options.allocator), seed=1)
                modelled = evaluate(
                    subject.profile, subject.trace(1), orric.make_allocator(options.allocator), overload="shed"
                )
                first = first or modelled.mean_accuracy
                late = float(result.late.sum() / result.served.sum())
                cells.append(f"{100 * (result.mean_accuracy - modelled.mean_accuracy):>+24.3f}{100 * late:>8.1f}")
            print(f"{load:>5g}{100 * first:>12.3f}" + "".join(cells))


if __name__ == "__main__":
    main()

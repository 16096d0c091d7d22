"""What planning for more requests than are forecast costs in accuracy, and what it saves in late requests.

usage: python tests/benchmarks/headroom.py [--seeds N] [--output PICTURE]        (five minutes on two cores)

The scenario `cameras` by the learning curve, with headroom 0 to 0.4 for all streams.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import orric
from orric.comparison import simulate_line
from orric.report.canvas import clean, figure_of, title
from orric.workers import in_parallel

ROOT = Path(__file__).resolve().parents[2]
ALLOCATORS = {
    "orric-guided": ("#009E73", "o"),
    "worst-first": ("#CC79A7", "s"),
    "orric": ("#0072B2", "D"),
    "orric-joint": ("#56B4E9", "^"),
    "thief": ("#E69F00", "v"),
    "fair-share": ("#8a8a8a", "P"),
    "inference-only": ("#D55E00", "X"),
}
HEADROOMS = (0.0, 0.1, 0.2, 0.3, 0.4)


def measure(allocator: str, headroom: float, seed: int) -> tuple[str, float, tuple[float, float, float]]:
    """Return mean accuracy, late requests and in-time accuracy (%) of one run."""
    scenario = orric.load_scenario(ROOT / "simulations/cameras.toml")
    streams = tuple(one.model_copy(update={"headroom": headroom}) for one in scenario.stream)
    summary = simulate_line(scenario.model_copy(update={"stream": streams}), "curve", allocator, seed).summary()
    figures = (summary["mean_accuracy"], summary["late"] / summary["requests"], summary["in_time_accuracy"])
    return allocator, headroom, (100 * figures[0], 100 * figures[1], 100 * figures[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", type=Path, help="draw the figure, too (PNG)")
    given = parser.parse_args()
    calls = [(name, part, seed) for name in ALLOCATORS for part in HEADROOMS for seed in range(1, given.seeds + 1)]
    found: dict[tuple[str, float], list[tuple[float, float, float]]] = {}
    for _, (name, part, figures) in in_parallel(measure, calls):
        found.setdefault((name, part), []).append(figures)
    means = {key: np.mean(sorted(values), axis=0) for key, values in found.items()}
    print("mean accuracy (%) / late requests (%) / in-time accuracy (%) by headroom")
    print(f"{'allocator':16}" + "".join(f"{part:>21.0%}" for part in HEADROOMS))
    for name in ALLOCATORS:
        print(f"{name:16}" + "".join("{:9.1f} /{:4.1f} /{:4.1f}".format(*means[name, part]) for part in HEADROOMS))
    if given.output is None:
        return
    figure = figure_of(5.0)
    axes = figure.add_subplot()
    for name, (colour, marker) in ALLOCATORS.items():
        accuracy, late, _ = np.array([means[name, part] for part in HEADROOMS]).T
        axes.plot(late, accuracy, color=colour, marker=marker, markersize=5, linewidth=1.8, label=name)
        axes.annotate("no headroom", (late[0], accuracy[0]), (5, -2), textcoords="offset points", fontsize=7)
    axes.set_xlabel("Requests later than 5 s (%); along each line the headroom falls from 40 % to none")
    axes.set_ylabel("Mean accuracy over all requests (%)")
    axes.set_xlim(left=0)
    clean(axes)
    axes.legend(frameon=False, fontsize=8.5, loc="center right")
    ours, theirs = means["orric-guided", 0.2], means["thief", 0.0]
    title(
        figure,
        f"orric-guided with 20 % headroom has {ours[0]:.0f} % right and "
        f"{ours[1]:.0f} % late, the thief with none {theirs[0]:.0f} % right and {theirs[1]:.0f} % late",
    )
    figure.savefig(given.output, dpi=150)


if __name__ == "__main__":
    main()

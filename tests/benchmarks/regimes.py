"""Search the worst ratios of ORRIC and Inference-Only regime by regime: budget, horizon, drift, spread of requests.

Prints a table and, with --output, draws the figure of docs/background/competitive.md. The profile is the shipped
digits one with F = f(A^T_max) and L = f'(A^T_max), which makes the proved bounds as sharp as the curve permits.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import orric
from orric.competitive.study import worst_ratio
from orric.report.canvas import clean, figure_of, title
from orric.report.plots import STYLES
from orric.workers import in_parallel

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("orric", "inference-only")
SLOTS, REQUESTS = 20, 1000.0
DRIFT = (0.9, 0.8, 0.683, 0.5, 0.3)
BUDGET = (0.05, 0.08, 0.1, 0.2, 0.5, 1.0)
HORIZON = (2, 5, 10, 20, 50, 100)
SPREAD = (1.0, 0.5, 0.2, 0.1, 0.05)


def sharp(start: float | None = None) -> orric.Profile:
    """Return the digits profile with F and L as the curve has them, and the curve scaled to another f(0)."""
    profile = orric.Profile.load(ROOT / "traces/profiles/digits.toml")
    curve = profile.curve
    assert isinstance(curve, orric.Power)
    if start is not None:
        top = float(curve(1.0))
        lift = (top - start) / (top - float(curve(0.0)))
        curve = curve.model_copy(
            update={"a": curve.a * lift, "c": top + curve.a * lift * (1 + curve.b) ** -curve.alpha}
        )
    changes = {"curve": curve, "best_accuracy": float(curve(1.0)), "slope_floor": float(curve.slope(1.0))}
    return profile.model_copy(update={**changes, "drift_curve": ()})


def cases() -> list[tuple[str, float, orric.Profile, orric.TraceRange]]:
    """Return regime, its value, profile and range of traces."""
    base = sharp()
    cheapest = REQUESTS * min(one.cost_macs for one in base.inference)
    dearest = REQUESTS * (max(one.cost_macs for one in base.inference) + max(one.cost_macs for one in base.retraining))

    def ranges(slots: int = SLOTS, least: float = 1.0, budget: float = 1.0) -> orric.TraceRange:
        return orric.TraceRange(slots, (least * REQUESTS, REQUESTS), (cheapest, budget * dearest))

    return [
        *(("largest budget / dearest pair", part, base, ranges(budget=part)) for part in BUDGET),
        *(("slots T", float(slots), base, ranges(slots=slots)) for slots in HORIZON),
        *(("accuracy before retraining f(0)", start, sharp(start), ranges()) for start in DRIFT),
        *(("least / most requests", least, base, ranges(least=least)) for least in SPREAD),
    ]


def measured(
    profile: orric.Profile, ranges: orric.TraceRange, evaluations: int, seed: int
) -> tuple[dict[str, float], orric.Bounds]:
    """Search both allocators' worst ratios; return their high ends and the proved bounds."""
    requests = np.full(ranges.slots, ranges.requests[1])
    requests[0] = ranges.requests[0]
    proved = orric.bounds(
        profile, orric.Trace(requests=requests, budget_macs=np.full(ranges.slots, ranges.budget_macs[1]))
    )
    return {name: worst_ratio(profile, ranges, name, evaluations, seed=seed)[1] for name in NAMES}, proved


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=5000, help="ratios measured per search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=None)
    parser.add_argument("--output", type=Path, help="figure to write (PNG)")
    options = parser.parse_args()
    every = cases()
    answers: dict[int, tuple[dict[str, float], orric.Bounds]] = {}
    calls = [(profile, ranges, options.evaluations, options.seed) for _, _, profile, ranges in every]
    for number, answer in in_parallel(measured, calls, options.jobs):
        answers[number] = answer
        print(f"{len(answers)} of {len(every)} searches done", file=sys.stderr)
    print(f"{'regime':32} {'value':>8} {'ORRIC':>8} {'alone':>8} {'thm 4':>8} {'thm 2':>8} {'thm 3':>8}")
    for number, (regime, value, _, _) in enumerate(every):
        worst, proved = answers[number]
        print(
            f"{regime:32} {value:8g} {worst['orric']:8.4f} {worst['inference-only']:8.4f} "
            f"{proved.theorem4:8.4f} {proved.theorem2:8.4f} {proved.theorem3:8.4f}"
        )
    if options.output:
        draw(every, answers).savefig(options.output, format="png")


def draw(every: list, answers: dict) -> object:
    """Draw one panel per regime."""
    regimes = list(dict.fromkeys(regime for regime, *_ in every))
    figure = figure_of(6.6)
    lines = {}
    for axes, regime in zip(figure.subplots(2, 2).ravel(), regimes, strict=True):
        clean(axes)
        rows = sorted((value, *answers[n]) for n, (kind, value, *_) in enumerate(every) if kind == regime)
        values = [value for value, *_ in rows]
        for name, label, marker in (
            ("orric", "Found: ORRIC", "o"),
            ("inference-only", "Inference-Only", "s"),
        ):
            (lines[label],) = axes.plot(
                values, [worst[name] for _, worst, _ in rows], color=STYLES[name]["color"], marker=marker, linewidth=1.6
            )
        for name, label, bounds in (
            ("orric", "Proved: ORRIC ≥", [proved.theorem4 for *_, proved in rows]),
            ("inference-only", "Inference-Only ≥", [proved.theorem2 for *_, proved in rows]),
        ):
            (lines[label],) = axes.plot(values, bounds, color=STYLES[name]["color"], linestyle="--", linewidth=1.2)
        axes.set_xlabel(regime)
        if regime != "accuracy before retraining f(0)":
            axes.set_xscale("log")
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.minorticks_off()
    for axes in figure.axes[::2]:
        axes.set_ylabel("competitive ratio")
    gains = [worst["orric"] - worst["inference-only"] for worst, _ in answers.values()]
    least = "never below it" if min(gains) > -1e-6 else f"at most {-min(gains):.3f} below it"
    title(figure, f"ORRIC's worst case: up to {max(gains):.3f} above Inference-Only's, {least}", lines)
    return figure


if __name__ == "__main__":
    main()

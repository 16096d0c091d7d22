"""The figures of a run that a sweep keeps: one row per run, the same columns from both engines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A figure of a run.

    Attributes:
        title: For tables and figures, with its unit.
        factor: What it is multiplied by for showing: 100 for percents.
        better: 1 where more is better, -1 where less is, 0 where neither.
    """

    title: str
    factor: float
    better: int


MEASURES = {
    "mean_accuracy": Measure("accuracy (%)", 100.0, 1),
    "in_time_accuracy": Measure("in-time accuracy (%)", 100.0, 1),
    "worst_stream_accuracy": Measure("worst stream's accuracy (%)", 100.0, 1),
    "worst_stream_in_time_accuracy": Measure("worst stream's in-time accuracy (%)", 100.0, 1),
    "last_severity_accuracy": Measure("accuracy, last severity (%)", 100.0, 1),
    "latency_p50_s": Measure("p50 latency (s)", 1.0, -1),
    "latency_p99_s": Measure("p99 latency (s)", 1.0, -1),
    "energy_j": Measure("energy (J)", 1.0, -1),
    "requests": Measure("requests", 1.0, 0),
    "served": Measure("served", 1.0, 1),
    "answered": Measure("answered (%)", 100.0, 1),
    "in_time": Measure("in time", 1.0, 1),
    "late": Measure("late", 1.0, -1),
    "shed": Measure("shed", 1.0, -1),
    "abandoned": Measure("abandoned", 1.0, -1),
    "lost": Measure("lost", 1.0, -1),
    "waiting": Measure("waiting at the end", 1.0, -1),
    "overloaded": Measure("overloaded runs (%)", 100.0, -1),
    "budget_used": Measure("budget used (%)", 100.0, 0),
    "retraining_part": Measure("of it retraining (%)", 100.0, 0),
    "retrained": Measure("slots with retraining (%)", 100.0, 0),
    "macs_per_request": Measure("MACs per request", 1.0, -1),
    "ratio_low": Measure("competitive ratio, low end", 1.0, 1),
    "ratio_high": Measure("competitive ratio, high end", 1.0, 1),
}
# The ends of the competitive ratio, for which the offline optimum must be enclosed: known where a sweep asks for them.
RATIOS = ("ratio_low", "ratio_high")
# What the slot model does not know.
UNKNOWN_TO_SLOTS = ("latency_p50_s", "latency_p99_s", "energy_j")

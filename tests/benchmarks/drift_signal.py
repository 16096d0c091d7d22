"""Correlate what is known without true labels with true accuracy: attention, agreement, confidence.

usage: python tests/benchmarks/drift_signal.py [--data FOLDER] [--images N] [--seeds N]

Over five corruptions at five severities each, of a frozen student and of one retrained on as many slots under the same
corruption and severity: one point for each corruption, severity and student. attention: how alike the places are that
student and teacher look at. agreement: the part of images on which they predict the same. confidence: the mean
probability of what the student predicts. With --data FOLDER on CIFAR-10, else on the digits; some minutes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from orric.explanation.attention import Attention
from orric.explanation.drifting import FROZEN, RETRAINED, SIGNALS, correlation, signals_of
from orric.profile import Profile
from orric.randomness import generator
from orric.retraining.accuracy import drifted
from orric.retraining.loop import Student
from orric.retraining.sampling import sampled
from orric.selection.sampling import Sampling
from orric.vision.datasets import FULL_PX
from orric.workers import in_parallel

ROOT = Path(__file__).resolve().parents[2]
CORRUPTIONS = ("gaussian_noise", "defocus_blur", "fog", "contrast", "snow")
SLOTS, PER_SLOT, RATIO = 6, 200, 0.3


def measure(data: Path | None, corruption: str, severity: int, seed: int, images: int) -> list[dict[str, Any]]:
    """Return what is known of both students, and their true accuracy, on images that neither was trained on."""
    profile = Profile.load(ROOT / f"traces/profiles/{'digits' if data is None else 'cifar10-weather'}.toml")
    if data is not None:
        profile = profile.with_data(data)
    attention = Attention(profile, most=images)
    students = {FROZEN: Student(profile), RETRAINED: Student(profile)}
    dataset, student = students[FROZEN].dataset, students[RETRAINED]
    for slot in range(1, SLOTS + 1):
        shown, _ = drifted(dataset, seed, slot, PER_SLOT, corruption, severity, part="calibrated")
        rng = generator(seed, "retraining", 0, slot)
        sample = sampled(student, shown, Sampling(RATIO), rng)
        student.retrain(shown[sample.chosen], rng, sample.labels)
        student.swap()
    pixels, truth = drifted(dataset, seed, SLOTS + 1, images, corruption, severity)
    taught = student.label(pixels)
    return [
        {
            "corruption": corruption, "severity": severity, "student": name,
            "accuracy": float((one.classify(pixels, FULL_PX) == truth).mean()),
            **signals_of(one, attention, pixels, taught),
        }
        for name, one in students.items()
    ]  # fmt: skip


def correlated(rows: list[dict[str, Any]], signal: str) -> float:
    """Return the correlation of a signal with true accuracy over the points of several rows."""
    return correlation(np.array([row[signal] for row in rows]), np.array([row["accuracy"] for row in rows]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, help="Folder of CIFAR-10; left out, the digits.")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int)
    given = parser.parse_args()
    data = None if given.data is None else given.data.resolve()
    work = [
        (data, corruption, severity, seed, given.images)
        for corruption in CORRUPTIONS
        for severity in range(1, 6)
        for seed in range(1, given.seeds + 1)
    ]
    rows: list[dict[str, Any]] = []
    for number, (_, found) in enumerate(in_parallel(measure, work, given.jobs), start=1):
        rows += found
        print(f"{number} of {len(work)}", file=sys.stderr, flush=True)
    print(f"{'digits' if data is None else 'CIFAR-10'}, {given.images} images a point\n")
    print("| points | " + " | ".join(SIGNALS) + " |\n|---|" + "---|" * len(SIGNALS))
    groups = {
        f"frozen student ({len(rows) // 2})": [row for row in rows if row["student"] == FROZEN],
        f"retrained student ({len(rows) // 2})": [row for row in rows if row["student"] == RETRAINED],
        f"both ({len(rows)})": rows,
        **{
            f"{corruption}, both ({len(rows) // len(CORRUPTIONS)})": [r for r in rows if r["corruption"] == corruption]
            for corruption in CORRUPTIONS
        },
    }
    for name, group in groups.items():
        print(f"| {name} | " + " | ".join(f"{correlated(group, signal):+.3f}" for signal in SIGNALS) + " |")
    print("\n| mean over both students | accuracy | " + " | ".join(SIGNALS) + " |\n|---|---|" + "---|" * len(SIGNALS))
    for severity in range(1, 6):
        mine = [row for row in rows if row["severity"] == severity]
        means = [float(np.mean([row[key] for row in mine])) for key in ("accuracy", *SIGNALS)]
        print(f"| severity {severity} | " + " | ".join(f"{value:.3f}" for value in means) + " |")


if __name__ == "__main__":
    main()

"""Compare selectors in the real loop under drift at equal total budget, what selecting costs included.

usage: python tests/benchmarks/selecting.py [--data FOLDER] [--seeds N] [--corruptions NAME,...] [--output FILE]

At each sampling ratio uniform drawing sets the budget: its labels and its training. Every selector gets as many MACs
and pays from them the student's pass over all that it looks at and, where it judges by the teacher's labels, all of
those; what is left buys fewer samples. All students of a stream see the same images, so differences are taken stream by
stream. With --data FOLDER on CIFAR-10, else on the digits. What is done stands in FILE (JSON lines); a run that was
interrupted goes on from there. CIFAR-10: some twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import brentq

import orric
from orric.calibration.learning_run import Assignment, Plan, learning_runs
from orric.calibration.measurement import shortened
from orric.drift import SEVERITIES
from orric.profile import Profile
from orric.real_models import SelectorFigures, Training
from orric.retraining.models import macs_of
from orric.selection import SELECTORS
from orric.selection.sampling import Sampling
from orric.statistics import difference_p, holm, mean_interval
from orric.workers import in_parallel

ROOT = Path(__file__).resolve().parents[2]
RATIOS = (0.05, 0.1, 0.2)
POOL = 2.0
SLOTS, PER_SLOT = 25, 250
# Passes of the student over an image that it is trained on, and over one of the slot.
PASSES = Training().passes
CORRUPTIONS = {
    "cifar10": ("gaussian_noise", "defocus_blur", "fog", "contrast"),
    "digits": ("gaussian_noise", "defocus_blur", "fog", "contrast"),
}


def figures() -> dict[str, SelectorFigures]:
    """Return every selector that looks, judging by either's labels."""
    looking = [name for name, one in SELECTORS.items() if one.looks]
    return {
        f"{name}, {whose}": SelectorFigures(method=name, pool=POOL, labels=whose)
        for whose in ("student", "teacher")
        for name in looking
    }


def equal_ratio(ratio: float, one: SelectorFigures, student_macs: float, teacher_macs: float) -> float:
    """Return the part of the samples that a selector trains on for what uniform drawing costs at a ratio."""
    budget = Sampling(ratio).macs(student_macs, teacher_macs, PASSES)

    def dear(part: float) -> float:
        return Sampling.by(part, one).macs(student_macs, teacher_macs, PASSES) - budget

    return float(brentq(dear, 0.0, ratio))


def measure(data: Path | None, corruption: str, seed: int) -> list[dict[str, Any]]:
    """Run every selector at every budget through one stream."""
    profile = Profile.load(ROOT / f"traces/profiles/{'digits' if data is None else 'cifar10-weather'}.toml")
    if data is not None:
        profile = profile.with_data(data)
    assert profile.models is not None
    assert profile.teacher is not None
    profile = profile.model_copy(update={"selector": figures()})
    student_macs = macs_of(profile.beside(profile.models.student), "student", 10, 32)
    costs = student_macs, profile.teacher.cost_macs
    kept: list[tuple[str, float]] = [("frozen", 0.0), *(("uniform", ratio) for ratio in RATIOS)]
    plans = [Plan(0.0), *map(Plan, RATIOS)]
    for name, one in profile.selector.items():
        for ratio in RATIOS:
            kept.append((name, ratio))
            plans.append(Plan(equal_ratio(ratio, one, *costs), selector=name))
    runs = learning_runs(profile, Assignment(corruption, seed, tuple(plans)), SLOTS, PER_SLOT)
    return [
        {
            "corruption": corruption, "seed": seed, "selector": name, "ratio": ratio,
            "trained": round(float(run.plan.ratio) * PER_SLOT) / PER_SLOT,
            "accuracy": shortened(float(np.mean([run.at(severity).mean() for severity in SEVERITIES]))),
            "teacher": shortened(float(np.nanmean(run.taught))) if ratio else None,
        }
        for (name, ratio), run in zip(kept, runs, strict=True)
    ]  # fmt: skip


def table(rows: list[dict[str, Any]]) -> None:
    """Print accuracies of uniform drawing, and of every selector the difference from it."""
    seeds = sorted({row["seed"] for row in rows})

    def by_seed(name: str, ratio: float) -> np.ndarray[Any, Any]:
        return np.array(
            [
                np.mean([r["accuracy"] for r in rows if (r["selector"], r["ratio"], r["seed"]) == (name, ratio, seed)])
                for seed in seeds
            ]
        )

    names = list(dict.fromkeys(row["selector"] for row in rows if row["selector"] not in ("frozen", "uniform")))
    found = {(name, r): 100 * (by_seed(name, r) - by_seed("uniform", r)) for name in names for r in RATIOS}
    chances = dict(zip(found, holm([difference_p(one) for one in found.values()]), strict=True))
    print(f"| selector, judges by | {' | '.join(f'{ratio:.0%} of the samples' for ratio in RATIOS)} |")
    print("|---|" + "---|" * len(RATIOS))
    frozen = 100 * by_seed("frozen", 0.0).mean()
    bases = " | ".join(f"{100 * by_seed('uniform', ratio).mean():.2f} %" for ratio in RATIOS)
    print(f"| uniform (accuracy; frozen: {frozen:.2f} %) | {bases} |")
    for name in sorted(names, key=lambda name: -np.mean([found[name, ratio].mean() for ratio in RATIOS])):
        cells = []
        for ratio in RATIOS:
            one = mean_interval(found[name, ratio])
            trained = np.mean([r["trained"] for r in rows if (r["selector"], r["ratio"]) == (name, ratio)])
            star = " *" if chances[name, ratio] < 0.05 else ""
            cells.append(f"{one.mean:+.2f} ± {one.half_width:.2f}{star} ({trained:.1%})")
        print(f"| {name} | {' | '.join(cells)} |")
    print(
        f"\nPoints of accuracy against uniform drawing at equal budget, 95 % intervals over {len(seeds)} seeds, each "
        f"the mean over {len({row['corruption'] for row in rows})} corruptions; * beyond chance after Holm's "
        f"correction for {len(found)} comparisons; in brackets the part of the samples that was trained on."
    )
    for name in ("chg-shapley, student", "chg-shapley, teacher"):
        verdicts = []
        for ratio in RATIOS:
            one, sure = mean_interval(found[name, ratio]), chances[name, ratio] < 0.05
            verdicts.append(
                f"{'beats' if one.mean > 0 and sure else 'loses to' if sure else 'ties with'} at {ratio:.0%}"
            )
        print(f"{name} against uniform: {', '.join(verdicts)}")


def main() -> None:
    """Measure what is missing, and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, help="Folder of CIFAR-10; left out, the digits.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--corruptions", help="By commas.")
    parser.add_argument("--output", type=Path, default=Path("selectors.jsonl"))
    parser.add_argument("--jobs", type=int)
    given = parser.parse_args()
    names = CORRUPTIONS["digits" if given.data is None else "cifar10"]
    corruptions = tuple(given.corruptions.split(",")) if given.corruptions else names
    text = given.output.read_text() if given.output.exists() else ""
    given.output.write_text(text[: text.rfind("\n") + 1])  # an interrupted run may have left half a line
    known = [json.loads(line) for line in given.output.read_text().splitlines()]
    done = {(rows[0]["corruption"], rows[0]["seed"]): rows for rows in known}
    wanted = [(corruption, seed) for seed in range(1, given.seeds + 1) for corruption in corruptions]
    left = [one for one in wanted if one not in done]
    data = None if given.data is None else given.data.resolve()
    with given.output.open("a") as file:
        for number, (place, rows) in enumerate(in_parallel(measure, [(data, *one) for one in left], given.jobs), 1):
            file.write(json.dumps(rows) + "\n")
            file.flush()
            done[left[place]] = rows
            print(f"{number} of {len(left)} streams", file=sys.stderr, flush=True)
    what = "digits" if given.data is None else "CIFAR-10"
    print(f"orric {orric.__version__}, {what}, {', '.join(corruptions)}, pool {POOL:g}\n")
    table([row for one in wanted for row in done[one]])


if __name__ == "__main__":
    main()

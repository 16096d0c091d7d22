"""Report how far predictions are off the real loop, and whether retraining pays, on streams as cameras have them.

usage: python tests/benchmarks/lifelike.py --data FOLDER [--profiles FOLDER] [--streams fixed]
                                           [--statistics received] [--fallback] [--acceptance] [--output OUTPUT]
                                           [--jobs N]

FOLDER holds CIFAR-10 in a published layout. Drift takes turns between kinds of weather, goes back to clean images,
wanders, or rises; classes become rare; slots have 20 to 1,000 images; budgets are tight, middling or ample. `draw`
draws all that, and was settled, with its seed, before anything ran. Every allocator decides once, with the real models,
and the learning curve and the accuracy table predict on the same allocations. Five fixed streams, on which predictions
were once up to eleven points off, stand beside them. Test images of CIFAR-10 serve, none of which a profile was fitted
to. What retraining is worth is told beside the same allocations without their retraining, and beside Inference-Only,
which serves at other resolutions. Students are retrained as their profile says; --statistics received takes batch-norm
statistics from all images of a slot, --fallback lets the given student serve where as much is expected of it, and
--acceptance lets a new one serve only where held-out samples do not speak against it, while predictions and costs stay
those of the profile. Beside OUTPUT finished runs are kept, so that an interrupted report
goes on from there.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from prediction import ranking

import orric
from orric.allocators.replay import Recorded, Replayed
from orric.calibration.checkpoint import Checkpoint
from orric.calibration.plan import GROUPS
from orric.comparison import Model, accuracy_models
from orric.simulation.engine import simulate
from orric.workers import in_parallel

ROOT = Path(__file__).resolve().parents[2]
SEED, COUNT = 23, 20
# Three that retrain, none of which looks at what a retraining tells, and one that never does.
ALLOCATORS = ("orric", "uniform-50", "random", "inference-only")
FROZEN = "inference-only"
KINDS = ("turns", "returns", "walk", "rise")
BUDGETS = {"tight": (0.11, 0.3), "middling": (0.11, 0.7), "ample": (0.3, 1.0)}
FEW, MANY = 20, 1000
CLASSES = 10
# What a prediction is asked, in points: most of them, all of them; and when retraining pays or harms.
GOOD, PART_GOOD, WORST, TAU, SIGN, HARM = 2.5, 0.9, 6.0, 0.8, 0.95, 1.0

Setting = dict[str, Any]


def _drift(rng: np.random.Generator, kind: str, group: str) -> dict[str, Any]:
    """Return a drift of one kind, through corruptions that the profile has measured."""
    names = [str(one) for one in rng.permutation(GROUPS[group])]
    severities = rng.integers(1, 6, 5).tolist()
    if kind == "turns":
        turns = [*names[: int(rng.integers(1, 4))], "none"]
        order = [turns[at] for at in rng.permutation(len(turns))]
        return {
            "kind": "steps", "corruptions": order, "corruption_slots": int(rng.integers(2, 7)),
            "severities": severities,
        }  # fmt: skip
    if kind == "returns":
        # Clean again after every spell.
        return {"kind": "steps", "corruption": names[0], "severities": [one for s in severities[:3] for one in (s, 0)]}
    if kind == "walk":
        move, start = round(float(rng.uniform(0.2, 0.6)), 2), int(rng.integers(1, 6))
        walk: dict[str, Any] = {"kind": "random-walk", "low": 0, "high": 5, "move": move, "start": start}
        if rng.random() < 0.5:
            return {**walk, "corruptions": names[:2], "corruption_slots": int(rng.integers(3, 9))}
        return {**walk, "corruption": names[0]}
    return {"kind": "ramp", "corruption": names[0], "start": int(rng.integers(0, 3)), "end": int(rng.integers(3, 6))}


def draw(rng: np.random.Generator, number: int) -> Setting:
    """Draw a stream and the budgets beside it."""
    kind = KINDS[(number - 1) % len(KINDS)]
    group = str(rng.choice(["noise", "blur", "weather", "digital"]))
    drift = _drift(rng, kind, group)
    if rng.random() < 0.4:
        few = np.ones(CLASSES, int)
        few[rng.permutation(CLASSES)[: int(rng.integers(3, 8))]] = 0
        mixes = [[1] * CLASSES, (4 * few).tolist()]
        drift["labels"] = {"kind": "ramp", "mixes": mixes}
    mean = float(np.exp(rng.uniform(np.log(FEW), np.log(MANY))))
    requests: dict[str, Any] = {"kind": "constant", "per_slot": round(mean)}
    if rng.random() < 0.5:
        spread = float(rng.uniform(0.2, 0.8))
        requests = {"kind": "uniform", "low": round(mean * (1 - spread)), "high": round(mean * (1 + spread))}
    return {
        "name": f"{number}, {kind}", "group": group, "drift": drift, "requests": requests, "mean": mean,
        "budget": str(rng.choice(list(BUDGETS))), "slots": int(rng.choice([30, 40, 50])), "seed": 100 + number,
    }  # fmt: skip


def drawn() -> list[Setting]:
    """Return the streams of the study."""
    rng = np.random.default_rng(SEED)
    return [draw(rng, number) for number in range(1, COUNT + 1)]


def fixed() -> list[Setting]:
    """Return the streams on which predictions were once up to eleven points off."""
    walk = {
        "kind": "random-walk", "corruptions": ["snow", "none", "fog"], "corruption_slots": 4, "low": 1, "high": 5,
        "move": 0.6, "start": 3,
    }  # fmt: skip
    mixes = [[1] * CLASSES, [4, 4, 4, 0, 0, 0, 0, 0, 1, 1]]
    turns = {
        "kind": "steps", "corruptions": ["fog", "none", "snow"], "corruption_slots": 3, "severities": [2, 3, 4, 5, 3]
    }  # fmt: skip
    steps = {"kind": "steps", "corruption": "fog", "severities": [2, 3, 4, 5, 3]}
    many = {"kind": "bursty", "low": 30, "high": 300}
    walking: Setting = {
        "group": "weather", "budget": BUDGETS["middling"], "slots": 48, "seed": 77, "mean": 200.0, "requests": many
    }  # fmt: skip
    few: Setting = {"drift": {**walk, "labels": {"kind": "ramp", "mixes": mixes}}}
    settings = [
        {**walking, **few, "name": "walk in turns"},
        {**walking, "drift": walk, "name": "walk in turns, all classes"},
    ]
    for name, count, drift in (("turns", 200, turns), ("fog", 50, steps), ("fog of few", 20, steps)):
        setting: Setting = {"group": "weather", "budget": (0.11, 0.9), "slots": 30, "seed": 91, "mean": float(count)}
        requests = {"kind": "constant", "per_slot": count}
        settings.append({**setting, "name": name, "requests": requests, "drift": drift})
    return settings


def scenario_of(setting: Setting, data: Path, profiles: Path, changed: dict[str, Any]) -> orric.Scenario:
    """Return a setting as a scenario, with other keys of the profile's training."""
    file = profiles.resolve() / f"cifar10-{setting['group']}.toml"
    teacher = orric.Profile.load(file).teacher
    assert teacher is not None
    low, high = BUDGETS.get(setting["budget"], setting["budget"])
    slot_s = 60.0
    scenario = orric.Scenario(
        name="lifelike", slots=setting["slots"], slot_s=slot_s, spare="inference", allocators=ALLOCATORS,
        accuracy={"model": "onnx"},
        gpu=(
            {
                "macs_per_s": setting["mean"] * teacher.cost_macs / slot_s,
                "budget": {"kind": "uniform", "low": low, "high": high},
            },
        ),
        stream=(
            {
                "name": "camera", "profile": str(file), "requests": setting["requests"], "arrivals": "upload",
                "drift": setting["drift"],
            },
        ),
    )  # fmt: skip
    scenario = scenario.with_data(data)
    ((name, profile),) = scenario._profiles.items()
    training = profile.training.model_copy(update=changed)
    scenario._profiles = {name: profile.model_copy(update={"training": training})}
    return scenario


def measured(setting: Setting, allocator: str, data: Path, profiles: Path, changed: dict[str, Any]) -> dict[str, Any]:
    """Run one allocator in one setting under every accuracy model, and without its retraining."""
    models: list[Model] = ["onnx", "curve", "table"]
    found: dict[str, Any] = {"setting": setting["name"], "seed": setting["seed"], "allocator": allocator}
    scenario, seed = scenario_of(setting, data, profiles, changed), setting["seed"]
    deciding = Recorded(orric.make_allocator(allocator))
    for model in models:
        chosen = deciding if model == "onnx" else Replayed(allocator, deciding.taken)
        result = simulate(scenario, chosen, accuracy_models(scenario, model, seed), seed)
        found[model] = 100 * result.mean_accuracy
        if model == "onnx":
            found["by_slot"] = [round(float(100 * one), 2) for one in result.columns["accuracy"]]
    alone = [
        replace(one, streams=tuple(replace(it, retraining="none") for it in one.streams)) for one in deciding.taken
    ]
    result = simulate(scenario, Replayed(allocator, alone), accuracy_models(scenario, "onnx", seed), seed)
    return {**found, "alone": 100 * result.mean_accuracy}


def report(title: str, settings: list[Setting], runs: list[dict[str, Any]]) -> None:
    """Print the errors run by run, and how the study came out."""
    print(f"\n## {title}\n\n| stream | images a slot | budget | allocator | real | never retrained | Inference-Only | "
          "curve | table |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    frozen = {one["setting"]: one for one in runs if one["allocator"] == FROZEN}
    for setting in settings:
        budget = setting["budget"] if isinstance(setting["budget"], str) else "as was"
        told = f"{setting['name']} ({setting['group']}{', few classes' if 'labels' in setting['drift'] else ''})"
        for one in runs:
            if one["setting"] == setting["name"]:
                off = " | ".join(f"{one[model] - one['onnx']:+.1f}" for model in ("curve", "table"))
                print(
                    f"| {told} | {setting['mean']:.0f} | {budget} | {one['allocator']} | {one['onnx']:.1f} | "
                    f"{one['alone']:.1f} | {frozen[one['setting']]['onnx']:.1f} | {off} |"
                )
    retrained = [one for one in runs if one["allocator"] != FROZEN]
    gains = np.array([one["onnx"] - frozen[one["setting"]]["onnx"] for one in retrained])
    alone = np.array([one["onnx"] - one["alone"] for one in retrained])
    print()
    for worth, beside in ((alone, "the same without retraining"), (gains, "Inference-Only")):
        print(f"harm: {(worth < -HARM).sum()} of {len(worth)} runs end more than {HARM:g} point below {beside}, the "
              f"worst {worth.min():+.1f} (target: none); mean gain {worth.mean():+.2f}")  # fmt: skip
    report_predictions(runs)


def report_predictions(runs: list[dict[str, Any]]) -> None:
    """Print how far predictions are off, in what order they put allocators, and whether they tell what pays."""
    frozen = {one["setting"]: one for one in runs if one["allocator"] == FROZEN}
    retrained = [one for one in runs if one["allocator"] != FROZEN]
    gains = np.array([one["onnx"] - frozen[one["setting"]]["onnx"] for one in retrained])
    for model in ("table", "curve"):
        errors = np.array([one[model] - one["onnx"] for one in retrained])
        tau, pairs = ranking(runs, model)
        pays = np.abs(gains) > HARM
        foretold = np.array([one[model] - frozen[one["setting"]][model] for one in retrained])
        signs = (np.sign(foretold) == np.sign(gains))[pays]
        print(
            f"{model}: {np.mean(np.abs(errors) <= GOOD):.0%} of {len(errors)} runs within {GOOD} points (target "
            f"{PART_GOOD:.0%}), largest error {np.abs(errors).max():.1f} (target {WORST:g}), mean "
            f"{np.abs(errors).mean():.2f}, bias {errors.mean():+.2f}; Kendall's tau {tau:.2f} over {pairs} significant "
            f"pairs (target {TAU}); whether retraining pays is right in {signs.mean():.0%} of {len(signs)} (target "
            f"{SIGN:.0%})"
        )


def main() -> None:
    """Run what is missing and report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--streams", nargs="+", choices=("fixed", "drawn"), default=("fixed", "drawn"))
    parser.add_argument("--profiles", type=Path, default=ROOT / "traces/profiles", help="folder of cifar10-*.toml")
    parser.add_argument("--statistics", choices=("sampled", "received"), help="in place of the profiles'")
    parser.add_argument("--fallback", action="store_true", help="in place of what the profiles say")
    parser.add_argument("--acceptance", action="store_true", help="in place of what the profiles say")
    parser.add_argument("--output", type=Path, help="name beside which finished runs are kept")
    parser.add_argument("--jobs", type=int)
    asked = parser.parse_args()
    changed: dict[str, Any] = {"fallback": True} if asked.fallback else {}
    changed |= {"acceptance": True} if asked.acceptance else {}
    changed |= {} if asked.statistics is None else {"statistics": asked.statistics}
    told = [file.read_text() for file in sorted(asked.profiles.glob("cifar10-*.toml"))]
    checkpoint = None if asked.output is None else Checkpoint(asked.output, ["lifelike streams", changed, told])
    everything: list[dict[str, Any]] = []
    for title in asked.streams:
        settings = fixed() if title == "fixed" else drawn()
        work = [(setting, name) for setting in settings for name in ALLOCATORS]
        found = {at: checkpoint.load(part) for at, part in enumerate(work)} if checkpoint else {}
        left = [at for at in range(len(work)) if found.get(at) is None]
        for number, (place, run) in enumerate(
            in_parallel(measured, [(*work[at], asked.data, asked.profiles, changed) for at in left], asked.jobs), 1
        ):
            found[left[place]] = run
            if checkpoint is not None:
                checkpoint.keep(work[left[place]], run)
            print(f"\r{title}: {number} of {len(left)}{'':10}", end="", file=sys.stderr)
        how = ", ".join(f"{name} {value}" for name, value in changed.items()) or "as the profiles say"
        runs = [found[at] for at in range(len(work))]
        report(f"{title} streams, retraining {how}", settings, runs)
        everything += runs
    if len(asked.streams) > 1:
        print("\n## all streams\n")
        report_predictions(everything)


if __name__ == "__main__":
    main()

"""Run the experiment of the ORRIC paper (INFOCOM 2024, Table III and Figure 3) with real models on CIFAR-10.

usage: python simulations/paper_cifar10c.py --data FOLDER [--seeds 3] [--output results/paper-cifar10c]

FOLDER holds CIFAR-10 in a published layout (cifar-10-batches-bin or -py). Every corruption is a stream of its own of 50
slots of 1,000 test images, five severities in rising order, and begins with the student as trained. The streams run
under simulations/paper-cifar10c.toml, whose budgets are the published ones in passes of these networks. Finished
streams are kept in the folder of results, so an interrupted run goes on from there. At the end: table.md and
table.csv (in the layout of Table III, beside the published figures), summary.json and two figures.

With other networks (simulations/train_networks.py trains MobileNetV2 and ResNet50) give --profiles PROFILES, a folder
of cifar10-GROUP.toml for the groups noise, blur, weather and digital; --device cuda retrains on a GPU.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import orric
from orric.allocators import REFERENCES
from orric.calibration.checkpoint import Checkpoint
from orric.calibration.plan import GROUPS, named_corruptions
from orric.comparison import simulate_line
from orric.drift import SEVERITIES, Steps
from orric.profile import Profile
from orric.retraining.accuracy import Shown
from orric.retraining.models import exported, load_network, sha256
from orric.vision.corruptions import CORRUPTIONS
from orric.vision.datasets import load_dataset, to_input
from orric.vision.macs import count_macs
from orric.vision.onnx_sessions import open_session, run
from orric.workers import in_parallel

HERE = Path(__file__).resolve().parent
PUBLISHED = HERE.parent / "traces/published/orric_table3.csv"
RESOLUTIONS_PX = (20, 24, 28, 32)
CLEAN_TEACHER = "orric, clean teacher"
# What every seed runs, and what the first seed alone does.
EVERY_SEED = ("student-only", "teacher-only", "batch-norm-only", "orric")
FIRST_SEED = (CLEAN_TEACHER, "inference-greedy", "retraining-greedy", "knowledge-distillation", "focus-shift")
STILL_IMAGES = 1000
PUBLISHED_MEANS = {"student-only": 65.87, "orric": 69.19, "teacher-only": 73.36}


def profile_for(corruption: str, folder: Path, data: Path | None) -> Profile:
    """Return the profile of a corruption's group."""
    group = next(name for name, members in GROUPS.items() if corruption in members)
    profile = Profile.load(folder / f"cifar10-{group}.toml")
    return profile if data is None else profile.with_data(data)


def scenario_for(corruption: str, profile: Profile) -> orric.Scenario:
    """Return the paper's scenario under a corruption."""
    scenario = orric.load_scenario(HERE / "paper-cifar10c.toml")
    stream = scenario.stream[0].model_copy(update={"drift": Steps(corruption=corruption)})
    student = max(one.cost_macs for one in profile.inference)
    assert profile.teacher is not None
    teacher = profile.teacher.cost_macs
    # The published budgets, in passes of whatever networks the profile holds.
    budget = scenario.gpu[0].budget.model_copy(update={"low": student / teacher})
    gpu = scenario.gpu[0].model_copy(update={"macs_per_s": 1000 * teacher / scenario.slot_s, "budget": budget})
    drifting = scenario.model_copy(update={"stream": (stream,), "gpu": (gpu,)})
    drifting._profiles = {stream.profile: profile}
    return drifting


def clean_teacher_of(teacher: str) -> str:
    """Return where the weights of the teacher lie that saw clean images alone, beside those of the other."""
    path = Path(teacher)
    return path.with_name(path.name.replace("-teacher", "-clean-teacher")).as_posix()


def streams(
    corruption: str, seed: int, lines: tuple[str, ...], folder: Path, data: Path | None, device: str
) -> dict[str, Any]:
    """Run every line on one stream, and return its accuracies by severity in percent."""
    profile, shown, found = profile_for(corruption, folder, data), Shown(), {}
    profile = profile.model_copy(update={"training": profile.training.model_copy(update={"device": device})})
    decided: dict[str, str] = {}
    for line in lines:
        chosen, name = profile, line
        if line == CLEAN_TEACHER:
            assert profile.models is not None
            teacher = clean_teacher_of(profile.models.teacher)
            chosen = profile.model_copy(update={"models": profile.models.model_copy(update={"teacher": teacher})})
            name = "orric"
        scenario = scenario_for(corruption, chosen)
        if line not in REFERENCES and line != CLEAN_TEACHER:
            # These allocators observe nothing, so who decides the same on the curve comes to the same in reality.
            choices = json.dumps(simulate_line(scenario, "curve", name, seed).allocations)
            decided[line] = choices
            same = next((one for one in found if decided.get(one) == choices), None)
            if same is not None:
                found[line] = found[same]
                continue
        # The other teacher labels what is sampled, and no more.
        result = simulate_line(scenario, "onnx", name, seed, shown=None if line == CLEAN_TEACHER else shown)
        accuracy, severity = 100 * result.columns["accuracy"], result.columns["severity"]
        found[line] = {
            # Of served images, as the paper counts; here a queue may be left at the end.
            "mean": float(np.nanmean(accuracy)),
            "by_severity": [float(np.nanmean(accuracy[severity == one])) for one in SEVERITIES],
            # A slot may serve nobody, when the queue of the slot before takes all of it.
            "by_slot": [None if np.isnan(value) else round(float(value), 3) for value in accuracy],
            "retrained": float(np.mean(list(_ratios(result, chosen)))),
        }
        if line in decided:
            # The profile was measured with a fifth of the samples in a slot.
            predicted = simulate_line(scenario, "table", name, seed).columns["accuracy"]
            found[line]["predicted"] = float(100 * np.nanmean(predicted))
    still = None
    if lines == EVERY_SEED and seed == 1:
        still = {role: still_accuracies(profile, role, corruption) for role in ("student", "teacher")}
    return {"corruption": corruption, "seed": seed, "lines": found, "still": still}


def _ratios(result: Any, profile: Profile) -> Iterable[float]:
    assert profile.models is not None
    return (profile.models.sampling_ratio[name] for name in result.columns["retraining"].tolist())


def still_accuracies(profile: Profile, role: str, corruption: str) -> dict[str, float]:
    """Return the accuracy of a model as trained at each resolution, in percent: a row of Table III."""
    assert profile.models is not None
    dataset = load_dataset(profile.models.dataset, profile.data)
    session = open_session(exported(profile.beside(getattr(profile.models, role)), role, len(dataset.classes)))
    found: dict[str, list[float]] = {}
    for severity in (0,) if corruption == "none" else SEVERITIES:
        rng = np.random.default_rng([7, severity])
        images, labels = dataset.draw(STILL_IMAGES, rng, corruption=corruption, severity=severity)
        for px in RESOLUTIONS_PX:
            right = run(session, to_input(images, px)).argmax(axis=1) == labels
            found.setdefault(str(px), []).append(100 * float(right.mean()))
    return {px: float(np.mean(values)) for px, values in found.items()}


def clean_stills(folder: Path, data: Path | None) -> dict[str, Any]:
    """Return the models' accuracies on clean images, and what they cost."""
    profile = profile_for("fog", folder, data)
    assert profile.models is not None
    found: dict[str, Any] = {}
    for role in ("student", "teacher"):
        path = profile.beside(getattr(profile.models, role))
        network = load_network(path, role, 10)
        found[role] = {
            "accuracy": still_accuracies(profile, role, "none"),
            "mmacs": {str(px): count_macs(network, px) / 1e6 for px in RESOLUTIONS_PX},
            "sha256": sha256(path),
        }
    return found


def interval(values: list[float]) -> tuple[float, float | None]:
    """Return the mean and the half width of its 95 % interval by Student's t; None for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    return mean, float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def table_rows(runs: list[dict[str, Any]], clean: dict[str, Any]) -> list[list[str]]:
    """Return Table III: models as trained at each resolution, then what served the streams, measured and published."""
    with PUBLISHED.open(newline="") as file:
        published = list(csv.DictReader(file))
    columns = [name for name in published[0] if name in CORRUPTIONS]
    first = {one["corruption"]: one for one in runs if one["seed"] == 1}
    rows = [["row", "px", "MMACs", "original", *columns, "mean"]]
    for role, network in (("student", "MobileNetV2"), ("teacher", "ResNet50")):
        for px in map(str, RESOLUTIONS_PX):
            values = [first[one]["still"][role][px] for one in columns]
            own = clean[role]
            rows.append([role, px, f"{own['mmacs'][px]:.2f}", f"{own['accuracy'][px]:.2f}", *_cells(values)])
            row = next(one for one in published if one["model"] == network and one["resolution_px"] == px)
            given = [float(row[one]) for one in columns]
            rows.append([f"published {network}", px, row["mmacs_per_sample"], row["original"], *_cells(given)])
    for line in [*EVERY_SEED, *FIRST_SEED]:
        values = [_mean_of(runs, one, line) for one in columns]
        if not np.isnan(values).any():
            rows.append([line, "", "", "", *_cells(values)])
    return rows


def _cells(values: list[float]) -> list[str]:
    return [*(f"{value:.2f}" for value in values), f"{np.mean(values):.2f}"]


def _mean_of(runs: list[dict[str, Any]], corruption: str, line: str, seed: int | None = None) -> float:
    found = [
        one["lines"][line]["mean"]
        for one in runs
        if one["corruption"] == corruption and line in one["lines"] and seed in (None, one["seed"])
    ]
    return float(np.mean(found)) if found else float("nan")


def summary_of(runs: list[dict[str, Any]], clean: dict[str, Any]) -> dict[str, Any]:
    """Say who is above whom, on how many corruptions and by how much, with intervals over seeds."""
    corruptions = list(dict.fromkeys(one["corruption"] for one in runs))
    seeds = sorted({one["seed"] for one in runs})
    told: dict[str, Any] = {"corruptions": len(corruptions), "seeds": seeds, "published_means": PUBLISHED_MEANS}
    for line in [*EVERY_SEED, *FIRST_SEED]:
        per_seed = [float(np.mean([_mean_of(runs, c, line, seed) for c in corruptions])) for seed in seeds]
        known = [value for value in per_seed if not np.isnan(value)]
        if known:
            mean, half = interval(known)
            told.setdefault("means", {})[line] = {"mean": mean, "interval": half, "seeds": len(known)}
    for other in ("student-only", "batch-norm-only", *FIRST_SEED):
        per_seed = [
            float(np.mean([_mean_of(runs, c, "orric", seed) - _mean_of(runs, c, other, seed) for c in corruptions]))
            for seed in seeds
        ]
        known = [value for value in per_seed if not np.isnan(value)]
        if not known:
            continue
        gains = {
            c: float(np.nanmean([_mean_of(runs, c, "orric", s) - _mean_of(runs, c, other, s) for s in seeds]))
            for c in corruptions
        }
        mean, half = interval(known)
        told[f"orric over {other}"] = {
            "mean": mean,
            "interval": half,
            "above_on": sum(gain > 0 for gain in gains.values()),
            "least": min(gains.items(), key=lambda item: item[1]),
            "by_corruption": gains,
        }
    errors = {
        line: [one["lines"][line]["predicted"] - one["lines"][line]["mean"] for one in runs if line in one["lines"]]
        for line in ("student-only", "orric")
    }
    told["predicted by the table"] = {
        line: {"mean_error": float(np.mean(values)), "mean_size": float(np.mean(np.abs(values)))}
        for line, values in errors.items()
    }
    told["sha256"] = {role: clean[role]["sha256"] for role in ("student", "teacher")}
    return told


def draw(runs: list[dict[str, Any]], told: dict[str, Any], folder: Path) -> None:
    """Draw both parts of Figure 3: accuracy by corruption, and over the slots, averaged over corruptions."""
    from matplotlib.figure import Figure

    styles = {
        "student-only": ("#D55E00", "-", "o"),
        "batch-norm-only": ("#E69F00", "--", "^"),
        "orric": ("#0072B2", "-", "s"),
        "teacher-only": ("#000000", ":", "D"),
    }
    corruptions = list(dict.fromkeys(one["corruption"] for one in runs))
    gain = told["orric over student-only"]
    corruptions.sort(key=lambda one: -gain["by_corruption"][one])
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for line, (colour, _, marker) in styles.items():
        values = [_mean_of(runs, one, line) for one in corruptions]
        axes.plot(values, linestyle="none", marker=marker, color=colour, markersize=7, label=line)
    axes.set_xticks(range(len(corruptions)), [one.replace("_", " ") for one in corruptions], rotation=50, ha="right")
    axes.set_ylabel("Mean accuracy over 50 slots (%)")
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0))
    figure.suptitle(
        f"ORRIC is above the frozen student on {gain['above_on']} of {len(corruptions)} corruptions, "
        f"by {gain['mean']:.1f} points on average",
        x=0.01, ha="left", fontsize=12,
    )  # fmt: skip
    figure.savefig(folder / "figure3a.png", dpi=150)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    axes, ends = figure.add_subplot(), {}
    for line, (colour, style, _) in styles.items():
        served = [one["lines"][line]["by_slot"] for one in runs if line in one["lines"]]
        slots = np.nanmean(np.array(served, dtype=np.float64), axis=0)
        axes.plot(range(1, len(slots) + 1), slots, color=colour, linestyle=style, linewidth=1.8, label=line)
        ends[line] = float(slots[-len(slots) // 5 :].mean())
    for severity in SEVERITIES[1:]:
        axes.axvline((severity - 1) * 10 + 0.5, color="#cccccc", linewidth=0.8)
    for severity in SEVERITIES:
        axes.annotate(f"severity {severity}", ((severity - 1) * 10 + 5.5, 1.0), xycoords=("data", "axes fraction"),
                      ha="center", va="bottom", fontsize=9, color="#6b6b6b")  # fmt: skip
    axes.set_xlabel("Slot (index)")
    axes.set_ylabel(f"Accuracy, mean of {len(corruptions)} corruptions (%)")
    axes.legend(frameon=False, loc="lower left")
    lead = ends["orric"] - ends["student-only"]
    figure.suptitle(
        f"At severity 5 ORRIC keeps {ends['orric']:.0f} %, {lead:.0f} points above the frozen student", x=0.01,
        ha="left", fontsize=12,
    )  # fmt: skip
    figure.savefig(folder / "figure3b.png", dpi=150)


def _half(interval: float | None) -> str:
    return "" if interval is None else f" +- {interval:.2f}"


def main() -> None:
    """Run what is missing, then write the table, the summary and the figures."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10 [default: $ORRIC_DATA]")
    parser.add_argument("--profiles", type=Path, default=HERE.parent / "traces/profiles", help="folder of profiles")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of images and budgets [3]")
    parser.add_argument("--corruptions", default="all", help="names by commas [all]")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where students are retrained [cpu]")
    parser.add_argument("--output", type=Path, default=Path("results/paper-cifar10c"), help="folder of results")
    parser.add_argument("--jobs", type=int, help="worker processes [as many as cores]")
    asked = parser.parse_args()
    try:
        names = named_corruptions(asked.corruptions.split(","))
        # What is claimed of ORRIC first, on every seed, and the other allocators then.
        work = [(c, seed, EVERY_SEED) for seed in range(1, asked.seeds + 1) for c in names]
        work += [(c, 1, FIRST_SEED) for c in names]
        for corruption in names:
            profile = profile_for(corruption, asked.profiles, asked.data)
            assert profile.models is not None
            load_network(profile.beside(clean_teacher_of(profile.models.teacher)), "teacher", 10)
        clean = clean_stills(asked.profiles, asked.data)
    except orric.OrricError as error:
        sys.exit(f"paper_cifar10c: {error}")
    asked.output.mkdir(parents=True, exist_ok=True)
    kept = Checkpoint(asked.output / "runs", "the paper's experiment")
    parts, calls = {}, []
    for corruption, seed, lines in work:
        measured = profile_for(corruption, asked.profiles, asked.data)
        part = [corruption, seed, lines, asked.device, measured.model_dump(mode="json")]
        parts[corruption, seed, lines] = part
        if kept.load(part) is None:
            calls.append((corruption, seed, lines, asked.profiles, asked.data, asked.device))
    for number, (index, found) in enumerate(in_parallel(streams, calls, asked.jobs), start=len(work) - len(calls) + 1):
        kept.keep(parts[calls[index][:3]], found)
        means = ", ".join(f"{line} {one['mean']:.1f}" for line, one in found["lines"].items())
        print(f"{number}/{len(work)} {found['corruption']}, seed {found['seed']}: {means}", flush=True)
    runs: dict[tuple[str, int], dict[str, Any]] = {}
    for key, part in parts.items():
        found = kept.load(part)
        runs.setdefault(key[:2], {**found, "lines": {}})["lines"] |= found["lines"]
    report(list(runs.values()), clean, asked.output, whole=len(names) == len(CORRUPTIONS))


def report(runs: list[dict[str, Any]], clean: dict[str, Any], folder: Path, whole: bool) -> None:
    """Write the table, if all corruptions are there, the summary and the figures, and print what they come to."""
    rows, told = table_rows(runs, clean) if whole else [], summary_of(runs, clean)
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    if rows:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + "---|" * len(rows[0]))
        (folder / "table.md").write_text("\n".join(lines) + "\n")
    (folder / "summary.json").write_text(json.dumps(told, indent=2) + "\n")
    draw(runs, told, folder)
    for line, one in told["means"].items():
        published = f", published {PUBLISHED_MEANS[line]:.2f}" if line in PUBLISHED_MEANS else ""
        print(f"{line:24}{one['mean']:7.2f}{_half(one['interval'])} %{published}")
    for key, one in told.items():
        if key.startswith("orric over"):
            print(
                f"{key}: {one['mean']:+.2f}{_half(one['interval'])} points, above on {one['above_on']} of "
                f"{told['corruptions']}, least {one['least'][1]:+.2f} ({one['least'][0]})"
            )
    for line, one in told["predicted by the table"].items():
        print(
            f"{line} predicted by the table: {one['mean_error']:+.2f} points on average, {one['mean_size']:.2f} in size"
        )
    print(f"written: {folder}")


if __name__ == "__main__":
    main()

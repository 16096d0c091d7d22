"""The command that measures: calibrate."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orric.cli.frame import (
    Data,
    Jobs,
    Json,
    app,
    console_of_output,
    demand_writable,
    interruptible,
    progress_bars,
    shown,
)
from orric.exceptions import ScenarioError

if TYPE_CHECKING:
    from orric.profile import Profile


RESUMES = "what was measured is kept, and the same command goes on from there"


# Below, a network's last maps vanish; images are kept at the full size.
LEAST_PX, FULL_PX = 16, 32


class Optimizer(StrEnum):
    """What takes the steps of retraining."""

    sgd = "sgd"
    adam = "adam"


class Statistics(StrEnum):
    """Which samples of a slot batch-norm statistics are taken from."""

    sampled = "sampled"
    received = "received"


class Device(StrEnum):
    """Where students are retrained."""

    cpu = "cpu"
    cuda = "cuda"


class Judge(StrEnum):
    """Whose labels a selector judges by."""

    student = "student"
    teacher = "teacher"


@app.command()
def calibrate(
    dataset: Annotated[
        str, typer.Option("--dataset", help="digits, cifar10, cifar10-c, or images (your own).")
    ] = "digits",
    data: Data = None,
    models: Annotated[
        Path | None,
        typer.Option(
            "--models",
            help="Folder of DATASET-student.safetensors and DATASET-teacher.safetensors. [default: traces/models, or "
            "what comes with orric]",
        ),
    ] = None,
    student: Annotated[
        Path | None, typer.Option("--student", help="The student: weights (.safetensors) or your own model (.onnx).")
    ] = None,
    teacher: Annotated[Path | None, typer.Option("--teacher", help="The teacher, likewise.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Profile to write. [default: NAME.toml; with --learning-of NAME-learning.toml, with --table-of "
            "NAME-table.toml, with --clean-of NAME-clean.toml, with --selectors-of NAME-selectors.toml, with "
            "--anchors-of NAME-anchors.toml]",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the profile. [default: the data set's]")] = None,
    corruptions: Annotated[
        str | None,
        typer.Option(
            "--corruptions",
            help="What streams drift through, by commas: names, or noise, blur, weather, digital, all. "
            "[default: five for digits, all otherwise]",
        ),
    ] = None,
    ratios: Annotated[
        str | None, typer.Option("--ratios", help="Sampling ratios, by commas. [default: 0,0.05,0.1,0.2,0.3,0.5,1]")
    ] = None,
    resolutions: Annotated[
        str | None,
        typer.Option("--resolutions", help="Sides of the images served, in pixels, by commas. [default: 32,28,24,20]"),
    ] = None,
    slots: Annotated[int, typer.Option("--slots", min=10, help="Slots of every learning run.")] = 25,
    per_slot: Annotated[int, typer.Option("--per-slot", min=20, help="Samples per slot.")] = 200,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds of the learning runs.")] = 1,
    optimizer: Annotated[Optimizer | None, typer.Option("--optimizer", help="Of retraining. [default: sgd]")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Of retraining. [default: 0.0025]")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Samples of a step. [default: 8]")] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Passes over a slot's sampled part. [default: 1]")
    ] = None,
    device: Annotated[
        Device | None, typer.Option("--device", help="Where students are retrained. [default: cpu]")
    ] = None,
    refresh: Annotated[
        bool | None,
        typer.Option(
            "--refresh/--keep-statistics", help="Take the batch-norm statistics anew after the steps. [default: yes]"
        ),
    ] = None,
    statistics: Annotated[
        Statistics | None,
        typer.Option(
            "--statistics",
            help="Samples that the statistics are from: those trained on, or all received. [default: received, where "
            "they are taken anew]",
        ),
    ] = None,
    fallback: Annotated[
        bool | None,
        typer.Option(
            "--fallback/--newest",
            help="Let the student as it was given serve a slot where as much is expected of it as of the newest one. "
            "[default: yes]",
        ),
    ] = None,
    acceptance: Annotated[
        bool | None,
        typer.Option(
            "--acceptance/--every",
            help="Let a new student serve only where held-out samples do not speak against it, as the daemon does. "
            "[default: every one serves]",
        ),
    ] = None,
    pretrain: Annotated[
        bool, typer.Option("--pretrain", help="Train the student and the teacher first, and write their weights.")
    ] = False,
    images: Annotated[
        int | None, typer.Option("--images", min=100, help="Images to pretrain on. [default: all of that part]")
    ] = None,
    learning_of: Annotated[
        Path | None,
        typer.Option(
            "--learning-of",
            help="Measure only how this profile's student learns: curves, memory, table, transfer; latencies stay.",
        ),
    ] = None,
    table_of: Annotated[
        Path | None,
        typer.Option(
            "--table-of",
            help="Measure only the accuracy table of this profile's models and add it; all other figures stay.",
        ),
    ] = None,
    clean_of: Annotated[
        Path | None,
        typer.Option(
            "--clean-of",
            help="Measure only the learning curve of this profile's models on clean images and add it; all other "
            "figures stay.",
        ),
    ] = None,
    selectors_of: Annotated[
        Path | None,
        typer.Option(
            "--selectors-of",
            help="Measure what selectors are worth on this profile's models and add them; all other figures stay.",
        ),
    ] = None,
    selectors: Annotated[
        str,
        typer.Option("--selectors", help="With --selectors-of: by commas."),
    ] = "chg-shapley",
    pool: Annotated[
        float,
        typer.Option("--pool", min=1.0, help="With --selectors-of: samples looked at for each one chosen."),
    ] = 2.0,
    judge: Annotated[
        Judge,
        typer.Option(
            "--judge",
            help="With --selectors-of: whose labels selectors judge by; the teacher's cost a label for all looked at.",
        ),
    ] = Judge.student,
    anchors_of: Annotated[
        Path | None,
        typer.Option(
            "--anchors-of",
            help="Draw an anchor set for a daemon from this profile's data set and add it; nothing is measured.",
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", help="Measure a part of this profile anew, and say whether it still holds."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.01, help="With --check: by which part latencies may have changed.")
    ] = 0.3,
    compare_corruptions: Annotated[
        Path | None,
        typer.Option(
            "--compare-corruptions", help="Compare orric's corruptions with the published CIFAR-10-C in this folder."
        ),
    ] = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Measure real ONNX models into a profile: accuracy, latency, cost, learning curve, accuracy table.

    Interrupted, the same command goes on from where it was.
    """
    tasks = {
        "--learning-of": learning_of,
        "--table-of": table_of,
        "--clean-of": clean_of,
        "--selectors-of": selectors_of,
        "--anchors-of": anchors_of,
        "--check": check,
        "--compare-corruptions": compare_corruptions,
    }
    asked = [option for option, value in tasks.items() if value is not None] + ["--pretrain"] * pretrain
    if len(asked) > 1:
        raise ScenarioError(f"options {' and '.join(asked)}", "are jobs of their own", "give one of them")
    if pretrain and (student or teacher):
        raise ScenarioError(
            "options --pretrain and --student or --teacher", "what is trained lies in --models", "give one"
        )
    workers = jobs or os.cpu_count() or 1
    if models is None:
        # What is trained goes there as well, and never into an installed package.
        from orric.shipped import models_folder

        models = Path("traces/models")
        models = models if pretrain or models.is_dir() else models_folder()
    from orric.cli import checking

    if compare_corruptions is not None:
        checking.compare(compare_corruptions, models, as_json)
        return
    if check is not None:
        checking.check(check, _with_data(check, data), tolerance, workers, corruptions, as_json)
        return
    for source, kind in ((table_of, "table"), (clean_of, "clean")):
        if source is not None:
            _part(kind, source, data, output, seeds, slots, per_slot, workers, as_json)
            return
    if selectors_of is not None:
        from orric.cli.selectors import measure_selectors

        target = output or Path(f"{selectors_of.stem}-selectors.toml")
        drifts = corruptions.split(",") if corruptions else []
        names, profile = selectors.split(","), _with_data(selectors_of, data)
        demand_writable(target, "--output")
        remains = f"no profile was written{_kept(target)}; {RESUMES}"
        measure_selectors(
            profile, str(selectors_of), target, names, pool, judge.value, seeds, slots, per_slot, workers, drifts,
            remains, as_json,
        )  # fmt: skip
        return
    from orric.cli.anchors import with_anchors

    if anchors_of is not None:
        target = output or Path(f"{anchors_of.stem}-anchors.toml")
        demand_writable(target, "--output")
        anchored, beside, number = with_anchors(_with_data(anchors_of, data), str(anchors_of), target)
        anchored.save(target)
        _print_facts({"profile": str(target), "anchors": str(beside), "images": number}, as_json)
        return
    from orric.calibration.calibrate import calibrate as measure
    from orric.calibration.calibrate import finished
    from orric.calibration.plan import RATIOS, USUAL_CORRUPTIONS, Calibration, named_corruptions
    from orric.calibration.pretraining import RESOLUTIONS_PX, forget, pretrain_pair
    from orric.real_models import Training
    from orric.vision.datasets import load_dataset
    from orric.vision.networks import ROLES

    options = {
        "optimizer": optimizer, "learning_rate": learning_rate, "batch": batch, "epochs": epochs, "refresh": refresh,
        "statistics": statistics, "fallback": fallback, "acceptance": acceptance,
        "device": device,
    }  # fmt: skip
    training = {name: getattr(value, "value", value) for name, value in options.items() if value is not None}
    if learning_of is not None:
        _learning(
            _with_data(learning_of, data), learning_of, output, training, slots, per_slot, seeds, workers, as_json
        )  # fmt: skip
        return
    usual = {"fallback": True} if refresh is False else {"fallback": True, "statistics": "received"}
    plan = Calibration(
        dataset=dataset,
        student=student or models / f"{dataset}-student.safetensors",
        teacher=teacher or models / f"{dataset}-teacher.safetensors",
        data=data,
        name=name,
        corruptions=named_corruptions(corruptions.split(","))
        if corruptions
        else USUAL_CORRUPTIONS.get(dataset, named_corruptions(["all"])),
        ratios=_ratios(ratios) if ratios else RATIOS,
        resolutions_px=_resolutions(resolutions) if resolutions else RESOLUTIONS_PX,
        slots=slots,
        per_slot=per_slot,
        seeds=tuple(range(1, seeds + 1)),
        training=Training(**(usual | training)),
        jobs=workers,
    )
    target = output or Path(f"{plan.name or dataset}.toml")
    demand_writable(target, "--output")
    load_dataset(dataset, data)
    remains = f"no profile was written{_kept(target)}; {RESUMES}"
    with interruptible(remains), progress_bars() as progress, _warnings_told():
        if pretrain:
            bar = progress.add_task("training student and teacher", total=1.0)
            pretrain_pair(
                dataset, data, models, workers, None, images, lambda part: progress.update(bar, completed=part)
            )  # fmt: skip
        profile = measure(plan, target, shown(progress))
        profile = with_anchors(profile, str(target), target)[0]
        profile.save(target)
        finished(target)
        if pretrain:
            forget([models / f"{dataset}-{role}.safetensors" for role in ROLES])
    _print_facts(_learnt(target, profile), as_json)


def _learnt(target: Path, profile: Profile) -> dict[str, Any]:
    """Return what is told of a profile whose student's learning was measured."""
    facts = profile.provenance
    told = (
        "curve_residual", "drift_curve_residual_mean", "validation_error_mean", "validation_error_worst",
        "validation_error_of_streams_mean", "validation_error_of_streams_worst",
    )  # fmt: skip
    return {
        "profile": str(target),
        "best_accuracy": profile.best_accuracy,
        "slope_floor": profile.slope_floor,
        "curve": profile.curve.model_dump(),
        "memory": profile.memory.model_dump(exclude_none=True),
        **{key: facts[key] for key in told if key in facts},
        **{f"table_off_by_{kind.replace(' ', '_')}": errors["mean"]
           for kind, errors in facts.get("validation_of_the_table", {}).items()},
    }  # fmt: skip


def _learning(
    profile: Profile,
    source: Path,
    output: Path | None,
    training: dict[str, Any],
    slots: int,
    per_slot: int,
    seeds: int,
    jobs: int,
    as_json: bool,
) -> None:
    """Measure how a profile's student learns, by its own training but for what is given."""
    from orric.calibration.calibrate import finished
    from orric.calibration.learning import learning_of, plan_of

    target = output or Path(f"{source.stem}-learning.toml")
    demand_writable(target, "--output")
    numbers = tuple(range(1, seeds + 1))
    plan = plan_of(profile, str(source), training, slots, per_slot, numbers, jobs)
    remains = f"no profile was written{_kept(target)}; {RESUMES}"
    with interruptible(remains), progress_bars() as progress, _warnings_told():
        found = learning_of(profile, str(source), target, plan, shown(progress))
        found.save(target)
        finished(target)
    _print_facts(_learnt(target, found), as_json)


def _ratios(text: str) -> tuple[float, ...]:
    try:
        found = tuple(sorted({float(one) for one in text.split(",")}))
    except ValueError:
        found = ()
    if len(found) < 3 or found[0] != 0 or found[-1] > 1:
        remedy = "give three or more different numbers from 0 to 1, 0 among them; with one seed six"
        raise ScenarioError("--ratios", f"found {text!r}", remedy)
    return found


def _resolutions(text: str) -> tuple[int, ...]:
    try:
        found = tuple(sorted({int(one) for one in text.split(",")}, reverse=True))
    except ValueError:
        found = ()
    if not found or found[-1] < LEAST_PX or found[0] > FULL_PX:
        remedy = f"give whole numbers from {LEAST_PX} to {FULL_PX}, by commas"
        raise ScenarioError("--resolutions", f"found {text!r}", remedy)
    return found


def _kept(target: Path) -> str:
    return f", and the earlier {target} is kept" * target.exists()


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Tell warnings in one line each, on standard error."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_: print(f"orric: warning: {message}", file=sys.stderr)
        yield


def _part(
    kind: str,
    source: Path,
    data: Path | None,
    output: Path | None,
    seeds: int,
    slots: int,
    per_slot: int,
    jobs: int,
    as_json: bool,
) -> None:
    """Measure the accuracy table of a profile's models ("table"), or their curve on clean images ("clean")."""
    from orric.calibration.calibrate import finished
    from orric.calibration.clean import with_clean_curve
    from orric.calibration.table import with_table

    measured, measure = _with_data(source, data), with_table if kind == "table" else with_clean_curve
    target = output or Path(f"{source.stem}-{kind}.toml")
    demand_writable(target, "--output")
    remains = f"no profile was written{_kept(target)}; {RESUMES}"
    with interruptible(remains), progress_bars() as progress:
        numbers = tuple(range(1, seeds + 1))
        profile = measure(measured, str(source), target, numbers, slots, per_slot, jobs, shown(progress))
        profile.save(target)
        finished(target)
    facts: dict[str, Any] = {"profile": str(target)}
    if kind == "table":
        facts |= {"table_entries": len(profile.table), "samples_per_entry": profile.provenance["table"]["samples"]}
    else:
        curve = profile.curve_for("none", 0)
        facts |= {"accuracy": float(curve(0.0)), "accuracy_retrained": float(curve(profile.most_profit))}
    _print_facts(facts, as_json)


def _with_data(path: Path, data: Path | None) -> Profile:
    from orric.profile import Profile

    profile = Profile.load(path)
    return profile if data is None else profile.with_data(data)


def _print_facts(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    console = console_of_output()
    for key, value in facts.items():
        console.print(f"{key.replace('_', ' '):34} {value}", highlight=False, soft_wrap=True)

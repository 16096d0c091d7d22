"""The command that values data: value."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orric.cli.frame import (
    Data,
    FixedSeed,
    Jobs,
    Json,
    app,
    console_of_output,
    interruptible,
    print_table,
    progress_bars,
)
from orric.exceptions import SelectionError

if TYPE_CHECKING:
    from orric.selection.gradients import Array
    from orric.valuation.removal import Point
    from orric.valuation.spoiling import Samples, Subject
    from orric.valuation.valuing import Values

SUSPECTS = 10


@app.command()
def value(
    dataset: Annotated[str, typer.Option("--dataset", help="digits, cifar10, cifar10-c, or images (your own).")],
    data: Data = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="Network that is trained from scratch (small-student, small-teacher, mobilenetv2, resnet50), or a "
            "file of weights (.safetensors) or your own model (.onnx) from which training goes on.",
        ),
    ] = "small-student",
    images: Annotated[
        int | None,
        typer.Option("--images", min=1, help="Images to value, drawn at random. [default: all not held out]"),
    ] = None,
    flip: Annotated[
        float, typer.Option("--flip", help="Part of the labels to make wrong, 0 to 1, to see who finds them.")
    ] = 0.0,
    corrupt: Annotated[float, typer.Option("--corrupt", help="Part of the images to corrupt, likewise.")] = 0.0,
    corruption: Annotated[str, typer.Option("--corruption", help="With --corrupt: by what.")] = "gaussian_noise",
    severity: Annotated[int, typer.Option("--severity", min=1, max=5, help="With --corrupt: how much.")] = 5,
    methods: Annotated[
        str, typer.Option("--methods", help="By commas, of gradient-shapley, chg-shapley, hardness-shapley, loss.")
    ] = "gradient-shapley,chg-shapley,loss",
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, help="Passes over the images; values are taken at the end of each.")
    ] = 8,
    curve: Annotated[
        str,
        typer.Option(
            "--curve", help="Parts that are removed for the point-removal curve, by commas; 0 draws no curve."
        ),
    ] = "0.1,0.3,0.5",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings for each point of the curve.")] = 3,
    seed: FixedSeed = 1,
    jobs: Jobs = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder to write. [default: results/value-DATASET]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what every image is worth to a network that is trained on all, and which labels look wrong.

    Writes values.csv (a line for each image, the most suspicious first), values_by_epoch.npz, summary.json and, with a
    curve, point_removal.png and .svg.
    """
    from dataclasses import replace

    from orric.folders import result_folder
    from orric.report.folder import MARK, demand_packages
    from orric.valuation.methods import known_methods
    from orric.valuation.removal import demand_parts, point_removal
    from orric.valuation.spoiling import Subject, samples_of
    from orric.valuation.training import demand_model, recipe_for
    from orric.valuation.valuing import value_samples

    names = [one.name for one in known_methods([name.strip() for name in methods.split(",")])]
    demand_model(model)
    subject = Subject(dataset, data, images, flip, corrupt, corruption, severity, seed)
    samples = samples_of(subject)
    parts = demand_parts(_parts(curve), len(samples))
    demand_packages()
    recipe, target = replace(recipe_for(dataset), epochs=epochs), output or Path("results") / f"value-{dataset}"
    remains = "nothing was written" + f", and the earlier {target} is kept" * target.exists()
    with interruptible(remains), progress_bars() as progress, result_folder(target, "value") as work:
        folder = work.result
        bar = progress.add_task("training and valuing", total=1.0)
        values = value_samples(
            samples.images, samples.labels, len(samples.source.classes), model, names, recipe, seed,
            lambda part: progress.update(bar, completed=part),
        )  # fmt: skip
        points: list[Point] = []
        if parts:
            second = progress.add_task("training without some", total=1.0)
            points = point_removal(
                subject, values.places, parts, seeds, model, recipe, jobs,
                lambda part: progress.update(second, completed=part),
            )  # fmt: skip
        facts = _facts(subject, model, epochs, samples, values, points)
        _write(folder, samples, values, facts)
        (folder / MARK).write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps({"folder": str(target), **facts}, allow_nan=False))
        return
    _print(facts, target)


def _parts(text: str) -> list[float]:
    try:
        return [float(one) for one in text.split(",")]
    except ValueError:
        raise SelectionError("--curve", f"found {text!r}", "give parts by commas, e.g. 0.1,0.3,0.5") from None


def _facts(
    subject: Subject, model: str, epochs: int, samples: Samples, values: Values, points: Sequence[Point]
) -> dict[str, Any]:
    """Return what was found, as summary.json holds it."""
    from orric.randomness import generator

    places = {**values.places, "random": generator(subject.seed, "images", 4).random(len(samples))}
    foremost = next(iter(values.places))
    suspects = [
        {
            "index": int(samples.index[at]),
            "label": _named(samples, int(samples.labels[at])),
            "place": float(values.places[foremost][at]),
            "spoiled": _spoiled(samples, at),
        }
        for at in values.least_first(foremost)[:SUSPECTS]
    ]
    rows = [_row(point) for point in points]
    return {
        "dataset": subject.dataset,
        "images": len(samples),
        "model": model,
        "epochs": epochs,
        "seed": subject.seed,
        "flipped": int(samples.flipped.sum()),
        "corrupted": int(samples.corrupted.sum()),
        **({"corruption": subject.corruption, "severity": subject.severity} if samples.corrupted.any() else {}),
        "detection": [{"method": name, **_detection(samples, one)} for name, one in places.items()],
        "most_suspicious_by": foremost,
        "most_suspicious": suspects,
        "curve": rows,
        "conclusion": _conclusion(rows, foremost),
    }


def _detection(samples: Samples, places: Array) -> dict[str, float | None]:
    """Return how well places find what was spoiled; each kind is held against samples that are as they were."""
    from orric.valuation.detection import detection_auc, precision_among_lowest

    found: dict[str, float | None] = {}
    for what, mask in (("flipped", samples.flipped), ("corrupted", samples.corrupted)):
        judged = mask | ~(samples.flipped | samples.corrupted)
        told = mask.any() and not mask[judged].all()
        found[f"{what}_auc"] = detection_auc(places[judged], mask[judged]) if told else None
        found[f"{what}_precision"] = precision_among_lowest(places[judged], mask[judged]) if told else None
    return found


def _row(point: Point) -> dict[str, Any]:
    def finite(number: float) -> float | None:
        return number if number == number else None

    against = point.against_random
    return {
        "method": point.method,
        "first": point.first,
        "part": point.part,
        "accuracy": point.accuracy.mean,
        "half_width": finite(point.accuracy.half_width),
        "accuracies": list(point.accuracies),
        "against_random": None if against is None else against.mean,
        "against_random_half_width": None if against is None else finite(against.half_width),
    }


def _conclusion(rows: Sequence[Mapping[str, Any]], method: str) -> str:
    """Say in words what removal by one method's values does, where it is furthest from chance."""
    if not rows:
        return ""
    told = []
    for first, end in (("most", "most worthy"), ("least", "least worthy")):
        row = max(
            (r for r in rows if (r["method"], r["first"]) == (method, first)), key=lambda r: abs(r["against_random"])
        )
        points, spread = 100 * row["against_random"], row["against_random_half_width"]
        told.append(
            f"without the {100 * row['part']:g} % {end} by {method} accuracy is {100 * row['accuracy']:.1f} %, "
            f"{abs(points):.1f}{'' if spread is None else f' ± {100 * spread:.1f}'} points "
            f"{'above' if points > 0 else 'below'} random removal"
        )
    text = "; ".join(told)
    return text[0].upper() + text[1:]


def _named(samples: Samples, label: int) -> str:
    return samples.source.classes[label]


def _spoiled(samples: Samples, at: int) -> str:
    """Say what was done to a sample, "" for nothing."""
    done = ["flipped from " + _named(samples, int(samples.true_labels[at]))] if samples.flipped[at] else []
    return ", ".join(done + ["corrupted"] * bool(samples.corrupted[at]))


def _write(folder: Path, samples: Samples, values: Values, facts: Mapping[str, Any]) -> None:
    """Write values.csv, the values of every epoch, and the figure of the curve."""
    import numpy as np

    names = list(values.places)
    means = {name: values.mean(name) for name in names}
    ranks = {name: np.empty(len(samples), int) for name in names}
    for name in names:
        ranks[name][values.least_first(name)] = np.arange(1, len(samples) + 1)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    each = [f"{name} {what}" for name in names for what in ("value", "place", "rank")]
    lines.writerow(["index", "label", "class", *each, "flipped", "corrupted"])
    for at in values.least_first(names[0]):
        told = [
            cell
            for name in names
            for cell in (f"{means[name][at]:.6g}", f"{values.places[name][at]:.6f}", int(ranks[name][at]))
        ]
        label = int(samples.labels[at])
        spoiled = [int(samples.flipped[at]), int(samples.corrupted[at])]
        lines.writerow([int(samples.index[at]), label, _named(samples, label), *told, *spoiled])
    (folder / "values.csv").write_text(text.getvalue(), encoding="utf-8")
    arrays: dict[str, Any] = {name: np.asarray(one, np.float32) for name, one in values.by_epoch.items()}
    np.savez_compressed(folder / "values_by_epoch.npz", index=samples.index, **arrays)
    if facts["curve"]:
        from orric.report.plots import as_svg
        from orric.report.valuation import point_removal_figure

        figure = point_removal_figure(facts["curve"], facts["conclusion"])
        figure.savefig(folder / "point_removal.png", dpi=150)
        (folder / "point_removal.svg").write_bytes(as_svg(figure))


def _print(facts: Mapping[str, Any], target: Path) -> None:
    console = console_of_output()
    for what, done in (("flipped", "wrong labels"), ("corrupted", "corrupted images")):
        if facts["detection"][0][f"{what}_auc"] is not None:
            found = [
                (row["method"], f"{row[f'{what}_auc']:.3f}", f"{100 * row[f'{what}_precision']:.1f} %")
                for row in facts["detection"]
            ]
            headings = ("method", "AUC", "precision among as many")
            print_table(console, headings, found, words=("method",), title=f"Finding {facts[what]} {done}")
    if facts["curve"]:
        print_table(
            console, *_curve_table(facts["curve"]), words=("removed first",), title="Point removal: accuracy, %"
        )
    suspects = [
        (str(one["index"]), one["label"], f"{one['place']:.4f}", one["spoiled"]) for one in facts["most_suspicious"]
    ]
    heading = f"Most suspicious by {facts['most_suspicious_by']}"
    print_table(console, ("image", "label", "place", "spoiled"), suspects, words=("label", "spoiled"), title=heading)
    for line in (facts["conclusion"], f"Values: {target / 'values.csv'}"):
        if line:
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _curve_table(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows: a line of the curve each."""
    parts = list(dict.fromkeys(row["part"] for row in rows))
    lines = list(dict.fromkeys((row["method"], row["first"]) for row in rows))
    found = {(row["method"], row["first"], row["part"]): row for row in rows}
    texts = []
    for method, first in lines:
        cells = []
        for part in parts:
            row = found[method, first, part]
            spread = "" if row["half_width"] is None else f" ± {100 * row['half_width']:.1f}"
            cells.append(f"{100 * row['accuracy']:.1f}{spread}")
        texts.append(("random" if method == first else f"{first} worthy by {method}", *cells))
    return ("removed first", *(f"{100 * part:g} % removed" for part in parts)), texts

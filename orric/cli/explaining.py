"""The command that shows what models look at: explain."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orric.cli.frame import Data, Json, app, console_of_output, interruptible, print_table, progress_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from orric.explanation.drifting import ExplainedStream

HEADINGS = (
    "image", "drifted image", "teacher,\nbefore drift", "teacher,\nunder drift", "student,\nbefore drift",
    "student, frozen,\nunder drift", "student, retrained,\nunder drift",
)  # fmt: skip


@app.command()
def explain(
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            help="Profile whose student and teacher are watched, by its file or the name of one that comes with "
            "orric; it names real models.",
        ),
    ] = "digits",
    data: Data = None,
    corruption: Annotated[
        str, typer.Option("--corruption", help="What the stream drifts through, severity 1 to 5.")
    ] = "fog",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="grad-cam, hires-cam, shapley-cam, shapley-cam-h, shapley-cam-e, lift-cam, moxi or moxi-deletion.",
        ),
    ] = "shapley-cam",
    layer: Annotated[
        str | None,
        typer.Option("--layer", help="Of the student, by its dotted name. [default: the last one with positions]"),
    ] = None,
    teacher_layer: Annotated[str | None, typer.Option("--teacher-layer", help="Of the teacher, likewise.")] = None,
    slots: Annotated[int, typer.Option("--slots", min=5, help="Slots of the stream.")] = 25,
    per_slot: Annotated[int, typer.Option("--per-slot", min=2, help="Samples per slot.")] = 100,
    ratio: Annotated[
        float, typer.Option("--ratio", min=0.0, max=1.0, help="Part of a slot's samples that retraining takes.")
    ] = 0.3,
    examples: Annotated[int, typer.Option("--examples", min=1, max=20, help="Images that are shown.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of images and retraining.")] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder to write. [default: results/explain-CORRUPTION]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show where student and teacher look: before a drift, under it, and after retraining.

    Writes attention.png and .svg (images and maps), signals.png and .svg and signals.csv (true accuracy slot by slot
    beside what is known without true labels), and summary.json.
    """
    from orric.explanation.drifting import explain_stream
    from orric.explanation.explain import known_method
    from orric.folders import result_folder
    from orric.profile import Profile
    from orric.report.folder import MARK, demand_packages
    from orric.shipped import profile_file

    loaded = Profile.load(profile_file(profile))
    if data is not None:
        loaded = loaded.with_data(data)
    if loaded.models is None:
        from orric.exceptions import ProfileError

        raise ProfileError(profile, "has no [models] to look at", "use a profile made by orric calibrate")
    known_method(method)
    demand_packages()
    target = output or Path("results") / f"explain-{corruption}"
    with interruptible("nothing was written"), progress_bars() as progress, result_folder(target, "explain") as work:
        folder = work.result
        bar = progress.add_task("retraining and watching", total=1.0)
        found = explain_stream(
            loaded, corruption, slots, per_slot, ratio, seed, method, layer, teacher_layer, examples,
            lambda part: progress.update(bar, completed=part),
        )  # fmt: skip
        facts = {
            "profile": profile, "corruption": corruption, "seed": seed, "slots": slots,
            "samples_per_slot": per_slot, "ratio": ratio, **_facts(found),
        }  # fmt: skip
        for name, figure in _figures(found, facts).items():
            for suffix in ("png", "svg"):
                figure.savefig(folder / f"{name}.{suffix}", dpi=150)
        (folder / "signals.csv").write_text(_table(found), encoding="utf-8")
        (folder / MARK).write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps({"folder": str(target), **facts}, allow_nan=False))
        return
    console = console_of_output()
    print_table(console, tuple(facts["rows"][0]), [tuple(map(_cell, row.values())) for row in facts["rows"]])
    for line in facts["conclusion"]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Pictures: {target / 'attention.png'}, {target / 'signals.png'}", highlight=False, soft_wrap=True)


def _facts(found: ExplainedStream) -> dict[str, Any]:
    """Return what the stream says, in numbers and in words."""
    from orric.explanation.drifting import FROZEN, RETRAINED, SIGNALS

    series = {"accuracy": found.accuracy, **found.signals}
    means = {
        (name, student): found.by_severity(values)
        for name, lines in series.items()
        for student, values in lines.items()
    }
    rows = [
        {
            "severity": severity,
            **{f"{name}, {student}": one[severity] for (name, student), one in means.items()},
        }
        for severity in means["accuracy", FROZEN]
    ]
    told = {signal: found.correlation(signal) for signal in SIGNALS}

    def at(name: str, student: str, row: int = -1) -> float:
        return float(rows[row][f"{name}, {student}"])

    last, drift = rows[-1]["severity"], found.corruption.replace("_", " ")
    first = (
        f"Under {drift} of severity {last} the frozen student is right on {100 * at('accuracy', FROZEN):.0f} %, the "
        f"retrained one on {100 * at('accuracy', RETRAINED):.0f} %; where they look is like the teacher's to "
        f"{at('attention', FROZEN):.2f} and {at('attention', RETRAINED):.2f}, at severity {rows[0]['severity']} to "
        f"{at('attention', FROZEN, 0):.2f}."
    )
    known = {
        signal: "unknown, as it never changes" if value != value else f"{value:+.2f}" for signal, value in told.items()
    }
    second = (
        f"Correlation with true accuracy, over the slots of both students: {known['attention']} of attention like the "
        f"teacher's, {known['agreement']} of the same predictions, {known['confidence']} of confidence."
    )
    return {
        "method": found.method,
        "student_layer": found.student_layer,
        "teacher_layer": found.teacher_layer,
        "rows": rows,
        "correlation": {signal: None if value != value else value for signal, value in told.items()},
        "conclusion": [first, second],
    }


def _figures(found: ExplainedStream, facts: dict[str, Any]) -> dict[str, Figure]:
    from orric.report.explanation import Panel, attention_figure, signals_figure

    def named(label: int) -> str:
        return found.classes[label].replace("_", " ")

    rows = [
        [
            Panel(example.clean, named(example.label)),
            Panel(example.corrupted, f"{found.corruption.replace('_', ' ')}, severity {found.severities[-1]}"),
            *(
                Panel(
                    example.corrupted if look.drifted else example.clean,
                    named(look.predicted),
                    look.values,
                    look.predicted == example.label,
                )
                for look in example.looks
            ),
        ]
        for example in found.examples
    ]
    first, second = facts["conclusion"]
    return {
        "attention": attention_figure(HEADINGS, rows, f"{first} Maps: {found.method}"),
        "signals": signals_figure(found.severities, found.accuracy, found.signals, second),
    }


def _table(found: ExplainedStream) -> str:
    """Return signals.csv: a line for every slot and student."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["slot", "severity", "student", "accuracy", *found.signals])
    for student, accuracy in found.accuracy.items():
        for slot, severity in enumerate(found.severities.tolist(), start=1):
            told = [float(values[student][slot - 1]) for values in found.signals.values()]
            lines.writerow([slot, severity, student, float(accuracy[slot - 1]), *told])
    return text.getvalue()


def _cell(value: float) -> str:
    return f"{value}" if isinstance(value, int) else f"{value:.3f}"

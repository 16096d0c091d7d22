"""The command that says how good any online algorithm could be: game."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orric.cli.competition import ProfileFile
from orric.cli.completion import allocator_names
from orric.cli.frame import (
    Jobs,
    Json,
    app,
    console_of_output,
    demand_writable,
    interruptible,
    print_table,
    progress_bars,
)
from orric.exceptions import ScenarioError

if TYPE_CHECKING:
    from orric.competitive.game import Played, Value

ALLOCATORS = ("orric", "orric-chord", "orric-line", "inference-only")


@app.command()
def game(
    profile: ProfileFile,
    slots: Annotated[int, typer.Option("--slots", min=1, max=5, help="Number of slots.")] = 3,
    levels: Annotated[int, typer.Option("--levels", min=1, max=20, help="Number of budgets that a slot may have.")] = 5,
    starts: Annotated[
        str, typer.Option("--starts", help="f(0) as parts of the best accuracy F, by commas.")
    ] = "0.4,0.6,0.8",
    floors: Annotated[
        str, typer.Option("--floors", help="L as parts of the slope of the chord, by commas.")
    ] = "0.05,0.5",
    spreads: Annotated[str, typer.Option("--spreads", help="D_max / D_min, by commas.")] = "1",
    allocator: Annotated[
        list[str] | None,
        typer.Option(
            "--allocator",
            help=f"Name of an allocator; may be given again. [default: {', '.join(ALLOCATORS)}]",
            autocompletion=allocator_names,
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write the figure here (PNG).")] = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Solve small games exactly: the best ratio that any online algorithm can guarantee, beside that of allocators.

    The algorithm knows f(0), F and L, sees requests and budgets slot by slot, and never the curve. Of the profile's
    configurations the first, the middle and the last of each kind take part.
    """
    import orric
    from orric.competitive.game import Shape, game_of, played
    from orric.workers import in_parallel

    subject = orric.Profile.load(profile)
    names = list(dict.fromkeys(allocator or ALLOCATORS))
    for name in names:
        orric.make_allocator(name)
    shapes = [
        Shape(start, floor, spread)
        for spread in _numbers("--spreads", spreads)
        for floor in _numbers("--floors", floors)
        for start in _numbers("--starts", starts)
    ]
    for shape in shapes:
        game_of(subject, slots, levels, shape)  # what is too large is better told now
    if output is not None:
        import orric.report.competition

        if output.suffix != ".png":
            raise ScenarioError(f"--output {output}", "is not named as a picture", "give a name that ends in .png")
        demand_writable(output, "--output", (profile,))
    answers: dict[int, Played] = {}
    with interruptible("nothing was solved to the end"), progress_bars() as progress:
        bar = progress.add_task(f"{len(shapes)} games of {slots} slots", total=len(shapes))
        for number, answer in in_parallel(
            played, [(subject, slots, levels, shape, tuple(names)) for shape in shapes], jobs
        ):
            answers[number] = answer
            progress.update(bar, completed=len(answers))
    rows = [answers[number] for number in range(len(shapes))]
    if output is not None:
        from orric.report.competition import ratio_by_start

        ratio_by_start(rows, slots).savefig(output, format="png")
    if as_json:
        print(json.dumps({"slots": slots, "levels": levels, "games": [_as_json(row) for row in rows]}, allow_nan=False))
        return
    headings = (
        "f(0) / F", "L / chord", "D_max / D_min", "ORRIC proved >=", *names, "best without chance", "best of any"
    )  # fmt: skip
    cells = [
        (
            f"{row.shape.start:g}", f"{row.shape.floor:g}", f"{row.shape.spread:g}",
            "not proved" if row.proved != row.proved else f"{row.proved:.4f}",
            *(f"{row.ratios[name]:.4f}" for name in names), _value(row.without_chance), _value(row.best),
        )
        for row in rows
    ]  # fmt: skip
    console = console_of_output()
    print_table(console, headings, cells, title=f"Guaranteed ratios, {slots} slots, {levels} budgets")
    if output is not None:
        console.print(f"Figure: {output}", markup=False, highlight=False, soft_wrap=True)


def _value(value: Value) -> str:
    return f"{value.low:.4f}" if value.high - value.low < 5e-5 else f"{value.low:.4f} to {value.high:.4f}"


def _as_json(row: Played) -> dict[str, Any]:
    from dataclasses import asdict

    answer = asdict(row)
    return {**answer, "proved": None if row.proved != row.proved else row.proved}


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ScenarioError(option, f"found {text!r}", "give numbers, by commas") from None

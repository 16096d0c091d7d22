"""The command that reports on result folders: one, or two compared."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from orric.cli.frame import Json, app, console_of_output, print_table


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Result folder of orric run or orric sweep.")],
    other: Annotated[Path | None, typer.Argument(help="A second one, to compare the first with.")] = None,
    as_json: Json = False,
) -> None:
    """Tell what a result folder says, or what has changed between two of them and whether it may be chance.

    Of a sweep's folder the report is drawn anew.
    """
    from orric.report.compare import Folder

    one = Folder.load(folder)
    if other is None:
        _report(one, as_json)
    else:
        _compare(one, Folder.load(other), as_json)


def _report(one: Any, as_json: bool) -> None:
    from orric.exceptions import SimulationError
    from orric.report.sweep_folder import write_sweep_report

    sentences = list(one.summary.get("conclusion", []))
    page = one.path / "report.html"
    if one.is_sweep:
        from orric.folders import write_more

        def write(name: str, content: bytes) -> None:
            try:
                write_more(one.path, "sweep", name, content)
            except OSError as error:
                where, found = f"result folder {one.path}", f"cannot be written: {error.strerror}"
                raise SimulationError(where, found, "check its permissions, and the room on the disk") from None

        sentences = write_sweep_report(one.summary, one.rows, write)
    if as_json:
        told = {"folder": str(one.path), "conclusion": sentences, "report": str(page), "lacking": one.lacking}
        print(json.dumps(told))
        return
    console = console_of_output()
    _tell_lacking(console, one)
    for sentence in sentences:
        console.print(sentence, highlight=False, markup=False)
    console.print(f"\nReport: {page}", highlight=False, markup=False, soft_wrap=True)


def _compare(one: Any, other: Any, as_json: bool) -> None:
    from orric.report.compare import changes, told_apart

    found, asked = changes(one, other), told_apart(one, other)
    both_know = all(folder.knows("in-time accuracy") for folder in (one, other))
    in_time = changes(one, other, "in-time accuracy") if both_know else []
    if as_json:
        folders = [str(one.path), str(other.path)]
        rows = {"changes": _plain(found), "in_time_changes": _plain(in_time)}
        print(json.dumps({"folders": folders, "differs": asked, **rows}))
        return
    console = console_of_output()
    for folder in (one, other):
        _tell_lacking(console, folder)
    console.print("What was asked differs in:" if asked else "The same was asked.", highlight=False, markup=False)
    for line in asked:
        console.print(f"  {line}", highlight=False, markup=False)
    _print_changes(console, "Mean accuracy", one, found)
    ends = [[(change.before, change.after) for change in some] for some in (in_time, found)]
    if in_time and ends[0] != ends[1]:
        _print_changes(console, "In-time accuracy", one, in_time)


def _plain(found: list[Any]) -> list[dict[str, Any]]:
    return [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in ({**asdict(change), "verdict": change.verdict} for change in found)
    ]


def _tell_lacking(console: Any, folder: Any) -> None:
    if folder.lacking:
        said = f"{folder.path} is of an earlier version of orric, which did not record: {', '.join(folder.lacking)}."
        console.print(said, highlight=False, markup=False)


def _print_changes(console: Any, accuracy: str, one: Any, found: list[Any]) -> None:
    cells = [
        (
            change.allocator,
            f"{100 * change.before:.2f}",
            f"{100 * change.after:.2f}",
            f"{100 * change.difference:+.2f}" + _reach(change),
            change.verdict,
        )
        for change in found
    ]
    title = f"{accuracy}, paired by {found[0].pairs} seeds"
    if not one.is_sweep:
        title = f"{accuracy} of one run each: a sweep over seeds tells what is chance"
    headings = ("allocator", "before (%)", "after (%)", "change (points)", "verdict")
    print_table(console, headings, cells, ("allocator", "verdict"), title)


def _reach(change: Any) -> str:
    if not math.isfinite(change.low):
        return ""
    return f" ({100 * change.low:+.2f} to {100 * change.high:+.2f})"

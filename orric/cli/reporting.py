"""The command that reports on result folders: one, several compared, all below a folder, and figures for papers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orric.cli.frame import Json, app, console_of_output, demand_writable, print_table, tell
from orric.exceptions import ScenarioError

if TYPE_CHECKING:
    from orric.report.compare import Folder
    from orric.report.compare_page import Comparison


class FigureFormat(StrEnum):
    """What figures for papers are written as."""

    png = "png"
    svg = "svg"
    pdf = "pdf"


@app.command()
def report(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Result folders of orric run or orric sweep; several are compared.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write the comparison of several folders as a page, too.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option("--index", help="Write index.html, a page of all results below this folder.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Draw the figures of one folder for papers, into this folder.")
    ] = None,
    formats: Annotated[
        list[FigureFormat] | None, typer.Option("--format", help="Of --figures; may be repeated. [default: all]")
    ] = None,
    widths_cm: Annotated[
        list[float] | None,
        typer.Option("--width", help="Of --figures, in cm; may be repeated. [default: 8.5 and 17.8]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell what a result folder says, or what changes from the first of several to the others.

    Every measure is compared, seed by seed, with intervals over seeds and whether a change may be chance; runs of one
    scenario that differ by their seed alone are pooled. Of a sweep's folder the report is drawn anew.
    """
    from orric.report.compare import Folder

    paths = folders or []
    _demand_sense(len(paths), page, index, figures, [*(formats or []), *(widths_cm or [])])
    if index is not None:
        _index(index, as_json)
        return
    loaded = [Folder.load(path) for path in paths]
    if figures is not None:
        _figures(loaded[0], figures, [one.value for one in formats or FigureFormat], widths_cm, as_json)
    elif len(loaded) == 1:
        _report(loaded[0], as_json)
    else:
        _compare(loaded, page, as_json)


def _demand_sense(number: int, page: Path | None, index: Path | None, figures: Path | None, of_figures: Any) -> None:
    """Refuse folders and options that do not go together."""
    if index is not None and (number or page or figures):
        raise ScenarioError("option --index", "stands beside other folders or options", "give --index FOLDER alone")
    if index is None and not number:
        raise ScenarioError("orric report", "found no folder", "give a result folder, several of them, or --index")
    if page is not None and number < 2:
        raise ScenarioError("option --html", "there is nothing to compare", "give two folders or more")
    if figures is not None and number > 1:
        raise ScenarioError("option --figures", f"found {number} folders", "give one")
    if figures is None and of_figures:
        raise ScenarioError("options --format and --width", "there are no figures to draw", "give --figures, too")


def _report(one: Folder, as_json: bool) -> None:
    from orric.report.compare_page import lacking
    from orric.report.sweep_folder import write_sweep_report

    sentences = list(one.summary.get("conclusion", []))
    page = one.path / "report.html"
    if one.is_sweep:
        sentences = write_sweep_report(one.summary, one.rows, _writer(one.path))
    warned = tell([str(warning) for warning in one.summary.get("warnings", [])])
    if as_json:
        told = {
            "folder": str(one.path), "conclusion": sentences, "warnings": warned, "report": str(page),
            "lacking": one.lacking,
        }  # fmt: skip
        print(json.dumps(told))
        return
    _say(*lacking([one]), *sentences, f"\nReport: {page}")


def _writer(folder: Path) -> Callable[[str, bytes], None]:
    """Return a function that writes a file of a sweep's folder."""
    from orric.exceptions import SimulationError
    from orric.folders import write_more

    def write(name: str, content: bytes) -> None:
        try:
            write_more(folder, "sweep", name, content)
        except OSError as error:
            where, found = f"folder {folder}", f"cannot be written: {error.strerror}"
            raise SimulationError(where, found, "check its permissions, and the room on the disk") from None

    return write


def _figures(one: Folder, target: Path, formats: Sequence[str], widths_cm: list[float] | None, as_json: bool) -> None:
    """Draw all figures of a folder for papers."""
    from orric.folders import result_folder
    from orric.report.canvas import explain
    from orric.report.paper import WIDTHS_CM, figure_files, run_figures
    from orric.report.sweep_page import CAPTIONS, sweep_figures

    if one.is_sweep:

        def of_sweep() -> dict[str, Any]:
            drawn = sweep_figures(one.summary)
            return {stem: explain(figure, CAPTIONS.get(stem, "")) for stem, figure in drawn.items()}

        drawn = figure_files(of_sweep, formats, widths_cm or WIDTHS_CM)
    else:
        draw = run_figures(one.path, paired="prediction_errors" in one.summary)
        drawn = figure_files(draw, formats, widths_cm or WIDTHS_CM)
    names = []
    try:
        with result_folder(target, "figures") as work:
            for name, content in drawn:
                (work.result / name).write_bytes(content)
                names.append(name)
    except ScenarioError as error:
        where, found, remedy = error.args
        raise ScenarioError(where, found, remedy.replace("--output", "--figures")) from None
    if as_json:
        print(json.dumps({"folder": str(one.path), "figures": str(target), "files": sorted(names)}))
        return
    _say(*sorted(names), f"\n{len(names)} files in {target}; captions.md says what each figure shows.")


def _compare(folders: list[Folder], page: Path | None, as_json: bool) -> None:
    from orric.durable import write_whole
    from orric.report.compare_page import compare_page, compared, lacking

    if page is not None:
        demand_writable(page, "--html")
    told = compared(folders)
    if page is not None:
        write_whole(page, compare_page(folders, told).encode("utf-8", "replace"))
    if as_json:
        cases = [
            {
                "before": [str(folder.path) for folder in one.first.folders],
                "after": [str(folder.path) for folder in one.other.folders],
                "differs": one.differs,
                "conclusion": one.sentences,
                "changes": [change.plain for change in one.found],
            }
            for one in told
        ]
        print(json.dumps({"folders": [str(folder.path) for folder in folders], "comparisons": cases}))
        return
    _say(*lacking(folders))
    for one in told:
        _print_comparison(one, several=len(told) > 1)
    if page is not None:
        _say(f"\nPage: {page}")


def _print_comparison(one: Comparison, several: bool) -> None:
    from orric.report.changes import MEASURES, tells_chance
    from orric.report.compare_page import row_of

    if several:
        _say(f"\nFrom {one.first.label} to {one.other.label}:")
    _say("What was asked differs in:" if one.differs else "The same was asked.", *(f"  {line}" for line in one.differs))
    _say(*one.sentences)
    moved = [change for change in one.found if change.verdict != "same"]
    rows = [
        (f"{MEASURES[change.measure].title} ({MEASURES[change.measure].unit})", change.allocator, *row_of(change))
        for change in moved
    ]
    pairs = max((change.pairs for change in moved), default=0)
    seeds = f"paired by {pairs} seeds" if pairs > 1 else "of one run each: seeds tell what is chance"
    if rows:
        # A column that says "one pair only" in every row says nothing.
        shown = 6 if tells_chance(moved) else 5
        headings = ("measure", "allocator", "before", "after", "change", "chance")[:shown]
        words = ("measure", "allocator", "chance")
        kept = [row[:shown] for row in rows]
        print_table(console_of_output(), headings, kept, words, f"What has changed, {seeds}")
    changed = {change.measure for change in moved}
    same = dict.fromkeys(MEASURES[change.measure].title for change in one.found if change.measure not in changed)
    if same:
        _say(f"The same under all: {', '.join(same)}.")


def _index(folder: Path, as_json: bool) -> None:
    """Write a page of all results below a folder."""
    from orric.durable import read_bounded, write_whole
    from orric.report.index_page import PAGE, SIGN, entries, index_page

    found, page = entries(folder), folder / PAGE
    demand_writable(page, "--index")
    if page.exists() and SIGN not in read_bounded(page, 2**26)[:4096]:
        raise ScenarioError(str(page), "is none that orric report has written", "rename it")
    write_whole(page, index_page(folder, found).encode("utf-8", "replace"))
    if as_json:
        print(json.dumps({"folder": str(folder), "page": str(page), "results": [entry.plain for entry in found]}))
        return
    rows = [
        (
            entry.folder,
            entry.kind,
            entry.seed,
            entry.best,
            "-" if entry.accuracy is None else f"{100 * entry.accuracy:.2f}",
            "-" if entry.late is None else f"{100 * entry.late:.2f}",
        )
        for entry in found
    ]
    if rows:
        headings = ("folder", "kind", "seed", "best", "in-time accuracy (%)", "late (%)")
        print_table(console_of_output(), headings, rows, ("folder", "kind", "seed", "best"), "Right and in time")
    _say(f"{len(rows)} result{'s' * (len(rows) != 1)}. Page: {page}")


def _say(*lines: str) -> None:
    console = console_of_output()
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

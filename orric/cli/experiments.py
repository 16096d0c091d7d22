"""The commands that simulate and evaluate: run, evaluate."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orric.cli.frame import (
    Data,
    InterruptError,
    Jobs,
    Json,
    LogLines,
    Overload,
    Seed,
    app,
    console_of_output,
    print_pairs,
    print_table,
    progress_bars,
    tell,
    widths_within,
)
from orric.exceptions import ScenarioError

if TYPE_CHECKING:
    from rich.console import Console

    from orric.cli.resuming import KeptLines
    from orric.comparison import Failure
    from orric.records import Result


class AccuracyModel(StrEnum):
    """Where accuracies come from."""

    curve = "curve"
    table = "table"
    onnx = "onnx"


# Columns of the comparison that a narrow terminal goes without, in this order.
DISPENSABLE = (
    "decisions per s",
    "of it retraining (%)",
    "p50 latency (s)",
    "p50 latency of the answered (s)",
    "waiting at the end (%)",
    "lost (%)",
    "abandoned (%)",
    "shed (%)",
    "late (%)",
    "budget used (%)",
    "p99 latency (s)",
    "p99 latency of the answered (s)",
    "in time (%)",
    "answered (%)",
    "accuracy, last severity (%)",
    "energy (Wh)",
    "worst stream's (%)",
    "overloaded (waiting, a slot)",
)


@app.command()
def run(
    scenario: Annotated[Path, typer.Argument(help="Scenario file (TOML).")],
    output: Annotated[Path | None, typer.Option("--output", help="Result folder. [default: results/NAME]")] = None,
    accuracy: Annotated[
        AccuracyModel | None, typer.Option("--accuracy", help="Overrides the scenario's accuracy model.")
    ] = None,
    requests: Annotated[
        bool, typer.Option("--requests", help="Write the times of every request, too (Parquet, folder requests).")
    ] = False,
    paired: Annotated[
        bool,
        typer.Option(
            "--paired",
            help="Run the real models, the learning curve and the measured table on the same allocations, and report "
            "how far the latter two are off.",
        ),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew, whatever an interrupted run of the same has finished.")
    ] = False,
    data: Data = None,
    seed: Seed = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Simulate and compare a scenario's allocators; write a result folder with report.html.

    With real models (accuracy "onnx") the same scenario is simulated on the learning curve as well, and the
    report shows how far the two are apart. With --paired they differ by the accuracy model alone.

    An allocator that misbehaves is named and left out, and the status is 1; when all of them do, nothing is written.

    Interrupted, the same command goes on from there: each allocator that was finished is kept.
    """
    from orric.cli.resuming import KeptLines, key_of
    from orric.comparison import Failure, compare, lines
    from orric.folders import result_folder
    from orric.report.folder import demand_packages, write_results
    from orric.scenario import load_scenario
    from orric.scenario.physics import warnings

    demand_packages()

    loaded = load_scenario(scenario)
    if paired and accuracy not in (None, AccuracyModel.onnx):
        found = f"--accuracy {accuracy.value} has no real models to compare with"
        raise ScenarioError("options --paired and --accuracy", found, "leave --accuracy out")
    if paired or accuracy is not None:
        loaded = loaded.with_accuracy("onnx" if accuracy is None else accuracy.value, str(scenario))
    if data is not None:
        loaded = loaded.with_data(data)
    chosen = loaded.seed if seed is None else seed
    warned = tell(warnings(loaded, chosen))
    models: list[Any] = ["onnx", "curve"] if loaded.accuracy.model == "onnx" else [loaded.accuracy.model]
    if paired and loaded.has_tables:
        models.append("table")
    order = [(model, line) for model in models for line in lines(loaded, model)]
    target = output or Path("results") / loaded.name
    command = shlex.join(["orric", *sys.argv[1:]])
    failures: list[Failure] = []
    key = key_of(loaded, order, chosen, requests, paired)
    with (
        _telling_what_remains(target, len(order)) as kept_lines,
        progress_bars() as progress,
        result_folder(target, "run", key, fresh=fresh) as work,
    ):
        _tell_what_is_replaced(target, progress.console)
        bar = progress.add_task("starting", total=None)
        log = LogLines(progress.console)
        kept = KeptLines(work, order, requests)
        kept_lines.append(kept)
        before = len(kept.results)
        if before:
            told = f"orric: resumed: {before} of {len(order)} lines were finished before; --fresh starts anew"
            progress.console.print(told, highlight=False, markup=False, soft_wrap=True)

        def moved(slots: int, total: int, doing: str) -> None:
            done = len(kept.results) + len(failures)
            lines_done = f"{done} of {len(order)} lines"
            progress.update(bar, completed=slots, total=total, description=doing or lines_done)
            log.tell(f"orric: {lines_done}, {100 * slots // total} % of all slots" + f"; {doing}" * bool(doing))

        for outcome in compare(
            loaded, models, chosen, jobs, kept.requests, paired, finished=set(kept.results), progress=moved
        ):
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                kept.keep(outcome)
        progress.update(bar, description="writing the report")
        failures.sort(key=lambda failure: order.index((failure.accuracy_model, failure.allocator)))
        results = [kept.results[line] for line in order if line in kept.results]
        if not any(result.allocator in loaded.allocators for result in results):
            raise failures[0].error
        failed = _told(failures, results)
        kept.hand_over_requests(work.result)
        summary = write_results(work.result, target, loaded, results, chosen, command, failed, paired, warned)
    if as_json:
        print(json.dumps({"folder": str(target), **summary}, allow_nan=False))
    else:
        _print_comparison([result.pooled() for result in results], summary["conclusion"], target)
        _print_errors(summary.get("prediction_errors", []))
    for message in failed.values():
        print(f"orric: {message}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _tell_what_is_replaced(target: Path, console: Console) -> None:
    """Say which earlier result there will be no more."""
    from datetime import datetime

    from orric.report.folder import MARK

    try:
        written = datetime.fromtimestamp((target / MARK).stat().st_mtime)
    except OSError:
        return
    told = f"orric: replaces the result of {written:%Y-%m-%d %H:%M:%S} in {target}; another --output keeps both"
    console.print(told, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _telling_what_remains(target: Path, lines: int) -> Iterator[list[KeptLines]]:
    """Let Ctrl-C end the command with one line that says what is kept; the block appends what it keeps."""
    kept: list[KeptLines] = []
    try:
        yield kept
    except KeyboardInterrupt:
        count = len(kept[0].results) if kept else 0
        remains = "nothing was written"
        if count:
            remains = f"{count} of {lines} lines are kept; give the same command again to go on"
        raise InterruptError(
            f"interrupted; {remains}" + f", and the earlier result in {target} is kept" * target.exists()
        ) from None


@app.command()
def evaluate(
    profile: Annotated[Path | None, typer.Option("--profile", help="Profile file (TOML).")] = None,
    trace: Annotated[Path | None, typer.Option("--trace", help="Trace file (CSV).")] = None,
    scenario: Annotated[
        Path | None,
        typer.Option("--scenario", help="Scenario file that gives both, in place of --profile and --trace."),
    ] = None,
    allocator: Annotated[str, typer.Option("--allocator", help="Name of the allocator.")] = "orric",
    log: Annotated[
        Path | None,
        typer.Option("--log", help="Journal of an edge daemon, whose slots are decided again with --profile."),
    ] = None,
    overload: Annotated[Overload | None, typer.Option("--overload", help="[default: error, or the scenario's]")] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Evaluate an allocator in the paper's slot model."""
    import orric
    from orric.scenario.physics import warnings

    if log is not None:
        if profile is None or trace is not None or scenario is not None:
            raise ScenarioError("options", "--log takes --profile and nothing else", "give both")
        _replay(log, profile, as_json)
        return
    chosen = orric.make_allocator(allocator)
    if scenario is not None:
        if profile or trace:
            raise ScenarioError("options", "--scenario and --profile or --trace together", "give one or the other")
        loaded = orric.load_scenario(scenario)
        seed = loaded.seed if seed is None else seed
        tell(warnings(loaded, seed, slot_model=True))
        subject, given, default = loaded.profile, loaded.trace(seed), loaded.overload
    elif profile is not None and trace is not None:
        subject, given, default = orric.Profile.load(profile), orric.Trace.load(trace), "error"
    else:
        raise ScenarioError("options", "nothing to evaluate", "give --profile and --trace, or --scenario")
    result = orric.evaluate(subject, given, chosen, overload=overload.value if overload else default, seed=seed or 0)
    if as_json:
        answer = {
            "allocator": result.allocator,
            "value": result.value,
            "mean_accuracy": result.mean_accuracy,
            "allocations": result.allocations,
        }
        print(json.dumps(answer, allow_nan=False))
        return
    _print_evaluation(result)


def _replay(log: Path, profile: Path, as_json: bool) -> None:
    """Have a daemon's slots decided again, and say whether the decisions are the same."""
    import orric
    from orric.edge.episode import replay_log

    found = replay_log(log, orric.Profile.load(profile))
    if as_json:
        print(json.dumps(found))
    elif found["different"]:
        print(f"orric: {len(found['different'])} of {found['slots']} decisions of {found['allocator']} are others now")
    else:
        print(f"orric: {found['allocator']} decides all {found['slots']} slots as it was recorded")
    if found["damaged"]:
        number = found["damaged"]
        print(f"orric: {log}: record {number} is damaged; only those before it were decided again", file=sys.stderr)
    if found["different"] or found["damaged"]:
        raise typer.Exit(1)


def _told(failures: list[Failure], results: list[Result]) -> dict[str, str]:
    """Say of each allocator that misbehaved what it did, and under which accuracy model when not under all."""
    from orric.report.table import MODELS

    told: dict[str, str] = {}
    for failure in failures:
        elsewhere = any(result.allocator == failure.allocator for result in results)
        only = f"; it did so with {MODELS[failure.accuracy_model]} only" if elsewhere else ""
        told.setdefault(failure.allocator, f"{failure.error}{only}")
    return told


def _print_comparison(results: list[Result], conclusion: list[str], target: Path) -> None:
    console = console_of_output()
    for model in dict.fromkeys(result.accuracy_model for result in results):
        shown = [result for result in results if result.accuracy_model == model]
        console.print(_comparison_table(shown, model, console))
    for sentence in conclusion:
        console.print(sentence, highlight=False)
    console.print(f"\nReport: {target / 'report.html'}", highlight=False, soft_wrap=True)


def _print_errors(errors: list[dict[str, Any]]) -> None:
    """Print how far each accuracy model is off the real one on the same allocations."""
    if not errors:
        return
    rows = [
        (
            one["allocator"],
            one["accuracy_model"],
            f"{100 * one['real']:.2f}",
            f"{100 * one['predicted']:.2f}",
            f"{100 * one['error']:+.2f}",
            f"{100 * one['worst_error']:+.2f}",
            one["worst_where"],
        )
        for one in errors
    ]
    headings = ("allocator", "model", "real (%)", "predicted (%)", "error (points)", "worst (points)", "where")
    words = ("allocator", "model", "where")
    print_table(console_of_output(), headings, rows, words, "Predicted on the same allocations")


def _comparison_table(results: list[Result], model: str, console: Console) -> Any:
    from rich.table import Table

    from orric.report.folder import decisions_per_s
    from orric.report.table import MODELS, table_rows

    speeds = {(result.accuracy_model, result.allocator): decisions_per_s(result) for result in results}
    headings, rows = table_rows(results, speeds)
    widths = _widths(headings, rows, console.width)
    table = Table(title=f"By {MODELS[model]}", title_justify="left", header_style="bold", caption_justify="left")
    table.add_column(headings[0], overflow="fold")
    for heading, width in list(widths.items())[1:]:
        table.add_column(heading, justify="right", width=width)
    for row in rows:
        table.add_row(*(cell for heading, cell in zip(headings, row, strict=True) if heading in widths))
    dropped = [heading for heading in DISPENSABLE if heading in headings and heading not in widths]
    if dropped:
        table.caption = f"The terminal is too narrow for: {', '.join(dropped)}. The report has them."
    return table


def _widths(headings: list[str], rows: list[list[str]], room: int) -> dict[str, int]:
    """Choose the columns of figures that fit beside the names, and their widths.

    Headings may be broken between their words; figures nowhere, nor names while there is a column to do without.
    """
    columns = dict(zip(headings, zip(*rows, strict=True), strict=True))
    least = {heading: max(map(len, [*heading.split(), *cells])) for heading, cells in columns.items()}
    for dispensable in ("", *DISPENSABLE):
        least.pop(dispensable, 0)
        whole = {heading: max(least[heading], len(heading)) for heading in least}
        widths = widths_within(room, list(least.values()), list(whole.values()))
        if widths is not None:
            return dict(zip(least, widths, strict=True))
    return least


def _print_evaluation(result: Result) -> None:
    console = console_of_output()
    total = float(result.columns["requests"].sum())
    console.print(
        f"{result.allocator}: mean accuracy {result.mean_accuracy:.2%} "
        f"({result.value:,.1f} of {total:,.0f} requests right in expectation, {len(result.columns['slot'])} slots)",
        highlight=False,
    )
    if shed := result.fates["shed"]:
        console.print(f"shed {shed:,.0f} requests in overloaded slots", highlight=False)
    pairs = list(zip(result.columns["retraining"].tolist(), result.columns["inference"].tolist(), strict=True))
    print_pairs(console, pairs)
    if len(set(pairs)) > 1:
        console.print("Every slot's allocation: add --json.", highlight=False)

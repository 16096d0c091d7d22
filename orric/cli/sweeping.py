"""The command that runs sweeps."""

from __future__ import annotations

import json
import os
import shlex
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orric.cli.frame import (
    Data,
    Jobs,
    LogLines,
    app,
    console_of_output,
    interruptible,
    print_table,
    progress_bars,
    tell,
)
from orric.exceptions import ScenarioError

# Points that are printed; points.csv and the report have all.
MOST_PRINTED = 20

if TYPE_CHECKING:
    from orric.sweep import Outcome, Sweep
    from orric.sweep.conduct import Progress
    from orric.sweep.store import Store


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="SWEEP", help="Sweep file (TOML).")],
    output: Annotated[Path | None, typer.Option("--output", help="Result folder. [default: results/NAME]")] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="ADDRESS", help='Run on a Ray cluster: "host:port" of its head, or "local" to start one.'
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check all scenarios and say what the sweep would take; run nothing.")
    ] = False,
    jobs: Jobs = None,
    data: Data = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object on standard output, and one line of progress in JSON on standard error.",
        ),
    ] = False,
) -> None:
    """Run a grid of scenarios, allocators and seeds; write a result folder with runs.parquet and sweep.json.

    Interrupted, the same command goes on from there; a run that was computed before is not computed again. A run that
    fails is told with its error and does not stop the others; the status is 1 then.
    """
    from orric.sweep import Sweep, check_all, on_cluster, on_cores
    from orric.sweep.conduct import estimated, run_into
    from orric.sweep.store import Store

    if ray is not None and jobs is not None:
        raise ScenarioError("options", "--ray and --jobs together", "a cluster knows its own processors")
    if data is not None:
        os.environ["ORRIC_DATA"] = str(data.resolve())  # workers inherit it
    loaded = Sweep.load(file)
    target = output or Path("results") / loaded.name
    engine = on_cores(jobs) if ray is None else on_cluster(ray)
    remains = f"finished chunks are kept in {target}; give the same command again to go on"
    with interruptible(remains), progress_bars() as bars:
        bar = bars.add_task("checking the scenarios", total=1.0)
        warned = check_all(loaded, engine, lambda what, part: bars.update(bar, completed=part, description=what))
        if not as_json:
            tell(warned)
        estimate = estimated(loaded, target, jobs)
        if not as_json:
            bars.console.print(estimate.in_words(), highlight=False, markup=False, soft_wrap=True)
        if check:
            if as_json:
                print(json.dumps({**asdict(estimate), "warnings": warned}))
            return
        estimate.check_room()

        log = LogLines(bars.console)

        def told(state: Progress) -> None:
            if as_json:
                print(json.dumps(asdict(state)), file=sys.stderr)
            else:
                log.tell(state.in_words())
            failed = f", {state.failed} failed" if state.failed else ""
            bars.update(
                bar, completed=state.done, total=state.total, description=f"{state.what}, {state.rate:.3g}/s{failed}"
            )

        with closing(Store(target)) as store:
            outcome = run_into(loaded, store, engine, told)
            bars.update(bar, description="summarising")
            summary = _written(loaded, store, outcome)
    if as_json:
        print(json.dumps({"folder": str(target), "warnings": warned, **summary}, allow_nan=False))
    else:
        _print(loaded, summary, target)
    for one in outcome.failures[:5]:
        print(f"orric: point {one['point']}, {one['allocator']}, seed {one['seed']}: {one['error']}", file=sys.stderr)
    if outcome.failures:
        print(
            f"orric: {len(outcome.failures)} of {outcome.runs} runs failed, see {target / 'runs.parquet'}",
            file=sys.stderr,
        )
        raise typer.Exit(1)


def _written(loaded: Sweep, store: Store, outcome: Outcome) -> dict[str, Any]:
    """Write all tables, sweep.json, scenario files of single points, figures and report.html; return the summary."""
    from orric.report.folder import versions
    from orric.report.sweep_folder import write_sweep_report
    from orric.sweep.figures import Figures
    from orric.sweep.points import points_frame, winners_frame
    from orric.sweep.store import MARK
    from orric.sweep.summary import known_measures, summarised

    target, frame = store.folder, outcome.table.to_pandas()
    summary = {
        "sweep": loaded.name,
        "note": loaded.note,
        "command": shlex.join(["orric", "sweep", loaded._where]),
        "engine": loaded.engine,
        "allocators": list(loaded.lines),
        "axis_titles": [axis.title for axis in loaded.axis],
        "runs": outcome.runs,
        "failed": len(outcome.failures),
        "versions": versions(),
        **summarised(loaded, outcome.table),
    }
    summary["cases"] = _cases(loaded, target, store, summary, frame)
    store.write(target / "runs.csv", frame.to_csv(index=False).encode())
    figures, titles = Figures(loaded, outcome.table), summary["axis_titles"]
    points = points_frame(figures, known_measures(figures), frame[["point", *titles, "allocator"]])
    store.write(target / "points.csv", points.to_csv(index=False).encode())
    winners = winners_frame(figures, figures.winners(figures.of(loaded.leading)), frame[["point", *titles]])
    store.write(target / "winners.csv", winners.to_csv(index=False).encode())
    summary["conclusion"] = write_sweep_report(
        summary, frame, lambda name, content: store.write(target / name, content)
    )
    store.write(target / MARK, (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())
    return summary


def _cases(loaded: Sweep, target: Path, store: Store, summary: dict[str, Any], frame: Any) -> dict[str, str]:
    """Write the scenarios of the points where the best allocator leads most and least; return their files by name."""
    from orric.allocators import REFERENCES
    from orric.report.sweep_words import leader

    store.remove_cases()  # of an earlier sweep
    baseline, leading = summary["baseline"], summary["leading"]
    known = {line: one[leading]["mean"] for line, one in summary["means"].items() if leading in one}
    means = {line: mean for line, mean in known.items() if mean is not None}
    best = leader(means)
    other = best if best != baseline else leader({line: mean for line, mean in means.items() if line != baseline})
    by_point = frame[~frame["allocator"].isin(REFERENCES)].groupby(["point", "allocator"])[leading].mean()
    if other is None or baseline not in by_point.index.get_level_values(1) or loaded.points.which.shape[0] < 2:
        return {}
    table = by_point.unstack()
    apart = (table[other] - table[baseline]).dropna()
    if apart.empty:
        return {}
    chosen = {
        f"where {other} is furthest above {baseline}": apart.idxmax(),
        f"where {other} is furthest below {baseline}, or least above": apart.idxmin(),
        f"where {other} is most accurate": table[other].idxmax(),
        f"where {other} is least accurate": table[other].idxmin(),
    }
    found = {}
    for what, point in chosen.items():
        name = _write_case(loaded, target, store, int(point))
        labels = ", ".join(f"{title} {value}" for title, value in loaded.points.labels(int(point) - 1).items())
        found[f"Point {point}, {what}: {labels}"] = name
    return found


def _write_case(loaded: Sweep, target: Path, store: Store, point: int) -> str:
    """Write a point's scenario, with its profiles beside it where axes changed them; return the file's name."""
    import tomli_w

    from orric.allocators import REFERENCES

    scenario = loaded.scenario_of(point - 1)
    # The slot model goes by the learning curve, whatever the scenario says.
    model = "curve" if loaded.engine == "slot-model" else scenario.accuracy.model
    table = scenario.resolved(target / "cases", scenario.seed, model)
    table["name"] = f"{loaded.name}-{point}"
    table["allocators"] = [one for one in loaded.lines if one not in REFERENCES] or ["inference-only"]
    if any(axis.key.startswith("profile.") for axis in loaded.axis):
        for number, (stream, profile) in enumerate(zip(table["stream"], scenario.profiles, strict=True), start=1):
            stream["profile"] = f"point-{point}-profile-{number}.toml"
            beside = target / "cases" / stream["profile"]
            beside.parent.mkdir(exist_ok=True)
            store.claim(beside)
            profile.moved(target / "cases").save(beside)
    name = f"cases/point-{point}.toml"
    store.write(target / name, tomli_w.dumps(table).encode())
    return name


def _print(loaded: Sweep, summary: dict[str, Any], target: Path) -> None:
    """Print every allocator's accuracy, how far it is from the baseline's, and who is best at every point."""
    console, leading = console_of_output(), summary["leading"]
    accuracy = "in-time accuracy (%)" if leading == "in_time_accuracy" else "accuracy (%)"
    headings = ["allocator", accuracy, f"over {summary['baseline']} (points)", "beyond chance"]
    if summary["ratios"]:
        headings += ["mean ratio", "worst ratio"]
    rows = []
    for line in loaded.lines:
        mean, apart = summary["means"][line].get(leading), summary["differences"].get(line)
        rows.append([line, _percent(mean), _apart(apart), _verdict(apart), *_ratios(summary, line)])
    points = f"{summary['points']} point{'s' * (summary['points'] > 1)}"
    seedless = len(summary["alike"]) == len(loaded.lines)
    means = "one run each: seeds change nothing" if seedless else f"{summary['seeds']} seeds: means and 95 % intervals"
    title = f"{points}, {means}"
    print_table(console, headings, rows, ("allocator", "beyond chance"), title)
    _print_points(console, loaded, summary, accuracy)
    for sentence in summary["conclusion"]:
        console.print(sentence, highlight=False, markup=False)
    console.print(f"\nResults: {target}", highlight=False, soft_wrap=True)


def _print_points(console: Any, loaded: Sweep, summary: dict[str, Any], accuracy: str) -> None:
    """Print the leading measure at every point, who is best there, and whether that may be chance."""
    if not 1 < summary["points"] <= MOST_PRINTED:
        return
    titles = summary["axis_titles"]
    headings = ["point", *titles, *loaded.lines, "best", "above the next (points)", "beyond chance"]
    rows = []
    for one in summary["by_point"]:
        winner, values = (
            one["winner"],
            [f"{value:.6g}" if isinstance(value, float) else str(value) for value in one["values"].values()],
        )
        means = [_percent(one["means"][line].get(summary["leading"])) for line in loaded.lines]
        rows.append(
            [str(one["point"]), *values, *means, winner["best"] if winner else "-", _apart(winner), _verdict(winner)]
        )
    print_table(console, headings, rows, ("best", "beyond chance"), f"{accuracy[:-4]} at every point (%)")


def _ratios(summary: dict[str, Any], line: str) -> list[str]:
    """Write an allocator's mean and worst competitive ratio, where they were measured."""
    if not summary["ratios"]:
        return []
    means, worst = summary["means"][line], summary["ratios"].get(line)
    if worst is None or "ratio_low" not in means:
        return ["-", "-"]
    from orric.competitive.ratio import span_in_words

    ends = means["ratio_low"]["mean"], means["ratio_high"]["mean"]
    return [span_in_words(*ends), span_in_words(worst["low"], worst["high"])]


def _percent(one: dict[str, Any] | None) -> str:
    if one is None or one["mean"] is None:
        return "-"
    reach = "" if one["low"] is None or one["low"] == one["high"] else f" +- {50 * (one['high'] - one['low']):.2f}"
    return f"{100 * one['mean']:.2f}{reach}"


def _apart(one: dict[str, Any] | None) -> str:
    if one is None or one["mean"] is None:
        return "-"
    reach = (
        ""
        if one["low"] is None or one["low"] == one["high"]
        else f" ({100 * one['low']:+.2f} to {100 * one['high']:+.2f})"
    )
    return f"{100 * one['mean']:+.2f}{reach}"


def _verdict(one: dict[str, Any] | None) -> str:
    if one is None or one["p_holm"] is None:
        return "one run" if one is not None and one["count"] > 1 else "-"
    return "yes" if one["beyond_chance"] else "no"

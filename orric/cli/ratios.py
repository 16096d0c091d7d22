"""The command that measures competitive ratios: of one trace, of many, and by the number of slots."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orric.cli.frame import (
    Jobs,
    Json,
    Overload,
    app,
    console_of_output,
    demand_writable,
    interruptible,
    print_table,
    progress_bars,
    span_of,
)
from orric.exceptions import OrricError, ScenarioError

if TYPE_CHECKING:
    from rich.console import Console

    from orric.competitive.bounds import Bounds
    from orric.competitive.ratio import CompetitiveRatio
    from orric.profile import Profile
    from orric.trace import Trace

# Slots listed of those that lost most.
MOST_LOSSES = 5
# Of the interval around the optimum of one trace, and of each of many traces.
GAP, COARSE_GAP = 1e-6, 1e-5
# More slots than any search gets through.
MOST_SLOTS = 1_000_000


@dataclass(frozen=True)
class Subject:
    """What ratios are measured on.

    Attributes:
        profile: Configurations and curve.
        trace: Requests and budgets.
        seed: Of every random draw.
        overload: What becomes of a slot in which no pair fits.
        allocators: A scenario's own; none where there is no scenario.
        profile_file: Where the profile is.
        inputs: The files that were read.
        named: The options that name them.
    """

    profile: Profile
    trace: Trace
    seed: int
    overload: Any
    allocators: tuple[str, ...]
    profile_file: Path
    inputs: tuple[Path, ...]
    named: tuple[str, ...]


@app.command()
def ratio(
    profile: Annotated[Path | None, typer.Option("--profile", help="Profile file (TOML).")] = None,
    trace: Annotated[Path | None, typer.Option("--trace", help="Trace file (CSV).")] = None,
    scenario: Annotated[
        Path | None,
        typer.Option(
            "--scenario", help="Scenario file of one stream that gives both, in place of --profile and --trace."
        ),
    ] = None,
    allocator: Annotated[
        list[str] | None,
        typer.Option(
            "--allocator",
            help="Name of an allocator; may be given again. [default: orric, and inference-only with --horizons; the "
            "scenario's]",
        ),
    ] = None,
    gap: Annotated[
        float | None,
        typer.Option(
            "--gap",
            help=f"Relative width of the interval around the optimum. [default: {GAP:g}; with --ensemble and "
            f"--horizons {COARSE_GAP:g}]",
        ),
    ] = None,
    ensemble: Annotated[
        int | None, typer.Option("--ensemble", min=1, help="Measure so many random traces with the trace's ranges.")
    ] = None,
    horizons: Annotated[
        str | None, typer.Option("--horizons", help="LOW:HIGH, e.g. 10:10000: proved and measured ratios by slots.")
    ] = None,
    evaluations: Annotated[
        int, typer.Option("--evaluations", min=1, help="Ratios measured by the search of every horizon and allocator.")
    ] = 200,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Write the figure here (PNG); with --ensemble a folder with a report."),
    ] = None,
    overload: Annotated[
        Overload | None,
        typer.Option(
            "--overload", help="What becomes of a slot in which no pair fits. [default: error, or the scenario's]"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of every random draw. [default: 0, or the scenario's]"),
    ] = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Measure competitive ratios, as intervals, beside the proved bounds."""
    import orric

    if ensemble is not None and horizons is not None:
        raise ScenarioError("options", "--ensemble and --horizons together", "give one of them")
    if output is not None:
        import orric.report.competition  # a missing extra is better told now than after the work

        if ensemble is None and output.suffix != ".png":
            raise ScenarioError(f"--output {output}", "is not named as a picture", "give a name that ends in .png")
        if ensemble is not None and output.suffix == ".png":
            raise ScenarioError(f"--output {output}", "is named as a picture", "give a folder with --ensemble")
    for name in allocator or ():
        orric.make_allocator(name)
    subject = _subject(profile, trace, scenario, seed, overload)
    names = list(dict.fromkeys(allocator or subject.allocators or ["orric"]))
    if horizons is not None and not allocator:
        names = ["orric", "inference-only"]
    if gap is None:
        gap = GAP if ensemble is None and horizons is None else COARSE_GAP
    if output is not None and ensemble is None:
        demand_writable(output, "--output", subject.inputs)
    if horizons is not None:
        _horizons(subject, names, gap, horizons, evaluations, jobs, output, as_json)
    elif ensemble is not None:
        _ensemble(subject, names, gap, ensemble, jobs, output, as_json)
    else:
        _one_trace(subject, names, gap, output, as_json)


def _subject(
    profile: Path | None, trace: Path | None, scenario: Path | None, seed: int | None, overload: Overload | None
) -> Subject:
    """Load what ratios are measured on: a scenario, or a profile and a trace."""
    import orric
    from orric.allocators import REFERENCES

    if scenario is None:
        if profile is None or trace is None:
            raise ScenarioError("options", "nothing to measure on", "give --profile and --trace, or --scenario")
        given = orric.Profile.load(profile), orric.Trace.load(trace)
        named = ("--profile", str(profile), "--trace", str(trace))
        chosen = overload.value if overload else "error"
        return Subject(*given, seed or 0, chosen, (), profile, (profile, trace), named)
    if profile or trace:
        raise ScenarioError("options", "--scenario and --profile or --trace together", "give one or the other")
    loaded = orric.load_scenario(scenario)
    if len(loaded.stream) > 1 or len(loaded.gpu) > 1:
        found = f"holds {len(loaded.stream)} streams and {len(loaded.gpu)} GPUs"
        wanted = "nobody knows the optimum of several; give a scenario of one stream on one GPU"
        raise ScenarioError(str(scenario), found, wanted)
    seed = loaded.seed if seed is None else seed
    names = tuple(name for name in loaded.allocators if name not in REFERENCES)
    return Subject(
        loaded.profile, loaded.trace(seed), seed, overload.value if overload else loaded.overload, names,
        scenario.parent / loaded.stream[0].profile, (scenario,), ("--scenario", str(scenario)),
    )  # fmt: skip


def _one_trace(subject: Subject, names: list[str], gap: float, output: Path | None, as_json: bool) -> None:
    import orric

    profile, trace, overload = subject.profile, subject.trace, subject.overload
    proved = orric.bounds(profile, trace)
    with progress_bars() as progress:
        progress.add_task("enclosing the optimum", total=None)
        best = orric.offline_optimum(profile, trace, gap, overload=overload)
    answers: dict[str, dict[str, Any]] = {}
    ratios: dict[str, CompetitiveRatio] = {}
    failures: dict[str, OrricError] = {}
    for name in names:
        try:
            result = orric.evaluate(profile, trace, orric.make_allocator(name), overload=overload, seed=subject.seed)
        except OrricError as error:
            failures[name] = error
            continue
        ratios[name] = measured = orric.competitive_ratio(result, best)
        answers[name] = {
            "allocator": name,
            "value": result.value,
            "ratio": {"low": measured.low, "high": measured.high},
            "bounds": bounds_of(proved),
            "regret": {"low": measured.regret[0], "high": measured.regret[1]},
            "losses": measured.losses.tolist(),
            "optimum": {"lower": best.lower, "upper": best.upper, "gap": best.gap, "reason": best.reason},
        }
    _demand_some(failures, names)
    if output is not None:
        from orric.report.competition import loss_by_slot

        _save(loss_by_slot({name: one.losses for name, one in ratios.items()}), output)
    if as_json:
        print(
            json.dumps(answers[names[0]] if len(names) == 1 else {"results": list(answers.values())}, allow_nan=False)
        )
    else:
        console = console_of_output()
        rows = []
        for name, answer in answers.items():
            losses = ratios[name].losses
            worst = [slot for slot in (-losses).argsort(kind="stable")[:MOST_LOSSES] if losses[slot] > 0]
            rows.append(
                (
                    name,
                    f"{answer['ratio']['low']:.6f}",
                    f"{answer['ratio']['high']:.6f}",
                    f"{answer['regret']['high']:,.1f}",
                    ", ".join(f"{slot + 1} ({losses[slot]:,.1f})" for slot in worst) or "none",
                )
            )
        headings = ("allocator", "ratio, low", "ratio, high", "regret, at most", "lost most in slots")
        print_table(console, headings, rows, words=("allocator", "lost most in slots"))
        if best.reason:
            console.print(f"the gap of {gap:g} was not met: {best.reason}", highlight=False)
        print_bounds(console, proved)
        if output is not None:
            console.print(f"Figure: {output}", markup=False, soft_wrap=True)
    _report_failures(failures)


def _ensemble(
    subject: Subject, names: list[str], gap: float, count: int, jobs: int | None, output: Path | None, as_json: bool
) -> None:
    from contextlib import nullcontext

    import orric
    from orric.competitive.study import ends_of, ensemble

    ranges = orric.TraceRange.of(subject.trace)
    # Random traces have no drift, whatever the trace has that gives their ranges.
    proved = orric.bounds(subject.profile, ranges.extreme())
    place: Any = nullcontext()
    if output is not None:
        from orric.folders import result_folder

        place = result_folder(output, "ratio")
    with interruptible("nothing was measured to the end"), progress_bars() as progress, place as work:
        bar = progress.add_task(f"{count} random traces", total=1.0)
        found = ensemble(
            subject.profile,
            ranges,
            names,
            count,
            seed=subject.seed,
            gap=gap,
            jobs=jobs,
            progress=lambda part: progress.update(bar, completed=part),
        )
        _demand_some(found.failed, names)
        answer: dict[str, Any] = {
            "traces": count,
            "seed": subject.seed,
            "ratios": ends_of(found),
            "bounds": bounds_of(proved),
        }
        if work is not None:
            from orric.report.ensemble import write_ensemble

            command = ["orric", "ratio", *subject.named, "--ensemble", str(count), "--seed", str(subject.seed)]
            command += [part for name in names for part in ("--allocator", name)]
            answer["conclusion"] = write_ensemble(
                work.result,
                found,
                ranges,
                proved,
                {**answer, "command": shlex.join(command), "gap": gap, "profile": str(subject.profile_file)},
            )
    if as_json:
        print(json.dumps({**answer, **({"folder": str(output)} if output else {})}, allow_nan=False))
    else:
        console = console_of_output()
        cells = [
            (
                name,
                f"{row['worst']['low']:.6f} to {row['worst']['high']:.6f}",
                f"{row['mean']['low']:.6f}",
                f"{row['mean']['high']:.6f}",
            )
            for name, row in answer["ratios"].items()
        ]
        headings = ("allocator", "worst ratio", "mean ratio, low", "mean ratio, high")
        title = f"{count} random traces of {subject.trace.slots} slots"
        print_table(console, headings, cells, words=("allocator",), title=title)
        print_bounds(console, proved)
        if output is not None:
            console.print(f"Report: {output / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
    _report_failures(found.failed)


def _horizons(
    subject: Subject,
    names: list[str],
    gap: float,
    spans: str,
    evaluations: int,
    jobs: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    import numpy as np

    import orric
    from orric.competitive.study import horizons

    low, high = span_of("--horizons", spans, whole=True)
    if not 1 <= low <= high <= MOST_SLOTS:
        wanted = f"give LOW:HIGH with 1 <= LOW <= HIGH <= {MOST_SLOTS}, e.g. 10:10000"
        raise ScenarioError("--horizons", f"found {spans}", wanted)
    slots = sorted(
        {round(float(value)) for value in np.geomspace(low, high, 4 * max(round(np.log10(high / low)), 1) + 1)}
    )
    with interruptible("nothing was measured to the end"), progress_bars() as progress:
        bar = progress.add_task(f"{len(slots)} horizons", total=1.0)
        rows = horizons(
            subject.profile, orric.TraceRange.of(subject.trace), slots, names, evaluations=evaluations,
            seed=subject.seed, gap=gap, jobs=jobs, progress=lambda part: progress.update(bar, completed=part),
        )  # fmt: skip
    if output is not None:
        from orric.report.competition import ratio_by_horizon

        _save(ratio_by_horizon(rows), output)
    if as_json:
        answer = [
            {
                "slots": row.slots,
                "bounds": bounds_of(row.proved),
                "worst": {name: {"low": low, "high": high} for name, (low, high) in row.worst.items()},
            }
            for row in rows
        ]
        print(json.dumps({"horizons": answer}, allow_nan=False))
        return
    console = console_of_output()
    names = list(rows[0].worst)
    headings = ("slots", "ORRIC proved >=", "Inference-Only <= on equal requests", *(f"{name} worst" for name in names))
    cells = [
        (
            f"{row.slots}", *(_proved(row.proved, name) for name in ("theorem4", "theorem3")),
            *(f"{row.worst[name][1]:.4f}" for name in names),
        )
        for row in rows
    ]  # fmt: skip
    print_table(console, headings, cells)
    print_bounds(console, rows[-1].proved)
    if output is not None:
        console.print(f"Figure: {output}", markup=False, soft_wrap=True)


def _proved(proved: Bounds, name: str) -> str:
    """Write a bound for a table, or that there is none; the notes below say why."""
    return "not proved" if name in proved.unproved else f"{getattr(proved, name):.4f}"


def bounds_of(proved: Bounds) -> dict[str, Any]:
    """Return the bounds as JSON has them: null for what is not proved, and why under "unproved"."""
    from dataclasses import asdict
    from math import isfinite

    # JSON has no infinity; a horizon that is never reached is null.
    return {
        key: None if key in proved.unproved or (isinstance(value, float) and not isfinite(value)) else value
        for key, value in asdict(proved).items()
    }


def print_bounds(console: Console, proved: Bounds) -> None:
    """Print what is proved, from what, and which theorem does not apply: its number is left out."""
    doubted = proved.unproved
    orric = "nothing of ORRIC, see the note on Theorem 4"
    if "theorem4" not in doubted:
        orric = f"ORRIC at least {proved.theorem4:.6f} (Theorem 4)"
    floor = "Inference-Only at least nothing, see the note on Theorem 2"
    if "theorem2" not in doubted:
        floor = f"Inference-Only at least {proved.theorem2:.6f} (Theorem 2)"
    ceiling = "no ceiling of it, see the note on Theorem 3"
    if "theorem3" not in doubted:
        ceiling = f"at most {proved.theorem3:.6f} on {proved.slots} slots of equal requests (Theorem 3)"
    passes = "no number of slots is proved from which ORRIC is ahead, see the notes"
    if "separated_slots" not in doubted:
        passes = f"ORRIC's proved ratio passes Inference-Only's ceiling {_slots(proved.separated_slots)}"
        published = f"{_slots(proved.corollary1_slots)}, sharper: {_slots(proved.crossing_slots)}"
        applies = "corollary1_slots" not in doubted
        passes += f" (Corollary 1 {f'as published: {published}' if applies else 'does not apply, see the note on it'})"
    console.print(
        f"proved: {orric}; {floor}, {ceiling}\n        {passes}\n"
        f"from:   alpha {proved.alpha:.3g}, f(0) {proved.start_accuracy:.4f}, F {proved.best_accuracy:.4f}, "
        f"f(A^T_max) {proved.curve_accuracy:.4f}, L {proved.slope_floor:g}, A^T_max {proved.most_retraining_profit:g}, "
        f"A^I {proved.least_inference_profit:.4f} to {proved.most_inference_profit:.4f}, "
        f"D {proved.least_requests:g} to {proved.most_requests:g}, T {proved.slots}",
        highlight=False,
    )
    for doubt in proved.doubts:
        console.print(f"note:   {doubt}", highlight=False)


def _slots(number: float) -> str:
    return "at no T" if number == float("inf") else f"above T = {number:,.1f}"


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise ScenarioError(
            str(path), f"cannot be written ({error.strerror})", "choose another with --output"
        ) from None


def _demand_some(failures: dict[str, OrricError], names: list[str]) -> None:
    if len(failures) == len(names):
        *others, last = failures.values()
        for error in others:
            print(f"orric: {error}", file=sys.stderr)
        raise last


def _report_failures(failures: dict[str, OrricError]) -> None:
    for error in failures.values():
        print(f"orric: {error}", file=sys.stderr)
    if failures:
        raise typer.Exit(1)

"""The command that searches for the worst trace: adversary."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orric.cli.competition import FixedSeed, ProfileFile, bounds_of, print_bounds, span_of
from orric.cli.frame import InterruptError, Jobs, Json, app, console_of_output, progress_bars
from orric.exceptions import ScenarioError

if TYPE_CHECKING:
    from orric.competitive.ranges import TraceRange
    from orric.profile import Profile


@app.command()
def adversary(
    profile: ProfileFile,
    allocator: Annotated[str, typer.Option("--allocator", help="Name of the allocator.")] = "orric",
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Take number of slots and ranges from this trace.")
    ] = None,
    slots: Annotated[int | None, typer.Option("--slots", min=1, help="Number of slots. [default: 10]")] = None,
    requests: Annotated[
        str | None, typer.Option("--requests", help="LOW:HIGH requests per slot. [default: 100:1000]")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget-macs", help="LOW:HIGH MACs per slot. [default: cheapest to dearest pair for HIGH requests]"
        ),
    ] = None,
    levels: Annotated[
        int | None, typer.Option("--levels", min=2, help="Try so many equally spaced values of each number only.")
    ] = None,
    curves: Annotated[
        bool, typer.Option("--curves", help="Search the learning curve too, with its f(0), f(A^T_max) and L.")
    ] = False,
    constructions: Annotated[
        bool, typer.Option("--from-proofs", help="Start from the proofs' constructions besides random points.")
    ] = False,
    restarts: Annotated[int, typer.Option("--restarts", min=1, help="Independent searches.")] = 4,
    evaluations: Annotated[int, typer.Option("--evaluations", min=1, help="Ratios measured by each search.")] = 10_000,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="By how much shrinking may raise the ratio, relative.")
    ] = 1e-3,
    output: Annotated[
        Path | None, typer.Option("--output", help="Trace to write. [default: worst-ALLOCATOR.csv]")
    ] = None,
    seed: FixedSeed = 0,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Search for the trace on which an allocator does worst; shrink it and save it as a trace file.

    Every improvement is kept in a folder beside the trace while the search runs; an interrupted search saves the
    worst trace it had found.
    """
    import orric
    from orric.competitive.adversary import best_so_far, shrink

    subject = orric.Profile.load(profile)
    ranges = _ranges(subject, trace, slots, requests, budget, levels)
    search = orric.Search(subject, ranges, allocator, restarts, evaluations, curves, constructions, seed)
    target = output or Path(f"worst-{allocator}.csv")
    log = target.with_name(f"{target.stem}.search")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(log, ignore_errors=True)
        log.mkdir()
    except OSError as error:
        raise ScenarioError(str(log), f"cannot be written ({error.strerror})", "choose another with --output") from None
    interrupted = False
    with progress_bars() as progress:
        bar = progress.add_task("searching", total=restarts)
        try:
            worst = orric.search_worst_case(
                search, log, jobs,
                lambda done, ratio: progress.update(bar, completed=done, description=f"searching, ratio {ratio:.5f}"),
            )  # fmt: skip
            progress.update(bar, description="shrinking")
            small, _ = shrink(search, worst.profile, worst.trace, tolerance)
        except KeyboardInterrupt:
            found = best_so_far(search, log)
            if found is None:
                raise
            interrupted, worst, small = True, found, found.trace
    small.save(target)
    proved = orric.bounds(worst.profile, small)
    best = orric.offline_optimum(worst.profile, small, 1e-8)
    result = orric.evaluate(worst.profile, small, orric.make_allocator(allocator), seed=seed)
    measured = orric.competitive_ratio(result, best)
    replayed = profile
    if curves:
        replayed = target.with_suffix(".toml")
        worst.profile.save(replayed)
    command = f"orric ratio --profile {replayed} --trace {target} --allocator {allocator} --seed {seed}"
    answer = {
        "allocator": allocator,
        "value": result.value,
        "ratio": {"low": measured.low, "high": measured.high},
        "ratio_before_shrinking": worst.ratio,
        "bounds": bounds_of(proved),
        "trace": str(target),
        "profile": str(replayed),
        "replay": command,
        "slots": small.slots,
        "evaluations": worst.evaluations,
        "improvements": worst.improvements,
        "interrupted": interrupted,
    }
    target.with_suffix(".json").write_text(json.dumps(answer, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(answer, allow_nan=False))
    else:
        console = console_of_output()
        console.print(
            f"{allocator}: ratio {measured.low:.6f} to {measured.high:.6f} on {small.slots} slots "
            f"({worst.ratio:.6f} on {worst.trace.slots} before shrinking; {worst.evaluations:,} traces tried, "
            f"{worst.improvements} improvements)",
            highlight=False,
        )
        print_bounds(console, proved)
        console.print(f"Trace: {target}\nReplay: {command}", highlight=False, soft_wrap=True)
    if interrupted:
        raise InterruptError(f"interrupted; the worst trace so far is in {target}")


def _ranges(
    profile: Profile,
    trace: Path | None,
    slots: int | None,
    requests: str | None,
    budget: str | None,
    levels: int | None,
) -> TraceRange:
    from dataclasses import replace

    import orric
    from orric.configuration import undominated

    if trace is not None:
        if slots or requests or budget:
            raise ScenarioError(
                "options", "--trace and ranges together", "give --trace, or --slots, --requests, --budget-macs"
            )
        return replace(orric.TraceRange.of(orric.Trace.load(trace)), levels=levels)
    asked = span_of("--requests", requests or "100:1000")
    retraining, inference = undominated(profile.retraining), undominated(profile.inference)
    span = (
        (
            asked[1] * (retraining[0].cost_macs + inference[0].cost_macs),
            asked[1] * (retraining[-1].cost_macs + inference[-1].cost_macs),
        )
        if budget is None
        else span_of("--budget-macs", budget)
    )
    return orric.TraceRange(slots or 10, asked, span, levels)

"""The command that searches for the worst trace: adversary."""

from __future__ import annotations

import json
import os
import re
import shlex
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from orric.cli.competition import ProfileFile
from orric.cli.frame import (
    FixedSeed,
    InterruptError,
    Jobs,
    Json,
    app,
    console_of_output,
    demand_writable,
    progress_bars,
    span_of,
)
from orric.cli.ratios import GAP, MOST_SLOTS, bounds_of, print_bounds
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
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, max=MOST_SLOTS, help="Number of slots. [default: 10]")
    ] = None,
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
        float, typer.Option("--tolerance", min=0, max=0.1, help="By how much shrinking may raise the ratio, relative.")
    ] = 1e-3,
    output: Annotated[
        Path | None, typer.Option("--output", help="Trace to write (CSV). [default: worst-ALLOCATOR.csv]")
    ] = None,
    seed: FixedSeed = 0,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            min=1,
            max=1000,
            help="Runs whose mean counts. [default: 16 where the allocator draws at random, else 1]",
        ),
    ] = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Search for the trace on which an allocator does worst; shrink it and save it as a trace file.

    Every improvement is kept in a folder beside the trace while the search runs; an interrupted search saves the
    worst trace it had found.
    """
    import orric
    from orric.competitive.adversary import SEEDS, best_so_far, draws_at_random, shrink

    subject = orric.Profile.load(profile)
    ranges = _ranges(subject, trace, slots, requests, budget, levels)
    if seeds is None:
        seeds = SEEDS if draws_at_random(subject, ranges, allocator) else 1
    search = orric.Search(subject, ranges, allocator, restarts, evaluations, curves, constructions, seed, seeds)
    target = output or Path(f"worst-{allocator}.csv")
    replayed = target.with_suffix(".toml") if curves else profile
    if curves and replayed.exists() and replayed.samefile(profile):
        found = f"the curve beside it would be written over the profile {profile}"
        raise ScenarioError(f"--output {target}", found, "choose another name with --output")
    log, interrupted = _prepared(target, [profile, *([trace] if trace else [])]), False
    with progress_bars() as progress:
        bar = progress.add_task("searching", total=restarts)
        try:
            worst = orric.search_worst_case(
                search, log, jobs,
                lambda done, ratio: progress.update(bar, completed=done, description=f"searching, ratio {ratio:.5f}"),
            )  # fmt: skip
            small, _ = shrink(
                search, worst.profile, worst.trace, tolerance,
                lambda what: progress.update(bar, description=f"shrinking: {what}"),
            )  # fmt: skip
        except KeyboardInterrupt:
            so_far = best_so_far(search, log)
            if so_far is None:
                for path in log.glob("restart-*.jsonl"):
                    path.unlink()
                with suppress(OSError):  # whoever put something else there meanwhile keeps it
                    log.rmdir()
                raise InterruptError("interrupted; no trace had been measured yet") from None
            interrupted, worst, small = True, so_far, so_far.trace
    small.save(target)
    proved = orric.bounds(worst.profile, small)
    best = orric.offline_optimum(worst.profile, small, GAP)
    results = [orric.evaluate(worst.profile, small, orric.make_allocator(allocator), seed=one) for one in search.tried]
    ratios = [orric.competitive_ratio(result, best) for result in results]
    low, high = fmean(one.low for one in ratios), fmean(one.high for one in ratios)
    fresh = search.on_other_seeds(worst.profile, small) if seeds > 1 else None
    if curves:
        worst.profile.save(replayed)
    options = ["--profile", replayed, "--trace", target, "--allocator", allocator, "--seed", seed]
    command = shlex.join(["orric", "ratio", *map(str, options)])
    others = None if fresh is None else {"mean": fresh.mean, "low": fresh.low, "high": fresh.high}
    answer = {
        "allocator": allocator,
        "value": fmean(result.value for result in results),
        "ratio": {"low": low, "high": high},
        "seeds": seeds,
        "ratio_on_other_seeds": others,
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
            f"{allocator}: ratio {low:.6f} to {high:.6f} on {small.slots} slots "
            f"({worst.ratio:.6f} on {worst.trace.slots} before shrinking; {worst.evaluations:,} traces tried, "
            f"{worst.improvements} improvements)",
            highlight=False,
        )
        if fresh is not None:
            console.print(
                f"It draws at random: these are means of {seeds} runs; the mean of {fresh.count} others is "
                f"{fresh.mean:.4f} (95 % interval {fresh.low:.4f} to {fresh.high:.4f}). The replay is the first run.",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
        print_bounds(console, proved)
        console.print(f"Trace: {target}\nReplay: {command}", highlight=False, markup=False, soft_wrap=True)
    if interrupted:
        raise InterruptError(f"interrupted; the worst trace so far is in {target}")


def _prepared(target: Path, inputs: list[Path]) -> Path:
    """Make the folder of improvements beside a trace to be written, empty; return it."""
    if target.suffix != ".csv":
        raise ScenarioError(f"--output {target}", "is not named as a trace", "give a name that ends in .csv")
    log = target.with_suffix(".search")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        earlier = list(log.iterdir()) if log.is_dir() else []
        for path in earlier:
            if not re.fullmatch(r"restart-\d+\.jsonl", path.name):
                raise ScenarioError(str(log), f"holds something else ({path.name})", "choose another with --output")
        demand_writable(target, "--output", inputs)
        answer = target.with_suffix(".json")
        if os.path.lexists(answer) and not _is_answer(answer):
            found = "is not orric's, and stands where the answer is written"
            raise ScenarioError(str(answer), found, "move it away, or choose another name with --output")
        for path in earlier:
            path.unlink()
        log.mkdir(exist_ok=True)
    except OSError as error:
        raise ScenarioError(str(log), f"cannot be written ({error.strerror})", "choose another with --output") from None
    return log


def _is_answer(path: Path) -> bool:
    """Say whether a file is what an earlier search answered."""
    with suppress(OSError, ValueError):
        table = json.loads(path.read_bytes())
        return isinstance(table, dict) and {"allocator", "ratio", "trace", "replay"} <= set(table)
    return False


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

"""The commands of competitive analysis: optimum, verify, ratio."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orric.cli.frame import (
    FixedSeed,
    Jobs,
    Json,
    Overload,
    app,
    console_of_output,
    demand_writable,
    interruptible,
    print_pairs,
    print_table,
    progress_bars,
    span_of,
)
from orric.exceptions import CertificateError, OrricError, ScenarioError

if TYPE_CHECKING:
    from rich.console import Console

    from orric.competitive.bounds import Bounds
    from orric.competitive.ratio import CompetitiveRatio
    from orric.profile import Profile
    from orric.trace import Trace

ProfileFile = Annotated[Path, typer.Option("--profile", help="Profile file (TOML).")]
TraceFile = Annotated[Path, typer.Option("--trace", help="Trace file (CSV).")]
Gap = Annotated[float, typer.Option("--gap", help="Relative width of the interval around the optimum.")]
Overloaded = Annotated[Overload, typer.Option("--overload", help="What becomes of a slot in which no pair fits.")]
# Slots listed of those that lost most.
MOST_LOSSES = 5
# Of the interval around the optimum of one trace, and of each of many traces.
GAP, COARSE_GAP = 1e-6, 1e-5
# More slots than any search gets through.
MOST_SLOTS = 1_000_000


@app.command()
def optimum(
    profile: ProfileFile,
    trace: TraceFile,
    gap: Gap = 1e-4,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Write all that is needed to verify the interval.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Solve exactly, by label setting; for few slots.")] = False,
    overload: Overloaded = Overload.error,
    as_json: Json = False,
) -> None:
    """Enclose the offline optimum: the best that any allocations could reach, knowing all slots beforehand."""
    import time

    import orric

    if exact and certificate:
        raise ScenarioError("options", "--exact and --certificate together", "certify the interval, without --exact")
    subject, given = orric.Profile.load(profile), orric.Trace.load(trace)
    if certificate:
        demand_writable(certificate, "--certificate", (profile, trace))
    if exact:
        begun = time.perf_counter()
        value, allocations = orric.exact_optimum(subject, given, overload=overload.value)
        lower = upper = value
        seconds, reason = time.perf_counter() - begun, ""
    else:
        with interruptible("nothing was written"), progress_bars() as progress:
            progress.add_task("enclosing the optimum", total=None)
            best = orric.offline_optimum(subject, given, gap, overload=overload.value)
            if certificate:
                best.certificate.save(certificate)
        lower, upper, allocations = best.lower, best.upper, best.allocations
        seconds, reason = best.seconds, best.reason
    if as_json:
        answer = {
            "lower": lower,
            "upper": upper,
            "gap": (upper - lower) / upper,
            "allocations": allocations,
            "seconds": seconds,
            "reason": reason,
        }
        print(json.dumps(answer, allow_nan=False))
        return
    console = console_of_output()
    total = float(given.requests.sum())
    console.print(
        f"offline optimum: {lower:,.3f} to {upper:,.3f} correct requests of {total:,.0f}, mean accuracy "
        f"{lower / total:.4%} to {upper / total:.4%}\n"
        f"relative gap {(upper - lower) / upper:.1e}, {given.slots} slots, {seconds:.3f} s",
        highlight=False,
    )
    if reason:
        console.print(f"the gap of {gap:g} was not met: {reason}", highlight=False)
    print_pairs(console, ((one["retraining"], one["inference"]) for one in allocations))
    if certificate:
        check = shlex.join(["orric", "verify", str(certificate)])
        console.print(f"Certificate: {certificate}   check it with: {check}", markup=False, soft_wrap=True)


@app.command()
def verify(
    certificate: Annotated[Path, typer.Argument(help="Certificate written by orric optimum.")],
    profile: Annotated[
        Path | None, typer.Option("--profile", help="Also check that the certificate is about this profile.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Also check that the certificate is about this trace.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify a certificate anew, with code that shares nothing with the solver."""
    import orric
    from orric.competitive.certificate import profile_claim, trace_claim

    loaded = orric.Certificate.load(certificate)
    for kind, path in (("profile", profile), ("trace", trace)):
        if path is None:
            continue
        claimed = profile_claim(orric.Profile.load(path)) if kind == "profile" else trace_claim(orric.Trace.load(path))
        if claimed != loaded.claim.get(kind):
            raise CertificateError(
                str(certificate), f"is about another {kind} than {path}", "give the one it was made of"
            )
    with progress_bars() as progress:
        bar = progress.add_task("verifying", total=1.0)
        found = orric.verify(loaded, lambda part: progress.update(bar, completed=part))
    if as_json:
        answer = {
            "lower": found.lower,
            "upper": found.upper,
            "gap": found.gap,
            "slots": found.slots,
            "checks": found.checks,
        }
        print(json.dumps(answer, allow_nan=False))
        return
    console_of_output().print(
        f"verified: the offline optimum lies between {found.lower!r} and {found.upper!r} "
        f"(relative gap {found.gap:.1e}, {found.slots} slots, {found.checks:,} inequalities)",
        highlight=False,
    )


@app.command()
def ratio(
    profile: ProfileFile,
    trace: TraceFile,
    allocator: Annotated[
        list[str] | None,
        typer.Option(
            "--allocator",
            help="Name of an allocator; may be given again. [default: orric, and inference-only with --horizons]",
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
    output: Annotated[Path | None, typer.Option("--output", help="Write the figure here (PNG).")] = None,
    overload: Overloaded = Overload.error,
    seed: FixedSeed = 0,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Measure competitive ratios, as intervals, beside the proved bounds."""
    import orric

    if ensemble is not None and horizons is not None:
        raise ScenarioError("options", "--ensemble and --horizons together", "give one of them")
    if ensemble is not None and output is not None:
        raise ScenarioError("options", "--output with --ensemble", "figures are of one trace, or of --horizons")
    names = list(dict.fromkeys(allocator or ["orric", "inference-only"][: 1 if horizons is None else 2]))
    for name in names:
        orric.make_allocator(name)
    subject, given = orric.Profile.load(profile), orric.Trace.load(trace)
    if gap is None:
        gap = GAP if ensemble is None and horizons is None else COARSE_GAP
    if output is not None:
        import orric.report.competition  # a missing extra is better told now than after the work

        if output.suffix != ".png":
            raise ScenarioError(f"--output {output}", "is not named as a picture", "give a name that ends in .png")
        demand_writable(output, "--output", (profile, trace))
    if horizons is not None:
        _horizons(subject, given, names, gap, horizons, evaluations, seed, jobs, output, as_json)
    elif ensemble is not None:
        _ensemble(subject, given, names, gap, ensemble, seed, jobs, as_json)
    else:
        _one_trace(subject, given, names, gap, overload, seed, output, as_json)


def _one_trace(
    profile: Profile,
    trace: Trace,
    names: list[str],
    gap: float,
    overload: Overload,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> None:
    import orric

    proved = orric.bounds(profile, trace)
    with progress_bars() as progress:
        progress.add_task("enclosing the optimum", total=None)
        best = orric.offline_optimum(profile, trace, gap, overload=overload.value)
    answers: dict[str, dict[str, Any]] = {}
    ratios: dict[str, CompetitiveRatio] = {}
    failures: dict[str, OrricError] = {}
    for name in names:
        try:
            result = orric.evaluate(profile, trace, orric.make_allocator(name), overload=overload.value, seed=seed)
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
    profile: Profile,
    trace: Trace,
    names: list[str],
    gap: float,
    count: int,
    seed: int,
    jobs: int | None,
    as_json: bool,
) -> None:
    import orric
    from orric.competitive.study import ensemble

    ranges = orric.TraceRange.of(trace)
    with interruptible("nothing was measured to the end"), progress_bars() as progress:
        bar = progress.add_task(f"{count} random traces", total=1.0)
        found = ensemble(
            profile,
            ranges,
            names,
            count,
            seed=seed,
            gap=gap,
            jobs=jobs,
            progress=lambda part: progress.update(bar, completed=part),
        )
    failures = found.failed
    _demand_some(failures, names)
    proved = orric.bounds(profile, trace)
    rows = {
        name: {
            "worst": {"low": float(found.low[name][n]), "high": float(found.high[name][n]), "number": n},
            "mean": {"low": float(found.low[name].mean()), "high": float(found.high[name].mean())},
        }
        for name in found.high
        for n in [int(found.high[name].argmin())]
    }
    if as_json:
        answer = {"traces": count, "seed": seed, "ratios": rows, "bounds": bounds_of(proved)}
        print(json.dumps(answer, allow_nan=False))
    else:
        console = console_of_output()
        cells = [
            (
                name,
                f"{row['worst']['low']:.6f} to {row['worst']['high']:.6f}",
                f"{row['mean']['low']:.6f}",
                f"{row['mean']['high']:.6f}",
            )
            for name, row in rows.items()
        ]
        headings = ("allocator", "worst ratio", "mean ratio, low", "mean ratio, high")
        title = f"{count} random traces of {trace.slots} slots"
        print_table(console, headings, cells, words=("allocator",), title=title)
        print_bounds(console, proved)
    _report_failures(failures)


def _horizons(
    profile: Profile,
    trace: Trace,
    names: list[str],
    gap: float,
    spans: str,
    evaluations: int,
    seed: int,
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
            profile, orric.TraceRange.of(trace), slots, names, evaluations=evaluations, seed=seed, gap=gap, jobs=jobs,
            progress=lambda part: progress.update(bar, completed=part),
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
            f"{row.slots}", f"{row.proved.theorem4:.4f}", f"{row.proved.theorem3:.4f}",
            *(f"{row.worst[name][1]:.4f}" for name in names),
        )
        for row in rows
    ]  # fmt: skip
    print_table(console, headings, cells)
    print_bounds(console, rows[-1].proved)
    if output is not None:
        console.print(f"Figure: {output}", markup=False, soft_wrap=True)


def bounds_of(proved: Bounds) -> dict[str, Any]:
    """Return the bounds as JSON has them."""
    from dataclasses import asdict
    from math import isfinite

    # JSON has no infinity; a horizon that is never reached is null.
    return {
        key: None if isinstance(value, float) and not isfinite(value) else value
        for key, value in asdict(proved).items()
    }


def print_bounds(console: Console, proved: Bounds) -> None:
    """Print what is proved, from what, and which theorem does not apply."""
    unproved = any(doubt.startswith("Theorem 4") for doubt in proved.doubts)
    console.print(
        f"proved: ORRIC at least {proved.theorem4:.6f} (Theorem 4{', which does not apply: see below' * unproved}); "
        f"Inference-Only at least {proved.theorem2:.6f} "
        f"(Theorem 2), at most {proved.theorem3:.6f} on {proved.slots} slots of equal requests (Theorem 3)\n"
        f"        ORRIC's proved ratio passes Inference-Only's ceiling {_slots(proved.separated_slots)} "
        f"(Corollary 1 as published: {_slots(proved.corollary1_slots)}, sharper: {_slots(proved.crossing_slots)})\n"
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

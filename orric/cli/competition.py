"""The commands of the offline optimum: optimum, verify."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from orric.cli.frame import (
    Json,
    Overload,
    app,
    console_of_output,
    demand_writable,
    interruptible,
    print_pairs,
    progress_bars,
)
from orric.exceptions import CertificateError, ScenarioError

ProfileFile = Annotated[Path, typer.Option("--profile", help="Profile file (TOML).")]
TraceFile = Annotated[Path, typer.Option("--trace", help="Trace file (CSV).")]
Gap = Annotated[float, typer.Option("--gap", help="Relative width of the interval around the optimum.")]
Overloaded = Annotated[Overload, typer.Option("--overload", help="What becomes of a slot in which no pair fits.")]


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
    # Where nothing can be served the interval is [0, 0].
    width = (upper - lower) / upper if upper > 0 else 0.0
    if as_json:
        answer = {
            "lower": lower,
            "upper": upper,
            "gap": width,
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
        f"relative gap {width:.1e}, {given.slots} slots, {seconds:.3f} s",
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
    """Verify a certificate anew, with code that shares nothing with the solver.

    What it says is about the profile and the trace inside it; give both files to have it held against them.
    """
    import orric
    from orric.competitive.certificate import profile_claim, trace_claim

    loaded = orric.Certificate.load(certificate)
    given: dict[str, str | None] = {
        "profile": str(profile) if profile else None,
        "trace": str(trace) if trace else None,
    }
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
    overload = loaded.claim["overload"]
    in_time = "in_time" in loaded.claim
    if as_json:
        answer = {
            "lower": found.lower,
            "upper": found.upper,
            "gap": found.gap,
            "slots": found.slots,
            "checks": found.checks,
            "about": {**given, "overload": overload, "in_time": in_time},
        }
        print(json.dumps(answer, allow_nan=False))
        return
    console = console_of_output()
    console.print(
        f"verified: the offline optimum lies between {found.lower!r} and {found.upper!r} "
        f"(relative gap {found.gap:.1e}, {found.slots} slots, {found.checks:,} inequalities)",
        highlight=False,
    )
    missing = [f"--{kind}" for kind, path in given.items() if path is None]
    subjects = [f"the {kind}{f' {path}' if path else ''}" for kind, path in given.items()]
    # Whoever made the certificate chose what is inside it.
    inside = f" inside the certificate; give {' and '.join(missing)} to compare" if missing else ""
    answers = "right answers by the deadline, of in-time parts inside it" if in_time else "right answers"
    console.print(
        f"about: {' and '.join(subjects)}{inside}; {answers}, overload {overload!r}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip

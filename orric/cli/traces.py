"""The commands about traces: trace import, trace generate, trace describe."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orric.cli.frame import FixedSeed, Json, app, console_of_output, demand_writable, span_of
from orric.exceptions import ScenarioError, nearest

if TYPE_CHECKING:
    from orric.arrivals import Arrivals
    from orric.description import Description, Spread
    from orric.interval_counts import IntervalCounts

# The group has the word trace for itself; its functions are named after what they do.
traces = typer.Typer(help="Import, generate and describe traces.", no_args_is_help=False, rich_markup_mode=None)
app.add_typer(traces, name="trace")


class Form(StrEnum):
    """What an import writes."""

    timestamps = "timestamps"
    slots = "slots"


class Spreading(StrEnum):
    """Where the requests of an interval are put when only their number is known."""

    even = "even"
    poisson = "poisson"


class Gaps(StrEnum):
    """What becomes of intervals that have no row."""

    refuse = "refuse"
    zero = "zero"


class Kind(StrEnum):
    """How requests vary from slot to slot."""

    uniform = "uniform"
    bursty = "bursty"
    periodic = "periodic"


Output = Annotated[Path, typer.Option("--output", help="File to write (CSV).")]
# What an importer tells of a file beyond its numbers: key, title, and how it is put.
TOLD: list[tuple[str, str, Callable[[Any], str]]] = [
    ("time_column", "time column", str),
    ("first", "first time", str),
    ("origin", "counted from", str),
    ("interval_s", "interval", lambda seconds: f"{seconds:g} s"),
    ("filled", "no rows for", lambda many: f"{many:,} intervals, taken as no requests"),
    ("left_out", "left out", lambda many: f"{many:,} requests that began before second 0"),
]
# Length of a slot where none is given, in seconds.
SLOT_S = 60.0


@traces.command("import")
def import_trace(
    file: Annotated[Path, typer.Argument(help="File to read (CSV, JSON lines; compressed if it ends in .gz).")],
    name: Annotated[
        str,
        typer.Option(
            "--format",
            help="Its format: azure-llm-2023, azure-llm-2024, azure-functions, azure-functions-2021, burstgpt, "
            "mooncake, timestamps or counts.",
        ),
    ],
    form: Annotated[Form, typer.Option("--as", help="Write single arrival times, or requests and budgets by slots.")],
    output: Output,
    column: Annotated[
        str | None, typer.Option("--column", help="timestamps, counts: name of the column to read.")
    ] = None,
    interval_s: Annotated[
        float | None,
        typer.Option("--interval-s", help="counts: seconds that each count stands for. [default: as times are apart]"),
    ] = None,
    time_column: Annotated[
        str | None,
        typer.Option("--time-column", help="counts: column of the times. [default: the only one of ISO 8601]"),
    ] = None,
    gaps: Annotated[
        Gaps | None,
        typer.Option("--gaps", help="counts: refuse missing rows, or take zero requests. [default: refuse]"),
    ] = None,
    function: Annotated[
        str | None, typer.Option("--function", help="azure-functions: take this HashFunction only. [default: all]")
    ] = None,
    from_first: Annotated[
        bool, typer.Option("--from-first", help="timestamps, burstgpt: count seconds from the first request.")
    ] = False,
    origin: Annotated[
        str | None,
        typer.Option("--origin", help="timestamps: count seconds from this time, so that files share it."),
    ] = None,
    speedup: Annotated[float, typer.Option("--speedup", help="Let the requests come so many times as fast.")] = 1.0,
    part: Annotated[
        str, typer.Option("--part", help="K/N: take every N-th request from request K on, for one of N streams.")
    ] = "1/1",
    spread: Annotated[
        Spreading | None,
        typer.Option("--spread", help="Where counted requests are put within their interval. [default: even]"),
    ] = None,
    seed: FixedSeed = 0,
    slot_s: Annotated[
        float | None, typer.Option("--slot-s", help="Slots: their length in seconds. [default: 60]")
    ] = None,
    budget_macs: Annotated[
        float | None, typer.Option("--budget-macs", help="Slots: the budget of every slot in MACs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a public request trace into timestamps, or into a trace of slots with a constant budget.

    Source, licence and speed-up are printed: the CSV files have no place for them.
    """
    import numpy as np

    import orric
    from orric.arrivals import Arrivals
    from orric.importers import ORIGINS
    from orric.randomness import generator

    if form is Form.slots and budget_macs is None:
        raise ScenarioError("--budget-macs", "is missing", "give the MACs of every slot, or --as timestamps")
    if form is Form.timestamps and (slot_s, budget_macs) != (None, None):
        option = "--slot-s" if slot_s is not None else "--budget-macs"
        raise ScenarioError(option, "timestamps have no slots", "leave it out, or give --as slots")
    if budget_macs is not None and not 0 <= budget_macs < math.inf:
        raise ScenarioError("--budget-macs", f"found {budget_macs:g}", "give a finite number >= 0")
    _demand_positive("--speedup", speedup)
    _demand_positive("--slot-s", slot_s)
    number, parts = _part_of(part)
    demand_writable(output, "--output", [file])
    options = {
        "column": column,
        "interval_s": interval_s,
        "time_column": time_column,
        "gaps": None if gaps is None else gaps.value,
        "function": function,
        "from_first": from_first or None,
        "origin": origin,
    }
    given = _imported(file, name, {key: value for key, value in options.items() if value is not None})
    length = SLOT_S if slot_s is None else slot_s
    answer: dict[str, Any] = {"output": str(output), "as": form.value, "format": name}
    stamps: orric.Timestamps | None = None
    if isinstance(given, Arrivals):
        if spread is not None:
            raise ScenarioError("--spread", f"format {name!r} has single times", "leave it out")
        if form is Form.timestamps:
            stamps = given.timestamps(number, parts, speedup)
        else:
            requests = given.counts(length, number, parts, speedup)
    else:
        counted = given.share(number, parts).compressed(speedup)
        if form is Form.timestamps or spread is not None:
            stamps = counted.timestamps(generator(seed, "arrivals") if spread is Spreading.poisson else None)
        if form is Form.slots:
            requests = (counted if stamps is None else stamps).counts(length)
    if form is Form.timestamps:
        assert stamps is not None
        stamps.save(output)
        answer |= {"requests": stamps.requests, "first_s": stamps.arrival_s[0], "last_s": stamps.arrival_s[-1]}
    else:
        trace = orric.Trace(
            requests=requests.astype(np.float64),
            budget_macs=np.full(len(requests), budget_macs),
            duration_s=np.full(len(requests), length),
            source=str(file),
        )
        trace.save(output)
        answer |= {"requests": int(requests.sum()), "slots": trace.slots, "slot_s": length, "budget_macs": budget_macs}
    source, licence = ORIGINS.get(name, (None, None))
    answer |= {"part": number, "parts": parts, "speedup": speedup, "file": str(file)}
    answer |= {"source": source, "licence": licence, **given.facts}
    _print_import(answer, as_json)


@traces.command("generate")
def generate_trace(
    kind: Annotated[Kind, typer.Option("--kind", help="How requests vary from slot to slot.")],
    slots: Annotated[int, typer.Option("--slots", min=1, help="Number of slots.")],
    output: Output,
    budget: Annotated[str, typer.Option("--budget-macs", help="LOW:HIGH MACs per slot.")],
    requests: Annotated[str, typer.Option("--requests", help="LOW:HIGH requests per slot.")] = "100:1000",
    period: Annotated[
        int | None, typer.Option("--period", min=2, help="periodic: slots after which it repeats. [default: 24]")
    ] = None,
    seed: FixedSeed = 0,
    as_json: Json = False,
) -> None:
    """Draw a trace: requests as the kind says, budgets uniformly, both within their ranges."""
    from orric.description import describe
    from orric.workload import generate

    if period is not None and kind is not Kind.periodic:
        raise ScenarioError("--period", f"a {kind.value} trace has none", "leave it out, or give --kind periodic")
    ranges = span_of("--requests", requests), span_of("--budget-macs", budget)
    demand_writable(output, "--output")
    trace = generate(kind.value, slots, *ranges, seed=seed, period=period or 24)
    trace.save(output)
    found = describe(trace)
    if as_json:
        answer = {"output": str(output), "generator": kind.value, "seed": seed, **asdict(found)}
        print(json.dumps(answer, allow_nan=False))
        return
    _print_facts([*_facts(found), ("Trace", str(output))])


@traces.command("describe")
def describe_trace(
    file: Annotated[Path, typer.Argument(help="A trace, or timestamps (CSV).")],
    slot_s: Annotated[
        float | None, typer.Option("--slot-s", help="Timestamps: length of a slot in seconds. [default: 60]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell size and burstiness of a trace or of timestamps."""
    import orric
    from orric.csv_rows import read_rows
    from orric.description import describe
    from orric.timestamps import COLUMN

    _demand_positive("--slot-s", slot_s)
    _, header = next(read_rows(file))
    subject: orric.Timestamps | orric.Trace
    if header == [COLUMN]:
        subject = orric.Timestamps.load(file)
    else:
        subject = orric.Trace.load(file)
        if slot_s is not None:
            raise ScenarioError("--slot-s", f"{file} has slots already", "leave it out")
    found = describe(subject, SLOT_S if slot_s is None else slot_s)
    if as_json:
        print(json.dumps({"file": str(file), **asdict(found)}, allow_nan=False))
        return
    _print_facts(_facts(found))


def _imported(file: Path, name: str, options: dict[str, Any]) -> Arrivals | IntervalCounts:
    """Open or read a file in a format, with the options that the format takes."""
    import inspect

    from orric.importers import FORMATS
    from orric.timestamps import Timestamps

    formats = {one.name: one for one in FORMATS}
    if name not in formats:
        raise ScenarioError("--format", f"{name!r} is unknown", nearest(name, formats))
    chosen = formats[name]
    taken = {
        key: parameter
        for key, parameter in inspect.signature(chosen.read).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for key in options:
        if key not in taken:
            raise ScenarioError(_option(key), f"format {name!r} does not take it", "leave it out")
    for key, parameter in taken.items():
        if parameter.default is inspect.Parameter.empty and key not in options:
            raise ScenarioError(_option(key), "is missing", f"format {name!r} needs it")
    _demand_positive("--interval-s", options.get("interval_s"))
    if chosen.stream is not None:
        return chosen.stream(file, **options)
    counted = chosen.read(file, **options)
    assert not isinstance(counted, Timestamps)
    return counted


def _option(key: str) -> str:
    return "--" + key.replace("_", "-")


def _demand_positive(option: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ScenarioError(option, f"found {value:g}", "give a finite number > 0")


def _part_of(text: str) -> tuple[int, int]:
    """Read K/N."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match and 1 <= int(match[1]) <= int(match[2]):
        return int(match[1]), int(match[2])
    raise ScenarioError("--part", f"found {text!r}", "give K/N with 1 <= K <= N, e.g. 2/4")


def _print_import(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer, allow_nan=False))
        return
    if answer["as"] == Form.slots:
        unit = "slot" if answer["slots"] == 1 else "slots"
        amount = f"{answer['slots']:,} {unit} of {answer['slot_s']:g} s, {answer['budget_macs']:g} MACs each"
        written = "Trace"
    else:
        amount = f"from {answer['first_s']:.6g} s to {answer['last_s']:.6g} s"
        written = "Timestamps"
    facts = [("requests", f"{answer['requests']:,}, {amount}")]
    facts += [(title, tell(answer[key])) for key, title, tell in TOLD if key in answer]
    if answer["parts"] > 1:
        facts.append(("part", f"{answer['part']} of {answer['parts']}"))
    facts.append(("speed-up", f"{answer['speedup']:g}"))
    facts.append(("source", answer["source"] or answer["file"]))
    facts.append(("licence", answer["licence"] or "that of the source"))
    _print_facts([*facts, (written, answer["output"])])


def _facts(found: Description) -> list[tuple[str, str]]:
    """Return a description line by line."""
    length = f" of {found.slot_s:g} s" if found.slot_s is not None else ""
    facts = [("slots", f"{found.slots:,}{length}"), ("requests per slot", _range(found.requests))]
    if found.total_requests is not None:
        facts.append(("requests in all", f"{found.total_requests:,.10g}"))
    if found.budget_macs is not None:
        facts.append(("budget per slot", _range(found.budget_macs) + " MACs"))
    facts.append(("peak to mean", f"{found.peak_to_mean:.3f}"))
    if found.dispersion is not None:
        facts.append(("index of dispersion", f"{found.dispersion:.3f}"))
    if found.interarrival_cv is not None:
        facts.append(("interarrival cv", f"{found.interarrival_cv:.3f}"))
    return facts


def _range(values: Spread) -> str:
    return f"{values.min:,.6g} to {values.max:,.6g}, mean {values.mean:,.6g}"


def _print_facts(facts: list[tuple[str, str]]) -> None:
    console, width = console_of_output(), max(len(name) for name, _ in facts)
    for name, fact in facts:
        console.print(f"{name + ':':{width + 2}}{fact}", markup=False, highlight=False, soft_wrap=True)

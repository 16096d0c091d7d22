"""The commands to begin with: trace import-cameras, new, allocators."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orric.cli.frame import FixedSeed, Json, app, console_of_output
from orric.cli.traces import Spreading, traces
from orric.exceptions import ScenarioError

if TYPE_CHECKING:
    from datetime import tzinfo

    from orric.cameras import Camera


class Gaps(StrEnum):
    """What becomes of times of which a file holds nothing."""

    refuse = "refuse"
    zero = "zero"
    repeat = "repeat"


class Twice(StrEnum):
    """Which a local time is that comes twice in a night."""

    order = "order"
    first = "first"
    second = "second"


class Duplicates(StrEnum):
    """What becomes of rows that repeat another."""

    keep = "keep"
    drop = "drop"
    refuse = "refuse"


class Template(StrEnum):
    """What a new scenario is of."""

    day = "day"
    steady = "steady"
    paper = "paper"


ProfileName = Annotated[
    str, typer.Option("--profile", help="Profile of the models: a file, or the name of one that comes with orric.")
]
Deadline = Annotated[float, typer.Option("--deadline-s", help="Answers after so many seconds are late.")]
Speed = Annotated[
    float | None,
    typer.Option(
        "--macs-per-s",
        help="Speed of the GPU. [default: the least with which serving takes a quarter of it on average, 60 % in the "
        "busiest slot, and a single request a tenth of the deadline at most]",
    ),
]
# Gaps and changes of the clocks that are told one by one, of each camera.
MOST_TOLD = 5


@traces.command("import-cameras")
def import_cameras(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with one CSV file per camera.")],
    zone: Annotated[
        str | None,
        typer.Option("--zone", help="Zone of times that name none: Europe/Berlin, UTC, +01:00. [default: refuse them]"),
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", help="Column of times. [default: time, timestamp, datetime or the like]")
    ] = None,
    count_column: Annotated[
        str | None,
        typer.Option(
            "--count-column",
            help="Column of requests per interval. [default: requests or count; without one, a row each]",
        ),
    ] = None,
    interval_s: Annotated[
        float | None, typer.Option("--interval-s", help="Counts: how long each is for. [default: distance of the rows]")
    ] = None,
    gaps: Annotated[
        Gaps,
        typer.Option("--gaps", help="Times without rows: refuse, take for zero requests, or repeat what came before."),
    ] = Gaps.refuse,
    gap_s: Annotated[
        float | None,
        typer.Option("--gap-s", help="Longer silences are gaps. [default: 20 times the usual, a minute at least]"),
    ] = None,
    twice: Annotated[
        Twice, typer.Option("--twice", help="Which a local time is that comes twice in an autumn night.")
    ] = Twice.order,
    duplicates: Annotated[
        Duplicates | None,
        typer.Option("--duplicates", help="Repeated rows. [default: keep requests, refuse counts of one interval]"),
    ] = None,
    spread: Annotated[
        Spreading, typer.Option("--spread", help="Counts: where requests are put within their interval.")
    ] = Spreading.even,
    slot_s: Annotated[
        float | None, typer.Option("--slot-s", help="Length of a slot. [default: from the length of the recording]")
    ] = None,
    profile: ProfileName = "digits",
    deadline_s: Deadline = 5.0,
    macs_per_s: Speed = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder to write. [default: DIR's name with -scenario]")
    ] = None,
    seed: FixedSeed = 0,
    as_json: Json = False,
) -> None:
    """Turn CSV files of your cameras into a scenario that runs.

    One file for each, of any length, with one row per request or with counts. Cameras are aligned to one instant; what
    is odd about a file is told. Before its first row and after its last a camera has no requests.
    """
    import numpy as np

    from orric.cameras import Reading, origin_of, read_cameras, slots_of
    from orric.local_times import iso, zone_of
    from orric.profile import Profile
    from orric.randomness import generator
    from orric.shipped import profile_file
    from orric.templates import StreamPlan, quoted, scenario_text, size_for, slot_length

    for option, value in (
        ("--interval-s", interval_s),
        ("--gap-s", gap_s),
        ("--slot-s", slot_s),
        ("--deadline-s", deadline_s),
        ("--macs-per-s", macs_per_s),
    ):
        _demand_positive(option, value)
    target = output or Path(f"{folder.resolve().name}-scenario")
    given_profile = profile_file(profile)
    models = Profile.load(given_profile)
    known_zone = None if zone is None else zone_of(zone)
    shown_zone = known_zone or zone_of("UTC")
    with _folder_appearing(target) as partial:
        reading = Reading(
            known_zone,
            column,
            count_column,
            interval_s,
            gap_s,
            twice.value,
            None if duplicates is None else duplicates.value,
        )
        cameras = read_cameras(folder, reading)
        if gaps is Gaps.refuse:
            for camera in cameras:
                camera.demand_no_gap(shown_zone)
        span_s = (max(one.last for one in cameras) - min(one.first for one in cameras)) / 1e9
        slot = slot_length(span_s) if slot_s is None else slot_s
        origin = origin_of(cameras, slot)
        slots = slots_of(cameras, origin, slot)
        counts = np.zeros(slots, np.int64)
        plans = []
        (partial / "requests").mkdir()
        for number, camera in enumerate(cameras):
            rng = generator(seed, "arrivals", number) if spread is Spreading.poisson else None
            stamps = (camera.filled() if gaps is Gaps.repeat else camera).timestamps(origin, rng)
            file = f"requests/{_plain_name(camera.name, number, len(cameras))}.csv"
            stamps.save(partial / file)
            counts += stamps.counts(slot, slots)
            notes = (f"{camera.file.name}: {stamps.requests:,} requests, {_span(camera, shown_zone)}",)
            plans.append(StreamPlan(camera.name, f"{{ timestamps = {quoted(file)} }}", "timestamps", notes))
        size = size_for(models, float(counts.mean()) / slot, float(counts.max()) / slot, deadline_s, macs_per_s)
        heading = (
            f"{len(cameras)} {'camera' if len(cameras) == 1 else 'cameras'}, "
            f"written by orric trace import-cameras (gaps: {gaps.value}).",
            f"Slot 1 begins {_instant(origin, shown_zone)}.",
        )
        path = _profile_beside(given_profile, partial, target)
        name = _name_of(target)
        text = scenario_text(name, heading, plans, models, path, slots, slot, deadline_s, size)
        _write_scenario(partial, text)
    scenario = target / "scenario.toml"
    if as_json:
        answer = {
            "folder": str(target),
            "scenario": str(scenario),
            "origin": iso(origin),
            "zone": zone,
            "slots": slots,
            "slot_s": slot,
            "requests": int(counts.sum()),
            "gaps": gaps.value,
            "macs_per_s": size.macs_per_s,
            "load": size.load,
            "cameras": [_camera_answer(camera) for camera in cameras],
        }
        print(json.dumps(answer, allow_nan=False))
        return
    whole = (min(one.first for one in cameras), max(one.last for one in cameras))
    facts = [fact for camera in cameras for fact in _camera_facts(camera, whole, gaps, shown_zone)]
    facts += [
        f"slot 1 begins {_instant(origin, shown_zone)}; {slots:,} slots of {slot:g} s, {int(counts.sum()):,} requests",
        f"GPU: {size.words}",
        "drift: assumed, as no file tells it; see the scenario",
        "",
    ]
    _print_lines([*facts, *_next_step(scenario)])


@app.command()
def new(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Folder to write; the scenario has its name.")],
    streams: Annotated[int, typer.Option("--streams", min=1, max=1000, help="Number of cameras.")] = 3,
    template: Annotated[
        Template,
        typer.Option("--template", help="Requests: as busy as a day has it, steady, or all at a slot's start (paper)."),
    ] = Template.day,
    profile: ProfileName = "digits",
    deadline_s: Annotated[
        float | None,
        typer.Option("--deadline-s", help="Answers after so many seconds are late. [default: 5; paper: the slot's 60]"),
    ] = None,
    macs_per_s: Speed = None,
    as_json: Json = False,
) -> None:
    """Write a scenario with comments that runs at once, to be changed into your own."""
    from orric.profile import Profile
    from orric.shipped import profile_file
    from orric.templates import StreamPlan, scenario_text, size_for

    _demand_positive("--deadline-s", deadline_s)
    _demand_positive("--macs-per-s", macs_per_s)
    given_profile = profile_file(profile)
    models = Profile.load(given_profile)
    plans, per_s, most_per_s = [], 0.0, 0.0
    for number in range(streams):
        rate = 2.0 + number % 3
        if template is Template.day:
            # A day of an hour, so that a run shows one; the cameras are not busy at the same time.
            peak_s = 3600.0 * (0.3 + 0.4 * number / streams)
            requests = f'{{ kind = "day", per_s = {rate}, swing = 0.6, period_s = 3600.0, peak_s = {peak_s:.1f} }}'
            most = 1.6 * rate
        elif template is Template.steady:
            requests, most = f'{{ kind = "rate", per_s = {rate} }}', rate
        else:
            requests, most = f'{{ kind = "constant", per_slot = {round(60 * rate)} }}', rate
        per_s, most_per_s = per_s + rate, most_per_s + most
        arrivals = "upload" if template is Template.paper else "poisson"
        plans.append(StreamPlan(f"camera-{number + 1}", requests, arrivals))
    if deadline_s is None:
        # Where all come at once, the last is served when the slot ends.
        deadline_s = 60.0 if template is Template.paper else 5.0
    size = size_for(models, per_s, most_per_s, deadline_s, macs_per_s)
    heading = ("A scenario to begin with, written by orric new. It runs as it is: orric run scenario.toml",)
    with _folder_appearing(name) as partial:
        path = _profile_beside(given_profile, partial, name)
        text = scenario_text(_name_of(name), heading, plans, models, path, 60, 60.0, deadline_s, size)
        _write_scenario(partial, text)
    scenario = name / "scenario.toml"
    if as_json:
        answer = {"folder": str(name), "scenario": str(scenario), "streams": streams, "template": template.value}
        print(json.dumps({**answer, "macs_per_s": size.macs_per_s, "load": size.load}, allow_nan=False))
        return
    _print_lines([f"GPU: {size.words}", *_next_step(scenario)])


@app.command()
def allocators(as_json: Json = False) -> None:
    """List what can be compared: allocators, triggers to put before them, and reference lines."""
    from dataclasses import asdict

    from orric.allocators.listing import SPLIT, listed

    found = listed()
    if as_json:
        print(json.dumps({"allocators": [asdict(one) for one in found]}, allow_nan=False))
        return
    headings = {
        "allocator": "Allocators. (1): for one stream; several share the budget by demand.",
        "trigger": "Triggers, put before an allocator, as in adwin+orric.",
        "reference": "Reference lines, which decide nothing: references = [...] in a scenario.",
    }
    width = max(len(one.name) for one in found) + 1
    for number, (kind, heading) in enumerate(headings.items()):
        print(("\n" if number else "") + heading)
        for one in (one for one in found if one.kind == kind):
            mark = "(1) " if one.streams == SPLIT else ""
            parts = [f"{mark}{one.sentence}"]
            parts += [f"Also: {', '.join(one.aliases)}."] if one.aliases else []
            parts += [f"Needs {one.needs}."] if one.needs else []
            parts += [f"From {one.package}."] if one.package != "orric" else []
            _print_entry(one.name, " ".join(parts), width)


def _print_entry(name: str, text: str, width: int) -> None:
    """Print a name and beside it a text, within 80 columns."""
    import textwrap

    lines = textwrap.wrap(text, 79 - width, break_long_words=True)
    print(f"{name:{width}}{lines[0]}")
    for line in lines[1:]:
        print(" " * width + line)


@contextmanager
def _folder_appearing(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside a target that is not there or empty, and rename it when the block succeeds."""
    remedy = "choose another name"
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ScenarioError(str(target), "exists and is not empty", f"{remedy}; nothing is overwritten")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".orric.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise ScenarioError(str(target), f"cannot be written ({error.strerror})", remedy) from None
    try:
        yield partial
        partial.chmod(0o755)
        partial.replace(target)
    except OSError as error:
        raise ScenarioError(str(target), f"cannot be written ({error.strerror})", remedy) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_scenario(folder: Path, text: str) -> None:
    """Write the scenario, and read it as a run will."""
    from orric.scenario import load_scenario

    (folder / "scenario.toml").write_text(text, encoding="utf-8")
    load_scenario(folder / "scenario.toml")


def _profile_beside(given: Path, partial: Path, target: Path) -> str:
    """Return the path of a profile as seen from the target; one of orric's own is copied there."""
    import os

    from orric.shipped import copied, profiles_folder

    if given.resolve().parent == profiles_folder():
        return copied(given, partial)
    # Both lie in the same folder, so the path is that from either.
    return Path(os.path.relpath(given.resolve(), target.resolve())).as_posix()


def _name_of(target: Path) -> str:
    """Return a name for the scenario that can name a result folder, too."""
    name = target.resolve().name.lstrip(".")
    if not name or not name.isprintable() or "\\" in name:
        raise ScenarioError(f"{str(target)!a}", "cannot name a scenario", "choose a name of letters, digits and dashes")
    return name


def _plain_name(name: str, number: int, cameras: int) -> str:
    """Return a file name that is harmless wherever the folder goes: number and what letters the camera's name has."""
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:40].strip("-")
    return f"{number + 1:0{len(str(cameras))}}" + f"-{letters}" * bool(letters)


def _next_step(scenario: Path) -> list[str]:
    import shlex

    return [f"Scenario: {scenario}", f"Next: orric run {shlex.quote(str(scenario))}"]


def _print_lines(lines: Sequence[str]) -> None:
    console = console_of_output()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _demand_positive(option: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ScenarioError(option, f"found {value:g}", "give a finite number > 0")


def _instant(instant: int, zone: tzinfo) -> str:
    """Return an instant in UTC, and in the zone if that is another."""
    from orric.local_times import iso, told

    local = told(instant, zone)
    return iso(instant) + (f" ({local})" if not local.endswith("UTC") else "")


def _span(camera: Camera, zone: tzinfo) -> str:
    from orric.local_times import told

    return f"{told(camera.first, zone)} to {told(camera.last, zone)}"


def _camera_answer(camera: Camera) -> dict[str, Any]:
    from orric.local_times import iso

    return {
        "name": camera.name,
        "file": str(camera.file),
        "column": camera.columns[0],
        "count_column": camera.columns[1],
        "rows": len(camera.instants),
        "requests": camera.requests,
        "first": iso(camera.first),
        "last": iso(camera.last),
        "gaps": [{"start": iso(gap.start), "end": iso(gap.end), "seconds": gap.length_s} for gap in camera.gaps],
        "jumps": [{"at": iso(jump.instant), "seconds": jump.shift_s} for jump in camera.jumps],
        "duplicates": camera.duplicates,
        "disordered": camera.disordered,
        "unknown": camera.unknown,
    }


def _camera_facts(camera: Camera, whole: tuple[int, int], gaps: Gaps, zone: tzinfo) -> list[str]:
    """Say what a file holds and what is odd about it, beside the first and the last instant of all cameras."""
    from orric.cameras import length
    from orric.local_times import told

    unit = "counts" if camera.columns[1] is not None else "rows"
    facts = [f"{camera.name}: {camera.requests:,} requests in {len(camera.instants):,} {unit}, {_span(camera, zone)}"]
    # As long a silence between two rows would be a gap.
    if (late_s := (camera.first - whole[0]) / 1e9) > camera.gap_s:
        facts.append(f"  begins {length(late_s)} after the first camera: no requests until then")
    if (early_s := (whole[1] - camera.last) / 1e9) > camera.gap_s:
        facts.append(f"  ends {length(early_s)} before the last camera: no requests from then on")
    fate = {Gaps.zero: "no requests there", Gaps.repeat: "filled by what came before", Gaps.refuse: ""}[gaps]
    for gap in camera.gaps[:MOST_TOLD]:
        facts.append(f"  gap of {length(gap.length_s)} from {told(gap.start, zone)} on: {fate}")
    facts += _more(camera.gaps, "gaps")
    for jump in camera.jumps[:MOST_TOLD]:
        direction = "put forward" if jump.shift_s > 0 else "put back"
        facts.append(f"  clocks {direction} by {length(abs(jump.shift_s))}: then it was {told(jump.instant, zone)}")
    facts += _more(camera.jumps, "changes of the clocks")
    if camera.duplicates:
        alike = unit == "rows" and camera.fate_of_duplicates == "kept" and camera.whole_seconds
        one, more = ("shares its", "share their") if alike else ("repeats another", "repeat another")
        what = _rows(camera.duplicates, one, more) + " second with another" * alike
        facts.append(f"  {what}: {camera.fate_of_duplicates}")
    if camera.disordered:
        facts.append(f"  {_rows(camera.disordered, 'stood', 'stood')} below a later one: sorted")
    if camera.unknown:
        facts.append(f"  {_rows(camera.unknown, 'has', 'have')} no count: left out")
    return facts


def _rows(number: int, one: str, more: str) -> str:
    return f"{number:,} rows {more}" if number != 1 else f"1 row {one}"


def _more(told_of: Sequence[Any], what: str) -> list[str]:
    return [f"  and {len(told_of) - MOST_TOLD:,} more {what}"] if len(told_of) > MOST_TOLD else []

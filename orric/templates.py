"""Commented scenarios to begin with: every table explained, and numbers that make sense together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from orric.drift import SEVERITIES
from orric.profile import Device, Profile

# What serving everybody as well as possible takes of the GPU: on average, and in the busiest slot. The rest is for
# retraining, and for what comes unevenly within a slot.
MEAN_LOAD, PEAK_LOAD = 0.25, 0.6
# A pass of the model takes this part of the deadline at most.
PASS_PART = 0.1
# Lengths of a slot to choose from, in seconds, and how many slots there should be at most.
SLOTS_S, ENOUGH_SLOTS = (60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0), 500
ALLOCATORS = ("orric-guided", "orric", "thief", "inference-only")


@dataclass(frozen=True)
class StreamPlan:
    """A stream as it is written.

    Attributes:
        name: Of the stream.
        requests: The value of the key, in TOML.
        arrivals: The value of the key.
        notes: Lines of comment above it.
    """

    name: str
    requests: str
    arrivals: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Size:
    """How fast the GPU of a scenario is.

    Attributes:
        macs_per_s: Its speed.
        load: What serving everybody at the best configuration takes of it on average, in [0, 1].
        device: That the profile was measured on; None where that is not known.
        rule: What it was chosen for; None where it was given.
    """

    macs_per_s: float
    load: float
    device: Device | None
    rule: str | None

    @property
    def words(self) -> str:
        """The same in words, for people."""
        words = [f"{self.macs_per_s:.3g} MACs/s, of which serving takes {_percent(self.load)} on average"]
        words += [f"assumed, {self.rule}"] if self.rule is not None else []
        if self.device is not None:
            words.append(f"{self.device.beside(self.macs_per_s)} of the device that the profile was measured on")
        return "; ".join(words)


def size_for(profile: Profile, per_s: float, most_per_s: float, deadline_s: float, macs_per_s: float | None) -> Size:
    """Choose a GPU whose load makes sense.

    Args:
        profile: Of the models.
        per_s: Requests a second on average, of all streams.
        most_per_s: The same in the busiest slot.
        deadline_s: Of every stream.
        macs_per_s: What it is if given, whatever the load.
    """
    best = max(profile.inference, key=lambda one: one.profit)
    pass_macs = best.cost_macs
    if best.latency_s is not None and profile.device is not None:
        pass_macs = max(pass_macs, best.latency_s * profile.device.macs_per_s)
    rule = None
    if macs_per_s is None:
        demands = {
            f"for a load of {_percent(MEAN_LOAD)} on average": per_s / MEAN_LOAD,
            f"for a load of {_percent(PEAK_LOAD)} in the busiest slot": most_per_s / PEAK_LOAD,
            f"to serve a request within a tenth of the deadline ({PASS_PART * deadline_s:g} s)": 1
            / (PASS_PART * deadline_s),
        }
        rule = max(demands, key=demands.__getitem__)
        macs_per_s = _rounded_up(demands[rule] * pass_macs)
    return Size(macs_per_s, per_s * pass_macs / macs_per_s, profile.device, rule)


def slot_length(span_s: float) -> float:
    """Return the shortest usual length of a slot that gives no more slots than one wants to look at, in seconds."""
    return next((one for one in SLOTS_S if span_s <= one * ENOUGH_SLOTS), SLOTS_S[-1])


def drift_text(profile: Profile, slots: int) -> tuple[str, str]:
    """Return a drift that the profile knows, as TOML and in words: there and back, once in the whole run."""
    known: dict[str, set[int]] = {}
    for entry in profile.drift_curve:
        known.setdefault(entry.corruption, set()).add(entry.severity)
    whole = [name for name, severities in known.items() if severities >= set(SEVERITIES)]
    name = "fog" if "fog" in whole or not known else (whole or list(known))[0]
    if whole or not known:
        text = (
            f'{{ kind = "periodic", corruption = {quoted(name)}, low = 1, high = 5, period_slots = {max(2, slots)} }}'
        )
        return text, f"{name} that thickens from severity 1 to 5 and clears up again"
    severities = sorted(known[name])
    text = f'{{ kind = "steps", corruption = {quoted(name)}, severities = {severities} }}'
    return text, f"{name} of the severities {', '.join(map(str, severities))}, one after the other"


def scenario_text(
    name: str,
    heading: Sequence[str],
    streams: Sequence[StreamPlan],
    profile: Profile,
    profile_path: str,
    slots: int,
    slot_s: float,
    deadline_s: float,
    size: Size,
) -> str:
    """Write a scenario with comments, to be read by `orric.load_scenario`.

    Args:
        name: Of the scenario.
        heading: Lines of comment at its top.
        streams: The streams.
        profile: Of every stream.
        profile_path: Its file, relative to the scenario's.
        slots: How many.
        slot_s: Their length.
        deadline_s: Of every stream.
        size: Of the GPU.
    """
    drift, words = drift_text(profile, slots)
    lines = [f"# {line}" if line else "#" for line in heading]
    lines += [
        "# Every key: docs/guides/scenarios.md. Paths are relative to this file.",
        "format = 1",
        f"name = {quoted(name)} # the result goes to results/{name}",
        "seed = 1 # of every random draw",
        f"slots = {slots} # in each of them the budget is decided on anew",
        f"slot_s = {slot_s!r} # their length in seconds",
        'spare = "inference" # budget that the decision leaves over makes serving faster; or "idle"',
        "",
        "# What is compared; `orric allocators` lists them all. inference-only never retrains.",
        f"allocators = [{', '.join(map(quoted, ALLOCATORS))}]",
        "",
        '# Where accuracies come from: the profile\'s learning "curve" (seconds), its measured "table", or the real',
        '# models ("onnx", minutes). See docs/guides/scenarios.md#accuracy-models.',
        "[accuracy]",
        'model = "curve"',
        "",
        "# The GPU that serving and retraining share. Put in your own speed: a profile of your device has it as",
        "# [device] macs_per_s (docs/guides/calibrate.md).",
        f"# Here: {size.words}.",
        "[[gpu]]",
        'name = "gpu0"',
        f"macs_per_s = {_number(size.macs_per_s)}",
        *["assumed = true # leave this out when you put in your own"] * (size.rule is not None),
        'budget = { kind = "constant", fraction = 1.0 } # of it in every slot; less where others use the GPU, too',
        'sharing = { model = "priority" } # requests first; retraining works while nobody is served',
        "",
        "# One table for each camera: a student of its own, its requests, and how its images change.",
        "# profile:  costs, accuracies and latencies of the models (docs/guides/profiles.md); put in your own",
        "# requests, arrivals:  how many come, and when (docs/guides/scenarios.md#arrivals)",
        "# forecast, headroom:  what the allocator is told of the next slot, and by how much more it plans",
        "# deadline_s:  an answer after so many seconds is late, and counts as wrong in the in-time accuracy",
        f"# drift:  an assumption, as no file tells it: {words}",
        "#         (docs/guides/scenarios.md#drift)",
    ]
    for stream in streams:
        lines += [
            "",
            *(f"# {note}" for note in stream.notes),
            "[[stream]]",
            f"name = {quoted(stream.name)}",
            f"profile = {quoted(profile_path)}",
            f"requests = {stream.requests}",
            f"arrivals = {quoted(stream.arrivals)}",
        ]
        if stream.arrivals != "upload":
            lines += ['forecast = "ewma"', "headroom = 0.2"]
        lines += [f"deadline_s = {deadline_s!r}", f"drift = {drift}"]
    return "\n".join([*lines, ""])


def quoted(text: str) -> str:
    """Return a text that can be printed as a string of TOML."""
    return json.dumps(text, ensure_ascii=False)


def _rounded_up(value: float) -> float:
    """Return the next number of two digits, so that nobody takes it for a measured one."""
    digits = f"{value:.1e}"
    rounded = float(digits)
    return rounded if rounded >= value else float(f"{value * 1.05:.1e}")


def _number(value: float) -> str:
    """Return a number as people write it in TOML: 1.1e8."""
    digits, _, exponent = f"{value:.6e}".partition("e")
    return f"{float(digits)!r}e{int(exponent)}"


def _percent(part: float) -> str:
    return f"{100 * part:.2g} %" if part < 1 else f"{100 * part:,.0f} %"

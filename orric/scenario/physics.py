"""What a scenario may say, and yet hardly means: warnings in a line each, with both figures and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.budgets import load_trace
from orric.configuration import InferenceConfiguration
from orric.drift import Periodic, Steps
from orric.overload import LEAST
from orric.profile import Profile
from orric.scenario.gpu import BackgroundBudget, Gpu, Priority, Saturating, TimeSlice
from orric.scenario.measured import of_measurement
from orric.scenario.requests import ClosedRequests, CsvRequests, DayRequests, FromTimestamps, PatternRequests
from orric.scenario.stream import Stream
from orric.scenario.warned import Warned

if TYPE_CHECKING:
    from orric.scenario import Scenario

Array = np.ndarray[Any, np.dtype[np.float64]]
MOST_TOLD = 5
# A GPU that is so many times faster or slower than the device of the profile is rather one unit beside it. Slower ones
# may be more: small scenarios stand for large ones.
FASTER, SLOWER, DEVICES = 100.0, 1000.0, 100.0
# Configurations differ in how well they use a device, but not by so much.
EFFICIENCIES = 10.0
# Of an upload, the part that has to be able to be in time.
IN_TIME = 0.95
# A run that sees less of a period than this sees only one end of it.
OF_A_PERIOD = 0.5


def warnings(scenario: Scenario, seed: int, *, slot_model: bool = False) -> list[str]:
    """Return what to warn of, one line each: of a kind once, and five kinds at most.

    Args:
        scenario: Valid.
        seed: Of the run.
        slot_model: Whether it is for the slot model, which knows no times of service.
    """
    kinds = by_kind(found(scenario, seed, slot_model=slot_model))
    lines = [f"{texts[0]}" + f" (likewise {len(texts) - 1} more)" * (len(texts) > 1) for texts in kinds.values()]
    more = [f"and {len(lines) - MOST_TOLD} more kinds of warning; mend these first"] * (len(lines) > MOST_TOLD)
    return lines[:MOST_TOLD] + more


def by_kind(every: Iterable[Warned]) -> dict[str, list[str]]:
    """Return the texts of each kind, in the order of their first."""
    kinds: dict[str, list[str]] = {}
    for one in every:
        kinds.setdefault(one.kind, []).append(one.text)
    return kinds


def found(scenario: Scenario, seed: int, *, slot_model: bool = False) -> Iterator[Warned]:
    """Yield every warning, the gravest kinds first.

    Args:
        scenario: Valid.
        seed: Of the run.
        slot_model: Whether it is for the slot model, which knows no times of service.
    """
    placed = scenario.placement()
    budgets = {gpu.name: scenario.budgets_macs(seed, number) for number, gpu in enumerate(scenario.gpu)}
    requests = [_given(scenario, seed, k) for k in range(len(scenario.stream))]
    for number, gpu in enumerate(scenario.gpu):
        there = [k for k, name in enumerate(placed) if name == gpu.name]
        if there:
            named = f"gpu.{number + 1} ({gpu.name!r})"
            yield from _of_load(scenario, there, gpu, budgets[gpu.name], requests, not slot_model, named)
            if not slot_model:
                yield from _of_devices(scenario, there, gpu, named)
    gpus = {gpu.name: gpu for gpu in scenario.gpu}
    recorded = [k for k, stream in enumerate(scenario.stream) if isinstance(stream.requests, FromTimestamps)]
    # Where records end at different times, the run is as long as the longest.
    longest = max((scenario.timestamps(k).slots(scenario.slot_s) for k in recorded), default=0)
    for k, (stream, profile) in enumerate(zip(scenario.stream, scenario.profiles, strict=True)):
        named, gpu = f"stream.{k + 1} ({stream.name!r})", gpus[placed[k]]
        if slot_model or scenario.accuracy.model != "onnx":
            yield from _of_clean_images(scenario, seed, k, profile, named)
        if not slot_model:
            part = budgets[gpu.name] / (gpu.macs_per_s * scenario.slot_s)
            yield from _of_deadlines(scenario, stream, profile, gpu, part, requests[k], named)
        yield from _of_calendar(scenario, seed, k, longest, named)
        yield from _of_drift(stream, scenario.slots, named)
        yield from of_measurement(scenario, seed, k, profile, requests[k], budgets[gpu.name], named)
        if stream.headroom > 1:
            text = f"{named}: headroom = {stream.headroom:g} plans for {1 + stream.headroom:g} times the forecast"
            yield Warned("headroom", f"{text}; a fifth more is 0.2")
    yield from _of_the_run(scenario, placed)


def fastest_s(profile: Profile, gpu: Gpu, part: float = 1.0, batch: int = 1) -> float:
    """Return the least time that a request can take in service, on average over a batch, in seconds.

    Args:
        profile: Of its stream.
        gpu: Where it is served.
        part: Of the GPU that may serve.
        batch: Requests in a batch.
    """
    least = min(_service_s(profile, one, gpu, batch) for one in profile.inference)
    if part <= 0:
        return float("inf") if least else 0.0
    if isinstance(gpu.sharing, TimeSlice):
        # Whoever is served has the whole of it for a slice.
        return least
    if isinstance(gpu.sharing, Saturating):
        return least * (gpu.sharing.fixed + (1 - gpu.sharing.fixed) / min(part, 1.0))
    return least / min(part, 1.0)


def _service_s(profile: Profile, inference: InferenceConfiguration, gpu: Gpu, batch: int) -> float:
    """Return the time of a request at the whole GPU, on average over a batch; `orric.simulation.work` has the same."""
    scale = profile.device.macs_per_s / gpu.macs_per_s if profile.device else 1.0
    for one in profile.batch_latency:
        if one.inference == inference.name:
            return (one.fixed_s / batch + one.each_s) * scale
    return inference.cost_macs / gpu.macs_per_s if inference.latency_s is None else inference.latency_s * scale


def _given(scenario: Scenario, seed: int, stream: int) -> Array:
    """Return how many requests come in every slot; none of a closed loop, which asks less when it is served less."""
    if isinstance(scenario.stream[stream].requests, ClosedRequests):
        return np.zeros(scenario.slots)
    return scenario.requests(seed, stream)


def _of_load(
    scenario: Scenario,
    there: Sequence[int],
    gpu: Gpu,
    budgets: Array,
    requests: Sequence[Array],
    timed: bool,
    named: str,
) -> Iterator[Warned]:
    """Warn of budgets that do not pay for the cheapest inference of what comes, or not even for one request."""
    needed, profiles = np.zeros(scenario.slots), scenario.profiles
    cheapest = {k: min(one.cost_macs for one in profiles[k].inference) for k in there}
    for k in there:
        took = fastest_s(profiles[k], gpu, batch=scenario.stream[k].batch.most) * gpu.macs_per_s if timed else 0.0
        needed += requests[k] * max(cheapest[k], took)
    over = int((needed > budgets * (1 + 1e-9)).sum())
    if 2 * over > scenario.slots:
        taken = (
            f"takes {100 * needed.sum() / budgets.sum():.0f} % of its budget"
            if budgets.any()
            else "meets no budget at all"
        )
        text = f"{named}: serving all at the cheapest inference {taken}, too much in {over} of {scenario.slots} slots"
        yield Warned("load", f"{text}; raise macs_per_s or the budget, or send fewer requests")
        return
    for k in there:
        none = np.flatnonzero((requests[k] > 0) & (budgets < cheapest[k] * (1 - 1e-9)))
        if len(none):
            slot = int(none[0])
            text = (
                f"{named}: in {len(none)} of {scenario.slots} slots, first in slot {slot + 1}, its budget of "
                f"{budgets[slot]:.3g} MACs does not pay for the {cheapest[k]:.3g} of one request of "
                f"{scenario.stream[k].name!r}"
            )
            yield Warned("nothing served", f"{text}; raise the budget")
            return


def _of_devices(scenario: Scenario, there: Sequence[int], gpu: Gpu, named: str) -> Iterator[Warned]:
    """Warn of a GPU that is hardly the device of its profiles, and of profiles of unlike devices."""
    devices = {p.name: p.device for p in (scenario.profiles[k] for k in there) if p.device is not None}
    speeds = {name: device.macs_per_s for name, device in devices.items()}
    # An assumed speed is no slip: whoever assumed it knows that it is another's.
    for name, device in () if gpu.assumed else devices.items():
        above = gpu.macs_per_s / device.macs_per_s
        if above >= FASTER or above <= 1 / SLOWER:
            how = device.beside(gpu.macs_per_s)
            text = f"{named}: macs_per_s = {gpu.macs_per_s:g} is {how} of the device of profile {name!r}"
            yield Warned("device", f"{text}, and latencies are scaled by it; check the unit, or calibrate there")
            break
    for profile in {scenario.profiles[k].name: scenario.profiles[k] for k in there}.values():
        yield from _of_latencies(profile, gpu, named)
    if speeds and max(speeds.values()) >= DEVICES * min(speeds.values()):
        slow, fast = min(speeds, key=speeds.__getitem__), max(speeds, key=speeds.__getitem__)
        text = (
            f"{named}: its profiles {slow!r} and {fast!r} were measured at {speeds[slow]:g} and {speeds[fast]:g} MACs/s"
        )
        yield Warned("devices", f"{text}; calibrate both on one device")


def _of_latencies(profile: Profile, gpu: Gpu, named: str) -> Iterator[Warned]:
    """Warn of a latency in which the device, or without one the GPU, could never do the work."""
    device = profile.device
    speed, whose = (gpu.macs_per_s, named) if device is None else (device.macs_per_s, "its own [device]")
    for one in profile.inference:
        if one.latency_s is not None and one.cost_macs > EFFICIENCIES * speed * one.latency_s:
            times = one.cost_macs / (speed * one.latency_s)
            text = f"profile {profile.name!r}: in latency_s = {one.latency_s:g} the {one.cost_macs:.3g} MACs of "
            text += f"{one.name!r} are done {times:,.0f} times as fast as at the {speed:.3g} MACs/s of {whose}"
            yield Warned("latency", f"{text}; check its unit, or calibrate anew")
            return


def _of_clean_images(scenario: Scenario, seed: int, k: int, profile: Profile, named: str) -> Iterator[Warned]:
    """Warn of slots without drift whose accuracy nobody has measured."""
    if profile.knows_clean:
        return
    stream = scenario.stream[k]
    clean = int((stream.drift.by_slot(scenario.slots, seed, k).severities == 0).sum())
    if clean:
        text = f"{named}: clean images, which {clean} of {scenario.slots} slots have, are told by the general curve of "
        text += f"profile {profile.name!r}, the mean over all drift"
        yield Warned("clean", f"{text}; measure theirs: orric calibrate --clean-of {stream.profile}")


def _of_deadlines(
    scenario: Scenario, stream: Stream, profile: Profile, gpu: Gpu, parts: Array, requests: Array, named: str
) -> Iterator[Warned]:
    """Warn of deadlines that nobody can keep, and of one that nobody can miss."""
    deadline_s, run_s = stream.deadline_s, scenario.slots * scenario.slot_s
    alone_s = fastest_s(profile, gpu, float(parts.max()))
    usual = " on average" if stream.service.variability != "none" else ""
    if deadline_s is not None and deadline_s < alone_s < np.inf:
        text = f"{named}: deadline_s = {deadline_s:g} is below the {alone_s:.3g} s that a request takes{usual} at least"
        # Where service varies some may be quicker.
        none = "few are" if usual else "none is"
        yield Warned(
            "deadline", f"{text} on {gpu.name!r}, so that {none} in time; raise it, or macs_per_s or the budget"
        )
        return
    if deadline_s is not None and isinstance(gpu.sharing, Priority) and gpu.sharing.grain_s > 0 and parts.any():
        held_s, slowed_s = gpu.sharing.grain_s / min(float(parts.max()), 1.0), alone_s * gpu.sharing.slowdown
        if held_s + slowed_s > deadline_s:
            text = (
                f"{named}: deadline_s = {deadline_s:g}, and a step of retraining holds {gpu.name!r} for {held_s:.3g} s"
            )
            text += f" before {slowed_s:.3g} s of service: who comes as one begins is late"
            yield Warned("grain", f"{text}; lower sharing.grain_s by smaller training batches, or raise the deadline")
    if deadline_s is not None and stream.batch.most > 1 and stream.batch.wait_s + alone_s > deadline_s:
        text = f"{named}: batch.wait_s = {stream.batch.wait_s:g} and {alone_s:.3g} s of service exceed"
        yield Warned(
            "batch", f"{text} deadline_s = {deadline_s:g}: who waits for a batch to fill is late; lower wait_s"
        )
    if deadline_s is not None and stream.arrivals == "upload":
        each_s = np.array([fastest_s(profile, gpu, part, stream.batch.most) for part in np.unique(parts)])
        each_s = each_s[np.searchsorted(np.unique(parts), parts)]
        with np.errstate(divide="ignore"):
            able = np.minimum(requests, np.where(each_s > 0, deadline_s / each_s, np.inf))
        if (in_time := float(able.sum() / max(requests.sum(), 1.0))) < IN_TIME and requests.any():
            text = f"{named}: of uploads of {requests.mean():.4g} requests on average at most {100 * in_time:.0f} % "
            text += "can be in time"
            known = each_s[each_s < np.inf]
            each = f"takes {known.mean():.3g} s" if len(known) else "is never served"
            why = f"one {each} and deadline_s is {deadline_s:g}"
            yield Warned("upload", f"{text}: {why}; raise it, or spread the arrivals")
    if deadline_s is not None and deadline_s >= run_s > scenario.slot_s:
        text = f"{named}: deadline_s = {deadline_s:g} is not below the {run_s:g} s of the run"
        yield Warned("no deadline", f"{text}, so that nobody can be late; lower it, or leave it out")
    if profile.swap.pause_s >= scenario.slot_s:
        text = f"{named}: new weights stop serving for {profile.swap.pause_s:g} s and a slot has {scenario.slot_s:g}"
        yield Warned("pause", f"{text}; give longer slots")


def _of_calendar(scenario: Scenario, seed: int, k: int, longest: int, named: str) -> Iterator[Warned]:
    """Warn of what a trace or a rate holds that the run does not use, or lacks.

    Args:
        scenario: Valid.
        seed: Of the run.
        k: Index of the stream.
        longest: Slots of the longest record of all streams.
        named: The stream in words.
    """
    given, run_s = scenario.stream[k].requests, scenario.slots * scenario.slot_s
    if isinstance(given, FromTimestamps):
        times = scenario.timestamps(k)
        beyond = times.requests - int(np.searchsorted(times.arrival_s, run_s))
        if beyond:
            text = (
                f"{named}: {beyond:,} of {times.requests:,} requests of {given.timestamps} come after the {run_s:g} s"
            )
            yield Warned("after the end", f"{text} of the run, and are left out; raise slots to use them")
        elif scenario.slots - longest > 1 and times.slots(scenario.slot_s) == longest:
            last = float(times.arrival_s[-1])
            text = f"{named}: {given.timestamps} ends at second {last:g} of {run_s:g}, and nothing comes afterwards"
            yield Warned("empty end", f"{text}; set slots = {longest}, or take a longer record")
    if isinstance(given, CsvRequests):
        trace, drift = load_trace(scenario._folder / given.csv), scenario.stream[k].drift
        if trace.corruption is not None or trace.severity is not None:
            laid = drift.by_slot(scenario.slots, seed, k)
            told = (trace.corruption or laid.corruptions, trace.severity or tuple(laid.severities.tolist()))
            if told != (laid.corruptions, tuple(laid.severities.tolist())):
                text = f"{named}: the drift that {given.csv} tells is not that of the stream, and is not used"
                yield Warned("drift of a trace", f"{text}; give the drift that you mean as drift = {{ ... }}")
    if isinstance(given, DayRequests) and given.swing:
        if scenario.slot_s > given.period_s * OF_A_PERIOD:
            text = f"{named}: slots of {scenario.slot_s:g} s hold {scenario.slot_s / given.period_s:.2g} of the days"
            yield Warned(
                "day", f"{text} of period_s = {given.period_s:g}, whose swing no slot shows; give shorter slots"
            )
        elif run_s < OF_A_PERIOD * given.period_s:
            # The mean of the cosine over the run.
            turn = 2 * np.pi / given.period_s
            mean = (np.sin(turn * (run_s - given.peak_s)) + np.sin(turn * given.peak_s)) / (turn * run_s)
            rate = given.per_s * (1 + given.swing * mean)
            text = (
                f"{named}: the run has {run_s:g} s of a day of period_s = {given.period_s:g}, with {rate:.3g} requests"
            )
            yield Warned("period", f"{text}/s on average for per_s = {given.per_s:g}; shorten the day, or set peak_s")
    period = given.period_slots or 24 if isinstance(given, PatternRequests) and given.kind == "periodic" else 0
    yield from _of_a_period(period, scenario.slots, f"{named}: requests")


def _of_a_period(period: int, slots: int, named: str) -> Iterator[Warned]:
    if slots < OF_A_PERIOD * period:
        text = f"{named} have period_slots = {period}, and the run has {slots} slots of it"
        yield Warned("period", f"{text}; it sees one end of the period only: shorten it, or raise slots")


def _of_drift(stream: Stream, slots: int, named: str) -> Iterator[Warned]:
    """Warn of drift that the run is too short for."""
    drift, named = stream.drift, f"{named}: drift"
    names = drift.corruptions or (drift.corruption,)
    turns = -(-slots // drift.corruption_slots) if drift.corruption_slots else min(slots, len(names))
    if turns < len(names):
        text = f"{named}.corruptions names {len(names)}, of which {slots} slots reach {turns}"
        yield Warned("corruptions", f"{text}; raise slots, or let turns be shorter")
    if isinstance(drift, Steps) and len(drift.severities) > slots:
        text = f"{named}.severities names {len(drift.severities)}, and the run has {slots} slots"
        yield Warned("severities", f"{text}, one for each; raise slots")
    if drift.labels is not None and drift.labels.kind == "steps" and len(drift.labels.mixes) > slots:
        text = f"{named}.labels names {len(drift.labels.mixes)} mixes, and the run has {slots} slots"
        yield Warned("mixes", f"{text}, one for each; raise slots")
    if isinstance(drift, Periodic) and drift.low < drift.high:
        yield from _of_a_period(drift.period_slots, slots, f"{named}: severities")


def _of_the_run(scenario: Scenario, placed: Sequence[str]) -> Iterator[Warned]:
    """Warn of what the run as a whole is too short for."""
    run_s, left = scenario.slots * scenario.slot_s, scenario.slots - scenario.warmup_slots
    if scenario.warmup_slots and left < LEAST:
        text = f"warmup_slots = {scenario.warmup_slots} leaves {left} of {scenario.slots} slots"
        yield Warned("warmup", f"{text}, and whether queues grow is told of {LEAST} or more; lower it")
    for number, gpu in enumerate(scenario.gpu, start=1):
        if isinstance(gpu.budget, BackgroundBudget) and gpu.budget.swing and gpu.name in placed:
            yield from _of_a_period(gpu.budget.period_slots, scenario.slots, f"gpu.{number} ({gpu.name!r}): budgets")
    cloud = scenario.cloud
    if cloud is not None and "cloud-retraining" in scenario.allocators:
        back_s = cloud.delay_s + cloud.weights_bytes / cloud.downlink_bytes_per_s
        if back_s >= run_s:
            text = f"cloud: new weights take {back_s:.3g} s to come back and the run has {run_s:g}"
            yield Warned("cloud", f"{text}, so that none ever arrive; raise downlink_bytes_per_s")

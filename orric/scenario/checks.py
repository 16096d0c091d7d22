"""What is refused of a scenario once its profiles and its traces are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orric.accuracy import TableAccuracy
from orric.allocators.base import StreamTask
from orric.exceptions import BudgetError, ProfileError, ScenarioError, nearest
from orric.objective import feasible_together
from orric.profile import Profile
from orric.scenario.fault import OF_GPU, Fault
from orric.scenario.gpu import Gpu, Priority, TimeSlice
from orric.scenario.requests import MOST_DRAWN, ClosedRequests
from orric.scenario.stream import Stream

if TYPE_CHECKING:
    from orric.scenario import Scenario


def check(scenario: Scenario, where: str) -> None:
    """Refuse what contradicts itself, or what is physically impossible.

    Args:
        scenario: Valid by itself.
        where: Where it was read, for messages.

    Raises:
        OrricError: In one line.
    """
    for number, (stream, profile) in enumerate(zip(scenario.stream, scenario.profiles, strict=True), start=1):
        _check_stream(scenario, stream, profile, where, f"{where}: stream.{number}")
    for number, gpu in enumerate(scenario.gpu, start=1):
        _check_sharing(gpu, scenario.slot_s, f"{where}: gpu.{number}.sharing")
    for number, fault in enumerate(scenario.fault, start=1):
        _check_fault(scenario, fault, f"{where}: fault.{number}")
    scenario.placement()
    for index in range(len(scenario.stream)):
        _check_number(scenario, index, f"{where}: stream.{index + 1}.requests")
    if scenario.overload == "error":
        _check_budgets(scenario)


def _check_stream(scenario: Scenario, stream: Stream, profile: Profile, where: str, place: str) -> None:
    model, gpus = scenario.accuracy.model, [gpu.name for gpu in scenario.gpu]
    if model == "onnx" and profile.models is None:
        raise ScenarioError(
            f"{where}: accuracy.model",
            f'is "onnx" but the profile {stream.profile} names no [models]',
            'set model = "curve", or use a profile made by orric calibrate',
        )
    corruptions, severities = zip(*sorted(stream.drift.pairs(scenario.slots)), strict=True)
    try:
        profile.curves_for(corruptions, severities)
    except ProfileError as error:
        _, found, remedy = error.args
        raise ScenarioError(f"{place}.drift", found, remedy) from None
    if model == "table":
        try:
            TableAccuracy(profile, corruptions, severities)
        except ProfileError as error:
            _, found, remedy = error.args
            raise ScenarioError(f"{where}: accuracy.model", found, remedy) from None
    if stream.gpu is not None and stream.gpu not in gpus:
        raise ScenarioError(f"{place}.gpu", f"{stream.gpu!r} is unknown", nearest(stream.gpu, gpus))
    if "teacher-only" in scenario.references and profile.teacher is None and model != "onnx":
        found = f"the profile {stream.profile} has no [teacher]"
        raise ScenarioError(f"{where}: references", found, 'remove "teacher-only"')


def _check_sharing(gpu: Gpu, slot_s: float, place: str) -> None:
    if isinstance(gpu.sharing, TimeSlice) and gpu.sharing.round_s > slot_s:
        found = f"found {gpu.sharing.round_s:g}, and a slot has {slot_s:g} s"
        raise ScenarioError(f"{place}.round_s", found, "let many rounds go into a slot")
    if isinstance(gpu.sharing, Priority) and gpu.sharing.grain_s >= slot_s:
        found = f"found {gpu.sharing.grain_s:g}, and a slot has {slot_s:g} s"
        raise ScenarioError(f"{place}.grain_s", found, "give the length of a training step, of which many go into it")


def _check_fault(scenario: Scenario, fault: Fault, place: str) -> None:
    kind, name, known = "stream", fault.stream, [stream.name for stream in scenario.stream]
    if fault.kind in OF_GPU:
        kind, name, known = "gpu", fault.gpu, [gpu.name for gpu in scenario.gpu]
    if name not in known:
        raise ScenarioError(f"{place}.{kind}", f"{name!r} is unknown", nearest(str(name), known))
    for key, value in (("offset_s", fault.offset_s), ("skew_s", fault.skew_s or 0.0)):
        if value >= scenario.slot_s:
            found = f"found {value:g}, and a slot has {scenario.slot_s:g} s"
            raise ScenarioError(f"{place}.{key}", found, f"stay below {scenario.slot_s:g}; slots says in which one")
    closed = [one.name for one in scenario.stream if isinstance(one.requests, ClosedRequests)]
    if fault.kind in ("burst", "clock-skew") and name in closed:
        found = f"{fault.kind!r} is of requests that come by themselves, and {name!r} is a closed loop"
        raise ScenarioError(place, found, "remove it, or choose other arrivals")
    if max(fault.slots, default=1) > scenario.slots:
        found = f"found {max(fault.slots)}"
        raise ScenarioError(f"{place}.slots", found, f"the scenario has {scenario.slots} slots")


def _check_number(scenario: Scenario, stream: int, place: str) -> None:
    """Refuse more requests than can be simulated; a drawn process refuses them by its own rate."""
    owner = scenario.stream[stream]
    if isinstance(owner.requests, ClosedRequests):
        owner.requests.check(place, scenario.slots * scenario.slot_s, scenario.overload)
    elif not owner.drawn and (total := float(scenario.requests(scenario.seed, stream).sum())) > MOST_DRAWN:
        found = f"{total:.3g} would come in all"
        raise ScenarioError(place, found, f"lower their number or that of the slots; {MOST_DRAWN:g} can be simulated")


def _check_budgets(scenario: Scenario) -> None:
    """Refuse a slot whose budget is below the cheapest pairs, on a GPU of one stream at least."""
    for number, gpu in enumerate(scenario.gpu):
        there = [k for k, name in enumerate(scenario.placement()) if name == gpu.name]
        if not there:
            continue
        budgets = scenario.budgets_macs(scenario.seed, number)
        cheapest = np.array([StreamTask.of(scenario.profiles[k], 1.0, 1.0).cheapest_macs for k in there])
        asked = np.stack(
            [scenario.requests(scenario.seed, k) * (1 + scenario.stream[k].headroom) for k in there], axis=1
        )
        needed = asked @ cheapest
        # Only where rounding might decide is every term of the sum looked at.
        for slot in np.flatnonzero(needed * (1 + 1e-9) > budgets).tolist():
            if not feasible_together(asked[slot], 0.0, cheapest, float(budgets[slot])):
                raise BudgetError(slot + 1, float(budgets[slot]), float(needed[slot]))

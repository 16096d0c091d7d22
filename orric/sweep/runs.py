"""Compute the runs of a chunk: what every engine's workers call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orric.allocators import ALIASES, ALLOCATORS, make_allocator
from orric.allocators.base import SingleStreamAllocator
from orric.comparison import simulate_line
from orric.exceptions import AllocatorError, BudgetError, OrricError, SimulationError
from orric.records import Result
from orric.scenario import Scenario
from orric.slot_model import evaluate
from orric.sweep.batch import Laid, evaluate_together
from orric.sweep.measures import MEASURES
from orric.sweep.plan import Chunk, Sweep
from orric.sweep.slot_rows import of_batch, of_result

Row = dict[str, Any]
# Slots that lie end to end at once: more would not be quicker, and take memory.
LAID_SLOTS = 200_000
# Errors that the same run always has.
THEIR_OWN = (AllocatorError, BudgetError, SimulationError)


@dataclass(frozen=True)
class Computed:
    """What came of a chunk.

    Attributes:
        rows: One per run: the figures of `MEASURES`, None where unknown, and "error", "" where there is none.
        again: Whether an error may be mended from outside, such as files that are not there: such runs are not kept.
        slots: Parts of the table of all slots, none unless the sweep asks for them.
    """

    rows: list[Row]
    slots: list[Any]
    again: bool = False


def computed(sweep: Sweep, chunk: Chunk) -> Computed:
    """Compute a chunk's runs, point by point, and of each point seed by seed."""
    scenarios = [sweep.scenario_of(point) for point in chunk.points]
    if sweep.engine == "slot-model" and _open_loop(chunk.allocator):
        return _together(scenarios, chunk, sweep.per_slot)
    run = _simulated if sweep.engine == "simulator" else _evaluated
    rows: list[Row] = []
    slots: list[Any] = []
    again = False
    for scenario in scenarios:
        for seed in chunk.seeds:
            try:
                result = run(scenario, chunk.allocator, seed)
            except Exception as error:  # whatever it is, it stops no other run
                rows.append(_failed(error))
                again = again or not isinstance(error, THEIR_OWN)
                continue
            if sweep.per_slot:
                slots.append(of_result(result, len(rows)))
            retrained = float((result.columns["retraining_macs"] > 0).mean())
            summary = result.summary()
            rows.append(_row({**summary, "retrained": retrained, "overloaded": float(summary["overloaded"])}))
    return Computed(rows, slots, again)


def _open_loop(name: str) -> bool:
    """Say whether orric itself has an allocator of that name whose decisions need no feedback."""
    kind = ALLOCATORS.get(ALIASES.get(name, name))
    return kind is not None and issubclass(kind, SingleStreamAllocator)


def _together(scenarios: list[Scenario], chunk: Chunk, per_slot: bool) -> Computed:
    """Evaluate many runs at once: those of one profile, as many as fit."""
    rows: dict[int, Row] = {}
    slots: list[Any] = []
    groups: dict[int, list[tuple[int, Laid]]] = {}
    stream, again = scenarios[0].stream[0].name, False

    def settle(group: list[tuple[int, Laid]]) -> None:
        allocator = make_allocator(chunk.allocator)
        assert isinstance(allocator, SingleStreamAllocator), "the caller looked"
        evaluated = evaluate_together([laid for _, laid in group], allocator)
        places = [place for place, _ in group]
        for place, found in zip(places, evaluated.figures, strict=True):
            rows[place] = _failed(found) if isinstance(found, OrricError) else _row(found)
        if per_slot:
            slots.append(of_batch(evaluated, places, group[0][1].profile, stream))

    for place, (scenario, seed) in enumerate((scenario, seed) for scenario in scenarios for seed in chunk.seeds):
        try:
            laid = Laid.out(scenario, seed)
        except Exception as error:
            rows[place] = _failed(error)
            again = again or not isinstance(error, THEIR_OWN)
            continue
        group = groups.setdefault(id(laid.profile), [])
        group.append((place, laid))
        if sum(len(one.requests) for _, one in group) >= LAID_SLOTS:
            settle(groups.pop(id(laid.profile)))
    for group in groups.values():
        settle(group)
    return Computed([rows[place] for place in range(len(rows))], slots, again)


def _evaluated(scenario: Scenario, allocator: str, seed: int) -> Result:
    trace = scenario.trace(seed)
    return evaluate(scenario.profile, trace, make_allocator(allocator), overload=scenario.overload, seed=seed)


def _simulated(scenario: Scenario, allocator: str, seed: int) -> Result:
    return simulate_line(scenario, scenario.accuracy.model, allocator, seed)


def _row(figures: Row) -> Row:
    return {**{name: figures.get(name) for name in MEASURES}, "error": ""}


def _failed(error: Exception) -> Row:
    said = str(error) if isinstance(error, OrricError) else f"{type(error).__name__}: {error}".splitlines()[0]
    return {**dict.fromkeys(MEASURES), "error": said}

"""Compute the runs of a chunk: what every engine's workers call."""

from __future__ import annotations

from typing import Any

from orric.allocators import ALIASES, ALLOCATORS, make_allocator
from orric.allocators.base import SingleStreamAllocator
from orric.comparison import simulate_line
from orric.exceptions import OrricError
from orric.scenario import Scenario
from orric.slot_model import evaluate
from orric.sweep.batch import Laid, summaries
from orric.sweep.measures import MEASURES
from orric.sweep.plan import Chunk, Sweep

Row = dict[str, Any]
# Slots that lie end to end at once: more would not be quicker, and take memory.
LAID_SLOTS = 200_000


def computed(sweep: Sweep, chunk: Chunk) -> list[Row]:
    """Compute a chunk's runs, point by point, and of each point seed by seed.

    Returns:
        One row per run: the figures of `MEASURES`, None where unknown, and "error", "" where there is none.
    """
    scenarios = [sweep.scenario_of(point) for point in chunk.points]
    if sweep.engine == "simulator":
        return [_simulated(scenario, chunk.allocator, seed) for scenario in scenarios for seed in chunk.seeds]
    if _open_loop(chunk.allocator):
        return _laid(scenarios, chunk)
    return [_evaluated(scenario, chunk.allocator, seed) for scenario in scenarios for seed in chunk.seeds]


def _open_loop(name: str) -> bool:
    """Say whether orric itself has an allocator of that name whose decisions need no feedback."""
    kind = ALLOCATORS.get(ALIASES.get(name, name))
    return kind is not None and issubclass(kind, SingleStreamAllocator)


def _laid(scenarios: list[Scenario], chunk: Chunk) -> list[Row]:
    """Evaluate many runs at once: those of one profile, as many as fit."""
    rows: dict[int, Row] = {}
    groups: dict[int, list[tuple[int, Laid]]] = {}

    def settle(group: list[tuple[int, Laid]]) -> None:
        allocator = make_allocator(chunk.allocator)
        assert isinstance(allocator, SingleStreamAllocator), "the caller looked"
        for (place, _), found in zip(group, summaries([laid for _, laid in group], allocator), strict=True):
            rows[place] = _failed(found) if isinstance(found, OrricError) else _row(found)

    for place, (scenario, seed) in enumerate((scenario, seed) for scenario in scenarios for seed in chunk.seeds):
        try:
            laid = Laid.out(scenario, seed)
        except OrricError as error:
            rows[place] = _failed(error)
            continue
        group = groups.setdefault(id(laid.profile), [])
        group.append((place, laid))
        if sum(len(one.requests) for _, one in group) >= LAID_SLOTS:
            settle(groups.pop(id(laid.profile)))
    for group in groups.values():
        settle(group)
    return [rows[place] for place in range(len(rows))]


def _evaluated(scenario: Scenario, allocator: str, seed: int) -> Row:
    try:
        result = evaluate(
            scenario.profile, scenario.trace(seed), make_allocator(allocator), overload=scenario.overload, seed=seed
        )  # fmt: skip
    except OrricError as error:
        return _failed(error)
    return _row({**result.summary(), "retrained": _retrained(result)})


def _simulated(scenario: Scenario, allocator: str, seed: int) -> Row:
    try:
        result = simulate_line(scenario, scenario.accuracy.model, allocator, seed)
    except OrricError as error:
        return _failed(error)
    return _row({**result.summary(), "retrained": _retrained(result)})


def _retrained(result: Any) -> float:
    return float((result.columns["retraining_macs"] > 0).mean())


def _row(figures: Row) -> Row:
    return {**{name: figures.get(name) for name in MEASURES}, "error": ""}


def _failed(error: OrricError) -> Row:
    return {**dict.fromkeys(MEASURES), "error": str(error)}

"""Simulate a scenario under every allocator and reference line, on one machine's cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from orric.accuracy import AccuracyModel, CurveAccuracy, TableAccuracy
from orric.allocators import make_allocator
from orric.allocators.base import Allocator
from orric.configuration import InferenceConfiguration
from orric.exceptions import AllocatorError, ScenarioError
from orric.learning import Tabulated
from orric.profile import Profile, TableEntry
from orric.records import Array, Result
from orric.scenario import ConstantBudget, Scenario
from orric.simulation import engine
from orric.workers import in_parallel

Model = Literal["curve", "table", "onnx"]
WHOLE = ConstantBudget(kind="constant", fraction=1.0)


@dataclass(frozen=True)
class Failure:
    """A line of a comparison that has no result, because its allocator misbehaved.

    Attributes:
        allocator: Name of the allocator or reference line.
        accuracy_model: Under which accuracy model: "curve", "table" or "onnx".
        error: What it did.
    """

    allocator: str
    accuracy_model: Model
    error: AllocatorError


def simulate(scenario: Scenario, allocator: Allocator, seed: int | None = None) -> Result:
    """Simulate one allocator in the event simulator.

    Args:
        scenario: The server, the stream and where accuracies come from.
        allocator: Decides every slot.
        seed: The scenario's own when left out.

    Returns:
        One record per slot, and the latency of every served request.

    Raises:
        BudgetError: A slot's budget is below the cheapest pair and the scenario's overload is "error".
        MissingExtraError: `orric[sim]`, or for real models `orric[models]`, is not installed.

    >>> import orric
    >>> scenario = orric.load_scenario("simulations/table3-fog.toml")
    >>> result = orric.simulate(scenario, orric.Orric(), seed=1)
    >>> result.engine, len(list(result.records))
    ('simulator', 50)
    """
    seed = scenario.seed if seed is None else seed
    return engine.simulate(scenario, allocator, _accuracy(scenario, scenario.accuracy.model, seed), seed)


def lines(scenario: Scenario, model: Model) -> list[str]:
    """Name the allocators and reference lines that a comparison of the scenario runs."""
    # Batch-norm statistics exist in real networks only.
    references = [name for name in scenario.references if model == "onnx" or name != "batch-norm-only"]
    return [*scenario.allocators, *references]


def compare(
    scenario: Scenario, models: Sequence[Model], seed: int, jobs: int | None = None
) -> Iterator[Result | Failure]:
    """Simulate every line of the scenario under each accuracy model, and yield each result when it is there.

    All lines see the same requests, budgets and images. Results do not depend on the number of jobs. An allocator
    that misbehaves does not keep the others from their results.

    Args:
        scenario: What to simulate.
        models: "curve", "table", "onnx" or several of them.
        seed: Seed of every random draw.
        jobs: Worker processes; as many as there are cores when left out.

    Yields:
        The result of a line, or what its allocator did wrong.
    """
    work = [(model, line) for model in models for line in lines(scenario, model)]
    if "onnx" in models:
        # Exported once here, so that the workers do not export the same models side by side.
        _accuracy(scenario, "onnx", seed)
    for _, result in in_parallel(attempt_line, [(scenario, model, line, seed) for model, line in work], jobs):
        yield result


def attempt_line(scenario: Scenario, model: Model, line: str, seed: int) -> Result | Failure:
    """Simulate an allocator or reference line by name; return what the allocator did wrong in place of raising it."""
    try:
        return simulate_line(scenario, model, line, seed)
    except AllocatorError as error:
        return Failure(line, model, error)


def simulate_line(scenario: Scenario, model: Model, line: str, seed: int) -> Result:
    """Simulate an allocator or reference line by name.

    The result goes by the name asked for, which may be an alias, or that under which another package registers it.

    Raises:
        AllocatorError: The allocator misbehaves.
    """
    if line == "teacher-only":
        return _teacher_only(scenario, model, seed)
    if line == "batch-norm-only":
        accuracy = _accuracy(scenario, model, seed, update="statistics")
        result = engine.simulate(scenario, make_allocator("orric"), accuracy, seed)
        return replace(
            result, allocator=line, columns={**result.columns, "retraining_macs": _refreshing(scenario, result)}
        )
    try:
        result = engine.simulate(scenario, make_allocator(line), _accuracy(scenario, model, seed), seed)
    except AllocatorError as error:
        raise error.renamed(line) from error
    return replace(result, allocator=line)


def _accuracy(
    scenario: Scenario,
    model: Model,
    seed: int,
    update: Literal["weights", "statistics"] = "weights",
    teacher: Profile | None = None,
) -> AccuracyModel:
    """Make the accuracy model of the scenario's student, or of the teacher, where its figures are given."""
    drift = scenario.stream[0].drift.by_slot(scenario.slots, seed)
    if model != "onnx":
        read = CurveAccuracy if model == "curve" else TableAccuracy
        return read(teacher or scenario.profile, drift.corruptions, drift.severities.tolist())
    from orric.retraining.accuracy import OnnxAccuracy, TeacherAccuracy

    if teacher is not None:
        return TeacherAccuracy(scenario.profile, drift, seed)
    return OnnxAccuracy(scenario.profile, drift, seed, update)


def _teacher_only(scenario: Scenario, model: Model, seed: int) -> Result:
    """Serve by the teacher on the whole GPU, whatever the budget: a line to compare with, not an allocator."""
    teacher, profile = scenario.profile.teacher, scenario.profile
    if teacher is None:
        raise ScenarioError("references", f"profile {profile.name!r} has no [teacher]", 'remove "teacher-only"')
    gpu = scenario.gpu[0]
    most = float(scenario.requests(seed).max()) * teacher.cost_macs / scenario.slot_s
    unrestricted = scenario.model_copy(
        update={
            "gpu": (gpu.model_copy(update={"macs_per_s": max(gpu.macs_per_s, most * (1 + 1e-9)), "budget": WHOLE}),),
            "spare": "inference",
        }
    )
    serving = InferenceConfiguration(
        name="teacher", profit=1.0, cost_macs=teacher.cost_macs, latency_s=teacher.latency_s
    )
    flat = [
        entry.model_copy(update={"curve": _flat(entry.teacher_accuracy or teacher.accuracy)})
        for entry in profile.drift_curve
    ]
    measured = {(entry.corruption, entry.severity) for entry in profile.table}
    accuracies = {(entry.corruption, entry.severity): float(entry.curve(0.0)) for entry in flat}
    stand_in = Profile(
        name=profile.name,
        best_accuracy=max([teacher.accuracy, *(float(entry.curve(0.0)) for entry in flat)]),
        slope_floor=1e-9,
        retraining=profile.retraining,
        inference=(serving,),
        curve=_flat(teacher.accuracy),
        drift_curve=tuple(flat),
        table=tuple(
            TableEntry(
                corruption=c, severity=s, inference=serving.name, accuracy=accuracies.get((c, s), teacher.accuracy)
            )
            for c, s in sorted(measured)
        ),
        device=profile.device,
    )
    accuracy = _accuracy(scenario, model, seed, teacher=stand_in)
    result = engine.simulate(unrestricted, make_allocator("inference-only"), accuracy, seed, profile=stand_in)
    # Its use is told against the budget that it ignores.
    columns = {**result.columns, "budget_macs": scenario.budgets_macs(seed)}
    return replace(result, allocator="teacher-only", columns=columns)


def _refreshing(scenario: Scenario, result: Result) -> Array:
    """Return the MACs of refreshing statistics alone: one pass of the student over the samples, and no label."""
    models = scenario.profile.models
    assert models is not None
    most = max(models.resolution_px.values())
    forward = next(one.cost_macs for one in scenario.profile.inference if models.resolution_px[one.name] == most)
    ratios = np.array([models.sampling_ratio[name] for name in result.columns["retraining"].tolist()])
    macs: Array = result.columns["requests"] * ratios * forward
    return macs


def _flat(accuracy: float) -> Tabulated:
    return Tabulated(x=(0.0, 1.0), y=(accuracy, accuracy))

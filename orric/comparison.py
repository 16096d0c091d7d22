"""Simulate a scenario under every allocator and reference line, on one machine's cores."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from orric.accuracy import AccuracyModel, CurveAccuracy, TableAccuracy
from orric.allocators import REFERENCES, make_allocator
from orric.allocators.base import Allocator, MicroProfiled
from orric.allocators.replay import Recorded, Replayed
from orric.allocators.triggers import Trigger
from orric.by_drift import TableEntry
from orric.configuration import InferenceConfiguration
from orric.exceptions import AllocatorError, ProfileError, ScenarioError
from orric.learning import Tabulated
from orric.profile import Profile
from orric.records import Array, Result
from orric.scenario import ConstantBudget, Fault, Scenario
from orric.simulation import engine
from orric.simulation.arrivals import Arrivals
from orric.simulation.faults import bursts, schedule, skews_s
from orric.workers import Board, in_parallel

if TYPE_CHECKING:
    from orric.retraining.accuracy import Shown

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


def simulate(
    scenario: Scenario, allocator: Allocator, seed: int | None = None, *, record: bool | str | Path = False
) -> Result:
    """Simulate one allocator in the event simulator.

    Args:
        scenario: The server, the stream and where accuracies come from.
        allocator: Decides every slot.
        seed: The scenario's own when left out.
        record: Whether the result holds the times of every request, too; or a Parquet file to write them to.

    Returns:
        One record per slot and stream, one per slot and GPU, and the latencies, counted in buckets.

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
    accuracies = accuracy_models(scenario, scenario.accuracy.model, seed, attentive=_goes_by_attention(allocator))
    kept = Path(record) if isinstance(record, str) else record
    return engine.simulate(scenario, _profiled(scenario, allocator, seed), accuracies, seed, record=kept)


def lines(scenario: Scenario, model: Model) -> list[str]:
    """Name the allocators and reference lines that a comparison of the scenario runs."""
    # Batch-norm statistics exist in real networks only.
    references = [name for name in scenario.references if model == "onnx" or name != "batch-norm-only"]
    return [*scenario.allocators, *references]


def compare(
    scenario: Scenario,
    models: Sequence[Model],
    seed: int,
    jobs: int | None = None,
    requests: Path | None = None,
    paired: bool = False,
    finished: Collection[tuple[Model, str]] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> Iterator[Result | Failure]:
    """Simulate every line of the scenario under each accuracy model, and yield each result when it is there.

    All lines see the same requests, budgets and images. Results do not depend on the number of jobs. An allocator
    that misbehaves does not keep the others from their results.

    Args:
        scenario: What to simulate.
        models: "curve", "table", "onnx" or several of them.
        seed: Seed of every random draw.
        jobs: Worker processes; as many as there are cores when left out.
        requests: A folder for the times of every request, one Parquet file per line and accuracy model.
        paired: Whether an allocator decides once, under the first of the models, and all others get its allocations:
            then they differ by the accuracy model alone, whatever the allocator makes of what it observes.
        finished: Lines, each as accuracy model and name, that are left out.
        progress: Called with the slots that are done, those of all lines that are not left out, and what takes time
            besides.

    Yields:
        The result of a line, or what its allocator did wrong.
    """
    pairs = [(model, line) for model in models for line in lines(scenario, model)]
    missing = [pair for pair in pairs if pair not in finished]
    # One call of a worker is a line under one model, or, paired, under all of them.
    groups = [[pair] for pair in missing]
    if paired:
        groups = [[pair for pair in pairs if pair[1] == line] for line in dict.fromkeys(line for _, line in missing)]
    sizes, done = [scenario.slots * len(group) for group in groups], set[int]()

    def told(board: Board) -> None:
        assert progress is not None, "nobody else has a board put up"
        # An allocator that misbehaves has no more slots to come.
        slots = [size if n in done else min(board.steps()[n], size) for n, size in enumerate(sizes)]
        doing = [one for n, one in enumerate(board.doings()) if one and n not in done]
        progress(sum(slots), sum(sizes), doing[0] if doing else "")

    if missing and "onnx" in models:
        if progress is not None:
            progress(0, sum(sizes), "exporting models")
        # Exported once here, so that the workers do not export the same models side by side.
        accuracy_models(scenario, "onnx", seed)
    calls = [
        (scenario, models, group[0][1], seed, requests) if paired else (scenario, *group[0], seed, requests)
        for group in groups
    ]
    function = paired_line if paired else _line_alone
    for index, found in in_parallel(function, calls, jobs, progress=None if progress is None else told):
        done.add(index)
        yield from (one for one in found if (one.accuracy_model, one.allocator) not in finished)


def _line_alone(
    scenario: Scenario, model: Model, line: str, seed: int, requests: Path | None
) -> list[Result | Failure]:
    return [attempt_line(scenario, model, line, seed, requests)]


def paired_line(
    scenario: Scenario, models: Sequence[Model], line: str, seed: int, requests: Path | None = None
) -> list[Result | Failure]:
    """Simulate an allocator or reference line under several accuracy models, on the allocations that it makes first.

    Args:
        scenario: What to simulate.
        models: The first is the one that the allocator decides under.
        line: Name of the allocator or reference line.
        seed: Seed of every random draw.
        requests: A folder for the times of every request.

    Returns:
        One result for each model, or what the allocator did wrong.
    """
    if line in REFERENCES:
        found = [model for model in models if line in lines(scenario, model)]
        return [attempt_line(scenario, model, line, seed, requests) for model in found]
    deciding = make_allocator(line)
    recorded = Recorded(_profiled(scenario, deciding, seed))
    results: list[Result | Failure] = []
    for model in models:
        allocator = recorded if not results else Replayed(recorded.name, recorded.taken)
        record = False if requests is None else requests / f"{line}-{model}.parquet"
        try:
            accuracies = accuracy_models(scenario, model, seed, attentive=_goes_by_attention(deciding))
            result = engine.simulate(scenario, allocator, accuracies, seed, record=record)
        except AllocatorError as error:
            return [*results, Failure(line, model, error.renamed(line))]
        results.append(replace(result, allocator=line))
    return results


def attempt_line(
    scenario: Scenario, model: Model, line: str, seed: int, requests: Path | None = None
) -> Result | Failure:
    """Simulate an allocator or reference line by name; return what the allocator did wrong in place of raising it."""
    try:
        return simulate_line(scenario, model, line, seed, requests)
    except AllocatorError as error:
        return Failure(line, model, error)


def simulate_line(
    scenario: Scenario,
    model: Model,
    line: str,
    seed: int,
    requests: Path | None = None,
    shown: Shown | None = None,
) -> Result:
    """Simulate an allocator or reference line by name.

    The result goes by the name asked for, which may be an alias, or that under which another package registers it.

    Args:
        scenario: What to simulate.
        model: Where accuracies come from.
        line: Name of the allocator or reference line.
        seed: Seed of every random draw.
        requests: A folder for the times of every request.
        shown: With real models: what was shown before by other lines of the same scenario and seed.

    Raises:
        AllocatorError: The allocator misbehaves.
    """
    record = False if requests is None else requests / f"{line}-{model}.parquet"
    if line == "teacher-only":
        return _teacher_only(scenario, model, seed, record, shown)
    if line == "batch-norm-only":
        accuracies = accuracy_models(scenario, model, seed, update="statistics", shown=shown)
        result = engine.simulate(scenario, make_allocator("orric"), accuracies, seed, record=record)
        return replace(
            result, allocator=line, columns={**result.columns, "retraining_macs": _refreshing(scenario, result)}
        )
    try:
        allocator = _profiled(scenario, make_allocator(line), seed)
        accuracies = accuracy_models(scenario, model, seed, shown=shown, attentive=_goes_by_attention(allocator))
        result = engine.simulate(scenario, allocator, accuracies, seed, record=record)
    except AllocatorError as error:
        raise error.renamed(line) from error
    return replace(result, allocator=line)


def _profiled(scenario: Scenario, allocator: Allocator, seed: int) -> Allocator:
    """Hand an allocator that tries configurations out the curves that its trials would measure.

    Where a profile has no curve for the drift, which real models need none for, it goes without.
    """
    if isinstance(allocator, Trigger):
        wrapped = copy.copy(allocator)
        wrapped.inner = _profiled(scenario, allocator.inner, seed)
        return wrapped
    if not isinstance(allocator, MicroProfiled):
        return allocator
    curves = []
    for k, (stream, profile) in enumerate(zip(scenario.stream, scenario.profiles, strict=True)):
        drift = stream.drift.by_slot(scenario.slots, seed, k)
        try:
            curves.append(profile.curves_for(drift.corruptions, drift.severities.tolist()))
        except ProfileError:
            return allocator
    return allocator.profiled_by(curves)


def accuracy_models(
    scenario: Scenario,
    model: Model,
    seed: int,
    update: Literal["weights", "statistics"] = "weights",
    teachers: Sequence[Profile] | None = None,
    shown: Shown | None = None,
    attentive: bool = False,
) -> list[AccuracyModel]:
    """Make the accuracy model of every stream's student, or of the teachers, where their figures are given.

    Where somebody goes by it, real models are watched for where they look.
    """
    found: list[AccuracyModel] = []
    for k, (stream, profile) in enumerate(zip(scenario.stream, scenario.profiles, strict=True)):
        drift = stream.drift.by_slot(scenario.slots, seed, k)
        if model != "onnx":
            read = CurveAccuracy if model == "curve" else TableAccuracy
            own = teachers[k] if teachers is not None else profile
            found.append(read(own, drift.corruptions, drift.severities.tolist(), seed, k, drift.label_mix))
            continue
        from orric.retraining.accuracy import OnnxAccuracy, TeacherAccuracy

        watch = None
        if attentive:
            from orric.explanation.attention import Attention

            watch = Attention(profile)
        kind = OnnxAccuracy if teachers is None else TeacherAccuracy
        found.append(kind(profile, drift, seed, update, k, shown, watch, stream.arrivals == "upload"))
    return found


def _goes_by_attention(allocator: Allocator) -> bool:
    """Say whether an allocator, or one inside it, goes by where students look."""
    return isinstance(allocator, Trigger) and (allocator.signal == "attention" or _goes_by_attention(allocator.inner))


def _teacher_only(
    scenario: Scenario, model: Model, seed: int, record: bool | Path, shown: Shown | None = None
) -> Result:
    """Serve by the teachers on whole GPUs, whatever the budgets: a line to compare with, not an allocator."""
    placement, stand_ins = scenario.placement(), [_teacher_of(profile) for profile in scenario.profiles]
    gpus, faults = [], schedule(scenario, seed)
    for gpu in scenario.gpu:
        there = [k for k, name in enumerate(placement) if name == gpu.name]
        needs = [_arriving(scenario, faults, k, seed) * _work_macs(stand_ins[k]) for k in there]
        most = float(sum(needs, np.zeros(1)).max()) / scenario.slot_s
        whole = {"macs_per_s": max(gpu.macs_per_s, most * (1 + 1e-9)), "budget": WHOLE}
        # What a GPU that large would draw is unknown.
        power = gpu.power if whole["macs_per_s"] == gpu.macs_per_s else None
        gpus.append(gpu.model_copy(update={**whole, "power": power}))
    streams = [
        one.model_copy(update={"gpu": name, "headroom": 0.0})
        for one, name in zip(scenario.stream, placement, strict=True)
    ]
    unrestricted = scenario.model_copy(update={"gpu": tuple(gpus), "stream": tuple(streams), "spare": "inference"})
    accuracies = accuracy_models(scenario, model, seed, teachers=stand_ins, shown=shown)
    result = engine.simulate(
        unrestricted, make_allocator("inference-only"), accuracies, seed, profiles=stand_ins, record=record
    )
    # Its use is told against the budget that it ignores.
    budgets = {gpu.name: scenario.budgets_macs(seed, n) for n, gpu in enumerate(scenario.gpu)}
    told = zip(result.columns["slot"].tolist(), result.columns["gpu"].tolist(), strict=True)
    columns = {**result.columns, "budget_macs": np.array([budgets[name][slot - 1] for slot, name in told])}
    told = zip(result.gpu_columns["slot"].tolist(), result.gpu_columns["gpu"].tolist(), strict=True)
    gpu_columns = {**result.gpu_columns, "budget_macs": np.array([budgets[name][slot - 1] for slot, name in told])}
    return replace(result, allocator="teacher-only", columns=columns, gpu_columns=gpu_columns)


def _arriving(scenario: Scenario, faults: dict[int, list[Fault]], stream: int, seed: int) -> Array:
    """Return how many requests of a stream arrive in each slot, or at most for a closed loop."""
    spec = scenario.stream[stream]
    if spec.arrivals == "closed":
        return scenario.requests(seed, stream)
    factors, late_s = bursts(scenario, faults, spec.name), skews_s(scenario, faults, spec.name)
    return Arrivals(scenario, stream, seed, factors, late_s).arrived


def _work_macs(profile: Profile) -> float:
    """Return what a request of a teacher takes of a GPU: its MACs, or more where its latency says so."""
    serving = profile.inference[0]
    if serving.latency_s is None or profile.device is None:
        return serving.cost_macs
    return max(serving.cost_macs, serving.latency_s * profile.device.macs_per_s)


def _teacher_of(profile: Profile) -> Profile:
    """Return the profile of a teacher that serves in its student's place."""
    teacher = profile.teacher
    if teacher is None:
        raise ScenarioError("references", f"profile {profile.name!r} has no [teacher]", 'remove "teacher-only"')
    serving = InferenceConfiguration(
        name="teacher", profit=1.0, cost_macs=teacher.cost_macs, latency_s=teacher.latency_s
    )
    flat = [
        entry.model_copy(update={"curve": _flat(entry.teacher_accuracy or teacher.accuracy)})
        for entry in profile.drift_curve
    ]
    measured = {(entry.corruption, entry.severity) for entry in profile.table}
    accuracies = {(entry.corruption, entry.severity): float(entry.curve(0.0)) for entry in flat}
    return Profile(
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


def _refreshing(scenario: Scenario, result: Result) -> Array:
    """Return the MACs of refreshing statistics alone: one pass of the student over the samples, and no label."""
    forward, ratios = {}, {}
    for stream, profile in zip(scenario.stream, scenario.profiles, strict=True):
        models = profile.models
        assert models is not None
        most = max(models.resolution_px.values())
        forward[stream.name] = next(
            one.cost_macs for one in profile.inference if models.resolution_px[one.name] == most
        )
        ratios[stream.name] = models.sampling_ratio
    names = zip(result.columns["stream"].tolist(), result.columns["retraining"].tolist(), strict=True)
    parts = np.array([ratios[stream][name] * forward[stream] for stream, name in names])
    macs: Array = result.columns["requests"] * parts
    return macs


def _flat(accuracy: float) -> Tabulated:
    return Tabulated(x=(0.0, 1.0), y=(accuracy, accuracy))


def check_references(scenario: Scenario, references: Sequence[str]) -> None:
    """Refuse reference lines that a scenario cannot draw.

    Raises:
        ScenarioError: The teacher's figures are unknown, or batch-norm statistics are to be refreshed without models.
    """
    model = scenario.accuracy.model
    for line in references:
        if line == "batch-norm-only" and model != "onnx":
            raise ScenarioError("allocators", f"{line!r} needs the real models", 'set accuracy.model = "onnx"')
        if line == "teacher-only" and model != "onnx":
            for profile in scenario.profiles:
                _teacher_of(profile)


def data_hashes(scenario: Scenario) -> list[str]:
    """Return the hash of every stream's data set, whose images real models see.

    Raises:
        OrricError: Its files are not there.
    """
    from orric.vision.datasets import load_dataset

    found = {}
    for profile in scenario.profiles:
        if profile.models is not None:
            found[profile.models.dataset, profile.data] = load_dataset(profile.models.dataset, profile.data).fingerprint
    return list(found.values())

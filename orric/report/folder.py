"""Write a run's result folder."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tomli_w

from orric.drift import AnyDrift
from orric.exceptions import extra
from orric.records import Result
from orric.report.conclusion import conclusion
from orric.report.page import page
from orric.report.plots import figures
from orric.report.prediction import errors_in_words, failures_in_words, prediction_error, prediction_errors
from orric.report.server import server_figures
from orric.report.stored import save_results
from orric.scenario import Scenario, Stream

MARK = "summary.json"


def demand_packages() -> None:
    """Refuse to begin work whose results could not be written.

    Raises:
        MissingExtraError: `orric[sim]` is not installed.
    """
    with extra("sim"):
        import matplotlib  # noqa: F401
        import pandas  # noqa: F401
        import pyarrow  # noqa: F401


def write_results(
    folder: Path,
    target: Path,
    scenario: Scenario,
    results: Sequence[Result],
    seed: int,
    command: str,
    failed: Mapping[str, str],
    paired: bool = False,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the results (`orric.report.stored`), summary.json, scenario.toml, the figures and report.html.

    Args:
        folder: Where to write, from `orric.folders.result_folder`.
        target: Where the folder will lie at the end; paths in the scenario are relative to it.
        scenario: What was simulated.
        results: One per line and accuracy model.
        seed: The seed of the run.
        command: The command that made them.
        failed: What each allocator did that has no result, by name.
        paired: Whether all accuracy models had the same allocations, so that they differ by the prediction's error.
        warnings: What the scenario was warned of.

    Returns:
        What summary.json holds.
    """
    save_results(folder, results)
    resolved = scenario.resolved(target, seed, scenario.accuracy.model)
    (folder / "scenario.toml").write_text(tomli_w.dumps(resolved), encoding="utf-8")
    # The comparison is of the server as a whole.
    pooled = [result.pooled() for result in results]
    sentences, errors = conclusion(pooled, untried(scenario)), prediction_errors(results) if paired else []
    if errors:
        sentences += [errors_in_words(errors), *failures_in_words(errors)]
    summary = {
        "scenario": scenario.name,
        "seed": seed,
        "command": command,
        "profile": scenario.profile.name,
        "versions": versions(),
        "conclusion": sentences,
        "failed": dict(failed),
        "warnings": list(warnings),
        **({"prediction_errors": [asdict(error) for error in errors]} if errors else {}),
        "results": [{**result.summary(), "decisions_per_s": round(decisions_per_s(result))} for result in results],
    }
    (folder / MARK).write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    drawn = {**figures(pooled), **server_figures(results)}
    if errors:
        drawn["prediction_error"] = prediction_error(errors)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=150)
    description = {
        "command": command,
        "seed": seed,
        "slots": scenario.slots,
        "slot length": f"{scenario.slot_s:g} s",
        "profile": ", ".join(dict.fromkeys(profile.name for profile in scenario.profiles)),
        "streams": ", ".join(f"{s.name} on {g}" for s, g in zip(scenario.stream, scenario.placement(), strict=True)),
        "speed": ", ".join(f"{gpu.name} {gpu.macs_per_s:.4g} MACs/s ({gpu.sharing.model})" for gpu in scenario.gpu),
        "spare": scenario.spare,
        "deadline": _by_stream(scenario, lambda one: "none" if one.deadline_s is None else f"{one.deadline_s:g} s"),
        "drift": _by_stream(scenario, lambda one: _drift_in_words(one.drift)),
        **{f"version of {name}": value for name, value in versions().items()},
        "decisions_per_s": {(result.accuracy_model, result.allocator): decisions_per_s(result) for result in results},
    }
    # Runs of one scenario are told apart by where they lie.
    place = target.resolve().name
    title = scenario.name if place == scenario.name else f"{scenario.name} ({place})"
    report = page(
        title, results, description, failed, sentences, warnings=warnings, errors=errors,
        deadlines_s={one.name: one.deadline_s for one in scenario.stream if one.deadline_s is not None},
        capacities_macs={one.name: one.macs_per_s * scenario.slot_s for one in scenario.gpu},
        slot_s=scenario.slot_s, files=[f"{name}.png" for name in drawn],
    )  # fmt: skip
    (folder / "report.html").write_text(report, encoding="utf-8")
    return summary


def _by_stream(scenario: Scenario, say: Callable[[Stream], str]) -> str:
    """Say something of all streams, those that are alike together."""
    groups: dict[str, list[str]] = {}
    for stream in scenario.stream:
        groups.setdefault(say(stream), []).append(stream.name)
    if len(groups) == 1:
        return next(iter(groups))
    listed = {said: names if len(names) <= 4 else [f"{len(names)} streams"] for said, names in groups.items()}
    return "; ".join(f"{', '.join(names)}: {said}" for said, names in listed.items())


def _drift_in_words(drift: AnyDrift) -> str:
    names = drift.corruptions or (drift.corruption or "none",)
    if set(names) == {"none"}:
        return "none"
    table = drift.model_dump(exclude_none=True, exclude={"kind", "corruption", "corruptions", "labels"})
    parts = [f"{key} {', '.join(map(str, one)) if isinstance(one, tuple) else one}" for key, one in table.items()]
    return "; ".join([f"{drift.kind} of {', '.join(names)}", *parts])


def untried(scenario: Scenario) -> list[str]:
    """Return what a scenario leaves to be set, of what lets budget serve that is left over (keys of `REMEDIES`)."""
    given = {"spare": scenario.spare == "inference", "sharing": all(gpu.shared for gpu in scenario.gpu)}
    left = [key for key, given_one in given.items() if not given_one]
    # Where whoever waits may use the whole GPU, to plan for more leaves less to retraining and nothing more to serving.
    return [*left, "headroom"] if left and not all(one.headroom for one in scenario.stream) else left


def decisions_per_s(result: Result) -> float:
    """Return how many slots per second the allocator decided, as timed during the run."""
    return len(result.columns["slot"]) / len(result.streams) / max(result.seconds_deciding, 1e-9)


def versions() -> dict[str, str]:
    """Return the versions of orric, Python and the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in ("orric", "numpy", "scipy", "simpy", "torch", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

"""Write a run's result folder: whole, or not at all."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tomli_w

from orric.exceptions import ScenarioError, extra
from orric.records import Result
from orric.report.conclusion import conclusion
from orric.report.page import page
from orric.report.plots import figures
from orric.report.prediction import errors_in_words, prediction_error, prediction_errors
from orric.report.server import server_figures
from orric.scenario import Scenario

MARK = "summary.json"


@contextmanager
def result_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside the target, and rename it to the target when the block succeeds.

    Entered before any work is done, so that a target that cannot be written is found at once. An earlier
    result folder at the target is replaced; anything else that lies there is left alone.

    Args:
        target: The result folder to be.

    Raises:
        ScenarioError: The target cannot be written, or holds something that is not an earlier result.
    """
    with extra("sim"):  # told before the work, not after it
        import matplotlib  # noqa: F401
        import pandas  # noqa: F401
        import pyarrow  # noqa: F401
    if target.exists() and not (target / MARK).is_file() and (target.is_file() or any(target.iterdir())):
        raise ScenarioError(
            f"result folder {target}", "exists and holds something else", "choose another with --output"
        )
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise ScenarioError(
            f"result folder {target}", f"cannot be written ({error.strerror})", "choose another with --output"
        ) from None
    try:
        yield partial
        partial.chmod(0o755)
        if target.exists():
            old = partial.with_suffix(".replaced")
            target.rename(old)
            partial.rename(target)
            shutil.rmtree(old)
        else:
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # empty only if the block failed
            for parent in made:
                parent.rmdir()


def write_results(
    folder: Path,
    target: Path,
    scenario: Scenario,
    results: Sequence[Result],
    seed: int,
    command: str,
    failed: Mapping[str, str],
    paired: bool = False,
) -> dict[str, Any]:
    """Write result.parquet, gpus.parquet, events.jsonl, summary.json, scenario.toml, the figures and report.html.

    Args:
        folder: Where to write, from `result_folder`.
        target: Where the folder will lie at the end; paths in the scenario are relative to it.
        scenario: What was simulated.
        results: One per line and accuracy model.
        seed: The seed of the run.
        command: The command that made them.
        failed: What each allocator did that has no result, by name.
        paired: Whether all accuracy models had the same allocations, so that they differ by the prediction's error.

    Returns:
        What summary.json holds.
    """
    import pandas

    frame = pandas.concat([result.to_frame() for result in results], ignore_index=True)
    frame.to_parquet(folder / "result.parquet", index=False)
    resolved = scenario.resolved(target, seed, scenario.accuracy.model)
    (folder / "scenario.toml").write_text(tomli_w.dumps(resolved), encoding="utf-8")
    # The comparison is of the server as a whole.
    pooled = [result.pooled() for result in results]
    sentences, errors = conclusion(pooled), prediction_errors(results) if paired else []
    if errors:
        sentences.append(errors_in_words(errors))
    summary = {
        "scenario": scenario.name,
        "seed": seed,
        "command": command,
        "profile": scenario.profile.name,
        "versions": versions(),
        "conclusion": sentences,
        "failed": dict(failed),
        **({"prediction_errors": [asdict(error) for error in errors]} if errors else {}),
        "results": [{**result.summary(), "decisions_per_s": round(decisions_per_s(result))} for result in results],
    }
    (folder / MARK).write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    drawn = {**figures(pooled), **server_figures(results)}
    if errors:
        drawn["prediction_error"] = prediction_error(errors)
    if any(result.gpu_columns for result in results):
        gpus = [pandas.DataFrame({"allocator": r.allocator, **r.gpu_columns}) for r in results if r.gpu_columns]
        pandas.concat(gpus, ignore_index=True).to_parquet(folder / "gpus.parquet", index=False)
    events = [
        {"allocator": result.allocator, "accuracy_model": result.accuracy_model, **vars(event)}
        for result in results
        for event in result.events
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=150)
    description = {
        "command": command,
        "seed": seed,
        "slots": scenario.slots,
        "slot length": f"{scenario.slot_s:g} s",
        "profile": ", ".join(dict.fromkeys(profile.name for profile in scenario.profiles)),
        "streams": ", ".join(f"{s.name} on {g}" for s, g in zip(scenario.stream, scenario.placement(), strict=True)),
        **{f"version of {name}": value for name, value in versions().items()},
        "decisions_per_s": {(result.accuracy_model, result.allocator): decisions_per_s(result) for result in results},
    }
    report = page(scenario.name, pooled, drawn, description, failed, sentences)
    (folder / "report.html").write_text(report, encoding="utf-8")
    return summary


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

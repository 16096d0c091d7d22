"""Small result folders, written without their figures."""

from __future__ import annotations

import json
from pathlib import Path

import tomli_w

import orric
from orric.report.conclusion import conclusion
from orric.report.stored import save_results


def write_run(folder: Path, scenario: orric.Scenario, seed: int = 1) -> Path:
    """Simulate a scenario and write what reports are told from."""
    folder.mkdir(parents=True)
    results = [orric.simulate(scenario, orric.make_allocator(name), seed=seed) for name in scenario.allocators]
    save_results(folder, results)
    (folder / "scenario.toml").write_text(tomli_w.dumps(scenario.resolved(folder, seed, "curve")))
    summary = {
        "scenario": scenario.name, "seed": seed, "command": "orric run FILE", "versions": {"numpy": "2"},
        "conclusion": conclusion([result.pooled() for result in results]),
        "results": [result.summary() for result in results],
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder

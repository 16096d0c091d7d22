"""Small result folders, written without their figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import tomli_w

import orric
from orric.report.conclusion import conclusion

from ..builders import build_profile, build_scenario, write_profile


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., orric.Scenario]:
    """Return a function that builds a scenario whose requests are drawn and come one by one, with a deadline."""
    profile = write_profile(build_profile(), tmp_path_factory.mktemp("profile") / "small.toml")

    def build(**changes: Any) -> orric.Scenario:
        drawn = {"requests": {"kind": "uniform", "low": 400, "high": 600}, "arrivals": "poisson", "deadline_s": 0.2}
        return build_scenario(profile, **{**drawn, "allocators": ("orric", "inference-only"), **changes})

    return build


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """Return a function that simulates a scenario and writes what a report is told from, for the allocators named."""

    def write(folder: Path, scenario: orric.Scenario, seed: int = 1) -> Path:
        folder.mkdir(parents=True)
        results = [orric.simulate(scenario, orric.make_allocator(name), seed=seed) for name in scenario.allocators]
        frames = [result.to_frame() for result in results]
        pandas.concat(frames, ignore_index=True).to_parquet(folder / "result.parquet", index=False)
        (folder / "scenario.toml").write_text(tomli_w.dumps(scenario.resolved(folder, seed, "curve")))
        summary = {
            "scenario": scenario.name, "seed": seed, "command": "orric run FILE", "versions": {"numpy": "2"},
            "conclusion": conclusion([result.pooled() for result in results]),
            "results": [result.summary() for result in results],
        }  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    return write

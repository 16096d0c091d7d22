"""Golden results: every scenario's outcome by the learning curve, held to the figures in tests/golden/*.json.

A golden result that changes is a decision: update with ORRIC_UPDATE_GOLDEN=1 and say why in the changelog.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

import orric
from orric.comparison import lines, simulate_line

HERE = Path(__file__).resolve().parent
SCENARIOS = sorted((HERE.parents[1] / "simulations").glob("*.toml"))


def outcome(scenario: orric.Scenario, line: str) -> dict[str, object]:
    result = simulate_line(scenario, "curve", line, scenario.seed)
    chosen = json.dumps([(step["retraining"], step["inference"]) for step in result.allocations])
    figures = (
        "mean_accuracy",
        "in_time_accuracy",
        "last_severity_accuracy",
        "latency_p50_s",
        "latency_p99_s",
        "late",
        "shed",
        "waiting",
        "budget_used",
    )
    summary = result.summary()
    # Nine digits: the last ones may differ between processors.
    return {
        "allocations_sha256": hashlib.sha256(chosen.encode()).hexdigest(),
        **{name: float(f"{summary[name]:.9g}") for name in figures},
    }


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_gives_its_golden_result(path):
    scenario = orric.load_scenario(path)
    found = {line: outcome(scenario, line) for line in lines(scenario, "curve")}
    golden = HERE / f"{path.stem}.json"
    if os.environ.get("ORRIC_UPDATE_GOLDEN"):
        golden.write_text(json.dumps(found, indent=2) + "\n")
    expected = json.loads(golden.read_text())
    assert found.keys() == expected.keys()
    for line, figures in found.items():
        hashed = figures.pop("allocations_sha256")
        assert hashed == expected[line].pop("allocations_sha256"), f"{line} allocates otherwise"
        assert figures == pytest.approx(expected[line], rel=1e-6)

"""Small sweeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from orric.sweep import Sweep

from ..builders import build_profile, write_profile

pytest.importorskip("pyarrow", reason="needs orric[sim]")

SCENARIO = """
format = 1
name = "small"
slots = 12
slot_s = 10.0
allocators = ["orric", "inference-only"]
[[gpu]]
name = "gpu0"
macs_per_s = 2.0e9
budget = { kind = "uniform", low = 0.2, high = 1.0 }
[[stream]]
name = "camera-1"
profile = "small.toml"
requests = { kind = "uniform", low = 500, high = 1500 }
drift = { kind = "steps", corruption = "none", severities = [0] }
"""
AXES = [
    {"key": "gpu.1.budget.high", "name": "budget", "values": [0.5, 1.0]},
    {"key": "slots", "name": "horizon", "values": [6, 12]},
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a sweep beside a small scenario."""
    write_profile(build_profile(), tmp_path / "small.toml")
    (tmp_path / "scenario.toml").write_text(SCENARIO)

    def written(**changes: Any) -> Path:
        table = {
            "format": 1, "name": "small", "scenario": "scenario.toml", "engine": "slot-model", "seeds": 3, "axis": AXES,
            **changes,
        }  # fmt: skip
        path = tmp_path / "sweep.toml"
        path.write_text(tomli_w.dumps({name: value for name, value in table.items() if value is not None}))
        return path

    return written


@pytest.fixture
def sweep(write: Callable[..., Path]) -> Sweep:
    """Return a sweep of four points, two allocators and three seeds."""
    return Sweep.load(write())

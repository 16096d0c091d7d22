"""What the tests of reports share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import orric

from ..builders import build_profile, build_scenario, write_profile


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., orric.Scenario]:
    """Return a function that builds a scenario whose requests are drawn and come one by one, with a deadline."""
    profile = write_profile(build_profile(), tmp_path_factory.mktemp("profile") / "small.toml")

    def build(**changes: Any) -> orric.Scenario:
        drawn = {"requests": {"kind": "uniform", "low": 400, "high": 600}, "arrivals": "poisson", "deadline_s": 0.2}
        return build_scenario(profile, **{**drawn, "allocators": ("orric", "inference-only"), **changes})

    return build

"""What all tests share: reproducible hypothesis runs, and the profile that small scenarios are built on."""

from __future__ import annotations

import os
from pathlib import Path

# One thread for each test process, before any library asks: several processes with several threads each wait for one
# another in loops, which makes small networks ten times as slow.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from .builders import build_profile, write_profile

# The same examples on every run, so that a red test stays red and a green one green.
settings.register_profile("fixed", deadline=None, derandomize=True, database=None)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def profile_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the small profile, without latencies, so that a request takes what it costs."""
    return write_profile(build_profile(), tmp_path_factory.mktemp("profile") / "small.toml")
